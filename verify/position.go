package verify

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A place is where a log stands, on the source, or how far the target has come.
// It has the words of a dfs.Position that package cdc makes:
//
//	gtid 3e11fa47-71ca-11e1-9e33-c80aa9429562 3e11fa47-…:1-5 binlog.000002:1507
//
// the kind, the server, what has been read, and the place in the server's files.
// Other words, each with a name and a colon, may stand before the third.
type place struct {
	kind   string // "gtid", "mariadb" or "file"
	server string
	gtids  string
	file   string
	offset uint64

	owned   bool // on the source: some of gtids may not be committed yet
	copying bool // the rows that were there at the start have not all been copied
}

func (p place) String() string {
	switch p.kind {
	case "file":
		return fmt.Sprintf("%s:%d", p.file, p.offset)
	}
	return p.gtids
}

// parsePlace reads a dfs.Position of package cdc.
func parsePlace(pos string) (place, error) {
	words := strings.Split(pos, " ")
	if len(words) < 4 {
		return place{}, fmt.Errorf("the checkpoint's position %q is not one of package cdc: set Passed or Settle", pos)
	}
	p := place{kind: words[0], server: words[1]}
	words = words[2:]
	for len(words) > 2 {
		name, _, named := strings.Cut(words[0], ":")
		if !named || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz") != "" {
			break
		}
		p.copying = p.copying || name != "xa"
		words = words[1:]
	}
	p.gtids = words[0]
	if p.gtids == "-" {
		p.gtids = ""
	}
	rest := strings.Join(words[1:], " ")
	i := strings.LastIndexByte(rest, ':')
	n, err := strconv.ParseUint(rest[i+1:], 10, 64)
	if i < 0 || err != nil {
		return place{}, fmt.Errorf("the checkpoint's position %q is not one of package cdc: set Passed or Settle", pos)
	}
	p.file, p.offset = rest[:i], n
	switch p.kind {
	case "gtid", "mariadb", "file":
		return p, nil
	}
	return place{}, fmt.Errorf("the checkpoint's position %q is of the kind %q, which is not known here: set Passed or Settle", pos, p.kind)
}

// errStands means that the target has not come to a place in time.
var errStands = errors.New("the pipeline has not passed what the source had")

// place returns where the source's log stands.
//
// Invariant: every transaction that has been committed, and so may have been
// seen, before the call is before the place. MySQL and MariaDB write a transaction
// to the log before their engine commits it, but MySQL adds its GTID to
// gtid_executed only afterwards; until then it is in gtid_owned, which is read
// first, so that none can slip from the one to the other between two looks.
func (r *run) place(ctx context.Context) (place, error) {
	s := r.source
	fail := func(err error) (place, error) {
		return place{}, fmt.Errorf("ask the source where its log is: %w: GRANT REPLICATION CLIENT ON *.* TO the account (BINLOG MONITOR on MariaDB)", err)
	}
	switch {
	case s.maria:
		rows, err := query(ctx, s.db, "SELECT @@global.gtid_binlog_pos")
		if err != nil {
			return fail(err)
		}
		return place{kind: "mariadb", server: s.uuid, gtids: rows[0][0].text}, nil
	case s.gtid:
		owned, err := query(ctx, s.db, "SELECT @@global.gtid_owned")
		if err != nil {
			return fail(err)
		}
		done, err := query(ctx, s.db, "SELECT @@global.gtid_executed")
		if err != nil {
			return fail(err)
		}
		set := strings.Join(strings.Fields(done[0][0].text), "")
		for _, g := range ownedGTIDs(owned[0][0].text) {
			set = strings.TrimPrefix(set+","+g, ",")
		}
		return place{kind: "gtid", server: s.uuid, gtids: set, owned: owned[0][0].text != ""}, nil
	}
	stmt := "SHOW MASTER STATUS"
	if s.version >= 80400 {
		stmt = "SHOW BINARY LOG STATUS"
	}
	rows, err := query(ctx, s.db, stmt)
	if err != nil {
		return fail(err)
	}
	if len(rows) == 0 {
		return place{}, errors.New("the source keeps no binary log, so it has no pipeline: set Settle")
	}
	n, err := strconv.ParseUint(rows[0][1].text, 10, 64)
	return place{kind: "file", server: s.uuid, file: rows[0][0].text, offset: n}, err
}

// ownedGTIDs reads @@gtid_owned: "uuid:5#1234:6#1235, uuid:tag:7#1236", where a
// thread's number follows each #.
func ownedGTIDs(text string) (list []string) {
	for member := range strings.SplitSeq(strings.Join(strings.Fields(text), ""), ",") {
		parts := strings.Split(member, ":")
		prefix := parts[0]
		for _, part := range parts[1:] {
			n, _, owned := strings.Cut(part, "#")
			switch {
			case !owned:
				prefix = parts[0] + ":" + part // a tag
			case n != "":
				list = append(list, prefix+":"+n)
			}
		}
	}
	return list
}

// checkpoint returns how far the target has come.
func (r *run) checkpoint(ctx context.Context) (place, error) {
	name, schema := r.pipeline()
	if r.TargetRows != nil {
		at, err := r.TargetRows.Checkpoint(ctx)
		if err != nil {
			return place{}, fmt.Errorf("read the checkpoint on the target: %w", err)
		}
		if at.Pos == "" {
			return place{}, errors.New("the target has no checkpoint of this pipeline: let TargetRows be opened with the pipeline's Name and Schema, start the pipeline, or set Settle if there is none")
		}
		return parsePlace(string(at.Pos))
	}
	rows, err := query(ctx, r.target.db, "SELECT pos FROM "+ident(schema)+".dfs_checkpoint WHERE name="+quote(name))
	if n := serverError(err); n == erNoSuchTable || n == erBadDB || err == nil && len(rows) == 0 {
		return place{}, fmt.Errorf("the target has no checkpoint of a pipeline %q in %s.dfs_checkpoint: set Name and Schema to those of the pipeline, or Settle if there is none", name, schema)
	}
	if err != nil {
		return place{}, fmt.Errorf("read the checkpoint on the target: %w: GRANT SELECT ON %s.dfs_checkpoint TO the account", err, ident(schema))
	}
	if rows[0][0].text == "" {
		return place{}, fmt.Errorf("the pipeline %q has not begun: start it, or set Settle", name)
	}
	return parsePlace(rows[0][0].text)
}

// pipeline returns the key of the checkpoint and its schema.
func (c *checked) pipeline() (name, schema string) {
	name, schema = c.Name, c.Schema
	if name == "" {
		name = "dfs"
	}
	if schema == "" {
		schema = "dfs"
	}
	return name, schema
}

// passed reports whether a target that has come to at has all that is before p.
func (r *run) passed(ctx context.Context, p, at place) (bool, error) {
	switch {
	case p.kind != at.kind:
		return false, fmt.Errorf("the checkpoint is by %s and the source goes by %s: they are not source and target of one pipeline, or gtid_mode was changed", at.kind, p.kind)
	case p.kind == "gtid":
		rows, err := query(ctx, r.source.db, "SELECT GTID_SUBSET("+quote(p.gtids)+","+quote(at.gtids)+")")
		if err != nil {
			return false, err
		}
		return rows[0][0].text == "1", nil
	case p.kind == "mariadb":
		return domainsPassed(p.gtids, at.gtids)
	case p.server != at.server:
		return false, fmt.Errorf("the checkpoint is a place in the files of server %s, and the source is %s: compare with the server that the pipeline reads", at.server, p.server)
	}
	return filePassed(p, at), nil
}

// filePassed compares places in files, whose names end in a number.
func filePassed(p, at place) bool {
	number := func(file string) uint64 {
		n, _ := strconv.ParseUint(file[strings.LastIndexByte(file, '.')+1:], 10, 64)
		return n
	}
	a, b := number(p.file), number(at.file)
	return b > a || b == a && at.offset >= p.offset
}

// domainsPassed reports whether MariaDB's position at, "0-1-25,1-1-3", is in no
// domain behind p.
func domainsPassed(p, at string) (bool, error) {
	last := make(map[string]uint64)
	for i, list := range [2]string{at, p} {
		for gtid := range strings.SplitSeq(list, ",") {
			if gtid == "" {
				continue
			}
			f := strings.Split(gtid, "-")
			if len(f) != 3 {
				return false, fmt.Errorf("%q is no GTID of MariaDB", gtid)
			}
			n, err := strconv.ParseUint(f[2], 10, 64)
			if err != nil {
				return false, fmt.Errorf("%q is no GTID of MariaDB", gtid)
			}
			if i == 0 {
				last[f[0]] = n
			} else if n > last[f[0]] {
				return false, nil
			}
		}
	}
	return true, nil
}

// pass waits until the target has all that the source had committed when pass
// was called, and returns how far it has come. It waits no longer than most, after
// which the error is errStands.
func (r *run) pass(ctx context.Context, most time.Duration) (string, error) {
	limited, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	late := func(err error) error {
		if ctx.Err() == nil && limited.Err() != nil {
			return errStands
		}
		return err
	}
	switch {
	case r.Passed != nil:
		return "", late(r.Passed(limited))
	case r.Settle > 0:
		if !wait(ctx, r.Settle) {
			return "", ctx.Err()
		}
		return "", nil
	}
	p, err := r.place(limited)
	if err != nil {
		return "", late(err)
	}
	for pause := time.Millisecond; ; pause = min(pause*2, 50*time.Millisecond) {
		at, err := r.checkpoint(limited)
		if err != nil {
			return "", late(err)
		}
		if at.copying {
			return "", errors.New("the pipeline still copies the rows that were there at its start: verify when it is done")
		}
		ok, err := r.passed(limited, p, at)
		if err != nil {
			return "", late(err)
		}
		if ok {
			return at.String(), nil
		}
		if !wait(limited, pause) {
			return "", late(ctx.Err())
		}
	}
}

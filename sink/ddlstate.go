package sink

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs/internal/ddl"
)

// A footprint tells one state of a table from another: whether there is one, of
// what definition, and which of those that look alike. From the footprints
// before a statement and those now follows whether it was run.
type footprint struct {
	Schema string `json:"schema"`
	Name   string `json:"name,omitempty"` // empty: the schema itself
	Exists bool   `json:"exists,omitempty"`
	SQL    string `json:"sql,omitempty"` // a hash of SHOW CREATE

	// IDs are InnoDB's numbers of the table and its partitions, which each new
	// table gets and which a rename keeps. They can be read with the privilege
	// PROCESS. Else it is the time of creation, which ALTER may move.
	IDs  string `json:"ids,omitempty"`
	Sure bool   `json:"sure,omitempty"` // IDs are numbers
}

func (f *footprint) is(t ddl.Table) bool { return f.Schema == t.Schema && f.Name == t.Name }

// footprints reads the state of the tables, each once.
func (s *session) footprints(ctx context.Context, tables []ddl.Table) ([]footprint, error) {
	var list []footprint
	for _, t := range tables {
		if slices.ContainsFunc(list, func(f footprint) bool { return f.is(t) }) {
			continue
		}
		f := footprint{Schema: t.Schema, Name: t.Name}
		if err := s.look(ctx, &f); err != nil {
			return nil, fmt.Errorf("reading the state of %s.%s on the target: %w", t.Schema, t.Name, err)
		}
		list = append(list, f)
	}
	return list, nil
}

func (s *session) look(ctx context.Context, f *footprint) error {
	sql := "SHOW CREATE DATABASE " + string(appendIdent(nil, f.Schema))
	if f.Name != "" {
		sql = "SHOW CREATE TABLE " + string(appendIdent(append(appendIdent(nil, f.Schema), '.'), f.Name))
	}
	rows, err := s.query(ctx, sql)
	switch serverError(err) {
	case erNoSuchTable, erBadDB:
		return nil
	}
	if err != nil {
		return err
	}
	f.Exists = true
	sum := sha256.Sum256([]byte(withoutCounter(rows[0][1].text)))
	f.SQL = hex.EncodeToString(sum[:])
	if f.Name == "" {
		return nil
	}
	if f.IDs, err = s.innodbIDs(ctx, f.Schema, f.Name); err != nil || f.IDs != "" {
		f.Sure = err == nil
		return err
	}
	b := appendQuoted([]byte("SELECT CREATE_TIME FROM information_schema.TABLES WHERE TABLE_SCHEMA="), f.Schema)
	rows, err = s.query(ctx, string(appendQuoted(append(b, " AND TABLE_NAME="...), f.Name)))
	if err == nil && len(rows) > 0 {
		f.IDs = rows[0][0].text
	}
	return err
}

// innodbIDs returns InnoDB's numbers of a table and its partitions. It returns
// nothing if they cannot be read, or the table is of another engine.
func (s *session) innodbIDs(ctx context.Context, schema, name string) (string, error) {
	file, ok := fileName(schema)
	file2, ok2 := fileName(name)
	if !ok || !ok2 {
		return "", nil
	}
	file += "/" + file2
	if s.srv.lowerNames {
		file = strings.ToLower(file)
	}
	view := "INNODB_SYS_TABLES"
	if !s.srv.mariadb && s.srv.major >= 8 {
		view = "INNODB_TABLES"
	}
	b := appendQuoted([]byte("SELECT NAME, TABLE_ID FROM information_schema."+view+" WHERE NAME="), file)
	like := strings.NewReplacer(`\`, `\\`, "_", `\_`, "%", `\%`).Replace(file) + "#P#%" // either case: its collation folds
	rows, err := s.query(ctx, string(appendQuoted(append(b, " OR NAME LIKE "...), like))+" ORDER BY NAME")
	switch serverError(err) {
	case erSpecificAccess, erTableAccess, erUnknownTable:
		return "", nil
	}
	var ids []string
	for _, r := range rows {
		ids = append(ids, strings.TrimPrefix(r[0].text, file)+"="+r[1].text)
	}
	return strings.Join(ids, " "), err
}

// fileName writes a name as the servers do in names of files, where all but
// letters, digits and _ is escaped: manual, "Mapping of Identifiers to File
// Names". It knows the escapes of ASCII only.
func fileName(name string) (string, bool) {
	var b strings.Builder
	for _, r := range []byte(name) {
		switch {
		case r >= 0x80:
			return "", false
		case r >= '0' && r <= '9', r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r == '_':
			b.WriteByte(r)
		default:
			fmt.Fprintf(&b, "@%04x", r)
		}
	}
	return b.String(), true
}

// progress says what became of a statement.
type progress uint8

const (
	notDone progress = iota // it may be run
	halfway                 // it was done for some tables only
	done
)

var errUndecided = errors.New("the connection was lost when the target may have run it, and nothing tells whether it has: look there")

// settle finds out from the states before and now whether the statement was
// run. The tables are altered by nobody else meanwhile: nobody could tell such
// changes from the statement's own.
func (r *routed) settle(before, now []footprint) (progress, error) {
	if len(before) != len(now) {
		return notDone, errUndecided
	}
	switch r.kind {
	case ddl.TruncateTable:
		return notDone, nil // a table can be emptied twice
	case ddl.DropTable, ddl.DropView, ddl.DropSchema:
		// A server without atomic DDL may have dropped some: MySQL before 8.0.
		had, has := 0, 0
		for i := range before {
			if before[i].Exists {
				had++
				if now[i].Exists {
					has++
				}
			}
		}
		switch {
		case had == has:
			return notDone, nil
		case has == 0:
			return done, nil
		}
		return halfway, nil
	case ddl.RenameTable:
		// A rename may give foreign keys other names, so definitions tell nothing.
		before, now = withoutSQL(before), withoutSQL(now)
		after := r.renamed(before)
		switch {
		case slices.Equal(after, before):
			return notDone, errUndecided // tables that look alike change places
		case slices.Equal(now, after):
			return done, nil
		case slices.Equal(now, before):
			return notDone, nil
		}
		return notDone, errUndecided
	}
	if !slices.Equal(before, now) {
		return done, nil
	}
	// What swaps two things that look alike can be told by the numbers that it
	// leaves behind; but MariaDB moves columns without a new one.
	sure := !slices.ContainsFunc(now, func(f footprint) bool { return f.Exists && !f.Sure })
	switch {
	case r.kind != ddl.AlterTable, sure && !(r.mariadb && swapsColumns(r.text)):
		return notDone, nil
	case swapsColumns(r.text), strings.Contains(strings.ToUpper(r.text), "EXCHANGE"):
		if !sure {
			return notDone, fmt.Errorf("%w; with the privilege PROCESS on the target it could be told", errUndecided)
		}
		return notDone, errUndecided
	}
	return notDone, nil
}

// renamedColumn finds CHANGE old new, and RENAME COLUMN old TO new.
var renamedColumn = regexp.MustCompile("(?i)\\b(?:CHANGE|RENAME)\\s+(?:COLUMN\\s+)?(?:IF\\s+EXISTS\\s+)?" +
	"(`(?:[^`]|``)*`|[^\\s,`]+)\\s*(?:\\bTO\\b)?\\s*(`(?:[^`]|``)*`|[^\\s,`]+)")

// swapsColumns reports whether an ALTER TABLE may give columns each other's
// names. It may do so wrongly, as for what stands in a comment.
func swapsColumns(text string) bool {
	var from, to []string
	for _, m := range renamedColumn.FindAllStringSubmatch(text, -1) {
		old, name := strings.ToLower(strings.Trim(m[1], "`")), strings.ToLower(strings.Trim(m[2], "`"))
		if old != name {
			from, to = append(from, old), append(to, name)
		}
	}
	return slices.ContainsFunc(to, func(name string) bool { return slices.Contains(from, name) })
}

func withoutSQL(list []footprint) []footprint {
	list = slices.Clone(list)
	for i := range list {
		list[i].SQL = ""
	}
	return list
}

// renamed returns what the states will be after the renames.
func (r *routed) renamed(before []footprint) []footprint {
	after := slices.Clone(before)
	at := func(t ddl.Table) *footprint {
		return &after[slices.IndexFunc(after, func(f footprint) bool { return f.is(t) })]
	}
	for _, p := range r.renames {
		from, to := at(p.from), at(p.to)
		moved := *from
		*from = footprint{Schema: from.Schema, Name: from.Name}
		moved.Schema, moved.Name = to.Schema, to.Name
		*to = moved
	}
	return after
}

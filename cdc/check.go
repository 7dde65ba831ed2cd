package cdc

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/match"
)

// check finds out what kind of server it is and adds to faults what keeps it
// from being read. It returns nil, a *SetupError, or why the server cannot be
// asked.
func (s *Source) check(ctx context.Context, faults []Fault) error {
	if err := s.db.PingContext(ctx); err != nil {
		return s.unreachable(err)
	}
	vars, err := s.settings(ctx)
	if err != nil {
		return s.unreachable(err)
	}
	f := newFacts(vars)
	s.maria = isMaria(f.version)
	s.facts.Store(f)
	fault := func(what, cure string) { faults = append(faults, Fault{what, cure}) }
	switch {
	case s.maria && !atLeast(f.version, 10, 2):
		fault("the server is MariaDB "+f.version, "upgrade it to 10.2 or later")
	case !s.maria && !atLeast(f.version, 5, 6):
		fault("the server is MySQL "+f.version, "upgrade it to 5.6 or later")
	}
	logs := vars["log_bin"] == "ON"
	if !logs {
		fault("the server writes no binary log", "start it with --log-bin")
	}
	if vars["server_id"] == "0" {
		fault("the server's server_id is 0", "SET GLOBAL server_id = 1, or another number that no replica has, and put it into its configuration")
	}
	if v := vars["binlog_format"]; v != "" && v != "ROW" {
		fault("binlog_format is "+v, "SET GLOBAL binlog_format = ROW, put it into the server's configuration, and let applications connect anew")
	}
	if f.sparse && vars["binlog_annotate_row_events"] == "OFF" {
		fault("binlog_row_image is "+vars["binlog_row_image"]+" and binlog_annotate_row_events is OFF, so that a REPLACE cannot be told from an UPDATE",
			"SET GLOBAL binlog_annotate_row_events = ON or binlog_row_image = FULL, put it into the server's configuration, and let applications connect anew")
	}
	if v := vars["binlog_row_image"]; s.snapshot != nil && v != "" && v != "FULL" {
		fault("binlog_row_image is "+v+", and Snapshot is set: what changes while rows are copied must be logged whole",
			"SET GLOBAL binlog_row_image = FULL, and let applications connect anew")
	}
	if s.opts.SemiSync {
		faults = append(faults, s.checkSemiSync(vars)...)
	}
	if capabilityOf(s.opts.Compress) != 0 {
		if bad := s.checkCompress(vars); len(bad) > 0 {
			faults = append(faults, bad...)
			s.opts.Compress = "" // what else is amiss is found without
		}
	}
	if v := vars["binlog_row_metadata"]; v != "" && !f.named {
		s.opts.Logger.Info("the log does not name columns, so their names are kept in step with its statements",
			"binlog_row_metadata", v, "better", "SET GLOBAL binlog_row_metadata = FULL")
	}

	account := "the account"
	var user string
	if err := s.db.QueryRowContext(ctx, "SELECT CURRENT_USER()").Scan(&user); err == nil {
		if name, host, ok := cutLast(user, "@"); ok {
			account = "'" + name + "'@'" + host + "'"
		}
	}
	bad, err := s.chooseID(ctx, vars["server_id"])
	if err != nil {
		return s.unreachable(err)
	}
	faults = append(faults, bad...)
	if logs {
		if bad, err = s.checkGrants(ctx, account); err != nil {
			return s.unreachable(err)
		}
		faults = append(faults, bad...)
	}
	if bad, err = s.checkTables(ctx, account); err != nil {
		return s.unreachable(err)
	}
	faults = append(faults, bad...)
	if len(faults) > 0 {
		return &SetupError{faults}
	}
	return nil
}

// unreachable makes an error of one that kept Open from asking the server.
func (s *Source) unreachable(err error) error {
	cure := "check that the server runs and that its address is right"
	switch code, _ := errorCode(err); {
	case code == 1045 || code == 1698:
		cure = "check the user and the password"
	case code == 1130:
		cure = "allow this host to connect, with CREATE USER or in the server's configuration"
	case code != 0:
		cure = "see the server's manual for the error"
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		cure = "it did not answer in time"
	}
	return fmt.Errorf("cdc: connect to %s as %s: %w (%s)", s.cfg.Addr, s.cfg.User, err, cure)
}

// cutLast is strings.Cut at the last sep: a user name may hold an @ too.
func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// freeID returns an id that no replica has. Each connection that only tries a
// setup, or reads beside a stream, has one of its own: MariaDB ends an older
// connection with the same id, and so that of a pipeline that runs.
func (s *Source) freeID() uint32 {
	for {
		id := 1<<30 + rand.Uint32N(1<<30)
		if id != s.opts.ServerID && !slices.Contains(s.taken, id) {
			return id
		}
	}
}

// chooseID sets the id to be known by, or finds fault with the one given.
func (s *Source) chooseID(ctx context.Context, own string) ([]Fault, error) {
	used := map[string]bool{own: true}
	query := "SHOW SLAVE HOSTS"
	if !s.maria && atLeast(s.known().version, 8, 2) {
		query = "SHOW REPLICAS"
	}
	// MySQL 5.6 is not asked: it reads what belongs to the replicas' threads
	// without their locks, and crashes if one goes meanwhile (seen with 5.6.24).
	var err error
	if s.maria || atLeast(s.known().version, 5, 7) {
		err = eachRow(ctx, s.db, query, func(v []sql.NullString) { used[v[0].String] = true })
	}
	if _, denied := errorCode(err); err != nil && !denied && !errors.Is(err, errMalformed) {
		return nil, err
	}
	// An account that may not see the replicas is told by checkGrants what it
	// lacks, or it is MariaDB's, where reading does not need that right. And of a
	// malformed answer the ids that could be read must do.
	for text := range used {
		if id, err := strconv.ParseUint(text, 10, 32); err == nil {
			s.taken = append(s.taken, uint32(id))
		}
	}
	s.serverID = s.opts.ServerID
	if s.serverID == 0 {
		s.serverID = s.freeID()
		return nil, nil
	}
	if id := strconv.FormatUint(uint64(s.serverID), 10); id == own {
		return []Fault{{
			What: "ServerID " + id + " is the server's own",
			Cure: "leave ServerID zero, or choose a number that neither the server nor a replica has",
		}}, nil
	} else if used[id] {
		// It may be an older connection of ours that the server has not yet
		// noticed to be gone, so this does not keep us from starting.
		s.opts.Logger.Warn("the server knows another replica with this server id", "server_id", id)
	}
	return nil, nil
}

// checkGrants tries out what reading the log will need. So it sees rights that
// come through roles, which no table of the server tells plainly.
func (s *Source) checkGrants(ctx context.Context, account string) ([]Fault, error) {
	var faults []Fault
	denied := func(err error) bool {
		code, _ := errorCode(err)
		return code == 1227 || code == 1044 || code == 1045 || code == 1142
	}
	client := "REPLICATION CLIENT"
	if s.maria && atLeast(s.known().version, 10, 5) {
		client = "BINLOG MONITOR"
	}
	// GTIDs make it needless to look at files.
	if !s.known().gtid {
		if _, err := s.logs(ctx); denied(err) {
			faults = append(faults, Fault{
				What: "the account may not see where the log stands",
				Cure: fmt.Sprintf("GRANT %s ON *.* TO %s", client, account),
			})
		} else if err != nil {
			return nil, err
		}
	}
	if err := s.tryDump(ctx); err != nil {
		if !denied(err) {
			return nil, err
		}
		faults = append(faults, Fault{
			What: "the account may not read the log",
			Cure: fmt.Sprintf("GRANT REPLICATION SLAVE ON *.* TO %s", account),
		})
	}
	return faults, nil
}

// tryDump asks for the log as a Stream will, and looks at the first answer. What
// the log holds is of no interest yet: a file that is not there is no fault.
func (s *Source) tryDump(ctx context.Context) error {
	c, err := s.connectLog(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	d := dump{
		serverID: s.freeID(), uuid: newUUID(), maria: s.maria, checksum: s.known().checksum, beat: s.opts.Heartbeat,
		flags: dumpNonBlock,
		at:    &position{kind: byFile, file: "", pos: 4},
	}
	if err := d.begin(c); err != nil {
		return err
	}
	in := newPackets(c, 4<<10, relearnWait)
	b, err := in.next(ctx, true)
	if err != nil {
		return err
	}
	if len(b) > 0 && b[0] == 0xff {
		err := parseError(b)
		if code, _ := errorCode(err); code != 1236 {
			return err
		}
	}
	return nil
}

// checkTables looks for patterns that match nothing.
func (s *Source) checkTables(ctx context.Context, account string) ([]Fault, error) {
	if len(s.opts.Tables) == 0 {
		return nil, nil
	}
	all, err := s.tableNames(ctx)
	if err != nil {
		return nil, err
	}
	var schemas []string
	err = eachRow(ctx, s.db, "SELECT schema_name FROM information_schema.schemata", func(v []sql.NullString) {
		schemas = append(schemas, v[0].String)
	})
	if err != nil {
		return nil, err
	}
	var faults []Fault
	for _, p := range s.filter.include {
		if slices.ContainsFunc(all, func(n tableName) bool { return p.match(n.schema, n.name) }) {
			continue
		}
		// A schema whose tables are yet to come is one to wait for.
		if strings.ContainsAny(p.table, "*?") &&
			(strings.ContainsAny(p.schema, "*?") || slices.ContainsFunc(schemas, func(n string) bool { return glob(p.schema, n) })) {
			continue
		}
		cure := "check its spelling, and that the account may see it: GRANT SELECT ON " + quoteName(p.schema) + ".* TO " + account
		if near := nearMisses(p, all); len(near) > 0 {
			cure = "did you mean " + strings.Join(near, " or ") + "? Otherwise " + cure
		}
		faults = append(faults, Fault{What: fmt.Sprintf("the table pattern %q matches no table", p.text), Cure: cure})
	}
	return append(faults, s.checkLeftOut(all)...), nil
}

// checkLeftOut looks for patterns that leave out all that others match, and warns
// of those that match more than they seem to.
func (s *Source) checkLeftOut(all []tableName) []Fault {
	f := s.filter
	for _, p := range slices.Concat(f.include, f.exclude) {
		if strings.ContainsAny(p.schema+p.table, "*?") {
			continue
		}
		if names := matched([]pattern{p}, all); len(names) > 1 {
			s.opts.Logger.Warn("a table pattern matches several tables, as letter case does not matter in it",
				"pattern", p.text, "tables", strings.Join(names, " "))
		}
	}
	if slices.ContainsFunc(all, func(n tableName) bool { return f.follows(n.schema, n.name) }) {
		return nil
	}
	var out []string
	for _, n := range all {
		if one := []tableName{n}; len(matched(f.include, one)) > 0 && len(matched(f.exclude, one)) > 0 {
			out = append(out, n.String())
		}
	}
	if len(out) == 0 {
		return nil // checkTables has said so, or the tables are yet to come
	}
	more := ""
	if n := len(out) - 3; n > 0 {
		out, more = out[:3], fmt.Sprintf(" and %d more", n)
	}
	var texts []string
	for _, text := range s.opts.Tables {
		texts = append(texts, strconv.Quote(text))
	}
	return []Fault{{
		What: fmt.Sprintf("the table patterns %s leave no table to follow", strings.Join(texts, ", ")),
		Cure: fmt.Sprintf("those with ! leave out %s%s (letter case does not matter): "+
			"name fewer tables there, or name others to follow", strings.Join(out, ", "), more),
	}}
}

// matched returns the tables that one of the patterns matches.
func matched(patterns []pattern, all []tableName) (names []string) {
	for _, n := range all {
		if slices.ContainsFunc(patterns, func(p pattern) bool { return p.match(n.schema, n.name) }) {
			names = append(names, n.String())
		}
	}
	return names
}

// quoteName quotes a schema for a GRANT, or gives * for a pattern.
func quoteName(s string) string {
	if strings.ContainsAny(s, "*?") {
		return "*"
	}
	return "`" + strings.ReplaceAll(s, "`", "``") + "`"
}

// nearMisses returns up to three tables that a pattern may have meant.
func nearMisses(p pattern, all []tableName) []string {
	type miss struct {
		name string
		far  int
	}
	var list []miss
	want := strings.ToLower(p.schema + "." + p.table)
	for _, n := range all {
		have := strings.ToLower(n.schema + "." + n.name)
		far := match.Distance(want, have)
		if strings.EqualFold(n.name, p.table) {
			far = min(far, 1) // the right table in another schema
		}
		if far <= 1+len(want)/6 {
			list = append(list, miss{n.schema + "." + n.name, far})
		}
	}
	slices.SortStableFunc(list, func(a, b miss) int { return a.far - b.far })
	var names []string
	for _, m := range list[:min(3, len(list))] {
		names = append(names, m.name)
	}
	return names
}

// tableNames returns all tables of the server that the account can see.
func (s *Source) tableNames(ctx context.Context) ([]tableName, error) {
	var list []tableName
	err := eachRow(ctx, s.db, `SELECT table_schema, table_name FROM information_schema.tables
		WHERE table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') ORDER BY 1, 2`,
		func(v []sql.NullString) { list = append(list, tableName{v[0].String, v[1].String}) })
	return list, err
}

// Tables returns the followed tables as they are now, sorted by name. Of files it
// returns those of which the last two files have rows, if the log names columns.
func (s *Source) Tables(ctx context.Context) ([]*dfs.Table, error) {
	if s.db == nil {
		return s.tablesInFiles(ctx)
	}
	names, err := s.tableNames(ctx)
	if err != nil {
		return nil, mark(err)
	}
	var list []*dfs.Table
	for _, n := range names {
		if !s.followed().follows(n.schema, n.name) {
			continue
		}
		t, err := readTable(ctx, s.db, n.schema, n.name)
		if err != nil {
			return nil, mark(err)
		}
		if t != nil {
			list = append(list, t)
		}
	}
	return list, nil
}

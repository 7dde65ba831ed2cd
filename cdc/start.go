package cdc

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/dataflowsync/dfs"
)

// CheckStart looks whether Options.Start names a place that the server's log has.
// If not, the error is a *SetupError. Open does not look: where there is a
// checkpoint Start means nothing, and may have left the log long ago.
func (s *Source) CheckStart(ctx context.Context) error {
	if s.db == nil {
		return s.checkStartFiles(ctx)
	}
	p, err := s.startAt(ctx)
	if err != nil {
		return err
	}
	return s.startReachable(ctx, p)
}

// started returns the place where reading begins without a checkpoint, and the
// State there. It is the same for the life of the Source: until a sink has stored
// it, each try to store it begins anew, and "now" must not move meanwhile.
func (s *Source) started(ctx context.Context) (*position, string, error) {
	s.mu.Lock()
	began := s.began
	s.mu.Unlock()
	if began.Pos == "" {
		p, c, err := s.beginning(ctx)
		if err != nil {
			return nil, "", err
		}
		began.Pos = dfs.Position(p.String())
		if c != nil {
			began.State = c.state()
		}
		s.mu.Lock()
		if s.began.Pos == "" {
			s.began = began
		}
		began = s.began
		s.mu.Unlock()
	}
	// Parsed each time, as a stream moves its own position on.
	p, err := parsePosition(began.Pos)
	if err != nil {
		return nil, "", err
	}
	return p, began.State, s.startReachable(ctx, p)
}

// warnOfPrepared tells of XA transactions that were prepared before reading begins. The
// log has their rows before that place, so that their XA COMMIT will stop the stream.
func (s *Source) warnOfPrepared(ctx context.Context) {
	n := 0
	err := eachRow(ctx, s.db, "XA RECOVER", func([]sql.NullString) { n++ })
	if err != nil {
		return // the account may not ask; should one of them commit, the stream says so
	}
	if n > 0 {
		s.opts.Logger.Warn("XA transactions are prepared on the source whose rows the log has before the place where reading begins: "+
			"should they be committed, reading stops there; end them (XA RECOVER) and begin anew", "count", n)
	}
}

// beginning returns the place that Options.Start names and, if that is here and
// now, and the log does not name columns, what the tables are like there.
func (s *Source) beginning(ctx context.Context) (*position, *catalog, error) {
	find := func() (*position, error) { return s.startAt(ctx) }
	if s.known().named || s.start.kind != "now" {
		p, err := find()
		return p, nil, err
	}
	p, c, err := s.survey(ctx, find)
	return p, c, mark(err)
}

// startAt returns the place that Options.Start names.
func (s *Source) startAt(ctx context.Context) (*position, error) {
	p := &position{kind: byFile, server: s.known().server}
	var err error
	switch {
	case s.maria:
		p.kind = byMaria
	case s.known().gtid:
		p.kind = byGTID
	}
	switch s.start.kind {
	case "now":
		if p.kind == byFile {
			return p, s.logEnd(ctx, p)
		}
		return p, s.setFrom(ctx, p, map[string]string{byGTID: "SELECT @@global.gtid_executed", byMaria: "SELECT @@global.gtid_binlog_pos"}[p.kind])
	case "earliest":
		if p.kind == byGTID {
			return p, s.setFrom(ctx, p, "SELECT @@global.gtid_purged")
		}
		logs, err := s.logs(ctx)
		if err != nil {
			return nil, err
		}
		if len(logs) == 0 {
			return nil, errors.New("cdc: the source has no binary log yet")
		}
		p.file, p.pos = logs[0].name, 4
	case "gtid":
		switch p.kind {
		case byGTID:
			p.set, err = parseGTIDSet(s.start.gtid)
		case byMaria:
			p.list, err = parseGTIDList(s.start.gtid)
		default:
			return nil, s.startFault("gtid_mode is not ON on the source", "set it to ON, or start by file")
		}
		if err != nil {
			return nil, s.startFault(err.Error(), "write the GTIDs as this kind of server does, or start at \"now\"")
		}
		return p, nil
	case "file":
		p.kind, p.file, p.pos = byFile, s.start.file, s.start.pos
		if s.maria {
			err = s.startReachable(ctx, p)
		}
		if err != nil {
			return nil, err
		}
	}
	if s.maria {
		// MariaDB can tell what was before a place in its files.
		p.kind = byMaria
		var list sql.NullString
		if err := s.db.QueryRowContext(ctx, "SELECT BINLOG_GTID_POS(?, ?)", p.file, p.pos).Scan(&list); err != nil {
			return nil, mark(fmt.Errorf("cdc: find the GTIDs before %s:%d: %w", p.file, p.pos, err))
		}
		if !list.Valid {
			return nil, s.startFault(fmt.Sprintf("no transaction ends at %s:%d", p.file, p.pos),
				"start at a place where one does, or by GTID")
		}
		p.list, err = parseGTIDList(list.String)
	}
	return p, err
}

// setFrom sets the GTIDs of p to the result of a query.
func (s *Source) setFrom(ctx context.Context, p *position, query string) error {
	var text sql.NullString
	err := s.db.QueryRowContext(ctx, query).Scan(&text)
	if err != nil {
		return mark(fmt.Errorf("cdc: %s: %w", query, err))
	}
	if p.kind == byMaria {
		p.list, err = parseGTIDList(text.String)
	} else {
		p.set, err = parseGTIDSet(text.String)
	}
	return err
}

// startReachable is reachable for a place that is not of a checkpoint: nothing was
// read before it, so that the server cannot have lost that.
func (s *Source) startReachable(ctx context.Context, p *position) error {
	err := s.reachable(ctx, p)
	if errors.Is(err, ErrPurged) || errors.Is(err, ErrDiverged) {
		return s.notThere(ctx, p)
	}
	return err
}

// startFault is what is wrong with Options.Start.
func (s *Source) startFault(what, cure string) error {
	start := s.opts.Start
	if start == "" {
		start = "now"
	}
	return &SetupError{[]Fault{{What: fmt.Sprintf("start %q: %s", start, what), Cure: cure}}}
}

// notThere says that the log does not have the place to start at, and what it has.
func (s *Source) notThere(ctx context.Context, p *position) error {
	var has string
	switch p.kind {
	case byGTID:
		var purged, executed string
		err := s.db.QueryRowContext(ctx, "SELECT @@global.gtid_purged, @@global.gtid_executed").Scan(&purged, &executed)
		if err != nil {
			return mark(fmt.Errorf("cdc: ask for the source's GTIDs: %w", err))
		}
		has = fmt.Sprintf("the server has committed %s, and its log begins after gtid_purged, %s",
			nameOr(oneLine(executed), "nothing"), nameOr(oneLine(purged), "which is empty"))
	case byMaria:
		var state sql.NullString
		if err := s.db.QueryRowContext(ctx, "SELECT @@global.gtid_binlog_state").Scan(&state); err != nil {
			return mark(fmt.Errorf("cdc: ask for the source's GTIDs: %w", err))
		}
		has = "the last transactions of the server's log are " + nameOr(state.String, "none")
		// What was before its first file needs a right that reading by GTID does not.
		if logs, err := s.logs(ctx); err == nil && len(logs) > 0 {
			has += ", and its files " + logs[0].name + " to " + logs[len(logs)-1].name
		}
	case byFile:
		logs, err := s.logs(ctx)
		if err != nil {
			return err
		}
		has = "the server has no file yet"
		if len(logs) > 0 {
			has = fmt.Sprintf("the server has the files %s to %s", logs[0].name, logs[len(logs)-1].name)
		}
		for _, l := range logs {
			if l.name == p.file {
				has += fmt.Sprintf(", and %s has %d bytes", l.name, l.size)
			}
		}
	}
	return s.startFault("this place is not in the source's log: "+has,
		`start at "earliest", "now" or a place that it has, or read from the server that has this one`)
}

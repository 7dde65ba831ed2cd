package cdc

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dataflowsync/dfs"
)

var (
	_ dfs.Prober  = (*Source)(nil)
	_ dfs.Clocked = (*Source)(nil)
)

// A probed is what was found out about a Source's server while it ran. It is
// guarded by Source.mu.
type probed struct {
	clock    time.Duration // how far the server's clock is ahead
	hasClock bool
	began    map[string]time.Time // when files of the log were begun, by the server's clock
}

// ClockOffset returns how far the server's clock was ahead of this host's when
// Probe last asked. A difference that the round trip may have made is zero.
func (s *Source) ClockOffset() (ahead time.Duration, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.probed.clock, s.probed.hasClock
}

// Probe asks the server what it has after the position, until when it keeps that,
// and what time it is: see dfs.Prober. What the account may not ask is not known
// then, and no error: files and bytes need REPLICATION CLIENT, or MariaDB's BINLOG
// MONITOR. Of log files nothing is known.
//
// A server deletes files of its log by their age when it begins a new one, and not
// while a replica reads them. MariaDB may also delete by size, and hosted servers
// by rules that SQL does not show; of these nothing is known.
func (s *Source) Probe(ctx context.Context, at dfs.Position) (dfs.Probe, error) {
	p := dfs.Probe{At: time.Now(), Unread: -1, UnreadBytes: -1}
	if s.db == nil {
		return p, nil
	}
	if err := s.askClock(ctx, &p); err != nil {
		return p, err
	}
	var pos *position
	if at != "" {
		var err error
		if pos, err = parsePosition(at); err != nil {
			return p, err
		}
		if s.maria != (pos.kind == byMaria) || pos.kind == byGTID && !s.known().gtid {
			return p, fmt.Errorf("cdc: the position %q was made on another kind of server", at)
		}
		err = s.reachable(ctx, pos)
		p.Purged = errors.Is(err, ErrPurged)
		if err != nil && !p.Purged && !refusedBy(err) {
			return p, err
		}
		if p.Unread, err = s.unread(ctx, pos); err != nil {
			return p, err
		}
	}
	return p, s.askRetention(ctx, pos, &p)
}

// refusedBy reports whether the account lacks a right.
func refusedBy(err error) bool {
	code, _ := errorCode(err)
	return code == 1227 || code == 1044 || code == 1045 || code == 1142
}

// askClock finds out how far the server's clock is ahead. Of several round trips
// the quickest tells best: the server read its clock somewhere within it.
func (s *Source) askClock(ctx context.Context, p *dfs.Probe) error {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return mark(fmt.Errorf("cdc: ask for the time: %w", err))
	}
	defer conn.Close()
	for i := range 5 {
		var text string
		sent := time.Now()
		if err := conn.QueryRowContext(ctx, "SELECT UTC_TIMESTAMP(6)").Scan(&text); err != nil {
			return mark(fmt.Errorf("cdc: ask for the time: %w", err))
		}
		half := time.Since(sent) / 2
		theirs, err := time.Parse("2006-01-02 15:04:05.999999", text)
		if err != nil {
			return fmt.Errorf("cdc: the server's time is %q", text)
		}
		if i == 0 || half < p.ClockError {
			p.ClockError, p.ClockOffset = half, theirs.Sub(sent.Add(half).Round(0))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.probed.clock, s.probed.hasClock = p.ClockOffset, true
	if p.ClockOffset.Abs() <= p.ClockError {
		s.probed.clock = 0
	}
	return nil
}

// unread counts the transactions after the position, or returns -1.
func (s *Source) unread(ctx context.Context, at *position) (int64, error) {
	switch at.kind {
	case byGTID:
		var missing string
		if err := s.db.QueryRowContext(ctx, "SELECT GTID_SUBTRACT(@@global.gtid_executed, ?)", at.set.String()).Scan(&missing); err != nil {
			return -1, mark(fmt.Errorf("cdc: compare GTIDs with the source's: %w", err))
		}
		set, err := parseGTIDSet(oneLine(missing))
		if err != nil {
			return -1, fmt.Errorf("cdc: read gtid_executed: %w", err)
		}
		n := int64(0)
		for _, sid := range set.sids {
			for _, span := range sid.spans {
				n += int64(span.last - span.first + 1)
			}
		}
		return n, nil
	case byMaria:
		var text sql.NullString
		if err := s.db.QueryRowContext(ctx, "SELECT @@global.gtid_binlog_pos").Scan(&text); err != nil {
			return -1, mark(fmt.Errorf("cdc: compare GTIDs with the source's: %w", err))
		}
		last, err := parseGTIDList(text.String)
		if err != nil {
			return -1, fmt.Errorf("cdc: read gtid_binlog_pos: %w", err)
		}
		// In each domain numbers count up, mostly without gaps.
		n := int64(0)
		for _, g := range last.gtids {
			have := uint64(0)
			for _, o := range at.list.gtids {
				if o.domain == g.domain {
					have = o.seq
				}
			}
			if g.seq > have {
				n += int64(g.seq - have)
			}
		}
		return n, nil
	}
	return -1, nil
}

// askRetention finds out until when the server keeps what follows the position,
// and how many bytes that is.
func (s *Source) askRetention(ctx context.Context, at *position, p *dfs.Probe) error {
	vars := make(map[string]string)
	err := eachRow(ctx, s.db, `SHOW GLOBAL VARIABLES WHERE Variable_name IN ('binlog_expire_logs_seconds', 'expire_logs_days',
		'binlog_expire_logs_auto_purge', 'max_binlog_total_size')`,
		func(v []sql.NullString) { vars[strings.ToLower(v[0].String)] = v[1].String })
	if err != nil {
		return mark(err)
	}
	var known bool
	if p.Keeps, known = keeps(vars); !known {
		return nil
	}
	if p.Keeps == dfs.Never {
		p.PurgeIn, p.PurgeKnown = dfs.Never, true
	}
	if at == nil || at.file == "" || at.server != s.known().server {
		return nil // its place is one in files that this server does not have
	}
	logs, err := s.logs(ctx)
	if refusedBy(err) {
		return nil
	}
	if err != nil {
		return err
	}
	here := -1
	for i, l := range logs {
		switch {
		case l.name == at.file:
			here, p.UnreadBytes = i, int64(max(l.size, at.pos)-at.pos)
		case here >= 0:
			p.UnreadBytes += int64(l.size)
		}
	}
	if here < 0 {
		return nil
	}
	p.Active = here == len(logs)-1
	switch {
	case p.PurgeKnown:
	case p.Active:
		p.PurgeIn, p.PurgeKnown = p.Keeps, true
	default:
		// A file's age counts from when it was written last, which is when the next
		// one was begun.
		ended, err := s.fileBegan(ctx, logs[here+1].name)
		if err != nil {
			return err
		}
		p.PurgeIn, p.PurgeKnown = ended.Add(p.Keeps).Sub(time.Now().Add(p.ClockOffset)), !ended.IsZero()
	}
	return nil
}

// keeps returns how long a server with these variables keeps files of its log.
func keeps(vars map[string]string) (time.Duration, bool) {
	if size := vars["max_binlog_total_size"]; size != "" && size != "0" {
		return 0, false // MariaDB 11.4, by size
	}
	if strings.EqualFold(vars["binlog_expire_logs_auto_purge"], "OFF") {
		return dfs.Never, true
	}
	seconds, err1 := strconv.ParseFloat(vars["binlog_expire_logs_seconds"], 64)
	days, err2 := strconv.ParseFloat(vars["expire_logs_days"], 64) // MariaDB's has a fraction
	switch {
	case err1 == nil && seconds > 0:
	case err2 == nil && days > 0:
		seconds = days * 86400
	case err1 != nil && err2 != nil:
		return 0, false
	default:
		return dfs.Never, true
	}
	return time.Duration(seconds * float64(time.Second)), true
}

// fileBegan returns when a file of the log was begun, which stands in the head of
// its first event; zero if the server does not tell.
func (s *Source) fileBegan(ctx context.Context, name string) (time.Time, error) {
	s.mu.Lock()
	began, ok := s.probed.began[name]
	s.mu.Unlock()
	if ok {
		return began, nil
	}
	c, err := s.connectLog(ctx)
	if err != nil {
		return began, mark(err)
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	d := dump{
		serverID: s.freeID(), uuid: newUUID(), maria: s.maria, checksum: s.known().checksum, beat: s.opts.Heartbeat,
		flags: dumpNonBlock, passing: true, at: &position{kind: byFile, file: name, pos: 4},
	}
	if err := d.begin(c); err != nil {
		return began, mark(err)
	}
	in := newPackets(c, 4<<10, relearnWait)
	for {
		b, err := in.next(ctx, true)
		if err != nil {
			return began, dfs.Transient(fmt.Errorf("cdc: read the head of %s: %w", name, err))
		}
		if len(b) > 0 && b[0] == 0xff {
			if code, _ := errorCode(parseError(b)); code == 1236 {
				return began, nil // it has been purged meanwhile
			}
			return began, mark(fmt.Errorf("cdc: read the head of %s: %w", name, parseError(b)))
		}
		if len(b) < 1+headerLen || b[0] != 0 {
			return began, nil
		}
		if e := event(b[1:]); e.kind() == evFormat {
			began = time.Unix(int64(e.time()), 0)
			break
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.probed.began == nil || len(s.probed.began) > 100 {
		s.probed.began = make(map[string]time.Time)
	}
	s.probed.began[name] = began
	return began, nil
}

package cdc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/dataflowsync/dfs"
)

// ErrErrant means that the server that took over from another has transactions of
// its own from the time when it was a replica. What was read until then was read
// without them.
var ErrErrant = errors.New("cdc: the source has transactions that the server before it had not")

// mostErrant is how many of them an error names.
const mostErrant = 20

// last returns the GTID that was added last, as far as the set tells.
func (s *gtidSet) last() (g mysqlGTID, ok bool) {
	if len(s.sids) == 0 {
		return g, false
	}
	sid := &s.sids[len(s.sids)-1]
	return mysqlGTID{uuid: sid.uuid, tag: sid.tag, gno: sid.spans[len(sid.spans)-1].last}, true
}

// without returns a copy of the set without one GTID of it.
func (s *gtidSet) without(g mysqlGTID) *gtidSet {
	set := new(gtidSet)
	for i := range s.sids {
		sid := &s.sids[i]
		for _, v := range sid.spans {
			if sid.uuid != g.uuid || sid.tag != g.tag || g.gno < v.first || g.gno > v.last {
				set.sid(sid.uuid, sid.tag).add(v)
				continue
			}
			if v.first < g.gno {
				set.sid(sid.uuid, sid.tag).add(span{v.first, g.gno - 1})
			}
			if g.gno < v.last {
				set.sid(sid.uuid, sid.tag).add(span{g.gno + 1, v.last})
			}
		}
	}
	return set
}

func (g mysqlGTID) String() string {
	tag := ""
	if g.tag != "" {
		tag = g.tag + ":"
	}
	return fmt.Sprintf("%s:%s%d", appendUUID(nil, g.uuid[:]), tag, g.gno)
}

// inLog reports whether the server's log must have a transaction that it has
// committed.
func (s *Source) inLog(ctx context.Context, g mysqlGTID) (bool, error) {
	var purged bool
	err := s.db.QueryRowContext(ctx, "SELECT GTID_SUBSET(?, @@global.gtid_purged)", g.String()).Scan(&purged)
	if err != nil {
		return false, mark(unanswered(ctx, fmt.Errorf("cdc: compare GTIDs with the source's: %w", err)))
	}
	return !purged, nil
}

// sameLog checks that the server still has its log as it was read. One that loses the
// end of its log in a crash, as it can without sync_binlog=1, or that was reset, gives
// the same GTIDs to other transactions. Those that were read then look like those that
// it has.
func (s *Source) sameLog(ctx context.Context, at *position) error {
	if at.file == "" {
		return nil
	}
	ctx, cancel := answerWithin(ctx)
	defer cancel()
	name := ""
	switch at.kind {
	case byGTID:
		g, ok := at.set.last()
		if own, err := parseUUID(at.server); !ok || err != nil || g.uuid != own {
			return nil // a replica gets what it has lost from its own source again
		}
		if ok, err := s.inLog(ctx, g); err != nil || !ok {
			return err
		}
		name = g.String()
	case byMaria:
		n := len(at.list.gtids)
		if n == 0 || fmt.Sprint(at.list.gtids[n-1].server) != at.server {
			return nil
		}
		name = string(at.list.gtids[n-1].append(nil))
	default:
		return nil // reachable looks at that
	}
	logs, err := s.logs(ctx)
	if refusedBy(err) {
		return nil // it needs a right that reading by GTID does not
	}
	if err != nil || len(logs) == 0 {
		return unanswered(ctx, err)
	}
	const cure = "so that %s may be another transaction now: make a new copy of the data"
	i := slices.IndexFunc(logs, func(l logFile) bool { return l.name == at.file })
	switch last := logs[len(logs)-1].name; {
	case i >= 0 && logs[i].size < at.pos:
		return fmt.Errorf("%w: %s has only %d bytes, and was read up to %d; it has lost the end of its log in a crash (set sync_binlog=1), "+cure,
			ErrDiverged, at.file, logs[i].size, at.pos, name)
	case i < 0 && laterLog(at.file, last):
		return fmt.Errorf("%w: %s was read, and its last file is %s; its log was reset, "+cure, ErrDiverged, at.file, last, name)
	}
	return nil
}

// laterLog reports whether one file of a log comes after another, by their numbers.
func laterLog(a, b string) bool {
	a, b = a[strings.LastIndexByte(a, '.')+1:], b[strings.LastIndexByte(b, '.')+1:]
	if len(a) != len(b) {
		return len(a) > len(b)
	}
	return a > b
}

// checkErrant looks, where another server was read before, for transactions of this
// one in its log before the last one that was read. It wrote them while it was a
// replica: they are not in what was read, and would be handed on in another order
// than that in which this server has them. MariaDB does not tell them: its GTIDs say
// no more than how far a domain has come.
func (s *Source) checkErrant(ctx context.Context, st *Stream, before string, at *position) error {
	if at.kind != byGTID || before == at.server {
		return nil
	}
	last, ok := at.set.last()
	own, err := parseUUID(at.server)
	if !ok || err != nil || last.uuid == own {
		return nil
	}
	ask, cancel := answerWithin(ctx)
	defer cancel()
	if ok, err := s.inLog(ask, last); err != nil || !ok {
		return err
	}
	from := *at
	from.set = at.set.without(last)
	in, err := s.openAgain(ctx, st, &from)
	if err != nil {
		return err
	}
	defer in.Close()
	var errant []string
	for began := time.Now(); ; {
		e, err := in.next(ctx, true)
		if err == io.EOF {
			return dfs.Transient(fmt.Errorf("cdc: transaction %s, which was read before, is not in the server's log yet", last))
		}
		if err != nil {
			return err
		}
		var g mysqlGTID
		switch e.kind() {
		case evGTID:
			g, err = parseGTID(e)
		case evGTIDTagged:
			g, err = parseTaggedGTID(e)
		default:
			continue
		}
		if err != nil {
			return err
		}
		if g == last {
			s.opts.Logger.Info("compared the log with that of the server before", "took", time.Since(began).Round(time.Millisecond))
			break
		}
		if g.uuid == own {
			errant = append(errant, g.String())
		}
	}
	if len(errant) == 0 {
		return nil
	}
	names := strings.Join(errant[:min(len(errant), mostErrant)], ", ")
	if more := len(errant) - mostErrant; more > 0 {
		names += fmt.Sprintf(" and %d more", more)
	}
	return fmt.Errorf("%w: server %s wrote %s before it had %s of server %s, which was read already: "+
		"make a new copy of the data; or, if they may come later than they did there, set AcceptErrant (accept_errant in the file)",
		ErrErrant, at.server, names, last, before)
}

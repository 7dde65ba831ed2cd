package cdc

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/client"

	"github.com/dataflowsync/dfs"
)

// A remote is the events that a server sends over a connection.
type remote struct {
	conn *client.Conn
	in   packets
	of   *Stream
	sum  bool // events end with a CRC32
	some bool // something has come
	ends bool // the server was asked for the log up to its end
	semi bool // events have semiSyncHead in front
	ack  bool // a commit waits for the last event

	// For the time in which nothing has come: when the connection was opened, to which
	// server, and how many answers in a row say that it is lost.
	began  time.Time
	server string
	doubts int
}

func (r *remote) next(ctx context.Context, wait bool) (event, error) {
	b, err := r.in.next(ctx, wait)
	for err != nil && !r.some && isSilence(err) && !r.of.replaced.Load() {
		if err = r.silent(ctx); err == nil {
			b, err = r.in.next(ctx, wait)
		}
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if r.of.replaced.Load() {
			return nil, errors.New("cdc: a newer stream of this Source has taken the place of this one: if it is not meant to, open a Source for each")
		}
		return nil, dfs.Transient(fmt.Errorf("cdc: %s: %w", r.of.src.cfg.Addr, err))
	}
	if b == nil {
		return nil, nil
	}
	if !r.some {
		r.some = true
		r.in.timeout = r.of.src.opts.ReadTimeout
		asked := r.of.acks != nil && !r.ends // no commit waits for a second reading
		r.semi = asked && hasSemiSync(b)
		if asked && !r.semi && len(b) > 0 && b[0] == 0 {
			r.of.src.opts.Logger.Warn("commits of the source do not wait for this program, though SemiSync is set: "+
				"its plugin for semi-synchronous replication is not loaded", "server", r.of.src.cfg.Addr)
		}
		if r.semi {
			if err := r.of.acks.resume(); err != nil {
				return nil, err
			}
		}
	}
	switch {
	case len(b) > 0 && b[0] == 0xff:
		return nil, r.of.refused(ctx, parseError(b))
	case r.ends && len(b) > 0 && b[0] == 0xfe && len(b) < 9:
		return nil, io.EOF
	case len(b) > 0 && b[0] == 0xfe && len(b) < 9:
		// So the server ends the log of a replica when it is stopped in good
		// order. The log itself has no end: it goes on when the server does.
		return nil, dfs.Transient(fmt.Errorf("cdc: %s: the server has ended the connection; it stops, or somebody killed the thread", r.of.src.cfg.Addr))
	case len(b) == 0 || b[0] != 0:
		return nil, dfs.Transient(errors.New("cdc: the server sent a packet that is no event"))
	}
	skip := 1
	if r.semi {
		if len(b) < 1+semiSyncHead || b[1] != semiSyncMagic {
			return nil, dfs.Transient(errors.New("cdc: the server sent an event without what semi-synchronous replication puts in front"))
		}
		r.ack = b[2]&semiSyncWaits != 0
		skip += semiSyncHead
	}
	e, err := checkEvent(b[skip:], r.sum, r.sum && r.in.sumsHold(b, skip))
	if err == nil && e.kind() == evFormat {
		var f format
		if f, err = parseFormat(e); err == nil && f.header != headerLen {
			err = fmt.Errorf("cdc: the server sends events with headers of %d bytes instead of 19", f.header)
		}
		r.sum = f.sum
	}
	if err != nil {
		return nil, r.of.damaged(b[skip:], err)
	}
	return e, nil
}

// mostDamaged is how often the same bytes may come damaged in a row.
const mostDamaged = 3

// damage is what came behind a place and was no whole event.
type damage struct {
	at    string
	what  [sha256.Size]byte // the checksum of what came
	times int
}

// damaged makes an error of one that says that b, which came, is no whole event. That
// may have happened on the way, so it is read again. If the very same comes each time,
// the log itself is damaged; a bad line does not turn over the same bits twice.
func (s *Stream) damaged(b []byte, err error) error {
	now := damage{at: s.asm.place(), what: sha256.Sum256(b), times: 1}
	if before := s.src.damage.Load(); before != nil && before.at == now.at && before.what == now.what {
		now.times += before.times
	}
	s.src.damage.Store(&now)
	if now.times >= mostDamaged {
		return s.unreadable(err)
	}
	return dfs.Transient(fmt.Errorf("cdc: %s: what came after %s was damaged on the way: %w", s.src.cfg.Addr, now.at, err))
}

func (r *remote) offset() uint64 { return 0 }

func (r *remote) buffered() int { return r.in.w - r.in.r }

func (r *remote) received() uint64 {
	n := r.in.total
	r.in.total = 0
	return n
}

func (r *remote) Close() error { return r.conn.Close() }

// refused makes an error of the one that the server ended the log with.
func (s *Stream) refused(ctx context.Context, err error) error {
	code, _ := errorCode(err)
	text := err.Error()
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(text, p) {
				return true
			}
		}
		return false
	}
	// MySQL's code for this is 1236 and MariaDB's 4052. MySQL 5.6 says nothing, and
	// ends the log.
	if has("same server_uuid", "same server_id") {
		return fmt.Errorf("cdc: a newer reader with server id %d has taken the place of this one: if it is not meant to, give each its own ServerID: %w",
			s.src.serverID, err)
	}
	if code == 1236 {
		gone := has("purged", "Could not find first log file name", "too old", "Could not find GTID state",
			"has more GTIDs", "not in the master's binlog", "position > file size", "larger than the binary log")
		switch {
		case gone && s.begun && s.asm.txNum == 0:
			return s.src.notThere(ctx, &s.asm.at)
		case has("purged", "Could not find first log file name", "too old", "Could not find GTID state"):
			return fmt.Errorf("%w, after position %s: make a new copy of the data, and keep the log longer (binlog_expire_logs_seconds): %w",
				ErrPurged, &s.asm.at, err)
		case has("has more GTIDs", "not in the master's binlog", "position > file size", "larger than the binary log"):
			return fmt.Errorf("%w, at position %s: read from the server that has them, or make a new copy of the data: %w",
				ErrDiverged, &s.asm.at, err)
		case has("anonymous transaction"):
			return fmt.Errorf("cdc: transactions without a GTID are yet to be read, after position %s: "+
				"SET GLOBAL gtid_mode = ON_PERMISSIVE on the source until they are: %w", &s.asm.at, err)
		case has("Could not open log file", "could not find next log"):
			return dfs.Transient(fmt.Errorf("cdc: read the log: %w", err))
		}
	}
	return mark(fmt.Errorf("cdc: read the log: %w", err))
}

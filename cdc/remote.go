package cdc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

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
}

func (r *remote) next(ctx context.Context, wait bool) (event, error) {
	b, err := r.in.next(ctx, wait)
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
	e, err := checkEvent(b[1:], r.sum)
	if err == nil && e.kind() == evFormat {
		var f format
		if f, err = parseFormat(e); err == nil && f.header != headerLen {
			err = fmt.Errorf("cdc: the server sends events with headers of %d bytes instead of 19", f.header)
		}
		r.sum = f.sum
	}
	return e, err
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

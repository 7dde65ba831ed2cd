package cdc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/client"

	"github.com/dataflowsync/dfs"
)

// batchSize is about where Next ends a batch.
const batchSize = 1 << 20

// A Stream is a connection over which a server sends its log. It holds no
// goroutine: Next reads. While nobody calls Next, the server waits.
type Stream struct {
	src     *Source
	conn    *client.Conn
	in      packets
	asm     assembler
	sum     bool // events end with a CRC32
	payload payload
	first   bool // nothing has come yet
	fix     bool // the place where reading began is yet to be handed on
	begun   bool // reading began there, and not at a checkpoint
	sent    time.Time
	err     error // why the stream has ended

	// What Next hands out. Encoded containers and texts are cut from slab, which
	// is never written twice.
	batch []*dfs.Transaction
	n     int
	size  int
	slab  []byte
	txs   []dfs.Transaction
}

var _ dfs.Stream = (*Stream)(nil)

// Next implements dfs.Stream. If the connection is lost, its error is marked
// transient. Once it has failed, but for the end of ctx, it fails again with the
// same error.
func (s *Stream) Next(ctx context.Context, batch []*dfs.Transaction) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if s.err != nil {
		return 0, s.err
	}
	if len(batch) == 0 {
		return 0, nil
	}
	s.batch, s.n, s.size = batch, 0, 0
	s.slab, s.txs = nil, nil
	defer func() { s.batch, s.slab, s.txs = nil, nil, nil }()
	if s.fix {
		s.fix = false
		s.emit(nil, false)
	}
	for s.n < len(batch) && s.size < batchSize {
		more, err := s.step(ctx)
		if err != nil {
			if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
				if s.n > 0 {
					break
				}
				return 0, err
			}
			s.err = err
			break
		}
		if !more {
			break
		}
	}
	s.src.add(s)
	if s.n == 0 {
		return 0, s.err
	}
	s.sent = time.Now()
	return s.n, nil
}

// step takes one event. It waits for one only while the batch is empty, and
// reports whether there was one.
func (s *Stream) step(ctx context.Context) (bool, error) {
	if s.payload.left {
		e, err := s.payload.next()
		if err != nil || e == nil {
			return err == nil, err
		}
		return true, s.asm.handle(ctx, e, true)
	}
	b, err := s.in.next(ctx, s.n == 0)
	if err != nil {
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		return false, dfs.Transient(fmt.Errorf("cdc: %s: %w", s.src.cfg.Addr, err))
	}
	if b == nil {
		return false, nil
	}
	if s.first {
		s.first = false
		s.in.timeout = s.src.opts.ReadTimeout
	}
	switch {
	case len(b) > 0 && b[0] == 0xff:
		return false, s.refused(ctx, parseError(b))
	case len(b) > 0 && b[0] == 0xfe && len(b) < 9:
		// So the server ends the log of a replica when it is stopped in good
		// order. The log itself has no end: it goes on when the server does.
		return false, dfs.Transient(fmt.Errorf("cdc: %s: the server has ended the connection; it stops, or somebody killed the thread", s.src.cfg.Addr))
	case len(b) == 0 || b[0] != 0:
		return false, dfs.Transient(errors.New("cdc: the server sent a packet that is no event"))
	}
	e, err := checkEvent(b[1:], s.sum)
	if err != nil {
		return false, err
	}
	switch e.kind() {
	case evFormat:
		if s.sum, err = parseFormat(e); err != nil {
			return false, err
		}
	case evPayload:
		s.asm.step(e)
		s.asm.counted.events++
		return true, s.payload.open(e)
	}
	if err := s.asm.handle(ctx, e, false); err != nil {
		return false, err
	}
	s.idle()
	return true, nil
}

// idle hands the position on if transactions without anything followed have
// moved it, but not more often than the heartbeat.
func (s *Stream) idle() {
	a := &s.asm
	if a.tx.open {
		return
	}
	if a.skipTo > 0 {
		if a.off < a.skipTo || a.at.kind == byGTID && a.at.set == nil {
			return
		}
		// The place to begin at is reached, and what was before it is known.
		a.skipTo = 0
		a.at.file, a.at.pos = a.file, a.off
		clear(a.maps)
		a.last = nil
		s.emit(nil, false)
		return
	}
	if !a.moved {
		return
	}
	if now := time.Now(); now.Sub(s.sent) >= s.src.opts.Heartbeat {
		s.sent = now
		s.emit(nil, false)
	}
}

// emit hands out a transaction, or a part of one.
func (s *Stream) emit(encoded []byte, more bool) {
	a := &s.asm
	a.moved = false
	if len(s.txs) == cap(s.txs) {
		s.txs = make([]dfs.Transaction, 0, min(max(16, 2*cap(s.txs)), 512))
	}
	s.txs = s.txs[:len(s.txs)+1]
	tx := &s.txs[len(s.txs)-1]
	tx.More = more
	if encoded != nil {
		at := s.room(len(encoded) + 64)
		s.slab = append(s.slab, encoded...)
		tx.Encoded = s.slab[at:len(s.slab):len(s.slab)]
		tx.Committed = a.tx.time()
		at = len(s.slab)
		s.slab = a.appendID(s.slab)
		tx.ID = alias(s.slab[at:])
	}
	// A part that is not the last has the position before its transaction:
	// there is no other that reading could go on from.
	at := s.room(256)
	s.slab = a.at.append(s.slab)
	tx.Pos = dfs.Position(alias(s.slab[at:]))
	s.batch[s.n] = tx
	s.n++
	s.size += tx.Size()
}

// room makes place for n bytes in the slab, and returns where they begin.
func (s *Stream) room(n int) int {
	if cap(s.slab)-len(s.slab) < n {
		// As much as what waits in the buffer will need, but not for one small
		// transaction as for a thousand.
		s.slab = make([]byte, 0, max(n, min(s.in.w-s.in.r+n+512, 256<<10)))
	}
	return len(s.slab)
}

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
		case has("Could not open log file", "could not find next log"):
			return dfs.Transient(fmt.Errorf("cdc: read the log: %w", err))
		}
	}
	return mark(fmt.Errorf("cdc: read the log: %w", err))
}

// Close ends the connection. It may be called at any time.
func (s *Stream) Close() error {
	s.src.closed(s)
	return s.conn.Close()
}

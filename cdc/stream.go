package cdc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/failpoint"
	"github.com/dataflowsync/dfs/internal/unzeroed"
)

// batchSize is about where Next ends a batch.
const batchSize = 1 << 20

// An events gives the events of a log, one after another.
type events interface {
	// next returns the next event, with its checksum verified and cut off. It is
	// valid until the next call. If wait is not set and none has come whole, next
	// returns nil. A call that ctx has ended can be repeated. At the end of a log
	// that has one, the error is io.EOF.
	next(ctx context.Context, wait bool) (event, error)

	// offset returns the place in its file at which the last event ends, or 0 if
	// the event itself has to tell it.
	offset() uint64

	// buffered returns how many bytes are in memory that next will return.
	buffered() int

	// received returns how many bytes have come since the last call.
	received() uint64

	// Close may be called at any time, and more than once.
	Close() error
}

// A Stream is a log that is read: that of a server, over a connection, or files.
// It holds no goroutine but those that copy rows for Options.Snapshot: Next reads.
// While nobody calls Next, the server waits.
type Stream struct {
	src     *Source
	in      events
	asm     assembler
	payload payload
	fix     bool   // the place where reading began is yet to be handed on
	server  string // whose log it is: its server_uuid, or MariaDB's server_id; empty for files
	begun   bool   // reading began there, and not at a checkpoint
	sent    time.Time
	err     error // why the stream has ended

	// open reads the log from another place, up to where it ends; nil if it
	// cannot be read a second time. reread is what reads it so.
	open   func(ctx context.Context, from *position) (events, error)
	reread *reread
	ahead  events     // the log read ahead, for the assembler; mostly nil
	mu     sync.Mutex // for reread and ahead while they change, and for shut
	ended  bool       // shut was called

	replaced atomic.Bool // a newer stream has ended this one
	acks     *acks       // for Options.SemiSync; nil without

	copier *copier     // while rows are copied; nil if they are not
	until  func() bool // asked after each event: whether to return what there is, or nothing
	inPart bool        // what was handed out last goes on
	taken  []*request  // what Next has taken over, and is yet to be known as handed on
	given  bool        // it was handed on
	xa     bool        // rows of an XA transaction that was prepared were handed on

	undone event // what ctx has ended the handling of, and is to be handled first
	inner  bool  // it came out of a transaction payload

	// What Next hands out. Encoded containers and texts are cut from slab, which
	// is never written twice.
	batch []*dfs.Transaction
	n     int
	size  int
	pos   int // bytes of the last position, which may be many: those of a set of GTIDs
	slab  []byte
	txs   []dfs.Transaction
}

var _ dfs.Stream = (*Stream)(nil)

// Next implements dfs.Stream. If the connection is lost, its error is marked
// transient. Once it has failed, but for the end of ctx, it fails again with the
// same error.
func (s *Stream) Next(ctx context.Context, batch []*dfs.Transaction) (int, error) {
	s.confirm()
	for {
		if err := s.change(ctx); err != nil {
			return 0, err
		}
		var n int
		var err error
		if s.copier != nil {
			n, err = s.copier.next(ctx, batch)
		} else {
			n, err = s.read(ctx, batch)
		}
		if n > 0 || err != nil || len(batch) == 0 {
			s.given = n > 0
			return n, err
		}
	}
}

// read is Next for what the log has. It may return nothing, if until says so.
func (s *Stream) read(ctx context.Context, batch []*dfs.Transaction) (int, error) {
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
		more, err := s.tryStep(ctx)
		if err != nil {
			if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
				if s.n > 0 {
					break
				}
				return 0, err
			}
			if err == io.EOF && s.asm.moved {
				s.emit(nil, false) // no part is open: see fileEvents.last
			}
			s.err = err
			break
		}
		if !more || s.until != nil && s.until() || s.changeDue() {
			break
		}
	}
	s.src.add(s)
	if s.n == 0 {
		return 0, s.err
	}
	failpoint.Hit("cdc.next")
	s.sent = time.Now()
	return s.n, nil
}

// tryStep is step, and makes an error of a panic.
func (s *Stream) tryStep(ctx context.Context) (more bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = s.unreadable(recovered(r))
		}
	}()
	return s.step(ctx)
}

// unreadable says of an error where in the log it was met.
func (s *Stream) unreadable(err error) error {
	if err == nil {
		return nil
	}
	id := ""
	if s.asm.tx.hasID {
		id = string(s.asm.appendID(nil))
	}
	return unreadable(err, s.asm.place(), id)
}

// step takes one event. It waits for one only while the batch is empty, and
// reports whether there was one.
func (s *Stream) step(ctx context.Context) (bool, error) {
	if e := s.undone; e != nil {
		s.undone = nil
		return true, s.unreadable(s.handle(ctx, e, s.inner))
	}
	if s.reread != nil {
		return s.rereadStep(ctx)
	}
	if s.asm.again != nil {
		err := s.beginReread(ctx)
		return err == nil, err
	}
	if s.payload.left {
		e, err := s.payload.next()
		if err != nil || e == nil {
			return err == nil, s.unreadable(err)
		}
		return true, s.unreadable(s.handle(ctx, e, true))
	}
	owes := s.owesAck()
	e, err := s.in.next(ctx, s.n == 0 && !owes)
	if err == nil && e == nil && owes {
		s.emit(nil, false)
	}
	if err != nil || e == nil {
		return false, err
	}
	failpoint.Hit("cdc.event")
	s.asm.end = s.in.offset()
	if s.acks != nil {
		s.askAck(e)
	}
	if e.kind() == evPayload {
		s.asm.step(e)
		s.asm.counted.events++
		return true, s.unreadable(s.payload.open(e))
	}
	if err := s.handle(ctx, e, false); err != nil {
		return false, s.unreadable(err)
	}
	s.idle()
	return true, nil
}

// handle has the assembler take an event. A table map may make it ask the server,
// and ctx end that. Then it is handled again by the next call.
func (s *Stream) handle(ctx context.Context, e event, inner bool) error {
	err := s.asm.handle(ctx, e, inner)
	if err == nil || e.kind() != evTableMap {
		return err
	}
	if d, ok := ctx.Deadline(); ok && !time.Now().Before(d) {
		<-ctx.Done() // connections have the same deadline, and may be a little faster
	}
	if ctx.Err() != nil {
		s.undone, s.inner = bytes.Clone(e), inner
		s.asm.counted.events--
		return ctx.Err()
	}
	return err
}

// openAhead opens the log from a place up to where it ends, for the assembler to
// read while the stream itself waits.
func (s *Stream) openAhead(ctx context.Context, from *position) (events, error) {
	in, err := s.src.openAgain(ctx, s, from)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return nil, errors.Join(net.ErrClosed, in.Close())
	}
	s.ahead = in
	return in, nil
}

// closeAhead ends what openAhead began.
func (s *Stream) closeAhead(in events) {
	s.mu.Lock()
	s.ahead = nil
	s.mu.Unlock()
	if err := in.Close(); err != nil {
		s.src.opts.Logger.Debug("closing the log that was read ahead", "cause", err)
	}
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
	s.inPart = more
	if len(s.txs) == cap(s.txs) {
		s.txs = make([]dfs.Transaction, 0, min(max(16, 2*cap(s.txs)), 512))
	}
	s.txs = s.txs[:len(s.txs)+1]
	tx := &s.txs[len(s.txs)-1]
	tx.More = more
	if encoded != nil {
		s.xa = s.xa || a.tx.ends != ""
		at := 0
		if len(encoded) > 4*s.src.opts.MaxPart {
			// One large event is in it. It is handed on as it is, since it may be most of
			// what memory there is.
			tx.Encoded, a.part = encoded[:len(encoded):len(encoded)], nil
			at = s.room(64)
		} else {
			at = s.room(len(encoded) + 64)
			s.slab = append(s.slab, encoded...)
			tx.Encoded = s.slab[at:len(s.slab):len(s.slab)]
			at = len(s.slab)
		}
		tx.Committed = a.tx.time()
		s.slab = a.appendID(s.slab)
		tx.ID = alias(s.slab[at:])
	}
	// A part that is not the last has the position before its transaction:
	// there is no other that reading could go on from.
	at := s.room(max(s.pos, 192) + 64)
	s.slab = a.at.append(s.slab)
	tx.Pos = dfs.Position(alias(s.slab[at:]))
	s.pos = len(tx.Pos)
	if !more && a.due() {
		tx.State = a.state()
	}
	s.batch[s.n] = tx
	s.n++
	s.size += tx.Size()
}

// room makes place for n bytes in the slab, and returns where they begin.
func (s *Stream) room(n int) int {
	if cap(s.slab)-len(s.slab) < n {
		// As much as what waits in the buffer will need, but not for one small
		// transaction as for a thousand.
		s.slab = unzeroed.Bytes(max(n, min(s.in.buffered()+n+512, 256<<10)))[:0]
	}
	return len(s.slab)
}

// Close ends the connection, or closes the file. It may be called at any time.
func (s *Stream) Close() error {
	s.src.forget(s)
	return s.shut()
}

// shut closes what the stream reads from.
func (s *Stream) shut() error {
	s.mu.Lock()
	s.ended = true
	c := s.copier
	s.mu.Unlock()
	if c != nil {
		c.close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.in.Close()
	if s.reread != nil {
		err = errors.Join(err, s.reread.in.Close())
	}
	if s.ahead != nil {
		err = errors.Join(err, s.ahead.Close())
	}
	return err
}

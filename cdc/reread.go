package cdc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/dataflowsync/dfs/internal/ddl"
)

// A reread reads the rows of one prepared XA transaction from the log a second
// time, while the log itself waits behind the XA COMMIT.
type reread struct {
	what    preparedXA
	in      events
	payload payload
	placed  bool // its place is one in a file, where it begins
	began   bool
}

// beginReread opens the log anew where the rows are that the assembler asks for.
func (s *Stream) beginReread(ctx context.Context) error {
	p := *s.asm.again
	s.asm.again = nil
	fail := func(err error) error {
		return fmt.Errorf("cdc: read the rows of the XA transaction %s, prepared at %s: %w", p.xid, p.at, err)
	}
	if s.open == nil {
		return fail(errors.New("this log cannot be read a second time"))
	}
	from, err := p.position(&s.asm.at)
	if err != nil {
		return fail(err)
	}
	in, err := s.open(ctx, from)
	if err != nil {
		return fail(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return fail(errors.Join(net.ErrClosed, in.Close()))
	}
	s.reread = &reread{what: p, in: in, placed: from.kind == byFile}
	return nil
}

// rereadStep takes one event of the second reading.
func (s *Stream) rereadStep(ctx context.Context) (bool, error) {
	r := s.reread
	fail := func(err error) error {
		return fmt.Errorf("cdc: read the rows of the XA transaction %s, prepared at %s: %w", r.what.xid, r.what.at, err)
	}
	var e event
	var err error
	if r.payload.left {
		if e, err = r.payload.next(); err == nil && e == nil {
			return true, nil
		}
	} else {
		e, err = r.in.next(ctx, true)
	}
	if err != nil {
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if err == io.EOF {
			err = fmt.Errorf("%w: the log has it no more: make a new copy of the data, and keep the log longer", ErrPurged)
		}
		return false, fail(err)
	}
	done, err := s.rereadEvent(ctx, e)
	if err != nil {
		return false, fail(err)
	}
	if done {
		s.mu.Lock()
		s.reread = nil
		s.mu.Unlock()
		if err := r.in.Close(); err != nil {
			s.src.opts.Logger.Debug("closing the second reading of the log", "cause", err)
		}
		if err := s.asm.commit(s.asm.againEnd); err != nil {
			return false, err
		}
		s.idle()
	}
	return true, nil
}

// rereadEvent takes an event, and reports whether the transaction ends with it.
func (s *Stream) rereadEvent(ctx context.Context, e event) (done bool, err error) {
	r := s.reread
	kind := e.kind()
	if e.flags()&flagArtificial != 0 || kind == evFormat || kind == evRotate {
		return false, nil
	}
	if !r.began {
		switch kind {
		case evGTID, evGTIDTagged:
			id, err := gtidText(e)
			if err != nil {
				return false, err
			}
			r.began = r.placed || id == r.what.at
		case evAnonymous:
			r.began = r.placed
		case evMariaGTID:
			_, flags, err := parseMariaGTID(e)
			if err == nil && flags&mariaFlagPreparedXA == 0 {
				err = errNotPrepared
			}
			r.began = err == nil
			return false, err
		case evQuery, evQueryZ:
			// A log without GTIDs has nothing in front of XA START.
			r.began = r.placed
		}
		return false, nil
	}
	a := &s.asm
	counted := a.counted // what is read a second time is not counted a second time
	defer func() {
		a.counted.events, a.counted.rows, a.counted.rowsFiltered = counted.events, counted.rows, counted.rowsFiltered
	}()
	switch {
	case kind == evPayload:
		return false, r.payload.open(e)
	case kind == evTableMap || kind == evAnnotateRows || isRows(kind):
		return false, s.handle(ctx, e, true)
	case kind == evQuery || kind == evQueryZ:
		q, err := parseQuery(e)
		if err != nil {
			return false, err
		}
		if s := ddl.Parse(q.text, q.schema, a.mode(e, q)); s.Kind == ddl.Savepoint || s.Kind == ddl.RollbackTo {
			return false, a.savepoint(e, &s)
		}
	case kind == evXAPrepare:
		xid, _, err := xidOf(e)
		if err == nil && xid != r.what.xid {
			err = errNotPrepared
		}
		return err == nil, err
	case kind == evGTID || kind == evGTIDTagged || kind == evMariaGTID || kind == evAnonymous || kind == evXID:
		return false, errNotPrepared
	}
	return false, nil
}

var errNotPrepared = fmt.Errorf("%w: another transaction is at that place: make a new copy of the data", ErrDiverged)

// openAgain connects to the server a second time, beside the connection that a
// stream has, and asks for its log from a place to where it ends now.
func (s *Source) openAgain(ctx context.Context, st *Stream, from *position) (events, error) {
	var behind uint64
	if from.kind == byFile && from.pos > s.farthest {
		first := *from
		from, behind, first.pos = &first, from.pos, 4
	}
	conn, err := s.connectLog(ctx)
	if err != nil {
		return nil, mark(err)
	}
	in := s.newRemote(conn, st, min(s.opts.Buffer, 64<<10))
	in.ends = true
	d := dump{serverID: s.freeID(), uuid: newUUID(), maria: s.maria, at: from, checksum: s.known().checksum, beat: s.opts.Heartbeat, flags: dumpNonBlock, passing: true}
	if s.known().sparse {
		d.flags |= dumpAnnotate
	}
	if err := in.ask(ctx, &d); err != nil {
		return nil, err
	}
	if behind > 0 {
		return &eventsBehind{remote: in, place: behind}, nil
	}
	return in, nil
}

// An eventsBehind gives the events behind a place in the first file that it reads, and
// those that say what the file is.
type eventsBehind struct {
	*remote
	place, off uint64
	found      bool
}

func (b *eventsBehind) next(ctx context.Context, wait bool) (event, error) {
	for {
		e, err := b.remote.next(ctx, wait)
		if err != nil || e == nil || b.found || e.kind() == evFormat || e.kind() == evRotate || e.flags()&flagArtificial != 0 {
			return e, err
		}
		if b.off = e.endsAt(b.off); b.off > b.place {
			b.found = true
			return e, nil
		}
	}
}

// A fileAgain is the events of files from a place on, up to the end of the last.
type fileAgain struct {
	src  *Source
	list []logPath // the files from the one that is read on
	from uint64    // place in the first file

	mu  sync.Mutex // for log while it changes, and for Close
	log *logReader
}

// filesAgain opens the files of a Source a second time.
func (s *Source) filesAgain(ctx context.Context, from *position) (events, error) {
	list, err := listLogs(s.paths)
	if err != nil {
		return nil, err
	}
	i, _, err := s.locate(ctx, list, from)
	if err != nil {
		return nil, err
	}
	return &fileAgain{src: s, list: list[i:], from: from.pos}, nil
}

func (f *fileAgain) next(ctx context.Context, _ bool) (event, error) {
	for len(f.list) > 0 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if f.log == nil {
			l, err := openLog(f.list[0].path, f.list[0].name, min(f.src.opts.Buffer, 64<<10))
			if err != nil {
				return nil, fileError(f.list[0], err)
			}
			f.mu.Lock()
			f.log = l
			f.mu.Unlock()
		}
		e, err := f.log.next()
		switch {
		case err == io.EOF:
			if err := f.log.Close(); err != nil {
				return nil, fmt.Errorf("cdc: %w", err)
			}
			f.mu.Lock()
			f.log, f.from, f.list = nil, 0, f.list[1:]
			f.mu.Unlock()
		case err != nil:
			return nil, err
		case f.log.off > f.from:
			return e, nil
		}
	}
	return nil, io.EOF
}

func (f *fileAgain) offset() uint64   { return 0 }
func (f *fileAgain) buffered() int    { return 0 }
func (f *fileAgain) received() uint64 { return 0 }

func (f *fileAgain) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.log == nil {
		return nil
	}
	return f.log.Close()
}

package sink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/txrun"
)

// An archiveStream reads transactions of an Archive.
type archiveStream struct {
	a   *Archive
	at  uint64 // the last one handed out
	end uint64 // the last one to be handed out; 0: to wait for more, or to the end if the archive is read only
	cur *txrun.Cursor

	f    segmentReader // of seg
	seg  *segment
	id   [16]byte // of the archive, once it has one
	over bool     // closed
}

// Open returns the transactions that follow from, as they were stored. A Stream of an
// archive that was opened with ReadOnly ends with io.EOF, others wait for more. To
// restore, use Restore. If the archive does not hold what follows from, or does not
// reach to it, the error is dfs.ErrGap.
func (a *Archive) Open(ctx context.Context, from dfs.Checkpoint) (dfs.Stream, error) {
	s, err := a.stream(ctx, from)
	if err != nil {
		return nil, err
	}
	if a.opts.ReadOnly {
		a.mu.Lock()
		s.end = a.whole.Seq
		a.mu.Unlock()
	}
	return s, nil
}

func (a *Archive) stream(ctx context.Context, from dfs.Checkpoint) (*archiveStream, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case <-a.closing:
		return nil, ErrArchiveClosed
	default:
	}
	s := &archiveStream{a: a, at: from.Seq}
	a.mu.Lock()
	s.id = a.id
	a.mu.Unlock()
	if from.Pos != "" {
		p, err := a.position(ctx, from.Seq)
		if err != nil {
			return nil, err
		}
		if p != from.Pos {
			return nil, fmt.Errorf("archive %s belongs to another pipeline or target: its transaction %d is at %q, the reader's at %q: "+
				"read the archive that the target was fed from, or restore into an empty one", a.dir, from.Seq, p, from.Pos)
		}
		return s, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return s, a.holds(from.Seq)
}

// holds returns why reading cannot go on after a transaction. a.mu is held.
func (a *Archive) holds(seq uint64) error {
	first := a.whole.Seq
	if len(a.segs) > 0 {
		first = a.segs[0].head.base
	}
	if seq < first || seq > a.whole.Seq {
		return fmt.Errorf("%w: archive %s holds transactions %d to %d, and those after %d are to be read", dfs.ErrGap, a.dir, first+1, a.whole.Seq, seq)
	}
	return nil
}

// position returns the position of a transaction, or the one before the first.
func (a *Archive) position(ctx context.Context, seq uint64) (dfs.Position, error) {
	a.mu.Lock()
	err := a.holds(seq)
	whole := a.whole
	var start *segment
	for _, s := range a.segs {
		if s.head.base == seq {
			start = s
		}
	}
	a.mu.Unlock()
	switch {
	case err != nil:
		return "", err
	case seq == whole.Seq:
		return whole.Pos, nil
	case start != nil:
		return dfs.Position(start.start.Pos), nil
	}
	s := archiveStream{a: a, at: seq - 1}
	defer s.Close()
	if err := s.load(ctx); err != nil {
		return "", err
	}
	var tx dfs.Transaction
	err = s.cur.Next(&tx)
	return tx.Pos, err
}

// Close frees what the Stream holds.
func (s *archiveStream) Close() error {
	s.over = true
	if s.f != nil {
		s.f.Close()
		s.f = nil
	}
	return nil
}

// Next implements dfs.Stream.
func (s *archiveStream) Next(ctx context.Context, batch []*dfs.Transaction) (int, error) {
	if s.over {
		return 0, ErrArchiveClosed
	}
	n, size := 0, 0
	for n < len(batch) && size < 1<<20 {
		if err := ctx.Err(); err != nil && n == 0 {
			return 0, err
		}
		s.a.mu.Lock()
		whole, changed := s.a.whole.Seq, s.a.changed
		s.a.mu.Unlock()
		select {
		case <-s.a.closing:
			return 0, ErrArchiveClosed
		default:
		}
		if s.end != 0 {
			whole = min(whole, s.end)
		}
		switch {
		case s.at < whole:
		case n > 0:
			return n, nil
		case s.end != 0 && s.at >= s.end || s.a.opts.ReadOnly:
			return 0, io.EOF
		case s.at > whole:
			return 0, fmt.Errorf("%w: archive %s was reset behind transaction %d", dfs.ErrGap, s.a.dir, s.at)
		default:
			select {
			case <-changed:
			case <-s.a.closing:
			case <-ctx.Done():
				return 0, ctx.Err()
			}
			continue
		}
		if s.cur == nil || s.cur.Left() == 0 || s.cur.Seq() != s.at+1 {
			if err := s.load(ctx); err != nil {
				if n > 0 {
					return n, nil // the next call meets it again
				}
				return 0, err
			}
		}
		tx := new(dfs.Transaction)
		if err := s.cur.Next(tx); err != nil {
			return n, &ArchiveError{File: filepath.Base(s.seg.path), First: s.at + 1, Last: s.at + 1, Err: err}
		}
		s.at = tx.Seq
		batch[n] = tx
		n++
		size += tx.Size()
	}
	return n, nil
}

// load makes cur begin with the transaction after at.
func (s *archiveStream) load(ctx context.Context) error {
	a := s.a
	for try := 0; ; try++ {
		a.mu.Lock()
		if err := a.holds(s.at); err != nil {
			a.mu.Unlock()
			return err
		}
		i := sort.Search(len(a.segs), func(i int) bool { return a.segs[i].whole > s.at })
		if i == len(a.segs) {
			a.mu.Unlock()
			return fmt.Errorf("%w: archive %s has no transaction %d", dfs.ErrGap, a.dir, s.at+1)
		}
		seg := a.segs[i]
		records := seg.records
		a.mu.Unlock()
		if s.id == ([16]byte{}) {
			s.id = seg.head.archive
		}
		if s.id != seg.head.archive {
			return fmt.Errorf("%w: archive %s was reset, and what it has now does not follow transaction %d", dfs.ErrGap, a.dir, s.at)
		}
		if s.seg != seg || s.f == nil {
			if s.f != nil {
				s.f.Close()
			}
			var err error
			s.seg = seg
			if s.f, err = a.open(seg); err != nil {
				s.f = nil
				// It was sealed or deleted, by this process or another.
				if errors.Is(err, os.ErrNotExist) && try < 20 {
					if a.opts.ReadOnly {
						err = a.load(ctx)
					} else {
						err = nil
					}
				}
				if err != nil {
					return fmt.Errorf("archive %s: %w", a.dir, err)
				}
				continue
			}
		}
		k := sort.Search(len(records), func(i int) bool { return records[i].last > s.at })
		if k == len(records) || records[k].first > s.at+1 {
			return &ArchiveError{File: filepath.Base(seg.path), First: s.at + 1, Last: s.at + 1, Err: fmt.Errorf("%w: the index has no such transaction", dfs.ErrGap)}
		}
		cur, err := a.block(s.f, seg, &records[k])
		if err != nil {
			return err
		}
		for cur.Seq() <= s.at {
			var tx dfs.Transaction
			if err := cur.Next(&tx); err != nil {
				return &ArchiveError{File: filepath.Base(seg.path), Offset: records[k].off, First: records[k].first, Last: records[k].last, Err: err}
			}
		}
		s.cur = cur
		return nil
	}
}

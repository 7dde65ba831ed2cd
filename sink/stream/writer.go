package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/checkfile"
)

// A Writer is a sink that writes messages to an io.Writer, such as os.Stdout, one a
// line.
//
// Guarantee: at least once. What was written cannot be taken back, so a process that
// dies between a write and its checkpoint writes the same again, and parts of a
// transaction are seen before its end. Each change has the number of its
// transaction, so that a reader can leave out what it has had: with a queue. Without
// one a transaction that is read again has the same name, and maybe another number.
// Without a file for the checkpoint, each start begins where the source's options say.
type Writer struct {
	w    io.Writer
	enc  *Encoder
	mark *checkfile.File // nil: in memory only
	at   dfs.Checkpoint
	seq  uint64 // of the last part written
	buf  bytes.Buffer
	held bool

	messages, bytes atomic.Uint64
}

var _ dfs.Sink = (*Writer)(nil)

// OpenWriter returns a sink that writes to w, which stays the caller's. The file at
// checkpoint says how far it has come; if it is empty, nothing does. A nil o stands
// for the zero Options.
func OpenWriter(w io.Writer, checkpoint string, o *Options) (*Writer, error) {
	s := &Writer{w: w}
	var err error
	if s.enc, err = NewEncoder(o); err == nil && checkpoint != "" {
		s.mark, err = checkfile.Open(checkpoint)
	}
	return s, err
}

// Close frees the checkpoint's file.
func (s *Writer) Close() error {
	if s.mark == nil {
		return nil
	}
	return s.mark.Close()
}

// Checkpoint implements dfs.Sink.
func (s *Writer) Checkpoint(ctx context.Context) (dfs.Checkpoint, error) {
	if err := ctx.Err(); err != nil {
		return dfs.Checkpoint{}, err
	}
	if s.mark != nil {
		_, at, unlock, err := s.mark.Take()
		if err != nil {
			return at, err
		}
		unlock()
		s.at = at
	}
	s.enc.Reset()
	s.seq, s.held = s.at.Seq, true
	return s.at, nil
}

// Apply implements dfs.Sink.
func (s *Writer) Apply(ctx context.Context, batch []*dfs.Transaction) (err error) {
	if err := ctx.Err(); err != nil || len(batch) == 0 {
		return err
	}
	if !s.held {
		return errors.New("stream: Checkpoint was not asked before Apply")
	}
	if s.mark != nil {
		unlock, err := s.mark.Lock()
		if err != nil {
			return err
		}
		defer unlock()
	}
	if batch[0].Seq != s.seq+1 {
		return fmt.Errorf("%w: transaction %d was written last, transaction %d was to follow", dfs.ErrConflict, s.seq, batch[0].Seq)
	}
	defer func() { s.held = err == nil }()
	s.buf.Reset()
	n := uint64(0)
	at, rec := s.at, checkfile.Record{}
	state := ""
	for i, tx := range batch {
		if tx.Seq != batch[0].Seq+uint64(i) {
			return fmt.Errorf("%w: transaction %d was given after %d", dfs.ErrGap, tx.Seq, batch[0].Seq+uint64(i)-1)
		}
		if err := s.enc.Encode(tx, func(m Message) error {
			if m.Value != nil {
				s.buf.Write(m.Value)
				s.buf.WriteByte('\n')
				n++
			}
			return nil
		}); err != nil {
			return err
		}
		if !tx.More {
			at.Seq, at.Pos, rec.ID, rec.Committed = tx.Seq, tx.Pos, tx.ID, tx.Committed
			if tx.State != "" {
				state, at.State = tx.State, tx.State
			}
		}
	}
	size := s.buf.Len()
	if _, err := s.w.Write(s.buf.Bytes()); err != nil {
		return fmt.Errorf("write messages: %w", err)
	}
	s.messages.Add(n)
	s.bytes.Add(uint64(size))
	if s.mark != nil && at.Seq != s.at.Seq {
		if err := s.mark.Save(rec, dfs.Checkpoint{Seq: at.Seq, Pos: at.Pos, State: state}); err != nil {
			return err
		}
	}
	s.at, s.seq = at, batch[len(batch)-1].Seq
	return nil
}

// Stats returns what was written.
func (s *Writer) Stats() Stats {
	return Stats{Guarantee: AtLeastOnce, Messages: s.messages.Load(), Bytes: s.bytes.Load()}
}

// Guarantee says in words what the target may be relied on for.
func (s *Writer) Guarantee() string {
	return "at least once: what was written cannot be taken back, so a crash may repeat the transactions of one batch"
}

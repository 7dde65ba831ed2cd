package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dataflowsync/dfs"
)

// defaultReader is the name under which a Queue reads itself.
const defaultReader = "default"

// A Reader reads a queue under a name, and holds back what it has not passed,
// also while nobody runs it. It is registered by its first Open or Trim, and
// from then on until Forget. So a queue that nobody has read yet keeps all it is
// given. But a reader that is not yet registered holds nothing back: where there
// are several, name all of them in Options.Readers.
//
// Several pipelines may read one queue, each through a Reader of its own: see
// dfs.Fanout.
type Reader struct {
	q    *Queue
	name string
}

// Reader returns the reader of that name. The Queue itself reads as "default".
func (q *Queue) Reader(name string) *Reader { return &Reader{q, name} }

// SameReader reports whether other is a Reader of the same queue and name.
func (r *Reader) SameReader(other dfs.Source) bool {
	o, ok := other.(*Reader)
	return ok && *o == *r
}

// Open returns the transactions that follow from, and sees to it that the reader
// holds these back, also if it had passed some of them. It does not move the
// reader forward: only Trim does.
//
// If the queue no longer holds what follows from, or does not reach to it, Open
// returns an error that is dfs.ErrGap. If both know the position of from, and
// they differ, it returns a *MismatchError. The zero Checkpoint stands before
// transaction 1.
func (r *Reader) Open(ctx context.Context, from dfs.Checkpoint) (dfs.Stream, error) {
	return r.q.open(ctx, r.name, from)
}

// Trim says that the reader no longer needs the transactions up to upTo. It
// never moves the reader back. It does not wait for the disk: should the process
// be killed within some 50 ms, the transactions are held until the next Trim.
func (r *Reader) Trim(ctx context.Context, upTo dfs.Checkpoint) error {
	return r.q.trim(ctx, r.name, upTo)
}

// Open is the Open of the reader "default".
func (q *Queue) Open(ctx context.Context, from dfs.Checkpoint) (dfs.Stream, error) {
	return q.open(ctx, defaultReader, from)
}

// Trim is the Trim of the reader "default".
func (q *Queue) Trim(ctx context.Context, upTo dfs.Checkpoint) error {
	return q.trim(ctx, defaultReader, upTo)
}

func (q *Queue) trim(ctx context.Context, name string, upTo dfs.Checkpoint) error {
	if q.opts.ReadOnly {
		return ctx.Err()
	}
	if err := q.usable(ctx, name); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if upTo.Seq > q.st.whole.seq {
		return gap("reader %q has passed transaction %d, but queue %s ends with %d",
			name, upTo.Seq, q.path, q.st.whole.seq)
	}
	o := q.readers[name]
	if o == nil {
		o = &offset{stored: unstored}
		q.readers[name] = o
	}
	if o.lost {
		if upTo.Seq < q.st.base.seq {
			return nil // its stream will find out
		}
		o.lost, o.stored = false, unstored // in time: what it needs is still there
	}
	if upTo.Seq > o.seq || o.stored == unstored {
		o.seq = max(o.seq, upTo.Seq)
		q.w.nudge()
	}
	return nil
}

// usable checks what every method of a reader needs.
func (q *Queue) usable(ctx context.Context, name string) error {
	if name == "" {
		return errors.New("queue: the reader has no name: give it one")
	}
	select {
	case <-q.closing:
		return ErrClosed
	default:
		return ctx.Err()
	}
}

// register makes the reader hold back what follows seq, durably. Only Trim moves
// a reader forward, so that to look at what is new takes nothing away.
func (q *Queue) register(ctx context.Context, name string, seq uint64) error {
	q.mu.Lock()
	o := q.readers[name]
	held := o != nil && !o.lost && max(o.seq, o.stored) <= seq
	q.mu.Unlock()
	if held {
		return nil
	}
	return q.ask(ctx, func(g *group) error {
		if seq < g.st.base.seq || seq > g.st.whole.seq {
			return q.missing(name, seq, g.st)
		}
		if err := g.exec(g.setReader, name, int64(seq)); err != nil {
			return err
		}
		g.added, g.addedAt = name, seq
		return nil
	})
}

// ask has the writer do something for which no turn is needed.
func (q *Queue) ask(ctx context.Context, do func(*group) error) error {
	done, err := q.w.send(ctx, do, nil)
	if err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-q.w.stopped:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// missing says why a reader that stands at seq cannot go on.
func (q *Queue) missing(name string, seq uint64, st state) error {
	q.mu.Lock()
	o := q.readers[name]
	lost := o != nil && o.lost
	q.mu.Unlock()
	if lost && seq < st.base.seq {
		return gap("reader %q was forgotten after transaction %d, since more than MaxReaderBytes waited for it, and the oldest "+
			"that queue %s still holds is %d; run its target as a pipeline of its own, without this queue: the source's log may still "+
			"have what follows; or make the target a new copy of the source", name, o.seq, q.path, st.base.seq+1)
	}
	if seq > st.whole.seq {
		return gap("reader %q stands after transaction %d, but queue %s ends with %d: the reader is ahead of this queue; "+
			"Reset the queue to where the reader stands", name, seq, q.path, st.whole.seq)
	}
	if seq == 0 {
		// To read the source again would begin where its options say, and leave
		// out what lies between.
		return gap("the target of reader %q has no checkpoint, but transactions up to %d of queue %s were applied: "+
			"it is a new target, or its checkpoint was deleted. If it does hold those rows, write its checkpoint back "+
			"(number %d, position %q). If not, make it a new copy of the source and remove the queue's file; "+
			"or, where other targets read this queue, make it a pipeline of its own, which copies the source's rows first",
			name, st.base.seq, q.path, st.base.seq, st.base.pos)
	}
	return gap("reader %q stands after transaction %d, but the oldest that queue %s still holds is %d; "+
		"put the target back to a newer copy, or remove the queue's file, so that the source is read again "+
		"from where the target stands (and set Keep or KeepFor to hold more)", name, seq, q.path, st.base.seq+1)
}

// A ReaderInfo says how far a reader has come.
type ReaderInfo struct {
	Name string
	Seq  uint64 // the last transaction it has passed
	Lag  uint64 // how many there are beyond

	// Bytes is about how much that takes in the file, as compressed: what would
	// be free if there were no other reader.
	Bytes int64

	// Lost says that the reader was forgotten at MaxReaderBytes. It holds nothing
	// back.
	Lost bool
}

// Readers lists the registered readers by name.
func (q *Queue) Readers(ctx context.Context) ([]ReaderInfo, error) {
	if err := q.usable(ctx, defaultReader); err != nil {
		return nil, err
	}
	if q.opts.ReadOnly {
		if err := q.refresh(ctx); err != nil {
			return nil, err
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.readerInfos(), nil
}

// readerInfos needs q.mu.
func (q *Queue) readerInfos() []ReaderInfo {
	infos := make([]ReaderInfo, 0, len(q.readers))
	for name, o := range q.readers {
		lag := uint64(0)
		if q.st.whole.seq > o.seq {
			lag = q.st.whole.seq - o.seq
		}
		infos = append(infos, ReaderInfo{Name: name, Seq: o.seq, Lag: lag, Bytes: o.waits(&q.st), Lost: o.lost})
	}
	slices.SortFunc(infos, func(a, b ReaderInfo) int { return cmp.Compare(a.Name, b.Name) })
	return infos
}

// Forget ends the registration of a reader, so that it holds nothing back. If it
// is still running, its next Open or Trim registers it again.
func (q *Queue) Forget(ctx context.Context, name string) error {
	if err := q.writable(); err != nil {
		return err
	}
	if err := q.usable(ctx, name); err != nil {
		return err
	}
	q.mu.Lock()
	_, known := q.readers[name]
	var names []string
	for _, r := range q.readerInfos() {
		names = append(names, strconv.Quote(r.Name))
	}
	q.mu.Unlock()
	if !known {
		return fmt.Errorf("queue %s: forget reader %q: there is none; the readers are %s", q.path, name,
			cmp.Or(strings.Join(names, ", "), "none"))
	}
	return q.ask(ctx, func(g *group) error {
		_, err := g.conn.ExecContext(context.Background(), "DELETE FROM mark WHERE name = ?", name)
		g.removed, g.more = name, time.Now()
		return wrap(q.path, "forget a reader", err)
	})
}

// readOffsets reads how far the readers have come.
func readOffsets(ctx context.Context, path string, c querier) (map[string]*offset, error) {
	rows, err := c.QueryContext(ctx, "SELECT name, seq, part FROM mark WHERE name <> ''")
	if err != nil {
		return nil, wrap(path, "read the readers", err)
	}
	defer rows.Close()
	m := make(map[string]*offset)
	for rows.Next() {
		var name string
		var o offset
		if err := rows.Scan(&name, &o.seq, &o.lost); err != nil {
			return nil, wrap(path, "read the readers", err)
		}
		o.stored = o.seq
		m[name] = &o
	}
	return m, wrap(path, "read the readers", rows.Err())
}

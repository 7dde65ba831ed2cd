package sink

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/dataflowsync/dfs"
)

// A feed is what is applied in turns.
type feed struct {
	batch []*dfs.Transaction        // not yet cut into turns; in the end, what is to go the ordinary way
	next  func() []*dfs.Transaction // returns more, if there is some; nil: there never is
	done  func(seq uint64) error    // told of what is committed; may be nil
	odd   []*dfs.Transaction        // came of next, and must not go in turns
	last  uint64                    // number of the last transaction that came
	each  int                       // work of a turn

	way    []*turn // planned and not settled, in order; the first few are given to workers
	queue  []*turn // of those, the ones that are yet to be given
	recent []*turn // the last ones planned
	before <-chan struct{}
	base   uint64 // where the checkpoint stands before the next turn

	planned int
	given   int
}

// inTurns applies whole transactions by several connections, and returns how many
// it has applied. Those after them are to go the ordinary way.
func (m *MySQL) inTurns(ctx context.Context, batch []*dfs.Transaction) (int, error) {
	f := &feed{batch: batch}
	err := m.feedTurns(ctx, f)
	return len(batch) - len(f.batch), err
}

// ApplyEach applies batches that follow one another: see dfs.Overlapper. While rows of one
// are written, those of the next are.
func (m *MySQL) ApplyEach(ctx context.Context, next func() []*dfs.Transaction, done func(seq uint64) error) error {
	for batch := next(); len(batch) > 0; batch = next() {
		f := &feed{batch: batch, next: next, done: done}
		tried := m.admits(batch, m.at)
		if tried {
			if err := m.feedTurns(ctx, f); errors.As(err, new(*doneError)) {
				return errors.Unwrap(err)
			} else if err != nil {
				return m.lost(ctx, m.stands.tried(m.fail(ctx, f.batch, false, err)))
			}
		}
		if len(f.batch) == 0 {
			continue
		}
		last := f.batch[len(f.batch)-1].Seq
		m.crew.skip = tried && f.odd == nil
		err := m.Apply(ctx, f.batch)
		m.crew.skip = false
		if err != nil {
			return err
		}
		if err := done(last); err != nil {
			return err
		}
	}
	return nil
}

// doneError is an error of feed.done.
type doneError struct{ error }

func (e *doneError) Unwrap() error { return e.error }

// admits reports whether a batch that follows the number after holds nothing but rows that
// may go in turns, as far as can be told without a look at their tables.
func (m *MySQL) admits(batch []*dfs.Transaction, after uint64) bool {
	if m.sess == nil || m.owner == "" || m.replace {
		return false
	}
	for i, tx := range batch {
		if tx.Seq != after+1+uint64(i) || tx.Snapshot || tx.Copied || tx.More || tx.State != "" {
			return false
		}
		for j := range tx.Changes {
			if tx.Changes[j].Op == dfs.DDL {
				return false
			}
		}
	}
	return true
}

// feedTurns applies what it can of a feed in turns. What is left in f.batch is not applied.
func (m *MySQL) feedTurns(ctx context.Context, f *feed) error {
	c := &m.crew
	total := 0
	for _, tx := range f.batch {
		if tx.Snapshot || tx.Copied {
			return nil
		}
		total += workOf(tx)
	}
	n := min(total/c.worth(), 2*len(c.workers))
	if !c.used.IsZero() && time.Since(c.used) > idleWriters {
		m.disband() // before the server ends connections that nobody uses
	}
	if c.skip || n < 2 || len(c.workers) < 2 || m.open || m.intent != nil || len(wholeOnes(f.batch[:len(f.batch)-1])) == 0 {
		return nil
	}
	if c.pause > 0 && !c.eager {
		c.pause--
		return nil
	}
	if err := m.openWorkers(ctx); err != nil || len(c.workers) < 2 {
		return err
	}
	c.used, m.copied = time.Now(), false
	f.each, f.last, f.base = (total+n-1)/n, f.batch[len(f.batch)-1].Seq, m.stands.at.Seq
	err := m.takeTurns(ctx, f)
	switch {
	case errors.Is(err, errNotInTurns):
		c.backoff = min(max(2*c.backoff, 1), mostPause)
		c.pause = c.backoff
		err = nil
	case err == nil && f.given > 0:
		c.backoff = 0
	}
	return err
}

// takeTurns applies runs of a feed. None is under way any more when it returns, and what was
// not applied is in f.batch. If it could have gone on, the error is why it did not.
func (m *MySQL) takeTurns(ctx context.Context, f *feed) error {
	c := &m.crew
	c.orders = make(map[*table]string)
	stop := make(chan struct{})
	halt := sync.OnceFunc(func() { close(stop) })
	todo := make([]chan *turn, len(c.workers))
	var wg sync.WaitGroup
	for i, w := range c.workers {
		todo[i] = make(chan *turn)
		wg.Go(func() {
			for t := range todo[i] {
				if t.err = w.take(ctx, t, stop); t.err != nil {
					halt()
				}
			}
		})
	}
	begun := make(chan struct{})
	close(begun)
	f.before = begun
	err := m.settleTurns(ctx, f)
	for err == nil {
		if err = m.planTurns(ctx, f); err != nil {
			break
		}
		var to chan *turn // nil: none is to be given
		var t *turn
		// The first begins once it is known that the second can go beside it.
		if f.planned > 1 && len(f.queue) > 0 {
			to, t = todo[f.given%len(todo)], f.queue[0]
		}
		var committed chan struct{} // nil: none is on its way
		if len(f.way) > len(f.queue) {
			committed = f.way[0].committed
		}
		if to == nil && committed == nil {
			break
		}
		halted := false
		select {
		case to <- t:
			f.queue, f.given = f.queue[1:], f.given+1
		case <-committed:
			err = m.settleTurns(ctx, f)
		case <-stop:
			halted = true
		}
		if halted {
			break
		}
	}
	for _, c := range todo {
		close(c)
	}
	wg.Wait()
	if e := m.settleTurns(ctx, f); err == nil {
		err = e
	}
	var rest []*dfs.Transaction
	for _, t := range f.way {
		rest = append(rest, t.run...)
	}
	f.batch = slices.Concat(rest, f.batch, f.odd)
	if errors.As(err, new(*doneError)) {
		return err
	}
	for _, t := range f.way {
		if t.err == nil {
			continue
		}
		switch {
		case ctx.Err() != nil, t.open, errors.Is(t.err, dfs.ErrTransient) && serverError(t.err) == 0:
			// A connection is lost, or it is not known what has become of a COMMIT. A context
			// that has ended goes before what one run met, which the ordinary way might not.
			m.disband()
			return cmp.Or(ctx.Err(), t.err)
		case t.err != errHalted:
			m.stats.fallbacks.Add(1)
			m.log.Debug("applying runs by one connection", "from", t.run[0].Seq, "cause", t.err)
			return errNotInTurns
		}
	}
	if err != nil && !errors.Is(err, dfs.ErrTransient) {
		return errNotInTurns // the ordinary way tells what is wrong
	}
	return err
}

// settleTurns counts the turns that are committed, and tells whoever wants to know.
func (m *MySQL) settleTurns(ctx context.Context, f *feed) error {
	settled := false
	for len(f.way) > 0 && f.way[0].isCommitted() {
		t := f.way[0]
		m.at = t.run[len(t.run)-1].Seq
		m.committed(t.run)
		m.stats.turns.Add(1)
		m.count(t.run, t.list)
		if f.next != nil {
			clear(t.run) // the rest of its array may be needed for long
		}
		t.run, t.list, t.early, t.late = nil, nil, nil, nil // keys and tables are still asked for
		f.way[0] = nil
		f.way, settled = f.way[1:], true
	}
	if !settled {
		return nil
	}
	for _, w := range m.crew.workers {
		m.stats.statements.Add(w.stats.statements.Swap(0))
	}
	if f.done != nil {
		if err := f.done(m.at); err != nil {
			return &doneError{err}
		}
	}
	if m.crew.used = time.Now(); m.sess != nil && time.Since(m.crew.awake) > stayAwake {
		m.crew.awake = time.Now()
		_, err := m.exec(ctx, []byte("DO 0"))
		return err
	}
	return nil
}

// planTurns cuts and plans turns, so that the next can begin when a worker is done.
func (m *MySQL) planTurns(ctx context.Context, f *feed) error {
	for len(f.queue) == 0 || f.planned < 2 {
		size := m.cutTurn(f)
		if size == 0 {
			return nil
		}
		workers := len(m.crew.workers)
		t := &turn{run: f.batch[:size:size], before: f.before, committed: make(chan struct{}), keys: m.crew.room(f.planned, workers)}
		if err := m.plan(ctx, t, f.base, f.recent); err != nil {
			return err
		}
		if f.planned > 0 && 2*len(t.late) > len(t.list) && (f.planned == 1 || f.next != nil) && !m.crew.eager {
			return errNotInTurns // merging does more for them
		}
		f.batch = f.batch[size:]
		f.base, f.before, f.planned = t.run[size-1].Seq, t.committed, f.planned+1
		f.way, f.queue = append(f.way, t), append(f.queue, t)
		if f.recent = append(f.recent, t); len(f.recent) >= workers {
			f.recent = f.recent[1:]
		}
	}
	return nil
}

// cutTurn returns how many transactions of f.batch are the next turn; 0 if there is none, or
// none yet.
func (m *MySQL) cutTurn(f *feed) int {
	size, work := 0, 0
	for {
		for size < len(f.batch) && (work < f.each || f.batch[size-1].More) {
			work += workOf(f.batch[size])
			size++
		}
		if work >= f.each || f.next == nil || f.odd != nil {
			break
		}
		more := f.next()
		if len(more) == 0 {
			break
		}
		if !m.admits(more, f.last) {
			f.odd = more
			break
		}
		f.last = more[len(more)-1].Seq
		f.batch = append(f.batch[:len(f.batch):len(f.batch)], more...)
		total := 0
		for _, tx := range f.batch {
			total += workOf(tx)
		}
		f.each = max(f.each, total/(2*len(m.crew.workers)))
	}
	if f.next != nil && work < m.crew.worth() {
		return 0 // it waits for more, or goes the ordinary way
	}
	return size
}

// workOf returns about how much the server has to do for a transaction, in changes of small
// rows: a kilobyte takes it as long as one of these. Of a transaction of many changes a few tell.
func workOf(tx *dfs.Transaction) int {
	const few = 16
	n := len(tx.Changes)
	if n <= few {
		return max(n, tx.Size()>>10)
	}
	some := dfs.Transaction{Changes: make([]dfs.Change, few)}
	for i := range some.Changes {
		some.Changes[i] = tx.Changes[i*n/few]
	}
	return max(n, some.Size()/few*n>>10)
}

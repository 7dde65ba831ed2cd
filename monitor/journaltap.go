package monitor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dataflowsync/dfs"
)

// Watch makes the journal keep what becomes of the pipeline's transactions, under
// the given name. Call it before Run, and after all that changes the Pipeline's
// Stages or Observe. It puts something before and behind each Stage, which changes
// neither what the stages do nor what errors call them.
//
// A pipeline whose Sink is a dfs.Queue carries transactions that are not decoded,
// so it cannot be watched: watch the one that reads the queue.
func (j *Journal) Watch(name string, p *dfs.Pipeline) error {
	_, queue := p.Sink.(dfs.Queue)
	watching := slices.ContainsFunc(p.Stages, func(s dfs.Stage) bool { _, ok := s.(*tap); return ok })
	switch {
	case name == "":
		return errors.New("monitor: the journal needs a name for the pipeline")
	case j.opts.ReadOnly:
		return fmt.Errorf("monitor: the journal %s is open for reading; open it without ReadOnly to keep what becomes of %q", j.path, name)
	case queue && len(p.Stages) == 0:
		return fmt.Errorf("monitor: the pipeline %q only fills a queue; let the journal watch the one that reads the queue", name)
	case watching:
		return fmt.Errorf("monitor: a journal watches the pipeline %q already", name)
	}
	w := &tapped{j: j, p: p, name: name, hidden: make(map[*dfs.Table]*hidden)}
	stages := p.Stages
	if len(stages) == 0 {
		stages = []dfs.Stage{nil} // one that does nothing but to tell the journal
	}
	w.names = []string{"received"}
	for i, s := range stages {
		t := &tap{w: w, stage: s, n: i, last: i == len(stages)-1}
		w.taps = append(w.taps, t)
		if s != nil {
			w.names = append(w.names, kindOf(s))
		}
	}
	p.Stages = make([]dfs.Stage, len(w.taps))
	for i, t := range w.taps {
		p.Stages[i] = t
	}
	before := p.Observe
	p.Observe = func(b dfs.Batch) {
		if before != nil {
			before(b)
		}
		if b.Leg == "apply" {
			w.observe(b)
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.watched = append(j.watched, w)
	return nil
}

// kindOf names the type of a part.
func kindOf(p any) string { return strings.TrimPrefix(fmt.Sprintf("%T", p), "*") }

// A tap is a stage that tells the journal what goes into another and comes out.
type tap struct {
	w     *tapped
	stage dfs.Stage // nil: there is none
	n     int       // 0 for the first
	last  bool
}

// Process does what the stage does.
func (t *tap) Process(ctx context.Context, batch []*dfs.Transaction) error {
	if t.n == 0 {
		t.w.begin(batch)
	}
	if t.stage != nil {
		if err := t.stage.Process(ctx, batch); err != nil {
			t.w.refused(batch, t.n, err)
			return err
		}
		t.w.step(batch, t.n+1)
	}
	if t.last {
		t.w.end()
	}
	return nil
}

// Pass does what the stage does, if it wants to know of what is stepped over.
func (t *tap) Pass(ctx context.Context, at dfs.Checkpoint) error {
	if p, ok := t.stage.(dfs.Passer); ok {
		return p.Pass(ctx, at)
	}
	return nil
}

// Step does what the stage does, and keeps what somebody wanted to be skipped, and what
// depends on a dead letter. What was refused is kept already.
func (t *tap) Step(ctx context.Context, tx *dfs.Transaction, why error) error {
	var parked *dfs.ParkedError
	whole := false
	switch {
	case errors.As(why, &parked):
		if whole = !tx.More && !t.w.inParts; t.n == 0 {
			t.w.park(tx, whole, parked)
		}
		if t.last {
			t.w.inParts = tx.More
		}
	case t.n == 0 && errors.Is(why, dfs.ErrSkipped):
		t.w.skipped(tx)
	}
	if _, ok := t.stage.(dfs.Stepper); whole && !ok {
		return nil // it comes to Process
	}
	if s, ok := t.stage.(dfs.Stepper); ok {
		return s.Step(ctx, tx, why)
	}
	return t.Pass(ctx, tx.Checkpoint)
}

// untapped returns the stage that a pipeline was given, or nil if it was given
// none.
func untapped(s dfs.Stage) dfs.Stage {
	if t, ok := s.(*tap); ok {
		return t.stage
	}
	return s
}

// A tapped is a pipeline that a journal watches.
type tapped struct {
	j     *Journal
	p     *dfs.Pipeline
	name  string
	names []string // of the steps: "received", and what each stage is
	taps  []*tap

	// suspect is up to which Seq transactions failed together, and so come again
	// one by one. They are kept, whatever the level.
	suspect atomic.Uint64

	// kept is the Seq of the last that was refused and kept, or 0. It comes at least
	// twice, with others and alone, and again after each start.
	kept atomic.Uint64

	// These belong to the goroutine that runs the stages.
	now    *entry // being filled; nil if nothing of the batch is kept
	pick   []int  // which transactions of the batch it holds
	flat   []dfs.Change
	hidden map[*dfs.Table]*hidden

	// parked are those that come next without their changes, which became dead letters,
	// and inParts says that a part of one has come whose last has not.
	parked  map[*dfs.Transaction]parkedTx
	inParts bool

	mu      sync.Mutex
	pending []*entry // whose outcome is not known, by Seq
	held    int      // bytes of these
}

// A parkedTx is what a transaction was before it became a dead letter.
type parkedTx struct {
	changes []dfs.Change // of the letter, which is stored after the stages
	why     string
}

// park is told of a transaction that depends on a dead letter, or a part of one. If it
// came whole, it comes next among others.
func (w *tapped) park(tx *dfs.Transaction, whole bool, why *dfs.ParkedError) {
	if w.parked == nil {
		w.parked = make(map[*dfs.Transaction]parkedTx)
	}
	w.parked[tx] = parkedTx{tx.Changes, why.Error()}
	if whole {
		return
	}
	w.forget(tx.Seq)
	w.pick = append(w.pick[:0], 0)
	w.enter([]*dfs.Transaction{tx}, false)
	w.end()
	clear(w.parked)
}

// begin is told of a batch before the first stage.
func (w *tapped) begin(batch []*dfs.Transaction) {
	defer clear(w.parked)
	w.inParts = false
	w.now, w.pick = nil, w.pick[:0]
	suspect, all := w.suspect.Load(), w.j.opts.Level == JournalAll
	sample := uint64(0)
	if w.j.opts.Level == JournalSampled {
		sample = uint64(w.j.opts.Sample)
	}
	if len(w.parked) > 0 {
		suspect = 0 // if one is refused among them, it comes again without them
	}
	wanted := all || len(w.parked) > 0
	for i, tx := range batch {
		sampled := sample > 0 && tx.Seq%sample == 0
		wanted = wanted || sampled
		if all || sampled || tx.Seq <= suspect || len(w.parked) > 0 && w.parked[tx].why != "" {
			w.pick = append(w.pick, i)
		}
	}
	// A session that begins anew repeats what came after the sink's checkpoint.
	w.forget(batch[0].Seq)
	if len(w.pick) == 0 {
		return
	}
	w.enter(batch, !wanted)
}

// skipped is told of a transaction, or a part of one, that is stepped over. That it was
// shows once the sink has come past it.
func (w *tapped) skipped(tx *dfs.Transaction) {
	w.forget(tx.Seq)
	w.pick = append(w.pick[:0], 0)
	w.enter([]*dfs.Transaction{tx}, false)
	w.now.skipped = true
	w.end()
}

// enter begins the entry of the transactions that are picked.
func (w *tapped) enter(batch []*dfs.Transaction, wary bool) {
	e := &entry{pipeline: w.name, level: w.j.opts.Level, read: time.Now(), txs: make([]txHead, len(w.pick)), names: w.names, wary: wary}
	e.first, e.last = batch[w.pick[0]].Seq, batch[w.pick[len(w.pick)-1]].Seq
	for k, i := range w.pick {
		tx := batch[i]
		// Strings may alias a block of the queue, which they would keep in memory.
		e.txs[k] = txHead{seq: tx.Seq, id: strings.Clone(tx.ID), pos: strings.Clone(string(tx.Pos)), committed: tx.Committed, more: tx.More, snapshot: tx.Snapshot,
			parked: w.parked[tx].why}
		e.keys = append(e.keys, hashID(tx.ID))
	}
	w.now = e
	w.step(batch, 0)
}

// step notes what the transactions are behind the n-th stage; 0 is before the
// first.
func (w *tapped) step(batch []*dfs.Transaction, n int) {
	e := w.now
	if e == nil {
		return
	}
	w.flat = w.flat[:0]
	counts := make([]int, len(w.pick))
	for k, i := range w.pick {
		changes := batch[i].Changes
		if p, ok := w.parked[batch[i]]; ok && n == 0 {
			changes = p.changes
		}
		counts[k] = len(changes)
		for c := range changes {
			w.flat = append(w.flat, w.masked(e, &changes[c], n))
		}
	}
	s := step{counts: counts, data: dfs.AppendChanges(nil, w.flat)}
	if n > 0 {
		prev := &e.steps[len(e.steps)-1]
		s.same = string(prev.data) == string(s.data) && slices.Equal(prev.counts, s.counts)
	}
	if s.same {
		s.data = e.steps[len(e.steps)-1].data
	} else {
		for i := range w.flat {
			e.keys = appendKeys(e.keys, &w.flat[i])
		}
	}
	clear(w.flat)
	e.steps = append(e.steps, s)
}

// end is told that the stages are done with the batch.
func (w *tapped) end() {
	if w.now == nil {
		return
	}
	w.mu.Lock()
	w.now.held = w.now.size()
	w.held += w.now.held
	w.pending = append(w.pending, w.now)
	w.now = nil
	// Invariant I6: the outcome of parts is known when their last one is applied, and
	// there may be any number of them. Of too many the oldest go, so that one that is
	// refused is kept.
	n, txs := 0, 0
	for w.held > w.j.opts.Buffer && n < len(w.pending)-1 {
		w.held -= w.pending[n].held
		txs += len(w.pending[n].txs)
		n++
	}
	w.pending = slices.Delete(w.pending, 0, n)
	w.mu.Unlock()
	if txs > 0 {
		w.j.mu.Lock()
		w.j.drop(txs, nil)
		w.j.mu.Unlock()
	}
}

// take takes the first n out of pending. w.mu is held.
func (w *tapped) take(n int) {
	for _, e := range w.pending[:n] {
		w.held -= e.held
	}
	w.pending = slices.Delete(w.pending, 0, n)
}

// forget drops what is known of transactions from the given one on.
func (w *tapped) forget(from uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, e := range w.pending {
		if e.first >= from {
			for _, gone := range w.pending[i:] {
				w.held -= gone.held
			}
			clear(w.pending[i:])
			w.pending = w.pending[:i]
			return
		}
		if e.last >= from {
			e.cut(from)
		}
	}
}

// refused is told of the error of the n-th stage.
func (w *tapped) refused(batch []*dfs.Transaction, n int, err error) {
	e := w.now
	w.now = nil
	switch {
	case passes(err):
	case len(batch) > 1 || e == nil || !w.alone(batch[0].Seq):
		w.suspect.Store(max(w.suspect.Load(), batch[len(batch)-1].Seq)) // they come again, one by one
	default:
		e.fail(w.j.redact(fmt.Sprintf("stage %d: %v", n+1, err)))
		w.j.add([]*entry{e})
	}
}

// alone reports whether a transaction that was refused by itself will not come again
// before somebody does something about it. The engine repeats alone what has failed,
// also if that was one transaction only.
func (w *tapped) alone(seq uint64) bool {
	if seq > w.suspect.Load() || w.kept.CompareAndSwap(seq, 0) {
		return false
	}
	w.kept.Store(seq)
	return true
}

// passes reports whether an error is not that of a transaction.
func passes(err error) bool {
	return errors.Is(err, dfs.ErrTransient) || errors.Is(err, dfs.ErrConflict) || errors.Is(err, dfs.ErrGap) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// observe is told what the sink has made of a batch.
func (w *tapped) observe(b dfs.Batch) {
	alone := b.Err != nil && !passes(b.Err) && b.Transactions == 1 && w.alone(b.To.Seq)
	upTo := b.To.Seq
	if b.Err != nil {
		if upTo = b.From.Seq; !passes(b.Err) && !alone {
			w.suspect.Store(max(w.suspect.Load(), b.To.Seq)) // they come again, one by one
		}
	}
	w.mu.Lock()
	done := w.applied(upTo)
	// What is refused alone comes with the parts before it.
	for alone && len(w.pending) > 0 && w.pending[0].last <= b.To.Seq {
		w.pending[0].fail(w.j.redact(b.Err.Error()))
		done = append(done, w.pending[0])
		w.take(1)
	}
	w.mu.Unlock()
	if len(done) > 0 {
		w.j.add(done)
	}
}

// applied takes out of pending what the sink has applied, as it stands at the given
// Seq. w.mu is held.
func (w *tapped) applied(upTo uint64) []*entry {
	n := 0
	for i, e := range w.pending {
		if e.last > upTo {
			break
		}
		if !e.txs[len(e.txs)-1].more {
			n = i + 1 // before that, parts whose last is yet to come
		}
	}
	now := time.Now()
	var done []*entry
	for _, e := range w.pending[:n] {
		if e.at = now; e.skipped {
			e.fail(skippedText)
		}
		if !e.wary {
			done = append(done, e)
		}
	}
	w.take(n)
	return done
}

// skippedText is the error of what was skipped.
const skippedText = "skipped, as somebody asked"

// settle takes over what sinks have applied without having said so, as where the
// reply to a commit was lost.
func (j *Journal) settle() {
	j.mu.Lock()
	list := slices.Clone(j.watched)
	j.mu.Unlock()
	for _, w := range list {
		at := w.p.Stats().Apply.At.Seq
		w.mu.Lock()
		done := w.applied(at)
		w.mu.Unlock()
		if len(done) > 0 {
			j.add(done)
		}
	}
}

// hidden says of a table, as it is at a step, which columns are not written down.
type hidden struct {
	columns [][]int      // by step
	tables  []*dfs.Table // the same table, in which these are text
}

// hide returns the columns of a table that are not to be written down before the
// stage n, and the table as it is written down.
func (w *tapped) hide(t *dfs.Table, n int) ([]int, *dfs.Table) {
	h := w.hidden[t]
	if h == nil {
		if len(w.hidden) > 10_000 {
			clear(w.hidden) // tables that were altered since
		}
		h = &hidden{make([][]int, len(w.names)), make([]*dfs.Table, len(w.names))}
		w.hidden[t] = h
	}
	if h.tables[n] != nil {
		return h.columns[n], h.tables[n]
	}
	var names []string
	for _, tap := range w.taps[min(n, len(w.taps)):] {
		if s, ok := tap.stage.(dfs.Hider); ok {
			names = append(names, s.Hides(t)...)
		}
	}
	h.tables[n] = t
	for i, c := range t.Columns {
		if !w.j.masked(t, c.Name) && !slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(name, c.Name) }) {
			continue
		}
		if h.columns[n] == nil {
			plain := *t
			plain.Columns = slices.Clone(t.Columns)
			h.tables[n] = &plain
		}
		h.columns[n] = append(h.columns[n], i)
		h.tables[n].Columns[i] = dfs.Column{Name: c.Name, Type: "varchar(64)", Charset: "utf8mb4", Collation: "utf8mb4_bin", Nullable: c.Nullable}
	}
	return h.columns[n], h.tables[n]
}

// maskedText stands for a value that is not written down.
const maskedText = "•••"

// masked returns a change as it is written down.
func (w *tapped) masked(e *entry, c *dfs.Change, n int) dfs.Change {
	out := *c
	if c.Table == nil || c.Op == dfs.DDL {
		return out
	}
	columns, table := w.hide(c.Table, n)
	if len(columns) == 0 {
		return out
	}
	out.Table = table
	for _, r := range [2]*dfs.Row{&out.Before, &out.After} {
		if *r == nil {
			continue
		}
		row := slices.Clone(*r)
		for _, i := range columns {
			if i >= len(row) || row[i].IsNull() || row[i].Kind() == dfs.Absent {
				continue
			}
			if len(e.txs) == 1 { // it may be one that fails, with an error that has the value
				e.secrets = append(e.secrets, strings.Clone(row[i].String()))
			}
			row[i] = dfs.StringValue(maskedText)
		}
		*r = row
	}
	return out
}

// appendKeys appends what the row of a change can be found by: a hash of its
// table and its primary key, before and after.
func appendKeys(keys []uint64, c *dfs.Change) []uint64 {
	if c.Table == nil || len(c.Table.Key) == 0 {
		return keys
	}
	had := len(keys)
	for _, r := range [2]dfs.Row{c.Before, c.After} {
		if k, ok := hashRow(c.Table, r); ok && !slices.Contains(keys[had:], k) {
			keys = append(keys, k)
		}
	}
	return keys
}

// hashRow hashes a row's table and primary key, as hashKey does.
func hashRow(t *dfs.Table, r dfs.Row) (uint64, bool) {
	if len(r) < len(t.Columns) {
		return 0, false
	}
	h := hashName(fnvBegin, t.Schema)
	h = hashName(hashByte(h, '.'), t.Name)
	var room [32]byte
	for _, i := range t.Key {
		if r[i].Kind() == dfs.Absent {
			return 0, false
		}
		h = hashByte(h, 0)
		if text := r[i].Text(); text != "" {
			h = hashText(h, text)
			continue
		}
		for _, b := range r[i].Append(room[:0]) {
			h = hashByte(h, b)
		}
	}
	return h, true
}

// hashKey hashes the name of a table and the texts of a key's values.
func hashKey(schema, table string, key []string) uint64 {
	h := hashName(fnvBegin, schema)
	h = hashName(hashByte(h, '.'), table)
	for _, k := range key {
		h = hashText(hashByte(h, 0), k)
	}
	return h
}

// hashID hashes the name of a transaction.
func hashID(id string) uint64 { return hashText(hashByte(fnvBegin, 1), id) }

// FNV-1a, without an allocation for each hash.
const (
	fnvBegin = 14695981039346656037
	fnvPrime = 1099511628211
)

func hashByte(h uint64, b byte) uint64 { return (h ^ uint64(b)) * fnvPrime }

func hashText(h uint64, s string) uint64 {
	for i := range len(s) {
		h = hashByte(h, s[i])
	}
	return h
}

// hashName hashes a name whatever the case of its letters.
func hashName(h uint64, s string) uint64 {
	for i := range len(s) {
		b := s[i]
		if 'A' <= b && b <= 'Z' {
			b += 'a' - 'A'
		}
		h = hashByte(h, b)
	}
	return h
}

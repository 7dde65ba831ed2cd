package sink

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/failpoint"
	"github.com/dataflowsync/dfs/internal/files"
	"github.com/dataflowsync/dfs/internal/txrun"
)

// A segmentWriter writes the last segment, which is not sealed.
type segmentWriter struct {
	f     files.File
	seg   *segment
	key   *segmentKey
	hash  hash.Hash // of what is written
	size  int64
	safe  int64 // the end of the last record that ends with a whole transaction
	group uint64
	raw   int64  // of its blocks, before compression
	buf   []byte // room for a record
}

// store writes a batch to the segment, and waits for the disk.
func (a *Archive) store(ctx context.Context, batch []*dfs.Transaction) error {
	if a.w == nil || a.full() {
		if err := a.sealSegment(ctx); err != nil {
			return err
		}
		if err := a.begin(); err != nil {
			return err
		}
	}
	runs, err := a.encode(ctx, batch)
	if err != nil {
		return fmt.Errorf("archive %s: %w", a.dir, err)
	}
	w := a.w
	from := w.size
	var heads []record
	for i := range runs {
		r := &runs[i].record
		r.off = w.size
		err = w.write(r, runs[i].body)
		if err != nil {
			break
		}
		heads = append(heads, *r)
	}
	whole := runs[len(runs)-1].whole
	durable := err == nil && whole > a.whole.Seq
	if durable {
		failpoint.Hit("archive.write")
		w.group++ // as encode has written it, and the parts before it
		// Invariant I1: rows and checkpoint are one record, and this makes it durable.
		if err = w.f.Sync(); err != nil {
			return a.unsure(err)
		}
		failpoint.Hit("archive.synced")
	}
	if err != nil {
		return a.undo(from, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	w.seg.size = w.size
	w.seg.records = append(w.seg.records, heads...)
	for _, r := range heads {
		w.raw += int64(r.raw)
		a.count.RawBytes += uint64(r.raw)
		a.count.StoredBytes += uint64(r.size) + recordLen
		if r.last == r.whole {
			w.safe = r.end()
		}
	}
	a.count.Transactions += uint64(len(batch))
	tx := batch[len(batch)-1]
	a.last = placeOf(tx)
	if !durable {
		return nil
	}
	a.count.Commits++
	for _, tx := range batch {
		if tx.State != "" && tx.Seq <= whole {
			a.state = tx.State
		}
		if tx.Snapshot && tx.Seq <= whole {
			a.chain.came(tx)
		}
		if tx.Copied && tx.Seq <= whole {
			if a.chain.copied(tx, a.now(), a.segs[0].isOrigin()); a.chain.awaits() {
				a.log.Warn("a copy of rows has ended that is not the one of the archive's baseline, which is not whole yet", "archive", a.dir, "transaction", tx.Seq)
			}
		}
		if tx.Seq == whole {
			a.whole = placeOf(tx)
		}
	}
	w.seg.whole = whole
	a.signal()
	return nil
}

func placeOf(tx *dfs.Transaction) place {
	p := place{Checkpoint: dfs.Checkpoint{Seq: tx.Seq, Pos: tx.Pos}, id: tx.ID}
	if !tx.Committed.IsZero() {
		p.committed = tx.Committed.UnixMicro()
	}
	return p
}

// copied notes that a copy of rows is whole with a transaction. The first copy of an
// archive, which origin says it is, needs no Baseline before it.
func (c *chainBody) copied(tx *dfs.Transaction, at time.Time, origin bool) {
	if len(c.Baselines) == 0 && origin {
		c.Baselines = []baseline{{Segment: 1}}
	}
	n := len(c.Baselines)
	if n == 0 || c.Baselines[n-1].Done > 0 || c.Baselines[n-1].Failed {
		return
	}
	list := slices.Clone(c.Baselines) // others may hold the old one
	c.Baselines = list
	b := &list[n-1]
	switch {
	case unfinished(tx.Pos):
		b.Failed = true
		return
	case b.Other:
		b.Other, b.Missing = false, c.names()
		return
	case len(b.Missing) > 0:
		return // a table that was copied alone
	}
	list[n-1].Done, list[n-1].DoneAt = tx.Seq, at.UnixMicro()
}

// came notes that rows of a copy have come. Package cdc names the table in their
// transaction's ID; a source that does not has each copy taken for one of all tables.
func (c *chainBody) came(tx *dfs.Transaction) {
	n := len(c.Baselines)
	if !c.awaits() || tx.ID == "snapshot" {
		return
	}
	list := slices.Clone(c.Baselines) // others may hold the old one
	c.Baselines = list
	b := &list[n-1]
	if table, ok := strings.CutPrefix(tx.ID, "snapshot "); ok {
		b.Missing = slices.DeleteFunc(slices.Clone(b.Missing), func(t string) bool { return strings.EqualFold(t, table) })
	} else {
		b.Missing, b.Other = nil, false
	}
}

// awaits reports whether the end of a copy would not make the last baseline whole.
func (c *chainBody) awaits() bool {
	n := len(c.Baselines)
	return n > 0 && c.Baselines[n-1].Done == 0 && !c.Baselines[n-1].Failed && (c.Baselines[n-1].Other || len(c.Baselines[n-1].Missing) > 0)
}

// names returns the tables of the last baseline.
func (c *chainBody) names() (list []string) {
	for _, d := range c.Defined {
		list = append(list, d.Table.String())
	}
	return list
}

// unfinished reports whether a position at the end of a copy still has some of the
// copy in it. That is how package cdc says that tables have failed, whose changes it
// then leaves out until they are copied anew: see cdc.Position.Copy.
func unfinished(p dfs.Position) bool { return strings.Contains(string(p), " copy:") }

// write appends a record.
func (w *segmentWriter) write(r *record, body []byte) error {
	w.buf = append(append(w.buf[:0], r.encode()...), body...)
	if _, err := w.f.WriteAt(w.buf, w.size); err != nil {
		return err
	}
	w.hash.Write(w.buf)
	w.size += int64(len(w.buf))
	if cap(w.buf) > 4*runBytes {
		w.buf = nil
	}
	return nil
}

// undo takes back what was written from an offset on, after an error of writing it.
func (a *Archive) undo(from int64, err error) error {
	if e := a.cut(from); e != nil {
		a.broken = fmt.Errorf("archive %s: write: %w; and it could not be taken back: %w", a.dir, err, e)
		return a.broken
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return dfs.Transient(fmt.Errorf("archive %s: write: the disk is full: %w", a.dir, err))
	}
	return dfs.Transient(fmt.Errorf("archive %s: write: %w", a.dir, err))
}

// cut shortens the segment that is being written, and reads it anew for its hash.
func (a *Archive) cut(to int64) error {
	w := a.w
	if err := w.f.Truncate(to); err != nil {
		return err
	}
	w.hash = sha256.New()
	if err := hashFile(w.hash, w.f, to); err != nil {
		return err
	}
	w.size = to
	if err := w.f.Sync(); err != nil {
		return a.unsure(err)
	}
	return nil
}

// unsure ends all writing after a failed fsync, as nobody knows what is on the disk:
// Linux takes pages for clean that it could not write.
func (a *Archive) unsure(err error) error {
	a.broken = fmt.Errorf("archive %s: the disk did not confirm a write; restart once it is sound: %w", a.dir, err)
	return a.broken
}

// dropParts cuts off the parts of a transaction whose end has not come.
func (a *Archive) dropParts() error {
	w := a.w
	if w == nil || w.safe == w.size {
		return nil
	}
	if err := a.cut(w.safe); err != nil {
		return fmt.Errorf("archive %s: drop the parts of a transaction: %w", a.dir, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for n := len(w.seg.records); n > 0 && w.seg.records[n-1].off >= w.safe; n-- {
		w.seg.records = w.seg.records[: n-1 : n-1]
	}
	w.seg.size = w.size
	a.last = a.whole
	return nil
}

// full reports whether the segment is to be sealed before anything more is written.
func (a *Archive) full() bool {
	w := a.w
	if w.safe != w.size || len(w.seg.records) == 0 {
		return false
	}
	age := a.now().Sub(time.UnixMicro(w.seg.head.created))
	return w.size >= a.opts.SegmentBytes || a.opts.SegmentAge > 0 && age >= a.opts.SegmentAge
}

// A run is a block that is encoded.
type run struct {
	record
	body []byte
	err  error
}

// encode makes blocks of a batch, several at a time. Parts whose end is not in the
// batch get blocks of their own.
func (a *Archive) encode(ctx context.Context, batch []*dfs.Transaction) ([]run, error) {
	whole := len(wholeOnes(batch))
	var cuts []int // where runs end
	size := 0
	for i, tx := range batch {
		if i > 0 && (size >= runBytes || i == whole) {
			cuts, size = append(cuts, i), 0
		}
		size += tx.Size() - len(tx.Changes)*60
	}
	cuts = append(cuts, len(batch))
	runs := make([]run, len(cuts))
	slots := make(chan struct{}, max(runtime.GOMAXPROCS(0), 1))
	var wg sync.WaitGroup
	from, ended := 0, a.whole.Seq
	for i, to := range cuts {
		txs := batch[from:to]
		from = to
		for _, tx := range txs {
			if !tx.More {
				ended = tx.Seq
			}
		}
		r := &runs[i]
		r.whole, r.group = ended, a.w.group+1
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			r.err = a.encodeRun(r, txs)
		})
	}
	wg.Wait()
	for i := range runs {
		if runs[i].err != nil {
			return nil, runs[i].err
		}
	}
	return runs, ctx.Err()
}

func (a *Archive) encodeRun(r *run, txs []*dfs.Transaction) error {
	// To grow a new buffer for each block was a third of all work for small transactions.
	e, _ := a.encoders.Get().(*txrun.Encoder)
	if e == nil {
		e = &txrun.Encoder{Raw: make([]byte, 0, runBytes+runBytes/4)}
	}
	defer func() {
		e.Reset()
		e.Shrink(4 * runBytes)
		a.encoders.Put(e)
	}()
	r.kind = recordBlock
	for _, tx := range txs {
		if err := e.Add(tx); err != nil {
			return err
		}
		r.add(tx)
	}
	var err error
	r.body, err = a.codec.seal(&r.record, e.Raw, a.w.key)
	return err
}

// add notes a transaction of the block.
func (r *record) add(tx *dfs.Transaction) {
	if r.first == 0 {
		r.first = tx.Seq
	}
	r.last = tx.Seq
	r.named(tx)
	r.state = r.state || tx.State != ""
	if tx.Copied {
		r.done = tx.Seq
	}
	if !tx.Committed.IsZero() {
		us := tx.Committed.UnixMicro()
		if r.to == 0 || us < r.from {
			r.from = us
		}
		if r.to == 0 || us > r.to {
			r.to = us
		}
	}
}

// named notes the name of a transaction of the block. One that only moves the position
// has none.
func (r *record) named(tx *dfs.Transaction) {
	if tx.ID != "" {
		r.firstID, r.lastID = cmp.Or(r.firstID, tx.ID), tx.ID
	}
}

// nextNumber returns the number of the next segment. a.mu is held.
func (a *Archive) nextNumber() uint64 {
	if n := len(a.segs); n > 0 {
		return a.segs[n-1].head.number + 1
	}
	return 1
}

// begin makes the next segment. It gets its name once its head and its start are on
// the disk, so a head that is wrong is damage and not a crash.
func (a *Archive) begin() (err error) {
	a.mu.Lock()
	h := segmentHead{archive: a.id, number: a.nextNumber(), base: a.whole.Seq, created: a.now().UnixMicro()}
	if n := len(a.segs); n > 0 {
		h.prev = a.segs[n-1].sum
	}
	start := startBody{Pos: []byte(a.whole.Pos), State: []byte(a.state), ID: []byte(a.whole.id), Committed: a.whole.committed, chainBody: a.chain}
	a.mu.Unlock()
	if h.archive == ([16]byte{}) {
		if h.archive, err = newID(); err != nil {
			return err
		}
	}
	w, err := a.create(h, &start, filepath.Join(a.dir, "new.tmp"))
	if err != nil {
		return fmt.Errorf("archive %s: begin a segment: %w", a.dir, transientIfFull(err))
	}
	name := filepath.Join(a.dir, openName(h.number))
	if err = w.f.Sync(); err == nil {
		failpoint.Hit("archive.begin")
		if err = a.disk.Rename(w.seg.path, name); err == nil {
			failpoint.Hit("archive.begun")
			err = a.disk.SyncDir(a.dir)
		}
	}
	if err != nil {
		w.f.Close()
		return fmt.Errorf("archive %s: begin a segment: %w", a.dir, transientIfFull(err))
	}
	w.seg.path, w.safe = name, w.size
	a.mu.Lock()
	defer a.mu.Unlock()
	a.id, a.w = h.archive, w
	w.seg.size = w.size
	a.segs = append(a.segs[:len(a.segs):len(a.segs)], w.seg)
	return nil
}

func transientIfFull(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return dfs.Transient(fmt.Errorf("the disk is full: %w", err))
	}
	return err
}

// create writes the head and the start of a segment to a new file.
func (a *Archive) create(h segmentHead, start *startBody, path string) (w *segmentWriter, err error) {
	w = &segmentWriter{hash: sha256.New(), seg: &segment{path: path, start: *start, whole: h.base}}
	if a.opts.Key != nil {
		h.flags |= flagEncrypted
		if _, err = rand.Read(h.salt[:]); err != nil {
			return nil, err
		}
		if w.key, h.check, err = newSegmentKey(a.opts.Key, h.salt); err != nil {
			return nil, err
		}
	}
	w.seg.head, w.seg.key = h, w.key
	if w.f, err = a.disk.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
		return nil, err
	}
	file := w.f
	defer func() {
		if err != nil {
			file.Close()
		}
	}()
	b := h.encode()
	if _, err = w.f.WriteAt(b, 0); err != nil {
		return nil, err
	}
	w.hash.Write(b)
	w.size = int64(len(b))
	r := record{kind: recordStart, off: w.size, first: h.base, last: h.base, whole: h.base}
	body, err := a.codec.sealJSON(&r, start, w.key)
	if err == nil {
		err = w.write(&r, body)
	}
	return w, err
}

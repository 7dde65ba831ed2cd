package sink

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/failpoint"
	"github.com/dataflowsync/dfs/internal/txrun"
)

// sealSegment ends the segment that is being written, if there is one, and brings what
// is sealed to the store. A segment without transactions is removed.
func (a *Archive) sealSegment(ctx context.Context) error {
	if err := a.sealFile(ctx); err != nil {
		return err
	}
	return a.ship(ctx)
}

func (a *Archive) sealFile(ctx context.Context) error {
	w := a.w
	if w == nil {
		return nil
	}
	wrap := func(err error) error {
		return fmt.Errorf("archive %s: seal %s: %w", a.dir, filepath.Base(w.seg.path), transientIfFull(err))
	}
	name := filepath.Join(a.dir, sealName(w.seg.head.number))
	var err error
	var sealed *segment
	switch n := int64(len(w.seg.records)); {
	case n == 0:
		if err = errors.Join(w.f.Close(), a.disk.Remove(w.seg.path), a.disk.SyncDir(a.dir)); err != nil {
			return wrap(err)
		}
	case n > 1 && w.raw/n < smallBlock:
		if sealed, err = a.rewrite(w, name); err != nil {
			return wrap(err)
		}
		// The old form is of no use any more, and mend removes it if this fails.
		err = errors.Join(w.f.Close(), a.disk.Remove(w.seg.path))
	default:
		if sealed, err = a.finish(w, w.seg.records, name); err != nil {
			// What was appended is cut, so that the next try finds it as it was.
			if a.broken == nil {
				if e := a.cut(w.safe); e != nil {
					a.broken = errors.Join(err, e)
				}
			}
			return wrap(err)
		}
		err = w.f.Close()
	}
	a.w = nil
	a.mu.Lock()
	segs := slices.Clone(a.segs[:len(a.segs)-1])
	if sealed != nil {
		segs = append(segs, sealed)
	}
	a.segs = segs
	a.mu.Unlock()
	if err != nil {
		return wrap(err)
	}
	return a.keep(ctx)
}

// finish writes the index and the tail of a segment, and gives it its name.
func (a *Archive) finish(w *segmentWriter, blocks []record, name string) (*segment, error) {
	x := indexBody{End: startBody{Pos: []byte(a.whole.Pos), State: []byte(a.state), ID: []byte(a.whole.id), Committed: a.whole.committed, chainBody: a.chain}}
	for _, b := range blocks {
		x.Blocks = append(x.Blocks, indexedBlock{Off: b.off, Size: b.size, Raw: b.raw, First: b.first, Last: b.last, Whole: b.whole, Done: b.done,
			From: b.from, To: b.to, FirstID: []byte(b.firstID), LastID: []byte(b.lastID)})
	}
	last := a.whole.Seq
	r := record{kind: recordIndex, off: w.size, group: w.group, first: w.seg.head.base + 1, last: last, whole: last}
	body, err := a.codec.sealJSON(&r, &x, w.key)
	if err != nil {
		return nil, err
	}
	if err := w.write(&r, body); err != nil {
		return nil, err
	}
	t := segmentTail{index: r.off, size: w.size}
	w.hash.Sum(t.sum[:0])
	if _, err := w.f.WriteAt(t.encode(), w.size); err != nil {
		return nil, err
	}
	if err := w.f.Sync(); err != nil {
		return nil, a.unsure(err)
	}
	sealed := &segment{path: name, sealed: true, head: w.seg.head, key: w.key, start: w.seg.start, records: slices.Clone(blocks),
		end: x.End, size: w.size + tailLen, whole: last, sum: t.sum}
	failpoint.Hit("archive.seal")
	if err := a.rename(w.seg.path, sealed); err != nil {
		return nil, err
	}
	failpoint.Hit("archive.sealed")
	if err := a.disk.SyncDir(a.dir); err != nil {
		return nil, a.unsure(err) // by which name it is on the disk
	}
	return sealed, nil
}

// rename gives a sealed segment its name, and puts it in the place of the last one, so
// that who reads finds a file by the name that the archive knows.
func (a *Archive) rename(from string, sealed *segment) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.disk.Rename(from, sealed.path); err != nil {
		return err
	}
	a.segs = append(slices.Clone(a.segs[:len(a.segs)-1]), sealed)
	return nil
}

// rewrite writes a segment of many small blocks anew, with large ones.
func (a *Archive) rewrite(w *segmentWriter, name string) (_ *segment, err error) {
	head := w.seg.head
	head.flags, head.salt, head.check = 0, [32]byte{}, [16]byte{}
	n, err := a.create(head, &w.seg.start, filepath.Join(a.dir, "seal.tmp"))
	if err != nil {
		return nil, err
	}
	// It is on the disk when it has its name: what Close may say then must not keep the old
	// form in use.
	defer n.f.Close()
	n.group = w.group
	if a.codec.best == nil {
		if a.codec.best, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderCRC(false), zstd.WithWindowSize(runBytes)); err != nil {
			return nil, err
		}
	}
	better := codec{enc: a.codec.best, dec: a.codec.dec}
	var blocks []record
	var e txrun.Encoder
	r := record{kind: recordBlock}
	flush := func() error {
		if r.first == 0 {
			return nil
		}
		r.off, r.group = n.size, n.group
		body, err := better.seal(&r, e.Raw, n.key)
		if err == nil {
			err = n.write(&r, body)
		}
		blocks = append(blocks, r)
		r = record{kind: recordBlock, whole: r.whole}
		e.Reset()
		return err
	}
	for i := range w.seg.records {
		var failed error
		err := a.each(w.f, w.seg, &w.seg.records[i], func(tx *dfs.Transaction) {
			if failed != nil {
				return
			}
			r.add(tx)
			if !tx.More {
				r.whole = tx.Seq
			}
			if failed = e.Add(tx); failed == nil && len(e.Raw) >= runBytes {
				failed = flush()
			}
		})
		if err = errors.Join(err, failed); err != nil {
			return nil, err
		}
	}
	if err := flush(); err != nil {
		return nil, err
	}
	if len(blocks) == 0 || blocks[len(blocks)-1].last != a.whole.Seq || blocks[0].first != head.base+1 {
		return nil, errors.New("what was written anew is not what was there")
	}
	return a.finish(n, blocks, name)
}

// keep deletes the segments that are not to be kept any more, the oldest first.
func (a *Archive) keep(ctx context.Context) error {
	if a.opts.KeepFor == 0 && a.opts.KeepBytes == 0 {
		return nil
	}
	a.mu.Lock()
	segs, bases := a.segs, a.chain.Baselines
	a.mu.Unlock()
	var total int64
	for _, s := range segs {
		total += s.size
	}
	gone := 0
	for _, b := range bases {
		old := a.opts.KeepFor == 0 || a.now().Sub(time.UnixMicro(b.DoneAt)) >= a.opts.KeepFor
		large := a.opts.KeepBytes == 0 || total > a.opts.KeepBytes
		if b.Done == 0 || !old || !large {
			continue
		}
		for gone < len(segs) && segs[gone].head.number < b.Segment {
			total -= segs[gone].size
			gone++
		}
	}
	if gone == 0 {
		return nil
	}
	// Who reads is to find that they are not kept, and not that files are missing.
	a.mu.Lock()
	a.segs = segs[gone:]
	if len(a.segs) > 0 {
		first := a.segs[0].head.number
		a.chain.Baselines = slices.DeleteFunc(slices.Clone(bases), func(b baseline) bool { return b.Segment < first })
	}
	a.mu.Unlock()
	for _, s := range segs[:gone] {
		if err := a.discard(ctx, s); err != nil {
			return fmt.Errorf("archive %s: delete what is not to be kept: %w", a.dir, err)
		}
	}
	a.log.Info("deleted segments of the archive that are not to be kept", "archive", a.dir, "segments", gone)
	return a.disk.SyncDir(a.dir)
}

package sink

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/dataflowsync/dfs"
)

// mend opens the last segment for writing, and cuts what a crash has left. The archive
// was claimed and loaded.
func (a *Archive) mend() error {
	if a.w != nil { // of a try before
		a.w.f.Close()
		a.w = nil
	}
	// A process may have died between giving a segment its name and making that durable, and
	// what Checkpoint tells counts as durable; and what is removed below must not be gone
	// before what takes its place is there.
	if err := a.disk.SyncDir(a.dir); err != nil {
		return fmt.Errorf("archive %s: make its names durable: %w", a.dir, err)
	}
	for _, pattern := range []string{"new.tmp", "seal.tmp", "segment-*.open"} {
		names, err := filepath.Glob(filepath.Join(a.dir, pattern))
		if err != nil {
			return err
		}
		for _, name := range names {
			if len(a.segs) > 0 && name == a.segs[len(a.segs)-1].path {
				continue
			}
			if err := a.leftover(name); err != nil {
				return err
			}
			if err := a.disk.Remove(name); err != nil {
				return fmt.Errorf("archive %s: remove what a crash has left: %w", a.dir, err)
			}
		}
	}
	if len(a.segs) == 0 || a.segs[len(a.segs)-1].sealed {
		return nil
	}
	s := a.segs[len(a.segs)-1]
	f, err := a.disk.OpenFile(s.path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("archive %s: %w", a.dir, err)
	}
	if s.torn > 0 {
		a.log.Warn("cutting what was not whole at the end of the archive; the pipeline reads it again", "file", s.path, "bytes", s.torn)
	}
	w := &segmentWriter{f: f, seg: s, key: s.key, size: s.safe, safe: s.safe, group: s.group}
	for i := range s.records {
		w.raw += int64(s.records[i].raw)
	}
	a.w = w
	err = w.renew()
	if err == nil {
		err = a.cut(s.safe)
	}
	if err != nil {
		return fmt.Errorf("archive %s: make the end of %s durable, and cut what a crash has left: %w", a.dir, filepath.Base(s.path), err)
	}
	a.mu.Lock()
	s.size = s.safe
	a.mu.Unlock()
	return nil
}

// renew writes the last records once more where they stand, with the bytes that they have:
// those that became durable together, or should have. If the sync of a process before
// failed, reads may give what no disk has: Linux takes pages for clean that it could not
// write, keeps them, and syncs no more of them ("Can Applications Recover from fsync
// Failures?", USENIX ATC 2020). All records before these were confirmed, since that process
// wrote no more.
func (w *segmentWriter) renew() error {
	list := w.seg.records
	for i := len(list) - 1; i >= 0 && list[i].group == list[len(list)-1].group; i-- {
		b := make([]byte, list[i].end()-list[i].off)
		if _, err := w.f.ReadAt(b, list[i].off); err != nil {
			return err
		}
		var r record
		if !r.decode(b) || r.sum != list[i].sum || castagnoliOf(b[recordLen:]) != r.sum {
			return errors.New("it is no longer what it was a moment ago: restart once the disk is sound")
		}
		if _, err := w.f.WriteAt(b, list[i].off); err != nil {
			return err
		}
	}
	return nil
}

// leftover returns an error unless a file that was being written is of no use any more:
// it is the first form of a segment that was sealed, and no other one of its number.
func (a *Archive) leftover(path string) error {
	number, _, ok := parseSegmentName(filepath.Base(path))
	if !ok || a.opts.Store == nil {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("archive %s: %w", a.dir, err)
	}
	defer f.Close()
	b := make([]byte, headLen)
	var h segmentHead
	if _, err := f.ReadAt(b, 0); err != nil || h.decode(b) != nil {
		return nil // it has no name before its head is on the disk, so another has written it
	}
	i := slices.IndexFunc(a.segs, func(s *segment) bool { return s.head.number == number })
	if i < 0 || a.segs[i].head.created == h.created && a.segs[i].head.base == h.base && a.segs[i].head.prev == h.prev {
		return nil
	}
	return fmt.Errorf("archive %s: %w: %s holds another segment %d than the one begun here in %s: the archive was continued from another folder; "+
		"go on there, or move that file away", a.dir, dfs.ErrConflict, a.opts.Store.Name(), number, filepath.Base(path))
}

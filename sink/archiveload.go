package sink

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/txrun"
)

// A segment is a file of an archive, as far as it is known. Once it is among those of
// an Archive, only the end of the last one changes, under Archive.mu.
type segment struct {
	path    string // of one that is stored, where it would be in the folder
	sealed  bool
	stored  bool // in the store, and not in the folder
	head    segmentHead
	key     *segmentKey
	start   startBody
	records []record // its blocks
	end     startBody
	size    int64
	whole   uint64   // Seq of the last whole transaction
	sum     [32]byte // once it is sealed

	// Of one that is not sealed: where its last whole transaction ends, where its
	// last whole record does, and the group of that.
	safe, valid int64
	group       uint64
	torn        int64 // bytes behind that
}

// An ArchiveError says what is wrong with a segment: what is damaged is never
// decoded, and nothing is restored across a gap.
type ArchiveError struct {
	File        string
	Offset      int64  // of the damage, about; 0 for the whole file
	First, Last uint64 // transactions that it is about; 0 if that is not known
	Err         error
}

func (e *ArchiveError) Error() string {
	where := ""
	if e.Offset > 0 {
		where = fmt.Sprintf(" at byte %d", e.Offset)
	}
	if e.First > 0 {
		where += fmt.Sprintf(", transactions %d to %d", e.First, e.Last)
	}
	return fmt.Sprintf("archive segment %s%s: %v", e.File, where, e.Err)
}

// Unwrap returns what was found.
func (e *ArchiveError) Unwrap() error { return e.Err }

// isOrigin reports whether a segment begins with the first transaction of all.
func (s *segment) isOrigin() bool { return s.head.number == 1 && s.head.base == 0 }

var segmentName = regexp.MustCompile(`^segment-(\d{8,})\.(dfs|open)$`)

func openName(number uint64) string { return fmt.Sprintf("segment-%08d.open", number) }
func sealName(number uint64) string { return fmt.Sprintf("segment-%08d.dfs", number) }

// A segmentFile is the name of a segment.
type segmentFile struct {
	name   string
	number uint64
	sealed bool
	stored bool  // in the store
	size   int64 // of one that is stored
}

// parseSegmentName reads the name of a segment.
func parseSegmentName(name string) (number uint64, sealed, ok bool) {
	m := segmentName.FindStringSubmatch(name)
	if m == nil {
		return 0, false, false
	}
	n, err := strconv.ParseUint(m[1], 10, 64)
	return n, m[2] == "dfs", err == nil
}

// files returns the segments of the folder and of the store in order. One that was
// written anew when it was sealed may still be there in its first form; it is left out.
func (a *Archive) files(ctx context.Context) ([]segmentFile, error) {
	list, err := a.copies(ctx)
	return slices.CompactFunc(list, func(x, y segmentFile) bool { return x.number == y.number }), err
}

// copies is files, with all forms of each segment, the one that counts first.
func (a *Archive) copies(ctx context.Context) ([]segmentFile, error) {
	list, err := a.local()
	if err == nil {
		list, err = a.addStored(ctx, list)
	}
	if err != nil {
		return nil, err
	}
	rank := func(f segmentFile) int {
		switch {
		case !f.sealed:
			return 2
		case f.stored:
			return 1
		}
		return 0
	}
	slices.SortFunc(list, func(x, y segmentFile) int {
		return cmp.Or(cmp.Compare(x.number, y.number), cmp.Compare(rank(x), rank(y)))
	})
	return list, nil
}

// local returns the segments of the folder, in no order. An archive that is only read
// needs no folder beside its store.
func (a *Archive) local() (list []segmentFile, err error) {
	if a.dir == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(a.dir)
	if a.opts.ReadOnly && a.opts.Store != nil && errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if n, sealed, ok := parseSegmentName(e.Name()); ok {
			list = append(list, segmentFile{name: e.Name(), number: n, sealed: sealed})
		}
	}
	return list, nil
}

// load reads what the folder and the store hold, but for the content of blocks.
func (a *Archive) load(ctx context.Context) error {
	// Another process may seal or delete a segment meanwhile, or cut off parts and write
	// in their place.
	var err error
	for range 20 {
		err = a.tryLoad(ctx)
		var damage *ArchiveError
		changing := a.opts.ReadOnly && errors.As(err, &damage) && filepath.Ext(damage.File) == ".open"
		if !errors.Is(err, os.ErrNotExist) && !changing {
			break
		}
	}
	return err
}

func (a *Archive) tryLoad(ctx context.Context) error {
	names, err := a.files(ctx)
	if err != nil {
		return err
	}
	var segs []*segment
	for i, n := range names {
		s, err := a.readSegment(n, len(segs) > 0 && segs[0].isOrigin())
		if err == nil {
			if len(segs) > 0 {
				err = s.follows(segs[i-1])
			}
			if err == nil && !s.sealed && i < len(names)-1 {
				err = &ArchiveError{File: n.name, Err: errors.New("it was not sealed, and others follow: put the sealed one back from a copy")}
			}
		}
		if err != nil {
			return err
		}
		segs = append(segs, s)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.segs = segs
	a.whole, a.last, a.state, a.chain, a.id = place{}, place{}, "", chainBody{}, [16]byte{}
	if len(segs) > 0 {
		s := segs[len(segs)-1]
		a.id = s.head.archive
		a.whole = place{Checkpoint: dfs.Checkpoint{Seq: s.whole, Pos: dfs.Position(s.end.Pos)}, id: string(s.end.ID), committed: s.end.Committed}
		a.state = string(s.end.State)
		a.last = a.whole
		a.chain = s.end.chainBody
		a.chain.Baselines = slices.DeleteFunc(slices.Clone(a.chain.Baselines), func(b baseline) bool { return b.Segment < segs[0].head.number })
	}
	a.signal()
	return nil
}

// follows checks that a segment is the next one after another.
func (s *segment) follows(p *segment) error {
	bad := func(format string, args ...any) error {
		return &ArchiveError{File: filepath.Base(s.path), Err: fmt.Errorf("%w: "+format, append([]any{dfs.ErrGap}, args...)...)}
	}
	switch {
	case s.head.archive != p.head.archive:
		return bad("it is of another archive than %s before it: take it out, and put the right one in its place", filepath.Base(p.path))
	case s.head.number != p.head.number+1:
		return bad("segments %d to %d are missing before it, with transactions %d to %d: put them back from a copy", p.head.number+1, s.head.number-1, p.whole+1, s.head.base)
	case s.head.prev != p.sum:
		return bad("it does not follow on %s as that is now: the checksum that it remembers is another: put the one back that was there when it was written", filepath.Base(p.path))
	case s.head.base != p.whole:
		return bad("it begins after transaction %d, and %s ends with %d", s.head.base, filepath.Base(p.path), p.whole)
	}
	return nil
}

// readSegment reads the head, start and index of a segment, or all heads of records
// of one that is not sealed. Origin says that the segments begin with the first
// transaction of all.
func (a *Archive) readSegment(n segmentFile, origin bool) (s *segment, err error) {
	s = &segment{path: filepath.Join(a.dir, n.name), sealed: n.sealed, stored: n.stored, size: n.size}
	f, err := a.open(s)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if file, ok := f.(*os.File); ok {
		info, err := file.Stat()
		if err != nil {
			return nil, err
		}
		s.size = info.Size()
	}
	fault := func(off int64, err error) error {
		if errors.Is(err, ErrArchiveKey) {
			return fmt.Errorf("%w (%s)", err, n.name)
		}
		if unreadable(err) {
			return err
		}
		if err == io.EOF {
			err = errors.New("it is cut short")
		}
		return &ArchiveError{File: n.name, Offset: off, Err: err}
	}
	head := make([]byte, headLen)
	if _, err := f.ReadAt(head, 0); err != nil && err != io.EOF {
		return nil, fault(0, err)
	}
	if err := s.head.decode(head); err != nil {
		return nil, fault(0, err)
	}
	if s.head.number != n.number {
		name := openName(s.head.number)
		if n.sealed {
			name = sealName(s.head.number)
		}
		return nil, fault(0, fmt.Errorf("it is segment %d under another name: call it %s", s.head.number, name))
	}
	if s.key, err = keyOf(&s.head, a.opts.Key); err != nil {
		return nil, fault(0, err)
	}
	r, body, err := readRecord(f, headLen, s.size)
	if err == nil && r.kind != recordStart {
		err = errors.New("its first record does not say where it begins")
	}
	if err == nil {
		err = a.codec.openJSON(&r, body, s.key, &s.start)
	}
	if err != nil {
		return nil, fault(headLen, err)
	}
	if !s.sealed {
		return s, a.scan(f, s, r.end(), origin || s.isOrigin())
	}
	tail := make([]byte, tailLen)
	var t segmentTail
	if _, err := f.ReadAt(tail, s.size-tailLen); unreadable(err) {
		return nil, err
	} else if err != nil || !t.decode(tail) || t.size != s.size-tailLen {
		return nil, fault(s.size-tailLen, errors.New("it is cut short, or its end is damaged"))
	}
	s.sum = t.sum
	r, body, err = readRecord(f, t.index, t.size)
	var x indexBody
	if err == nil && (r.kind != recordIndex || r.end() != t.size) {
		err = errors.New("its index is not where it must be")
	}
	if err == nil {
		err = a.codec.openJSON(&r, body, s.key, &x)
	}
	if err != nil {
		return nil, fault(t.index, err)
	}
	s.whole, s.end = r.last, x.End
	for _, b := range x.Blocks {
		s.records = append(s.records, record{kind: recordBlock, off: b.Off, size: b.Size, raw: b.Raw, first: b.First, last: b.Last, whole: b.Whole,
			done: b.Done, from: b.From, to: b.To, firstID: string(b.FirstID), lastID: string(b.LastID)})
	}
	return s, nil
}

// scan reads the records of a segment that is not sealed, from an offset on. What
// follows the last one that is whole was being written when a process ended; but if a
// record that became durable later stands behind it, it is damage.
func (a *Archive) scan(f io.ReaderAt, s *segment, off int64, origin bool) error {
	s.safe, s.valid, s.whole, s.end = off, off, s.head.base, s.start
	latest := -1 // of the blocks with State
	seq := s.head.base
	var r record // the last one that was looked at
	kept := 0
	for {
		var body []byte
		var err error
		r, body, err = readRecord(f, s.valid, s.size)
		if err == nil && castagnoliOf(body) != r.sum {
			err = errBodySum
		}
		if unreadable(err) {
			return err // it may be whole
		}
		if err == nil && r.kind == recordIndex {
			break // it was about to be sealed
		}
		if err != nil || r.kind != recordBlock || r.first != seq+1 || r.last < r.first {
			break
		}
		seq, s.group, s.valid = r.last, r.group, r.end()
		s.records = append(s.records, r)
		if r.whole == r.last {
			s.safe, s.whole, kept = s.valid, r.whole, len(s.records)
		}
	}
	if s.torn = s.size - s.valid; s.torn > 0 {
		group := s.group + 1
		if r.kind != 0 {
			group = r.group // its head is whole
		}
		if at := later(f, s.valid+1, s.size, group); at > 0 {
			return &ArchiveError{File: filepath.Base(s.path), Offset: s.valid, First: seq + 1, Last: 0, Err: fmt.Errorf("it is damaged, "+
				"for what was stored after that, at byte %d, is whole: put it back from a copy, or move it out of the folder, so that the pipeline reads the source again from transaction %d on", at, s.head.base+1)}
		}
	}
	s.records = s.records[:kept]
	s.size = s.valid
	for i := range s.records {
		if s.records[i].state {
			latest = i
		}
		if s.records[i].done > 0 || s.end.awaits() {
			err := a.each(f, s, &s.records[i], func(tx *dfs.Transaction) {
				if tx.Snapshot {
					s.end.came(tx)
				}
				if tx.Copied {
					s.end.copied(tx, time.UnixMicro(max(s.records[i].to, s.head.created)), origin)
				}
			})
			if err != nil {
				return err
			}
		}
	}
	if latest >= 0 {
		err := a.each(f, s, &s.records[latest], func(tx *dfs.Transaction) {
			if tx.State != "" {
				s.end.State = []byte(tx.State)
			}
		})
		if err != nil {
			return err
		}
	}
	// The last block says where it ends, and the last one with a name is soon found.
	for i := kept - 1; i >= max(0, kept-mostUnnamed); i-- {
		r := &s.records[i]
		err := a.each(f, s, r, func(tx *dfs.Transaction) {
			r.named(tx)
			if i == kept-1 {
				p := placeOf(tx)
				s.end.Pos, s.end.ID, s.end.Committed = []byte(p.Pos), []byte(p.id), p.committed
			}
		})
		if err != nil || r.lastID != "" {
			return err
		}
	}
	return nil
}

// mostUnnamed is in how many of the last blocks of a segment that is not sealed a name
// is looked for. Where transactions have names, those without are few: they move the
// position only.
const mostUnnamed = 16

// each reads the transactions of a block.
func (a *Archive) each(f io.ReaderAt, s *segment, r *record, do func(*dfs.Transaction)) error {
	c, err := a.block(f, s, r)
	for err == nil && c.Left() > 0 {
		var tx dfs.Transaction
		if err = c.Next(&tx); err == nil {
			do(&tx)
		}
	}
	return err
}

// block reads a block and returns a cursor over its transactions. What it finds in the
// file must be what the index says.
func (a *Archive) block(f io.ReaderAt, s *segment, want *record) (*txrun.Cursor, error) {
	r, body, err := readRecord(f, want.off, want.end())
	if err == nil && (r.kind != recordBlock || r.first != want.first || r.last != want.last) {
		err = errors.New("a block is not where the index has it")
	}
	var raw []byte
	if err == nil {
		raw, err = a.codec.open(&r, body, s.key)
	}
	if unreadable(err) {
		return nil, err
	}
	if err != nil {
		return nil, &ArchiveError{File: filepath.Base(s.path), Offset: want.off, First: want.first, Last: want.last, Err: err}
	}
	return txrun.Read(raw, r.first, r.last), nil
}

// later returns where the first record stands that belongs to the group or a later
// one, or 0.
func later(f io.ReaderAt, from, size int64, group uint64) int64 {
	const step = 1 << 20
	magic := []byte{recordMagic & 0xff, recordMagic >> 8 & 0xff, recordMagic >> 16 & 0xff, recordMagic >> 24 & 0xff}
	buf := make([]byte, step+recordLen)
	for at := from; at < size; at += step {
		n, _ := f.ReadAt(buf[:min(int64(len(buf)), size-at)], at)
		b := buf[:n]
		for i := 0; ; i++ {
			k := bytes.Index(b[min(i, len(b)):], magic)
			if k < 0 {
				break
			}
			i += k
			var r record
			if r.decode(b[i:]) && r.group > group {
				return at + int64(i)
			}
		}
	}
	return 0
}

// hashFile adds the first n bytes of f to h.
func hashFile(h hash.Hash, f io.ReaderAt, n int64) error {
	got, err := io.Copy(h, io.NewSectionReader(f, 0, n))
	if err == nil && got != n {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// sumOf returns the SHA-256 of the first n bytes of f.
func sumOf(f io.ReaderAt, n int64) (sum [32]byte, err error) {
	h := sha256.New()
	err = hashFile(h, f, n)
	h.Sum(sum[:0])
	return sum, err
}

package sink

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/txrun"
)

// A SegmentInfo describes a segment.
type SegmentInfo struct {
	File        string
	Number      uint64
	Sealed      bool
	First, Last uint64    // transactions, if First <= Last
	From, To    time.Time // when they were committed; zero if that is not known
	FirstID     string    // the source's names for some of them; may be empty
	LastID      string
	Bytes       int64
	RawBytes    int64 // before compression
	Encrypted   bool
}

// A BaselineInfo describes a copy of all rows, from which a restore can begin.
type BaselineInfo struct {
	After uint64    // the last transaction before it
	Done  uint64    // restores can end with this transaction or a later one; 0: it is not whole yet
	At    time.Time // when it was whole

	// Failed says that it ended without some of the tables, so that no restore can
	// begin with it.
	Failed bool
}

// List describes the segments, and the copies of rows from which restores can begin.
func (a *Archive) List() ([]SegmentInfo, []BaselineInfo) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var list []SegmentInfo
	for _, s := range a.segs {
		i := SegmentInfo{File: filepath.Base(s.path), Number: s.head.number, Sealed: s.sealed, First: s.head.base + 1, Last: s.whole,
			Bytes: s.size, Encrypted: s.head.flags&flagEncrypted != 0}
		var from, to int64
		for _, r := range s.records {
			i.RawBytes += int64(r.raw)
			if r.to != 0 && (to == 0 || r.from < from) {
				from = r.from
			}
			to = max(to, r.to)
			i.LastID = cmp.Or(r.lastID, i.LastID)
		}
		if len(s.records) > 0 {
			i.FirstID = s.records[0].firstID
		}
		if to != 0 {
			i.From, i.To = time.UnixMicro(from).UTC(), time.UnixMicro(to).UTC()
		}
		list = append(list, i)
	}
	var bases []BaselineInfo
	for _, b := range a.chain.Baselines {
		i := BaselineInfo{After: b.After, Done: b.Done, Failed: b.Failed}
		if b.Done > 0 {
			i.At = time.UnixMicro(b.DoneAt).UTC()
		}
		bases = append(bases, i)
	}
	return list, bases
}

// VerifyArchive reads all of an archive, each byte of it, and returns what is wrong:
// one *ArchiveError for each place that is damaged, missing or foreign. It also
// decodes each transaction if opts has a Decode; of opts it uses Key too. A damaged
// segment does not keep it from looking at the others. Of a segment that is not sealed
// what is not whole at its end is no fault, as it may be being written.
func VerifyArchive(ctx context.Context, dir string, opts *VerifyArchiveOptions) (*ArchiveReport, error) {
	if opts == nil {
		opts = &VerifyArchiveOptions{}
	}
	o := ArchiveOptions{Key: opts.Key, Store: opts.Store, ReadOnly: true}
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("verify archive %s: %w", dir, err)
	}
	if len(o.Key) == 0 {
		o.Key = nil
	}
	c, err := newCodec()
	if err != nil {
		return nil, err
	}
	defer c.close()
	return (&Archive{dir: dir, opts: o, codec: c}).verify(ctx, opts)
}

// verify is VerifyArchive, for an Archive that has its folder, key and codec.
func (a *Archive) verify(ctx context.Context, opts *VerifyArchiveOptions) (*ArchiveReport, error) {
	dir := a.dir
	names, err := a.files(ctx)
	if err != nil {
		return nil, fmt.Errorf("verify archive %s: %w", dir, err)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("verify archive %s: %w", a.where(), a.none())
	}
	r := &ArchiveReport{}
	var before *segment
	for i, n := range names {
		s, err := a.readSegment(n, false)
		if errors.Is(err, ErrArchiveKey) {
			return nil, fmt.Errorf("verify archive %s: %w", dir, err)
		}
		if err == nil && !s.sealed && i < len(names)-1 {
			err = &ArchiveError{File: n.name, Err: errors.New("it was not sealed, and others follow")}
		}
		if err == nil && before != nil {
			err = s.follows(before)
		}
		r.Segments++
		if err != nil {
			r.Faults = append(r.Faults, err)
		}
		if s != nil {
			before = s
			err = a.verifySegment(ctx, s, opts, r)
		} else if e := (*ArchiveError)(nil); !errors.As(err, &e) {
			return nil, fmt.Errorf("verify archive %s: %w", dir, err)
		} else {
			before = nil
			err = nil
		}
		if err != nil {
			return nil, fmt.Errorf("verify archive %s: %w", dir, err)
		}
	}
	return r, nil
}

// VerifyArchiveOptions refine VerifyArchive.
type VerifyArchiveOptions struct {
	Key    []byte
	Store  ArchiveStore // as in ArchiveOptions; the folder may then be ""
	Decode func(ctx context.Context, batch []*dfs.Transaction) error
}

// An ArchiveReport is what VerifyArchive has found.
type ArchiveReport struct {
	Segments     int
	Transactions uint64 // read, and found to be whole
	Rows         uint64 // of those that were decoded
	Bytes        int64
	Faults       []error
}

// verifySegment reads a segment from its first byte to its last. The error is one of
// reading; what is wrong goes into the report.
func (a *Archive) verifySegment(ctx context.Context, s *segment, opts *VerifyArchiveOptions, report *ArchiveReport) error {
	f, err := a.open(s)
	if err != nil {
		return err
	}
	defer f.Close()
	name := filepath.Base(s.path)
	found := len(report.Faults)
	fault := func(off int64, first, last uint64, err error) {
		report.Faults = append(report.Faults, &ArchiveError{File: name, Offset: off, First: first, Last: last, Err: err})
	}
	end := s.size
	if s.sealed {
		end -= tailLen
	}
	seq := s.head.base
	off := int64(headLen)
	for off < end {
		if err := ctx.Err(); err != nil {
			return err
		}
		r, body, err := readRecord(f, off, end)
		if unreadable(err) {
			return err
		}
		if err != nil {
			// Where the next record begins the index may tell.
			next := int64(0)
			for i := range s.records {
				if s.records[i].off > off {
					next = s.records[i].off
					seq = s.records[i].first - 1
					break
				}
			}
			if err == io.EOF {
				err = errors.New("a record is cut short")
			}
			fault(off, 0, 0, err)
			if next == 0 {
				break
			}
			off = next
			continue
		}
		off = r.end()
		raw, err := a.codec.open(&r, body, s.key)
		if err != nil {
			fault(r.off, r.first, r.last, err)
			seq = max(seq, r.last)
			continue
		}
		report.Bytes += int64(r.size) + recordLen
		if r.kind != recordBlock {
			continue
		}
		if r.first != seq+1 {
			fault(r.off, seq+1, r.first, fmt.Errorf("%w: transaction %d comes after %d", dfs.ErrGap, r.first, seq))
		}
		seq = r.last
		n, rows, err := verifyBlock(ctx, &r, raw, opts)
		report.Transactions += n
		report.Rows += rows
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			fault(r.off, r.first, r.last, err)
		}
	}
	if s.sealed {
		sum, err := sumOf(f, end)
		switch {
		case err != nil:
			return err
		case sum != s.sum && len(report.Faults) == found:
			fault(0, s.head.base+1, s.whole, errors.New("its SHA-256 is not the one that it ends with"))
		case seq != s.whole && len(report.Faults) == found:
			fault(0, s.head.base+1, s.whole, fmt.Errorf("its blocks end with transaction %d, and its index with %d", seq, s.whole))
		}
	}
	return nil
}

// verifyBlock reads the transactions of a block, and returns how many they are.
func verifyBlock(ctx context.Context, r *record, raw []byte, opts *VerifyArchiveOptions) (n, rows uint64, err error) {
	c := txrun.Read(bytes.Clone(raw), r.first, r.last)
	for c.Left() > 0 {
		tx := new(dfs.Transaction)
		if err := c.Next(tx); err != nil {
			return n, rows, err
		}
		if tx.Encoded != nil && opts.Decode != nil {
			if err := opts.Decode(ctx, []*dfs.Transaction{tx}); err != nil {
				return n, rows, fmt.Errorf("transaction %s: %w", txName(tx.Seq, tx.ID), err)
			}
		}
		rows += uint64(len(tx.Changes))
		n++
	}
	return n, rows, nil
}

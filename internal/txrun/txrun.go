// Package txrun codes runs of transactions as bytes, each as the difference to the
// one before. What is stored, as by package queue and an archive, is made of these.
package txrun

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"time"
	"unsafe"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/unzeroed"
)

// Bits of the byte that each transaction begins with.
const (
	flagSnapshot = 1 << iota
	flagMore
	flagEncoded   // the payload is Transaction.Encoded
	flagChanges   // the payload is what dfs.AppendChanges made
	flagCommitted // the time is known
	flagState     // the checkpoint has State
	flagCopied

	flagsKnown = 1<<iota - 1
)

// A header is what a transaction is coded as the difference to.
type header struct {
	pos, id   string
	committed int64
}

// An Encoder appends transactions to Raw. The zero Encoder is ready to use.
type Encoder struct {
	Raw     []byte // the transactions so far
	changes []byte // room for one transaction's changes
	prev    header
}

// Reset begins a new run in the memory of the old one.
func (e *Encoder) Reset() { e.Raw, e.prev = e.Raw[:0], header{} }

// Shrink lets go of buffers of more than limit bytes, which only an unusually large
// transaction needs.
func (e *Encoder) Shrink(limit int) {
	for _, b := range [...]*[]byte{&e.Raw, &e.changes} {
		if cap(*b) > limit {
			*b = nil
		}
	}
}

// Add appends a transaction:
//
//	flags      byte
//	Pos, ID    against those of the one before: see appendString
//	Committed  varint, microseconds since the one before, if flagCommitted
//	State      uvarint length and bytes, if flagState
//	payload    uvarint length and bytes, if flagEncoded or flagChanges
//
// Seq is not written, since it counts on from the run's first. Of the parts of a
// transaction only the last may have State.
func (e *Encoder) Add(tx *dfs.Transaction) error {
	var flags byte
	var payload []byte
	switch {
	case tx.Encoded != nil && len(tx.Changes) > 0:
		return fmt.Errorf("transaction %d has both Encoded and Changes", tx.Seq)
	case tx.Encoded != nil:
		flags, payload = flagEncoded, tx.Encoded
	case len(tx.Changes) > 0:
		e.changes = dfs.AppendChanges(e.changes[:0], tx.Changes)
		flags, payload = flagChanges, e.changes
	}
	if tx.Snapshot {
		flags |= flagSnapshot
	}
	if tx.More {
		flags |= flagMore
	}
	if tx.Copied {
		flags |= flagCopied
	}
	if !tx.Committed.IsZero() {
		flags |= flagCommitted
	}
	if tx.State != "" {
		if tx.More {
			return fmt.Errorf("transaction %d has State, but is not the last part", tx.Seq)
		}
		flags |= flagState
	}
	b := append(e.Raw, flags)
	b = appendString(b, e.prev.pos, string(tx.Pos))
	b = appendString(b, e.prev.id, tx.ID)
	e.prev.pos, e.prev.id = string(tx.Pos), tx.ID
	if flags&flagCommitted != 0 {
		us := tx.Committed.UnixMicro()
		b = binary.AppendVarint(b, us-e.prev.committed)
		e.prev.committed = us
	}
	if flags&flagState != 0 {
		b = binary.AppendUvarint(slices.Grow(b, len(tx.State)+binary.MaxVarintLen64), uint64(len(tx.State)))
		b = append(b, tx.State...)
	}
	if flags&(flagEncoded|flagChanges) != 0 {
		b = binary.AppendUvarint(slices.Grow(b, len(payload)+binary.MaxVarintLen64), uint64(len(payload)))
		b = append(b, payload...)
	}
	e.Raw = b
	return nil
}

// appendString writes s as how many of its first and last bytes it shares with
// prev, and what stands between. Positions and identifiers of transactions that
// follow each other mostly differ in a few digits.
func appendString(b []byte, prev, s string) []byte {
	head := sharedHead(prev, s)
	n := min(len(prev), len(s)) - head
	tail := 0
	for tail < n && prev[len(prev)-1-tail] == s[len(s)-1-tail] {
		tail++
	}
	middle := s[head : len(s)-tail]
	b = binary.AppendUvarint(b, uint64(head))
	b = binary.AppendUvarint(b, uint64(tail))
	b = binary.AppendUvarint(b, uint64(len(middle)))
	return append(b, middle...)
}

// sharedHead returns how many of their first bytes two strings share.
func sharedHead(a, b string) int {
	n := min(len(a), len(b))
	head := 0
	// Most differ in their last bytes only.
	const last = 32
	if n > 2*last && a[:n-last] == b[:n-last] {
		head = n - last
	}
	for ; head+8 <= n; head += 8 {
		if differ := word(a, head) ^ word(b, head); differ != 0 {
			return head + bits.TrailingZeros64(differ)/8
		}
	}
	for head < n && a[head] == b[head] {
		head++
	}
	return head
}

// word returns 8 bytes of s, of which the first is the lowest.
func word(s string, at int) uint64 { return binary.LittleEndian.Uint64([]byte(s[at : at+8])) }

// ErrCoding says that bytes are no run of transactions.
var ErrCoding = errors.New("its checksum is right, but it cannot be decoded")

// Read returns a Cursor over raw, whose transactions have the numbers first to last.
func Read(raw []byte, first, last uint64) *Cursor {
	return &Cursor{b: raw, seq: first, last: last, text: slab{apart: len(raw) > mostAliased}}
}

// mostAliased is the most bytes of a run of which Pos and ID may be a piece. Those of the
// last transaction are kept for as long as none follows, and would keep a very large row.
const mostAliased = 1 << 20

// A Cursor reads the transactions of a run. Each Encoded and some strings alias
// the run, which must not be written again.
type Cursor struct {
	b    []byte
	seq  uint64 // of the next transaction
	last uint64
	prev header
	text slab
}

// Seq returns the number of the transaction that Next reads.
func (c *Cursor) Seq() uint64 { return c.seq }

// Left returns how many transactions are still to come.
func (c *Cursor) Left() int { return int(c.last + 1 - c.seq) }

// Next reads one transaction into tx, which must be zero.
func (c *Cursor) Next(tx *dfs.Transaction) error {
	d := fields{b: c.b}
	flags := d.byte()
	c.prev.pos = d.string(c.prev.pos, &c.text)
	c.prev.id = d.string(c.prev.id, &c.text)
	if flags&flagCommitted != 0 {
		c.prev.committed += d.varint()
		tx.Committed = time.UnixMicro(c.prev.committed).UTC()
	}
	if flags&flagState != 0 {
		v := d.bytes(d.uvarint())
		tx.State = unsafe.String(unsafe.SliceData(v), len(v))
	}
	tx.Seq, tx.Pos, tx.ID = c.seq, dfs.Position(c.prev.pos), c.prev.id
	tx.Snapshot, tx.More, tx.Copied = flags&flagSnapshot != 0, flags&flagMore != 0, flags&flagCopied != 0
	var payload []byte
	if flags&(flagEncoded|flagChanges) != 0 {
		payload = d.bytes(d.uvarint())
	}
	if d.bad || flags&^flagsKnown != 0 || (c.seq == c.last) != (len(d.b) == 0) {
		return ErrCoding
	}
	if flags&flagEncoded != 0 {
		tx.Encoded = payload
	} else if flags&flagChanges != 0 {
		var err error
		if tx.Changes, err = dfs.ParseChanges(payload); err != nil {
			return fmt.Errorf("its checksum is right, but: %w", err)
		}
	}
	c.b = d.b
	c.seq++
	return nil
}

// fields reads from b. After the first fault bad is set and reads give zero.
type fields struct {
	b   []byte
	bad bool
}

func (d *fields) fail() { d.b, d.bad = nil, true }

func (d *fields) byte() byte {
	if len(d.b) == 0 {
		d.fail()
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *fields) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *fields) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

// bytes returns the next n bytes, with no room to append.
func (d *fields) bytes(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.fail()
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

// string reads what appendString wrote.
func (d *fields) string(prev string, text *slab) string {
	head, tail := d.uvarint(), d.uvarint()
	middle := d.bytes(d.uvarint())
	if n := uint64(len(prev)); head > n || tail > n-head {
		d.fail()
		return ""
	}
	return text.join(prev[:head], middle, prev[uint64(len(prev))-tail:])
}

// slabBytes is how much room for strings is allocated at a time.
const slabBytes = 16 << 10

// A slab holds many short strings in few allocations. What it has handed out is
// never written again.
type slab struct {
	b     []byte
	apart bool // nothing that it hands out is a piece of what it was given
}

// join returns head, middle and tail as one string.
func (s *slab) join(head string, middle []byte, tail string) string {
	n := len(head) + len(middle) + len(tail)
	switch {
	case n == len(head):
		return head
	case n == len(middle) && !s.apart:
		return unsafe.String(unsafe.SliceData(middle), n)
	}
	if cap(s.b)-len(s.b) < n {
		s.b = unzeroed.Bytes(max(n, slabBytes))[:0]
	}
	at := len(s.b)
	s.b = append(append(append(s.b, head...), middle...), tail...)
	return unsafe.String(&s.b[at], n)
}

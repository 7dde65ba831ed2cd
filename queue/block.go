package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"time"
	"unsafe"

	"github.com/klauspost/compress/s2"

	"github.com/dataflowsync/dfs"
)

const (
	// blockBytes is where a block is cut, in bytes before compression. Larger
	// blocks compress no better and delay the first row of a reader in step.
	blockBytes = 256 << 10

	// maxData is the most that one block may take when compressed: SQLite's
	// limit for a value (SQLITE_MAX_LENGTH), less the columns beside it.
	maxData = 1_000_000_000 - 1<<20

	// blockOverhead is about what a row of the table takes beside its data.
	blockOverhead = 80

	// formatS2 is transactions one after the other, compressed as one s2 block.
	// A new way to write blocks takes a new number.
	formatS2 = 1
)

// Bits of the byte that each transaction in a block begins with.
const (
	flagSnapshot = 1 << iota
	flagMore
	flagEncoded   // the payload is Transaction.Encoded
	flagChanges   // the payload is what dfs.AppendChanges made
	flagCommitted // the time is known
	flagState     // the checkpoint has State; only in files of version 2
	flagCopied

	flagsKnown = 1<<iota - 1
)

// A block is one row of the table of that name: a run of transactions.
type block struct {
	id          int64  // 1, 2, 3 without gaps over the life of the file
	first, last uint64 // Seq of its first and last transaction
	whole       uint64 // Seq of the last transaction that ends here or before; parts after it wait for theirs
	pos         dfs.Position
	at          int64 // when it was stored, in microseconds of Unix time
	end         int64 // bytes stored since the file was made, this block included
	format      int64
	raw         int64  // bytes before compression
	sum         uint32 // checksum: see check
	data        []byte
}

// size is what the block counts for in Keep and MaxBytes.
func (b *block) size() int64 { return int64(len(b.data)+len(b.pos)) + blockOverhead }

// place returns the boundary after the block.
func (b *block) place() place { return place{b.last, b.pos, b.id, b.end, b.whole < b.last} }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// check returns the CRC-32C of the data as stored and of all the other columns,
// so that a row which is whole but stands in the wrong place is noticed too.
func (b *block) check() uint32 {
	var head [8 * 8]byte
	for i, v := range [...]uint64{uint64(b.id), b.first, b.last, b.whole,
		uint64(b.at), uint64(b.end), uint64(b.format), uint64(b.raw)} {
		binary.LittleEndian.PutUint64(head[8*i:], v)
	}
	sum := crc32.Update(0, castagnoli, head[:])
	pos := unsafe.Slice(unsafe.StringData(string(b.pos)), len(b.pos))
	return crc32.Update(crc32.Update(sum, castagnoli, pos), castagnoli, b.data)
}

// An encoder turns transactions into a block. Its buffers are used again.
type encoder struct {
	block
	raw     []byte // the transactions so far
	changes []byte // room for one transaction's changes
	prev    header
	state   dfs.Checkpoint // the last one added that has State; zero if none has
}

// A header is what a transaction is coded as the difference to.
type header struct {
	pos, id   string
	committed int64
}

func (e *encoder) reset(first uint64) {
	*e = encoder{raw: e.raw[:0], changes: e.changes, block: block{first: first, data: e.data[:0]}}
}

// shrink lets go of buffers that only an unusually large transaction needs.
// Invariant I6: memory is bounded.
func (e *encoder) shrink() {
	for _, b := range [...]*[]byte{&e.raw, &e.data, &e.changes} {
		if cap(*b) > 4*blockBytes {
			*b = nil
		}
	}
}

// add appends a transaction:
//
//	flags      byte
//	Pos, ID    against those of the one before: see appendString
//	Committed  varint, microseconds since the one before, if flagCommitted
//	State      uvarint length and bytes, if flagState
//	payload    uvarint length and bytes, if flagEncoded or flagChanges
//
// Seq is not written, since it counts on from the block's first.
func (e *encoder) add(tx *dfs.Transaction) error {
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
		e.state = tx.Checkpoint
	}
	b := append(e.raw, flags)
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
	e.raw = b
	e.last, e.pos = tx.Seq, tx.Pos
	return nil
}

// seal compresses what was added, and computes the checksum. The fields that
// the encoder cannot know must have been set.
func (e *encoder) seal() error {
	room := s2.MaxEncodedLen(len(e.raw))
	if room < 0 {
		return fmt.Errorf("transaction %d takes %d bytes; let the source cut it into parts", e.last, len(e.raw))
	}
	if cap(e.data) < room {
		e.data = make([]byte, 0, room)
	}
	e.data = s2.Encode(e.data[:room], e.raw)
	if len(e.data) > maxData {
		return fmt.Errorf("transaction %d takes %d bytes compressed, SQLite holds %d; let the source cut it into parts",
			e.last, len(e.data), maxData)
	}
	e.format, e.block.raw = formatS2, int64(len(e.raw))
	e.end += e.size()
	e.sum = e.check()
	return nil
}

// appendString writes s as how many of its first and last bytes it shares with
// prev, and what stands between. Positions and identifiers of transactions that
// follow each other mostly differ in a few digits.
func appendString(b []byte, prev, s string) []byte {
	n := min(len(prev), len(s))
	head := 0
	for head+16 <= n && prev[head:head+16] == s[head:head+16] {
		head += 16
	}
	for head < n && prev[head] == s[head] {
		head++
	}
	n -= head
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

var errBlock = errors.New("its checksum is right, but it cannot be decoded")

// open decompresses a block whose checksum holds, and returns a cursor over it.
func (b *block) open() (*cursor, error) {
	// Invariant I8: what fails its checksum is never decoded.
	if b.sum != b.check() {
		return nil, errors.New("its checksum is wrong")
	}
	if b.format != formatS2 {
		return nil, fmt.Errorf("it has format %d, this program reads %d", b.format, formatS2)
	}
	if n, err := s2.DecodedLen(b.data); err != nil || int64(n) != b.raw {
		return nil, errBlock
	}
	raw, err := s2.Decode(make([]byte, b.raw), b.data)
	if err != nil {
		return nil, errBlock
	}
	return &cursor{b: raw, seq: b.first, last: b.last}, nil
}

// A cursor reads the transactions of a block. Each Encoded and some strings
// alias the decompressed block, which is never written again.
type cursor struct {
	b    []byte
	seq  uint64 // of the next transaction
	last uint64
	prev header
	text slab
}

// left returns how many transactions are still to come.
func (c *cursor) left() int { return int(c.last + 1 - c.seq) }

// next reads one transaction into tx, which must be zero.
func (c *cursor) next(tx *dfs.Transaction) error {
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
		return errBlock
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
type slab struct{ b []byte }

// join returns head, middle and tail as one string.
func (s *slab) join(head string, middle []byte, tail string) string {
	n := len(head) + len(middle) + len(tail)
	switch {
	case n == len(head):
		return head
	case n == len(middle):
		return unsafe.String(unsafe.SliceData(middle), n)
	}
	if cap(s.b)-len(s.b) < n {
		s.b = make([]byte, 0, max(n, slabBytes))
	}
	at := len(s.b)
	s.b = append(append(append(s.b, head...), middle...), tail...)
	return unsafe.String(&s.b[at], n)
}

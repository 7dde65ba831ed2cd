package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"unsafe"

	"github.com/klauspost/compress/s2"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/txrun"
	"github.com/dataflowsync/dfs/internal/unzeroed"
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
	run   txrun.Encoder  // the transactions so far
	state dfs.Checkpoint // the last one added that has State; zero if none has
}

func (e *encoder) reset(first uint64) {
	e.run.Reset()
	*e = encoder{run: e.run, block: block{first: first, data: e.data[:0]}}
}

// shrink lets go of buffers that only an unusually large transaction needs.
// Invariant I6: memory is bounded.
func (e *encoder) shrink() {
	e.run.Shrink(4 * blockBytes)
	if cap(e.data) > 4*blockBytes {
		e.data = nil
	}
}

// add appends a transaction.
func (e *encoder) add(tx *dfs.Transaction) error {
	if err := e.run.Add(tx); err != nil {
		return err
	}
	if tx.State != "" {
		e.state = tx.Checkpoint
	}
	e.last, e.pos = tx.Seq, tx.Pos
	return nil
}

// seal compresses what was added, and computes the checksum. The fields that
// the encoder cannot know must have been set.
func (e *encoder) seal() error {
	room := s2.MaxEncodedLen(len(e.run.Raw))
	if room < 0 {
		return fmt.Errorf("transaction %d takes %d bytes; let the source cut it into parts", e.last, len(e.run.Raw))
	}
	if cap(e.data) < room {
		e.data = unzeroed.Bytes(room)[:0]
	}
	e.data = s2.Encode(e.data[:room], e.run.Raw)
	if len(e.data) > maxData {
		return fmt.Errorf("transaction %d takes %d bytes compressed, SQLite holds %d; let the source cut it into parts",
			e.last, len(e.data), maxData)
	}
	e.format, e.block.raw = formatS2, int64(len(e.run.Raw))
	e.run.Shrink(4 * blockBytes) // Invariant I6: SQLite takes a copy of the data, which may be large
	e.end += e.size()
	e.sum = e.check()
	return nil
}

// open decompresses a block whose checksum holds, and returns a cursor over it.
func (b *block) open() (*txrun.Cursor, error) {
	// Invariant I8: what fails its checksum is never decoded.
	if b.sum != b.check() {
		return nil, errors.New("its checksum is wrong")
	}
	if b.format != formatS2 {
		return nil, fmt.Errorf("it has format %d, this program reads %d", b.format, formatS2)
	}
	if n, err := s2.DecodedLen(b.data); err != nil || int64(n) != b.raw {
		return nil, txrun.ErrCoding
	}
	raw, err := s2.Decode(unzeroed.Bytes(int(b.raw)), b.data)
	if err != nil {
		return nil, txrun.ErrCoding
	}
	return txrun.Read(raw, b.first, b.last), nil
}

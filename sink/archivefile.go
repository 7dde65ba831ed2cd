package sink

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/dataflowsync/dfs"
)

// What a segment of an archive looks like. All numbers are little-endian.
//
//	head     160 bytes: which archive, which segment, and what came before
//	records  80 bytes of head, and a body
//	tail     64 bytes, once the segment is sealed
//
// The first record tells where reading can begin, the others are blocks of
// transactions; the last one of a sealed segment is its index. A body is
// compressed, and then encrypted if there is a key. Each record has a CRC-32C of its
// head and one of its body, as stored; the tail has the SHA-256 of all before it, and
// the head of the next segment has that too. So no byte can change, no segment be
// left out, and none of another archive be put among them without a trace.
const (
	segmentMagic   = "dfs\x00arc\x01"
	segmentVersion = 1
	headLen        = 160
	recordMagic    = 0x72736664 // "dfsr"
	recordLen      = 80
	tailMagic      = "dfs\x00end\x01"
	tailLen        = 64

	flagEncrypted = 1
)

// The kinds of record.
const (
	recordStart = iota + 1 // a startBody
	recordBlock            // transactions, as package txrun codes them
	recordIndex            // an indexBody
)

// maxRecord bounds a body, so that a damaged length takes no memory.
const maxRecord = 1<<31 - 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A segmentHead is what a segment begins with.
type segmentHead struct {
	flags   uint32
	archive [16]byte // the same in all segments of an archive
	number  uint64   // 1, 2, 3 over the life of an archive
	base    uint64   // Seq of the last transaction before the segment
	created int64    // in microseconds of Unix time
	prev    [32]byte // the sum of the segment before; zero for the first
	salt    [32]byte // of the key
	check   [16]byte // tells whether a key is the right one
}

func (h *segmentHead) encode() []byte {
	b := make([]byte, headLen)
	copy(b, segmentMagic)
	le := binary.LittleEndian
	le.PutUint32(b[8:], segmentVersion)
	le.PutUint32(b[12:], h.flags)
	copy(b[16:], h.archive[:])
	le.PutUint64(b[32:], h.number)
	le.PutUint64(b[40:], h.base)
	le.PutUint64(b[48:], uint64(h.created))
	copy(b[56:], h.prev[:])
	copy(b[88:], h.salt[:])
	copy(b[120:], h.check[:])
	le.PutUint32(b[headLen-4:], crc32.Checksum(b[:headLen-4], castagnoli))
	return b
}

func (h *segmentHead) decode(b []byte) error {
	le := binary.LittleEndian
	switch {
	case len(b) < headLen:
		return errors.New("it is shorter than the head of a segment")
	case string(b[:8]) != segmentMagic:
		return errors.New("it does not begin as a segment of an archive does")
	case le.Uint32(b[headLen-4:]) != crc32.Checksum(b[:headLen-4], castagnoli):
		return errors.New("the checksum of its head is wrong")
	case le.Uint32(b[8:]) != segmentVersion:
		return fmt.Errorf("it has version %d, this program reads %d", le.Uint32(b[8:]), segmentVersion)
	}
	h.flags = le.Uint32(b[12:])
	copy(h.archive[:], b[16:])
	h.number, h.base, h.created = le.Uint64(b[32:]), le.Uint64(b[40:]), int64(le.Uint64(b[48:]))
	copy(h.prev[:], b[56:])
	copy(h.salt[:], b[88:])
	copy(h.check[:], b[120:])
	return nil
}

// A record is the head of a record, and where it stands.
type record struct {
	kind  byte
	state bool  // one of its transactions has State
	off   int64 // in the segment; not stored
	size  uint32
	raw   uint32 // of the body, before compression
	group uint64 // of records that became durable together
	first uint64 // Seq of its transactions
	last  uint64
	whole uint64 // Seq of the last one that ends here or before
	done  uint64 // Seq of the last one with Copied; 0 if there is none
	from  int64  // when they were committed, in microseconds of Unix time; 0 if that is not known
	to    int64
	sum   uint32 // of the body

	// Of a block whose transactions were looked at: the source's names for its
	// first and last one.
	firstID, lastID string
}

// end returns where the next record begins.
func (r *record) end() int64 { return r.off + recordLen + int64(r.size) }

// appendHead appends the head of the record without its checksums, which is also
// what a body is sealed together with.
func (r *record) appendHead(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, recordMagic)
	state := byte(0)
	if r.state {
		state = 1
	}
	b = append(b, r.kind, state, 0, 0)
	b = le.AppendUint32(b, r.size)
	b = le.AppendUint32(b, r.raw)
	for _, v := range [...]uint64{r.group, r.first, r.last, r.whole, r.done, uint64(r.from), uint64(r.to)} {
		b = le.AppendUint64(b, v)
	}
	return b
}

func (r *record) encode() []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(r.appendHead(make([]byte, 0, recordLen)), r.sum)
	return le.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func (r *record) decode(b []byte) bool {
	le := binary.LittleEndian
	if len(b) < recordLen || le.Uint32(b) != recordMagic || le.Uint32(b[76:]) != crc32.Checksum(b[:76], castagnoli) {
		return false
	}
	r.kind, r.state, r.size, r.raw = b[4], b[5] == 1, le.Uint32(b[8:]), le.Uint32(b[12:])
	r.group, r.first, r.last, r.whole, r.done = le.Uint64(b[16:]), le.Uint64(b[24:]), le.Uint64(b[32:]), le.Uint64(b[40:]), le.Uint64(b[48:])
	r.from, r.to, r.sum = int64(le.Uint64(b[56:])), int64(le.Uint64(b[64:])), le.Uint32(b[72:])
	return r.size <= maxRecord && r.raw <= maxRecord && b[5] <= 1 && b[6] == 0 && b[7] == 0
}

// A startBody tells where a segment begins, and what was known there.
type startBody struct {
	Pos       []byte `json:"pos"`
	State     []byte `json:"state,omitempty"`
	ID        []byte `json:"id,omitempty"`
	Committed int64  `json:"committed,omitempty"`
	chainBody
}

// A chainBody is what is known of a chain of segments at one place of it.
type chainBody struct {
	Baselines []baseline   `json:"baselines,omitempty"`
	Defined   []Definition `json:"defined,omitempty"` // of the last baseline
}

// A baseline is a copy of all rows, from which a restore can begin.
type baseline struct {
	After   uint64 `json:"after"`          // Seq of the last transaction before it
	Done    uint64 `json:"done,omitempty"` // Seq of the transaction with which it is whole; 0 if it is not yet
	DoneAt  int64  `json:"done_at,omitempty"`
	Failed  bool   `json:"failed,omitempty"` // it ended without some of the tables, and is never whole
	Again   bool   `json:"again,omitempty"`  // rows came beside changes of rows that were archived before
	Segment uint64 `json:"segment"`          // number of the segment that begins with it

	// Of one with Again: the tables of which nothing has come since, and whether another
	// copy was under way when it began, whose end is not its own.
	Missing []string `json:"missing,omitempty"`
	Other   bool     `json:"other,omitempty"`
}

// An indexBody is the index of a sealed segment.
type indexBody struct {
	Blocks []indexedBlock `json:"blocks"`
	End    startBody      `json:"end"` // where the next segment begins
}

// An indexedBlock is the head of a block, with the names of its transactions.
type indexedBlock struct {
	Off     int64  `json:"off"`
	Size    uint32 `json:"size"`
	Raw     uint32 `json:"raw"`
	First   uint64 `json:"first"`
	Last    uint64 `json:"last"`
	Whole   uint64 `json:"whole"`
	Done    uint64 `json:"done,omitempty"`
	From    int64  `json:"from,omitempty"`
	To      int64  `json:"to,omitempty"`
	FirstID []byte `json:"first_id,omitempty"`
	LastID  []byte `json:"last_id,omitempty"`
}

// A segmentTail ends a sealed segment.
type segmentTail struct {
	index int64    // where the index is
	size  int64    // of all before the tail
	sum   [32]byte // SHA-256 of that
}

func (t *segmentTail) encode() []byte {
	b := make([]byte, tailLen)
	copy(b, tailMagic)
	le := binary.LittleEndian
	le.PutUint64(b[8:], uint64(t.index))
	le.PutUint64(b[16:], uint64(t.size))
	copy(b[24:], t.sum[:])
	le.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
	return b
}

func (t *segmentTail) decode(b []byte) bool {
	le := binary.LittleEndian
	if len(b) != tailLen || string(b[:8]) != tailMagic || le.Uint32(b[60:]) != crc32.Checksum(b[:60], castagnoli) {
		return false
	}
	t.index, t.size = int64(le.Uint64(b[8:])), int64(le.Uint64(b[16:]))
	copy(t.sum[:], b[24:])
	return true
}

// A codec compresses and encrypts. It is safe for concurrent use.
type codec struct {
	enc  *zstd.Encoder
	dec  *zstd.Decoder
	best *zstd.Encoder // for what is written once more; made when it is needed
}

func newCodec() (*codec, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false), zstd.WithWindowSize(runBytes))
	if err != nil {
		return nil, err
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxRecord))
	if err != nil {
		return nil, err
	}
	return &codec{enc: enc, dec: dec}, nil
}

func (c *codec) close() {
	if c != nil {
		c.enc.Close()
		c.dec.Close()
	}
}

// seal makes the body of r, whose other fields but size and sum are set.
func (c *codec) seal(r *record, raw []byte, k *segmentKey) ([]byte, error) {
	if len(raw) > maxRecord {
		return nil, fmt.Errorf("transaction %d takes %d bytes; let the source cut it into parts", r.last, len(raw))
	}
	r.raw = uint32(len(raw))
	body := c.enc.EncodeAll(raw, make([]byte, 0, len(raw)/3+64))
	r.size = uint32(len(body))
	if k != nil {
		r.size += sealOverhead
		var err error
		if body, err = k.seal(body, r.appendHead(nil)); err != nil {
			return nil, err
		}
	}
	r.sum = crc32.Checksum(body, castagnoli)
	return body, nil
}

var errBodySum = errors.New("the checksum of a record is wrong")

// open checks a body, decrypts and decompresses it.
func (c *codec) open(r *record, body []byte, k *segmentKey) ([]byte, error) {
	// Invariant I8: what fails its checksum is never decoded.
	if crc32.Checksum(body, castagnoli) != r.sum {
		return nil, errBodySum
	}
	var err error
	if k != nil {
		if body, err = k.open(body, r.appendHead(nil)); err != nil {
			return nil, err
		}
	}
	raw, err := c.dec.DecodeAll(body, make([]byte, 0, r.raw))
	if err != nil || len(raw) != int(r.raw) {
		return nil, errors.New("the checksum of a record is right, but it cannot be decompressed")
	}
	return raw, nil
}

// sealJSON makes a body of v.
func (c *codec) sealJSON(r *record, v any, k *segmentKey) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return c.seal(r, raw, k)
}

func (c *codec) openJSON(r *record, body []byte, k *segmentKey, v any) error {
	raw, err := c.open(r, body, k)
	if err == nil {
		d := json.NewDecoder(bytes.NewReader(raw))
		d.DisallowUnknownFields()
		if err = d.Decode(v); err != nil {
			err = fmt.Errorf("a record of kind %d was written by a later version of this program, or is damaged: %w", r.kind, err)
		}
	}
	return err
}

func castagnoliOf(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// readRecord reads the head and the body of the record at off, of a segment of size
// bytes. It returns io.EOF if there is none that is whole.
func readRecord(f io.ReaderAt, off, size int64) (r record, body []byte, err error) {
	var head [recordLen]byte
	if off+recordLen > size {
		return r, nil, io.EOF
	}
	if _, err := f.ReadAt(head[:], off); err != nil {
		return r, nil, err
	}
	if !r.decode(head[:]) {
		return r, nil, errors.New("the checksum of a record's head is wrong")
	}
	r.off = off
	if r.end() > size {
		return r, nil, io.EOF
	}
	body = make([]byte, r.size)
	_, err = f.ReadAt(body, off+recordLen)
	return r, body, err
}

// A place is where an archive ends.
type place struct {
	dfs.Checkpoint
	id        string
	committed int64
}

package cdc

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"unsafe"
)

// alias returns the string whose bytes are b, which must not change any more.
func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// A reader takes numbers and bytes from the front of b. Once b has too few, bad
// is set, b is empty, and all reads give zero.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) fail() { r.bad, r.b = true, nil }

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *reader) bytes(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.fail()
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) uint16() uint16 {
	if v := r.bytes(2); v != nil {
		return binary.LittleEndian.Uint16(v)
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if v := r.bytes(4); v != nil {
		return binary.LittleEndian.Uint32(v)
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if v := r.bytes(8); v != nil {
		return binary.LittleEndian.Uint64(v)
	}
	return 0
}

// uint reads n bytes, at most 8, the lowest first.
func (r *reader) uint(n int) uint64 {
	var v uint64
	for i, c := range r.bytes(n) {
		v |= uint64(c) << (8 * i)
	}
	return v
}

// packed reads a number in MySQL's length-encoded form.
func (r *reader) packed() uint64 {
	switch c := r.byte(); c {
	case 0xfc:
		return r.uint(2)
	case 0xfd:
		return r.uint(3)
	case 0xfe:
		return r.uint(8)
	case 0xfb, 0xff:
		r.fail()
		return 0
	default:
		return uint64(c)
	}
}

// count reads a number of things that follow, each at least size bytes long.
func (r *reader) count(size int) int {
	n := r.packed()
	if n > uint64(len(r.b)/size) {
		r.fail()
		return 0
	}
	return int(n)
}

// uvarint reads a number as encoding/binary writes it.
func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

// maxInflate bounds what a compressed event may claim to unpack to: the largest
// event that a server can write. Fuzzing lowers it.
var maxInflate uint64 = 1 << 30

// inflate unpacks what MariaDB compressed under log_bin_compress: a byte with
// the algorithm and the length of a length, that length with its highest byte
// first, and a zlib stream.
func inflate(b []byte) ([]byte, error) {
	if len(b) == 0 || b[0]&0x70 != 0 {
		return nil, errors.New("unknown compression")
	}
	n := int(b[0] & 7)
	if n < 1 || n > 4 || len(b) < 1+n {
		return nil, errShortEvent
	}
	var size uint64
	for _, c := range b[1 : 1+n] {
		size = size<<8 | uint64(c)
	}
	if size > maxInflate {
		return nil, fmt.Errorf("compressed event claims to hold %d bytes", size)
	}
	z, err := zlib.NewReader(bytes.NewReader(b[1+n:]))
	if err != nil {
		return nil, err
	}
	// The buffer grows with what is really there: the claimed size is not to be
	// trusted with memory.
	var out bytes.Buffer
	if _, err := io.Copy(&out, io.LimitReader(z, int64(size)+1)); err != nil {
		return nil, err
	}
	if uint64(out.Len()) != size {
		return nil, fmt.Errorf("compressed event holds %d bytes instead of %d", out.Len(), size)
	}
	return out.Bytes(), nil
}

package relmgr

import (
	mathbits "math/bits"
	"sort"
)

// pageBits is the size of a page: as many old keys, whether mapped or not.
const pageBits = 10
const pageSize = 1 << pageBits

// A page holds the runs of pageSize old keys, in their order. Most have one: so it is
// part of the page, and a page takes about 160 bytes.
type page struct {
	space *space
	no    int64
	runs  []run
	first [1]run // what runs is made of, until there are more
	dirty bool
}

// A run maps the keys old, old+1 and so on to new, new+1 and so on. It is made
// when the first of them is met, and is longer the more keys before it are mapped:
// keys that come one after the other need one run for many, and keys that are far
// apart one each. New ids that its keys never need are not used.
type run struct {
	old, new    int64
	known, came bits
	span        int32
	dirty       bool
}

// bits are as many as a run has keys. Once all are set, which is soon so where keys
// come one after the other, they take no memory of their own.
type bits struct {
	few  uint64                 // of a run of at most 64 keys
	many *[pageSize / 64]uint64 // of a longer one; nil if none or all are set
	n    int32                  // how many are set
}

func (b *bits) has(i int64, span int32) bool {
	switch {
	case b.n == span:
		return true
	case span <= 64:
		return b.few>>i&1 != 0
	}
	return b.many != nil && b.many[i>>6]>>(i&63)&1 != 0
}

// set sets a bit, and reports whether it was not.
func (b *bits) set(i int64, span int32) bool {
	if b.has(i, span) {
		return false
	}
	b.n++
	switch {
	case span <= 64:
		b.few |= 1 << i
	case b.n == span:
		b.many = nil
	default:
		if b.many == nil {
			b.many = new([pageSize / 64]uint64)
		}
		b.many[i>>6] |= 1 << (i & 63)
	}
	return true
}

// bytes returns the bits as the file has them.
func (b *bits) bytes(span int32) []byte {
	list := make([]byte, (span+7)/8)
	if span > 64 && b.n < span && b.many == nil {
		return list
	}
	for i := range list {
		switch {
		case b.n == span:
			list[i] = 0xff
		case span <= 64:
			list[i] = byte(b.few >> (8 * i))
		default:
			list[i] = byte(b.many[i/8] >> (i % 8 * 8))
		}
	}
	if rest := span % 8; rest != 0 {
		list[len(list)-1] &= 1<<rest - 1
	}
	return list
}

// read sets the bits that the file has.
func (b *bits) read(list []byte, span int32) {
	n := int32(0)
	for i, c := range list {
		if rest := span - int32(8*i); rest < 8 {
			c &= 1<<max(rest, 0) - 1
		}
		n += int32(mathbits.OnesCount8(c))
	}
	if n == span {
		b.n = span
		return
	}
	for i, c := range list {
		for ; c != 0; c &= c - 1 {
			if at := int64(8*i + mathbits.TrailingZeros8(c)); at < int64(span) {
				b.set(at, span)
			}
		}
	}
}

const runBytes = 72

// size is roughly how many bytes of memory the run takes, with those of its bits.
func (r *run) size() int {
	n := runBytes
	for _, b := range [2]*bits{&r.known, &r.came} {
		if b.many != nil {
			n += pageSize / 8
		}
	}
	return n
}

// find returns the run that maps the key, or nil, and where in the page a run of
// it would be.
func (p *page) find(key int64) (*run, int) {
	i := len(p.runs)
	if i > 1 {
		i = sort.Search(i, func(i int) bool { return p.runs[i].old > key })
	} else if i == 1 && p.runs[0].old > key {
		i = 0
	}
	if i > 0 {
		if r := &p.runs[i-1]; key-r.old < int64(r.span) {
			return r, i
		}
	}
	return nil, i
}

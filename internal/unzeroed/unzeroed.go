// Package unzeroed gives memory for those who write all of it before anybody reads it.
package unzeroed

import (
	"strings"
	"unsafe"
)

// Bytes returns n bytes, of which each may have any value. Of a block of 256 KB, make spends as
// much on the zeros as a copy of the whole takes, and drives out of the processor's cache what is
// about to be written there. The standard library gives memory without zeros to strings.Builder
// alone.
func Bytes(n int) []byte {
	if n <= 0 {
		return []byte{}
	}
	var b strings.Builder
	b.Grow(n)
	b.WriteByte(0) // an empty string has no address
	return unsafe.Slice(unsafe.StringData(b.String()), n)
}

package unzeroed

import (
	"bytes"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBytesHaveTheLength(t *testing.T) {
	for _, n := range []int{-1, 0, 1, 7, 8, 4096, 256 << 10, 5 << 20} {
		b := Bytes(n)
		require.Len(t, b, max(n, 0))
		require.NotNil(t, b)
	}
}

// Each result is memory of its own, that the collector leaves alone while it is used.
func TestBytesAreApart(t *testing.T) {
	var all [][]byte
	for i := range 200 {
		b := Bytes(1 + i*97)
		for j := range b {
			b[j] = byte(i)
		}
		all = append(all, b)
		if i%20 == 0 {
			runtime.GC()
		}
	}
	for i, b := range all {
		require.True(t, bytes.Equal(b, bytes.Repeat([]byte{byte(i)}, len(b))), "slice %d", i)
	}
}

func BenchmarkBytes(b *testing.B) {
	for name, f := range map[string]func(int) []byte{"unzeroed": Bytes, "make": func(n int) []byte { return make([]byte, n) }} {
		b.Run(name, func(b *testing.B) {
			var sink []byte
			for b.Loop() {
				sink = f(256 << 10)
				sink[0] = 1
			}
		})
	}
}

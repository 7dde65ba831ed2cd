package queue

import (
	"testing"

	"github.com/klauspost/compress/s2"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/txrun"
)

// FuzzBlock opens any bytes as what is in a block whose checksum is right.
func FuzzBlock(f *testing.F) {
	var e txrun.Encoder
	for _, tx := range txs(1, 3, 50) {
		if err := e.Add(tx); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(uint64(1), uint64(3), false, e.Raw)
	f.Add(uint64(1), uint64(3), true, s2.Encode(nil, e.Raw))
	f.Fuzz(func(t *testing.T, first, last uint64, coded bool, data []byte) {
		b := block{id: 1, first: first, last: last, whole: last, format: formatS2, data: data}
		if n, err := s2.DecodedLen(data); coded && (err != nil || n > 1<<20) {
			return
		} else if b.raw = int64(n); !coded {
			b.raw, b.data = int64(len(data)), s2.Encode(nil, data)
		}
		b.sum = b.check()
		c, err := b.open()
		if err != nil {
			return
		}
		for seq := first; c.Left() > 0; seq++ {
			var tx dfs.Transaction
			if err := c.Next(&tx); err != nil {
				return
			}
			if tx.Seq != seq {
				t.Fatalf("transaction %d comes where %d must", tx.Seq, seq)
			}
		}
	})
}

//go:build !race

// The race detector allocates too.

package cdc

import (
	"bytes"
	"context"
	"testing"

	gomysql "github.com/go-mysql-org/go-mysql/mysql"
	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
)

// Reading costs no allocation for an event: what there is belongs to whole batches.
func TestReadingAllocatesNothingForAnEvent(t *testing.T) {
	for _, shape := range []string{single, fifty, packed} {
		r := newReplay(t, 20000, shape)
		st := r.stream(t)
		batch := make([]*dfs.Transaction, 4096)
		run := func() {
			for n := 0; n < r.txs; {
				k, err := st.Next(context.Background(), batch)
				if err != nil {
					t.Fatal(err)
				}
				n += k
			}
		}
		run()
		allocs := testing.AllocsPerRun(5, func() {
			r.again()
			run()
		})
		require.Less(t, allocs, float64(r.rows)/50, "for %d rows in %d events of %d transactions, %s", r.rows, r.events, r.txs, shape)
	}
}

// TestFramesTakeNoMemory looks that what unpacks is used again.
func TestFramesTakeNoMemory(t *testing.T) {
	for _, algorithm := range []uint8{gomysql.MYSQL_COMPRESS_ZLIB, gomysql.MYSQL_COMPRESS_ZSTD} {
		wire := frame(t, algorithm, bytes.Repeat([]byte("some event "), 1000))
		f := &frames{algorithm: algorithm}
		conn := bytes.NewReader(wire)
		to := make([]byte, 1<<20)
		allocs := testing.AllocsPerRun(100, func() {
			conn.Reset(wire)
			for n := 0; n < 11000; {
				k, err := f.read(conn, to)
				if err != nil {
					t.Fatal(err)
				}
				n += k
			}
		})
		require.LessOrEqual(t, allocs, 2.0)
	}
}

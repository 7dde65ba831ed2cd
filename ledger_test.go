package dfs

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// Rows of tables that took turns had an entry each, and those of a transaction in parts
// stayed until its end: that could be more memory than the transaction itself.
func TestTheLedgerOfALargeTransactionIsSmall(t *testing.T) {
	const parts, rows = 20, 600
	for _, tables := range []int{1, 2, 8, 9, 300} {
		var list []*Table
		for i := range tables {
			list = append(list, &Table{Schema: "shop", Name: string(rune('a' + i))})
		}
		l := &leg{p: &Pipeline{Logger: discard}, src: newLog(1, 0), dst: newLog(2, 0), st: new(legStats)}
		l.st.reset(Running)
		a := &applier{leg: l, room: newRoom(1 << 20), unpacked: newRoom(1 << 20)}
		// A small transaction, the large one, and another small one.
		for seq := uint64(1); seq <= parts+2; seq++ {
			tx := &Transaction{Checkpoint: Checkpoint{Seq: seq}, Committed: time.Unix(int64(seq), 0), More: seq > 1 && seq <= parts}
			if !tx.More {
				tx.ID = string(rune('a' + seq))
			}
			for n := range rows {
				tx.Changes = append(tx.Changes, Change{Op: Insert, Table: list[n%tables], After: Row{IntValue(int64(n))}})
			}
			id, committed, more := tx.ID, tx.Committed, tx.More // the sink has tx afterwards
			c := &chunk{txs: []*Transaction{tx}, size: 1000, first: seq, ledger: []entry{{seq: seq, what: size, n: 1000, id: tx.ID, committed: tx.Committed}}}
			if seq > 2 && seq <= parts+1 {
				c.first = 2
			}
			require.Equal(t, rows, c.countAll(received))
			c.rows = c.countAll(applied)
			require.LessOrEqual(t, len(c.ledger), 1+2*tables)
			require.NoError(t, a.apply(t.Context(), []*chunk{c}))
			require.LessOrEqual(t, len(l.ledger), 1+2*tables, "transaction %d", seq)
			leg := l.st.snapshot(nil)
			if more {
				require.Equal(t, uint64(rows), leg.Applied, "none of it counts before its end")
				require.Equal(t, uint64(1), leg.Transactions)
				continue
			}
			require.Equal(t, seq*rows, leg.Applied)
			require.Equal(t, seq*rows, leg.Received)
			require.Equal(t, seq, leg.Transactions)
			require.Equal(t, 1000*seq, leg.Bytes)
			require.Equal(t, id, leg.ID)
			require.Equal(t, committed, leg.Committed)
			require.Empty(t, l.ledger)
		}
		per := make(map[string]TableStats)
		l.st.snapshot(per)
		require.Len(t, per, tables)
	}
}

// narrow is a source of rows that take thirty times more memory once they are decoded.
type narrow struct {
	*memLog
	decoded atomic.Int64
}

func (n *narrow) Decode(_ context.Context, batch []*Transaction) error {
	for _, tx := range batch {
		n.decoded.Add(1)
		tx.Encoded, tx.Changes = nil, nil
		for i := range 1000 {
			tx.Changes = append(tx.Changes, insert(int64(i))...)
		}
	}
	return nil
}

// Rows of few bytes take ten times the memory that they took as they were read, and were
// decoded as far ahead as those that take three times as much.
func TestNarrowRowsAreNotDecodedFarAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const count, size = 100, 5000
		src, dst := &narrow{memLog: newLog(1, 0)}, blocked()
		for range count {
			src.append(Transaction{Encoded: make([]byte, size)})
		}
		src.closed = true
		// All of them fit into ReadAhead as they are read, and a tenth of them once decoded.
		// Of a Queue, which the fake is too, nothing would be decoded.
		p := &Pipeline{Source: src, Sink: struct{ Sink }{dst}, Logger: discard, ReadAhead: count * (size + 300), MaxBatch: 2}
		done := make(chan error)
		go func() { done <- p.Run(t.Context()) }()
		<-dst.entered
		synctest.Wait()
		require.LessOrEqual(t, src.decoded.Load(), int64(3*count*(size+300)/(1000*changeSize)+3))
		close(dst.release)
		require.NoError(t, <-done)
		require.Equal(t, int64(count), src.decoded.Load())
		require.Equal(t, uint64(1000*count), p.Stats().Apply.Applied)
	})
}

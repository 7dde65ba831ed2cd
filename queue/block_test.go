package queue

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
)

func seal(t testing.TB, txs []dfs.Transaction) *block {
	var e encoder
	e.reset(txs[0].Seq)
	for i := range txs {
		require.NoError(t, e.add(&txs[i]))
	}
	e.id = 7
	require.NoError(t, e.seal())
	return &e.block
}

func sample(n int) []dfs.Transaction {
	start := time.Date(2026, 11, 22, 12, 0, 0, 123456000, time.UTC)
	txs := make([]dfs.Transaction, n)
	for i := range txs {
		tx := &txs[i]
		tx.Seq = uint64(100 + i)
		tx.Pos = dfs.Position(fmt.Sprintf("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-%d,ffff:1-5", 77+i))
		tx.ID = fmt.Sprintf("3e11fa47-71ca-11e1-9e33-c80aa9429562:%d", 77+i)
		tx.Committed = start.Add(time.Duration(i%5-2) * time.Second)
		switch i % 6 {
		case 0:
			tx.Encoded = []byte(fmt.Sprint("row events ", i))
		case 1:
			tx.Changes = []dfs.Change{{Op: dfs.Insert, After: dfs.Row{dfs.IntValue(int64(i))}}}
		case 2:
			tx.Encoded, tx.ID, tx.Pos = []byte{}, "", ""
		case 3:
			tx.Committed, tx.Snapshot = time.Time{}, true
		case 4:
			tx.More, tx.Encoded = true, []byte{0}
		case 5:
			tx.Committed = time.Unix(-5, 0).UTC()
		}
	}
	return txs
}

func TestBlockKeepsEveryField(t *testing.T) {
	for _, n := range []int{1, 2, 6, 1000} {
		want := sample(n)
		c, err := seal(t, want).open()
		require.NoError(t, err)
		require.Equal(t, n, c.Left())
		for i := range want {
			var got dfs.Transaction
			require.NoError(t, c.Next(&got))
			require.Equal(t, want[i], got)
		}
		require.Zero(t, c.Left())
	}
}

func TestBlockRefusesEveryChangedBit(t *testing.T) {
	b := seal(t, sample(5))
	for i := range b.data {
		for bit := range 8 {
			b.data[i] ^= 1 << bit
			_, err := b.open()
			require.ErrorContains(t, err, "checksum")
			b.data[i] ^= 1 << bit
		}
	}
	for name, change := range map[string]func(*block){
		"id":     func(b *block) { b.id++ },
		"first":  func(b *block) { b.first++ },
		"last":   func(b *block) { b.last-- },
		"whole":  func(b *block) { b.whole++ },
		"pos":    func(b *block) { b.pos += "1" },
		"at":     func(b *block) { b.at++ },
		"end":    func(b *block) { b.end++ },
		"format": func(b *block) { b.format++ },
		"raw":    func(b *block) { b.raw++ },
		"data":   func(b *block) { b.data = b.data[:len(b.data)-1] },
	} {
		c := *b
		change(&c)
		_, err := c.open()
		require.ErrorContains(t, err, "checksum", name)
	}
	_, err := b.open()
	require.NoError(t, err)
}

func TestBlockOfAnotherFormatIsRefusedInWords(t *testing.T) {
	b := seal(t, sample(1))
	b.format = 9
	b.sum = b.check()
	_, err := b.open()
	require.ErrorContains(t, err, "format 9, this program reads 1")
}

package sink_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/dfstest"
	"github.com/dataflowsync/dfs/queue"
	"github.com/dataflowsync/dfs/sink"
)

// A shop is kept in an archive, and restored to before the transaction that was a
// mistake.
func ExampleOpenArchive() {
	shop, err := dfstest.Parse(`
table shop.users (id int, name varchar(40), key id)

insert shop.users 1, "Ann"
commit snapshot
insert shop.users 2, "Bob"
commit gtid:7
delete shop.users 1, "Ann"
delete shop.users 2, "Bob"
commit gtid:8
`)
	if err != nil {
		log.Fatal(err)
	}
	shop.Transactions[0].Snapshot, shop.Transactions[0].Copied = true, true // the rows that were there already
	dir, err := os.MkdirTemp("", "archive-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	ctx := context.Background()
	a, err := sink.OpenArchive(dir, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer a.Close()
	keep := &dfs.Pipeline{Source: &dfstest.Source{Transactions: shop.Transactions}, Sink: a}
	if err := keep.Run(ctx); err != nil {
		log.Fatal(err)
	}

	r, err := a.Restore(ctx, &sink.RestoreOptions{To: dfs.StopPoint{ID: "gtid:8"}, Before: true})
	if err != nil {
		log.Fatal(err)
	}
	var target dfstest.Target
	restore := &dfs.Pipeline{Source: r, Sink: target.Open()}
	if err := restore.Run(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println(target.Rows("shop.users", "id", "name"))
	// Output: [1|Ann 2|Bob]
}

// An archive is one of several readers of a queue: it gets what the source has encoded,
// as it is, and goes on from where it stands.
func TestArchiveIsFedByAReaderOfAQueue(t *testing.T) {
	q, err := queue.Open(filepath.Join(t.TempDir(), "queue"), nil)
	require.NoError(t, err)
	defer q.Close()
	a, err := sink.OpenArchive(t.TempDir(), &sink.ArchiveOptions{SegmentBytes: 2000})
	require.NoError(t, err)
	defer a.Close()
	var want []byte
	seq := uint64(0)
	for range 3 {
		for range 40 {
			seq++
			tx := &dfs.Transaction{Checkpoint: dfs.Checkpoint{Seq: seq, Pos: dfs.Position(fmt.Sprint("at ", seq))}, ID: fmt.Sprint("t:", seq), Encoded: fmt.Appendf(nil, "event %d;", seq)}
			want = append(want, tx.Encoded...)
			require.NoError(t, q.Apply(t.Context(), []*dfs.Transaction{tx}))
		}
		p := &dfs.Pipeline{Source: q.Reader("archive"), Sink: a}
		require.NoError(t, p.StopAt(dfs.StopPoint{Seq: seq}))
		require.NoError(t, p.Run(t.Context()))
		require.Equal(t, seq, a.End().Seq)
	}
	var got []byte
	require.NoError(t, a.Each(t.Context(), dfs.StopPoint{}, dfs.StopPoint{}, nil, func(tx *dfs.Transaction) error {
		got = append(got, tx.Encoded...)
		return nil
	}))
	require.Equal(t, string(want), string(got))
}

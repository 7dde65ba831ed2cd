package nats

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/sink/sinktest"
	"github.com/dataflowsync/dfs/sink/stream"
)

// start starts a NATS server in this process.
func start(t testing.TB) *server.Server {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true})
	require.NoError(t, err)
	s.Start()
	require.True(t, s.ReadyForConnections(20*time.Second))
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	return s
}

func open(t testing.TB, s *server.Server, o *Options) *Sink {
	k, err := Open(t.Context(), s.ClientURL(), o)
	require.NoError(t, err)
	return k
}

type stored struct {
	Subject string `json:"subject"`
	Data    []byte `json:"data"`
}

// all returns what the stream holds, in order.
func all(t testing.TB, srv *server.Server) (list []stored) {
	k := open(t, srv, nil)
	defer k.Close()
	for seq := uint64(1); ; {
		var found struct {
			Message struct {
				stored
				Seq uint64 `json:"seq"`
			} `json:"message"`
		}
		err := k.api(t.Context(), "STREAM.MSG.GET", map[string]any{"seq": seq, "next_by_subj": ">"}, &found)
		if err != nil {
			require.Contains(t, err.Error(), "no message found")
			return list
		}
		list = append(list, found.Message.stored)
		seq = found.Message.Seq + 1
	}
}

func rows(t testing.TB, list []stored) (out []sinktest.Row) {
	type item struct {
		ID   int64  `json:"id"`
		Name string `json:"name"`
		N    int64  `json:"n"`
	}
	table := make(map[int64]sinktest.Row)
	for _, s := range list {
		if s.Subject != "dfs.shop.items" {
			continue
		}
		var m struct{ Before, After *item }
		require.NoError(t, json.Unmarshal(s.Data, &m))
		if m.Before != nil {
			require.Equal(t, sinktest.Row(*m.Before), table[m.Before.ID])
			delete(table, m.Before.ID)
		}
		if m.After != nil {
			require.NotContains(t, table, m.After.ID)
			table[m.After.ID] = sinktest.Row(*m.After)
		}
	}
	for _, r := range table {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b sinktest.Row) int { return int(a.ID - b.ID) })
	return out
}

func TestNATSKeepsTheContractOfASink(t *testing.T) {
	sinktest.Run(t, "shop", func(t *testing.T) sinktest.Target {
		srv := start(t)
		return sinktest.Target{
			Open: func(tb testing.TB) dfs.Sink { return open(tb, srv, nil) },
			Rows: func(tb testing.TB) []sinktest.Row { return rows(tb, all(tb, srv)) },
		}
	})
}

var items = sinktest.Table("shop")

func insert(seq uint64, n int) *dfs.Transaction {
	tx := &dfs.Transaction{Checkpoint: dfs.Checkpoint{Seq: seq, Pos: dfs.Position(fmt.Sprint("at ", seq))}, ID: fmt.Sprint("t", seq)}
	for i := range n {
		tx.Changes = append(tx.Changes, dfs.Change{Op: dfs.Insert, Table: items,
			After: dfs.Row{dfs.IntValue(int64(seq)*1000000 + int64(i)), dfs.StringValue("x"), dfs.IntValue(1)}})
	}
	return tx
}

// TestATransactionOfManyBatchesGoesOnWhereItWasCut stores some of a transaction that
// is larger than a batch, as if the process had died then, and begins again.
func TestATransactionOfManyBatchesGoesOnWhereItWasCut(t *testing.T) {
	srv := start(t)
	want := 0
	for _, c := range []struct{ cut, most int }{{1, 100}, {3, 100}, {2, 1000}} { // the last by the server's own limit
		cut, part := c.cut, c.most-1
		o := &Options{MaxBatch: c.most}
		k := open(t, srv, o)
		at, err := k.Checkpoint(t.Context())
		require.NoError(t, err)
		seq := at.Seq + 1
		sent := 0
		big := insert(seq, c.most*7/2)
		want += len(big.Changes) + 1
		var rest []*dfs.Transaction
		// The first batches alone, by a sink whose transaction has not ended.
		for n := 0; sent < cut; sent++ {
			some := *big
			some.Seq, some.More, some.Changes = seq+uint64(sent), true, big.Changes[n:n+part]
			require.NoError(t, k.Apply(t.Context(), []*dfs.Transaction{&some}))
			n += part
		}
		require.NotEmpty(t, k.rec.Partial)
		require.NoError(t, k.Close())

		k = open(t, srv, o)
		at, err = k.Checkpoint(t.Context())
		require.NoError(t, err)
		require.Equal(t, seq-1, at.Seq)
		empty := &dfs.Transaction{Checkpoint: dfs.Checkpoint{Seq: seq, Pos: "moved"}}
		big.Seq = seq + 1
		rest = append(rest, empty, big, insert(seq+2, 1))
		rest[2].ID = fmt.Sprint("after ", cut)
		require.NoError(t, k.Apply(t.Context(), rest))
		at, err = k.Checkpoint(t.Context())
		require.NoError(t, err)
		require.Equal(t, seq+2, at.Seq)
		require.Empty(t, k.rec.Partial)
		require.NoError(t, k.Close())
		require.Len(t, rows(t, all(t, srv)), want) // each once: rows checks that
	}
}

func TestWhatIsNotOursIsRefused(t *testing.T) {
	srv := start(t)
	k := open(t, srv, nil)
	defer k.Close()
	_, err := k.Checkpoint(t.Context())
	require.NoError(t, err)
	require.NoError(t, k.Apply(t.Context(), []*dfs.Transaction{insert(1, 1)}))
	require.Equal(t, stream.ExactlyOnce, k.Stats().Guarantee)
	var purged struct{}
	require.NoError(t, k.api(t.Context(), "STREAM.PURGE", map[string]string{"filter": "dfs._checkpoint.>"}, &purged))
	_, err = k.Checkpoint(t.Context())
	require.ErrorContains(t, err, "has had messages, but has no checkpoint")

	require.NoError(t, k.api(t.Context(), "STREAM.DELETE", struct{}{}, &purged))
	k.opts.Stream = "OTHER"
	require.NoError(t, k.api(t.Context(), "STREAM.CREATE", map[string]any{"name": "OTHER", "subjects": []string{"dfs.>"}}, &purged))
	_, err = Open(t.Context(), srv.ClientURL(), &Options{Stream: "OTHER"})
	require.ErrorContains(t, err, "allow_atomic")

	_, err = Open(t.Context(), "nats://127.0.0.1:1", nil)
	require.ErrorIs(t, err, dfs.ErrTransient)
	_, err = Open(t.Context(), "", &Options{MaxBatch: 1, Timeout: -1})
	require.ErrorContains(t, err, "must not be negative")
	require.ErrorContains(t, err, "MaxBatch is 1")
}

func TestMain(m *testing.M) {
	if url := os.Getenv("NATS_TEST_CHILD"); url != "" {
		child(url)
		return
	}
	os.Exit(m.Run())
}

// child publishes without end, and says how far it is.
func child(url string) {
	ctx := context.Background()
	s, err := Open(ctx, url, &Options{MaxBatch: 8}) // so that some take several batches
	if err != nil {
		panic(err)
	}
	at, err := s.Checkpoint(ctx)
	for n := at.Seq; err == nil; {
		var batch []*dfs.Transaction
		for range 1 + n%5 {
			n++
			batch = append(batch, insert(n, int(n%20)))
		}
		if err = s.Apply(ctx, batch); err == nil {
			fmt.Println(n)
		}
	}
	panic(err)
}

func TestAProcessThatIsKilledPublishesEachTransactionOnce(t *testing.T) {
	srv := start(t)
	for round := range 5 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "NATS_TEST_CHILD="+srv.ClientURL())
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		r := bufio.NewReader(out)
		for range 4 + 3*round {
			_, err := r.ReadString('\n')
			require.NoError(t, err)
		}
		require.NoError(t, cmd.Process.Kill())
		cmd.Wait()

		s := open(t, srv, nil)
		at, err := s.Checkpoint(t.Context())
		require.NoError(t, err)
		stored := s.rec.Stored // of one that was cut
		require.NoError(t, s.Close())
		want := 0
		for n := range at.Seq {
			want += int((n + 1) % 20)
		}
		if stored > 0 {
			want += stored - 1 // all but the message that begins it
		}
		require.NotZero(t, at.Seq)
		require.Len(t, rows(t, all(t, srv)), want, "round %d", round)
	}
}

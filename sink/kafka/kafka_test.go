package kafka

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/sink/sinktest"
	"github.com/dataflowsync/dfs/sink/stream"
)

// The broker of these tests is kfake, franz-go's own fake of one, in this process: it
// has transactions, epochs and isolation levels, but no disk, replicas or compaction.
func broker(t testing.TB) []string {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.DefaultNumPartitions(3))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c.ListenAddrs()
}

// consume returns what a reader of committed records sees of a topic, up to its end.
func consume(t testing.TB, brokers []string, topic string) (list []*kgo.Record) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	require.NoError(t, err)
	defer cl.Close()
	for p := range int32(3) {
		end, err := offsets(t.Context(), cl, topic, p, -1)
		if err != nil {
			require.ErrorIs(t, err, kerr.UnknownTopicOrPartition)
			continue
		}
		r, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
			kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {p: kgo.NewOffset().At(0)}}))
		require.NoError(t, err)
		for next := int64(0); next < end; {
			r.PollFetches(t.Context()).EachRecord(func(r *kgo.Record) {
				if next = r.Offset + 1; r.Offset < end && !r.Attrs.IsControl() {
					list = append(list, r)
				}
			})
		}
		r.Close()
	}
	return list
}

func TestKafkaKeepsTheContractOfASink(t *testing.T) {
	sinktest.Run(t, "shop", func(t *testing.T) sinktest.Target {
		brokers := broker(t)
		return sinktest.Target{
			Open: func(tb testing.TB) dfs.Sink {
				s, err := Open(tb.Context(), brokers, nil)
				require.NoError(tb, err)
				return s
			},
			Rows: func(tb testing.TB) []sinktest.Row { return rows(tb, consume(tb, brokers, "dfs.shop.items")) },
		}
	})
}

func rows(t testing.TB, list []*kgo.Record) (out []sinktest.Row) {
	type item struct {
		ID   int64  `json:"id"`
		Name string `json:"name"`
		N    int64  `json:"n"`
	}
	table := make(map[int64]sinktest.Row)
	for _, r := range list {
		var m struct{ Before, After *item }
		require.NoError(t, json.Unmarshal(r.Value, &m))
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

var items = sinktest.Table("shop")

func insert(seq uint64) *dfs.Transaction {
	return &dfs.Transaction{Checkpoint: dfs.Checkpoint{Seq: seq, Pos: dfs.Position(fmt.Sprint("at ", seq))}, ID: fmt.Sprint("t", seq),
		Committed: time.Unix(1.8e9, 0), Changes: []dfs.Change{
			{Op: dfs.Insert, Table: items, After: dfs.Row{dfs.IntValue(int64(seq)), dfs.StringValue("x"), dfs.IntValue(1)}}}}
}

func TestDebeziumsTopicsKeysAndTombstones(t *testing.T) {
	brokers := broker(t)
	s, err := Open(t.Context(), brokers, &Options{Options: stream.Options{Format: stream.Debezium, Name: "inventory"}, ID: "shop"})
	require.NoError(t, err)
	defer s.Close()
	_, err = s.Checkpoint(t.Context())
	require.NoError(t, err)
	gone := insert(2)
	gone.Changes[0] = dfs.Change{Op: dfs.Delete, Table: items, Before: insert(1).Changes[0].After}
	require.NoError(t, s.Apply(t.Context(), []*dfs.Transaction{insert(1), gone}))
	list := consume(t, brokers, "inventory.shop.items")
	require.Len(t, list, 3)
	for _, r := range list {
		require.Equal(t, `{"id":1}`, string(r.Key))
	}
	require.Contains(t, string(list[0].Value), `"op":"c"`)
	require.Contains(t, string(list[1].Value), `"op":"d"`)
	require.Nil(t, list[2].Value)
	require.Equal(t, stream.ExactlyOnce, s.Stats().Guarantee)
}

func TestALostCheckpointIsNoticed(t *testing.T) {
	brokers := broker(t)
	s, err := Open(t.Context(), brokers, nil)
	require.NoError(t, err)
	_, err = s.Checkpoint(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.Apply(t.Context(), []*dfs.Transaction{insert(1)}))
	require.NoError(t, s.Close())
	other, err := Open(t.Context(), brokers, &Options{ID: "another"})
	require.NoError(t, err)
	defer other.Close()
	_, err = other.Checkpoint(t.Context())
	require.ErrorContains(t, err, `no checkpoint of "another"`)
}

// created calls a function once, when a client has asked to make a topic.
type created func()

func (f created) OnBrokerWrite(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, _ error) {
	if key == int16(kmsg.CreateTopics) {
		f()
	}
}

// A process that began at the same moment published its first messages after this one
// had looked for a checkpoint, and before it looked for messages: it stopped, and told
// that a checkpoint was lost.
func TestProcessesThatBeginAtOnceLoseNoCheckpoint(t *testing.T) {
	brokers := broker(t)
	other, err := Open(t.Context(), brokers, nil)
	require.NoError(t, err)
	defer other.Close()
	var armed atomic.Bool
	s, err := Open(t.Context(), brokers, &Options{Client: []kgo.Opt{kgo.WithHooks(created(func() {
		if armed.Swap(false) { // between the checkpoint that is not there and the messages
			_, err := other.Checkpoint(t.Context())
			assert.NoError(t, err)
			assert.NoError(t, other.Apply(t.Context(), []*dfs.Transaction{insert(1)}))
		}
	}))}})
	require.NoError(t, err)
	defer s.Close()
	armed.Store(true)
	at, err := s.Checkpoint(t.Context())
	require.NoError(t, err)
	require.False(t, armed.Load())
	require.Equal(t, uint64(1), at.Seq)
	require.ErrorIs(t, s.Apply(t.Context(), []*dfs.Transaction{insert(2)}), dfs.ErrConflict)
	require.NoError(t, other.Apply(t.Context(), []*dfs.Transaction{insert(2)}))
}

// Two pipelines of one Name share the topic of checkpoints. While a transaction of the
// other was open, the last checkpoint could not be seen, and an older one was taken for it.
func TestATransactionOfAnotherPipelineHidesNoCheckpoint(t *testing.T) {
	brokers := broker(t)
	s, err := Open(t.Context(), brokers, nil)
	require.NoError(t, err)
	defer s.Close()
	_, err = s.Checkpoint(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.Apply(t.Context(), []*dfs.Transaction{insert(1)}))

	other, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.TransactionalID("dfs-other"), kgo.ProducerLinger(0))
	require.NoError(t, err)
	defer other.Close()
	require.NoError(t, other.BeginTransaction())
	require.NoError(t, other.ProduceSync(t.Context(), &kgo.Record{Topic: "dfs.checkpoint", Key: []byte("other"), Value: []byte("{}")}).FirstErr())
	require.NoError(t, s.Apply(t.Context(), []*dfs.Transaction{insert(2)}))

	again, err := Open(t.Context(), brokers, &Options{Timeout: time.Second})
	require.NoError(t, err)
	defer again.Close()
	_, err = again.Checkpoint(t.Context())
	require.ErrorIs(t, err, dfs.ErrTransient)
	require.ErrorContains(t, err, "another pipeline has a transaction open")
	require.NoError(t, other.EndTransaction(t.Context(), kgo.TryAbort))
	at, err := again.Checkpoint(t.Context())
	require.NoError(t, err)
	require.Equal(t, uint64(2), at.Seq)
}

func TestABrokerThatIsAwayMayComeBack(t *testing.T) {
	_, err := Open(t.Context(), []string{"127.0.0.1:1"}, &Options{Timeout: 300 * time.Millisecond})
	require.ErrorIs(t, err, dfs.ErrTransient)
	require.ErrorContains(t, err, "127.0.0.1:1")
	_, err = Open(t.Context(), nil, &Options{Timeout: -1, Options: stream.Options{Format: "xml"}})
	for _, want := range []string{"no broker", "must not be negative", `Format is "xml"`} {
		require.True(t, strings.Contains(err.Error(), want), err)
	}
}

func TestMain(m *testing.M) {
	if brokers := os.Getenv("KAFKA_TEST_CHILD"); brokers != "" {
		child(strings.Split(brokers, ","))
		return
	}
	os.Exit(m.Run())
}

// child publishes without end, and says how far it is.
func child(brokers []string) {
	ctx := context.Background()
	s, err := Open(ctx, brokers, nil)
	if err != nil {
		panic(err)
	}
	at, err := s.Checkpoint(ctx)
	for n := at.Seq; err == nil; {
		var batch []*dfs.Transaction
		for range 1 + n%5 {
			n++
			batch = append(batch, insert(n))
			batch[len(batch)-1].More = n%7 == 0 // so that parts await their end
		}
		if err = s.Apply(ctx, batch); err == nil {
			fmt.Println(n)
		}
	}
	panic(err)
}

func TestAProcessThatIsKilledPublishesEachTransactionOnce(t *testing.T) {
	brokers := broker(t)
	for round := range 5 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "KAFKA_TEST_CHILD="+strings.Join(brokers, ","))
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

		s, err := Open(t.Context(), brokers, nil)
		require.NoError(t, err)
		at, err := s.Checkpoint(t.Context())
		require.NoError(t, err)
		require.NoError(t, s.Close())
		seen := make(map[string]int)
		for _, record := range consume(t, brokers, "dfs.shop.items") {
			seen[string(record.Key)]++
		}
		want := make(map[string]int)
		for n := range at.Seq {
			want[fmt.Sprintf(`{"id":%d}`, n+1)] = 1
		}
		require.NotZero(t, at.Seq)
		require.Equal(t, want, seen, "round %d", round)
	}
}

package queue

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
)

func TestMain(m *testing.M) {
	if do := os.Getenv("QUEUE_TEST_CHILD"); do != "" {
		children[do](os.Getenv("QUEUE_TEST_PATH"))
		return
	}
	os.Exit(m.Run())
}

// children are what this program does as a process that a test started.
var children = map[string]func(path string){}

var open int // queues by opened, whose tests do not run in parallel

// opened opens the queue at path. When the test ends, it closes it, and checks
// the file and that no goroutine is left.
func opened(t testing.TB, path string, opts *Options) *Queue {
	t.Helper()
	noting := Options{}
	if opts != nil {
		noting = *opts
	}
	noting.noted = make(chan struct{}, 1)
	q, err := Open(path, &noting)
	require.NoError(t, err)
	open++
	t.Cleanup(func() {
		require.NoError(t, q.Close())
		if !q.opts.ReadOnly {
			verify(t, path)
		}
		if open--; open > 0 {
			return
		}
		require.Eventually(t, func() bool {
			buf := make([]byte, 1<<20)
			stacks := string(buf[:runtime.Stack(buf, true)])
			return !strings.Contains(stacks, "queue.(*writer)") && !strings.Contains(stacks, "queue.(*Queue)")
		}, time.Minute, time.Millisecond, "a goroutine outlives the queue")
	})
	return q
}

// lessUnderRace returns a tenth of n under the race detector, which makes SQLite
// many times slower, but at least one.
func lessUnderRace(n int) int {
	if raceEnabled {
		n = max(n/10, 1)
	}
	return n
}

// memory returns a new folder in memory, if the system has such: for tests that
// open hundreds of files, and have nothing to do with fsync.
func memory(t *testing.T) string {
	t.Helper()
	const shm = "/dev/shm"
	if free, known := diskFree(shm); !known || free < 512<<20 {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(shm, "queue")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

func newQueue(t testing.TB, opts *Options) *Queue {
	t.Helper()
	return opened(t, filepath.Join(t.TempDir(), "queue"), opts)
}

// verify checks what must hold of every file at rest: SQLite's own structure,
// blocks without a gap in number or Seq, checksums, and decodable transactions.
func verify(t testing.TB, path string) {
	t.Helper()
	db, err := sql.Open("sqlite", dataSource(path, ""))
	require.NoError(t, err)
	defer db.Close()
	var said string
	require.NoError(t, db.QueryRow("PRAGMA integrity_check").Scan(&said))
	require.Equal(t, "ok", said)
	ctx := context.Background()
	st, err := readState(ctx, path, db)
	require.NoError(t, err)
	rows, err := db.Query("SELECT " + blockColumns + " FROM block ORDER BY id")
	require.NoError(t, err)
	defer rows.Close()
	_, err = readLatest(ctx, path, db, st.whole.seq)
	require.NoError(t, err)
	at := st.base
	for rows.Next() {
		var b block
		require.NoError(t, b.scan(rows))
		require.Equal(t, at.block+1, b.id)
		require.Equal(t, at.seq+1, b.first)
		require.Equal(t, at.end+b.size(), b.end)
		c, err := b.open()
		require.NoError(t, err)
		for c.Left() > 0 {
			require.NoError(t, c.Next(new(dfs.Transaction)))
		}
		at = b.place()
	}
	require.NoError(t, rows.Err())
	require.Equal(t, st.last.seq, at.seq)
}

// tx returns a transaction of about size bytes, which says its own number.
func tx(seq uint64, size int) *dfs.Transaction {
	at := dfs.Checkpoint{Seq: seq, Pos: dfs.Position(fmt.Sprint("pos ", seq))}
	b := append(make([]byte, 0, size+16), fmt.Sprint(seq, ":")...)
	for rng := rand.NewPCG(seq, seq); len(b) < size; {
		b = binary.LittleEndian.AppendUint64(b, rng.Uint64()) // does not compress
	}
	b = b[:max(size, len(fmt.Sprint(seq, ":")))]
	return &dfs.Transaction{Checkpoint: at, ID: fmt.Sprint("id ", seq), Committed: time.UnixMicro(int64(seq)).UTC(), Encoded: b}
}

// stateAt is the State of that transaction, if it is to have one.
func stateAt(seq uint64) string {
	return fmt.Sprint("state ", seq, strings.Repeat("x", int(seq*7919%100_000)))
}

func txs(first uint64, n, size int) []*dfs.Transaction {
	batch := make([]*dfs.Transaction, n)
	for i := range batch {
		batch[i] = tx(first+uint64(i), size)
	}
	return batch
}

func apply(t testing.TB, q *Queue, batch ...*dfs.Transaction) {
	t.Helper()
	require.NoError(t, q.Apply(t.Context(), batch))
}

// fill applies n transactions of size bytes, each in a block of its own.
func fill(t testing.TB, q *Queue, n, size int) {
	t.Helper()
	at, err := q.Checkpoint(t.Context())
	require.NoError(t, err)
	for i := range uint64(n) {
		apply(t, q, tx(at.Seq+1+i, size))
	}
}

// read reads the transactions from from to upTo, and checks that they are what
// tx makes.
func read(t testing.TB, src dfs.Source, from, upTo uint64) {
	t.Helper()
	s, err := src.Open(t.Context(), dfs.Checkpoint{Seq: from - 1})
	require.NoError(t, err)
	defer s.Close()
	follow(t, s, from, upTo)
}

func follow(t testing.TB, s dfs.Stream, from, upTo uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for from <= upTo {
		batch := make([]*dfs.Transaction, min(upTo-from+1, 1000))
		n, err := s.Next(ctx, batch)
		require.NoError(t, err)
		for _, got := range batch[:n] {
			want := tx(from, len(got.Encoded))
			want.More = got.More
			if got.State != "" {
				want.State = stateAt(from)
			}
			if !equal(want, got) {
				require.Equal(t, want, got)
			}
			from++
		}
	}
}

// equal is what require.Equal is for encoded transactions, only fast.
func equal(a, b *dfs.Transaction) bool {
	return a.Checkpoint == b.Checkpoint && a.ID == b.ID && a.Committed == b.Committed && a.Snapshot == b.Snapshot &&
		a.More == b.More && a.Encoded != nil && b.Encoded != nil && bytes.Equal(a.Encoded, b.Encoded) &&
		a.Changes == nil && b.Changes == nil
}

// eventually waits until what the queue does in the background is done. The
// queue must be one that opened has opened for writing.
func eventually(t testing.TB, q *Queue, what string, holds func(Stats) bool) {
	t.Helper()
	late := time.After(2 * time.Minute)
	for !holds(q.Stats()) {
		select {
		case <-q.opts.noted:
		case <-late:
			t.Fatalf("%s: it has not come; %+v", what, q.Stats())
		}
	}
}

func at(seq uint64) dfs.Checkpoint { return tx(seq, 0).Checkpoint }

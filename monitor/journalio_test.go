package monitor

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/dfstest"
	"github.com/dataflowsync/dfs/internal/faultvfs"
	"github.com/dataflowsync/dfs/internal/fixture"
)

// Whichever access to the disk fails: the pipeline does not notice, what was written
// and what was dropped are all that there was, and the journal goes on.
func TestEveryAccessOfTheJournalFails(t *testing.T) {
	dir := t.TempDir()
	tab := people(t)
	src := new(dfstest.Source)
	for i := range 60 {
		src.Transactions = append(src.Transactions, dfs.Transaction{Changes: []dfs.Change{dfstest.Insert(t, tab, i, fmt.Sprint("n", i), "p")}})
	}
	disk := faultvfs.Install(t, dir)
	path := filepath.Join(dir, "journal")
	told := 0
	run := func() {
		for _, name := range []string{"", "-wal", "-shm", "-journal"} {
			os.Remove(path + name)
		}
		var j *Journal
		var err error
		for try := 0; j == nil; try++ {
			require.Less(t, try, 8, "it cannot be opened: %v", err)
			if j, err = OpenJournal(path, &JournalOptions{Level: JournalAll, Logger: discardLog, stall: 10 * time.Millisecond}); err != nil {
				j, told = nil, told+1
			}
		}
		target := new(dfstest.Target)
		carry := func(n int) {
			p := &dfs.Pipeline{Source: &dfstest.Source{Transactions: src.Transactions[:n]}, Sink: target.Open(), Logger: discardLog, MaxBatch: 10}
			require.NoError(t, j.Watch("shop", p))
			require.NoError(t, p.Run(t.Context()))
			j.flush()
		}
		carry(50)
		disk.Stop()
		carry(60)
		require.Len(t, target.Transactions(), 60)
		s := j.Stats()
		require.NoError(t, s.Err)
		require.EqualValues(t, 60, s.Written+s.Dropped)
		if s.Dropped > 0 {
			told++
		}
		found := trace(t, j, TraceQuery{Table: "shop.people", Limit: mostFound}).Transactions
		require.Len(t, found, int(s.Written), "what is counted as written is there, once")
		require.NoError(t, j.Close())
	}
	for _, m := range []faultvfs.Mode{{Runs: 12}, {Runs: 5, Times: 3}, {Runs: 5, Ops: []faultvfs.Op{faultvfs.Write}, Code: faultvfs.Full}} {
		require.Positive(t, disk.Sweep(t, m, run))
	}
	require.Positive(t, told)
}

// What earlier releases have written is read, and written on.
func TestStoredJournals(t *testing.T) {
	tab := people(t)
	carry := func(j *Journal, target *dfstest.Target, n int) {
		src := new(dfstest.Source)
		for i := range n {
			src.Transactions = append(src.Transactions, dfs.Transaction{Changes: []dfs.Change{dfstest.Insert(t, tab, i, fmt.Sprint("n", i), "p")}})
		}
		p := &dfs.Pipeline{Source: src, Sink: target.Open(), Logger: discardLog, MaxBatch: 10}
		require.NoError(t, j.Watch("shop", p))
		require.NoError(t, p.Run(t.Context()))
		j.flush()
	}
	for version := 1; version <= journalVersion; version++ {
		dir := fixture.Unpack(t, filepath.Join("testdata", "formats", fmt.Sprint("journal-", version, ".tgz")), func(dir string) {
			j, err := OpenJournal(filepath.Join(dir, "journal"), &JournalOptions{Level: JournalAll, Logger: discardLog})
			require.NoError(t, err)
			carry(j, new(dfstest.Target), 20)
			require.NoError(t, j.Close())
			if version > 1 { // of which transactions may be parked
				j, err = OpenJournal(filepath.Join(dir, "journal"), &JournalOptions{Level: JournalErrors, Logger: discardLog})
				require.NoError(t, err)
				parked(t, j)
				require.NoError(t, j.Close())
			}
		})
		// Of any age.
		j := openJournal(t, filepath.Join(dir, "journal"), &JournalOptions{Level: JournalAll, KeepFor: 100 * 365 * 24 * time.Hour})
		n := 20
		if version > 1 {
			n += 4
			require.Contains(t, trace(t, j, TraceQuery{ID: "a:3"}).Transactions[0].Error, "parked as dead letter 2")
		}
		require.Len(t, trace(t, j, TraceQuery{Table: "shop.people", Limit: mostFound}).Transactions, n)
		tr := trace(t, j, TraceQuery{Table: "shop.people", Key: []string{"7"}})
		require.Len(t, tr.Transactions, 1)
		require.Equal(t, []string{"insert shop.people id=->7 name=->n7 phone=->p"}, told(tr.Transactions[0].Steps[0]))
		target := new(dfstest.Target)
		carry(j, target, 25)
		require.Len(t, target.Transactions(), 25)
		require.NoError(t, j.Stats().Err)
		var now int
		require.NoError(t, j.db.QueryRow("PRAGMA user_version").Scan(&now))
		require.Equal(t, journalVersion, now, "older programs know what they cannot read")
	}
}

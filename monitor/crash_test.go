package monitor

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/dfstest"
	"github.com/stretchr/testify/require"
)

// A fileSink is one whose transactions the parent process knows: it appends their
// numbers to a file, which survives kill -9 as a real target does.
type fileSink struct {
	f  *os.File
	at dfs.Checkpoint
}

func (s *fileSink) Checkpoint(context.Context) (dfs.Checkpoint, error) { return s.at, nil }

func (s *fileSink) Apply(_ context.Context, batch []*dfs.Transaction) error {
	for _, tx := range batch {
		if _, err := fmt.Fprintln(s.f, tx.Seq); err != nil {
			return err
		}
		s.at = tx.Checkpoint
	}
	time.Sleep(time.Millisecond) // so that some are written before it is killed
	return nil
}

// crashChild is the process that is killed.
func crashChild(t *testing.T, dir string) {
	f, err := os.OpenFile(filepath.Join(dir, "target"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	require.NoError(t, err)
	dst := &fileSink{f: f}
	if n := lastNumber(t, dir); n > 0 {
		dst.at = dfs.Checkpoint{Seq: n, Pos: dfs.Position(strconv.FormatUint(n, 10))}
	}
	j, err := OpenJournal(filepath.Join(dir, "journal"), &JournalOptions{Level: JournalAll, Logger: discardLog})
	require.NoError(t, err)
	p := &dfs.Pipeline{Source: &dfstest.Source{Transactions: crashLog(t)}, Stages: []dfs.Stage{refuses("nobody")}, Sink: dst, Logger: discardLog, MaxBatch: 20}
	require.NoError(t, j.Watch("shop", p))
	fmt.Println("running")
	require.NoError(t, p.Run(t.Context()))
	require.NoError(t, j.Close())
	fmt.Println("done")
}

const crashTransactions = 30_000

func crashLog(t *testing.T) []dfs.Transaction {
	tab := people(t)
	list := make([]dfs.Transaction, crashTransactions)
	for i := range list {
		list[i].Changes = []dfs.Change{dfstest.Insert(t, tab, i+1, "ok", fmt.Sprint("f", i+1))}
	}
	return list
}

func lastNumber(t *testing.T, dir string) uint64 {
	b, err := os.ReadFile(filepath.Join(dir, "target"))
	require.NoError(t, err)
	n, line := uint64(0), 0
	for i, c := range b {
		if c == '\n' {
			n, err = strconv.ParseUint(string(b[line:i]), 10, 64)
			require.NoError(t, err)
			line = i + 1
		}
	}
	if line < len(b) { // a torn line was not applied
		require.NoError(t, os.Truncate(filepath.Join(dir, "target"), int64(line)))
	}
	return n
}

// A process that is killed at any moment leaves a journal that can be read, in which
// nothing is wrong: what it has was applied, and what it lacks is told.
func TestAKilledJournalIsRight(t *testing.T) {
	if dir := os.Getenv("DFS_JOURNAL_CRASH"); dir != "" {
		crashChild(t, dir)
		return
	}
	dir := t.TempDir()
	for round := range 6 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestAKilledJournalIsRight$")
		cmd.Env = append(os.Environ(), "DFS_JOURNAL_CRASH="+dir)
		require.NoError(t, cmd.Start())
		at := uint64(0)
		if b, err := os.ReadFile(filepath.Join(dir, "target")); err == nil && len(b) > 0 {
			at = lastNumber(t, dir)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		// It is killed once some of this round has been written and more has been applied.
		before := blocksIn(dir)
		for killed := false; !killed; {
			select {
			case err := <-ended:
				require.NoError(t, err, "it came to the end by itself")
				killed = true
			case <-time.After(5 * time.Millisecond):
				if round < 5 && lastWhole(dir) > at && blocksIn(dir) > before {
					for upTo := lastWhole(dir) + 200; lastWhole(dir) < min(upTo, crashTransactions-100); {
						time.Sleep(time.Millisecond)
					}
					if err := cmd.Process.Kill(); err == nil {
						<-ended
						killed = true
					} else {
						require.ErrorIs(t, err, os.ErrProcessDone)
					}
				}
			}
		}
		n := lastNumber(t, dir)
		j, err := OpenJournal(filepath.Join(dir, "journal"), &JournalOptions{ReadOnly: true})
		require.NoError(t, err)
		// Each that it has was applied, each applied one is there or in a gap.
		has := make(map[uint64]int)
		tr, err := j.Trace(t.Context(), TraceQuery{Table: "shop.people", Limit: 1})
		require.NoError(t, err)
		rows, err := j.db.Query("SELECT id FROM block ORDER BY id")
		require.NoError(t, err)
		var ids []int64
		for rows.Next() {
			var id int64
			require.NoError(t, rows.Scan(&id))
			ids = append(ids, id)
		}
		require.NoError(t, rows.Err())
		last := uint64(0)
		for _, id := range ids {
			var s stored
			require.NoError(t, j.db.QueryRow("SELECT pipeline, level, first, last, sum, keys, data FROM block WHERE id = ?", id).
				Scan(&s.pipeline, &s.level, &s.first, &s.last, &s.sum, &s.filter, &s.data))
			list, err := s.entries()
			require.NoError(t, err)
			for _, e := range list {
				for _, tx := range e.txs {
					has[tx.seq]++
					last = max(last, tx.seq)
					require.LessOrEqual(t, tx.seq, n, "it says of %d that it was applied", tx.seq)
				}
			}
		}
		gaps := make(map[uint64]bool)
		for _, g := range tr.Gaps {
			for seq := g.First; seq <= g.Last; seq++ {
				gaps[seq] = true
			}
		}
		begun := last
		for seq := range has {
			begun = min(begun, seq)
		}
		for seq := max(begun, 1); seq <= last; seq++ { // before the first that it has, it may not have been there
			require.LessOrEqual(t, has[seq], 1)
			require.Equal(t, has[seq] == 0, gaps[seq], "round %d: %d of %d", round, seq, n)
		}
		require.NoError(t, j.Close())
		if n == crashTransactions {
			require.Positive(t, len(gaps), "no kill lost anything")
			return
		}
	}
	require.Fail(t, "it never came to the end")
}

// blocksIn counts the blocks of the journal, also while the process runs.
func blocksIn(dir string) (n int) {
	j, err := OpenJournal(filepath.Join(dir, "journal"), &JournalOptions{ReadOnly: true})
	if err != nil {
		return 0 // it is not there yet
	}
	defer j.Close()
	if j.db.QueryRow("SELECT COUNT(*) FROM block").Scan(&n) != nil {
		return 0
	}
	return n
}

// lastWhole is lastNumber while the process runs.
func lastWhole(dir string) uint64 {
	b, err := os.ReadFile(filepath.Join(dir, "target"))
	if err != nil {
		return 0
	}
	n, line := uint64(0), 0
	for i, c := range b {
		if c == '\n' {
			n, _ = strconv.ParseUint(string(b[line:i]), 10, 64)
			line = i + 1
		}
	}
	return n
}

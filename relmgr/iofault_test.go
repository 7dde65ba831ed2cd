package relmgr_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/dfstest"
	"github.com/dataflowsync/dfs/internal/faultvfs"
	"github.com/dataflowsync/dfs/internal/testseed"
	"github.com/dataflowsync/dfs/relmgr"
)

// A keeper uses a map as an engine and a service manager do: a batch that failed comes
// again, and after an error that stays the map is opened anew.
type keeper struct {
	t      *testing.T
	path   string
	script *dfstest.Script
	m      *relmgr.Manager
	told   int
	ids    map[string]string // which new id each key of the source has got
}

func (k *keeper) open() (err error) {
	if k.m == nil {
		k.m, err = relmgr.Open(k.path, &relmgr.Options{ForeignKeys: shopKeys, Tables: k.script.Tables, CacheBytes: 1 << 20})
		if err != nil {
			k.m = nil
		}
	}
	return err
}

func (k *keeper) close() {
	if k.m != nil {
		_ = k.m.Close() // what counts is what is in the file
		k.m = nil
	}
}

// process sends a transaction through, and notes the new ids.
func (k *keeper) process(tx *dfs.Transaction) {
	k.t.Helper()
	for try := 0; ; try++ {
		err := k.open()
		if err == nil {
			again := *tx
			again.Changes = append([]dfs.Change(nil), tx.Changes...)
			if err = k.m.Process(k.t.Context(), []*dfs.Transaction{&again}); err == nil {
				k.note(tx, &again)
				return
			}
		}
		k.told++
		require.NotContains(k.t, err.Error(), "backup", "a failed access is no damage")
		require.Less(k.t, try, 8, "it does not go on: %v", err)
		if !errors.Is(err, dfs.ErrTransient) {
			k.close()
		}
	}
}

// note keeps which id each key has got, and requires that it is ever the same.
func (k *keeper) note(was, now *dfs.Transaction) {
	k.t.Helper()
	for i := range was.Changes {
		a, b := &was.Changes[i], &now.Changes[i]
		for col, parent := range map[string]string{"id": a.Table.Name, "user_id": "users"} {
			if c := a.Table.Column(col); c >= 0 && !a.After[c].IsNull() {
				key, id := parent+" "+a.After[c].String(), b.After[c].String()
				if old, known := k.ids[key]; known {
					require.Equal(k.t, old, id, "%s has got another id", key)
				}
				k.ids[key] = id
			}
		}
	}
}

// distinct requires that no two keys of a table have one id.
func (k *keeper) distinct() {
	k.t.Helper()
	back := make(map[string]string)
	for key, id := range k.ids {
		var table string
		fmt.Sscan(key, &table)
		other, taken := back[table+" "+id]
		require.False(k.t, taken, "%s and %s have one id", key, other)
		back[table+" "+id] = key
	}
}

func ioScript(t *testing.T) *dfstest.Script {
	text := shop
	for n := range 12 {
		text += fmt.Sprintf("insert s.users %d, \"a\", NULL\ninsert s.orders %d, %d\ncommit\n", n*700+3, n, n*700+3)
		text += fmt.Sprintf("insert s.orders %d, %d\ncommit\n", n+1000, (n+1)*700+3) // of one that comes later
	}
	for n := range 12 {
		text += fmt.Sprintf("update s.orders %d, %d -> %[1]d, %[2]d\ncommit\n", n, n*700+3)
	}
	s, err := dfstest.Parse(text)
	require.NoError(t, err)
	for i := range s.Transactions {
		s.Transactions[i].Seq = uint64(i + 1)
	}
	return s
}

// Whichever access to the disk fails, each key has the id that it was given once, and
// the map goes on, by itself or once it has been opened anew.
func TestEveryAccessFails(t *testing.T) {
	dir := t.TempDir()
	script := ioScript(t)
	disk := faultvfs.Install(t, dir)
	path, runs := filepath.Join(dir, "map"), 0
	run := func() {
		runs++
		for _, name := range []string{"", "-wal", "-shm", "-journal", ".lock"} {
			os.Remove(path + name)
		}
		k := &keeper{t: t, path: path, script: script, ids: make(map[string]string)}
		for i := range script.Transactions {
			if k.process(&script.Transactions[i]); i == 12 || i == 24 {
				k.close()
			}
		}
		k.distinct()
		disk.Stop()
		k.close()
		// Once more, from the file.
		k.process(&dfs.Transaction{Checkpoint: dfs.Checkpoint{Seq: uint64(len(script.Transactions) + 1)}, Changes: script.Transactions[2].Changes})
		k.close()
	}
	for _, m := range []faultvfs.Mode{
		{Runs: 10}, {Runs: 4, Times: 3}, {Runs: 4, Ops: []faultvfs.Op{faultvfs.Sync}}, {Runs: 4, Ops: []faultvfs.Op{faultvfs.Write}, Code: faultvfs.Full},
	} {
		require.Positive(t, disk.Sweep(t, m, run))
	}
}

// What Process has handed on is in the map after a loss of power, whatever of the rest
// is there.
func TestPowerLoss(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "live"), 0o700))
	script := ioScript(t)
	disk := faultvfs.Install(t, dir)
	rec := disk.Record()
	k := &keeper{t: t, path: filepath.Join(dir, "live", "map"), script: script, ids: make(map[string]string)}
	var known []map[string]string // after each transaction
	for i := range script.Transactions {
		k.process(&script.Transactions[i])
		rec.Mark(i)
		ids := make(map[string]string)
		for key, id := range k.ids {
			ids[key] = id
		}
		known = append(known, ids)
	}
	k.close()
	disk.StopRecording()

	rng := rand.New(rand.NewPCG(testseed.New(t), 1))
	total := rec.Len()
	first, step := faultvfs.Sample(rng, total, 8)
	for n := first; n <= total; n += step {
		for _, loss := range faultvfs.Losses {
			after := filepath.Join(dir, fmt.Sprint("after", n, loss))
			require.NoError(t, os.MkdirAll(filepath.Join(after, "live"), 0o700))
			mark := rec.Crash(t, n, loss, rng, after)
			k := &keeper{t: t, path: filepath.Join(after, "live", "map"), script: script, ids: make(map[string]string)}
			if mark >= 0 {
				k.ids = known[mark]
			}
			// The sink may be behind, so transactions that are known come again.
			for i := max(mark-3, 0); i < len(script.Transactions); i++ {
				k.process(&script.Transactions[i])
			}
			require.Zero(t, k.told, "after %d of %d events, lost: %v", n, total, loss)
			k.distinct()
			k.close()
			require.NoError(t, os.RemoveAll(after))
		}
	}
}

package queue

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
)

func stateful(seq uint64, state string) *dfs.Transaction {
	t := tx(seq, 10)
	t.State = state
	return t
}

// onDisk runs statements on the file of a closed queue, and returns its version.
func onDisk(t *testing.T, path string, stmts ...string) (version int) {
	db, err := sql.Open("sqlite", dataSource(path, ""))
	require.NoError(t, err)
	defer db.Close()
	for _, s := range stmts {
		_, err := db.Exec(s)
		require.NoError(t, err)
	}
	require.NoError(t, db.QueryRow("PRAGMA user_version").Scan(&version))
	return version
}

// Older programs can read a file in which no State was ever stored, and refuse
// another by its version.
func TestFileGetsANewVersionWithItsFirstState(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue")
	use := func(f func(*Queue)) int {
		q, err := Open(path, nil)
		require.NoError(t, err)
		f(q)
		require.NoError(t, q.Close())
		verify(t, path)
		return onDisk(t, path)
	}
	require.Equal(t, 1, use(func(q *Queue) { apply(t, q, tx(1, 10)) }))
	require.Equal(t, 1, use(func(q *Queue) { require.NoError(t, q.Reset(t.Context(), tx(5, 10).Checkpoint)) }))
	require.Equal(t, 2, use(func(q *Queue) { apply(t, q, stateful(6, "a"), tx(7, 10)) }))
	require.Equal(t, 2, use(func(q *Queue) {
		want := stateful(7, "a").Checkpoint
		at, err := q.Checkpoint(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, at)
		r, err := Open(path, &Options{ReadOnly: true})
		require.NoError(t, err)
		at, err = r.Checkpoint(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, at)
		require.NoError(t, r.Close())
	}))
}

func TestLargeStateComesBack(t *testing.T) {
	q := opened(t, filepath.Join(t.TempDir(), "queue"), nil)
	large := stateful(2, strings.Repeat("state", 1<<20))
	apply(t, q, tx(1, 10), large, tx(3, 10))
	s, err := q.Open(t.Context(), dfs.Checkpoint{})
	require.NoError(t, err)
	defer s.Close()
	var states []string
	for len(states) < 3 {
		batch := make([]*dfs.Transaction, 3)
		n, err := s.Next(t.Context(), batch)
		require.NoError(t, err)
		for _, tx := range batch[:n] {
			states = append(states, tx.State)
		}
	}
	require.Equal(t, []string{"", strings.Repeat("state", 1<<20), ""}, states)
}

// Invariant I8: what fails its checksum is never decoded.
func TestDamagedStateIsRefused(t *testing.T) {
	for _, damage := range []string{
		"UPDATE state SET data = x'00'", "UPDATE state SET seq = 1",
		"DELETE FROM block; UPDATE mark SET seq = 0, block = 0, \"end\" = 0 WHERE name = ''",
	} {
		path := filepath.Join(t.TempDir(), "queue")
		q, err := Open(path, nil)
		require.NoError(t, err)
		apply(t, q, tx(1, 10), stateful(2, "a"))
		require.NoError(t, q.Close())
		onDisk(t, path, damage)
		for _, opts := range []*Options{nil, {ReadOnly: true}} {
			q, err := Open(path, opts)
			require.NoError(t, err)
			_, err = q.Checkpoint(t.Context())
			var corrupt *CorruptError
			require.ErrorAs(t, err, &corrupt, damage)
			require.NoError(t, q.Close())
		}
	}
}

func TestStateOfAPartIsRefused(t *testing.T) {
	q := opened(t, filepath.Join(t.TempDir(), "queue"), nil)
	part := stateful(1, "a")
	part.More = true
	require.ErrorContains(t, q.Apply(t.Context(), []*dfs.Transaction{part}), "transaction 1 has State, but is not the last part")
}

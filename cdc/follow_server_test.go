package cdc_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/internal/testseed"
)

// A keeper reads streams one after another, each from the last checkpoint, as a
// pipeline does.
type keeper struct {
	t   *testing.T
	src *cdc.Source
	st  dfs.Stream
	at  dfs.Checkpoint
	see func(*dfs.Transaction)
}

// next reads once, and reports whether one of the transactions satisfies enough.
func (k *keeper) next(enough func(*dfs.Transaction) bool) (found bool) {
	k.t.Helper()
	found, err := k.read(limit(k.t), enough)
	require.NoError(k.t, err)
	return found
}

func (k *keeper) read(ctx context.Context, enough func(*dfs.Transaction) bool) (found bool, err error) {
	if k.st == nil {
		st, err := k.src.Open(limit(k.t), k.at)
		require.NoError(k.t, err)
		k.st = st
	}
	batch := make([]*dfs.Transaction, 32)
	n, err := k.st.Next(ctx, batch)
	require.NoError(k.t, k.src.Decode(k.t.Context(), batch[:n]))
	for _, tx := range batch[:n] {
		k.see(tx)
		if tx.More {
			continue
		}
		if tx.State != "" {
			k.at.State = tx.State
		}
		k.at.Pos = tx.Pos
		found = found || enough != nil && enough(tx)
	}
	return found, err
}

// leave closes the stream, between two transactions.
func (k *keeper) leave() {
	if k.st != nil {
		require.NoError(k.t, k.st.Close())
		k.st = nil
	}
}

// until reads while f runs beside it.
func (k *keeper) until(f func() error) {
	k.t.Helper()
	ctx, cancel := context.WithCancel(limit(k.t))
	done := make(chan error, 1)
	go func() {
		defer cancel()
		done <- f()
	}()
	for {
		_, err := k.read(ctx, nil)
		if ctx.Err() != nil {
			require.NoError(k.t, <-done)
			return
		}
		require.NoError(k.t, err)
	}
}

// Tables are followed, with the rows that they have, and left out again while all are
// written to, through streams that end at random, and what comes is an exact history.
func TestTablesAreFollowedAndLeftOutWhileTheyAreChanged(t *testing.T) {
	eachSetup(t, func(t *testing.T, s setup, srv *testenv.Server) {
		const keys = 200
		schema := srv.Schema(t)
		cases := copyCases[:5]
		fill(t, srv, schema, cases, keys)
		srv.Exec(t, "CREATE TABLE "+schema+".done (id int)")
		seed := testseed.New(t)
		src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".ints", schema + ".done"}, MaxPart: 4 << 10,
			Heartbeat: 10 * time.Millisecond, ReadTimeout: 20 * time.Second, Snapshot: &cdc.Snapshot{Readers: 2, ChunkRows: 20}})
		db := srv.DB(t)
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, 1))
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := change(db, schema, rnd, cases, keys); err != nil {
					t.Error(err)
					return
				}
			}
		})
		m := newMirror(t)
		var gone atomic.Bool // nothing of ints may come any more
		k := &keeper{t: t, src: src, see: func(tx *dfs.Transaction) {
			m.apply(tx)
			if gone.Load() {
				for _, c := range tx.Changes {
					require.NotEqual(t, "ints", c.Table.Name, "what is left out comes")
				}
			}
		}}
		rnd := rand.New(rand.NewPCG(seed, 2))
		copied := func(tx *dfs.Transaction) bool { return tx.Copied }
		reopen := 40
		if s.word == "file" {
			reopen = 3000 // there a stream reads no rows in its first second
		}
		read := func(enough func(*dfs.Transaction) bool) {
			for !k.next(enough) {
				if rnd.IntN(reopen) == 0 {
					k.leave()
				}
			}
		}
		for range 3 {
			k.next(nil)
		}
		// While the first copy goes on.
		k.until(func() error { return src.Follow(t.Context(), []string{schema + ".texts", schema + ".bytes"}, true) })
		k.leave()
		read(copied)
		k.until(func() error { return src.Unfollow(t.Context(), []string{schema + ".ints"}) })
		gone.Store(true)
		k.leave()
		k.until(func() error { return src.Follow(t.Context(), []string{schema + ".pairs"}, true) })
		read(copied)
		close(stop)
		wg.Wait()
		srv.Exec(t, "INSERT INTO "+schema+".done VALUES (1)")
		read(func(tx *dfs.Transaction) bool {
			return slices.ContainsFunc(tx.Changes, func(c dfs.Change) bool { return c.Op == dfs.Insert && c.Table.Name == "done" })
		})
		m.equals(db, schema, []copyCase{cases[2], cases[3], cases[4]})
		require.Empty(t, m.tables["sparse"])

		require.ErrorIs(t, src.Follow(t.Context(), []string{schema + ".texts"}, true), dfs.ErrNoChange)
		require.ErrorIs(t, src.Unfollow(t.Context(), []string{schema + ".ints"}), dfs.ErrNoChange)
		patterns, err := cdc.Followed(k.at.State, nil)
		require.NoError(t, err)
		require.ElementsMatch(t, []string{schema + ".ints", schema + ".done", schema + ".texts", schema + ".bytes", schema + ".pairs", "!" + schema + ".ints"}, patterns)
		k.leave()
	})
}

// What is followed outlasts a restart, and Options that have become others take effect
// at the checkpoint, in words.
func TestTablesOfACheckpointAndThoseOfTheOptions(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	schema := srv.Schema(t)
	for _, name := range []string{"a", "b", "c", "d"} {
		srv.Exec(t, "CREATE TABLE "+schema+"."+name+" (id int PRIMARY KEY)", "INSERT INTO "+schema+"."+name+" VALUES (1), (2)")
	}
	start := func(at dfs.Checkpoint, snapshot *cdc.Snapshot, tables ...string) (*keeper, map[string]int) {
		for i, name := range tables {
			tables[i] = map[bool]string{true: "!" + schema + "." + name[1:], false: schema + "." + name}[name[0] == '!']
		}
		rows := make(map[string]int)
		return &keeper{t: t, src: open(t, srv.DSN(""), &cdc.Options{Tables: tables, Snapshot: snapshot, Heartbeat: 10 * time.Millisecond, ReadTimeout: 20 * time.Second}),
			at: at, see: func(tx *dfs.Transaction) {
				for _, c := range tx.Changes {
					rows[c.Table.Name]++
				}
			}}, rows
	}
	n := 10
	write := func() {
		for _, name := range []string{"a", "b", "c", "d"} {
			srv.Exec(t, "INSERT INTO "+schema+"."+name+" VALUES ("+string(rune('0'+n/10))+string(rune('0'+n%10))+")")
		}
		n++
	}
	all := func(k *keeper, last string) {
		for !k.next(func(tx *dfs.Transaction) bool {
			return slices.ContainsFunc(tx.Changes, func(c dfs.Change) bool { return c.Table.Name == last && !tx.Snapshot })
		}) {
		}
		k.leave()
	}
	k, rows := start(dfs.Checkpoint{}, nil, "a", "b")
	k.next(nil)
	k.until(func() error { return k.src.Follow(t.Context(), []string{schema + ".d"}, false) })
	k.until(func() error { return k.src.Unfollow(t.Context(), []string{schema + ".a"}) })
	write()
	all(k, "d")
	require.Equal(t, map[string]int{"b": 1, "d": 1}, rows)

	// The same options, which know nothing of it.
	k2, rows := start(k.at, nil, "a", "b")
	got, err := k2.src.Resume(t.Context(), k.at)
	require.NoError(t, err)
	require.Equal(t, &cdc.FollowChange{Added: []string{schema + ".d"}, Dropped: []string{schema + ".a"}}, got)
	list, err := k2.src.Tables(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 2)
	write()
	all(k2, "d")
	require.Equal(t, map[string]int{"b": 1, "d": 1}, rows)

	// One more, and one less, without copying rows.
	write()
	k3, rows := start(k2.at, nil, "a", "c", "d")
	got, err = k3.src.Resume(t.Context(), k2.at)
	require.NoError(t, err)
	require.Equal(t, &cdc.FollowChange{New: []string{schema + ".c"}, Gone: []string{schema + ".b"}, Dropped: []string{schema + ".a"}}, got)
	all(k3, "d")
	require.Equal(t, map[string]int{"c": 1, "d": 1}, rows, "from the checkpoint on")

	// What was never stored is not yet so: the next start finds the same.
	k4, rows := start(k2.at, nil, "a", "c", "d")
	all(k4, "d")
	require.Equal(t, map[string]int{"c": 1, "d": 1}, rows)
	k5, rows := start(k3.at, &cdc.Snapshot{}, "b", "c", "d")
	var copied bool
	for !copied {
		copied = k5.next(func(tx *dfs.Transaction) bool { return tx.Copied })
	}
	require.Equal(t, 5, rows["b"], "b is new again, and its rows are copied")
	require.Zero(t, rows["a"])
	k5.leave()
	k6, _ := start(k5.at, nil, "b", "c", "d")
	got, err = k6.src.Resume(t.Context(), k5.at)
	require.NoError(t, err)
	require.Equal(t, new(cdc.FollowChange), got)
}

// What cannot be followed is refused in words, and nothing changes.
func TestWhatCannotBeFollowed(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	schema := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+schema+".a (id int PRIMARY KEY)", "CREATE TABLE "+schema+".b (id int PRIMARY KEY)", "CREATE TABLE "+schema+".tmp_x (id int PRIMARY KEY)")
	src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".a", "!" + schema + ".tmp_*"}, Heartbeat: 10 * time.Millisecond, ReadTimeout: 20 * time.Second})
	ctx := t.Context()
	table := func(name string) []string { return []string{schema + "." + name} }
	for _, c := range []struct {
		want string
		err  error
	}{
		{"no table is named", src.Follow(ctx, nil, true)},
		{`"x": it is not the name of one table`, src.Follow(ctx, []string{"x"}, true)},
		{`.*": it is not the name of one table`, src.Unfollow(ctx, table("*"))},
		{"the source has no such table", src.Follow(ctx, table("nowhere"), false)},
		{"with ! leaves it out", src.Follow(ctx, table("tmp_x"), false)},
		{"followed already", src.Follow(ctx, table("a"), false)},
		{"not followed", src.Unfollow(ctx, table("b"))},
		{"name it in Tables, or Follow it", src.Resnapshot(ctx, schema+".b", "")},
		{"is not one that can stand behind WHERE", src.Resnapshot(ctx, schema+".a", "id > 1) OR (1 = 1")},
		{"is not one that can stand behind WHERE", src.Resnapshot(ctx, schema+".a", "id > 1 ORDER BY id")},
		{"Error 1054", src.Resnapshot(ctx, schema+".a", "nope = 1")},
	} {
		require.ErrorContains(t, c.err, c.want)
	}
	short, cancel := context.WithTimeout(ctx, 1500*time.Millisecond)
	defer cancel()
	require.ErrorContains(t, src.Follow(short, []string{schema + ".b"}, false), "no stream is open: nothing has changed")
	st := stream(t, src, "")
	go func() {
		batch := make([]*dfs.Transaction, 8)
		for {
			if _, err := st.Next(ctx, batch); err != nil {
				return
			}
		}
	}()
	require.NoError(t, src.Resnapshot(ctx, schema+".a", "id > 1 -- all but one"))
	require.NoError(t, src.Close())
	require.ErrorContains(t, src.Unfollow(ctx, []string{schema + ".a"}), "the Source is closed")
}

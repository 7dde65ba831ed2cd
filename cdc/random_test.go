package cdc_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/internal/testseed"
)

// TestRandomWorkloadThroughLostConnections has writers change rows while the
// stream is cut again and again, and replays what it gives onto a map. Each
// change must find the row as it was before it, and in the end the map must
// hold what the server holds: so nothing was lost, repeated or reordered.
func TestRandomWorkloadThroughLostConnections(t *testing.T) {
	eachSetup(t, func(t *testing.T, s setup, srv *testenv.Server) {
		const writers, rounds = 4, 60
		srv.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.a (w int, id int, n int, s varchar(30), PRIMARY KEY (w, id))",
			"CREATE TABLE shop.noise (id int AUTO_INCREMENT PRIMARY KEY)", "CREATE TABLE shop.done (id int PRIMARY KEY)")
		src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{"shop.*", "!shop.noise"}, MaxPart: 4 << 10})
		st, pos := begin(t, src)
		defer func() { st.Close() }()

		seed := testseed.New(t)
		db := srv.DB(t)
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				if err := write(db, w, rounds, rand.New(rand.NewPCG(seed, uint64(w)))); err != nil {
					t.Error(err)
				}
			})
		}
		written := make(chan struct{})
		go func() {
			defer close(written)
			wg.Wait()
			if _, err := db.Exec("INSERT INTO shop.done VALUES (1)"); err != nil {
				t.Error(err)
			}
		}()
		defer func() { <-written }()

		rows := make(map[string]string)
		ctx := limit(t)
		cuts := rand.New(rand.NewPCG(seed, 99))
		batch := make([]*dfs.Transaction, 64)
		done := false
		var pending []dfs.Change // parts of a transaction that has not ended
		for reads := 0; !done; reads++ {
			n, err := st.Next(ctx, batch[:1+cuts.IntN(len(batch))])
			if err == nil && cuts.IntN(12) == 0 {
				// Drop what was read, and go on from the last position.
				err = dfs.Transient(fmt.Errorf("cut"))
			}
			if err != nil {
				require.ErrorIs(t, err, dfs.ErrTransient)
				st.Close()
				pending = nil
				next, err := src.Open(ctx, dfs.Checkpoint{Pos: pos})
				require.NoError(t, err)
				st = next
				continue
			}
			require.NoError(t, src.Decode(ctx, batch[:n]))
			for _, tx := range batch[:n] {
				pending = append(pending, tx.Changes...)
				if tx.More {
					continue
				}
				for _, c := range pending {
					done = done || c.Table.Name == "done"
					replay(t, rows, c)
				}
				pending, pos = nil, tx.Pos
			}
		}
		want := make(map[string]string)
		list, err := db.Query("SELECT w, id, n, s FROM shop.a")
		require.NoError(t, err)
		defer list.Close()
		for list.Next() {
			var w, id, n int
			var s string
			require.NoError(t, list.Scan(&w, &id, &n, &s))
			want[fmt.Sprint(w, id)] = fmt.Sprint(n, s)
		}
		require.NoError(t, list.Err())
		require.Equal(t, want, rows)
		require.NotEmpty(t, want)
	})
}

// replay does to rows what c says.
func replay(t *testing.T, rows map[string]string, c dfs.Change) {
	t.Helper()
	if c.Table.Name != "a" || c.Op == dfs.DDL {
		require.Equal(t, "done", c.Table.Name)
		return
	}
	text := func(r dfs.Row) (key, value string) {
		return fmt.Sprint(r[0].Int(), r[1].Int()), fmt.Sprint(r[2].Int(), r[3].Text())
	}
	if c.Before != nil {
		key, value := text(c.Before)
		require.Equal(t, value, rows[key], "row %s before %s", key, c.Op)
		delete(rows, key)
	}
	if c.After != nil {
		key, value := text(c.After)
		require.NotContains(t, rows, key)
		rows[key] = value
	}
}

// write changes the rows of one writer in transactions of 1 to 20 statements.
func write(db *sql.DB, w, rounds int, rnd *rand.Rand) error {
rounds:
	for range rounds {
		tx, err := db.Begin()
		if err != nil {
			return err
		}
		for range 1 + rnd.IntN(20) {
			id := rnd.IntN(30)
			switch rnd.IntN(5) {
			case 0, 1:
				_, err = tx.Exec("INSERT IGNORE INTO shop.a VALUES (?, ?, 0, REPEAT('x', ?))", w, id, rnd.IntN(30))
			case 2:
				_, err = tx.Exec("UPDATE shop.a SET n = n + 1 WHERE w = ? AND id >= ?", w, id)
			case 3:
				_, err = tx.Exec("DELETE FROM shop.a WHERE w = ? AND id = ?", w, id)
			case 4:
				_, err = tx.Exec("INSERT INTO shop.noise VALUES ()")
			}
			var deadlock *mysql.MySQLError
			if errors.As(err, &deadlock) && deadlock.Number == 1213 {
				tx.Rollback()
				continue rounds // the server has rolled it back
			}
			if err != nil {
				tx.Rollback()
				return err
			}
		}
		if err := tx.Commit(); err != nil {
			return err
		}
	}
	return nil
}

func TestDecodeInParallel(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	schema := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+schema+".a (id int PRIMARY KEY, s varchar(20), e enum('x','y'))")
	src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}})
	st, _ := begin(t, src)
	for i := range 50 {
		srv.Exec(t, fmt.Sprintf("INSERT INTO %s.a VALUES (%d, 'text', 'y')", schema, i))
	}
	var txs []*dfs.Transaction
	read(t, st, func(tx *dfs.Transaction) bool {
		if tx.Encoded != nil {
			txs = append(txs, tx)
		}
		return len(txs) == 50
	})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i, tx := range txs {
				one := *tx
				if err := src.Decode(context.Background(), []*dfs.Transaction{&one}); err != nil {
					t.Error(err)
					return
				}
				if got, want := said(&one), fmt.Sprintf("insert a %d text 2", i); got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			}
		})
	}
	wg.Wait()
}

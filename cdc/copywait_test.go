package cdc_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
)

// A chunk is handed on only once the log was read up to all that its rows show, be
// it that the log is far behind them: else changes would come a second time.
func TestAChunkWaitsForTheLogThatItsRowsShow(t *testing.T) {
	eachSetup(t, func(t *testing.T, s setup, srv *testenv.Server) {
		schema := srv.Schema(t)
		cases := copyCases[:3]
		fill(t, srv, schema, cases, 50)
		srv.Exec(t, "CREATE TABLE "+schema+".done (id int)")
		var names []string
		for _, c := range cases {
			names = append(names, schema+"."+c.name)
		}

		// The reader is asked whether to go on before each statement. It has delivered
		// what the last one read when it asks again.
		var mu sync.Mutex
		holding, asked := true, 0
		src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}, Snapshot: &cdc.Snapshot{Tables: names, Readers: 1,
			Hold: func() bool {
				mu.Lock()
				defer mu.Unlock()
				if !holding {
					asked++
				}
				return holding
			}}})
		st := stream(t, src, "")
		m := newMirror(t)
		batch := make([]*dfs.Transaction, 64)
		next := func() (done int, copied bool) {
			n, err := st.Next(limit(t), batch)
			require.NoError(t, err)
			require.NoError(t, src.Decode(t.Context(), batch[:n]))
			for _, tx := range batch[:n] {
				m.apply(tx)
				copied = copied || tx.Copied
				for _, c := range tx.Changes {
					if c.Op == dfs.Insert && c.Table.Name == "done" {
						done++
					}
				}
			}
			return done, copied
		}
		srv.Exec(t, "INSERT INTO "+schema+".done VALUES (1)")
		for {
			if done, _ := next(); done > 0 {
				break
			}
		}

		// Nobody calls Next, and so the log goes nowhere, until the rows of all tables were
		// read.
		for _, c := range cases {
			table := schema + "." + c.name
			srv.Exec(t, "INSERT INTO "+table+" VALUES ("+c.key(60)+", 60, 'new')", "UPDATE "+table+" SET v = v + 1 WHERE v % 3 = 0",
				"DELETE FROM "+table+" WHERE v % 5 = 2")
		}
		mu.Lock()
		holding = false
		mu.Unlock()
		// Each table is one statement, and one more look at what is left.
		require.Eventually(t, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return asked == 2*len(cases)
		}, time.Minute, time.Millisecond)
		srv.Exec(t, "INSERT INTO "+schema+".done VALUES (2)")
		done, copied := 0, false
		for done == 0 || !copied {
			d, c := next()
			done, copied = done+d, copied || c
		}
		m.equals(srv.DB(t), schema, cases)
	})
}

func TestTheLogGoesOnWhileRowsAreHeld(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	schema := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+schema+".t (id int PRIMARY KEY)", "INSERT INTO "+schema+".t VALUES (1), (2)", "CREATE TABLE "+schema+".logged (id int)")
	src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}, Snapshot: &cdc.Snapshot{Tables: []string{schema + ".t"}}})
	src.Hold(true)
	st := stream(t, src, "")
	batch := make([]*dfs.Transaction, 64)
	rows, logged, copied := 0, 0, false
	next := func() {
		n, err := st.Next(limit(t), batch)
		require.NoError(t, err)
		require.NoError(t, src.Decode(t.Context(), batch[:n]))
		for _, tx := range batch[:n] {
			copied = copied || tx.Copied
			for _, c := range tx.Changes {
				if tx.Snapshot {
					rows++
				} else {
					logged += len(c.After)
				}
			}
		}
	}
	for i := range 20 {
		srv.Exec(t, "INSERT INTO "+schema+".logged VALUES (1)")
		for logged <= i {
			next()
		}
	}
	require.Zero(t, rows)

	// Whoever waits for the log is told.
	got := make(chan struct{})
	go func() {
		defer close(got)
		for !copied {
			next()
		}
	}()
	src.Hold(false)
	<-got
	require.Equal(t, 2, rows)
}

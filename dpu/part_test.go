package dpu_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/dfstest"
	"github.com/dataflowsync/dfs/dpu"
	"github.com/stretchr/testify/require"
)

// Three tables become one of wide rows. Whatever comes and goes, in any order and
// through any faults, the wide table is the outer join of the three.
func TestWideRowsAreAnOuterJoin(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 0))
		tables := []*dfs.Table{
			dfstest.Table(t, "s.users (id int, name varchar(20), key id)"),
			dfstest.Table(t, "s.profiles (user int, bio varchar(20) null, key user)"),
			dfstest.Table(t, "s.scores (id int, score int null, key id)"),
		}
		units, err := dpu.New([]dpu.Unit{
			{From: "s.users", Into: "w.people", Part: true},
			{From: "s.profiles", Into: "w.people", Part: true, Rename: map[string]string{"user": "id"}, Columns: []dpu.Column{{Name: "has_profile", Value: true}}},
			{From: "s.scores", Into: "w.people", Part: true, Where: dpu.Where{Expr: "(score ?? 0) > 3"}, Columns: []dpu.Column{{Name: "has_score", Value: 1}}},
		}, &dpu.Options{Tables: tables})
		require.NoError(t, err)

		state := [3]map[int]dfs.Row{{}, {}, {}}
		var txs []dfs.Transaction
		for range 300 {
			var tx dfs.Transaction
			for range 1 + rng.IntN(4) {
				i, id := rng.IntN(3), rng.IntN(8)
				row := func(id int) dfs.Row {
					v := any(fmt.Sprint("v", rng.IntN(5)))
					if i == 2 {
						v = rng.IntN(8)
					}
					if i > 0 && rng.IntN(4) == 0 {
						v = nil
					}
					return dfstest.Row(t, tables[i], id, v)
				}
				c := dfs.Change{Table: tables[i], Before: state[i][id]}
				to := rng.IntN(8)
				switch {
				case c.Before == nil:
					c.Op, c.After = dfs.Insert, row(id)
				case rng.IntN(3) == 0:
					c.Op = dfs.Delete
				case rng.IntN(4) == 0 && state[i][to] == nil:
					c.Op, c.After = dfs.Update, row(to)
				default:
					c.Op, c.After = dfs.Update, row(id)
				}
				delete(state[i], id)
				if c.After != nil {
					state[i][int(c.After[0].Int())] = c.After
				}
				tx.Changes = append(tx.Changes, c)
			}
			txs = append(txs, tx)
		}
		fault := dfstest.Random(seed, 0.05)
		target := &dfstest.Target{Fault: fault}
		p := &dfs.Pipeline{Source: &dfstest.Source{Transactions: txs, Fault: fault}, Stages: []dfs.Stage{units}, Sink: target.Open(),
			MaxBatch: 1 + rng.IntN(20), RetryWait: 1, Logger: quiet}
		require.NoError(t, p.Run(t.Context()))

		var want []string
		for id := range 8 {
			name, bio, profile, score, has := "NULL", "NULL", "NULL", "NULL", "NULL"
			some := false
			if r := state[0][id]; r != nil {
				some, name = true, r[1].String()
			}
			if r := state[1][id]; r != nil {
				some, bio, profile = true, r[1].String(), "1"
			}
			if r := state[2][id]; r != nil && r[1].Int() > 3 {
				some, score, has = true, r[1].String(), "1"
			}
			if some {
				want = append(want, fmt.Sprintf("%d|%s|%s|%s|%s|%s", id, name, bio, profile, score, has))
			}
		}
		slices.Sort(want)
		require.Equal(t, want, target.Rows("w.people", "id", "name", "bio", "has_profile", "score", "has_score"), "seed %d", seed)
	}
}

// A row that is deleted softly and inserted again is one row.
func TestSoftlyDeletedRowsComeBack(t *testing.T) {
	s, err := dfstest.Parse(tables + `insert eu.orders 1, 5
commit
delete eu.orders 1, 5
commit
insert eu.orders 1, 6
commit
insert eu.orders 2, 1
update eu.orders 1, 6 -> 3, 6
commit
delete eu.orders 2, 1
commit`)
	require.NoError(t, err)
	units, err := dpu.New([]dpu.Unit{{From: "eu.orders", SoftDelete: "gone"}}, nil)
	require.NoError(t, err)
	var target dfstest.Target
	p := &dfs.Pipeline{Source: &dfstest.Source{Transactions: s.Transactions}, Stages: []dfs.Stage{units}, Sink: target.Open()}
	require.NoError(t, p.Run(t.Context()))
	require.Equal(t, []string{"1|6|2026-01-01 00:00:04.000000", "2|1|2026-01-01 00:00:05.000000", "3|6|NULL"}, target.Rows("eu.orders", "id", "total", "gone"))
}

package dpu_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/dfstest"
	"github.com/dataflowsync/dfs/dpu"
	"github.com/stretchr/testify/require"
)

// badLookup does what its function does.
type badLookup func(ctx context.Context) ([]dfs.Row, error)

func (badLookup) Columns() []dfs.Column { return []dfs.Column{{Name: "found", Type: "int"}} }
func (f badLookup) Rows(ctx context.Context, _ []dfs.Row) ([]dfs.Row, error) {
	return f(ctx)
}

type idOnly struct {
	ID int64 `db:"id,key"`
}

// calling makes a unit for each way in which the user's code is called.
func calling(f func(ctx context.Context) error) map[string]dpu.Unit {
	return map[string]dpu.Unit{
		`unit "u", table eu.orders, row id=7: its condition: `: {Where: dpu.Where{From: []string{"id"}, Func: func(ctx context.Context, _ []dfs.Value) (bool, error) { return true, f(ctx) }}},
		`unit "u", table eu.orders, row id=7, column x: `:      {Columns: []dpu.Column{{Name: "x", Type: "int", Func: func(ctx context.Context, _ []dfs.Value) (dfs.Value, error) { return dfs.Value{}, f(ctx) }}}},
		`unit "u", table eu.orders, row id=7: `:                {Func: func(ctx context.Context, _ dpu.Change, _ func(dpu.Change)) error { return f(ctx) }},
		`unit "u", Lookups[0]: `:                               {Lookups: []dpu.Join{{Lookup: badLookup(func(ctx context.Context) ([]dfs.Row, error) { return []dfs.Row{nil}, f(ctx) }), On: []string{"id"}}}},
		`unit "u", table eu.orders, row id=7 : `:               {Rows: dpu.MapRows(func(ctx context.Context, in *idOnly, emit func(idOnly)) error { return f(ctx) })},
	}
}

func oneRow(t *testing.T) []*dfs.Transaction {
	s, err := dfstest.Parse(tables + "insert eu.orders 7, 2\ncommit a:1")
	require.NoError(t, err)
	return []*dfs.Transaction{&s.Transactions[0]}
}

func TestAFunctionThatPanicsHangsOrLeavesIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // a machine that halts for a while is no call that takes long
		for _, c := range []struct {
			name string
			f    func(ctx context.Context) error
			want string
		}{
			{"panics", func(context.Context) error { panic("boom") }, "the function panicked: boom"},
			{"panics with nil dereferenced", func(context.Context) error { return errors.New((*dpu.Fault)(nil).Error()) }, "nil pointer"},
			{"heeds its context", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, "the call took longer than 20ms: context canceled"},
			{"comes late", func(ctx context.Context) error { <-ctx.Done(); return nil }, "the call took longer than 20ms"},
		} {
			for where, unit := range calling(c.f) {
				unit.Name, unit.From = "u", "eu.orders"
				units, err := dpu.New([]dpu.Unit{unit}, &dpu.Options{CallTimeout: 20 * time.Millisecond})
				require.NoError(t, err)
				err = units.Process(t.Context(), oneRow(t))
				require.ErrorContains(t, err, strings.Replace(where, "7 :", "7:", 1), c.name)
				require.ErrorContains(t, err, c.want, c.name)
				var e *dpu.Error
				require.ErrorAs(t, err, &e)
				lookup := strings.Contains(where, "Lookups") && strings.Contains(c.want, "longer")
				require.Equal(t, lookup, errors.Is(err, dfs.ErrTransient), "a lookup may find its way again: %v", err)
			}
		}
		// One that ends its goroutine, as require does in a test, is an error too.
		for _, unit := range calling(func(context.Context) error { runtime.Goexit(); return nil }) {
			unit.From = "eu.orders"
			units, err := dpu.New([]dpu.Unit{unit}, nil)
			require.NoError(t, err)
			require.ErrorContains(t, units.Process(t.Context(), oneRow(t)), "the function has ended its goroutine")
		}
		// Without a limit there is no other goroutine.
		units, err := dpu.New([]dpu.Unit{{From: "eu.orders", Where: dpu.Where{Func: func(context.Context, []dfs.Value) (bool, error) { panic("boom") }}}}, &dpu.Options{CallTimeout: -1})
		require.NoError(t, err)
		require.ErrorContains(t, units.Process(t.Context(), oneRow(t)), "boom")
	})
}

func TestACallThatDoesNotReturnIsLeftBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // a machine that halts for a while is no call that takes long
		for where, unit := range calling(nil) {
			hold := make(chan struct{})
			for _, u := range calling(func(context.Context) error { <-hold; return nil }) {
				if (u.Func != nil) == (unit.Func != nil) && (u.Rows != nil) == (unit.Rows != nil) && len(u.Lookups) == len(unit.Lookups) && len(u.Columns) == len(unit.Columns) {
					unit = u
					break
				}
			}
			unit.Name, unit.From = "u", "eu.orders"
			units, err := dpu.New([]dpu.Unit{unit}, &dpu.Options{CallTimeout: 20 * time.Millisecond})
			require.NoError(t, err)
			where = strings.Replace(where, "7 :", "7:", 1)
			batch := oneRow(t)
			err = units.Process(t.Context(), batch)
			require.ErrorContains(t, err, where+"the call took longer than 20ms, and has not returned though its context ended")
			require.Equal(t, "eu.orders", batch[0].Changes[0].Table.String())
			require.ErrorContains(t, units.Process(t.Context(), oneRow(t)), where+"the call has not returned for ")

			// Once it has returned the units are of use again.
			close(hold)
			batch = oneRow(t)
			require.Eventually(t, func() bool { return units.Process(t.Context(), batch) == nil }, time.Minute, time.Millisecond)
			require.EqualValues(t, 1, units.Stats()[0].In)
		}
	})
}

func TestAFunctionThatEmitsWithoutEndIsStopped(t *testing.T) {
	wide := strings.Repeat("x", 1<<20)
	type text struct {
		ID   int64  `db:"id,key"`
		Text string `db:"text" type:"longtext"`
	}
	for _, c := range []struct {
		name string
		unit dpu.Unit
		want string
	}{
		{"changes", dpu.Unit{Func: func(_ context.Context, c dpu.Change, emit func(dpu.Change)) error {
			for {
				emit(c)
			}
		}}, "row id=7: the function makes more than 100 rows of one; raise MaxRows if that is meant"},
		{"rows", dpu.Unit{Rows: dpu.MapRows(func(_ context.Context, in *idOnly, emit func(idOnly)) error {
			for i := int64(0); ; i++ {
				emit(idOnly{i})
			}
		})}, "row id=7: the function makes more than 100 rows of one"},
		{"bytes", dpu.Unit{Rows: dpu.MapRows(func(_ context.Context, in *idOnly, emit func(text)) error {
			for i := int64(0); ; i++ {
				emit(text{i, wide})
			}
		})}, "row id=7: the function makes more than 64 MiB of one row"},
	} {
		c.unit.From = "eu.orders"
		units, err := dpu.New([]dpu.Unit{c.unit}, &dpu.Options{MaxRows: 100})
		require.NoError(t, err)
		require.ErrorContains(t, units.Process(t.Context(), oneRow(t)), c.want, c.name)
	}
	_, err := dpu.New(nil, &dpu.Options{MaxRows: -1})
	require.ErrorContains(t, err, "MaxRows is -1; use 1 or more")
}

func TestAnEmitAfterTheEndIsNotLostInSilence(t *testing.T) {
	var late func(dpu.Change)
	var kept dpu.Change
	units, err := dpu.New([]dpu.Unit{{Name: "u", From: "eu.orders", Func: func(_ context.Context, c dpu.Change, emit func(dpu.Change)) error {
		late, kept = emit, c
		return nil
	}}}, nil)
	require.NoError(t, err)
	require.NoError(t, units.Process(t.Context(), oneRow(t)))
	late(kept)
	require.ErrorContains(t, units.Process(t.Context(), oneRow(t)), `unit "u", its function emitted after it had returned`)
}

func TestAMatchThatPanicsIsNamed(t *testing.T) {
	s, err := dfstest.Parse(tables)
	require.NoError(t, err)
	bad := []dpu.Unit{{Name: "u", Match: func(t *dfs.Table) bool { panic("boom") }}}
	_, err = dpu.New(bad, &dpu.Options{Tables: s.Tables})
	require.ErrorContains(t, err, `unit "u", Match, of shop.users: the function panicked: boom`)
	units, err := dpu.New(bad, nil)
	require.NoError(t, err)
	require.ErrorContains(t, units.Process(t.Context(), oneRow(t)), `unit "u", its Match: the function panicked: boom`)
}

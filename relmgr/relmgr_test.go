package relmgr_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/dfstest"
	"github.com/dataflowsync/dfs/relmgr"
	"github.com/stretchr/testify/require"
)

// run sends a script through a new Manager and returns what comes out.
func run(t *testing.T, opts *relmgr.Options, script string) string {
	t.Helper()
	m, s := open(t, opts, script)
	out, err := dfstest.Run(t.Context(), []dfs.Stage{m}, s.Transactions...)
	require.NoError(t, err)
	return dfstest.Format(out...)
}

func open(t *testing.T, opts *relmgr.Options, script string) (*relmgr.Manager, *dfstest.Script) {
	t.Helper()
	s, err := dfstest.Parse(script)
	require.NoError(t, err)
	o := relmgr.Options{}
	if opts != nil {
		o = *opts
	}
	o.Tables = s.Tables
	m, err := relmgr.Open(filepath.Join(t.TempDir(), "map"), &o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	return m, s
}

// key declares a foreign key: "s.orders.user s.users.id".
func key(text string) relmgr.ForeignKey {
	var k relmgr.ForeignKey
	child, parent, _ := strings.Cut(text, " ")
	split := func(text string) (schema, table string, columns []string) {
		parts := strings.SplitN(text, ".", 3)
		return parts[0], parts[1], strings.Split(parts[2], ",")
	}
	k.Name = text
	k.Schema, k.Table, k.Columns = split(child)
	k.ParentSchema, k.Parent, k.ParentColumns = split(parent)
	return k
}

const shop = `
table s.users (id bigint, name varchar(20), boss bigint null, key id)
table s.orders (id int, user_id bigint null, key id)
table s.lines (order_id int, line int, n int, key (order_id, line))
table s.notes (order_id int, line int, text varchar(20))
`

var shopKeys = []relmgr.ForeignKey{key("s.users.boss s.users.id"), key("s.orders.user_id s.users.id"), key("s.lines.order_id s.orders.id"),
	key("s.notes.order_id,line s.lines.order_id,line")}

func TestRowsGetNewIDsAndReferencesFollow(t *testing.T) {
	opts := &relmgr.Options{ForeignKeys: shopKeys, Policies: []relmgr.Policy{
		{Table: "s.users", First: 100}, {Table: "s.orders", First: 500}}}
	require.Equal(t, `insert s.users id=100, name="Ann", boss=NULL
insert s.users id=101, name="Bob", boss=100
insert s.orders id=500, user_id=101
insert s.lines order_id=500, line=1, n=5
insert s.notes order_id=500, line=1, text="fast"
insert s.orders id=501, user_id=NULL
commit
update s.users id=101, name="Bob", boss=100 -> id=101, name="Bob", boss=NULL
update s.orders id=500, user_id=101 -> id=500, user_id=100
delete s.lines order_id=500, line=1, n=5
commit
`, run(t, opts, shop+`
insert s.users 7, "Ann", NULL
insert s.users 9, "Bob", 7
insert s.orders 3, 9
insert s.lines 3, 1, 5
insert s.notes 3, 1, "fast"
insert s.orders 8, NULL
commit
update s.users 9, "Bob", 7 -> 9, "Bob", NULL
update s.orders 3, 9 -> 3, 7
delete s.lines 3, 1, 5
commit
`))
}

func TestAChildBeforeItsParentHasTheIDThatTheParentGets(t *testing.T) {
	script := shop + `
insert s.orders 1, 5
commit
insert s.users 4, "x", 5
insert s.users 5, "y", 4
commit
`
	opts := &relmgr.Options{ForeignKeys: shopKeys}
	m, s := open(t, opts, script)
	out, err := dfstest.Run(t.Context(), []dfs.Stage{m}, s.Transactions[0])
	require.NoError(t, err)
	require.Equal(t, "insert s.orders id=1, user_id=1\ncommit\n", dfstest.Format(out...))
	list, err := m.Promises(t.Context(), 10)
	require.NoError(t, err)
	require.Equal(t, []relmgr.Promise{{"s.users", "id", "5", "1"}}, list)

	out, err = dfstest.Run(t.Context(), []dfs.Stage{m}, s.Transactions[1])
	require.NoError(t, err)
	require.Equal(t, "insert s.users id=2, name=\"x\", boss=1\ninsert s.users id=1, name=\"y\", boss=2\ncommit\n", dfstest.Format(out...))
	list, err = m.Promises(t.Context(), 10)
	require.NoError(t, err)
	require.Empty(t, list)
}

func TestKeysThatChangeOrComeAgainHaveOneID(t *testing.T) {
	require.Equal(t, `insert s.users id=1, name="a", boss=NULL
insert s.orders id=1, user_id=1
update s.users id=1, name="a", boss=NULL -> id=2, name="a", boss=NULL
update s.orders id=1, user_id=1 -> id=1, user_id=2
delete s.users id=2, name="a", boss=NULL
insert s.users id=1, name="b", boss=NULL
insert s.users id=2, name="c", boss=1
commit
`, run(t, &relmgr.Options{ForeignKeys: shopKeys}, shop+`
insert s.users 5, "a", NULL
insert s.orders 1, 5
update s.users 5, "a", NULL -> 6, "a", NULL
update s.orders 1, 5 -> 1, 6
delete s.users 6, "a", NULL
insert s.users 5, "b", NULL
insert s.users 6, "c", 5
commit
`))
}

func TestTheStageKeepsItsContract(t *testing.T) {
	s, err := dfstest.Parse(shop)
	require.NoError(t, err)
	users, orders := s.Tables[0], s.Tables[1]
	var txs []dfs.Transaction
	for i := range 40 {
		txs = append(txs, dfs.Transaction{Changes: []dfs.Change{dfstest.Insert(t, orders, i*7%40, (i*3)%41), dfstest.Insert(t, users, i, "x", nil)}})
	}
	dfstest.CheckStage(t, func(t *testing.T) dfs.Stage {
		m, err := relmgr.Open("", &relmgr.Options{Tables: s.Tables, ForeignKeys: shopKeys})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, m.Close()) })
		return m
	}, txs...)
}

func TestWhatABatchThatFailedWasGivenIsNotUsedTwice(t *testing.T) {
	fail := errors.New("no")
	failing := false
	opts := &relmgr.Options{Policies: []relmgr.Policy{{Table: "s.b", Func: func(_ context.Context, k relmgr.Key) (dfs.Value, error) {
		if failing {
			return dfs.Value{}, fail
		}
		return dfs.IntValue(k.Values[0].Int() + 1000), nil
	}}}}
	m, s := open(t, opts, `
table s.a (id int, key id)
table s.b (id int, key id)
insert s.a 1
insert s.b 1
commit
insert s.a 2
insert s.b 2
commit
`)
	out, err := dfstest.Run(t.Context(), []dfs.Stage{m}, s.Transactions[0])
	require.NoError(t, err)
	require.Equal(t, "insert s.a id=1\ninsert s.b id=1001\ncommit\n", dfstest.Format(out...))
	failing = true
	_, err = dfstest.Run(t.Context(), []dfs.Stage{m}, s.Transactions[1])
	require.ErrorIs(t, err, fail)
	var where *relmgr.Error
	require.ErrorAs(t, err, &where)
	require.Equal(t, relmgr.Error{Table: "s.b", Key: "id=2", Column: "id", Err: where.Err}, *where)
	failing = false
	for range 2 {
		out, err = dfstest.Run(t.Context(), []dfs.Stage{m}, s.Transactions...)
		require.NoError(t, err)
		require.Equal(t, "insert s.a id=1\ninsert s.b id=1001\ncommit\ninsert s.a id=2\ninsert s.b id=1002\ncommit\n", dfstest.Format(out...))
	}
}

func TestTheMapOutlivesItsProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "map")
	s, err := dfstest.Parse(shop + `
insert s.users 5, "a", NULL
insert s.orders 1, 5
commit
`)
	require.NoError(t, err)
	for range 3 {
		m, err := relmgr.Open(path, &relmgr.Options{Tables: s.Tables, ForeignKeys: shopKeys})
		require.NoError(t, err)
		_, err = relmgr.Open(path, nil)
		require.ErrorContains(t, err, "a map belongs to one pipeline")
		out, err := dfstest.Run(t.Context(), []dfs.Stage{m}, s.Transactions...)
		require.NoError(t, err)
		require.Equal(t, "insert s.users id=1, name=\"a\", boss=NULL\ninsert s.orders id=1, user_id=1\ncommit\n", dfstest.Format(out...))
		row, ok, err := m.New(t.Context(), "s.users", 5)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, dfs.Row{dfs.IntValue(1)}, row)
		_, ok, err = m.New(t.Context(), "s.users", 6)
		require.NoError(t, err)
		require.False(t, ok)
		old, ok, err := m.Old(t.Context(), "s.users", 1)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, []string{"5"}, old)
		require.NoError(t, m.Close())
	}
	_, err = relmgr.Open(path, &relmgr.Options{Source: "other"})
	require.ErrorContains(t, err, "give each source a file of its own")
}

func TestAMapThatIsOlderThanTheTargetIsRefused(t *testing.T) {
	m, s := open(t, nil, shop+"insert s.users 5, \"a\", NULL\ncommit\n")
	tx := s.Transactions[0]
	tx.Seq = 7
	_, err := dfstest.Run(t.Context(), []dfs.Stage{m}, tx)
	require.ErrorIs(t, err, relmgr.ErrLost)
	tx.Seq = 1
	_, err = dfstest.Run(t.Context(), []dfs.Stage{m}, tx)
	require.NoError(t, err)
}

func TestConsecutiveKeysShareARunAndScatteredOnesWasteNothing(t *testing.T) {
	table := dfstest.Table(t, "s.t (id bigint, key id)")
	m, err := relmgr.Open("", &relmgr.Options{Tables: []*dfs.Table{table}})
	require.NoError(t, err)
	defer m.Close()
	ids := make(map[int64]bool)
	greatest := int64(0)
	give := func(keys ...int) {
		tx := dfs.Transaction{}
		for _, k := range keys {
			tx.Changes = append(tx.Changes, dfstest.Insert(t, table, k))
		}
		out, err := dfstest.Run(t.Context(), []dfs.Stage{m}, tx)
		require.NoError(t, err)
		for _, c := range out[0].Changes {
			id := c.After[0].Int()
			require.False(t, ids[id], "the id %d was given twice", id)
			ids[id] = true
			greatest = max(greatest, id)
		}
	}
	for i := range 300 {
		give(-1000*i, 1000000+1000*i)
	}
	require.Equal(t, int64(600), greatest)
	var many []int
	for i := range 50000 {
		many = append(many, 2000000+i)
	}
	give(many...)
	require.Less(t, greatest, int64(600+50000+2048))
	require.Equal(t, int64(50600), m.Stats()[0].Keys)
}

// A random order of keys gives each one id, whatever was in memory.
func TestEachKeyHasOneIDInAnyOrder(t *testing.T) {
	table := dfstest.Table(t, "s.t (id bigint unsigned, up bigint unsigned null, key id)")
	path := filepath.Join(t.TempDir(), "map")
	seen := make(map[uint64]uint64)
	back := make(map[uint64]uint64)
	r := newRand(7)
	for range 4 {
		m, err := relmgr.Open(path, &relmgr.Options{Tables: []*dfs.Table{table}, ForeignKeys: []relmgr.ForeignKey{key("s.t.up s.t.id")}, CacheBytes: 1 << 20})
		require.NoError(t, err)
		for range 20 {
			tx := dfs.Transaction{}
			var olds []uint64
			for range 100 {
				a, b := r.Uint64N(5000), r.Uint64N(5000)
				if r.IntN(4) == 0 {
					a, b = a<<52|a, b*77777
				}
				olds = append(olds, a, b)
				tx.Changes = append(tx.Changes, dfstest.Insert(t, table, a, b))
			}
			out, err := dfstest.Run(t.Context(), []dfs.Stage{m}, tx)
			require.NoError(t, err)
			for i, c := range out[0].Changes {
				for k := range 2 {
					old, new := olds[2*i+k], c.After[k].Uint()
					if was, ok := seen[old]; ok {
						require.Equal(t, was, new)
					}
					if was, ok := back[new]; ok {
						require.Equal(t, was, old)
					}
					seen[old], back[new] = new, old
				}
			}
		}
		require.Equal(t, int64(len(seen)), m.Stats()[0].Keys)
		for old, new := range seen {
			if old%13 != 0 {
				continue
			}
			got, ok, err := m.Old(t.Context(), "s.t", new)
			require.NoError(t, err)
			require.True(t, ok)
			require.Equal(t, fmt.Sprint(old), got[0])
			if old%7 == 0 {
				row, ok, err := m.New(t.Context(), "s.t", old)
				require.NoError(t, err)
				require.True(t, ok)
				require.Equal(t, new, row[0].Uint())
			}
		}
		require.NoError(t, m.Close())
	}
}

// A map that is deleted, moved or replaced while it is in use gives no more ids, since
// these would end with the program; what it held is saved, and goes on from there.
func TestAMapWhoseFileIsGoneIsSaved(t *testing.T) {
	s, err := dfstest.Parse(shop + `
insert s.users 1, "Ann", NULL
commit
insert s.users 2, "Bob", 1
commit
`)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "map")
	opts := &relmgr.Options{Tables: s.Tables, Policies: []relmgr.Policy{{Table: "s.users", First: 100}}, ForeignKeys: shopKeys}
	gone := func(m *relmgr.Manager) float64 {
		for _, v := range m.Measures() {
			if v.Name == "gone" {
				return v.Value
			}
		}
		return -1
	}
	m, err := relmgr.Open(path, opts)
	require.NoError(t, err)
	first, err := dfstest.Run(t.Context(), []dfs.Stage{m}, s.Transactions[:1]...)
	require.NoError(t, err)
	require.Contains(t, dfstest.Format(first...), "id=100")
	require.Zero(t, gone(m))
	for _, more := range []string{"", "-wal", "-shm"} {
		require.NoError(t, os.Remove(path+more))
	}
	require.EqualValues(t, 1, gone(m))
	for range 2 {
		_, err = dfstest.Run(t.Context(), []dfs.Stage{m}, s.Transactions[1:]...)
		require.ErrorContains(t, err, "what it held is in "+path+".saved now: stop the program")
		require.ErrorIs(t, err, dfs.ErrStanding)
	}
	require.NoError(t, m.Close())
	require.NoFileExists(t, path, "and no new one is begun")

	require.NoError(t, os.Rename(path+".saved", path))
	m, err = relmgr.Open(path, opts)
	require.NoError(t, err)
	defer m.Close()
	out, err := dfstest.Run(t.Context(), []dfs.Stage{m}, s.Transactions...)
	require.NoError(t, err)
	require.Equal(t, "insert s.users id=100, name=\"Ann\", boss=NULL\ncommit\ninsert s.users id=101, name=\"Bob\", boss=100\ncommit\n", dfstest.Format(out...))
}

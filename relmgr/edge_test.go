package relmgr_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/dfstest"
	"github.com/dataflowsync/dfs/relmgr"
	"github.com/stretchr/testify/require"
)

// counter is an allocator of a target.
type counter struct{ next uint64 }

func (c *counter) Reserve(_ context.Context, _, _ string, least, n uint64) (first, got uint64, err error) {
	first = max(c.next, least, 1)
	c.next = first + n
	return first, n, nil
}

// A target that is put back from a backup has forgotten the blocks that the map has
// used since.
func TestABlockThatTheTargetForgotIsNotUsedTwice(t *testing.T) {
	table := dfstest.Table(t, "s.t (id bigint, key id)")
	path := filepath.Join(t.TempDir(), "map")
	given := make(map[int64]bool)
	for i := range 2 {
		m, err := relmgr.Open(path, &relmgr.Options{Tables: []*dfs.Table{table}, Allocator: &counter{}})
		require.NoError(t, err)
		tx := dfs.Transaction{}
		for k := range 1000 {
			tx.Changes = append(tx.Changes, dfstest.Insert(t, table, 1_000_000*i+3*k)) // far apart, and a row each
		}
		out, err := dfstest.Run(t.Context(), []dfs.Stage{m}, tx)
		require.NoError(t, err)
		for _, c := range out[0].Changes {
			require.False(t, given[c.After[0].Int()], "the id %v was given twice", c.After[0])
			given[c.After[0].Int()] = true
		}
		require.NoError(t, m.Close())
	}
}

// What the target's foreign keys do for a row that goes is not left out because of
// what the row referred to.
func TestOnlyTheReferenceThatIsMadeMayBeLate(t *testing.T) {
	opts := &relmgr.Options{References: []relmgr.Reference{{Table: "s.o", Columns: []string{"u"}, Parent: "s.u", Late: true}}}
	require.Equal(t, `nofk insert s.o id=1, u=1, n=0
update s.o id=1, u=1, n=0 -> id=1, u=1, n=1
nofk update s.o id=1, u=1, n=1 -> id=1, u=2, n=1
nofk update s.o id=1, u=ABSENT, n=ABSENT -> id=ABSENT, u=1, n=ABSENT
delete s.o id=1, u=1, n=1
commit
`, run(t, opts, "table s.u (id int, key id)\ntable s.o (id int, u int null, n int, key id)\n"+`
insert s.o 1, 5, 0
update s.o 1, 5, 0 -> 1, 5, 1
update s.o 1, 5, 1 -> 1, 6, 1
update s.o 1, ABSENT, ABSENT -> ABSENT, 5, ABSENT
delete s.o 1, 5, 1
commit
`))
}

// A table without a primary key has all of the row before in a sparse log, and only
// what has changed in the row after.
func TestAnIDThatNoLongerRefersIsWrittenAsItIs(t *testing.T) {
	opts := &relmgr.Options{
		Policies: []relmgr.Policy{{Table: "s.users", First: 100}},
		References: []relmgr.Reference{{Table: "s.notes", Columns: []string{"about"}, TypeColumn: "kind",
			Parents: map[string]string{"user": "s.users", "none": ""}}},
	}
	require.Equal(t, `insert s.notes kind="user", about=100
update s.notes kind="user", about=100 -> kind="none", about=7
update s.notes kind="user", about=100 -> kind=NULL, about=7
update s.notes kind="none", about=7 -> kind="user", about=100
update s.notes kind="user", about=100 -> kind=ABSENT, about=ABSENT
commit
`, run(t, opts, "table s.users (id int, key id)\ntable s.notes (kind varchar(9) null, about int null)\n"+`
insert s.notes "user", 7
update s.notes "user", 7 -> "none", ABSENT
update s.notes "user", 7 -> NULL, ABSENT
update s.notes "none", 7 -> "user", ABSENT
update s.notes "user", 7 -> ABSENT, ABSENT
commit
`))
}

// A transaction that the stage refuses may be the first of a process. Reject then
// steps over it, and the next one finds the map one behind.
func TestTheFirstTransactionMayBeRejected(t *testing.T) {
	fail := errors.New("no")
	opts := &relmgr.Options{Policies: []relmgr.Policy{{Table: "s.b", Func: func(_ context.Context, k relmgr.Key) (dfs.Value, error) {
		if k.Values[0].Int() == 1 {
			return dfs.Value{}, fail
		}
		return k.Values[0], nil
	}}}}
	m, s := open(t, opts, "table s.b (id int, key id)\ninsert s.b 1\ncommit\ninsert s.b 2\ncommit\n")
	first, second := s.Transactions[0], s.Transactions[1]
	first.Seq, second.Seq = 1, 2
	require.ErrorIs(t, m.Process(t.Context(), []*dfs.Transaction{&first}), fail)
	require.NoError(t, m.Process(t.Context(), []*dfs.Transaction{&second}))
}

func TestANumberThatIsNotWholeIsNoID(t *testing.T) {
	opts := &relmgr.Options{References: []relmgr.Reference{{Table: "s.o", Columns: []string{"u"}, Parent: "s.u"}, {Table: "s.o", Columns: []string{"d"}, Parent: "s.u"}}}
	script := "table s.u (id int, key id)\ntable s.o (id int, u varchar(9) null, d decimal(5,2) null, key id)\n"
	require.Equal(t, "insert s.o id=1, u=\"1\", d=1\ncommit\n", run(t, opts, script+"insert s.o 1, \"5\", 5.00\ncommit\n"))
	for _, row := range []string{`1, "5.5", NULL`, `1, "5.", NULL`, `1, NULL, 5.10`} {
		m, s := open(t, opts, script+"insert s.o "+row+"\ncommit\n")
		_, err := dfstest.Run(t.Context(), []dfs.Stage{m}, s.Transactions...)
		require.ErrorContains(t, err, "is no id that s.u.id can have", row)
	}
}

func TestKeysOfACollationWithoutPaddingEndWhereTheyEnd(t *testing.T) {
	for collation, same := range map[string]bool{"utf8mb4_general_ci": true, "utf8mb4_general_nopad_ci": false, "utf8mb4_uca1400_nopad_ai_ci": false,
		"utf8mb4_0900_ai_ci": false, "utf8mb4_bin": true} {
		table := dfstest.Table(t, "s.t (code varchar(9), key code)")
		table.Columns[0].Charset, table.Columns[0].Collation = "utf8mb4", collation
		m, err := relmgr.Open("", &relmgr.Options{Tables: []*dfs.Table{table}, Policies: []relmgr.Policy{{Table: "s.t", IDs: relmgr.UUID, Type: "char(36)"}}})
		require.NoError(t, err)
		out, err := dfstest.Run(t.Context(), []dfs.Stage{m}, dfs.Transaction{Changes: []dfs.Change{dfstest.Insert(t, table, "a"), dfstest.Insert(t, table, "a ")}})
		require.NoError(t, err)
		require.Equal(t, same, out[0].Changes[0].After[0] == out[0].Changes[1].After[0], collation)
		require.NoError(t, m.Close())
	}
}

// The view reads old keys by their own type, whatever that of the new ids is.
func TestOldKeysAreShownAsTheyWere(t *testing.T) {
	opts := &relmgr.Options{Policies: []relmgr.Policy{{Table: "s.u", Type: "bigint unsigned"}, {Table: "s.v", Type: "bigint"}},
		ForeignKeys: []relmgr.ForeignKey{key("s.o.u s.u.id"), key("s.o.v s.v.id")}}
	m, s := open(t, opts, "table s.u (id int, key id)\ntable s.v (id bigint unsigned, key id)\ntable s.o (u int, v bigint unsigned, key (u, v))\n"+
		"insert s.o -5, 18446744073709551615\ncommit\n")
	_, err := dfstest.Run(t.Context(), []dfs.Stage{m}, s.Transactions...)
	require.NoError(t, err)
	list, err := m.Promises(t.Context(), 10)
	require.NoError(t, err)
	require.Equal(t, []relmgr.Promise{{"s.u", "id", "-5", "1"}, {"s.v", "id", "18446744073709551615", "1"}}, list)
}

// advancing is an allocator of a target that may have forgotten blocks.
type advancing struct {
	counter
	told map[string]uint64
}

func (a *advancing) Advance(_ context.Context, table, column string, next uint64) (bool, error) {
	a.told[table+"."+column] = next
	behind := a.next < next
	a.next = max(a.next, next)
	return behind, nil
}

// What another source's map would be given, if the target has forgotten blocks, does
// not meet what this map has given.
func TestATargetThatForgotBlocksIsTold(t *testing.T) {
	table := dfstest.Table(t, "s.t (id bigint, key id)")
	path := filepath.Join(t.TempDir(), "map")
	a := &advancing{told: make(map[string]uint64)}
	opts := &relmgr.Options{Tables: []*dfs.Table{table}, Allocator: a}
	m, err := relmgr.Open(path, opts)
	require.NoError(t, err)
	require.Empty(t, a.told)
	_, err = dfstest.Run(t.Context(), []dfs.Stage{m}, dfs.Transaction{Changes: []dfs.Change{dfstest.Insert(t, table, 1)}})
	require.NoError(t, err)
	require.NoError(t, m.Close())
	end := a.next
	a.next = 0 // put back
	m, err = relmgr.Open(path, opts)
	require.NoError(t, err)
	require.NoError(t, m.Close())
	require.Equal(t, map[string]uint64{"s.t.id": end}, a.told)
	first, _, err := a.Reserve(t.Context(), "s.t", "id", 1, 10)
	require.NoError(t, err)
	require.GreaterOrEqual(t, first, end)
}

func TestATextThatIsNoDocumentNamesItsCure(t *testing.T) {
	opts := &relmgr.Options{References: []relmgr.Reference{{Table: "s.c", Columns: []string{"doc"}, Path: "$.u", Parent: "s.u", None: []string{"a:0:{}"}}}}
	script := "table s.u (id int, key id)\ntable s.c (id int, doc text null, key id)\n"
	require.Equal(t, `insert s.c id=1, doc=""
insert s.c id=2, doc=" \n"
insert s.c id=3, doc="a:0:{}"
insert s.c id=4, doc="{\"u\": 1}"
commit
`, run(t, opts, script+`
insert s.c 1, ""
insert s.c 2, " \n"
insert s.c 3, "a:0:{}"
insert s.c 4, "{\"u\": 7}"
commit
`))
	m, s := open(t, opts, script+"insert s.c 1, \"a:1:{}\"\ncommit\n")
	_, err := dfstest.Run(t.Context(), []dfs.Stage{m}, s.Transactions...)
	require.ErrorContains(t, err, `it is no JSON: "a:1:{}"; if such a text is to stay as it is, list it under None of References[0]`)
}

// Within a transaction of many parts blocks grow, so that few have to be asked for.
func TestBlocksGrowWithinALargeTransaction(t *testing.T) {
	table := dfstest.Table(t, "s.t (id bigint, key id)")
	asked := &asking{}
	m, err := relmgr.Open("", &relmgr.Options{Tables: []*dfs.Table{table}, Allocator: asked})
	require.NoError(t, err)
	defer m.Close()
	for part := range 100 {
		tx := dfs.Transaction{Checkpoint: dfs.Checkpoint{Seq: uint64(part + 1)}, More: part < 99}
		for k := range 2000 {
			tx.Changes = append(tx.Changes, dfstest.Insert(t, table, 2000*part+k))
		}
		require.NoError(t, m.Process(t.Context(), []*dfs.Transaction{&tx}))
	}
	require.Less(t, asked.times, 15)
	asked.times, asked.most = 0, 0
	tx := dfs.Transaction{Checkpoint: dfs.Checkpoint{Seq: 101}}
	for k := range 300_000 {
		tx.Changes = append(tx.Changes, dfstest.Insert(t, table, 1_000_000+k))
	}
	require.NoError(t, m.Process(t.Context(), []*dfs.Transaction{&tx}))
	require.LessOrEqual(t, asked.most, uint64(8192))
}

type asking struct {
	counter
	times int
	most  uint64
}

func (a *asking) Reserve(ctx context.Context, table, column string, least, n uint64) (first, got uint64, err error) {
	a.times++
	a.most = max(a.most, n)
	return a.counter.Reserve(ctx, table, column, least, n)
}

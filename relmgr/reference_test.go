package relmgr_test

import (
	"context"
	"regexp"
	"strings"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/dfstest"
	"github.com/dataflowsync/dfs/relmgr"
	"github.com/stretchr/testify/require"
)

func TestAPolymorphicReferenceGoesByItsType(t *testing.T) {
	opts := &relmgr.Options{
		Policies: []relmgr.Policy{{Table: "s.users", First: 100}, {Table: "s.orders", First: 500}},
		References: []relmgr.Reference{{Table: "s.notes", Columns: []string{"about"}, TypeColumn: "kind", None: []string{"0"},
			Parents: map[string]string{"user": "s.users", "order": "s.orders", "none": ""}}},
	}
	script := `
table s.users (id int, key id)
table s.orders (id int, key id)
table s.notes (id int, kind enum('user','order','none','odd'), about int unsigned null, key id)
`
	require.Equal(t, `insert s.notes id=1, kind="user", about=100
insert s.notes id=2, kind="order", about=500
insert s.notes id=3, kind="none", about=1
insert s.notes id=4, kind="user", about=0
insert s.notes id=5, kind="user", about=NULL
update s.notes id=1, kind="user", about=100 -> id=1, kind="order", about=500
update s.notes id=1, kind="order", about=ABSENT -> id=ABSENT, kind=ABSENT, about=ABSENT
commit
`, run(t, opts, script+`
insert s.notes 7, "user", 1
insert s.notes 8, "order", 1
insert s.notes 9, "none", 1
insert s.notes 10, "user", 0
insert s.notes 11, "user", NULL
update s.notes 7, "user", 1 -> 7, "order", ABSENT
update s.notes 7, "order", ABSENT -> ABSENT, ABSENT, ABSENT
commit
`))
	m, s := open(t, opts, script+"insert s.notes 7, \"odd\", 1\ncommit\n")
	_, err := dfstest.Run(t.Context(), []dfs.Stage{m}, s.Transactions...)
	require.ErrorContains(t, err, `table s.notes, row id=7, column about: References[0] says kind = "odd", for which there is no table: add it to Parents`)
}

func TestIDsInDocumentsAreRewrittenAndNothingElse(t *testing.T) {
	opts := &relmgr.Options{
		Policies: []relmgr.Policy{{Table: "s.users", First: 100}},
		References: []relmgr.Reference{
			{Table: "s.d", Columns: []string{"doc"}, Path: "$.user", Parent: "s.users", None: []string{"0"}},
			{Table: "s.d", Columns: []string{"doc"}, Path: `$."odd name"[*].ids[1]`, Parent: "s.users"},
		},
	}
	script := "table s.users (id bigint, key id)\ntable s.d (id int, doc json null, key id)\n"
	require.Equal(t, `insert s.d id=1, doc="{\"a\": 1.50, \"user\": 100, \"z\": \"\\u00e9 <x>\"}"
insert s.d id=2, doc="{\"odd name\": [{\"ids\": [9, 102, 9]}, 3, {\"ids\": [9, \"100\"]}], \"user\": \"101\"}"
insert s.d id=3, doc="{\"user\": 0, \"x\": {\"user\": 7}}"
insert s.d id=4, doc=NULL
insert s.d id=5, doc="[1, null, \"user\"]"
commit
`, run(t, opts, script+`
insert s.d 1, "{\"a\": 1.50, \"user\": 7, \"z\": \"\\u00e9 <x>\"}"
insert s.d 2, "{\"odd name\": [{\"ids\": [9, 8, 9]}, 3, {\"ids\": [9, \"7\"]}], \"user\": \"6\"}"
insert s.d 3, "{\"user\": 0, \"x\": {\"user\": 7}}"
insert s.d 4, NULL
insert s.d 5, "[1, null, \"user\"]"
commit
`))
	m, s := open(t, opts, script+"insert s.d 7, \"{\\\"user\\\": 1.5}\"\ncommit\n")
	_, err := dfstest.Run(t.Context(), []dfs.Stage{m}, s.Transactions...)
	require.ErrorContains(t, err, "table s.d, row id=7, column doc: the document has the number 1.5 at $.\"user\", which is no id")
}

// What the text of a document does not say is kept, but for what it said of an old id.
func TestNotesOfDocumentsStay(t *testing.T) {
	users := dfstest.Table(t, "s.users (id bigint, key id)")
	docs := dfstest.Table(t, "s.d (id int, doc json, key id)")
	m, err := relmgr.Open("", &relmgr.Options{Tables: []*dfs.Table{users, docs},
		References: []relmgr.Reference{{Table: "s.d", Columns: []string{"doc"}, Path: "$.u", Parent: "s.users"}}})
	require.NoError(t, err)
	defer m.Close()
	price := dfs.JSONNote{Path: `$."p"`, Type: "decimal(5,2)", Text: "1.50"}
	doc := dfs.JSONNotedValue(`{"p": 1.50, "u": 9}`, []dfs.JSONNote{price, {Path: `$."u"`, Type: "bigint unsigned", Text: "9"}})
	out, err := dfstest.Run(t.Context(), []dfs.Stage{m}, dfs.Transaction{Changes: []dfs.Change{dfstest.Insert(t, docs, 1, doc)}})
	require.NoError(t, err)
	require.Equal(t, dfs.JSONNotedValue(`{"p": 1.50, "u": 1}`, []dfs.JSONNote{price}), out[0].Changes[0].After[1])
}

func TestUUIDsTakeThePlaceOfNumbersEverywhere(t *testing.T) {
	m, s := open(t, &relmgr.Options{ForeignKeys: []relmgr.ForeignKey{key("s.o.u s.u.id")},
		Policies:   []relmgr.Policy{{Table: "s.u", IDs: relmgr.UUID}, {Table: "s.b", IDs: relmgr.UUID}},
		References: []relmgr.Reference{{Table: "s.o", Columns: []string{"doc"}, Path: "$.u", Parent: "s.u"}},
	}, `
table s.u (id int, key id)
table s.b (id binary(16), key id)
table s.o (id int, u int null, doc json, key id)
insert s.o 1, 7, "{\"u\": 7}"
insert s.u 7
insert s.b 0x00112233445566778899aabbccddeeff
commit
`)
	var first []*dfs.Transaction
	for range 2 {
		out, err := dfstest.Run(t.Context(), []dfs.Stage{m}, s.Transactions...)
		require.NoError(t, err)
		c := out[0].Changes
		id := c[1].After[0].Text()
		require.Regexp(t, regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`), id)
		require.Equal(t, id, c[0].After[1].Text())
		require.Equal(t, `{"u": "`+id+`"}`, c[0].After[2].Text())
		require.Equal(t, "char(36)", c[0].Table.Columns[1].Type)
		require.Equal(t, "char(36)", c[1].Table.Columns[0].Type)
		require.Len(t, c[2].After[0].Text(), 16)
		require.Equal(t, "binary(16)", c[2].Table.Columns[0].Type)
		if first != nil {
			require.Equal(t, dfstest.Format(first...), dfstest.Format(out...))
		}
		first = out
	}
	old, ok, err := m.Old(t.Context(), "s.u", first[0].Changes[1].After[0].Text())
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, []string{"7"}, old)
}

func TestFunctionsMakeIDsAndAreAskedOnce(t *testing.T) {
	asked := 0
	prefix := func(_ context.Context, k relmgr.Key) (dfs.Value, error) {
		asked++
		if k.Values[0].Text() == "panic" {
			panic("boom")
		}
		return dfs.StringValue("north-" + strings.ToLower(k.Values[0].Text())), nil
	}
	opts := &relmgr.Options{Policies: []relmgr.Policy{{Table: "s.c", Func: prefix}}, ForeignKeys: []relmgr.ForeignKey{key("s.d.c s.c.code")}}
	script := "table s.c (code varchar(40), key code)\ntable s.d (id int, c varchar(40) null, key id)\n"
	require.Equal(t, `insert s.c code="north-abc"
insert s.d id=1, c="north-abc"
update s.d id=1, c="north-abc" -> id=1, c=NULL
commit
`, run(t, opts, script+`
insert s.c "Abc"
insert s.d 1, "ABC"
update s.d 1, "abc" -> 1, NULL
commit
`), "as the collation compares")
	_ = asked
	for _, c := range []struct{ script, want string }{
		{`insert s.c "panic"`, "table s.c, row code=\"panic\", column code: the function panicked: boom"},
		{`insert s.c "é"`, "cannot be compared as the server does"},
	} {
		m, s := open(t, opts, script+c.script+"\ncommit\n")
		_, err := dfstest.Run(t.Context(), []dfs.Stage{m}, s.Transactions...)
		require.ErrorContains(t, err, c.want)
	}
	same := func(context.Context, relmgr.Key) (dfs.Value, error) { return dfs.IntValue(5), nil }
	m, s := open(t, &relmgr.Options{Policies: []relmgr.Policy{{Table: "s.t", Func: same}}},
		"table s.t (id int, key id)\ninsert s.t 1\ncommit\ninsert s.t 1\ninsert s.t 2\ncommit\n")
	_, err := dfstest.Run(t.Context(), []dfs.Stage{m}, s.Transactions[0])
	require.NoError(t, err)
	_, err = dfstest.Run(t.Context(), []dfs.Stage{m}, s.Transactions[1])
	require.ErrorContains(t, err, "row id=2, column id: the function returned 5, which is the new id of another row already")
}

func TestAKeyOfSeveralColumnsGetsAnIDInOneOfThem(t *testing.T) {
	opts := &relmgr.Options{
		Policies:    []relmgr.Policy{{Table: "s.inv", Column: "no", First: 50}},
		ForeignKeys: []relmgr.ForeignKey{key("s.pay.year,no s.inv.year,no")},
	}
	script := "table s.inv (year int, no int, key (year, no))\ntable s.pay (id int, year int null, no int null, key id)\n"
	m, s := open(t, opts, script+`
insert s.inv 2025, 1
insert s.inv 2026, 1
insert s.pay 1, 2026, 1
insert s.pay 2, 2025, NULL
update s.inv 2025, 1 -> 2027, ABSENT
commit
`)
	out, err := dfstest.Run(t.Context(), []dfs.Stage{m}, s.Transactions...)
	require.NoError(t, err)
	require.Equal(t, `insert s.inv year=2025, no=50
insert s.inv year=2026, no=51
insert s.pay id=1, year=2026, no=51
insert s.pay id=2, year=2025, no=NULL
update s.inv year=2025, no=50 -> year=2027, no=52
commit
`, dfstest.Format(out...))
	row, ok, err := m.New(t.Context(), "s.inv", 2026, 1)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, dfs.Row{dfs.IntValue(2026), dfs.IntValue(51)}, row)
	old, ok, err := m.Old(t.Context(), "s.inv", 2026, 51)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, []string{"2026", "1"}, old)
}

func TestARowMayBeLateWhereThatIsExpected(t *testing.T) {
	opts := &relmgr.Options{References: []relmgr.Reference{{Table: "s.o", Columns: []string{"u"}, Parent: "s.u", Late: true}}}
	require.Equal(t, `nofk insert s.o id=1, u=1
insert s.u id=1
insert s.o id=2, u=1
commit
`, run(t, opts, "table s.u (id int, key id)\ntable s.o (id int, u int null, key id)\n"+`
insert s.o 1, 5
insert s.u 5
insert s.o 2, 5
commit
`))
}

func TestFaultsAreFoundBeforeTheFirstRowAllAtOnce(t *testing.T) {
	s, err := dfstest.Parse(`
table s.a (id int, b int null, name varchar(20), doc json null, key id)
table s.b (id int, key id)
table s.t (x int, y int, key (x, y))
`)
	require.NoError(t, err)
	f := func(context.Context, relmgr.Key) (dfs.Value, error) { return dfs.Value{}, nil }
	for _, c := range []struct {
		opts relmgr.Options
		want []string
	}{
		{relmgr.Options{ForeignKeys: []relmgr.ForeignKey{key("s.a.b s.gone.id")}},
			[]string{"foreign key s.a.b s.gone.id: table s.a, column b: it refers to s.gone, of whose ids nothing is known: follow that table too"}},
		{relmgr.Options{ForeignKeys: []relmgr.ForeignKey{key("s.a.b s.gone.id")}, Policies: []relmgr.Policy{{Table: "s.gone", IDs: relmgr.Keep}}}, nil},
		{relmgr.Options{References: []relmgr.Reference{
			{Table: "s.a", Columns: []string{"c"}, Parent: "s.b"}, {Table: "s.a", Columns: []string{"b"}, Parent: "s.t"},
			{Table: "s.x", Columns: []string{"b"}, Parent: "s.b"}}},
			[]string{"References[0]: table s.a: there is no column c; the columns are id,b,name,doc",
				"References[1]: table s.a, column b: it has 1 columns, and the key of s.t has 2 (x,y)", "References[2]: table s.x: the source has no such table"}},
		{relmgr.Options{References: []relmgr.Reference{{Table: "a", Parent: "b", Path: "x"}}},
			[]string{`Table: write it as "schema.table"`, "Columns is empty", `Path "x": it begins with $`}},
		{relmgr.Options{References: []relmgr.Reference{{Table: "s.a", Columns: []string{"name"}, Path: "$.x[a]", Parent: "s.b"}}}, []string{"[a] is no element"}},
		{relmgr.Options{References: []relmgr.Reference{{Table: "s.a", Columns: []string{"b"}, Path: "$.x", Parent: "s.b"}}}, []string{"Path is for documents"}},
		{relmgr.Options{References: []relmgr.Reference{{Table: "s.a", Columns: []string{"doc"}, Path: "$[*].x", Parent: "s.b"}, {Table: "s.a", Columns: []string{"doc"}, Path: "$[3].x", Parent: "s.a"}}},
			[]string{"the path $[3].\"x\" leads to what another reference's leads to"}},
		{relmgr.Options{References: []relmgr.Reference{{Table: "s.a", Columns: []string{"doc"}, Parent: "s.b"}}}, []string{"a json cannot hold the new ids of s.b.id"}},
		{relmgr.Options{References: []relmgr.Reference{{Table: "s.a", Columns: []string{"b"}, Parent: "s.b"}, {Table: "s.a", Columns: []string{"b"}, Parent: "s.a"}}},
			[]string{"column b: it holds ids of s.a.id, and by References[0] also of s.b.id, which are not the same"}},
		{relmgr.Options{References: []relmgr.Reference{{Table: "s.a", Columns: []string{"b"}, Parent: "s.b"}, {Table: "s.a", Columns: []string{"b"}, Parent: "s.a"}},
			Policies: []relmgr.Policy{{Table: "s.b", IDs: relmgr.Keep}}},
			[]string{"References[0]: table s.a, column b: it holds keys of s.b, which stay, and by References[1] also those of s.a.id, which get new ids"}},
		{relmgr.Options{References: []relmgr.Reference{{Table: "s.a", Columns: []string{"b"}, TypeColumn: "kind", Parents: map[string]string{"x": "s.b"}}}},
			[]string{"there is no column kind"}},
		{relmgr.Options{Policies: []relmgr.Policy{{Table: "s.a"}, {Table: "S.A", IDs: relmgr.Keep}}}, []string{"Policies[0] is about the same table; leave one out"}},
		{relmgr.Options{Policies: []relmgr.Policy{{Table: "s.a", IDs: "random"}, {Table: "x"}, {Table: "s.b", IDs: relmgr.UUID, Func: f}, {Table: "s.t", Type: "varchar(3)", Target: "x"}}},
			[]string{`IDs "random": use allocate, keep, uuid or function`, `"x" names no table`, "Func belongs to IDs function", "ids from blocks are whole numbers", "write it as schema.table.column"}},
		{relmgr.Options{Policies: []relmgr.Policy{{Table: "s.t"}}}, []string{"2 of them refer to no other table: name the Column that gets new ids"}},
		{relmgr.Options{Policies: []relmgr.Policy{{Table: "s.q*"}, {Table: "s.a", Column: "nr"}}}, []string{"no table of the source is matched", "there is no column nr"}},
		{relmgr.Options{Policies: []relmgr.Policy{{Table: "s.a", Column: "name"}}}, []string{"ids from blocks are whole numbers, and the column is a varchar(20)"}},
		{relmgr.Options{Policies: []relmgr.Policy{{Table: "s.b", IDs: relmgr.Keep}}, ForeignKeys: []relmgr.ForeignKey{key("s.b.id s.a.id")}},
			[]string{"the column holds ids of s.a.id, by foreign key s.b.id s.a.id, so it cannot have ids of its own"}},
		{relmgr.Options{ForeignKeys: []relmgr.ForeignKey{key("s.b.id s.a.id"), key("s.a.id s.b.id")}},
			[]string{"the keys of these columns refer to each other in a ring"}},
		{relmgr.Options{ForeignKeys: []relmgr.ForeignKey{key("s.b.id s.a.id"), key("s.a.id s.b.id")}, Policies: []relmgr.Policy{{Table: "s.a", Column: "id"}}}, nil},
		{relmgr.Options{Default: "some", Unknown: "x", CacheBytes: 5}, []string{`default "some"`, `unknown "x"`, "CacheBytes 5"}},
	} {
		c.opts.Tables = s.Tables
		m, err := relmgr.Open("", &c.opts)
		if len(c.want) == 0 {
			require.NoError(t, err)
			require.NoError(t, m.Close())
			continue
		}
		require.Error(t, err, c.want)
		for _, want := range c.want {
			require.ErrorContains(t, err, want)
		}
	}
}

func TestIDsThatAreUsedUpAreAnErrorWithItsCure(t *testing.T) {
	script := "table s.t (id tinyint, key id)\n"
	for i := range 128 {
		script += "insert s.t " + string(dfs.IntValue(int64(i-100)).Append(nil)) + "\n"
	}
	m, s := open(t, nil, script+"commit\n")
	_, err := dfstest.Run(t.Context(), []dfs.Stage{m}, s.Transactions...)
	require.ErrorIs(t, err, relmgr.ErrExhausted)
	require.ErrorContains(t, err, "row id=27, column id: s.t.id has no new ids left, as the column of the target holds no greater number: make it")
	tx := s.Transactions[0]
	tx.Changes = tx.Changes[:127]
	out, err := dfstest.Run(t.Context(), []dfs.Stage{m}, tx)
	require.NoError(t, err)
	require.Equal(t, int64(127), out[0].Changes[126].After[0].Int())
}

func TestRewritesTellWhatBecomesOfATable(t *testing.T) {
	m, s := open(t, &relmgr.Options{ForeignKeys: shopKeys, Policies: []relmgr.Policy{{Table: "s.users", Type: "bigint unsigned"}}}, shop)
	list, err := m.Rewrites(s.Tables[2])
	require.NoError(t, err)
	require.Equal(t, []relmgr.Rewrite{
		{Column: "order_id", How: "refers to s.orders.id (foreign key s.lines.order_id s.orders.id)"},
		{Column: "line", How: "kept"}}, list)
	list, err = m.Rewrites(s.Tables[0])
	require.NoError(t, err)
	require.Equal(t, []relmgr.Rewrite{
		{Column: "id", How: "new ids: allocate", Type: "bigint unsigned", Own: true},
		{Column: "boss", How: "refers to s.users.id (foreign key s.users.boss s.users.id)", Type: "bigint unsigned"}}, list)
	out, err := m.Table(s.Tables[1])
	require.NoError(t, err)
	require.Equal(t, "bigint unsigned", out.Columns[1].Type)
}

package cdc

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/ddl"
)

func someTable(name string) *dfs.Table {
	return &dfs.Table{Schema: "s", Name: name, Key: []int{0}, Columns: []dfs.Column{
		{Name: "id", Type: "int"}, {Name: "v", Type: "varchar(40)", Charset: "utf8mb4", Collation: "utf8mb4_bin", Nullable: true},
	}}
}

func TestStateHoldsTheCatalog(t *testing.T) {
	c, err := parseCatalog("")
	require.NoError(t, err)
	require.False(t, c.kept)
	require.False(t, c.due(), "a log that names its columns needs no State")

	c.kept, c.given, c.asked = true, 1<<63+5, 1_700_000_000
	c.learn(asked{table: someTable("t"), collation: "utf8mb4_bin"})
	require.True(t, c.due())
	state := c.state()
	require.False(t, c.due())
	again, err := parseCatalog(state)
	require.NoError(t, err)
	require.True(t, again.kept)
	require.EqualValues(t, 1_700_000_000, again.asked)
	require.Equal(t, uint64(1<<63+5), again.given)
	got, known := again.tables.Table("s", "t")
	require.True(t, known)
	require.Equal(t, someTable("t"), got)

	// Once the log names columns, State says so: it cannot become empty.
	again.retire()
	require.True(t, again.due())
	state = again.state()
	require.NotEmpty(t, state)
	last, err := parseCatalog(state)
	require.NoError(t, err)
	require.False(t, last.kept)
	_, known = last.tables.Table("s", "t")
	require.False(t, known)
	last.retire()
	require.False(t, last.due())
}

func TestDamagedStateIsRefused(t *testing.T) {
	c := &catalog{kept: true, tables: new(ddl.Catalog)}
	c.tables.Set(someTable("t"), "")
	state := c.state()
	for n := 1; n < len(state); n++ {
		_, err := parseCatalog(state[:n])
		require.Error(t, err, "cut at %d", n)
	}
	_, err := parseCatalog("\x63" + state[1:])
	require.ErrorContains(t, err, "has version 99")
}

// What is only learned is asked for again where it is missing, so that a large
// State need not be stored for each table of which rows come.
func TestLargeStateIsNotHandedOnForEachTableLearned(t *testing.T) {
	c := &catalog{kept: true, tables: new(ddl.Catalog)}
	c.learn(asked{table: someTable("a")})
	require.True(t, c.due())
	c.state()
	c.size = smallState
	c.learn(asked{table: someTable("b")})
	require.False(t, c.due())
	c.handed = c.handed.Add(-learnedWait)
	require.True(t, c.due())
	c.handed = time.Now()
	c.forget(ddl.Table{Schema: "s", Name: "a"})
	require.True(t, c.due(), "what is not true any more must not be stored")
}

// evolver returns an assembler that keeps a catalog with the table s.t.
func evolver() *assembler {
	a, _ := newAssembler("s.*")
	a.catalog.kept = true
	a.catalog.tables.Set(someTable("t"), "utf8mb4_bin")
	return a
}

// follow hands a statement to a, that began at a second and ended with an error.
func follow(t *testing.T, a *assembler, second byte, failed byte, text string) {
	t.Helper()
	body := []byte(queryBody("s", text))
	body[9] = failed
	e := event(makeEvent(evQuery, body))
	e[0], e[1], e[2], e[3] = second, 0, 0, 0
	require.NoError(t, a.handle(t.Context(), e[:len(e)-4], false))
	for i := range e {
		e[i] = '?' // the memory of an event is used again
	}
}

func TestStatementsThatTheServersAnswerMayShowAreNotAppliedAgain(t *testing.T) {
	const swap = "ALTER TABLE t CHANGE id v2 int"
	a := evolver()
	a.catalog.asked = 9
	follow(t, a, 10, 0, swap)
	got, known := a.catalog.tables.Table("s", "t")
	require.True(t, known)
	require.Equal(t, "v2", got.Columns[0].Name)
	require.True(t, a.catalog.changed)

	a = evolver()
	a.catalog.asked = 10
	follow(t, a, 10, 0, swap)
	_, known = a.catalog.tables.Table("s", "t")
	require.False(t, known)

	// What does not depend on the table as it was can be applied twice.
	follow(t, a, 10, 0, "CREATE TABLE t (x int PRIMARY KEY)")
	got, known = a.catalog.tables.Table("s", "t")
	require.True(t, known)
	require.Equal(t, "x", got.Columns[0].Name)
	follow(t, a, 10, 0, "CREATE TABLE u LIKE t")
	_, known = a.catalog.tables.Table("s", "u")
	require.False(t, known)
}

func TestStatementsThatFailedHalfwayForgetTheirTables(t *testing.T) {
	a := evolver()
	a.src.filter, _ = newFilter([]string{"s.other"})
	follow(t, a, 10, 1, "RENAME TABLE t TO u, x TO y")
	_, known := a.catalog.tables.Table("s", "t")
	require.False(t, known)
}

func TestStatementsOfOtherSchemasChangeNothing(t *testing.T) {
	a := evolver()
	follow(t, a, 10, 0, "CREATE TABLE other.t (x int)")
	require.False(t, a.catalog.changed)
	_, known := a.catalog.tables.Table("other", "t")
	require.False(t, known)
	follow(t, a, 10, 0, "RENAME TABLE other.t TO s.t")
	got, _ := a.catalog.tables.Table("s", "t")
	require.Nil(t, got, "what comes from there is asked for")
	require.True(t, a.catalog.changed)
}

// A server that crashed has not committed what its log does not end.
func TestTablesOfATransactionWithoutEndAreForgotten(t *testing.T) {
	a := evolver()
	follow(t, a, 10, 0, "BEGIN")
	follow(t, a, 10, 0, "CREATE TABLE u (x int PRIMARY KEY)")
	_, known := a.catalog.tables.Table("s", "u")
	require.True(t, known)
	require.NoError(t, feed(a, evRotate, 0, "\x04\x00\x00\x00\x00\x00\x00\x00next"))
	_, known = a.catalog.tables.Table("s", "u")
	require.False(t, known)
	_, known = a.catalog.tables.Table("s", "t")
	require.True(t, known)
}

func TestSchemaTextIsCutAsTheClientDoes(t *testing.T) {
	text := "-- c;\n# c;\nUSE `a``b`;\n/* c; */ CREATE TABLE t (c char(3) DEFAULT ';\\'' COMMENT \"--;\", `x;` int);\n" +
		"DELIMITER ;;\nCREATE TRIGGER x BEGIN SET a = 1; END ;;\nDELIMITER ;\nDROP TABLE z;\n\n  ;CREATE TABLE last (a int)"
	require.Equal(t, []string{
		"-- c;\n# c;\nUSE `a``b`", "/* c; */ CREATE TABLE t (c char(3) DEFAULT ';\\'' COMMENT \"--;\", `x;` int)",
		"CREATE TRIGGER x BEGIN SET a = 1; END", "DROP TABLE z", "CREATE TABLE last (a int)",
	}, slices.Collect(statements(text)))
	require.Empty(t, slices.Collect(statements("")))
	require.Len(t, slices.Collect(statements("a 'b")), 1)

	c := &catalog{tables: new(ddl.Catalog)}
	faults := c.take("CREATE TABLE t (x int); CREATE TABLE s.bad AS SELECT 1; USE s; CREATE TABLE ok (x int)", ddl.Mode{})
	require.Len(t, faults, 2)
	require.Contains(t, faults[0].What, "names no schema")
	require.Contains(t, faults[1].What, "the columns of s.bad cannot be read")
	_, known := c.tables.Table("s", "ok")
	require.True(t, known)
}

func FuzzSchemaText(f *testing.F) {
	f.Add("USE a; DELIMITER //\nCREATE TABLE t (a int) //")
	f.Add("/* ' \" ` -- #")
	f.Fuzz(func(t *testing.T, text string) {
		n := 0
		for s := range statements(text) {
			n += len(s)
		}
		require.LessOrEqual(t, n, len(text))
		if !strings.ContainsAny(text, "'\"`/#-\n;") && strings.TrimSpace(text) != "" && !strings.HasPrefix(strings.ToUpper(text), "DELIMITER ") {
			require.Equal(t, []string{strings.TrimSpace(text)}, slices.Collect(statements(text)))
		}
	})
}

func TestVersionNumbers(t *testing.T) {
	for version, n := range map[string]int{"8.0.26-log": 80026, "5.6.51": 50651, "10.11.14-MariaDB-deb": 101114, "9.7": 90700, "": 0, "x": 0} {
		require.Equal(t, n, versionNumber(version), version)
	}
}

func TestATableThatDiffersFromItsMapIsNotTrusted(t *testing.T) {
	for n, size := range map[int]int{1: 1, 8: 1, 9: 2, 24: 3, 32: 4, 33: 8, 64: 8} {
		require.Equal(t, size, setSize(n))
	}
	table := func() (*tableMapBody, *dfs.Table) {
		m := &tableMapBody{signs: true, columns: []column{
			{typ: typLong, unsigned: true},
			{typ: typVarchar, meta: 160, nullable: true, collation: 46},
			{typ: typEnum, size: 1}, {typ: typSet, size: 2}, {typ: typBlob, meta: 3}, {typ: typBlob, meta: 4},
		}}
		return m, &dfs.Table{Columns: []dfs.Column{
			{Name: "a", Type: "int unsigned"}, {Name: "b", Type: "varchar(40)", Charset: "utf8mb4", Collation: "utf8mb4_bin", Nullable: true},
			{Name: "c", Type: "enum", Members: []string{"x"}}, {Name: "d", Type: "set", Members: strings.Split("a,b,c,d,e,f,g,h,i", ",")},
			{Name: "e", Type: "mediumtext", Charset: "utf8mb4", Collation: "utf8mb4_bin"}, {Name: "f", Type: "json"},
		}}
	}
	m, is := table()
	require.True(t, m.suits(is))
	for what, change := range map[string]func(m *tableMapBody, t *dfs.Table){
		"columns":   func(m *tableMapBody, t *dfs.Table) { t.Columns = t.Columns[1:] },
		"sign":      func(m *tableMapBody, t *dfs.Table) { t.Columns[0].Type = "int" },
		"type":      func(m *tableMapBody, t *dfs.Table) { t.Columns[0].Type = "bigint unsigned" },
		"null":      func(m *tableMapBody, t *dfs.Table) { t.Columns[0].Nullable = true },
		"length":    func(m *tableMapBody, t *dfs.Table) { t.Columns[1].Type = "varchar(41)" },
		"collation": func(m *tableMapBody, t *dfs.Table) { t.Columns[1].Collation = "utf8mb4_general_ci" },
		"bytes": func(m *tableMapBody, t *dfs.Table) {
			t.Columns[1].Charset, t.Columns[1].Collation, t.Columns[1].Type = "", "", "varbinary(160)"
		},
		"members": func(m *tableMapBody, t *dfs.Table) { t.Columns[2].Members = make([]string, 256) },
		"size":    func(m *tableMapBody, t *dfs.Table) { t.Columns[4].Type = "text" },
		"set":     func(m *tableMapBody, t *dfs.Table) { t.Columns[3].Members = t.Columns[3].Members[:8] },
	} {
		m, is := table()
		change(m, is)
		require.False(t, m.suits(is), what)
	}
}

// A statement that is not understood would only be told hours later, when rows of
// its table come.
func TestSchemaTextThatIsNotUnderstoodIsAFault(t *testing.T) {
	for text, want := range map[string]string{
		"CREATE TABLE s.t (x int); ALTER TABLE s.t ADD y int":                      "",
		"CREATE TABLE s.t (x int); RENAME TABLE s.t TO s.u; DROP TABLE s.u":        "",
		"ALTER TABLE s.t ADD y int":                                                "",
		"CREATE TABLE s.t (x int); ALTER TABLE s.t FROBNICATE y":                   "what \"ALTER TABLE s.t FROBNICATE y\" makes of s.t is not understood",
		"CREATE TABLE s.t (x int); ALTER TABLE s.t ADD y frob(3)":                  "makes of s.t is not understood",
		"CREATE TABLE s.t (x int); RENAME TABLE s.t TO s.u FROB":                   "which tables",
		"CREATE TABLE s.t (x int) PARTITION BY HASH(x) PARTITIONS 2 SELECT 1 AS y": "columns of s.t cannot be read",
	} {
		c := &catalog{tables: new(ddl.Catalog)}
		c.tables.SetSchema("s", "utf8mb4_bin")
		faults := c.take(text, ddl.Mode{})
		if want == "" {
			require.Empty(t, faults, text)
			continue
		}
		require.Len(t, faults, 1, text)
		require.Contains(t, faults[0].What, want)
	}
}

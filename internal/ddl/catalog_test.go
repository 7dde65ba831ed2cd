package ddl

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
)

// apply applies statements in the schema d.
func apply(c *Catalog, m Mode, texts ...string) {
	for _, text := range texts {
		s := Parse(text, "d", m)
		c.Apply(&s, nil)
	}
}

// names returns the columns of a table of d: "?" if it is not known, "-" if it
// does not exist.
func names(c *Catalog, table string) string {
	t, known := c.Table("d", table)
	switch {
	case !known:
		return "?"
	case t == nil:
		return "-"
	}
	var list []string
	for _, col := range t.Columns {
		list = append(list, col.Name)
	}
	return strings.Join(list, " ")
}

func TestCatalogForgetsWhatItDoesNotUnderstand(t *testing.T) {
	for _, text := range []string{
		"ALTER TABLE t FROBNICATE x", "ALTER TABLE t ADD b NUMBER(3)", "ALTER TABLE t ADD b INT WONDERFUL", "ALTER TABLE t ADD b VARCHAR(9)",
		"ALTER TABLE t ADD b INT AFTER nope", "ALTER TABLE t ADD a INT", "ALTER TABLE t DROP a", "ALTER TABLE t DROP nope", "ALTER TABLE t MODIFY nope INT",
		"ALTER TABLE t RENAME COLUMN nope TO b", "ALTER TABLE t ADD PRIMARY KEY (nope)", "ALTER TABLE t ADD SYSTEM VERSIONING",
		"CREATE TEMPORARY TABLE t (a INT)", "CREATE VIEW t AS SELECT 1", "frobnicate t", "ALTER TABLE T ADD b INT", "DROP TABLE d.T", "CREATE TABLE t SELECT 1",
	} {
		var c Catalog
		apply(&c, Mode{}, "CREATE TABLE t (a INT)")
		require.Equal(t, "a", names(&c, "t"))
		apply(&c, Mode{}, text)
		require.Equal(t, "?", names(&c, "t"), text)
	}
}

func TestCatalogFollowsNamesAndSchemas(t *testing.T) {
	var c Catalog
	apply(&c, Mode{}, "CREATE TABLE t (a INT)", "RENAME TABLE t TO u, x TO y")
	require.Equal(t, "-", names(&c, "t"))
	require.Equal(t, "a", names(&c, "u"))
	require.Equal(t, "-", names(&c, "x"))
	require.Equal(t, "?", names(&c, "y"))
	apply(&c, Mode{}, "CREATE DATABASE d CHARACTER SET latin1")
	require.Equal(t, "-", names(&c, "u"), "nothing is in a new schema")
	apply(&c, Mode{}, "CREATE TABLE IF NOT EXISTS v (b VARCHAR(3))", "CREATE TABLE IF NOT EXISTS v (c INT)")
	require.Equal(t, "b", names(&c, "v"))
	v, _ := c.Table("d", "v")
	require.Equal(t, "latin1_swedish_ci", v.Columns[0].Collation)
	apply(&c, Mode{}, "DROP DATABASE d")
	require.Equal(t, "-", names(&c, "v"))

	folded := Catalog{Fold: true}
	apply(&folded, Mode{}, "CREATE TABLE t (a INT)", "ALTER TABLE D.T ADD b INT")
	require.Equal(t, "a b", names(&folded, "T"))
}

// One column gives up the name that another takes in the same statement.
func TestANameGoesFromOneColumnToAnother(t *testing.T) {
	for text, want := range map[string]string{
		"ALTER TABLE t CHANGE b f INT, RENAME COLUMN h TO b":         "a f b",
		"ALTER TABLE t CHANGE b f INT AFTER h, RENAME COLUMN h TO b": "?", // h is b by then
		"ALTER TABLE t CHANGE b f INT FIRST, RENAME COLUMN h TO b":   "f a b",
		"ALTER TABLE t RENAME COLUMN h TO b, RENAME COLUMN b TO h":   "a h b",
		"ALTER TABLE t DROP b, RENAME COLUMN h TO b":                 "a b",
	} {
		var c Catalog
		apply(&c, Mode{}, "CREATE TABLE t (a INT, b INT, h INT)", text)
		require.Equal(t, want, names(&c, "t"), text)
	}
}

func TestCatalogSharesNoMemoryWithStatements(t *testing.T) {
	var c Catalog
	text := []byte("CREATE TABLE x.t (a ENUM('m'), b VARCHAR(3) COLLATE latin1_bin) CHARSET latin1; ")
	s := Parse(unsafe.String(&text[0], len(text)), "d", Mode{})
	c.Apply(&s, nil)
	before := c.Append(nil)
	for i := range text {
		text[i] = '#'
	}
	require.Equal(t, before, c.Append(nil))
}

func TestStatementsMayBeTakenForOthers(t *testing.T) {
	// As who reads a dump does, which creates schemas that are there.
	var c Catalog
	s := Parse("CREATE DATABASE IF NOT EXISTS d CHARACTER SET latin1", "", Mode{})
	s.Kind = AlterSchema
	c.Apply(&s, nil)
	apply(&c, Mode{}, "CREATE TABLE t (a VARCHAR(3))")
	require.Equal(t, "a", names(&c, "t"))
}

func TestNamesOfDroppedTablesAreBounded(t *testing.T) {
	var c Catalog
	for i := range 10 * maxAbsent {
		apply(&c, Mode{}, fmt.Sprintf("DROP TABLE t%d", i))
		require.LessOrEqual(t, len(c.schemas["d"].tables), maxAbsent)
	}
	for _, gone := range []string{"DROP TABLE t", "RENAME TABLE t TO u", "ALTER TABLE t RENAME u"} {
		var c Catalog
		apply(&c, Mode{}, "CREATE TABLE t (a INT, b INT)")
		for i := range maxAbsent {
			apply(&c, Mode{}, fmt.Sprintf("DROP TABLE t%d", i))
		}
		apply(&c, Mode{}, gone)
		require.Equal(t, "-", names(&c, "t"), gone)
		require.Equal(t, 1, c.absent, "the others are forgotten")
		apply(&c, Mode{}, "CREATE TABLE IF NOT EXISTS t (b INT, a INT)")
		require.Equal(t, "b a", names(&c, "t"), gone)
	}
}

// Shards of one shape shrink to nearly nothing.
func TestCatalogOfManyEqualTablesIsRead(t *testing.T) {
	var c Catalog
	for i := range 1000 {
		tab := &dfs.Table{Schema: "shop", Name: fmt.Sprintf("shard_%05d", i)}
		for j := range 400 {
			tab.Columns = append(tab.Columns, dfs.Column{Name: fmt.Sprintf("column_%03d", j), Type: "varchar(255)", Charset: "utf8mb4", Collation: "utf8mb4_0900_ai_ci"})
		}
		c.Set(tab, "utf8mb4_0900_ai_ci")
	}
	b := c.Append(nil)
	require.Less(t, len(b), 100<<10)
	back, err := ParseCatalog(b)
	require.NoError(t, err)
	require.Equal(t, b, back.Append(nil))
}

func TestDamagedCatalogIsAnError(t *testing.T) {
	var c Catalog
	c.Set(&dfs.Table{Schema: "d", Name: "t", Columns: []dfs.Column{{Name: "a", Type: "int"}}}, "")
	b := c.Append(nil)
	for n := range b {
		_, err := ParseCatalog(b[:n])
		require.Error(t, err)
		bad := slices.Clone(b)
		bad[n] ^= 1 << (n % 8)
		_, err = ParseCatalog(bad)
		require.Error(t, err)
	}
	b[0]++
	_, err := ParseCatalog(b)
	require.ErrorContains(t, err, "version")
}

// What CONVERT TO CHARACTER SET makes of a column that is given a type beside it, is
// not known: of JSON, MySQL 9.7 makes a LONGBLOB where the type is LONG VARBINARY.
func TestConvertBesideANewTypeIsForgotten(t *testing.T) {
	for _, kind := range []string{"LONG VARBINARY", "BLOB", "MEDIUMBLOB", "TEXT", "ENUM('a')"} {
		var c Catalog
		apply(&c, Mode{}, "CREATE TABLE t (k JSON)", "ALTER TABLE t CONVERT TO CHARACTER SET binary, CHANGE k c "+kind)
		require.Equal(t, "?", names(&c, "t"), kind)
	}
}

// MariaDB leaves the primary key as it is where a clause IF EXISTS would make another.
func TestAKeyIfExistsIsForgotten(t *testing.T) {
	var c Catalog
	apply(&c, Mode{}, "CREATE TABLE t (h INT PRIMARY KEY, d INT)", "ALTER TABLE t MODIFY COLUMN IF EXISTS d INT UNSIGNED KEY")
	require.Equal(t, "?", names(&c, "t"))
}

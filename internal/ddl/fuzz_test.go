package ddl

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
)

var fuzzModes = []Mode{{}, {ANSIQuotes: true}, {NoBackslashEscapes: true}, {MariaDB: true, Version: 101100}, {Version: 90700},
	{Charset: "gbk"}, {Charset: "big5"}, {Charset: "sjis"}, {Charset: "gb18030"}}

func addStatements(f *testing.F) {
	for _, text := range []string{
		"CREATE TABLE IF NOT EXISTS x.t (a INT PRIMARY KEY, b VARCHAR(9) CHARACTER SET latin1 NOT NULL DEFAULT 'a''b', c ENUM('x','y') REFERENCES p (q)) CHARSET utf8 PARTITION BY HASH(a)",
		"ALTER TABLE t ADD COLUMN x INT FIRST, CHANGE a b BIGINT UNSIGNED AFTER c, DROP d, RENAME TO y.z, ADD (e INT, f TEXT(9)), CONVERT TO CHARACTER SET gbk",
		"ALTER TABLE t RENAME COLUMN a TO b, ADD PRIMARY KEY (c, b(10) DESC), ORDER BY a, b, EXCHANGE PARTITION p WITH TABLE u",
		"CREATE VIEW v AS WITH c (a) AS (SELECT 1 FROM t) SELECT x.t.a, f.g(1) FROM c, ((SELECT 1)), x.t AS u LEFT JOIN (w) ON 1 WHERE a IN (TABLE t)",
		"RENAME TABLE a TO b, `c``d`.e TO .f", "DROP TABLE a, b /*!50000 , c */ -- x", "SET STATEMENT a=1 FOR TRUNCATE t",
		"CREATE TABLE t LIKE u", "ALTER DATABASE CHARSET x", "XA START 'a'", "CREATE INDEX i ON t ((a + t.b))", "DROP INDEX `PRIMARY` ON t",
		"CREATE TABLE t (a.b.c INT DEFAULT NEXT VALUE FOR s, b JSON) START TRANSACTION",
	} {
		f.Add(text, uint8(0))
		f.Add(text, uint8(3))
	}
	for mode := 5; mode < len(fuzzModes); mode++ {
		f.Add("ALTER TABLE t COMMENT 'a\xbf', RENAME TO u, ADD `c\xbf\\` INT COMMENT 'b\xbf\\'", uint8(mode))
	}
}

// FuzzParse checks that Refs lie within the text and in order, and that a
// rewritten statement means the same tables whatever the default schema is.
func FuzzParse(f *testing.F) {
	addStatements(f)
	f.Add("ALTER TABLE A)EXCHANGE .\xbe0\xbe", uint8(8)) // half a character, and no quote behind it
	f.Fuzz(func(t *testing.T, text string, mode uint8) {
		m := fuzzModes[int(mode)%len(fuzzModes)]
		s := Parse(text, "d", m)
		at := 0
		for _, r := range s.Refs {
			require.True(t, at <= r.From && r.From <= r.To && r.To <= len(s.Text), "%+v", r)
			at = r.To
		}
		for range s.Pairs() {
		}
		same, err := s.Rewrite(func(r Ref) Table { return r.Table })
		if err != nil {
			return
		}
		again := Parse(same, "other", m)
		require.Equal(t, s.Kind, again.Kind, same)
		require.Equal(t, s.Tables, again.Tables, same)
		require.Equal(t, s.Settled, again.Settled, same)
		names := func(refs []Ref) (list []Table) {
			for _, r := range refs {
				if r.Role != Qualifier {
					list = append(list, r.Table)
				}
			}
			return list
		}
		require.Equal(t, names(s.Refs), names(again.Refs), same)
	})
}

// FuzzCatalogApply checks that a catalog survives any statement, and that what it
// holds is sound and durable.
func FuzzCatalogApply(f *testing.F) {
	addStatements(f)
	f.Fuzz(func(t *testing.T, text string, mode uint8) {
		c := &Catalog{Fold: mode&64 != 0}
		c.SetSchema("d", "latin1_swedish_ci")
		c.Set(&dfs.Table{Schema: "d", Name: "t", Key: []int{1}, Columns: []dfs.Column{
			{Name: "a", Type: "int"}, {Name: "b", Type: "bigint"}, {Name: "c", Type: "varchar(9)", Charset: "latin1", Collation: "latin1_swedish_ci"},
			{Name: "d", Type: "enum", Members: []string{"x"}},
		}}, "latin1_swedish_ci")
		before := c.Clone()
		bytes := before.Append(nil)
		for one := range strings.SplitSeq(text, ";") {
			s := Parse(one, "d", fuzzModes[int(mode&63)%len(fuzzModes)])
			c.Apply(&s, &dfs.Session{Vars: []dfs.Var{{Name: "sql_mode", Value: "''"}}})
		}
		require.Equal(t, bytes, before.Append(nil), "a copy changes with its original")
		for _, s := range c.schemas {
			for _, e := range s.tables {
				if e.table == nil {
					continue
				}
				require.NotEmpty(t, e.table.Columns)
				for i, col := range e.table.Columns {
					require.NotEmpty(t, col.Type)
					require.Equal(t, i, e.table.Column(col.Name))
				}
				for _, k := range e.table.Key {
					require.False(t, e.table.Columns[k].Nullable)
				}
			}
		}
		b := c.Append(nil)
		back, err := ParseCatalog(b)
		require.NoError(t, err)
		require.Equal(t, b, back.Append(nil))
	})
}

func FuzzParseCatalog(f *testing.F) {
	var c Catalog
	f.Add(c.Append(nil))
	c.Set(&dfs.Table{Schema: "d", Name: "t", Columns: []dfs.Column{{Name: "a", Type: "int"}}, Key: []int{0}}, "binary")
	c.drop(Table{"d", "u"})
	c.SetSchema("e", "latin1_bin")
	f.Add(c.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = slices.Clone(b)
		if len(b) >= 5 {
			if n, _ := s2.DecodedLen(b[5:]); n > 1<<20 {
				return // it takes too long
			}
			binary.LittleEndian.PutUint32(b[1:], crc32.Checksum(b[5:], castagnoli))
		}
		c, err := ParseCatalog(b)
		if err != nil {
			return
		}
		// It need not be what Append would have written, but it is stable.
		once := c.Append(nil)
		back, err := ParseCatalog(once)
		require.NoError(t, err)
		require.Equal(t, once, back.Append(nil))
	})
}

func BenchmarkParse(b *testing.B) {
	text := "ALTER TABLE `orders` ADD COLUMN `note` VARCHAR(255) CHARACTER SET utf8mb4 NOT NULL DEFAULT '' COMMENT 'by hand' AFTER `total`, ADD INDEX `by_note` (`note`(10)), ALGORITHM=INPLACE, LOCK=NONE"
	b.ReportAllocs()
	for b.Loop() {
		Parse(text, "shop", Mode{Version: 80400})
	}
}

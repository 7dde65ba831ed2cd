//go:build unix

package ddl

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/internal/testseed"
)

// A maker makes random statements about the tables r and s. Many of them fail on
// a server, since names are few.
type maker struct {
	*rand.Rand
	maria, old bool // MariaDB; MySQL 5.6
}

func pick[T any](m *maker, list ...T) T { return list[m.IntN(len(list))] }

// some returns s in one of three cases.
func (m *maker) some(s string) string {
	if m.IntN(3) == 0 {
		return s
	}
	return ""
}

func (m *maker) name() string { return pick(m, "a", "b", "c", "d", "e", "f", "g", "H", "`i j`", "k") }

func (m *maker) charset() string {
	return pick(m, "latin1", "utf8", "utf8mb4", "binary", "ascii", "gbk", "ucs2", "cp932")
}

func (m *maker) typ() string {
	n := m.IntN(300)
	charset := m.some(" CHARACTER SET " + m.charset())
	if charset == "" {
		charset = m.some(" COLLATE " + pick(m, "latin1_bin", "utf8mb4_unicode_ci", "utf8_bin", "binary"))
	}
	own := ""
	if m.old {
		// In ucs2 MySQL 5.6 gives two columns that have the same list wrong members: '' for 'x'.
		own = fmt.Sprint(m.IntN(1e9))
	}
	return pick(m,
		pick(m, "TINYINT", "SMALLINT", "MEDIUMINT", "INT", "BIGINT", "INTEGER", "INT(5)")+m.some(" UNSIGNED")+m.some(" ZEROFILL"),
		"BOOL", fmt.Sprintf("DECIMAL(%d,%d)", n%60+5, n%6), "NUMERIC", "FLOAT", fmt.Sprintf("FLOAT(%d)", n%53+1), "DOUBLE UNSIGNED", "REAL",
		fmt.Sprintf("BIT(%d)", n%64+1), "DATE", fmt.Sprintf("DATETIME(%d)", n%7), fmt.Sprintf("TIMESTAMP(%d)", n%7)+m.some(" NULL"), fmt.Sprintf("TIME(%d)", n%7), "YEAR",
		fmt.Sprintf("CHAR(%d)", n%256)+charset, fmt.Sprintf("VARCHAR(%d)", n)+charset, pick(m, "TINYTEXT", "MEDIUMTEXT", "LONGTEXT", "TEXT")+charset,
		fmt.Sprintf("TEXT(%d)", n*m.IntN(1000))+charset, fmt.Sprintf("BLOB(%d)", n*m.IntN(1000)), "NVARCHAR(7)", "CHAR(3) BINARY",
		fmt.Sprintf("VARBINARY(%d)", n), fmt.Sprintf("BINARY(%d)", n%256), "LONG", "LONG VARBINARY", "VARCHAR(9) BYTE", "VARCHAR(4) ASCII",
		"ENUM('x','y''z"+own+"')"+charset, "SET('x','y"+own+"')"+charset, "POINT", "GEOMETRYCOLLECTION", m.modern())
}

// modern returns a type that not all servers have.
func (m *maker) modern() string {
	switch {
	case m.maria:
		return pick(m, "JSON", "UUID", "INET6", "INET4")
	case m.old:
		return "INT"
	}
	return pick(m, "JSON", "VECTOR(4)", "POINT SRID 0")
}

func (m *maker) column() string {
	attributes := m.some(" NOT NULL") + m.some(" COMMENT 'a,b)''c'") + pick(m, "", "", "", "", "", " UNIQUE", " PRIMARY KEY", " KEY")
	if !m.old && m.IntN(8) == 0 {
		return " " + pick(m, "INT", "BIGINT") + " GENERATED ALWAYS AS (1 + (2)) " + pick(m, "VIRTUAL", "STORED") + m.some(" COMMENT 'x'")
	}
	if !m.old && m.IntN(8) == 0 {
		attributes = " INVISIBLE" + m.some(" DEFAULT NULL")
	}
	return " " + m.typ() + attributes
}

func (m *maker) place() string {
	return pick(m, "", "", "", " FIRST", " AFTER "+m.name())
}

func (m *maker) options() string {
	return pick(m, "", "", "", " CHARSET "+m.charset(), " DEFAULT CHARACTER SET="+m.charset(), " COLLATE = latin1_german1_ci",
		" ENGINE=InnoDB COMMENT='ADD z INT'")
}

func (m *maker) clause() string {
	maybe := func(s string) string {
		if m.maria {
			return m.some(s)
		}
		return ""
	}
	list := []string{
		"ADD" + m.some(" COLUMN") + maybe(" IF NOT EXISTS") + " " + m.name() + m.column() + m.place(),
		"ADD " + m.name() + m.column() + m.place(),
		"ADD (" + m.name() + m.column() + ", " + m.name() + m.column() + ")",
		"DROP" + m.some(" COLUMN") + maybe(" IF EXISTS") + " " + m.name(),
		"MODIFY " + m.name() + m.column() + m.place(),
		"MODIFY COLUMN" + maybe(" IF EXISTS") + " " + m.name() + m.column() + m.place(),
		"CHANGE " + m.name() + " " + m.name() + m.column() + m.place(),
		"ADD PRIMARY KEY (" + m.name() + m.some(", "+m.name()) + ")", "DROP PRIMARY KEY",
		"ADD INDEX (" + m.name() + ")", "ADD UNIQUE x (" + m.name() + ")", "DROP INDEX x",
		"ALTER " + m.name() + " DROP DEFAULT", "COMMENT 'DROP a'", "ENGINE=InnoDB", "FORCE",
		"CONVERT TO CHARACTER SET " + m.charset(), "ORDER BY " + m.name(), strings.TrimSpace("COMMENT=''" + m.options()),
	}
	if !m.old {
		list = append(list, "RENAME COLUMN "+m.name()+" TO "+m.name(), "RENAME COLUMN "+m.name()+" TO "+m.name())
	}
	return pick(m, list...)
}

func (m *maker) statement() string {
	table := pick(m, "r", "s")
	switch m.IntN(30) {
	case 0:
		return "DROP TABLE IF EXISTS " + table
	case 1:
		return "RENAME TABLE r TO s"
	case 2:
		return "ALTER TABLE s ADD z INT, RENAME TO r"
	case 3:
		return "CREATE TABLE " + m.some("IF NOT EXISTS ") + "r LIKE s"
	case 4, 5, 6, 7:
		var list []string
		for range m.IntN(6) + 1 {
			list = append(list, m.name()+m.column())
		}
		return "CREATE TABLE " + m.some("IF NOT EXISTS ") + table + " (" + strings.Join(list, ", ") + m.some(", PRIMARY KEY (a)") + ")" + m.options()
	}
	var list []string
	for range m.IntN(4) + 1 {
		list = append(list, m.clause())
	}
	return "ALTER TABLE " + table + " " + strings.Join(list, ", ")
}

// TestRandomStatements compares the catalog with the server after random
// statements. DFS_DDL_FOR says for how long on each server, and DFS_SEED with
// which seed; the default is 200 statements that succeed.
func TestRandomStatements(t *testing.T) {
	seed := testseed.New(t)
	long, err := time.ParseDuration("0" + os.Getenv("DFS_DDL_FOR"))
	require.NoError(t, err)
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			m := &maker{rand.New(rand.NewPCG(seed, 0)), kind == testenv.MariaDB, kind == testenv.MySQL56}
			o := newOracle(t, kind)
			end := time.Now().Add(long)
			var history []string
			tried, ran, forgotten := 0, 0, 0
			for (long > 0 && time.Now().Before(end) || long == 0 && ran < 200) && !t.Failed() {
				if tried++; m.IntN(40) == 0 {
					mode := pick(m, "''", "'REAL_AS_FLOAT'", "DEFAULT", "DEFAULT", "DEFAULT")
					_, err := o.conn.ExecContext(t.Context(), "SET sql_mode="+mode)
					require.NoError(t, err)
					o.newSession()
				}
				text := m.statement()
				vague := make(map[string]bool) // tables whose default collation is not known
				for _, name := range []string{"r", "s"} {
					e, known := o.catalog.entry(Table{o.schema, name})
					vague[name] = known && e.table != nil && e.collation == ""
				}
				unknown, err := o.run(text)
				if err != nil {
					continue
				}
				ran++
				history = append(history, text)
				if t.Failed() {
					t.Log(strings.Join(history[max(0, len(history)-30):], "\n"))
				}
				if len(unknown) == 0 {
					continue
				}
				// What is forgotten must have a reason that is known.
				forgotten++
				changed := strings.Contains(text, "MODIFY") || strings.Contains(text, "CHANGE")
				known := changed && strings.Contains(text, "ADD") || strings.Contains(text, "IF EXISTS") || vague[strings.TrimPrefix(text, "ALTER TABLE ")[:1]] || strings.Contains(text, "CONVERT TO") || strings.Contains(text, " LIKE ") || strings.Contains(text, "IF NOT EXISTS") ||
					strings.Count(text, "CHARSET")+strings.Count(text, "CHARACTER SET")+strings.Count(text, "COLLATE") > 1
				require.True(t, known, "forgotten after %s", text)
				for _, name := range unknown {
					_, err := o.conn.ExecContext(t.Context(), "DROP TABLE "+name)
					require.NoError(t, err)
					delete(o.unknown, name)
					o.catalog.drop(Table{o.schema, name})
				}
			}
			t.Logf("%d statements succeeded of %d, %d made the catalog forget", ran, tried, forgotten)
		})
	}
}

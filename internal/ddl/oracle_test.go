//go:build unix

package ddl

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	_ "github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// An oracle runs statements on a server and knows what tables look like there.
type oracle struct {
	t       *testing.T
	conn    *sql.Conn
	schema  string
	mode    Mode
	session *dfs.Session
	catalog Catalog
	unknown map[string]bool // tables that have been reported
}

func newOracle(t *testing.T, kind testenv.Kind) *oracle {
	s := testenv.Shared(t, kind)
	o := &oracle{t: t, schema: s.Schema(t), unknown: make(map[string]bool)}
	db, err := sql.Open("mysql", s.DSN(o.schema)+"?interpolateParams=true")
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	o.conn, err = db.Conn(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { o.conn.Close() })
	o.mode = Mode{MariaDB: kind == testenv.MariaDB}
	var n [3]int
	_, err = fmt.Sscanf(o.value("SELECT VERSION()"), "%d.%d.%d", &n[0], &n[1], &n[2])
	require.NoError(t, err)
	o.mode.Version = n[0]*10000 + n[1]*100 + n[2]
	o.newSession()
	o.catalog.SetSchema(o.schema, o.value("SELECT @@collation_database"))
	return o
}

// newSession takes the variables of the session as the log would have them.
func (o *oracle) newSession() {
	o.session = &dfs.Session{Schema: o.schema}
	for _, name := range []string{"sql_mode", "explicit_defaults_for_timestamp", "default_collation_for_utf8mb4", "collation_server"} {
		if v := o.value("SHOW VARIABLES LIKE '" + name + "'"); v != "" {
			v = strings.NewReplacer("ON", "1", "OFF", "0").Replace(v)
			if name == "sql_mode" {
				v = o.value("SELECT @@sql_mode")
				o.mode.ANSIQuotes = strings.Contains(v, "ANSI_QUOTES")
				o.mode.NoBackslashEscapes = strings.Contains(v, "NO_BACKSLASH_ESCAPES")
			}
			o.session.Vars = append(o.session.Vars, dfs.Var{Name: name, Value: "'" + v + "'"})
		}
	}
}

// value returns the last column of the first row, or nothing.
func (o *oracle) value(q string) (v string) {
	rows := o.rows(q)
	if len(rows) == 0 {
		return ""
	}
	return rows[0][len(rows[0])-1]
}

func (o *oracle) rows(q string, args ...any) (list [][]string) {
	rows, err := o.conn.QueryContext(o.t.Context(), q, args...)
	require.NoError(o.t, err, q)
	defer rows.Close()
	names, err := rows.Columns()
	require.NoError(o.t, err)
	for rows.Next() {
		row, to := make([]sql.NullString, len(names)), make([]any, len(names))
		for i := range row {
			to[i] = &row[i]
		}
		require.NoError(o.t, rows.Scan(to...))
		text := make([]string, len(row))
		for i := range row {
			text[i] = row[i].String
		}
		list = append(list, text)
	}
	require.NoError(o.t, rows.Err())
	return list
}

// tables returns all tables of the schema as the server has them, as text.
func (o *oracle) tables() map[string]string {
	found := make(map[string]*dfs.Table)
	for _, r := range o.rows(`SELECT c.table_name, column_name, column_type, data_type, is_nullable,
		character_set_name, collation_name FROM information_schema.columns c JOIN information_schema.tables t
		ON t.table_schema = c.table_schema AND t.table_name = c.table_name AND t.table_type IN ('BASE TABLE', 'SYSTEM VERSIONED')
		WHERE c.table_schema = ? ORDER BY c.table_name, ordinal_position`, o.schema) {
		t := found[r[0]]
		if t == nil {
			t = &dfs.Table{Schema: o.schema, Name: r[0]}
			found[r[0]] = t
		}
		c := dfs.Column{Name: r[1], Type: serverType(r[2]), Nullable: r[4] == "YES", Charset: r[5], Collation: r[6]}
		if r[3] == "enum" || r[3] == "set" {
			list := strings.TrimSuffix(strings.TrimPrefix(r[2], r[3]+"('"), "')")
			c.Type, c.Members, c.Charset, c.Collation = r[3], strings.Split(strings.ReplaceAll(list, "','", "\x00"), "\x00"), "", ""
			for i, m := range c.Members {
				c.Members[i] = strings.NewReplacer("''", "'", `\\`, `\`).Replace(m)
			}
		}
		t.Columns = append(t.Columns, c)
	}
	for _, r := range o.rows(`SELECT table_name, column_name FROM information_schema.statistics
		WHERE table_schema = ? AND index_name = 'PRIMARY' ORDER BY seq_in_index`, o.schema) {
		t := found[r[0]]
		t.Key = append(t.Key, t.Column(r[1]))
	}
	all := make(map[string]string, len(found))
	for name, t := range found {
		all[name] = tableText(t)
	}
	return all
}

// serverType cuts off attributes and the width of integers.
func serverType(s string) string {
	s, _, _ = strings.Cut(s, " /*")
	s = strings.ReplaceAll(s, " zerofill", "")
	for _, name := range []string{"tinyint", "smallint", "mediumint", "int", "bigint", "year"} {
		if rest, ok := strings.CutPrefix(s, name+"("); ok {
			_, rest, _ = strings.Cut(rest, ")")
			return name + rest
		}
	}
	return s
}

func tableText(t *dfs.Table) string {
	var b strings.Builder
	for i, c := range t.Columns {
		fmt.Fprintf(&b, "%q %s %s %s %q null=%v key=%d\n", c.Name, c.Type, c.Charset, c.Collation, c.Members, c.Nullable, slices.Index(t.Key, i))
	}
	return b.String()
}

// run runs a statement, applies it to the catalog and compares the two. It
// returns the names of the tables that the catalog does not know.
func (o *oracle) run(text string) (unknown []string, err error) {
	if _, err := o.conn.ExecContext(o.t.Context(), text); err != nil {
		return nil, err
	}
	s := Parse(text, o.schema, o.mode)
	o.catalog.Apply(&s, o.session)
	return o.compare(text), nil
}

func (o *oracle) compare(text string) (unknown []string) {
	server := o.tables()
	for name := range o.unknown {
		if server[name] == "" {
			delete(o.unknown, name)
		}
	}
	for name, want := range server {
		t, known := o.catalog.Table(o.schema, name)
		switch {
		case !known:
			if !o.unknown[name] {
				unknown = append(unknown, name)
			}
			o.unknown[name] = true
		case t == nil:
			o.t.Errorf("the catalog has no table %s after %s", name, text)
		case want != tableText(t):
			o.t.Errorf("table %s after %s\nserver:\n%scatalog:\n%s", name, text, want, tableText(t))
			o.catalog.Forget(o.schema, name)
			o.unknown[name] = true
		}
	}
	if in := o.catalog.schemas[o.schema]; in != nil {
		for _, e := range in.tables {
			if e.table != nil {
				require.Contains(o.t, server, e.table.Name, text)
			}
		}
	}
	// What is durable is the same.
	b := o.catalog.Append(nil)
	back, err := ParseCatalog(b)
	require.NoError(o.t, err)
	require.Equal(o.t, b, back.Append(nil))
	return unknown
}

// TestCatalogEqualsServer runs the statements of testdata/catalog.sql, one a line.
// In front of a line may stand the servers that it is for: 5.6, 9.7, maria. A line
// that begins with "?" makes the catalog forget the table t, and is followed by
// another that drops it.
func TestCatalogEqualsServer(t *testing.T) {
	script, err := os.ReadFile(filepath.Join("testdata", "catalog.sql"))
	require.NoError(t, err)
	short := map[testenv.Kind]string{testenv.MySQL56: "5.6", testenv.MySQL97: "9.7", testenv.MariaDB: "maria"}
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			o := newOracle(t, kind)
			ran := 0
			for i, line := range strings.Split(string(script), "\n") {
				line = strings.TrimSpace(line)
				if servers, rest, ok := strings.Cut(line, ": "); ok && !strings.Contains(servers, " ") || strings.HasPrefix(line, "5.6,") {
					if !slices.Contains(strings.Split(servers, ","), short[kind]) {
						continue
					}
					line = rest
				}
				line, forgets := strings.CutPrefix(line, "?")
				if line == "" || strings.HasPrefix(line, "--") {
					continue
				}
				if strings.HasPrefix(line, "SET ") {
					_, err := o.conn.ExecContext(t.Context(), line)
					require.NoError(t, err, line)
					o.newSession()
					continue
				}
				unknown, err := o.run(strings.ReplaceAll(line, `\n`, "\n"))
				if err != nil {
					t.Errorf("line %d: %s: %v", i+1, line, err)
				} else if forgets != (len(unknown) > 0) {
					t.Errorf("line %d: %s: not known are %v", i+1, line, unknown)
				}
				ran++
			}
			t.Logf("%d statements", ran)
		})
	}
}

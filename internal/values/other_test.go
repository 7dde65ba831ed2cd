package values_test

import (
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"math"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/sink"
)

// An otherTarget is PostgreSQL or SQLite, as this test needs it.
type otherTarget struct {
	name  string
	sink  func(schema string, ddl sink.Policy) otherSink
	query func(schema, q string) [][]string // NULL as "NULL"
	rows  func(schema string) *sink.RowMender
	col   func(class string) string // an expression over c
}

type otherSink interface {
	dfs.Sink
	CreateTables(ctx context.Context, tables []sink.Definition, later bool) (made, notes []string, err error)
	Close() error
}

func otherTargets(t *testing.T) []otherTarget {
	pg := testenv.SharedPostgres(t)
	path := filepath.Join(t.TempDir(), "values.db")
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)")
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	return []otherTarget{{
		name: "postgres",
		sink: func(schema string, ddl sink.Policy) otherSink {
			p, err := sink.OpenPostgres(t.Context(), pg.DSN(), &sink.PostgresOptions{Name: schema, Schema: schema + "_dfs", DDL: ddl,
				Unfit: sink.Unfit{ZeroDates: sink.UnfitInfinity, NULs: sink.UnfitReplace}})
			require.NoError(t, err)
			return p
		},
		rows: func(schema string) *sink.RowMender {
			r, err := sink.MendPostgres(t.Context(), pg.DSN(), &sink.PostgresOptions{Name: schema, Schema: schema + "_dfs",
				Unfit: sink.Unfit{ZeroDates: sink.UnfitInfinity, NULs: sink.UnfitReplace}})
			require.NoError(t, err)
			return r
		},
		query: func(schema, q string) [][]string {
			return pg.Query(t, "SET TimeZone='GMT'; SET search_path="+schema+"; "+q)
		},
		col: func(class string) string {
			switch class {
			case "text":
				return "encode(convert_to(c,'UTF8'),'hex')"
			case "bytes":
				return "encode(c,'hex')"
			case "double":
				return "c::float8::text"
			}
			return "c::text"
		},
	}, {
		name: "sqlite",
		sink: func(schema string, ddl sink.Policy) otherSink {
			s, err := sink.OpenSQLite(t.Context(), path, &sink.SQLiteOptions{Name: schema, DDL: ddl})
			require.NoError(t, err)
			return s
		},
		rows: func(schema string) *sink.RowMender {
			r, err := sink.MendSQLite(t.Context(), path, &sink.SQLiteOptions{Name: schema})
			require.NoError(t, err)
			return r
		},
		query: func(_, q string) (out [][]string) {
			rows, err := db.Query(q)
			require.NoError(t, err, q)
			defer rows.Close()
			names, err := rows.Columns()
			require.NoError(t, err)
			for rows.Next() {
				cells, into := make([]sql.NullString, len(names)), make([]any, len(names))
				for i := range cells {
					into[i] = &cells[i]
				}
				require.NoError(t, rows.Scan(into...))
				row := make([]string, len(names))
				for i, c := range cells {
					if row[i] = c.String; !c.Valid {
						row[i] = "NULL"
					}
				}
				out = append(out, row)
			}
			require.NoError(t, rows.Err())
			return out
		},
		col: func(class string) string {
			switch class {
			case "text", "bytes", "json", "uuid", "inet4", "inet6":
				return "CASE WHEN c IS NOT NULL THEN hex(CAST(c AS BLOB)) END"
			case "double":
				return "c" // for the driver to print
			}
			return "CAST(c AS TEXT)"
		},
	}}
}

// classOf says how values of a type are compared.
func classOf(typ string) string {
	name, _, _ := strings.Cut(strings.TrimSpace(typ), "(")
	name, _, _ = strings.Cut(name, " ")
	switch name {
	case "float", "double":
		return "double"
	case "char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set":
		return "text"
	case "binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob", "vector",
		"geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon", "geometrycollection":
		return "bytes"
	case "date", "datetime", "timestamp", "time", "bit", "json", "uuid", "inet4", "inet6":
		return name
	}
	return "number"
}

func sourceColumn(class string) string {
	switch class {
	case "double":
		return "c*1e0" // with all its digits by the binary protocol
	case "number", "bit":
		return "c+0"
	case "text":
		return "HEX(CONVERT(CONCAT(c) USING utf8mb4))"
	case "bytes":
		return "HEX(c)"
	}
	return "CAST(c AS CHAR)"
}

// asOn returns what the text of a source's value must be on a target, and the
// target's in the same form: as docs/TYPES.md says.
func asOn(target, class, want, have string) (string, string) {
	if want == "NULL" || have == "NULL" {
		return want, have
	}
	trim := func(s string) string {
		if strings.Contains(s, ".") {
			s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
		}
		return s
	}
	switch class {
	case "double":
		a, err1 := strconv.ParseFloat(want, 64)
		b, err2 := strconv.ParseFloat(have, 64)
		if target == "sqlite" {
			a, b = a+0, b+0 // it has no -0
		}
		return fmt.Sprint(math.Float64bits(a), err1), fmt.Sprint(math.Float64bits(b), err2)
	case "number":
		return trim(want), trim(have)
	case "text":
		if target == "postgres" {
			raw, _ := hex.DecodeString(want)
			want = hex.EncodeToString([]byte(strings.ReplaceAll(string(raw), "\x00", "\uFFFD")))
		}
		return strings.ToLower(want), strings.ToLower(have)
	case "bytes":
		return strings.ToLower(want), strings.ToLower(have)
	case "bit":
		if target == "postgres" {
			n, err := strconv.ParseUint(have, 2, 64)
			have = fmt.Sprint(n)
			if err != nil {
				have = err.Error()
			}
		}
	case "json":
		if strings.Contains(want, "base64:type") {
			want = strings.ReplaceAll(want, `\n`, "") // as MySQL breaks lines when it prints
		}
		if target == "sqlite" {
			raw, _ := hex.DecodeString(have)
			have = string(raw)
		}
	case "uuid", "inet6", "inet4":
		if target == "sqlite" {
			raw, _ := hex.DecodeString(have)
			have = fmt.Sprintf("%x", raw)
			if class == "uuid" {
				return strings.ReplaceAll(want, "-", ""), have
			}
			a, err := netip.ParseAddr(want)
			if err != nil {
				return want, have
			}
			return fmt.Sprintf("%x", a.AsSlice()), have
		}
		// The same address has several texts.
		a, err1 := netip.ParseAddr(want)
		b, err2 := netip.ParseAddr(strings.TrimSuffix(strings.TrimSuffix(have, "/128"), "/32"))
		if err1 == nil && err2 == nil {
			return a.String(), b.String()
		}
	case "date", "datetime", "timestamp", "time":
		if target == "sqlite" {
			break
		}
		want, have = trim(want), trim(strings.TrimSuffix(have, "+00"))
		if class != "time" {
			_, err := time.Parse("2006-01-02", want[:10])
			switch {
			case strings.HasPrefix(want, "0000-") && err == nil:
				want = "0001" + want[4:] + " BC"
			case err != nil:
				want = "-infinity"
			}
		}
	}
	return want, have
}

// Each value of each type arrives on PostgreSQL and in SQLite as docs/TYPES.md says,
// in a table with a key, in one without, and where it can be one, as a key.
func TestEachTypeArrivesOnOtherDatabases(t *testing.T) {
	for _, kind := range []testenv.Kind{my97, maria} {
		src := testenv.Shared(t, kind)
		for _, target := range otherTargets(t) {
			t.Run(string(kind)+" to "+target.name, func(t *testing.T) {
				schema := src.Schema(t)
				from := conn(t, src)
				exec := func(q string) {
					t.Helper()
					_, err := from.ExecContext(t.Context(), q)
					require.NoError(t, err, "%.300s", q)
				}
				exec("USE " + schema)
				exec("SET NAMES utf8mb4")
				exec("SET time_zone='+00:00'")
				var list []typed
				for _, c := range typedColumns() {
					if c.has(kind) {
						if strings.Contains(c.typ, ",'',") {
							c.noKey = true // this member, and what is none, print alike
						}
						switch class := classOf(c.typ); {
						case target.name == "postgres" && (class == "date" || class == "datetime" || class == "timestamp"):
							c.noKey = true // several become -infinity
						}
						list = append(list, c)
					}
				}
				// In a file all tables are in one place.
				prefix := strings.NewReplacer("-", "_", ".", "_").Replace(string(kind)) + "_"
				exec("CREATE TABLE zz_" + prefix + "end (id int PRIMARY KEY)")
				var tables []string
				for i, c := range list {
					tables = append(tables, fmt.Sprintf("CREATE TABLE %sr%d (id int PRIMARY KEY, c %s, n int)", prefix, i, c.typ))
					tables = append(tables, fmt.Sprintf("CREATE TABLE %sn%d (id int, c %s, n int)", prefix, i, c.typ))
					if !c.noKey && c.prefix == "" {
						tables = append(tables, fmt.Sprintf("CREATE TABLE %sk%d (id int, c %s, n int, PRIMARY KEY (c))", prefix, i, strings.TrimSuffix(strings.TrimSuffix(c.typ, " NULL"), " NOT")+" NOT NULL"))
					}
				}
				create(t, src, []string{"USE " + schema, "SET NAMES utf8mb4", "SET time_zone='+00:00'", "SET sql_mode='" + odd + "'"}, tables)
				require.False(t, t.Failed())
				s, err := cdc.Open(t.Context(), src.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}})
				require.NoError(t, err)
				defer s.Close()
				k := target.sink(schema, "")
				defer k.Close()
				defs, err := s.Definitions(t.Context())
				require.NoError(t, err)
				var want []sink.Definition
				for _, d := range defs {
					want = append(want, sink.Definition(d))
				}
				_, _, err = k.CreateTables(t.Context(), want, false)
				require.NoError(t, err)
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				// The place where the log is read from is fixed by a first transaction.
				done := make(chan error, 1)
				line := &dfs.Pipeline{Source: s, Sink: k}
				go func() { done <- line.Run(ctx) }()
				require.Eventually(t, func() bool { return line.Stats().Apply.At.Seq > 0 || len(done) > 0 }, time.Minute, time.Millisecond)
				for i, c := range list {
					var s script
					s.add("SET sql_mode='%s'", c.mode)
					for j, v := range c.values {
						s.add("INSERT INTO %sr%d VALUES (%d,%s,0)", prefix, i, j, v)
						s.add("INSERT INTO %sn%d VALUES (%d,%s,0)", prefix, i, j, v)
						if !c.noKey && c.prefix == "" {
							s.add("INSERT IGNORE INTO %sk%d VALUES (%d,%s,0)", prefix, i, j, v)
						}
					}
					if !strings.Contains(c.typ, "NOT NULL") {
						s.add("INSERT INTO %sr%d VALUES (1000,NULL,0)", prefix, i)
						s.add("INSERT INTO %sn%d VALUES (1000,NULL,0)", prefix, i)
					}
					// New values, by a group and one by one; then what is found by old ones.
					s.add("INSERT INTO %[1]sr%[2]d SELECT id+2000, c, 1 FROM %[1]sn%[2]d", prefix, i)
					s.add("UPDATE %[1]sr%[2]d SET c=%[3]s, n=2 WHERE id>=3000 OR id=2000", prefix, i, c.values[len(c.values)-1])
					s.add("UPDATE %sn%d SET n=n+1, id=id+5000", prefix, i)
					s.add("DELETE FROM %sn%d WHERE id=5001", prefix, i)
					if !c.noKey && c.prefix == "" && c.typ != "bool" {
						s.add("UPDATE %sk%d SET n=n+1", prefix, i)
						s.add("DELETE FROM %sk%d WHERE id=1", prefix, i)
					}
					exec(strings.Join(s, ";\n"))
				}
				exec("INSERT INTO zz_" + prefix + "end VALUES (1)")
				end := "zz_" + prefix + "end"
				require.Eventually(t, func() bool { return len(done) > 0 || len(target.query(schema, "SELECT 1 FROM "+end)) == 1 }, 2*time.Minute, 20*time.Millisecond)
				compared := 0
				for i, c := range list {
					class := classOf(c.typ)
					tables := []string{"r", "n"}
					if !c.noKey && c.prefix == "" {
						tables = append(tables, "k")
					}
					for _, table := range tables {
						name := fmt.Sprintf("%s%s%d", prefix, table, i)
						rows, err := from.QueryContext(t.Context(), "SELECT id, "+sourceColumn(class)+", n FROM "+name+" WHERE 1=? ORDER BY id", 1)
						require.NoError(t, err)
						var source [][]string
						for rows.Next() {
							var r [3]sql.NullString
							require.NoError(t, rows.Scan(&r[0], &r[1], &r[2]))
							if !r[1].Valid {
								r[1].String = "NULL"
							}
							source = append(source, []string{r[0].String, r[1].String, r[2].String})
						}
						require.NoError(t, rows.Err())
						have := target.query(schema, "SELECT id, "+target.col(class)+", n FROM "+name+" ORDER BY id")
						if len(source) != len(have) {
							t.Errorf("%s (%s): %d rows of %d arrived", name, c.typ, len(have), len(source))
							continue
						}
						for j := range source {
							w, h := asOn(target.name, class, source[j][1], have[j][1])
							if w != h || source[j][0] != have[j][0] || source[j][2] != have[j][2] {
								t.Errorf("%s (%s): the source has %.200q, and the target %.200q", name, c.typ, source[j], have[j])
							}
							compared++
						}
					}
				}
				t.Logf("%d values compared", compared)
				require.Greater(t, compared, 1000)
				verifyOther(t, src, target, schema, prefix, list)
				stop()
				require.NoError(t, <-done)
			})
		}
	}
}

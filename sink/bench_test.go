package sink

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/stretchr/testify/require"
)

// benchTable has ten columns and a secondary index, as the table that the
// figures in docs/DESIGN.md are about.
const benchTable = "CREATE TABLE %s.t (id bigint unsigned NOT NULL PRIMARY KEY, uid bigint NOT NULL, name varchar(60) NOT NULL, " +
	"mail varchar(80), n int NOT NULL, price decimal(10,2), f double, d datetime(3), s tinyint, note varchar(200), KEY (uid)) " +
	"CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci"

func benchSource(schema string) *dfs.Table {
	text := func(name, typ string) dfs.Column {
		return dfs.Column{Name: name, Type: typ, Charset: "utf8mb4", Collation: "utf8mb4_0900_ai_ci"}
	}
	return &dfs.Table{Schema: schema, Name: "t", Key: []int{0}, Columns: []dfs.Column{
		{Name: "id", Type: "bigint unsigned"}, {Name: "uid", Type: "bigint"}, text("name", "varchar(60)"),
		text("mail", "varchar(80)"), {Name: "n", Type: "int"}, {Name: "price", Type: "decimal(10,2)"},
		{Name: "f", Type: "double"}, {Name: "d", Type: "datetime(3)"}, {Name: "s", Type: "tinyint"}, text("note", "varchar(200)"),
	}}
}

func benchRow(id, k int) dfs.Row {
	return dfs.Row{
		dfs.UintValue(uint64(id)), dfs.IntValue(int64(id % 1000)), dfs.StringValue(fmt.Sprintf("name of %d", id)),
		dfs.StringValue(fmt.Sprintf("mail%d@example.com", id)), dfs.IntValue(int64(id + k)),
		dfs.DecimalValue(fmt.Sprintf("%d.25", id%10000)), dfs.FloatValue(float64(id) + 0.5),
		dfs.DateTimeValue(2026, 11, 22, 10, 11, 12, id%1000*1000, 3), dfs.IntValue(int64(id % 100)),
		dfs.StringValue(fmt.Sprintf("some note that is of medium length %d", k)),
	}
}

// benchLog makes n single-row transactions from seq on, of which about 60 in
// 100 are inserts, 30 updates of two columns and 10 deletes.
type benchLog struct {
	t    *dfs.Table
	rng  *rand.Rand
	live []dfs.Row
	next int
	seq  uint64
}

func (l *benchLog) take(n int) []*dfs.Transaction {
	out := make([]*dfs.Transaction, n)
	for i := range out {
		var c dfs.Change
		switch p := l.rng.IntN(100); {
		case p < 60 || len(l.live) < 100:
			row := benchRow(l.next, 0)
			l.next++
			l.live = append(l.live, row)
			c = ins(l.t, row)
		case p < 90:
			k := l.rng.IntN(len(l.live))
			after := append(dfs.Row(nil), l.live[k]...)
			after[4] = dfs.IntValue(after[4].Int() + 1)
			after[9] = dfs.StringValue(fmt.Sprintf("noted again at %d", l.seq))
			c = upd(l.t, l.live[k], after)
			l.live[k] = after
		default:
			k, last := l.rng.IntN(len(l.live)), len(l.live)-1
			c = del(l.t, l.live[k])
			l.live[k] = l.live[last]
			l.live = l.live[:last]
		}
		l.seq++
		out[i] = txn(l.seq, c)
		out[i].Committed = time.Unix(1.8e9, 0)
	}
	return out
}

// BenchmarkMerge merges runs of 2000 single-row transactions and writes their
// SQL, without a server.
func BenchmarkMerge(b *testing.B) {
	src := benchSource("b")
	log := &benchLog{t: src, rng: rand.New(rand.NewPCG(1, 2))}
	list := items(log.take(2000))
	for _, write := range []bool{false, true} {
		b.Run(map[bool]string{false: "groups", true: "groups and SQL"}[write], func(b *testing.B) {
			// A table keeps what its last run was, so each merger has its own.
			to := &table{schema: "b", name: "t", key: "b.t", primary: []int{0}, run: new(tableRun)}
			for _, c := range src.Columns {
				to.columns = append(to.columns, targetColumn{name: c.Name, typ: c.Type, charset: c.Charset, collation: c.Collation})
			}
			mp, err := newMapping(src, to)
			require.NoError(b, err)
			g := newMerger()
			w := &writer{maxRows: 1000, maxBytes: 1 << 20, srv: server{valuesRow: true, rowInRanges: true, maxPacket: 64 << 20, sqlOnly: "it is measured"}}
			w.send = func([]byte, []int64) error { return nil }
			b.ReportAllocs()
			for b.Loop() {
				g.reset()
				for i := range list {
					if err := g.add(list[i].c, mp); err != nil {
						b.Fatal(err)
					}
				}
				if write {
					w.reset()
					for i := range g.groups {
						if err := w.group(&g.groups[i]); err != nil {
							b.Fatal(err)
						}
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(list)), "ns/row")
		})
	}
}

// BenchmarkApply applies a log of single-row transactions in batches, at full
// durability, as a pipeline does that has a backlog; and one at a time, for the
// latency.
func BenchmarkApply(b *testing.B) {
	for _, kind := range testenv.Kinds() {
		for _, size := range []int{1, 100, 2000} {
			for _, sqlOnly := range []bool{false, true} {
				if sqlOnly && kind != testenv.MySQL97 {
					continue
				}
				b.Run(fmt.Sprintf("%s/%d/sqlonly=%v", kind, size, sqlOnly), func(b *testing.B) {
					srv := testenv.Start(b, kind, "--innodb-flush-log-at-trx-commit=1", "--sync-binlog=1", "--innodb-buffer-pool-size=256M")
					schema := srv.Schema(b)
					srv.Exec(b, fmt.Sprintf(legacy(kind, benchTable), schema))
					m := openSink(b, srv, &MySQLOptions{Name: schema, SQLOnly: sqlOnly})
					log := &benchLog{t: benchSource(schema), rng: rand.New(rand.NewPCG(1, 2))}
					b.ResetTimer()
					for b.Loop() {
						b.StopTimer()
						batch := log.take(size)
						b.StartTimer()
						require.NoError(b, m.Apply(b.Context(), batch))
					}
					b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "rows/s")
					b.ReportMetric(float64(m.Stats().Fallbacks), "fallbacks")
				})
			}
		}
	}
}

// BenchmarkApplyElsewhere is BenchmarkApply for PostgreSQL and SQLite, at full
// durability.
func BenchmarkApplyElsewhere(b *testing.B) {
	for _, size := range []int{1, 100, 2000} {
		run := func(b *testing.B, k dfs.Sink) {
			_, err := k.Checkpoint(b.Context())
			require.NoError(b, err)
			log := &benchLog{t: benchSource("source"), rng: rand.New(rand.NewPCG(1, 2))}
			b.ResetTimer()
			for b.Loop() {
				b.StopTimer()
				batch := log.take(size)
				b.StartTimer()
				require.NoError(b, k.Apply(b.Context(), batch))
			}
			b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "rows/s")
		}
		definition := []Definition{{Table: benchSource("source")}}
		b.Run(fmt.Sprintf("postgres/%d", size), func(b *testing.B) {
			srv := testenv.StartPostgres(b, "-c", "fsync=on", "-c", "shared_buffers=256MB")
			p, err := OpenPostgres(b.Context(), srv.DSN(), nil)
			require.NoError(b, err)
			defer p.Close()
			_, _, err = p.CreateTables(b.Context(), definition, false)
			require.NoError(b, err)
			srv.Exec(b, "CREATE INDEX ON source.t (uid)")
			run(b, p)
			b.ReportMetric(float64(p.Stats().Fallbacks), "fallbacks")
		})
		b.Run(fmt.Sprintf("sqlite/%d", size), func(b *testing.B) {
			s, err := OpenSQLite(b.Context(), filepath.Join(b.TempDir(), "target.db"), nil)
			require.NoError(b, err)
			defer s.Close()
			_, _, err = s.CreateTables(b.Context(), definition, false)
			require.NoError(b, err)
			_, err = s.lite.conn.ExecContext(b.Context(), "CREATE INDEX t_uid ON t (uid)")
			require.NoError(b, err)
			run(b, s)
		})
	}
}

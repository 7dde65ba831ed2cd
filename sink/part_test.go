package sink

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/internal/testseed"
	"github.com/stretchr/testify/require"
)

// partTable is one of the tables that make up the wide rows.
func partTable(schema string, columns ...string) *dfs.Table {
	t := &dfs.Table{Schema: schema, Name: "wide", Key: []int{0}, Columns: []dfs.Column{{Name: "id", Type: "int"}}}
	for _, c := range columns {
		t.Columns = append(t.Columns, dfs.Column{Name: c, Type: "int", Nullable: true})
	}
	return t
}

// Whatever the order in which the parts of rows come, change and go, and also
// their keys, the target is what a full outer join of the parts would be.
func TestPartsOfRowsMakeUpAnOuterJoin(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		for _, unique := range []string{"", ", UNIQUE (d)"} { // with it, parts go one by one
			t.Run(string(kind)+unique, func(t *testing.T) {
				srv := testenv.Shared(t, kind)
				s := srv.Schema(t)
				srv.Exec(t, "CREATE TABLE "+s+".wide (id int PRIMARY KEY, a int, b int, c int, d int"+unique+")")
				m := openSink(t, srv, &MySQLOptions{Name: s})
				seed := testseed.New(t)
				rng := rand.New(rand.NewPCG(seed, 0))
				tables := []*dfs.Table{partTable(s, "a", "b"), partTable(s, "c"), partTable(s, "d")}
				parts := make([]map[int64]dfs.Row, len(tables))
				for i := range parts {
					parts[i] = make(map[int64]dfs.Row)
				}
				const ids = 30
				next := int64(0)
				random := func(part int, id int64) dfs.Row {
					r := dfs.Row{dfs.IntValue(id)}
					for range tables[part].Columns[1:] {
						next++
						r = append(r, dfs.IntValue(next))
					}
					return r
				}
				change := func() dfs.Change {
					i, id := rng.IntN(len(tables)), rng.Int64N(ids)
					before, there := parts[i][id]
					c := dfs.Change{Table: tables[i], Part: true, Before: before}
					switch to := rng.Int64N(ids); {
					case !there:
						c.Op, c.After = dfs.Insert, random(i, id)
					case rng.IntN(4) == 0:
						c.Op = dfs.Delete
					case rng.IntN(5) == 0 && parts[i][to] == nil:
						c.Op, c.After = dfs.Update, random(i, to)
					default:
						c.Op, c.After = dfs.Update, random(i, id)
					}
					delete(parts[i], id)
					if c.After != nil {
						parts[i][c.After[0].Int()] = c.After
					}
					return c
				}
				seq := uint64(0)
				for range 30 {
					var batch []*dfs.Transaction
					for range 1 + rng.IntN(20) {
						seq++
						var changes []dfs.Change
						for range 1 + rng.IntN(5) {
							changes = append(changes, change())
						}
						batch = append(batch, txn(seq, changes...))
					}
					require.NoError(t, m.Apply(t.Context(), batch))
				}
				var want []string
				for id := range int64(ids) {
					line, some := fmt.Sprint(id), false
					for i := range tables {
						r := parts[i][id]
						some = some || r != nil
						for k := range tables[i].Columns[1:] {
							if r == nil {
								line += "|NULL"
							} else {
								line += "|" + r[k+1].String()
							}
						}
					}
					if some {
						want = append(want, line)
					}
				}
				require.Equal(t, want, rows(t, srv, "SELECT * FROM "+s+".wide ORDER BY id"))
				require.Zero(t, m.Stats().Fallbacks, "parts are applied as they are merged")
			})
		}
	}
}

func TestPartDoesNotWriteOverTheRowThatIsInItsWay(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+s+".wide (id int PRIMARY KEY, a int UNIQUE, b int)", "INSERT INTO "+s+".wide VALUES (1,10,1)")
	m := openSink(t, srv, &MySQLOptions{Name: s})
	put := dfs.Change{Op: dfs.Insert, Part: true, Table: partTable(s, "a"), After: dfs.Row{dfs.IntValue(2), dfs.IntValue(10)}}
	err := m.Apply(t.Context(), []*dfs.Transaction{txn(1, put)})
	var conflict *ConflictError
	require.ErrorAs(t, err, &conflict)
	require.Equal(t, []string{"1|10|1"}, rows(t, srv, "SELECT * FROM "+s+".wide"))
}

func TestPartNeedsAKeyOfTheTarget(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+s+".wide (id int, a int)")
	m := openSink(t, srv, &MySQLOptions{Name: s})
	put := dfs.Change{Op: dfs.Insert, Part: true, Table: partTable(s, "a"), After: dfs.Row{dfs.IntValue(2), dfs.IntValue(10)}}
	err := m.Apply(t.Context(), []*dfs.Transaction{txn(1, put)})
	require.ErrorContains(t, err, "no primary key")
}

func TestPartsShareStatements(t *testing.T) {
	target := &table{schema: "s", name: "wide", key: "s.wide", run: new(tableRun), primary: []int{0}, columns: []targetColumn{
		{name: "id", typ: "int"}, {name: "a", typ: "int", nullable: true, optional: true}, {name: "b", typ: "int", nullable: true, optional: true},
	}}
	mp, err := newMapping(partTable("s", "a"), target)
	require.NoError(t, err)
	g := newMerger()
	g.reset()
	row := func(id, a int64) dfs.Row { return dfs.Row{dfs.IntValue(id), dfs.IntValue(a)} }
	for _, c := range []dfs.Change{
		{Op: dfs.Insert, After: row(1, 1)}, {Op: dfs.Insert, After: row(2, 2)}, {Op: dfs.Update, Before: row(1, 1), After: row(1, 3)},
	} {
		c.Part = true
		require.NoError(t, g.add(&c, mp))
	}
	var sql []string
	w := &writer{maxRows: 100, maxBytes: 1 << 20, srv: server{maxPacket: 1 << 24, valuesRow: true}}
	w.send = func(b []byte, want []int64) error {
		sql = strings.Split(string(slices.Clone(b)), ";")
		require.Equal(t, []int64{2, 2}, want)
		return nil
	}
	for i := range g.groups {
		require.NoError(t, w.group(&g.groups[i]))
	}
	require.NoError(t, w.flush())
	require.Equal(t, []string{
		"INSERT INTO `s`.`wide` (`id`,`a`) VALUES (1,3),(2,2) ON DUPLICATE KEY UPDATE `id`=`id`",
		"UPDATE (VALUES ROW(1,3),ROW(2,2)) v(c0,c1) STRAIGHT_JOIN `s`.`wide` t FORCE INDEX (`PRIMARY`) ON t.`id`=v.c0 SET t.`a`=v.c1",
	}, sql)
}

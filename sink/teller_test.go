package sink_test

import (
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/sink"
	"github.com/stretchr/testify/require"
)

// toldBatch are changes of each kind, with values that a careless quoting would change.
func toldBatch() []*dfs.Transaction {
	tab := &dfs.Table{Schema: "source", Name: `it"$1?1ems`, Key: []int{0}, Columns: []dfs.Column{
		{Name: "id", Type: "int"}, {Name: "na$2me", Type: "varchar(60)", Charset: "utf8mb4", Collation: "utf8mb4_bin", Nullable: true},
		{Name: "raw", Type: "varbinary(20)", Nullable: true}, {Name: "f", Type: "double", Nullable: true}}}
	bag := &dfs.Table{Schema: "source", Name: "bag", Columns: []dfs.Column{{Name: "n", Type: "int", Nullable: true}, {Name: "s", Type: "varchar(9)", Charset: "utf8mb4", Collation: "utf8mb4_bin", Nullable: true}}}
	row := func(id int64, name, raw string, f float64) dfs.Row {
		return dfs.Row{dfs.IntValue(id), dfs.StringValue(name), dfs.BytesValue([]byte(raw)), dfs.FloatValue(f)}
	}
	none := dfs.Row{dfs.IntValue(2), dfs.NullValue(), dfs.NullValue(), dfs.NullValue()}
	thing := func(n int64) dfs.Row { return dfs.Row{dfs.IntValue(n), dfs.NullValue()} }
	ins := func(t *dfs.Table, r dfs.Row) dfs.Change { return dfs.Change{Op: dfs.Insert, Table: t, After: r} }
	batch := []*dfs.Transaction{
		{Changes: []dfs.Change{ins(tab, row(1, "it's $1 and ?1; --", "\x00\xff'\\", 5)), ins(tab, none), ins(tab, row(-3, `"\n`+"\n\\", "", -1e300)), ins(tab, row(4, "", "x", 0.1))}},
		{Changes: []dfs.Change{{Op: dfs.Update, Table: tab, Before: none, After: row(20, "Zoë", "\x01", math.Pi)}, {Op: dfs.Delete, Table: tab, Before: row(4, "", "x", 0.1)},
			{Op: dfs.Update, Table: tab, Before: row(-3, `"\n`+"\n\\", "", -1e300), After: row(-3, `"\n`+"\n\\", "", -1e300)}}},
		{Changes: []dfs.Change{ins(bag, thing(1)), ins(bag, thing(1)), ins(bag, thing(2)), {Op: dfs.Delete, Table: bag, Before: thing(1)}}},
	}
	for i, tx := range batch {
		tx.Seq, tx.Pos = uint64(i+1), dfs.Position("p")
	}
	return batch
}

// tellAll returns what a Teller says of the transactions.
func tellAll(t *testing.T, d *sink.Teller) (list []string) {
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	for _, tx := range toldBatch() {
		p, err := d.Plan(t.Context(), tx)
		require.NoError(t, err)
		require.Empty(t, p.Stops)
		require.Equal(t, len(tx.Changes), p.Rows)
		list = append(list, p.Statements...)
	}
	require.Len(t, list, 4+2+4, "the update that changes nothing is none")
	return list
}

// What a Teller tells, executed by hand, does to the target what the sink does.
func TestATellerTellsWhatTheSinkDoesToPostgres(t *testing.T) {
	srv := testenv.SharedPostgres(t)
	make := func() string {
		s := srv.Schema(t)
		srv.Exec(t, "CREATE TABLE "+s+`."it""$1?1ems" (id int PRIMARY KEY, "na$2me" text, raw bytea, f float8)`, "CREATE TABLE "+s+".bag (n int, s text)")
		return s
	}
	by, hand := make(), make()
	p := openPostgres(t, srv, by, nil)
	defer p.Close()
	_, err := p.Checkpoint(t.Context())
	require.NoError(t, err)
	require.NoError(t, p.Apply(t.Context(), toldBatch()))
	d, err := sink.TellPostgres(t.Context(), srv.DSN(), &sink.PostgresOptions{Schema: hand, Routes: []sink.Route{{From: "source.*", To: hand + ".*"}}})
	require.NoError(t, err)
	list := tellAll(t, d)
	require.Equal(t, "INSERT INTO \""+hand+"\".\"it\"\"$1?1ems\" (\"id\",\"na$2me\",\"raw\",\"f\") OVERRIDING SYSTEM VALUE VALUES ('1','it''s $1 and ?1; --','\\x00ff275c','5')", list[0])
	require.Empty(t, srv.Query(t, "SELECT 1 FROM "+hand+`."it""$1?1ems"`), "nothing was executed")
	require.Empty(t, srv.Query(t, "SELECT 1 FROM pg_tables WHERE schemaname='"+hand+"' AND tablename='dfs_checkpoint'"))
	for _, sql := range list {
		srv.Exec(t, sql)
	}
	for _, q := range []string{`."it""$1?1ems" ORDER BY id`, ".bag ORDER BY n"} {
		require.Equal(t, srv.Query(t, "SELECT * FROM "+by+q), srv.Query(t, "SELECT * FROM "+hand+q))
		require.NotEmpty(t, srv.Query(t, "SELECT * FROM "+hand+q))
	}
	// A table that is not there keeps the sink from it, and the next is told all the same.
	tx := toldBatch()[0]
	tx.Changes[0].Table = &dfs.Table{Schema: "source", Name: "gone", Key: []int{0}, Columns: tx.Changes[0].Table.Columns}
	tx.Changes = append([]dfs.Change{{Op: dfs.DDL, Query: "ALTER TABLE gone ADD c int"}}, tx.Changes...)
	plan, err := d.Plan(t.Context(), tx)
	require.NoError(t, err)
	require.Len(t, plan.Statements, 3)
	require.Len(t, plan.Stops, 1)
	require.Contains(t, plan.Stops[0], "gone")
	require.Contains(t, plan.Notes[0], "ALTER TABLE gone ADD c int")
}

func TestATellerTellsWhatTheSinkDoesToSQLite(t *testing.T) {
	dir := t.TempDir()
	by, hand := filepath.Join(dir, "by.db"), filepath.Join(dir, "hand.db")
	for _, path := range []string{by, hand} {
		_, err := openFile(t, path).Exec(`CREATE TABLE "it""$1?1ems" (id INTEGER PRIMARY KEY, "na$2me" TEXT, raw BLOB, f REAL); CREATE TABLE bag (n INT, s TEXT)`)
		require.NoError(t, err)
	}
	s := openSQLite(t, by, nil)
	defer s.Close()
	_, err := s.Checkpoint(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.Apply(t.Context(), toldBatch()))
	d, err := sink.TellSQLite(t.Context(), hand, nil)
	require.NoError(t, err)
	list := tellAll(t, d)
	require.Equal(t, `INSERT INTO "it""$1?1ems" ("id","na$2me","raw","f") VALUES (1,'it''s $1 and ?1; --',x'00ff275c',5.0)`, list[0])
	db := openFile(t, hand)
	count := func(path, what string) (n int) {
		require.NoError(t, openFile(t, path).QueryRow("SELECT COUNT(*) FROM "+what).Scan(&n))
		return n
	}
	require.Zero(t, count(hand, `"it""$1?1ems"`), "nothing was executed")
	require.Zero(t, count(hand, "sqlite_schema WHERE name='dfs_checkpoint'"))
	_, err = db.Exec(strings.Join(list, ";\n"))
	require.NoError(t, err)
	_, err = db.Exec("ATTACH '" + by + "' AS other")
	require.NoError(t, err)
	for _, table := range []string{`"it""$1?1ems"`, "bag"} {
		var n, same int
		// Also of the same types.
		require.NoError(t, db.QueryRow("SELECT (SELECT COUNT(*) FROM main."+table+"), (SELECT COUNT(*) FROM (SELECT * FROM main."+table+" INTERSECT SELECT * FROM other."+table+"))").Scan(&n, &same))
		if table == "bag" {
			require.Equal(t, []int{2, 2}, []int{n, same})
		} else {
			require.Equal(t, []int{3, 3}, []int{n, same})
		}
	}
	// What was masked is a text, whatever the column is.
	tx := toldBatch()[0]
	masked := *tx.Changes[0].Table
	masked.Columns = append([]dfs.Column(nil), masked.Columns...)
	masked.Columns[3] = dfs.Column{Name: "f", Type: "varchar(64)", Charset: "utf8mb4", Collation: "utf8mb4_bin", Nullable: true}
	tx.Changes = tx.Changes[:1]
	tx.Changes[0].Table = &masked
	tx.Changes[0].After[3] = dfs.StringValue("•••")
	plan, err := d.Plan(t.Context(), tx)
	require.NoError(t, err)
	require.Empty(t, plan.Stops)
	require.Contains(t, plan.Statements[0], "'•••'")

	_, err = sink.TellSQLite(t.Context(), filepath.Join(dir, "none.db"), nil)
	require.Error(t, err)
}

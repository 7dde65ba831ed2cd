package sink

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/stretchr/testify/require"
)

// poorDSN makes an account that may read everything, and write nothing.
func poorDSN(t *testing.T, srv *testenv.Server, name string) string {
	srv.Exec(t, "CREATE USER "+name+" IDENTIFIED BY 's3cret'", "GRANT SELECT ON *.* TO "+name)
	t.Cleanup(func() { srv.Exec(t, "DROP USER "+name) })
	return name + ":s3cret@tcp(" + srv.Addr() + ")/"
}

func openDryRun(t *testing.T, dsn string, opts *MySQLOptions) (*DryRun, *[]Planned) {
	shown := new([]Planned)
	d, err := OpenDryRun(t.Context(), dsn, opts, func(p Planned) error {
		*shown = append(*shown, p)
		return nil
	})
	require.NoError(t, err)
	t.Cleanup(func() { d.Close() })
	return d, shown
}

// What a dry run shows, executed by hand, does to the target what the sink does.
func TestADryRunShowsWhatTheSinkDoesAndWritesNothing(t *testing.T) {
	for _, product := range []testenv.Kind{testenv.MySQL97, testenv.MariaDB} {
		t.Run(string(product), func(t *testing.T) {
			srv := testenv.Shared(t, product)
			s := srv.Schema(t)
			const shape = " (id int PRIMARY KEY, name varchar(40), n int, raw varbinary(20), l varchar(20) CHARACTER SET latin1, day date, UNIQUE (name)) CHARACTER SET utf8mb4"
			for _, name := range []string{"users", "twin"} {
				srv.Exec(t, "CREATE TABLE "+s+"."+name+shape, "INSERT INTO "+s+"."+name+" (id, n) VALUES (90, 1), (91, 1), (92, 1)")
			}
			src := users(s)
			src.Columns = append(src.Columns, dfs.Column{Name: "raw", Type: "varbinary(20)", Nullable: true},
				dfs.Column{Name: "l", Type: "varchar(20)", Charset: "latin1", Collation: "latin1_swedish_ci", Nullable: true}, dfs.Column{Name: "day", Type: "date", Nullable: true})
			row := func(id int, name string, n int, raw string) dfs.Row {
				return append(user(id, name, n), dfs.BytesValue([]byte(raw)), dfs.StringValue("caf\xe9"), dfs.DateValue(2026, 11, 27))
			}
			old := func(id int) dfs.Row {
				return append(user(id, "", 1), dfs.NullValue(), dfs.NullValue(), dfs.NullValue())
			}
			noFK := ins(src, row(5, "x'; DROP TABLE users; --", 1, "a;b"))
			noFK.NoForeignKeys = true
			part := ins(src, row(7, "part", 7, "\x00\x01"))
			part.Part = true
			batch := []*dfs.Transaction{
				txn(1),
				txn(2, ins(src, row(1, "Ann", 1, "\x00\xff'\\")), ins(src, row(2, "Zoë `q`", 2, "plain")), upd(src, old(90), row(90, "new", 9, "\x1a"))),
				txn(3, noFK, del(src, old(91)), part), txn(4, del(src, old(92)), upd(src, row(2, "Zoë `q`", 2, "plain"), row(3, "moved", 2, "plain"))),
			}
			batch[1].Committed = time.Date(2026, 11, 27, 10, 0, 0, 5000, time.UTC)

			before := rows(t, srv, "SELECT table_name FROM information_schema.tables WHERE table_schema='"+s+"' ORDER BY 1")
			d, shown := openDryRun(t, poorDSN(t, srv, "dry_"+strings.ToLower(string(product[:3]))), &MySQLOptions{Schema: s})
			at, err := d.Checkpoint(t.Context())
			require.NoError(t, err)
			require.Zero(t, at)
			require.NoError(t, d.Apply(t.Context(), batch))
			at, err = d.Checkpoint(t.Context())
			require.NoError(t, err)
			require.Equal(t, batch[3].Checkpoint, at)
			require.Len(t, *shown, 3, "an empty transaction is not shown")
			require.Equal(t, before, rows(t, srv, "SELECT table_name FROM information_schema.tables WHERE table_schema='"+s+"' ORDER BY 1"))
			require.Equal(t, rows(t, srv, "SELECT * FROM "+s+".twin ORDER BY id"), rows(t, srv, "SELECT * FROM "+s+".users ORDER BY id"))

			first := (*shown)[0]
			require.EqualValues(t, 2, first.Seq)
			require.Equal(t, "gtid:2", first.ID)
			require.Equal(t, 3, first.Rows)
			require.Contains(t, first.String(), "-- transaction 2 (gtid:2), committed 2026-11-27 10:00:00.000005, 3 rows\nINSERT INTO `"+s+"`.`users`")
			require.Contains(t, first.String(), "_binary 0x00ff275c")
			require.Contains(t, first.String(), "_latin1 0x636166e9")
			require.Contains(t, first.String(), "_binary'plain'")

			// By hand on the twin, and by the sink.
			for _, p := range *shown {
				require.Empty(t, p.Stops)
				require.Empty(t, p.Notes)
				for _, text := range p.Statements {
					srv.Exec(t, strings.ReplaceAll(text, "`users`", "`twin`"))
				}
			}
			require.NoError(t, openSink(t, srv, &MySQLOptions{Schema: s}).Apply(t.Context(), batch))
			require.Equal(t, rows(t, srv, "SELECT *, hex(raw) FROM "+s+".users ORDER BY id"), rows(t, srv, "SELECT *, hex(raw) FROM "+s+".twin ORDER BY id"))

			// From the checkpoint that is there now, a dry run goes on, and leaves it.
			d, shown = openDryRun(t, srv.DSN(""), &MySQLOptions{Schema: s})
			at, err = d.Checkpoint(t.Context())
			require.NoError(t, err)
			require.Equal(t, batch[3].Checkpoint, at)
			require.NoError(t, d.Apply(t.Context(), []*dfs.Transaction{txn(5, ins(src, row(50, "", 1, "")))}))
			require.Len(t, *shown, 1)
			require.ErrorIs(t, d.Apply(t.Context(), []*dfs.Transaction{txn(7)}), dfs.ErrGap)
			require.Equal(t, []string{"4"}, rows(t, srv, "SELECT seq FROM "+s+".dfs_checkpoint"))
			_, err = d.m.exec(t.Context(), []byte("DELETE FROM "+s+".users"))
			require.ErrorContains(t, err, "READ ONLY", "the server keeps the session from writing")
		})
	}
}

func TestADryRunTellsWhereTheSinkWouldStop(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, fmt.Sprintf(usersSQL, s))
	d, shown := openDryRun(t, srv.DSN(""), &MySQLOptions{
		Schema: s, Routes: []Route{{From: "shop.*", To: s + ".*"}}, DDL: PolicyApply,
		DDLRules: []DDLRule{{Tables: "shop.log", Policy: PolicyIgnore}, {Kinds: []string{"drop *"}, Policy: PolicyError}},
	})
	u, gone := users("shop"), &dfs.Table{Schema: "shop", Name: "gone", Columns: []dfs.Column{{Name: "id", Type: "int"}}}
	wide := users("shop")
	wide.Columns = append(wide.Columns, dfs.Column{Name: "kind", Type: "enum", Members: []string{"a", "b"}})
	statement := func(query string) dfs.Change {
		return dfs.Change{Op: dfs.DDL, Table: &dfs.Table{Schema: "shop"}, Query: query}
	}
	big := txn(2, ins(u, user(3, "c", 3)))
	big.More = true
	require.NoError(t, d.Apply(t.Context(), []*dfs.Transaction{
		txn(1, ins(u, user(1, "a", 1)), ins(gone, dfs.Row{dfs.IntValue(1)}), ins(gone, dfs.Row{dfs.IntValue(2)})), big, txn(3, ins(u, user(4, "d", 4))),
		txn(4, statement("ALTER TABLE users ADD kind enum('a','b')")), txn(5, ins(wide, append(user(5, "e", 5), dfs.UintValue(2)))),
		txn(6, statement("ALTER TABLE log ADD x int")), txn(7, statement("DROP TABLE users")), txn(8, statement("CREATE TABLE gone (id int)")), txn(9, ins(gone, dfs.Row{dfs.IntValue(7)})),
	}))
	var b strings.Builder
	for _, p := range *shown {
		b.WriteString(strings.ReplaceAll(p.String(), s, "crm"))
	}
	require.Equal(t, "-- transaction 1 (gtid:1), 3 rows\n"+
		"INSERT INTO `crm`.`users` (`id`,`name`,`n`) VALUES (1,_utf8mb4'a',1);\n"+
		"-- WOULD STOP: reading the target's table crm.gone: the target has no table crm.gone, or the account may not see it: create it (as create_tables does in a file, or CreateTables), grant SELECT, INSERT, UPDATE, DELETE on it, or route the source's table elsewhere\n"+
		"-- transaction 2 (gtid:2), 1 row, to be continued\n"+
		"INSERT INTO `crm`.`users` (`id`,`name`,`n`) VALUES (3,_utf8mb4'c',3);\n"+
		"-- transaction 3 (gtid:3), 1 row\n"+
		"INSERT INTO `crm`.`users` (`id`,`name`,`n`) VALUES (4,_utf8mb4'd',4);\n"+
		"-- transaction 4 (gtid:4), 0 rows\n"+
		"USE `crm`;\nALTER TABLE `crm`.`users` ADD kind enum('a','b');\n"+
		"-- transaction 5 (gtid:5), 1 row\n"+
		"INSERT INTO `crm`.`users` (`id`,`name`,`n`,`kind`) VALUES (5,_utf8mb4'e',5,2);\n"+
		"-- transaction 6 (gtid:6), 0 rows\n"+
		"-- passed over: ALTER TABLE log ADD x int\n"+
		"-- transaction 7 (gtid:7), 0 rows\n"+
		"-- WOULD STOP: transaction 7 (gtid:7) alters a table: \"DROP TABLE users\"; run what the target needs of it there, then name it as done, \"gtid:7\" in DDLDone or ddl_done, and start again; or let the sink apply such statements, by the policy apply\n"+
		"-- transaction 8 (gtid:8), 0 rows\n"+
		"USE `crm`;\nCREATE TABLE `crm`.`gone` (id int);\n"+
		"-- transaction 9 (gtid:9), 1 row\n"+
		"INSERT INTO `crm`.`gone` (`id`) VALUES (7);\n", b.String())

	// After a lost connection it goes on behind what it has shown.
	d.m.drop()
	require.ErrorIs(t, d.Apply(t.Context(), []*dfs.Transaction{txn(10, ins(u, user(9, "z", 1)))}), dfs.ErrTransient)
	at, err := d.Checkpoint(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 9, at.Seq)
	require.NoError(t, d.Apply(t.Context(), []*dfs.Transaction{txn(10, ins(u, user(9, "z", 1)))}))

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, d.Apply(ended, []*dfs.Transaction{txn(11, ins(&dfs.Table{Schema: "shop", Name: "other", Columns: gone.Columns}, dfs.Row{dfs.IntValue(1)}))}))
}

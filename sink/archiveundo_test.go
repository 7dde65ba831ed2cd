package sink

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
)

// What transactions have done is taken back, and where the target has moved on nothing is.
func TestUndoTakesBackOrRefuses(t *testing.T) {
	for _, kind := range []testenv.Kind{testenv.MySQL97, testenv.MariaDB} {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			schema := srv.Schema(t)
			srv.Exec(t, "USE "+schema, "CREATE TABLE users (id int PRIMARY KEY, name varchar(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci, f float, at timestamp(3) NULL, b varbinary(9))")
			table := &dfs.Table{Schema: "shop", Name: "users", Key: []int{0}, Columns: []dfs.Column{
				{Name: "id", Type: "int"}, {Name: "name", Type: "varchar(40)", Charset: "utf8mb4", Collation: "utf8mb4_general_ci", Nullable: true},
				{Name: "f", Type: "float", Nullable: true}, {Name: "at", Type: "timestamp(3)", Nullable: true}, {Name: "b", Type: "varbinary(9)", Nullable: true}}}
			row := func(id int64, name string) dfs.Row {
				return dfs.Row{dfs.IntValue(id), dfs.StringValue(name), dfs.Float32Value(float32(id) / 3), dfs.TimestampMicro(1_700_000_000_123_000, 3), dfs.BytesValue([]byte{0, '\'', 255})}
			}
			var txs []*dfs.Transaction
			add := func(changes ...dfs.Change) {
				n := uint64(len(txs) + 1)
				tx := logged(n, 0)
				tx.Encoded, tx.ID = nil, fmt.Sprintf("gtid:%d", n)
				for i := range changes {
					changes[i].Table = table
				}
				tx.Changes = changes
				txs = append(txs, tx)
			}
			add(dfs.Change{Op: dfs.Insert, After: row(1, "Ann")}, dfs.Change{Op: dfs.Insert, After: row(2, "Bob")}, dfs.Change{Op: dfs.Insert, After: row(3, "Cem\n'--")})
			add(dfs.Change{Op: dfs.Update, Before: row(1, "Ann"), After: row(1, "ANN")}, dfs.Change{Op: dfs.Update, Before: row(2, "Bob"), After: row(7, "Bob")})
			add(dfs.Change{Op: dfs.Delete, Before: row(3, "Cem\n'--")}, dfs.Change{Op: dfs.Update, Before: row(1, "ANN"), After: row(1, "Anna")})
			add(dfs.Change{Op: dfs.Update, Before: row(7, "Bob"), After: row(7, "Rob")})
			a := openArchive(t, t.TempDir(), ArchiveOptions{})
			m, err := OpenMySQL(t.Context(), srv.DSN(""), &MySQLOptions{Name: schema, Routes: []Route{{From: "shop.*", To: schema + ".*"}}, Logger: quiet})
			require.NoError(t, err)
			defer m.Close()
			require.NoError(t, a.Apply(t.Context(), copies(txs)))
			require.NoError(t, m.Apply(t.Context(), copies(txs)))
			db := srv.DB(t)
			rows := func() string {
				t.Helper()
				var text string
				require.NoError(t, db.QueryRow("SELECT GROUP_CONCAT(id, name, HEX(b), at ORDER BY id SEPARATOR '|') FROM "+schema+".users").Scan(&text))
				return strings.ReplaceAll(text, "00", "")
			}
			now := rows()
			undo := func(o UndoOptions) error {
				t.Helper()
				u, err := a.Undo(t.Context(), &o)
				require.NoError(t, err)
				return m.Undo(t.Context(), u)
			}
			id := func(n int) dfs.StopPoint { return dfs.StopPoint{ID: fmt.Sprint("gtid:", n)} }

			// Transaction 2 changed rows that others changed later.
			err = undo(UndoOptions{From: id(2)})
			var moved *UndoError
			require.ErrorAs(t, err, &moved)
			require.Len(t, moved.Rows, 2)
			require.ErrorContains(t, err, "the row id=7 of "+schema+".users is not there any more, or has other values")
			require.Equal(t, now, rows())
			// One row of it can be taken back only with what came later.
			require.ErrorAs(t, undo(UndoOptions{From: id(2), Tables: []string{"shop.users"}, Key: "1"}), &moved)
			require.Len(t, moved.Rows, 1)
			require.NoError(t, undo(UndoOptions{From: id(2), To: id(3), Tables: []string{"shop.users"}, Key: "1"}))
			require.Contains(t, rows(), "1Ann")
			// Again: it is taken back already.
			require.ErrorAs(t, undo(UndoOptions{From: id(2), To: id(3), Tables: []string{"shop.users"}, Key: "1"}), &moved)
			// What the target has changed by itself is seen, to the case of a letter.
			srv.Exec(t, "UPDATE "+schema+".users SET name = 'ROB' WHERE id = 7")
			require.ErrorAs(t, undo(UndoOptions{From: id(4)}), &moved)
			srv.Exec(t, "UPDATE "+schema+".users SET name = 'Rob' WHERE id = 7")
			require.NoError(t, undo(UndoOptions{From: id(4)}))
			require.NoError(t, undo(UndoOptions{From: id(3), Tables: []string{"shop.users"}, Key: "3"}))
			require.Contains(t, rows(), "3Cem\n'--")
			// A row that is there again is not written over.
			require.ErrorAs(t, undo(UndoOptions{From: id(3), Tables: []string{"shop.users"}, Key: "3"}), &moved)

			// The same as SQL, and all of it.
			srv.Exec(t, "DELETE FROM "+schema+".users")
			require.NoError(t, m.Close())
			m, err = OpenMySQL(t.Context(), srv.DSN(""), &MySQLOptions{Name: schema + "2", Routes: []Route{{From: "shop.*", To: schema + ".*"}}, Logger: quiet})
			require.NoError(t, err)
			defer m.Close()
			require.NoError(t, m.Apply(t.Context(), copies(txs)))
			require.Equal(t, now, rows())
			u, err := a.Undo(t.Context(), &UndoOptions{From: id(2), To: id(4)})
			require.NoError(t, err)
			require.Equal(t, []int{3, 5}, []int{u.Transactions, u.Rows})
			var sql strings.Builder
			require.NoError(t, u.SQL(&sql))
			conn, err := db.Conn(t.Context())
			require.NoError(t, err)
			defer conn.Close()
			for _, line := range strings.Split(sql.String(), ";\n") {
				for strings.HasPrefix(line, "-- ") {
					_, line, _ = strings.Cut(line, "\n")
				}
				if line == "" {
					continue
				}
				r, err := conn.ExecContext(t.Context(), strings.ReplaceAll(line, "`shop`", schema))
				require.NoError(t, err, line)
				n, err := r.RowsAffected()
				require.NoError(t, err)
				if strings.Contains(line, "`shop`") {
					require.Equal(t, int64(1), n, line)
				}
			}
			_, err = conn.ExecContext(t.Context(), "COMMIT")
			require.NoError(t, err)
			require.NoError(t, undo(UndoOptions{From: id(1)}))
			var n int
			require.NoError(t, db.QueryRow("SELECT COUNT(*) FROM "+schema+".users").Scan(&n))
			require.Zero(t, n)
		})
	}
}

func TestUndoRefusesWhatItCannotTakeBack(t *testing.T) {
	a := openArchive(t, t.TempDir(), ArchiveOptions{})
	table := users("shop")
	txs := loggedRun(1, 3, 0)
	for _, tx := range txs {
		tx.Encoded = nil
	}
	txs[0].Changes = []dfs.Change{{Op: dfs.Delete, Table: table, Before: dfs.Row{dfs.IntValue(1), dfs.AbsentValue(), dfs.NullValue()}}}
	txs[1].Changes = []dfs.Change{{Op: dfs.DDL, Table: &dfs.Table{Schema: "shop", Name: "users"}, Query: "TRUNCATE TABLE shop.users"}}
	txs[2].Changes = []dfs.Change{{Op: dfs.Delete, Table: table, Before: dfs.Row{dfs.IntValue(1), dfs.StringValue("Ann"), dfs.NullValue()}}}
	require.NoError(t, a.Baseline(t.Context(), []Definition{{Table: users("shop"), SQL: "CREATE TABLE `orders` (`id` int, `user` int, CONSTRAINT `f` FOREIGN KEY (`user`) REFERENCES `users` (`id`) ON DELETE CASCADE)"}}))
	require.NoError(t, a.Apply(t.Context(), txs))
	for text, o := range map[string]UndoOptions{
		"From names no transaction":  {},
		"has not all columns":        {From: dfs.StopPoint{Seq: 1}},
		"alters the table shop.user": {From: dfs.StopPoint{Seq: 2}, To: dfs.StopPoint{Seq: 3}},
		"without a wildcard":         {From: dfs.StopPoint{Seq: 3}, Key: "1", Tables: []string{"shop.*"}},
		"holds transactions 1 to 3":  {From: dfs.StopPoint{Seq: 4}},
	} {
		_, err := a.Undo(t.Context(), &o)
		require.ErrorContains(t, err, text)
	}
	u, err := a.Undo(t.Context(), &UndoOptions{From: dfs.StopPoint{Seq: 3}})
	require.NoError(t, err)
	require.Len(t, u.Notes, 1)
	require.Contains(t, u.Notes[0], "ON DELETE CASCADE")
	// Of a table without a key nothing tells whether a row was put back before.
	txs = loggedRun(4, 1, 0)
	heap := &dfs.Table{Schema: "shop", Name: "log", Columns: table.Columns}
	del := dfs.Change{Op: dfs.Delete, Table: heap, Before: dfs.Row{dfs.IntValue(1), dfs.StringValue("Ann"), dfs.NullValue()}}
	txs[0].Encoded, txs[0].Changes = nil, []dfs.Change{del, del}
	require.NoError(t, a.Apply(t.Context(), txs))
	u, err = a.Undo(t.Context(), &UndoOptions{From: dfs.StopPoint{Seq: 4}})
	require.NoError(t, err)
	require.Len(t, u.Notes, 1)
	require.Contains(t, u.Notes[0], "shop.log has no primary key")
	_, err = a.Undo(t.Context(), &UndoOptions{From: dfs.StopPoint{Seq: 4}, Key: "1", Tables: []string{"shop.log"}})
	require.ErrorContains(t, err, "shop.log has no primary key")
}

// copies copies transactions, since a sink owns what it is given.
func copies(txs []*dfs.Transaction) (out []*dfs.Transaction) {
	for _, tx := range txs {
		c := *tx
		c.Changes = append([]dfs.Change(nil), tx.Changes...)
		out = append(out, &c)
	}
	return out
}

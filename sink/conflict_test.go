package sink

import (
	"errors"
	"fmt"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/stretchr/testify/require"
)

// Each case starts with the rows 1 ann 1, 2 bob 2, 3 cy 3 on the target. The
// change under test comes in the middle of a batch.
func TestConflictsAreSettledByPolicyAndCounted(t *testing.T) {
	u := users("x")
	for _, c := range []struct {
		name                   string
		change                 dfs.Change
		overwritten            []string // what rows 1 to 9 are under PolicyOverwrite
		ignored                []string // and under PolicyIgnore
		stillError, constraint bool
	}{
		{"an insert finds its key", ins(u, user(2, "bo", 9)), []string{"1|ann|1", "2|bo|9", "3|cy|3"}, []string{"1|ann|1", "2|bob|2", "3|cy|3"}, false, true},
		{"an insert finds its unique value", ins(u, user(4, "bob", 9)), []string{"1|ann|1", "3|cy|3", "4|bob|9"}, []string{"1|ann|1", "2|bob|2", "3|cy|3"}, false, true},
		{"an insert finds both", ins(u, user(2, "CY", 9)), []string{"1|ann|1", "2|CY|9"}, []string{"1|ann|1", "2|bob|2", "3|cy|3"}, false, true},
		{"an update finds no row", upd(u, user(5, "eve", 5), user(5, "eve", 6)), []string{"1|ann|1", "2|bob|2", "3|cy|3", "5|eve|6"}, []string{"1|ann|1", "2|bob|2", "3|cy|3"}, false, false},
		{"an update finds its unique value taken", upd(u, user(2, "bob", 2), user(2, "cy", 2)), []string{"1|ann|1", "2|cy|2"}, []string{"1|ann|1", "2|bob|2", "3|cy|3"}, false, true},
		{"an update finds its new key taken", upd(u, user(2, "bob", 2), user(3, "bob", 2)), []string{"1|ann|1", "3|bob|2"}, []string{"1|ann|1", "2|bob|2", "3|cy|3"}, false, true},
		{"an update of the key finds no row", upd(u, user(6, "flo", 1), user(7, "flo", 1)), []string{"1|ann|1", "2|bob|2", "3|cy|3", "7|flo|1"}, []string{"1|ann|1", "2|bob|2", "3|cy|3"}, false, false},
		{"a delete finds no row", del(u, user(8, "gus", 1)), []string{"1|ann|1", "2|bob|2", "3|cy|3"}, []string{"1|ann|1", "2|bob|2", "3|cy|3"}, false, false},
	} {
		for _, policy := range []Policy{PolicyError, PolicyOverwrite, PolicyIgnore} {
			t.Run(c.name+"/"+string(policy), func(t *testing.T) {
				srv := testenv.Shared(t, testenv.MySQL97)
				s := srv.Schema(t)
				srv.Exec(t, fmt.Sprintf(usersSQL, s), "INSERT INTO "+s+".users VALUES (1,'ann',1),(2,'bob',2),(3,'cy',3)")
				m := openSink(t, srv, &MySQLOptions{
					Name: s, Routes: []Route{{"x.*", s + ".*"}}, Conflicts: []ConflictRule{{"nowhere.*", PolicyIgnore}, {s + ".us*", policy}},
				})
				change := c.change
				change.Table = users("x")
				var batch []*dfs.Transaction
				for i := range 50 {
					batch = append(batch, txn(uint64(i)+1, ins(u, user(100+i, fmt.Sprint("n", i), i))))
				}
				batch[20].Changes = append(batch[20].Changes, change)
				err := m.Apply(t.Context(), batch)
				got := rows(t, srv, "SELECT * FROM "+s+".users WHERE id<10 ORDER BY id")
				more := rows(t, srv, "SELECT COUNT(*) FROM "+s+".users WHERE id>=100")
				at, e := m.Checkpoint(t.Context())
				require.NoError(t, e)
				st := m.Stats()
				require.Equal(t, []ConflictCount{{s + ".users", policy, 1}}, st.Conflicts)
				require.Positive(t, st.Fallbacks)
				switch policy {
				case PolicyError:
					var conflict *ConflictError
					require.ErrorAs(t, err, &conflict)
					require.Equal(t, s+".users", conflict.Table)
					require.EqualValues(t, 21, conflict.Seq)
					require.Equal(t, "gtid:21", conflict.ID)
					require.Equal(t, c.change.Op, conflict.Op)
					require.Contains(t, conflict.Key, "id=")
					require.Equal(t, c.constraint, conflict.Err != nil)
					require.NotErrorIs(t, err, dfs.ErrTransient)
					require.NotErrorIs(t, err, dfs.ErrConflict)
					require.Equal(t, []string{"1|ann|1", "2|bob|2", "3|cy|3"}, got)
					require.Equal(t, []string{"20"}, more, "what came before the conflict is applied")
					require.EqualValues(t, 20, at.Seq)
				case PolicyOverwrite:
					require.NoError(t, err)
					require.Equal(t, c.overwritten, got)
					require.Equal(t, []string{"50"}, more)
					require.EqualValues(t, 50, at.Seq)
				case PolicyIgnore:
					require.NoError(t, err)
					require.Equal(t, c.ignored, got)
					require.Equal(t, []string{"50"}, more)
				}
			})
		}
	}
}

func TestForeignKeyThatForbidsIsAConflict(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+s+".p (id int PRIMARY KEY)", "CREATE TABLE "+s+".c (id int PRIMARY KEY, pid int, FOREIGN KEY (pid) REFERENCES "+s+".p (id))")
	m := openSink(t, srv, &MySQLOptions{Name: s})
	child := &dfs.Table{Schema: s, Name: "c", Key: []int{0}, Columns: []dfs.Column{{Name: "id", Type: "int"}, {Name: "pid", Type: "int"}}}
	orphan := ins(child, dfs.Row{dfs.IntValue(1), dfs.IntValue(7)})
	err := m.Apply(t.Context(), []*dfs.Transaction{txn(1, orphan)})
	var conflict *ConflictError
	require.ErrorAs(t, err, &conflict)
	require.EqualValues(t, erNoReferencedRow2, serverError(err))

	// The source says that it did not check this one.
	orphan.NoForeignKeys = true
	other := ins(child, dfs.Row{dfs.IntValue(2), dfs.NullValue()})
	require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(1, orphan, other)}))
	require.Equal(t, []string{"1|7", "2|NULL"}, rows(t, srv, "SELECT * FROM "+s+".c ORDER BY id"))
	bad := ins(child, dfs.Row{dfs.IntValue(3), dfs.IntValue(7)})
	require.ErrorAs(t, m.Apply(t.Context(), []*dfs.Transaction{txn(2, bad)}), &conflict, "checks are on again")
}

func TestValueThatDoesNotFitNamesRowAndTransaction(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+s+".users (id int PRIMARY KEY, name varchar(3), n int)")
	m := openSink(t, srv, &MySQLOptions{Name: s, Conflicts: []ConflictRule{{"*.*", PolicyIgnore}}})
	u := users(s)
	err := m.Apply(t.Context(), []*dfs.Transaction{txn(1, ins(u, user(1, "abc", 1))), txn(2, ins(u, user(2, "abcd", 1)))})
	require.ErrorContains(t, err, "applying the insert of "+s+".users (id=2) in transaction 2 (gtid:2)")
	require.ErrorContains(t, err, "Data too long")
	var conflict *ConflictError
	require.False(t, errors.As(err, &conflict), "the policy is about rows that are there or missing")
	at, err := m.Checkpoint(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, at.Seq)

	// A number that is none is no text of another character set, of which the server
	// tells with the same code.
	srv.Exec(t, "ALTER TABLE "+s+".users DROP name, ADD name int")
	err = m.Apply(t.Context(), []*dfs.Transaction{txn(2, ins(u, user(2, "bob", 1)))})
	require.ErrorContains(t, err, "give it the type that it has on the source")
	var text *TextError
	require.False(t, errors.As(err, &text))
}

func TestStatementsAreCutToTheServersPacket(t *testing.T) {
	srv := testenv.Start(t, testenv.MySQL97, "--max-allowed-packet=1M")
	s := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+s+".b (id int PRIMARY KEY, c longblob)")
	for _, sqlOnly := range []bool{true, false} {
		m := openSink(t, srv, &MySQLOptions{Name: fmt.Sprint(sqlOnly), MaxBytes: 8 << 20, SQLOnly: sqlOnly})
		tab := &dfs.Table{Schema: s, Name: "b", Key: []int{0}, Columns: []dfs.Column{{Name: "id", Type: "int"}, {Name: "c", Type: "longblob"}}}
		blob := func(n int) dfs.Value { return dfs.BytesValue(make([]byte, n)) } // each byte needs two in SQL
		var some, rest []dfs.Change
		for i := range 40 {
			row, next := dfs.Row{dfs.IntValue(int64(i)), blob(100_000)}, dfs.Row{dfs.IntValue(int64(i)), blob(110_000)}
			some = append(some, ins(tab, row))
			rest = append(rest, upd(tab, row, next))
		}
		require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(1, some...), txn(2, ins(tab, dfs.Row{dfs.IntValue(50), blob(500_000)}))}))
		require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(3, rest...)}))
		require.Equal(t, []string{"41|4900000"}, rows(t, srv, "SELECT COUNT(*), SUM(LENGTH(c)) FROM "+s+".b"))
		require.Zero(t, m.Stats().Fallbacks)

		err := m.Apply(t.Context(), []*dfs.Transaction{txn(4, ins(tab, dfs.Row{dfs.IntValue(51), blob(600_000)}))})
		require.ErrorContains(t, err, "max_allowed_packet is 1048576: SET GLOBAL max_allowed_packet=2097152")
		require.ErrorContains(t, err, s+".b")
		require.NotErrorIs(t, err, dfs.ErrTransient)
		srv.Exec(t, "TRUNCATE "+s+".b")
	}
}

// A group without foreign key checks must not leave them off for the next,
// whichever lane either takes.
func TestForeignKeyChecksAreOnAgainAfterAGroupWithout(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+s+".p (id int PRIMARY KEY)", "CREATE TABLE "+s+".c (id int PRIMARY KEY, pid int, "+
		"FOREIGN KEY (pid) REFERENCES "+s+".p (id) ON DELETE CASCADE)")
	m := openSink(t, srv, &MySQLOptions{Name: s})
	m.writer.minEvents = 2
	parent := &dfs.Table{Schema: s, Name: "p", Key: []int{0}, Columns: []dfs.Column{{Name: "id", Type: "int"}}}
	child := &dfs.Table{Schema: s, Name: "c", Key: []int{0}, Columns: []dfs.Column{{Name: "id", Type: "int"}, {Name: "pid", Type: "int"}}}
	id, seq := 0, uint64(0)
	for _, sizes := range [][2]int{{1, 1}, {1, 3}, {3, 1}, {3, 3}} {
		for _, noFK := range [][2]bool{{true, false}, {false, true}} {
			var changes []dfs.Change
			for k, c := range [2]*dfs.Table{child, parent} {
				for range sizes[k] {
					id++
					row := dfs.Row{dfs.IntValue(int64(id)), dfs.NullValue()}[:len(c.Columns)]
					change := ins(c, row)
					change.NoForeignKeys = noFK[k]
					changes = append(changes, change)
				}
			}
			seq++
			require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(seq, changes...)}))
			got, err := m.sess.query(t.Context(), "SELECT @@foreign_key_checks")
			require.NoError(t, err)
			require.Equal(t, "1", got[0][0].text, "sizes %v, without checks %v", sizes, noFK)
			require.Zero(t, m.Stats().Fallbacks)
		}
	}
	require.Positive(t, m.Stats().EventRows)
}

func TestOverwriteOnATableWithoutAKeyInsertsWhatAnUpdateMisses(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+s+".n (a int, b int)", "INSERT INTO "+s+".n VALUES (1,1),(2,2)")
	n := &dfs.Table{Schema: s, Name: "n", Columns: []dfs.Column{{Name: "a", Type: "int"}, {Name: "b", Type: "int"}}}
	m := openSink(t, srv, &MySQLOptions{Name: s, Conflicts: []ConflictRule{{"*.*", PolicyOverwrite}}})
	row := func(a, b int64) dfs.Row { return dfs.Row{dfs.IntValue(a), dfs.IntValue(b)} }
	require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(1, upd(n, row(5, 5), row(5, 6)), del(n, row(7, 7)), upd(n, row(1, 1), row(1, 2)))}))
	require.Equal(t, []string{"1|2", "2|2", "5|6"}, rows(t, srv, "SELECT * FROM "+s+".n ORDER BY a"))
	require.Equal(t, []ConflictCount{{s + ".n", PolicyOverwrite, 2}}, m.Stats().Conflicts)
}

package sink

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/internal/testseed"
	"github.com/stretchr/testify/require"
)

// copied makes transactions of rows that were there already, of size rows each.
func copied(seq uint64, t *dfs.Table, from, to, size int) []*dfs.Transaction {
	var out []*dfs.Transaction
	for id := from; id < to; id += size {
		tx := txn(seq)
		tx.Snapshot = true
		for i := id; i < min(id+size, to); i++ {
			c := ins(t, user(i, fmt.Sprintf("user %d", i), i))
			c.NoForeignKeys = true
			tx.Changes = append(tx.Changes, c)
		}
		out = append(out, tx)
		seq++
	}
	return out
}

// held returns how many rows the table of users has, and the sum of their ids.
func held(t *testing.T, srv *testenv.Server, s string) string {
	return rows(t, srv, "SELECT COUNT(*), COALESCE(SUM(id), 0) FROM "+s+".users")[0]
}

func markers(t *testing.T, srv *testenv.Server, name string) string {
	return rows(t, srv, "SELECT COUNT(*) FROM dfs.dfs_load WHERE name='"+name+"'")[0]
}

func TestRowsThatWereThereAreLoadedByManyConnections(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			s := srv.Schema(t)
			srv.Exec(t, fmt.Sprintf(legacy(kind, usersSQL), s))
			u := users(s)
			m := openSink(t, srv, &MySQLOptions{Name: s})

			// Between them come what the source does meanwhile, and a chunk too
			// small to be worth it.
			batch := copied(1, u, 0, 3000, 1000)
			batch = append(batch, txn(4, upd(u, user(7, "user 7", 7), user(7, "seven", 8)), del(u, user(9, "user 9", 9))))
			batch = append(batch, copied(5, u, 3000, 3100, 100)...)
			batch = append(batch, txn(6, upd(u, user(3001, "user 3001", 3001), user(3001, "x", 0))))
			batch = append(batch, copied(7, u, 3100, 7100, 1000)...)
			require.NoError(t, m.Apply(t.Context(), batch))

			at, err := m.Checkpoint(t.Context())
			require.NoError(t, err)
			require.Equal(t, dfs.Checkpoint{Seq: 10, Pos: "pos 10"}, at)
			require.Equal(t, fmt.Sprintf("7099|%d", 7100*7099/2-9), held(t, srv, s))
			require.Equal(t, []string{"7|seven|8", "3001|x|0"}, rows(t, srv, "SELECT * FROM "+s+".users WHERE id IN (7, 3001) ORDER BY id"))
			st := m.Stats()
			require.EqualValues(t, 7000, st.Loaded)
			require.EqualValues(t, 7100, st.Inserts)
			require.EqualValues(t, 10, st.Transactions)
			require.Zero(t, st.Fallbacks)
			require.Equal(t, "0", markers(t, srv, s))
		})
	}
}

func TestPiecesWithoutTheirCheckpointAreTakenBack(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			s := srv.Schema(t)
			srv.Exec(t, fmt.Sprintf(legacy(kind, usersSQL), s))
			u := users(s)
			first := openSink(t, srv, &MySQLOptions{Name: s})
			require.NoError(t, first.Apply(t.Context(), copied(1, u, 0, 2000, 1000)))
			before := held(t, srv, s)

			// Two of the four pieces of the next run are committed and a third is
			// not yet, when the process dies.
			run := copied(3, u, 2000, 6000, 1000)
			pieces, err := first.share(t.Context(), run)
			require.NoError(t, err)
			require.Len(t, pieces, 4)
			for _, i := range []int{0, 2} {
				require.NoError(t, first.loader.helpers[i].piece(t.Context(), first, i, pieces[i]))
			}
			require.NotEqual(t, before, held(t, srv, s))
			require.Equal(t, "2", markers(t, srv, s))
			half := first.loader.helpers[1]
			require.NoError(t, half.write(t.Context(), nil, func() {
				half.writer.statement("BEGIN", uncounted)
				half.writer.statement("SELECT 1 FROM "+first.cpTable+" WHERE name='"+s+"' LOCK IN SHARE MODE", uncounted)
				half.writer.statement("INSERT INTO "+s+".users VALUES (100000, 'half', 0)", uncounted)
			}))

			// The next start ends the one that holds the checkpoint's row.
			second := openSink(t, srv, &MySQLOptions{Name: s})
			at, err := second.Checkpoint(t.Context())
			require.NoError(t, err)
			require.Equal(t, dfs.Checkpoint{Seq: 2, Pos: "pos 2"}, at)
			require.Equal(t, before, held(t, srv, s))
			require.Equal(t, "0", markers(t, srv, s))
			_, err = half.exec(t.Context(), []byte("COMMIT"))
			require.ErrorIs(t, err, dfs.ErrTransient)
			require.Equal(t, before, held(t, srv, s))

			// What is left of the first writes nothing any more.
			first.loader.helpers[3].drop()
			s3, err := openSession(t.Context(), first.connector, false)
			require.NoError(t, err)
			first.loader.helpers[3].use(s3)
			err = first.loader.helpers[3].piece(t.Context(), first, 3, pieces[3])
			require.ErrorIs(t, err, dfs.ErrConflict)
			first.loader.helpers[3].drop()
			require.Equal(t, before, held(t, srv, s))

			// The source may cut what comes again in another way.
			require.NoError(t, second.Apply(t.Context(), copied(3, u, 2000, 6000, 777)))
			require.Equal(t, fmt.Sprintf("6000|%d", 6000*5999/2), held(t, srv, s))
			require.EqualValues(t, 4000, second.Stats().Loaded)
		})
	}
}

func TestARowInTheWayOfALoadIsAConflictThatNamesIt(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, fmt.Sprintf(usersSQL, s), "INSERT INTO "+s+".users VALUES (1700, 'there', 0)")
	u := users(s)
	m := openSink(t, srv, &MySQLOptions{Name: s})
	err := m.Apply(t.Context(), copied(1, u, 0, 4000, 1000))
	var conflict *ConflictError
	require.ErrorAs(t, err, &conflict)
	require.Equal(t, "id=1700", conflict.Key)
	require.EqualValues(t, 2, conflict.Seq)
	require.Equal(t, "0", markers(t, srv, s))
	at, err := m.Checkpoint(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, at.Seq, "what came before it is applied")
	require.Equal(t, "1001|501200", held(t, srv, s))

	srv.Exec(t, "DELETE FROM "+s+".users WHERE id=1700")
	require.NoError(t, m.Apply(t.Context(), copied(1, u, 0, 4000, 1000)[1:]))
	require.Equal(t, fmt.Sprintf("4000|%d", 4000*3999/2), held(t, srv, s))
}

func TestLoadCutOffAtAnyMomentIsExact(t *testing.T) {
	for _, kind := range []testenv.Kind{testenv.MySQL97, testenv.MariaDB} {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			s := srv.Schema(t)
			srv.Exec(t, fmt.Sprintf(legacy(kind, usersSQL), s))
			u := users(s)
			seed := testseed.New(t)
			rng := rand.New(rand.NewPCG(seed, 1))
			const total = 20000
			var took time.Duration
			cut := 0
			for next := 0; next < total; {
				m := openSink(t, srv, &MySQLOptions{Name: s, Loaders: 3})
				at, err := m.Checkpoint(t.Context())
				require.NoError(t, err)
				next = int(at.Seq) * 500
				require.Equal(t, fmt.Sprintf("%d|%d", next, next*(next-1)/2), held(t, srv, s), "at %d", at.Seq)
				if next == total {
					break
				}
				n := min(next+3000, total)
				ctx, cancel := t.Context(), context.CancelFunc(func() {})
				if took > 0 && rng.IntN(4) > 0 {
					ctx, cancel = context.WithTimeout(ctx, time.Duration(rng.Int64N(int64(took))))
				}
				begun := time.Now()
				if err := m.Apply(ctx, copied(at.Seq+1, u, next, n, 500)); err != nil {
					require.Error(t, ctx.Err(), err)
					cut++
				} else {
					took = time.Since(begun)
				}
				cancel()
				require.NoError(t, m.Close())
			}
			t.Log("cut off", cut, "times")
		})
	}
}

func TestAccountThatMayNotDeleteMarkersLoadsByOneConnection(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, fmt.Sprintf(usersSQL, s), "CREATE USER sink_nomarks IDENTIFIED BY 's3cret'",
		"GRANT CREATE, SELECT, INSERT, UPDATE ON "+s+".* TO sink_nomarks", "GRANT DELETE ON "+s+".users TO sink_nomarks")
	t.Cleanup(func() { srv.Exec(t, "DROP USER sink_nomarks") })
	m, err := OpenMySQL(t.Context(), "sink_nomarks:s3cret@tcp("+srv.Addr()+")/", &MySQLOptions{Name: s, Schema: s})
	require.NoError(t, err)
	defer m.Close()
	require.NoError(t, m.Apply(t.Context(), copied(1, users(s), 0, 3000, 1000)))
	require.Zero(t, m.Stats().Loaded)
	require.Equal(t, fmt.Sprintf("3000|%d", 3000*2999/2), held(t, srv, s))
}

func TestRowsThatOverwriteTakeThePlaceOfTheirKeyOnly(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			s := srv.Schema(t)
			srv.Exec(t, fmt.Sprintf(legacy(kind, usersSQL), s))
			u := users(s)
			m := openSink(t, srv, &MySQLOptions{Name: s})
			over := func(id int, name string, n int) dfs.Change {
				c := ins(u, user(id, name, n))
				c.NoForeignKeys, c.Overwrite = true, true
				return c
			}
			var first, again []dfs.Change
			for i := range 200 {
				first = append(first, ins(u, user(i, fmt.Sprint("u", i), i)))
				if i < 100 {
					// Unique values move on by one row, and some rows are new.
					again = append(again, over(i, fmt.Sprint("u", (i+1)%100), -i), over(1000+i, fmt.Sprint("new", i), i))
				}
			}
			require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(1, first...)}))
			require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(2, again...), txn(3, upd(u, user(1000, "new0", 0), user(1000, "newer", 1)))}))
			require.Equal(t, []string{"300|200"}, rows(t, srv, "SELECT COUNT(*), SUM(n<=0 OR id>=1000 AND n>=0) FROM "+s+".users"))
			require.Equal(t, []string{"0|u1|0", "99|u0|-99", "100|u100|100", "1000|newer|1"},
				rows(t, srv, "SELECT * FROM "+s+".users WHERE id IN (0, 99, 100, 1000) ORDER BY id"))
			require.Zero(t, m.Stats().Fallbacks)

			// A row that has another key is in the way, and stays.
			err := m.Apply(t.Context(), []*dfs.Transaction{txn(4, over(5, "u150", 5))})
			var conflict *ConflictError
			require.ErrorAs(t, err, &conflict)
			require.Equal(t, "id=5", conflict.Key)
			require.ErrorContains(t, err, "the policy overwrite deletes that row, which comes again if it is to be copied")
			require.Equal(t, []string{"5|u6|-5", "150|u150|150"}, rows(t, srv, "SELECT * FROM "+s+".users WHERE id IN (5, 150) ORDER BY id"))
		})
	}
}

// Rows of old hold unique values that have moved on since; those that are copied
// later are away for a moment.
func TestRowsThatSwapUniqueValuesOverwriteByPolicy(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, fmt.Sprintf(usersSQL, s), "INSERT INTO "+s+".users VALUES (1, 'a', 0), (2, 'b', 0), (3, 'c', 0)")
	m := openSink(t, srv, &MySQLOptions{Name: s, Conflicts: []ConflictRule{{s + ".*", PolicyOverwrite}}})
	for i, name := range []string{"b", "c", "a"} {
		c := ins(users(s), user(i+1, name, 1))
		c.NoForeignKeys, c.Overwrite = true, true
		require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(uint64(i+1), c)}))
	}
	require.Equal(t, []string{"1|b|1", "2|c|1", "3|a|1"}, rows(t, srv, "SELECT * FROM "+s+".users ORDER BY id"))
}

func TestRowsWithoutAKeyCannotOverwrite(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+s+".users (id int, name varchar(40), n int)")
	m := openSink(t, srv, &MySQLOptions{Name: s})
	c := ins(users(s), user(1, "a", 1))
	c.Overwrite = true
	require.ErrorContains(t, m.Apply(t.Context(), []*dfs.Transaction{txn(1, c)}), "add a primary key there")
}

func TestFewerConnectionsLoadWhereTheServerGivesNoMore(t *testing.T) {
	for limit, loaded := range map[int]int{1: 0, 3: 3000} {
		srv := testenv.Shared(t, testenv.MySQL97)
		s := srv.Schema(t)
		account := fmt.Sprintf("sink_few%d", limit)
		srv.Exec(t, fmt.Sprintf(usersSQL, s), fmt.Sprintf("CREATE USER %s IDENTIFIED BY 's3cret' WITH MAX_USER_CONNECTIONS %d", account, limit),
			"GRANT ALL ON "+s+".* TO "+account)
		t.Cleanup(func() { srv.Exec(t, "DROP USER "+account) })
		m, err := OpenMySQL(t.Context(), account+":s3cret@tcp("+srv.Addr()+")/", &MySQLOptions{Name: s, Schema: s})
		require.NoError(t, err)
		require.NoError(t, m.Apply(t.Context(), copied(1, users(s), 0, 3000, 1000)))
		require.EqualValues(t, loaded, m.Stats().Loaded)
		require.Equal(t, fmt.Sprintf("3000|%d", 3000*2999/2), held(t, srv, s))

		// At the end of the copy the connections are given back.
		end := txn(4)
		end.Snapshot, end.Copied = true, true
		require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{end}))
		for _, h := range m.loader.helpers {
			require.Nil(t, h.sess)
		}
		require.NoError(t, m.Close())
	}
}

func TestAStartCutOffInItsFirstRunIsNotFresh(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, fmt.Sprintf(usersSQL, s))
	first := openSink(t, srv, &MySQLOptions{Name: s})
	_, err := first.Checkpoint(t.Context())
	require.NoError(t, err)
	require.NoError(t, first.prepareLoad(t.Context()))
	pieces, err := first.share(t.Context(), copied(1, users(s), 0, 2000, 1000))
	require.NoError(t, err)
	require.NoError(t, first.loader.helpers[1].piece(t.Context(), first, 1, pieces[1]))

	// Else the rows of the piece would be taken for ones that were there before.
	second := openSink(t, srv, &MySQLOptions{Name: s})
	fresh, err := second.Fresh(t.Context())
	require.NoError(t, err)
	require.False(t, fresh)
	_, err = second.Checkpoint(t.Context())
	require.NoError(t, err)
	require.Equal(t, "0|0", held(t, srv, s))
	fresh, err = second.Fresh(t.Context())
	require.NoError(t, err)
	require.True(t, fresh)
}

func TestMarkersEndWithTheirCheckpoint(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, fmt.Sprintf(usersSQL, s))
	first := openSink(t, srv, &MySQLOptions{Name: s})
	_, err := first.Checkpoint(t.Context())
	require.NoError(t, err)
	require.NoError(t, first.prepareLoad(t.Context()))
	pieces, err := first.share(t.Context(), copied(1, users(s), 0, 2000, 1000))
	require.NoError(t, err)
	require.NoError(t, first.loader.helpers[0].piece(t.Context(), first, 0, pieces[0]))

	// The user gives the copy up, brings the rows by a dump, and begins anew.
	srv.Exec(t, "DELETE FROM dfs.dfs_checkpoint WHERE name='"+s+"'")
	have := held(t, srv, s)
	require.NotEqual(t, "0|0", have)
	second := openSink(t, srv, &MySQLOptions{Name: s})
	_, err = second.Checkpoint(t.Context())
	require.NoError(t, err)
	require.Equal(t, have, held(t, srv, s))
	require.Equal(t, "0", markers(t, srv, s))
}

func TestARowThatIsIgnoredDoesNotTakeThePlaceItWasToTake(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, fmt.Sprintf(usersSQL, s), "INSERT INTO "+s+".users VALUES (5, 'old', 1), (150, 'u150', 2)")
	m := openSink(t, srv, &MySQLOptions{Name: s, Conflicts: []ConflictRule{{s + ".*", PolicyIgnore}}})
	over := func(id int, name string) dfs.Change {
		c := ins(users(s), user(id, name, 9))
		c.NoForeignKeys, c.Overwrite = true, true
		return c
	}
	require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(1, over(4, "four"), over(5, "u150"), over(6, "six"))}))
	require.Equal(t, []string{"4|four|9", "5|old|1", "6|six|9", "150|u150|2"}, rows(t, srv, "SELECT * FROM "+s+".users ORDER BY id"))
}

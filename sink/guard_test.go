package sink

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"
)

// countedConn counts what is sent.
type countedConn struct {
	net.Conn
	writes *atomic.Int64
}

func (c *countedConn) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

func TestSmallRunsTakeOneRoundTrip(t *testing.T) {
	var writes atomic.Int64
	mysql.RegisterDialContext("counted", func(ctx context.Context, addr string) (net.Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", addr)
		return &countedConn{conn, &writes}, err
	})
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			s := srv.Schema(t)
			srv.Exec(t, "CREATE TABLE "+s+".p (id int PRIMARY KEY, x int, y int)")
			p := pairTable(s, "p")
			m, err := OpenMySQL(t.Context(), "root@counted("+srv.Addr()+")/", &MySQLOptions{Name: s})
			require.NoError(t, err)
			defer m.Close()
			seq := uint64(0)
			apply := func(changes ...dfs.Change) (int64, error) {
				before := writes.Load()
				err := m.Apply(t.Context(), []*dfs.Transaction{txn(seq+1, changes...)})
				if err == nil {
					seq++
				}
				return writes.Load() - before, err
			}
			_, err = apply(pairs(dfs.Insert, p, 0, 1)...) // reads about the table
			require.NoError(t, err)
			for _, changes := range [][]dfs.Change{pairs(dfs.Insert, p, 1, 3), pairs(dfs.Update, p, 0, 1), pairs(dfs.Update, p, 1, 2),
				pairs(dfs.Delete, p, 0, 2), append(pairs(dfs.Insert, p, 7, 1), pairs(dfs.Delete, p, 2, 1)...)} {
				n, err := apply(changes...)
				require.NoError(t, err)
				require.EqualValues(t, 1, n, changes)
			}
			require.Equal(t, []string{"3|10|20", "7|10|20"}, rows(t, srv, "SELECT * FROM "+s+".p ORDER BY id"))
			require.Zero(t, m.Stats().Fallbacks)

			// A statement that finds no row, behind one that has written some.
			for _, op := range []dfs.Op{dfs.Update, dfs.Delete} {
				for _, missing := range []int{1, 2} {
					_, err = apply(append(pairs(dfs.Insert, p, 20, 1), pairs(op, p, 30, missing)...)...)
					var conflict *ConflictError
					require.ErrorAs(t, err, &conflict)
					require.Equal(t, "id=30", conflict.Key)
					require.Equal(t, []string{"3|10|20", "7|10|20"}, rows(t, srv, "SELECT * FROM "+s+".p ORDER BY id"))
				}
			}
			at, err := m.Checkpoint(t.Context())
			require.NoError(t, err)
			require.Equal(t, seq, at.Seq)

			// Somebody has taken the checkpoint over, or it is gone.
			for sql, want := range map[string]error{"UPDATE dfs.dfs_checkpoint SET owner='another' WHERE name='%s'": dfs.ErrConflict,
				"UPDATE dfs.dfs_checkpoint SET seq=seq+1 WHERE name='%s'": dfs.ErrConflict, "DELETE FROM dfs.dfs_checkpoint WHERE name='%s'": dfs.ErrLost} {
				m := openSink(t, srv, &MySQLOptions{Name: s})
				at, err := m.Checkpoint(t.Context())
				require.NoError(t, err)
				require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(at.Seq+1, pairs(dfs.Update, p, 3, 1)...)}))
				srv.Exec(t, fmt.Sprintf(sql, s))
				err = m.Apply(t.Context(), []*dfs.Transaction{txn(at.Seq+2, pairs(dfs.Insert, p, 20, 1)...)})
				require.ErrorIs(t, err, want)
				require.Equal(t, []string{"3|11|20", "7|10|20"}, rows(t, srv, "SELECT * FROM "+s+".p ORDER BY id"))
				srv.Exec(t, "UPDATE "+s+".p SET x=10 WHERE id=3")
			}
		})
	}
}

// Where the target stands is also known after rows that were loaded by several connections:
// the statements that put a lost checkpoint back had the number from before them.
func TestALostCheckpointIsPutBackBehindLoadedRows(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, fmt.Sprintf(usersSQL, s))
	m := openSink(t, srv, &MySQLOptions{Name: s})
	run := copied(1, users(s), 0, 4000, 1000)
	require.NoError(t, m.Apply(t.Context(), run))
	require.EqualValues(t, 4000, m.Stats().Loaded)
	var before string
	stored := "SELECT CONCAT_WS('|',seq,pos,id,owner) FROM dfs.dfs_checkpoint WHERE name=?"
	db := srv.DB(t)
	require.NoError(t, db.QueryRow(stored, s).Scan(&before))
	srv.Exec(t, "DELETE FROM dfs.dfs_checkpoint WHERE name='"+s+"'")
	err := m.Apply(t.Context(), copied(5, users(s), 4000, 4001, 1))
	require.ErrorIs(t, err, dfs.ErrLost)
	_, sql, ok := strings.Cut(err.Error(), "before anything else, by: ")
	require.True(t, ok, err)
	sql, _, _ = strings.Cut(sql, "; then start again")
	srv.Exec(t, sql)
	var after string
	require.NoError(t, db.QueryRow(stored, s).Scan(&after))
	require.Equal(t, before, after)
}

package sink_test

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/sink"
)

// mended is a target with rows of a table, on PostgreSQL or in a file.
type mended struct {
	m     *sink.RowMender
	to    *dfs.Table
	sink  dfs.Sink
	count func(q string) string
}

func eachMended(t *testing.T, f func(t *testing.T, k mended)) {
	source := oneColumn("t", "varchar(20)")
	start := func(t *testing.T, s dfs.Sink) {
		_, err := s.Checkpoint(t.Context())
		require.NoError(t, err)
		require.NoError(t, s.Apply(t.Context(), []*dfs.Transaction{put(1, source, dfs.StringValue("a"), dfs.StringValue("b"), dfs.StringValue("b"))}))
	}
	t.Run("postgres", func(t *testing.T) {
		srv := testenv.SharedPostgres(t)
		schema := srv.Schema(t)
		srv.Exec(t, "CREATE TABLE "+schema+".t (id int PRIMARY KEY, c text)")
		s := openPostgres(t, srv, schema, nil)
		defer s.Close()
		start(t, s)
		m, err := sink.MendPostgres(t.Context(), srv.DSN(), &sink.PostgresOptions{Name: schema, Schema: schema})
		require.NoError(t, err)
		defer m.Close()
		to, err := m.Table(t.Context(), schema, "t")
		require.NoError(t, err)
		f(t, mended{m, to, s, func(q string) string { return srv.Query(t, "SET search_path="+schema+"; "+q)[0][0] }})
	})
	t.Run("sqlite", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "target.db")
		db := openFile(t, path)
		_, err := db.Exec("CREATE TABLE t (id INTEGER PRIMARY KEY, c TEXT)")
		require.NoError(t, err)
		s := openSQLite(t, path, nil)
		defer s.Close()
		start(t, s)
		m, err := sink.MendSQLite(t.Context(), path, nil)
		require.NoError(t, err)
		defer m.Close()
		to, err := m.Table(t.Context(), "source", "t")
		require.NoError(t, err)
		f(t, mended{m, to, s, func(q string) (out string) {
			require.NoError(t, db.QueryRow(q).Scan(&out))
			return out
		}})
	})
}

// While a transaction mends, the pipeline commits nothing; then it goes on from where it
// stood.
func TestWhileRowsAreMendedThePipelineWaits(t *testing.T) {
	eachMended(t, func(t *testing.T, k mended) {
		source := oneColumn("t", "varchar(20)")
		applied := make(chan error, 1)
		err := k.m.Mend(t.Context(), func(at dfs.Checkpoint) error {
			require.EqualValues(t, 1, at.Seq)
			require.EqualValues(t, "x", at.Pos)
			begun := make(chan bool)
			go func() {
				close(begun)
				applied <- k.sink.Apply(t.Context(), []*dfs.Transaction{put(2, source, dfs.StringValue("c"))})
			}()
			<-begun
			for range 20 { // each of which would let a sink through that does not wait
				at, err := k.m.Checkpoint(t.Context())
				require.NoError(t, err)
				require.EqualValues(t, 1, at.Seq)
				time.Sleep(time.Millisecond)
			}
			require.Empty(t, applied)
			n, err := k.m.Write(t.Context(), k.to, nil, []dfs.Change{{Table: source, After: dfs.Row{dfs.IntValue(7), dfs.StringValue("new")}}})
			require.NoError(t, err)
			require.EqualValues(t, 1, n)
			return nil
		})
		require.NoError(t, err)
		require.NoError(t, <-applied)
		require.Equal(t, "5", k.count("SELECT COUNT(*) FROM t"))
		require.Equal(t, "2", k.count("SELECT seq FROM dfs_checkpoint"))
	})
}

// Rows are written, updated, deleted and chosen; an error undoes all, and outside of Mend
// nothing is done.
func TestARowMenderWritesWithinItsTransactionOnly(t *testing.T) {
	eachMended(t, func(t *testing.T, k mended) {
		source := oneColumn("t", "varchar(20)")
		m, ctx := k.m, t.Context()
		key := func(id int64) dfs.Row {
			forms, err := m.Stored(ctx, source, k.to, dfs.Row{dfs.IntValue(id), dfs.NullValue()})
			require.NoError(t, err)
			return dfs.Row{forms[0]}
		}
		row := func(id int64, c dfs.Value) []dfs.Change {
			return []dfs.Change{{Table: source, After: dfs.Row{dfs.IntValue(id), c}}}
		}
		_, err := m.Write(ctx, k.to, key(100), nil)
		require.ErrorContains(t, err, "outside of Mend")
		_, err = m.Remove(ctx, k.to, func(dfs.Row) bool { return true })
		require.ErrorContains(t, err, "outside of Mend")

		wrong := errors.New("wrong")
		within := func(last error) error {
			return m.Mend(ctx, func(dfs.Checkpoint) error {
				n, err := m.Write(ctx, k.to, key(100), nil)
				require.NoError(t, err)
				require.EqualValues(t, 1, n)
				n, err = m.Write(ctx, k.to, key(101), row(101, dfs.StringValue("other")))
				require.NoError(t, err)
				require.EqualValues(t, 1, n)
				n, err = m.Write(ctx, k.to, key(5), row(5, dfs.StringValue("no such row")))
				require.NoError(t, err)
				require.Zero(t, n)
				_, err = m.Write(ctx, k.to, nil, row(5, dfs.AbsentValue()))
				require.NoError(t, err)
				left := 1
				n, err = m.Remove(ctx, k.to, func(row dfs.Row) bool {
					if row[1].String() != "b" {
						return false
					}
					left--
					return left >= 0
				})
				require.NoError(t, err)
				require.EqualValues(t, 1, n)
				require.ErrorContains(t, m.Mend(ctx, func(dfs.Checkpoint) error { return nil }), "a transaction of this RowMender is open")
				return last
			})
		}
		require.ErrorIs(t, within(wrong), wrong)
		require.Equal(t, "3", k.count("SELECT COUNT(*) FROM t"))
		require.NoError(t, within(nil))
		require.Equal(t, "2", k.count("SELECT COUNT(*) FROM t"))
		require.Equal(t, "1", k.count("SELECT COUNT(*) FROM t WHERE id=101 AND c='other'"))
		require.Equal(t, "1", k.count("SELECT COUNT(*) FROM t WHERE id=5 AND c IS NULL"))

		// What the target refuses is told, and undone.
		err = m.Mend(ctx, func(dfs.Checkpoint) error {
			_, err := m.Write(ctx, k.to, nil, row(6, dfs.StringValue("x")))
			require.NoError(t, err)
			_, err = m.Write(ctx, k.to, nil, row(101, dfs.StringValue("x")))
			return err
		})
		require.ErrorContains(t, err, "another row of the target has a value that must be unique")
		require.NotErrorIs(t, err, dfs.ErrTransient)
		require.Equal(t, "0", k.count("SELECT COUNT(*) FROM t WHERE id=6"))
	})
}

// Once the connection is lost, nothing more is done by another, which has no transaction.
func TestARowMenderThatLosesItsConnectionDoesNothingMore(t *testing.T) {
	srv := testenv.SharedPostgres(t)
	schema := srv.Schema(t)
	source := oneColumn("t", "varchar(20)")
	srv.Exec(t, "CREATE TABLE "+schema+".t (id int PRIMARY KEY, c text)")
	s := openPostgres(t, srv, schema, nil)
	defer s.Close()
	_, err := s.Checkpoint(t.Context())
	require.NoError(t, err)
	m, err := sink.MendPostgres(t.Context(), srv.DSN()+"?application_name=mender_"+schema, &sink.PostgresOptions{Name: schema, Schema: schema})
	require.NoError(t, err)
	defer m.Close()
	to, err := m.Table(t.Context(), schema, "t")
	require.NoError(t, err)
	write := func(id int64) error {
		_, err := m.Write(t.Context(), to, nil, []dfs.Change{{Table: source, After: dfs.Row{dfs.IntValue(id), dfs.NullValue()}}})
		return err
	}
	err = m.Mend(t.Context(), func(dfs.Checkpoint) error {
		require.NoError(t, write(1))
		require.Equal(t, [][]string{{"t"}}, srv.Query(t, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name='mender_"+schema+"'"))
		id := int64(10)
		require.Eventually(t, func() bool { id++; return write(id) != nil }, time.Minute, time.Millisecond)
		err := write(3)
		require.ErrorIs(t, err, dfs.ErrTransient)
		_, err = m.Checkpoint(t.Context())
		require.ErrorContains(t, err, "was lost within a transaction")
		return nil
	})
	require.ErrorIs(t, err, dfs.ErrTransient)
	require.Empty(t, srv.Query(t, "SELECT * FROM "+schema+".t"))
	require.NoError(t, m.Mend(t.Context(), func(dfs.Checkpoint) error { return write(4) }), "the next has a connection of its own")
	require.Equal(t, [][]string{{"4"}}, srv.Query(t, "SELECT id FROM "+schema+".t"))
}

package sink_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/sink"
	"github.com/stretchr/testify/require"
)

// A forgetful is a target that loses its checkpoint.
type forgetful struct {
	open  func(t *testing.T) dfs.Sink
	exec  func(t *testing.T, sql string)
	count func(t *testing.T) string // row 0 of the ledger, which counts the transactions
	ways  map[string]string         // to lose it
}

const forgetfulDDL = "(id bigint PRIMARY KEY, n bigint NOT NULL, note varchar(40))"

func forgetfulTargets(t *testing.T) map[string]func(t *testing.T) forgetful {
	quiet := slog.New(slog.DiscardHandler)
	all := map[string]func(t *testing.T) forgetful{
		"SQLite": func(t *testing.T) forgetful {
			path := filepath.Join(t.TempDir(), "target.db")
			db := openFile(t, path)
			exec := func(t *testing.T, q string) { _, err := db.Exec(q); require.NoError(t, err) }
			exec(t, "CREATE TABLE ledger "+forgetfulDDL)
			return forgetful{
				open: func(t *testing.T) dfs.Sink {
					s := openSQLite(t, path, &sink.SQLiteOptions{Name: "it's", Logger: quiet})
					t.Cleanup(func() { s.Close() })
					return s
				},
				exec: exec,
				count: func(t *testing.T) (n string) {
					require.NoError(t, db.QueryRow("SELECT n FROM ledger WHERE id=0").Scan(&n))
					return n
				},
				ways: map[string]string{"table": "DROP TABLE dfs_checkpoint", "row": "DELETE FROM dfs_checkpoint"},
			}
		},
		"PostgreSQL": func(t *testing.T) forgetful {
			srv := testenv.SharedPostgres(t)
			s := srv.Schema(t)
			srv.Exec(t, "CREATE TABLE "+s+".ledger "+forgetfulDDL)
			own := s + "_own"
			t.Cleanup(func() { srv.Exec(t, "DROP SCHEMA IF EXISTS "+own+" CASCADE") })
			return forgetful{
				open: func(t *testing.T) dfs.Sink {
					p, err := sink.OpenPostgres(t.Context(), srv.DSN(), &sink.PostgresOptions{Name: "it's", Schema: own, Routes: []sink.Route{{From: "source.*", To: s + ".*"}}, Logger: quiet})
					require.NoError(t, err)
					t.Cleanup(func() { p.Close() })
					return p
				},
				exec:  func(t *testing.T, q string) { srv.Exec(t, q) },
				count: func(t *testing.T) string { return srv.Query(t, "SELECT n FROM "+s+".ledger WHERE id=0")[0][0] },
				ways: map[string]string{"table": "DROP TABLE " + own + ".dfs_checkpoint", "row": "DELETE FROM " + own + ".dfs_checkpoint",
					"schema": "DROP SCHEMA " + own + " CASCADE"},
			}
		},
	}
	for _, kind := range testenv.Kinds() {
		all[string(kind)] = func(t *testing.T) forgetful {
			srv := testenv.Shared(t, kind)
			s := srv.Schema(t)
			srv.Exec(t, "CREATE TABLE "+s+".ledger "+forgetfulDDL)
			own := s + "_own"
			t.Cleanup(func() { srv.Exec(t, "DROP DATABASE IF EXISTS "+own) })
			return forgetful{
				open: func(t *testing.T) dfs.Sink {
					m, err := sink.OpenMySQL(t.Context(), srv.DSN(""), &sink.MySQLOptions{Name: "it's", Schema: own, Routes: []sink.Route{{From: "source.*", To: s + ".*"}}, Logger: quiet})
					require.NoError(t, err)
					t.Cleanup(func() { m.Close() })
					return m
				},
				exec: func(t *testing.T, q string) { srv.Exec(t, q) },
				count: func(t *testing.T) (n string) {
					require.NoError(t, srv.DB(t).QueryRow("SELECT n FROM "+s+".ledger WHERE id=0").Scan(&n))
					return n
				},
				ways: map[string]string{"table": "DROP TABLE " + own + ".dfs_checkpoint", "row": "DELETE FROM " + own + ".dfs_checkpoint",
					"schema": "DROP DATABASE " + own},
			}
		}
	}
	return all
}

// A checkpoint that somebody takes away is told, with the statements that put it back
// exactly where the rows stand. Nothing is applied without it.
func TestACheckpointThatIsLostIsToldWithItsCure(t *testing.T) {
	for name, make := range forgetfulTargets(t) {
		t.Run(name, func(t *testing.T) {
			for way := range make(t).ways {
				t.Run(way, func(t *testing.T) {
					f := make(t)
					k, table := f.open(t), ledger()
					_, err := k.Checkpoint(t.Context())
					require.NoError(t, err)
					apply := func(from, to uint64) error {
						var batch []*dfs.Transaction
						for seq := from; seq <= to; seq++ {
							batch = append(batch, entry(table, seq, false))
						}
						return k.Apply(t.Context(), batch)
					}
					require.NoError(t, apply(1, 6))
					f.exec(t, f.ways[way])
					lost := apply(7, 9)
					require.ErrorIs(t, lost, dfs.ErrLost)
					require.ErrorContains(t, lost, "stand at transaction 6")
					require.NotErrorIs(t, lost, dfs.ErrConflict)
					_, again := k.Checkpoint(t.Context())
					require.ErrorIs(t, again, dfs.ErrLost)
					require.Equal(t, "6", f.count(t), "nothing is applied without it")

					_, sql, _ := strings.Cut(again.Error(), "by: ")
					sql, _, found := strings.Cut(sql, "; then start again")
					require.True(t, found, again)
					for s := range strings.SplitSeq(sql, "; ") {
						f.exec(t, s)
					}
					want := dfs.Checkpoint{Seq: 6, Pos: "at 6", State: "state 5"}
					at, err := k.Checkpoint(t.Context())
					require.NoError(t, err)
					require.Equal(t, want, at)
					require.NoError(t, apply(7, 9))
					require.Equal(t, "9", f.count(t))
					at, err = f.open(t).Checkpoint(t.Context())
					require.NoError(t, err)
					require.Equal(t, dfs.Checkpoint{Seq: 9, Pos: "at 9", State: "state 5"}, at)
				})
			}
		})
	}
}

// A file that is deleted or replaced takes nothing any more, as that would end with the
// process, and no new file is begun in its place.
func TestAFileThatIsGoneTakesNothingMore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "target.db")
	_, err := openFile(t, path).Exec("CREATE TABLE ledger " + forgetfulDDL)
	require.NoError(t, err)
	s := openSQLite(t, path, nil)
	defer s.Close()
	table := ledger()
	require.NoError(t, s.Apply(t.Context(), []*dfs.Transaction{entry(table, 1, false)}))
	away := func(paths ...string) {
		for i := 0; i < len(paths); i += 2 {
			for _, more := range []string{"", "-wal", "-shm"} {
				if err := os.Rename(paths[i]+more, paths[i+1]+more); !errors.Is(err, os.ErrNotExist) {
					require.NoError(t, err)
				}
			}
		}
	}
	away(path, path+".away")
	err = s.Apply(t.Context(), []*dfs.Transaction{entry(table, 2, false)})
	require.ErrorIs(t, err, dfs.ErrLost)
	require.ErrorContains(t, err, "put it back")
	for range 2 {
		_, err = s.Checkpoint(t.Context())
		require.ErrorIs(t, err, dfs.ErrLost)
	}
	require.NoFileExists(t, path)
	away(path+".away", path)
	at, err := s.Checkpoint(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, at.Seq)
	require.NoError(t, s.Apply(t.Context(), []*dfs.Transaction{entry(table, 2, false)}))
}

// Connections that take turns tell it too.
func TestALostCheckpointIsToldByOverlappingBatches(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+s+".ledger "+forgetfulDDL)
	m, err := sink.OpenMySQL(t.Context(), srv.DSN(""), &sink.MySQLOptions{Name: s, Schema: s, Routes: []sink.Route{{From: "source.*", To: s + ".*"}}, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	defer m.Close()
	table := ledger()
	seq := uint64(0)
	next := func() []*dfs.Transaction {
		var batch []*dfs.Transaction
		for range 4000 {
			seq++
			n := dfs.IntValue(int64(seq))
			batch = append(batch, &dfs.Transaction{Checkpoint: dfs.Checkpoint{Seq: seq, Pos: dfs.Position(fmt.Sprint("at ", seq))},
				Changes: []dfs.Change{{Op: dfs.Insert, Table: table, After: dfs.Row{n, n, dfs.StringValue("x")}}}})
		}
		return batch
	}
	_, err = m.Checkpoint(t.Context())
	require.NoError(t, err)
	err = m.ApplyEach(t.Context(), next, func(at uint64) error {
		if at > 20000 {
			srv.Exec(t, "DROP TABLE IF EXISTS "+s+".dfs_checkpoint")
		}
		return nil
	})
	require.ErrorIs(t, err, dfs.ErrLost)
	require.Positive(t, m.Stats().Turns)
	// What it says is where the rows are.
	var rows uint64
	require.NoError(t, srv.DB(t).QueryRow("SELECT COUNT(*) FROM "+s+".ledger").Scan(&rows))
	require.ErrorContains(t, err, fmt.Sprintf("stand at transaction %d.", rows))
}

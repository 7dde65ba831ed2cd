package sink_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/childproc"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/sink"
	"github.com/stretchr/testify/require"
)

// otherKills is how often TestPostgresAndSQLiteSurviveKill kills a writer of each.
var otherKills = flag.Int("otherkills", 10, "how often a writer to PostgreSQL and SQLite is killed")

// ledger is a table whose rows tell which transactions have been applied, and how
// often: transaction n counts row 0 up from n-1, and inserts row n.
func ledger() *dfs.Table {
	return &dfs.Table{Schema: "source", Name: "ledger", Key: []int{0}, Columns: []dfs.Column{
		{Name: "id", Type: "bigint"}, {Name: "n", Type: "bigint"}, {Name: "note", Type: "varchar(40)", Charset: "utf8mb4", Collation: "utf8mb4_bin", Nullable: true}}}
}

func entry(t *dfs.Table, seq uint64, more bool) *dfs.Transaction {
	row := func(id, n int64) dfs.Row {
		return dfs.Row{dfs.IntValue(id), dfs.IntValue(n), dfs.StringValue("it's \\ " + strconv.FormatInt(n, 10))}
	}
	n := int64(seq)
	first := dfs.Change{Op: dfs.Update, Table: t, Before: row(0, n-1), After: row(0, n)}
	if seq == 1 {
		first = dfs.Change{Op: dfs.Insert, Table: t, After: row(0, 1)}
	}
	tx := &dfs.Transaction{Checkpoint: dfs.Checkpoint{Seq: seq, Pos: dfs.Position(fmt.Sprint("at ", seq))}, More: more,
		Changes: []dfs.Change{first, {Op: dfs.Insert, Table: t, After: row(n, n)}}}
	if seq%5 == 0 {
		tx.State = fmt.Sprint("state ", seq)
	}
	return tx
}

// extra puts a statement in front of the rows of some transactions: one adds a column,
// and a later one drops it.
func extra(tx *dfs.Transaction) *dfs.Transaction {
	const add, drop = "ALTER TABLE ledger ADD COLUMN extra int NOT NULL DEFAULT 3", "ALTER TABLE ledger DROP COLUMN extra"
	query := map[uint64]string{7: add, 0: drop}[tx.Seq%14]
	if query != "" {
		tx.Changes = append([]dfs.Change{{Op: dfs.DDL, Query: query, Session: &dfs.Session{Schema: "source"}}}, tx.Changes...)
	}
	if tx.Seq%7 == 0 || tx.Seq%7 == 6 {
		tx.More = false // a statement begins a transaction
	}
	return tx
}

func init() { sink.OtherChild = otherChild }

// otherChild applies the ledger's transactions without end, in batches and parts of
// any size, and says where each Checkpoint stood.
func otherChild(target string) error {
	ctx := context.Background()
	var k dfs.Sink
	var err error
	if dsn, schema, ok := strings.Cut(target, " "); ok {
		k, err = sink.OpenPostgres(ctx, dsn, &sink.PostgresOptions{Name: schema, Schema: schema, Routes: []sink.Route{{From: "source.*", To: schema + ".*"}}, DDL: sink.PolicyApply, Logger: slog.New(slog.DiscardHandler)})
	} else {
		k, err = sink.OpenSQLite(ctx, target, &sink.SQLiteOptions{DDL: sink.PolicyApply, Logger: slog.New(slog.DiscardHandler)})
	}
	if err != nil {
		return err
	}
	at, err := k.Checkpoint(ctx)
	if err != nil {
		return err
	}
	t := ledger()
	for {
		fmt.Println(at.Seq)
		var batch []*dfs.Transaction
		for range 1 + rand.IntN(60) {
			at.Seq++
			batch = append(batch, extra(entry(t, at.Seq, rand.IntN(3) == 0)))
		}
		if err := k.Apply(ctx, batch); err != nil {
			return err
		}
	}
}

// A writer is killed at any moment, over and over: each transaction has been applied
// once, whole, and with its checkpoint.
func TestPostgresAndSQLiteSurviveKill(t *testing.T) {
	audit := func(t *testing.T, target string, query func(q string) [][]string, ledger, checkpoint, columns string) {
		seq, parts := uint64(0), 0
		for round := range *otherKills {
			cmd := exec.Command(os.Args[0], "-test.run=^$")
			cmd.Env = append(os.Environ(), "DFS_OTHER_CHILD="+target)
			out, err := cmd.StdoutPipe()
			require.NoError(t, err)
			cmd.Stderr = os.Stderr
			ended := make(chan error, 1)
			require.NoError(t, childproc.Start(cmd, func(err error) { ended <- err }))
			lines := bufio.NewScanner(out)
			for range 1 + rand.IntN(30) {
				require.True(t, lines.Scan(), "round %d: the writer has ended", round)
				_, err := strconv.ParseUint(lines.Text(), 10, 64)
				require.NoError(t, err, "round %d: %s", round, lines.Text())
			}
			// Into whatever it is doing.
			for range rand.IntN(2000) {
				time.Sleep(time.Microsecond)
			}
			require.NoError(t, cmd.Process.Kill())
			<-ended
			// What a killed process has sent may still be committed; a new owner waits for that.
			var now []string
			require.Eventually(t, func() bool {
				a := query("SELECT seq, pos, state FROM " + checkpoint)
				b := query("SELECT seq, pos, state FROM " + checkpoint)
				if len(a) == 0 || !slices.Equal(a[0], b[0]) {
					return false
				}
				now = a[0]
				rows := query("SELECT COALESCE(MAX(CASE WHEN id=0 THEN n END),0), COUNT(*), MAX(id), SUM(CASE WHEN id<>n THEN 1 ELSE 0 END) FROM " + ledger)
				return now[0] == "0" || rows[0][0] == now[0] && rows[0][2] == now[0]
			}, time.Minute, 10*time.Millisecond, "round %d", round)
			n, err := strconv.ParseUint(now[0], 10, 64)
			require.NoError(t, err)
			require.GreaterOrEqual(t, n, seq)
			if n == seq {
				parts++
			}
			if seq = n; seq == 0 {
				continue
			}
			require.Equal(t, fmt.Sprint("at ", seq), now[1])
			rows := query("SELECT COUNT(*), MIN(id), MAX(id), SUM(CASE WHEN id=0 AND n<>" + now[0] + " OR id>0 AND id<>n THEN 1 ELSE 0 END) FROM " + ledger)
			require.Equal(t, []string{fmt.Sprint(seq + 1), "0", now[0], "0"}, rows[0])
			// A statement is done if the checkpoint is past it, and only then.
			require.Equal(t, map[bool]string{true: "1", false: "0"}[seq%14 >= 7], query(columns)[0][0], "transaction %d", seq)
		}
		t.Logf("%d transactions in %d lives", seq, *otherKills)
		require.NotZero(t, seq)
	}
	t.Run("postgres", func(t *testing.T) {
		srv := testenv.SharedPostgres(t)
		schema := srv.Schema(t)
		srv.Exec(t, "CREATE TABLE "+schema+".ledger (id bigint PRIMARY KEY, n bigint NOT NULL, note varchar(40))")
		p := openPostgres(t, srv, schema, nil)
		require.NoError(t, p.Close())
		audit(t, srv.DSN()+" "+schema, func(q string) [][]string { return srv.Query(t, q) }, schema+".ledger", schema+".dfs_checkpoint",
			"SELECT COUNT(*) FROM information_schema.columns WHERE table_schema='"+schema+"' AND column_name='extra'")
	})
	t.Run("sqlite", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "target.db")
		db := openFile(t, path)
		_, err := db.Exec("CREATE TABLE ledger (id INTEGER PRIMARY KEY, n INTEGER NOT NULL, note TEXT)")
		require.NoError(t, err)
		s := openSQLite(t, path, nil)
		require.NoError(t, s.Close())
		query := func(q string) [][]string { return fileRows(t, db, q) }
		audit(t, path, query, "ledger", "dfs_checkpoint", "SELECT COUNT(*) FROM pragma_table_info('ledger') WHERE name='extra'")
		var sound string
		require.NoError(t, db.QueryRow("PRAGMA integrity_check").Scan(&sound))
		require.Equal(t, "ok", sound)
		require.NoError(t, openSQLite(t, path, nil).Close())
		left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".dfs-parts-*"))
		require.NoError(t, err)
		require.Empty(t, left)
	})
}

// A server that dies and comes back is an error that may pass, and nothing is lost or
// applied twice.
func TestPostgresIsKilledUnderLoad(t *testing.T) {
	srv := testenv.StartPostgres(t, "-c", "fsync=on")
	schema := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+schema+".ledger (id bigint PRIMARY KEY, n bigint NOT NULL, note varchar(40))")
	k, table := openPostgres(t, srv, schema, nil), ledger()
	defer k.Close()
	seq, deaths := uint64(0), 0
	for deaths < 4 {
		at, err := k.Checkpoint(t.Context())
		if errors.Is(err, dfs.ErrTransient) {
			require.NoError(t, srv.Restart(t.Context()))
			continue
		}
		require.NoError(t, err)
		require.GreaterOrEqual(t, at.Seq, seq)
		seq = at.Seq
		stop := make(chan error, 1)
		wait := time.Duration(rand.IntN(60)) * time.Millisecond
		go func() { time.Sleep(wait); stop <- srv.Kill() }()
		for err == nil {
			var batch []*dfs.Transaction
			for range 1 + rand.IntN(40) {
				at.Seq++
				batch = append(batch, entry(table, at.Seq, false))
			}
			err = k.Apply(t.Context(), batch)
		}
		require.ErrorIs(t, err, dfs.ErrTransient)
		require.NoError(t, <-stop)
		deaths++
		require.NoError(t, srv.Restart(t.Context()))
	}
	at, err := k.Checkpoint(t.Context())
	require.NoError(t, err)
	require.Equal(t, [][]string{{fmt.Sprint(at.Seq), fmt.Sprint(at.Seq + 1)}},
		srv.Query(t, "SELECT MAX(CASE WHEN id=0 THEN n END), COUNT(*) FROM "+schema+".ledger"))
}

// fileRows returns the rows of a query as text, NULL as "NULL".
func fileRows(tb testing.TB, db *sql.DB, q string) (out [][]string) {
	rows, err := db.Query(q)
	require.NoError(tb, err)
	defer rows.Close()
	names, err := rows.Columns()
	require.NoError(tb, err)
	for rows.Next() {
		cells, into := make([]*string, len(names)), make([]any, len(names))
		for i := range cells {
			into[i] = &cells[i]
		}
		require.NoError(tb, rows.Scan(into...))
		row := make([]string, len(names))
		for i, c := range cells {
			if row[i] = "NULL"; c != nil {
				row[i] = *c
			}
		}
		out = append(out, row)
	}
	require.NoError(tb, rows.Err())
	return out
}

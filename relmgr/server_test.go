package relmgr_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/childproc"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/relmgr"
	"github.com/dataflowsync/dfs/sink"
	"github.com/stretchr/testify/require"
)

const childEnv = "RELMGR_TEST_CHILD" // "schema", "source", "target" and "map", a line each

func TestMain(m *testing.M) {
	if env := os.Getenv(childEnv); env != "" {
		if err := carry(context.Background(), strings.Split(env, "\n")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	testenv.Main(m)
}

// carry is a whole pipeline, in a process that is killed.
func carry(ctx context.Context, args []string) error {
	schema, source, target, path := args[0], args[1], args[2], args[3]
	log := slog.New(slog.DiscardHandler)
	src, err := cdc.Open(ctx, source, &cdc.Options{Tables: []string{schema + ".*"}, Start: "earliest", Logger: log})
	if err != nil {
		return err
	}
	tables, err := src.Tables(ctx)
	if err != nil {
		return err
	}
	keys, err := src.ForeignKeys(ctx)
	if err != nil {
		return err
	}
	blocks, err := sink.OpenIDs(ctx, target, &sink.MySQLOptions{Schema: schema})
	if err != nil {
		return err
	}
	ids, err := relmgr.Open(path, &relmgr.Options{Tables: tables, ForeignKeys: keys, Allocator: blocks, Logger: log,
		References: []relmgr.Reference{{Table: schema + ".notes", Columns: []string{"about"}, TypeColumn: "kind",
			Parents: map[string]string{"t0": schema + ".t0", "t1": schema + ".t1"}}}})
	if err != nil {
		return err
	}
	dst, err := sink.OpenMySQL(ctx, target, &sink.MySQLOptions{Schema: schema, DDL: sink.PolicyIgnore, Logger: log})
	if err != nil {
		return err
	}
	silent, err := src.SilentForeignKeys(ctx)
	if err != nil {
		return err
	}
	if _, err := dst.CheckForeignKeys(ctx, silent); err != nil {
		return err
	}
	p := &dfs.Pipeline{Source: src, Stages: []dfs.Stage{ids}, Sink: dst, RetryWait: 10 * time.Millisecond, Logger: log}
	return p.Run(ctx)
}

// A graph is tables that refer to each other, by foreign keys of all kinds and in
// rings; each row has a token by which both servers know it.
type graph struct {
	r      *rand.Rand
	create []string
	refs   [][3]string // child, column, parent
	tables []string
}

func newGraph(r *rand.Rand) *graph {
	g := &graph{r: r}
	n := 3 + r.IntN(3)
	var alter []string
	for i := range n {
		name := fmt.Sprintf("t%d", i)
		g.tables = append(g.tables, name)
		columns := "id int AUTO_INCREMENT PRIMARY KEY, tok bigint NOT NULL, v int"
		for k := range 1 + r.IntN(2) {
			parent := fmt.Sprintf("t%d", r.IntN(n))
			column := fmt.Sprintf("r%d", k)
			columns += ", " + column + " int"
			onDelete := []string{"CASCADE", "SET NULL", "RESTRICT"}[r.IntN(3)]
			onUpdate := []string{"CASCADE", "RESTRICT"}[r.IntN(2)]
			if parent == name {
				onUpdate = "RESTRICT" // servers do not let a row change itself
			}
			alter = append(alter, fmt.Sprintf("ALTER TABLE %s ADD CONSTRAINT f%d_%d FOREIGN KEY (%s) REFERENCES %s (id) ON DELETE %s ON UPDATE %s", name, i, k, column, parent, onDelete, onUpdate))
			g.refs = append(g.refs, [3]string{name, column, parent})
		}
		g.create = append(g.create, "CREATE TABLE "+name+" ("+columns+")")
	}
	g.create = append(g.create, alter...)
	g.create = append(g.create, "CREATE TABLE parts (up int NOT NULL, line int NOT NULL, tok bigint NOT NULL, PRIMARY KEY (up, line), FOREIGN KEY (up) REFERENCES t0 (id) ON DELETE CASCADE ON UPDATE CASCADE)",
		"CREATE TABLE subs (id int AUTO_INCREMENT PRIMARY KEY, tok bigint NOT NULL, up int, line int, FOREIGN KEY (up, line) REFERENCES parts (up, line) ON DELETE CASCADE ON UPDATE CASCADE)",
		"CREATE TABLE notes (id int AUTO_INCREMENT PRIMARY KEY, tok bigint NOT NULL, kind enum('t0','t1') NOT NULL, about int)",
		"CREATE TABLE done (id int PRIMARY KEY)")
	return g
}

// statement returns a random statement; many fail, as the foreign keys want.
func (g *graph) statement() string {
	t := g.tables[g.r.IntN(len(g.tables))]
	tok := g.r.Int64N(1 << 60)
	some := func(t string) string {
		return fmt.Sprintf("(SELECT id FROM (SELECT id FROM %s ORDER BY (id*%d) %% 97 LIMIT 1) q)", t, 1+g.r.IntN(96))
	}
	var refs [][3]string
	for _, r := range g.refs {
		if r[0] == t {
			refs = append(refs, r)
		}
	}
	ref := refs[g.r.IntN(len(refs))]
	switch g.r.IntN(14) {
	case 0, 1, 2, 3:
		return fmt.Sprintf("INSERT INTO %s (tok, v, %s) VALUES (%d, 1, %s)", t, ref[1], tok, some(ref[2]))
	case 4: // a key that was there before, or may come
		return fmt.Sprintf("INSERT INTO %s (id, tok, v) VALUES (%d, %d, 2)", t, 1+g.r.IntN(60), tok)
	case 5:
		return fmt.Sprintf("UPDATE %s SET %s=%s WHERE id=%s", t, ref[1], some(ref[2]), some(t))
	case 6:
		return fmt.Sprintf("UPDATE %s SET id=%d WHERE id=%s", t, 1+g.r.IntN(300), some(t))
	case 7:
		return fmt.Sprintf("DELETE FROM %s WHERE id=%s", t, some(t))
	case 8, 9:
		return fmt.Sprintf("INSERT INTO parts VALUES (%s, %d, %d)", some("t0"), g.r.IntN(5), tok)
	case 10:
		return fmt.Sprintf("INSERT INTO subs (tok, up, line) SELECT %d, up, line FROM parts ORDER BY (up*%d+line) %% 97 LIMIT 1", tok, 1+g.r.IntN(96))
	case 11:
		kind := []string{"t0", "t1"}[g.r.IntN(2)]
		return fmt.Sprintf("INSERT INTO notes (tok, kind, about) VALUES (%d, '%s', %s)", tok, kind, some(kind))
	case 12:
		return fmt.Sprintf("UPDATE parts SET line=line+10 WHERE up=%s", some("t0"))
	}
	return fmt.Sprintf("UPDATE %s SET v=v+1 WHERE id=%s", t, some(t))
}

// shape returns every row by its token, with the tokens of the rows that it refers
// to.
func (g *graph) shape(t *testing.T, db *sql.DB, schema string) (list []string) {
	query := func(q string) {
		rows, err := db.Query(strings.ReplaceAll(q, "$", schema+"."))
		require.NoError(t, err, q)
		defer rows.Close()
		for rows.Next() {
			var s string
			require.NoError(t, rows.Scan(&s))
			list = append(list, s)
		}
		require.NoError(t, rows.Err())
	}
	for _, name := range g.tables {
		query(fmt.Sprintf("SELECT CONCAT('%s ', tok, ' ', v) FROM $%s", name, name))
	}
	for _, r := range g.refs {
		query(fmt.Sprintf("SELECT CONCAT('%s.%s ', c.tok, ' ', COALESCE(p.tok, IF(c.%[2]s IS NULL, 'null', 'nothing'))) FROM $%[1]s c LEFT JOIN $%[3]s p ON p.id=c.%[2]s", r[0], r[1], r[2]))
	}
	query("SELECT CONCAT('lines ', l.tok, ' ', l.line, ' ', p.tok) FROM $parts l JOIN $t0 p ON p.id=l.up")
	query("SELECT CONCAT('subs ', s.tok, ' ', l.tok) FROM $subs s JOIN $parts l ON l.up=s.up AND l.line=s.line")
	query("SELECT CONCAT('notes ', n.tok, ' ', n.kind, ' ', COALESCE(a.tok, b.tok, IF(n.about IS NULL, 'null', 'nothing'))) FROM $notes n LEFT JOIN $t0 a ON n.kind='t0' AND a.id=n.about LEFT JOIN $t1 b ON n.kind='t1' AND b.id=n.about")
	slices.Sort(list)
	return list
}

// On real servers, whose foreign keys act with and without a word in the log, and
// with the pipeline killed again and again.
func TestARealTargetIsTheSourceWithOtherIDsAfterKills(t *testing.T) {
	for _, kind := range []testenv.Kind{testenv.MySQL97, testenv.MariaDB} {
		for s := range uint64(max(1, *seeds/30)) {
			t.Run(fmt.Sprint(kind, " seed ", *seed+s), func(t *testing.T) { killed(t, kind, *seed+s) })
		}
	}
}

func killed(t *testing.T, kind testenv.Kind, seed uint64) {
	r := newRand(seed)
	g := newGraph(r)
	source := testenv.Shared(t, kind)
	var target *testenv.Server
	if kind == testenv.MySQL97 {
		target = testenv.Shared(t, testenv.MariaDB)
	} else {
		target = testenv.Start(t, testenv.MariaDB) // MySQL 9.7 loses rows where foreign keys go deep
	}
	name := source.Schema(t)
	source.Exec(t, append([]string{"USE " + name}, g.create...)...)
	target.Exec(t, append([]string{"CREATE DATABASE " + name, "USE " + name}, g.create...)...)
	t.Cleanup(func() { target.Exec(t, "DROP DATABASE "+name) })
	// The target has other numbers for what comes.
	for _, table := range g.tables {
		target.Exec(t, fmt.Sprintf("ALTER TABLE %s.%s AUTO_INCREMENT=%d", name, table, 1000+r.IntN(5000)))
	}
	path := filepath.Join(t.TempDir(), "map")
	start := func() (kill func()) {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+strings.Join([]string{name, source.DSN(""), target.DSN(""), path}, "\n"))
		cmd.Stderr = os.Stderr
		ended := make(chan error, 1)
		require.NoError(t, childproc.Start(cmd, func(err error) { ended <- err }))
		return func() {
			require.NoError(t, cmd.Process.Kill())
			<-ended
		}
	}
	db, there := source.DB(t), target.DB(t)
	db.SetMaxOpenConns(1)
	_, err := db.Exec("USE " + name)
	require.NoError(t, err)
	seq := func() (n uint64) {
		_ = there.QueryRow("SELECT seq FROM " + name + ".dfs_checkpoint").Scan(&n)
		return n
	}
	work := func(n int) {
		for range n {
			_, _ = db.Exec(g.statement()) // what foreign keys refuse is part of it
		}
	}
	for range 4 {
		before := seq()
		kill := start()
		work(100)
		// It has come on, and is in the midst of it.
		require.Eventually(t, func() bool { work(3); return seq() > before+uint64(r.IntN(20)) }, 2*time.Minute, time.Millisecond)
		kill()
	}
	kill := start()
	_, err = db.Exec("INSERT INTO done VALUES (1)")
	require.NoError(t, err)
	n := 0
	require.Eventually(t, func() bool {
		return there.QueryRow("SELECT COUNT(*) FROM "+name+".done").Scan(&n) == nil && n == 1
	}, 2*time.Minute, 10*time.Millisecond)
	want := g.shape(t, db, name)
	require.Greater(t, len(want), 50)
	require.Equal(t, want, g.shape(t, there, name))
	kill()
	for _, table := range g.tables {
		var least sql.NullInt64
		require.NoError(t, there.QueryRow("SELECT MIN(id) FROM "+name+"."+table).Scan(&least))
		if least.Valid {
			require.GreaterOrEqual(t, least.Int64, int64(1000), "the ids of %s are new", table)
		}
	}
}

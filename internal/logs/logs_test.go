package logs

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/internal/testseed"
	"github.com/dataflowsync/dfs/sink"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	testenv.Main(m)
}

// A pair is a schema of a source and its copy on a target.
type pair struct {
	t        *testing.T
	from, to *testenv.Server
	src, dst string // schemas
	cdc      *cdc.Source
	sink     *sink.MySQL
	stream   dfs.Stream
	seq      uint64
	rnd      *rand.Rand
}

// newPair makes the tables on both sides and begins to read.
func newPair(t *testing.T, from, to testenv.Kind, o sink.MySQLOptions, tables ...string) *pair {
	p := &pair{t: t, to: testenv.Shared(t, to)}
	if from == testenv.MariaDB {
		// It must be known beforehand that images may leave columns out.
		p.from = testenv.Start(t, from, "--binlog-row-image=MINIMAL")
	} else {
		p.from = testenv.Shared(t, from)
	}
	p.src, p.dst = p.from.Schema(t), p.to.Schema(t)
	for _, def := range append(tables, "done (n int PRIMARY KEY)") {
		p.from.Exec(t, "SET sql_mode=''", "CREATE TABLE "+p.src+"."+def)
		p.to.Exec(t, "SET sql_mode=''", "CREATE TABLE "+p.dst+"."+def)
	}
	seed := testseed.New(t)
	p.rnd = rand.New(rand.NewPCG(seed, 0))
	var err error
	p.cdc, err = cdc.Open(t.Context(), p.from.DSN(""), &cdc.Options{Tables: []string{p.src + ".*"}, MaxPart: 8 << 10})
	require.NoError(t, err)
	t.Cleanup(func() { p.cdc.Close() })
	o.Name = p.src
	o.Schema = p.dst
	o.Routes = append(o.Routes, sink.Route{From: p.src + ".*", To: p.dst + ".*"})
	p.sink, err = sink.OpenMySQL(t.Context(), p.to.DSN(""), &o)
	require.NoError(t, err)
	t.Cleanup(func() { p.sink.Close() })
	p.reopen()
	p.run("INSERT INTO done VALUES (-1)") // the place to begin at is fixed
	require.NoError(t, p.carry("-1"))
	return p
}

// reopen begins anew at the sink's checkpoint, as after a crash.
func (p *pair) reopen() {
	if p.stream != nil {
		p.stream.Close()
	}
	at, err := p.sink.Checkpoint(p.t.Context())
	require.NoError(p.t, err)
	p.seq = at.Seq
	p.stream, err = p.cdc.Open(p.t.Context(), at)
	require.NoError(p.t, err)
	p.t.Cleanup(func() { p.stream.Close() })
}

// run executes statements on one new connection to the source's schema.
func (p *pair) run(stmts ...string) {
	p.t.Helper()
	p.from.Exec(p.t, append([]string{"USE " + p.src}, stmts...)...)
}

// finish carries all that was logged so far.
func (p *pair) finish() {
	p.t.Helper()
	n := fmt.Sprint(p.rnd.Uint32() >> 1)
	p.run("INSERT INTO done VALUES (" + n + ")")
	require.NoError(p.t, p.carry(n))
}

// carry applies batches until the row n of the table done has come.
func (p *pair) carry(n string) error {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 3*time.Minute)
	defer cancel()
	batch := make([]*dfs.Transaction, 200)
	for {
		k, err := p.stream.Next(ctx, batch[:1+p.rnd.IntN(len(batch))])
		if err != nil {
			return err
		}
		if err := p.cdc.Decode(ctx, batch[:k]); err != nil {
			return err
		}
		done := false
		for _, tx := range batch[:k] {
			p.seq++
			tx.Seq = p.seq
			for _, c := range tx.Changes {
				done = done || c.Table.Name == "done" && c.After[0].String() == n
			}
		}
		if err := p.sink.Apply(ctx, batch[:k]); err != nil {
			return err
		}
		if done {
			return nil
		}
	}
}

// same compares a table on both sides, by the bytes of its columns.
func (p *pair) same(table string) {
	p.t.Helper()
	read := func(srv *testenv.Server, schema string) (rows []string) {
		db := srv.DB(p.t)
		var list []string
		names, err := db.Query("SELECT column_name FROM information_schema.columns WHERE table_schema=? AND table_name=? ORDER BY ordinal_position", schema, table)
		require.NoError(p.t, err)
		defer names.Close()
		for names.Next() {
			var name string
			require.NoError(p.t, names.Scan(&name))
			list = append(list, "IFNULL(HEX(CAST("+name+" AS CHAR)),'NULL')")
		}
		all, err := db.Query("SELECT CONCAT_WS(' ', " + strings.Join(list, ",") + ") FROM " + schema + "." + table + " ORDER BY 1")
		require.NoError(p.t, err)
		defer all.Close()
		for all.Next() {
			var row string
			require.NoError(p.t, all.Scan(&row))
			rows = append(rows, row)
		}
		require.NoError(p.t, all.Err())
		return rows
	}
	want := read(p.from, p.src)
	require.Equal(p.t, want, read(p.to, p.dst), "table %s", table)
}

//go:build unix

package monitor

import (
	"bufio"
	"context"
	"database/sql"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/sink"
	_ "github.com/go-sql-driver/mysql" // to count the rows
	"github.com/stretchr/testify/require"
)

var measure = flag.Int("measure", 0, "rounds in which costs are measured; 0: once, with few rows, for no more than to see that it works")

// A stock is a source that has so many transactions of some rows each.
type stock struct {
	table   *dfs.Table
	n, rows int
}

func (s *stock) Open(_ context.Context, from dfs.Checkpoint) (dfs.Stream, error) {
	return &stockStream{s, int(from.Seq)}, nil
}

type stockStream struct {
	s  *stock
	at int
}

func (r *stockStream) Close() error { return nil }

func (r *stockStream) Next(ctx context.Context, batch []*dfs.Transaction) (int, error) {
	n := 0
	for ; n < min(len(batch), 1000) && r.at < r.s.n; n++ {
		r.at++
		tx := &dfs.Transaction{ID: fmt.Sprint("3e11fa47-71ca-11e1-9e33-c80aa9429562:", r.at), Committed: time.Now(), Changes: make([]dfs.Change, r.s.rows)}
		tx.Pos = dfs.Position("gtid 3e11fa47-71ca-11e1-9e33-c80aa9429562:1-" + fmt.Sprint(r.at))
		for i := range tx.Changes {
			id := r.at*r.s.rows + i
			tx.Changes[i] = dfs.Change{Op: dfs.Insert, Table: r.s.table, After: dfs.Row{dfs.IntValue(int64(id)), dfs.StringValue("name of " + fmt.Sprint(id)), dfs.StringValue(fmt.Sprint("+49 30 ", id*7919))}}
		}
		batch[n] = tx
	}
	if n == 0 {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	return n, ctx.Err()
}

// A setting is what a pipeline is carried under.
type setting struct {
	name    string
	level   JournalLevel // empty: no journal
	sockets int
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// A cost is what it took to carry a transaction.
type cost struct{ wall, cpu time.Duration }

// browse opens so many WebSockets from another process, as browsers are, and returns
// what closes them. By the clock they cost the pipeline their processor time too.
func browse(t *testing.T, address string, n int) (leave func()) {
	if n == 0 {
		return func() {}
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestCosts$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("DFS_TEST_BROWSERS=%s %d", address, n))
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "open\n", line)
	return func() {
		require.NoError(t, in.Close())
		io.Copy(io.Discard, out)
		require.NoError(t, cmd.Wait())
	}
}

// browsers is that process: it ends when its input does.
func browsers(t *testing.T, what string) {
	var address string
	var n int
	_, err := fmt.Sscan(what, &address, &n)
	require.NoError(t, err)
	var list []net.Conn
	var open sync.WaitGroup
	for range n {
		c, err := net.Dial("tcp", address)
		require.NoError(t, err)
		list = append(list, c)
		fmt.Fprintf(c, "GET /api/live HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
			"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", address)
		r := bufio.NewReader(c)
		line, err := r.ReadString('\n')
		require.NoError(t, err)
		require.Contains(t, line, "101 Switching")
		open.Go(func() { io.Copy(io.Discard, r) })
	}
	fmt.Println("open")
	io.Copy(io.Discard, os.Stdin)
	for _, c := range list {
		c.Close()
	}
	open.Wait()
}

// carry returns what a pipeline takes for a transaction, by the clock and of the
// processor: its own, the journal's and the monitor's.
func carry(t *testing.T, s setting, src *stock, dst dfs.Sink) (c cost) {
	p := &dfs.Pipeline{Source: src, Sink: dst, Logger: discardLog}
	var j *Journal
	if s.level != "" {
		var err error
		j, err = OpenJournal(filepath.Join(t.TempDir(), "journal"), &JournalOptions{Level: s.level, Logger: discardLog})
		require.NoError(t, err)
		defer func() {
			require.NoError(t, j.Close())
			require.Zero(t, j.Stats().Dropped)
			if s.level == JournalAll {
				require.EqualValues(t, src.n, j.Stats().Written)
			}
		}()
		require.NoError(t, j.Watch("shop", p))
	}
	h, err := Open(map[string]*dfs.Pipeline{"shop": p}, &Options{Log: NewLog(discardLog.Handler(), nil), Logger: discardLog})
	require.NoError(t, err)
	srv := httptest.NewServer(h)
	leave := browse(t, srv.Listener.Addr().String(), s.sockets)
	require.NoError(t, p.StopAt(dfs.StopPoint{Seq: uint64(src.n)}))
	runtime.GC()
	before, began := cpuTime(), time.Now()
	require.NoError(t, p.Run(t.Context()))
	c.wall = time.Since(began) / time.Duration(src.n)
	if j != nil {
		j.flush() // what is written beside the pipeline costs too
	}
	c.cpu = (cpuTime() - before) / time.Duration(src.n)
	require.EqualValues(t, src.n, p.Stats().Apply.At.Seq)
	leave()
	srv.Close()
	require.NoError(t, h.Close())
	return c
}

// compare carries the same under each setting in turn, so that what else the machine
// does falls on all, and tells the ratios to the first: of processor time, which a
// busy machine changes little, and of time.
func compare(t *testing.T, what string, rounds int, settings []setting, run func(setting) cost) {
	got := make([][]cost, len(settings))
	for range rounds {
		for i, s := range settings {
			got[i] = append(got[i], run(s))
		}
	}
	for i, s := range settings {
		ratios := func(of func(cost) time.Duration) string {
			list := make([]float64, rounds)
			for r := range list {
				list[r] = float64(of(got[i][r])) / float64(of(got[0][r]))
			}
			slices.Sort(list)
			return fmt.Sprintf("x%.3f (%.3f to %.3f)", list[rounds/2], list[0], list[rounds-1])
		}
		least := slices.MinFunc(got[i], func(a, b cost) int { return int(a.cpu - b.cpu) })
		t.Logf("%-17s %-11s %7v of processor a transaction, %s of the first in %d rounds; time %s", what, s.name, least.cpu,
			ratios(func(c cost) time.Duration { return c.cpu }), rounds, ratios(func(c cost) time.Duration { return c.wall }))
	}
}

// TestCosts tells what a journal and open browsers cost a pipeline. It is no more
// than a check that they work unless -measure is set: see "make monitorbench".
func TestCosts(t *testing.T) {
	if what := os.Getenv("DFS_TEST_BROWSERS"); what != "" {
		browsers(t, what)
		return
	}
	rounds, n, m, sockets := 1, 3000, 1, 20
	if *measure > 0 {
		rounds, n, m, sockets = *measure, 400_000, 20, 500
	}
	table := people(t)
	journals := []setting{{name: "no journal"}, {name: "errors", level: JournalErrors}, {name: "sampled", level: JournalSampled}, {name: "all", level: JournalAll}}
	t.Run("journal", func(t *testing.T) {
		src := &stock{table, n, 1}
		compare(t, "memory, 1 row", rounds, journals, func(s setting) cost { return carry(t, s, src, new(drain)) })
		src = &stock{table, n / 3, 20}
		compare(t, "memory, 20 rows", rounds, journals, func(s setting) cost { return carry(t, s, src, new(drain)) })
	})
	t.Run("browsers", func(t *testing.T) {
		src := &stock{table, n * m / 2, 1}
		compare(t, "browsers", rounds, []setting{{name: "none"}, {name: fmt.Sprint(sockets), sockets: sockets}}, func(s setting) cost { return carry(t, s, src, new(drain)) })
	})
	if *measure == 0 {
		return
	}
	t.Run("MySQL", func(t *testing.T) { costsOnMySQL(t, rounds, n, journals) })
}

func costsOnMySQL(t *testing.T, rounds, n int, journals []setting) {
	table := people(t)
	srv := testenv.Start(t, testenv.MySQL97)
	srv.Exec(t, "CREATE DATABASE shop")
	db, err := sql.Open("mysql", srv.DSN(""))
	require.NoError(t, err)
	defer db.Close()
	src := &stock{table, n / 2, 1}
	name := 0
	compare(t, "MySQL 9.7, 1 row", rounds, journals, func(s setting) cost {
		name++
		srv.Exec(t, "DROP TABLE IF EXISTS shop.people", "CREATE TABLE shop.people (id bigint PRIMARY KEY, name varchar(40), phone varchar(40))")
		dst, err := sink.OpenMySQL(t.Context(), srv.DSN(""), &sink.MySQLOptions{Name: fmt.Sprint("p", name), Logger: discardLog})
		require.NoError(t, err)
		defer dst.Close()
		return carry(t, s, src, dst)
	})
	var rows int
	require.NoError(t, db.QueryRow("SELECT COUNT(*) FROM shop.people").Scan(&rows))
	require.Equal(t, src.n, rows)
}

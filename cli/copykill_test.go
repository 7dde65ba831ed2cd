//go:build unix

package cli

import (
	"database/sql"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/dataflowsync/dfs/internal/same"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/internal/testseed"
	"github.com/stretchr/testify/require"
)

var (
	copyKills   = flag.Int("kills", 5, "how often a copy of rows is killed")
	copyRows    = flag.Int("copyrows", 50_000, "how many rows are copied meanwhile")
	copyServers = flag.String("servers", string(testenv.MySQL97), "the source's and the target's program: "+string(testenv.MySQL97)+" or "+string(testenv.MariaDB))
)

const (
	killReaders = 2
	killChunk   = 500
)

// killTables are what is copied: columns, and the literals of a row's key.
var killTables = []struct {
	name, columns, where string
	key                  func(n int) []any
}{
	{"ints", "id int PRIMARY KEY, v int, s varchar(40), KEY (s)", "id = %d", func(n int) []any { return []any{n * 3} }},
	{"texts", "k varchar(20) COLLATE utf8mb4_general_ci PRIMARY KEY, v int, s varchar(40)", "k = '%s'",
		func(n int) []any { return []any{[]string{"a", "É", "zz", "B", "ß"}[n%5] + fmt.Sprint(n)} }},
	{"pairs", "a int, b varchar(8), v int, s varchar(40), PRIMARY KEY (b, a)", "a = %d AND b = '%s'",
		func(n int) []any { return []any{n, string(rune('a' + n%7))} }},
	{"keyless", "k int, v int, s varchar(40)", "k = %d", func(n int) []any { return []any{n} }},
}

// killValues returns rows as INSERT has them.
func killValues(table int, from, to, v int) string {
	var b strings.Builder
	for n := from; n < to; n++ {
		if n > from {
			b.WriteByte(',')
		}
		b.WriteByte('(')
		for _, k := range killTables[table].key(n) {
			if s, ok := k.(string); ok {
				k = "'" + s + "'"
			}
			fmt.Fprintf(&b, "%v, ", k)
		}
		fmt.Fprintf(&b, "%d, 'row %d')", v, n)
	}
	return b.String()
}

// TestACopyThatIsKilledGoesOn where it was ("make copykill" kills it more often): each row is there once, and but for the
// chunks that were on their way none is read again, while all tables are written.
func TestACopyThatIsKilledGoesOn(t *testing.T) {
	kind := testenv.Kind(*copyServers)
	// The source counts the rows that it sends.
	source := testenv.Start(t, kind, "--performance-schema=ON", "--performance-schema-instrument=statement/%=ON")
	target := testenv.Start(t, kind)
	for _, queued := range []bool{true, false} {
		name := "through a queue"
		if !queued {
			name = "without a queue"
		}
		t.Run(name, func(t *testing.T) { killCopy(t, source, target, queued) })
	}
}

func killCopy(t *testing.T, source, target *testenv.Server, queued bool) {
	e := &env{dir: t.TempDir(), source: source, target: target}
	schema := source.Schema(t)
	sizes := []int{*copyRows * 4 / 10, *copyRows * 3 / 10, *copyRows*3/10 - killChunk, killChunk}
	for i, table := range killTables {
		source.Exec(t, fmt.Sprintf("CREATE TABLE %s.%s (%s) CHARACTER SET utf8mb4", schema, table.name, table.columns))
		for from := 0; from < sizes[i]; from += 5000 {
			source.Exec(t, fmt.Sprintf("INSERT INTO %s.%s VALUES %s", schema, table.name, killValues(i, from, min(from+5000, sizes[i]), 0)))
		}
	}
	_, sourcePort, _ := net.SplitHostPort(source.Addr())
	_, targetPort, _ := net.SplitHostPort(target.Addr())
	queue := ""
	if queued {
		queue = "queue: {path: " + schema + ".queue}\n"
	}
	file := filepath.Join(e.dir, "dfs.yaml")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `
name: %[3]s
source:
  port: %[1]s
  user: root
  tables: %[3]s.*
  snapshot: {readers: %[4]d, chunk_rows: %[5]d, max_rows: 8000}
%[6]starget: {port: %[2]s, user: root, create_tables: true}
`, sourcePort, targetPort, schema, killReaders, killChunk, queue), 0o600))

	// Writers change rows, and delete them and put them back. The table without a key is read anew whenever it
	// changes meanwhile, so it changes seldom.
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var written, keyless atomic.Int64
	seed := testseed.New(t)
	db := source.DB(t)
	for w := range 2 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, uint64(w)))
			tick := time.NewTicker(2 * time.Millisecond)
			defer tick.Stop()
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				case <-tick.C:
				}
				if err := killWrite(db, schema, rnd, sizes, w, w == 0 && n%500 == 0); err != nil {
					t.Error(err)
					return
				}
				if written.Add(1); w == 0 && n%500 == 0 {
					keyless.Add(1)
				}
			}
		})
	}
	defer wg.Wait()
	stopWriters := sync.OnceFunc(func() { close(stop) })
	defer stopWriters()

	to := target.DB(t)
	sent := func() (n int) {
		require.NoError(t, db.QueryRow(`SELECT SUM(sum_rows_sent) FROM performance_schema.events_statements_summary_global_by_event_name
			WHERE event_name = 'statement/com/Execute'`).Scan(&n))
		return n
	}
	there := func() (n int) {
		for _, table := range killTables {
			var rows int
			if err := to.QueryRow("SELECT COUNT(*) FROM " + schema + "." + table.name).Scan(&rows); err == nil {
				n += rows
			}
		}
		return n
	}
	await := func(p *program, what string, f func() bool) {
		t.Helper()
		for limit := time.After(3 * time.Minute); !f(); {
			select {
			case <-p.done:
				t.Fatalf("it ended before %s; it printed\n%s", what, p.printed())
			case <-limit:
				t.Fatalf("it does not come to where %s; it printed\n%s", what, p.printed())
			case <-time.After(2 * time.Millisecond):
			}
		}
	}
	kill := func(p *program) {
		p.signal(t, syscall.SIGKILL)
		<-p.done
	}
	before, began := sent(), time.Now()
	rnd := rand.New(rand.NewPCG(seed, 99))
	p := e.start(t, "-c", file)
	await(p, "a table is there", func() bool {
		var n int
		return to.QueryRow("SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = ?", schema).Scan(&n) == nil && n > 0
	})
	kill(p)
	kills, at := 1, []int{0}
	for ; kills < *copyKills-1; kills++ {
		p = e.start(t, "-c", file)
		want := there() + 1 + rnd.IntN(*copyRows*9/10 / *copyKills)
		await(p, fmt.Sprintf("%d rows are there", want), func() bool { return there() >= want })
		kill(p)
		at = append(at, there())
		require.NotContains(t, p.printed(), "all tables are copied")
	}
	p = e.start(t, "-c", file)
	await(p, "the copy ends", func() bool { return strings.Contains(p.printed(), "all tables are copied") })
	kill(p)
	kills++
	p = e.start(t, "-c", file)
	await(p, "all rows are copied", func() bool { return there() == *copyRows })
	stopWriters()
	wg.Wait()
	source.Exec(t, fmt.Sprintf("INSERT INTO %s.ints VALUES (-1, 0, 'the last')", schema))
	eventually(t, p, to, "SELECT COUNT(*) FROM "+schema+".ints WHERE id = -1", "1")
	read := sent() - before
	p.signal(t, syscall.SIGTERM)
	code, out := p.wait(t)
	require.Zero(t, code, out)

	// What a start asks about tables is no copy.
	idle := sent()
	p = e.start(t, "-c", file)
	source.Exec(t, fmt.Sprintf("INSERT INTO %s.ints VALUES (-2, 0, 'and one more')", schema))
	eventually(t, p, to, "SELECT COUNT(*) FROM "+schema+".ints WHERE id = -2", "1")
	idle = sent() - idle
	p.signal(t, syscall.SIGTERM)
	code, out = p.wait(t)
	require.Zero(t, code, out)
	read -= idle * (kills + 1)

	r, err := same.Compare(t.Context(), db, to, same.Options{Schemas: []string{schema}, Structure: true})
	require.NoError(t, err)
	require.Empty(t, r.Differences)
	// A reader has one chunk on its way, and a few more wait between the readers and
	// the target, more of them where the target is slow.
	// A start that was killed may not have asked about all tables yet.
	require.GreaterOrEqual(t, read+idle*kills, *copyRows)
	require.LessOrEqual(t, read-*copyRows, (4*killReaders*kills+int(keyless.Load()))*killChunk)
	t.Logf("%d kills in %v, with %v rows there; %d rows, %d written meanwhile (%d times without a key); %d rows read besides %d of each start, %d again: %.1f chunks for each kill",
		kills, time.Since(began).Round(time.Millisecond), at, *copyRows, written.Load(), keyless.Load(), read, idle, read-*copyRows, float64(read-*copyRows)/killChunk/float64(kills))
}

// killWrite makes one transaction that changes a few rows, and leaves as many as
// there were.
func killWrite(db *sql.DB, schema string, rnd *rand.Rand, sizes []int, writer int, keyless bool) error {
	i := rnd.IntN(len(killTables) - 1)
	if keyless {
		i = len(killTables) - 1
	}
	table := schema + "." + killTables[i].name
	n := rnd.IntN(sizes[i]/2)*2 + writer // writers do not wait for one another
	if n >= sizes[i] {
		return nil
	}
	where := fmt.Sprintf(killTables[i].where, killTables[i].key(n)...)
	q := []string{fmt.Sprintf("UPDATE %s SET v = v + 1 WHERE %s", table, where)}
	if rnd.IntN(3) == 0 {
		q = []string{fmt.Sprintf("DELETE FROM %s WHERE %s", table, where),
			fmt.Sprintf("INSERT INTO %s VALUES %s", table, killValues(i, n, n+1, rnd.IntN(1000)))}
	}
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, q := range q {
		if _, err := tx.Exec(q); err != nil {
			return fmt.Errorf("%s: %w", q, err)
		}
	}
	return tx.Commit()
}

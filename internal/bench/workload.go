//go:build linux

package main

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dataflowsync/dfs/internal/testenv"
)

// A workload is what is written to the source while no one reads along.
type workload struct {
	name       string
	title      string
	kind       testenv.Kind // of both servers
	schema     string
	create     []string                     // tables
	fill       func(scale float64) []string // rows that are there before the log begins
	tables     []string                     // their names
	contenders []string                     // who replays it, in this order
	relaxed    bool                         // also with relaxed durability, as the part NAME-relaxed
	named      bool                         // runs only if it is asked for by its name
	oneRound   []string                     // those of them who do so only once

	// write executes the transactions and returns their number, and that of
	// the rows that they changed.
	write func(ctx context.Context, g *generator) (txs, rows int, err error)
}

// createEnd creates the table that gets a row with the last transaction of each
// backlog. When it can be seen on a target, all of the backlog can.
const createEnd = "CREATE TABLE end_of_log (id INT NOT NULL PRIMARY KEY)"

// orders is the table that most workloads change: ten columns of the usual
// types and a secondary index.
const orders = `CREATE TABLE orders (
	id BIGINT NOT NULL PRIMARY KEY,
	customer INT NOT NULL,
	status ENUM('new', 'paid', 'sent', 'done') NOT NULL,
	amount DECIMAL(12,2) NOT NULL,
	name VARCHAR(60) NOT NULL,
	email VARCHAR(80),
	note VARCHAR(255),
	score DOUBLE,
	created DATETIME(6) NOT NULL,
	updated TIMESTAMP(3) NOT NULL,
	KEY (customer))`

// mixTables and mixRows are the size of the sysbench-like tables.
const (
	mixTables = 8
	mixRows   = 10_000
)

func workloads() []*workload {
	rivals := []string{"dfs", "native", "best"}
	mix := &workload{
		name: "mix", title: "sysbench-like mix over 8 tables, 4 rows a transaction", schema: "mix",
		fill: mixFill, write: writeMix, contenders: rivals,
	}
	for i := range mixTables {
		t := fmt.Sprintf("sbtest%d", i+1)
		mix.tables = append(mix.tables, t)
		mix.create = append(mix.create, "CREATE TABLE "+t+` (
			id INT NOT NULL PRIMARY KEY, k INT NOT NULL,
			c CHAR(120) NOT NULL, pad CHAR(60) NOT NULL, KEY (k))`)
	}
	// ofOrders fills in what those have in common that change the table orders.
	ofOrders := func(w *workload) *workload {
		w.schema, w.create, w.tables = cmp.Or(w.schema, strings.ReplaceAll(w.name, "-", "_")), []string{orders}, []string{"orders"}
		return w
	}
	const singles = "single-row transactions: 8 inserts to 4 updates to 1 delete"
	list := []*workload{
		ofOrders(&workload{name: "single", title: singles, write: writeSingle(2_000_000), relaxed: true,
			contenders: append(slices.Clip(rivals), "mysqlbinlog", "canal"), oneRound: []string{"mysqlbinlog", "canal"}}),
		ofOrders(&workload{name: "fifty", title: "transactions of 50 rows: 4 inserts to 1 update", write: writeRows(50, 160_000), contenders: rivals, relaxed: true}),
		ofOrders(&workload{name: "batch", title: "transactions of 100 rows: 4 inserts to 1 update", write: writeRows(100, 60_000), contenders: rivals, named: true}),
		ofOrders(&workload{name: "thousand", title: "transactions of 1,000 rows: 4 inserts to 1 update", write: writeRows(1000, 10_000), contenders: rivals}),
		ofOrders(&workload{name: "hot", title: "hot rows: single-row updates of the same 100 rows", fill: hotFill, write: writeHot, contenders: rivals}),
		mix,
		{
			name: "wide", title: "wide rows, of 4 KB with JSON and blobs, 10 a transaction: 4 inserts to 1 update", schema: "wide",
			create: []string{wideTable}, tables: []string{"docs"}, write: writeWide, contenders: rivals,
		},
		ofOrders(&workload{name: "sinks", title: "where to, and reshaped on the way: " + singles, write: writeSingle(2_400_000),
			contenders: []string{"dfs", "transformed", "postgres", "sqlite"}}),
		ofOrders(&workload{name: "long", schema: "long_log", title: "a long backlog of " + singles, write: writeSingle(8_000_000), contenders: []string{"capture", "gomysql", "dfs"}, oneRound: []string{"dfs"}}),
		{
			name: "drain", title: "memory: a backlog of many megabytes, 100 rows of 1 KB a transaction", schema: "drain",
			create: []string{"CREATE TABLE docs (id BIGINT NOT NULL PRIMARY KEY, body TEXT NOT NULL)"},
			tables: []string{"docs"}, write: writeDrain, contenders: []string{"dfs", "native"}, oneRound: []string{"dfs", "native"},
		},
		ofOrders(&workload{name: "large", title: "memory: one transaction of very many rows", write: writeLarge, contenders: []string{"dfs", "native"}, oneRound: []string{"dfs", "native"}}),
		ofOrders(&workload{name: "mariadb", title: "MariaDB to MariaDB, " + singles, kind: testenv.MariaDB, write: writeSingle(1_200_000), contenders: rivals}),
		ofOrders(&workload{name: "mariadb-fifty", title: "MariaDB to MariaDB, transactions of 50 rows: 4 inserts to 1 update", kind: testenv.MariaDB,
			write: writeRows(50, 120_000), contenders: rivals}),
	}
	for _, w := range list {
		if w.kind == "" {
			w.kind = testenv.MySQL97
		}
	}
	return list
}

// scaled returns n at the scale, and at least 1.
func scaled(n int, scale float64) int { return max(1, int(float64(n)*scale)) }

// A generator writes transactions to the source, from several connections.
type generator struct {
	source *database
	schema string
	scale  float64
}

// writers is the number of connections that write at once.
const writers = 4

// A writer packs statements into few packets, since a round trip for each
// transaction would take longer than the transaction.
type writer struct {
	ctx  context.Context
	g    *generator
	rand *rand.Rand
	exec func(sql string) error
	buf  strings.Builder
	rows int
	txs  int
	err  error
}

// parallel runs f in each of the writers, and adds up what they wrote. Their
// random numbers are the same in each run.
func (g *generator) parallel(ctx context.Context, f func(w *writer, n int) error) (txs, rows int, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var group sync.WaitGroup
	all := make([]*writer, writers)
	for i := range all {
		all[i] = &writer{ctx: ctx, g: g, rand: rand.New(rand.NewPCG(uint64(i), 1))}
		group.Go(func() {
			if err := all[i].run(f, i); err != nil {
				cancel(err)
			}
		})
	}
	group.Wait()
	for _, w := range all {
		txs, rows = txs+w.txs, rows+w.rows
	}
	return txs, rows, context.Cause(ctx)
}

// run executes what f adds.
func (w *writer) run(f func(w *writer, n int) error, n int) error {
	conn, err := w.g.source.Conn(w.ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	w.exec = func(sql string) error {
		_, err := conn.ExecContext(w.ctx, sql)
		return err
	}
	// Without gap locks, rows of different writers never wait for each other.
	if err := w.exec("USE " + w.g.schema + "; SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"); err != nil {
		return err
	}
	if err := f(w, n); err != nil {
		return err
	}
	return w.flush()
}

// add appends one transaction of so many rows, and sends what there is once it
// is enough. After an error it does nothing; flush returns the error.
func (w *writer) add(rows int, format string, args ...any) {
	fmt.Fprintf(&w.buf, format, args...)
	w.buf.WriteByte(';')
	w.txs++
	w.rows += rows
	if w.buf.Len() > 64<<10 {
		w.flush()
	}
}

func (w *writer) flush() error {
	if w.err == nil && w.buf.Len() > 0 {
		w.err = w.exec(w.buf.String())
	}
	w.buf.Reset()
	return w.err
}

const letters = "abcdefghijklmnopqrstuvwxyz    "

// text returns n random letters and spaces.
func text(r *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = letters[r.IntN(len(letters))]
	}
	return string(b)
}

// order returns the values of a new row of orders.
func order(r *rand.Rand, id int) string {
	at := time.UnixMicro(1_700_000_000_000_000 + int64(id)*1_234_567).UTC()
	return fmt.Sprintf("(%d,%d,%d,%d.%02d,'%s','%s@example.com','%s',%g,'%s','%s')",
		id, r.IntN(50_000), 1+r.IntN(4), r.IntN(100_000), r.IntN(100), text(r, 8+r.IntN(20)), text(r, 10),
		text(r, 40+r.IntN(80)), r.Float64(), at.Format("2006-01-02 15:04:05.000000"), at.Format("2006-01-02 15:04:05.000"))
}

// writeSingle writes transactions of one row, with so many inserts at full scale.
func writeSingle(inserts int) func(ctx context.Context, g *generator) (txs, rows int, err error) {
	return func(ctx context.Context, g *generator) (txs, rows int, err error) {
		n := scaled(inserts, g.scale)
		return g.parallel(ctx, func(w *writer, i int) error {
			var live []int // own rows, which no other writer changes
			for id, k := i, 1; id < n && w.err == nil; id, k = id+writers, k+1 {
				w.add(1, "INSERT INTO orders VALUES %s", order(w.rand, id))
				live = append(live, id)
				if k%2 == 0 {
					set := "status = 1 + status % 4"
					if k%4 == 0 {
						set = "customer = customer + 1"
					}
					w.add(1, "UPDATE orders SET amount = amount + 1, updated = updated + INTERVAL 1 MINUTE, %s WHERE id = %d",
						set, live[w.rand.IntN(len(live))])
				}
				if k%8 == 0 {
					at := w.rand.IntN(len(live))
					w.add(1, "DELETE FROM orders WHERE id = %d", live[at])
					live[at] = live[len(live)-1]
					live = live[:len(live)-1]
				}
			}
			return nil
		})
	}
}

// writeRows writes transactions of so many rows, n at full scale.
func writeRows(size, n int) func(ctx context.Context, g *generator) (txs, rows int, err error) {
	return func(ctx context.Context, g *generator) (txs, rows int, err error) {
		n := scaled(n, g.scale)
		return g.parallel(ctx, func(w *writer, i int) error {
			var first []int // ids of the first rows of own inserts
			for k := i; k < n && w.err == nil; k += writers {
				if k/writers%5 == 4 {
					id := first[w.rand.IntN(len(first))]
					w.add(size, "UPDATE orders SET amount = amount + 1, status = 'paid' WHERE id BETWEEN %d AND %d", id, id+size-1)
					continue
				}
				values := make([]string, size)
				for j := range values {
					values[j] = order(w.rand, k*size+j)
				}
				w.add(size, "INSERT INTO orders VALUES %s", strings.Join(values, ","))
				first = append(first, k*size)
			}
			return nil
		})
	}
}

// hotRows is how many rows are changed again and again.
const hotRows = 100

func hotFill(float64) []string {
	r := rand.New(rand.NewPCG(3, 2))
	values := make([]string, hotRows)
	for id := range values {
		values[id] = order(r, id)
	}
	return []string{"INSERT INTO orders VALUES " + strings.Join(values, ",")}
}

func writeHot(ctx context.Context, g *generator) (txs, rows int, err error) {
	n := scaled(4_000_000, g.scale)
	return g.parallel(ctx, func(w *writer, i int) error {
		for k := i; k < n && w.err == nil; k += writers {
			// Rows of its own, so that no writer has to wait for another.
			id := i + writers*w.rand.IntN(hotRows/writers)
			w.add(1, "UPDATE orders SET amount = amount + 1, score = %g, updated = updated + INTERVAL 1 SECOND WHERE id = %d", w.rand.Float64(), id)
		}
		return nil
	})
}

// wideTable has rows of about four kilobytes, half of which no codec makes smaller.
const wideTable = `CREATE TABLE docs (
	id BIGINT NOT NULL PRIMARY KEY,
	doc JSON NOT NULL,
	body MEDIUMTEXT NOT NULL,
	picture MEDIUMBLOB NOT NULL,
	digest BINARY(32) NOT NULL,
	changed DATETIME(6) NOT NULL)`

// wideRow returns the values of a new row of wideTable.
func wideRow(r *rand.Rand, id int) string {
	tags := make([]string, 4+r.IntN(8))
	for i := range tags {
		tags[i] = fmt.Sprintf(`{"tag":"%s","weight":%g,"seen":[%d,%d,null,true]}`, text(r, 6+r.IntN(8)), r.Float64(), r.IntN(1000), r.IntN(1000))
	}
	doc := fmt.Sprintf(`{"customer":{"id":%d,"name":"%s"},"total":%d.25,"tags":[%s]}`, r.IntN(100_000), text(r, 20), r.IntN(1000), strings.Join(tags, ","))
	picture := make([]byte, 1500+r.IntN(1000))
	for i := range picture {
		picture[i] = byte(r.Uint32())
	}
	return fmt.Sprintf("(%d,'%s','%s',x'%x',x'%x','2026-01-01 12:00:00.%06d')", id, doc, text(r, 1000+r.IntN(1000)), picture, picture[:32], r.IntN(1_000_000))
}

func writeWide(ctx context.Context, g *generator) (txs, rows int, err error) {
	const size = 10
	n := scaled(80_000, g.scale)
	return g.parallel(ctx, func(w *writer, i int) error {
		var first []int
		for k := i; k < n && w.err == nil; k += writers {
			if k/writers%5 == 4 {
				id := first[w.rand.IntN(len(first))]
				w.add(size, `UPDATE docs SET doc = JSON_SET(doc, '$.total', id + %d, '$.customer.name', '%s'), changed = changed + INTERVAL 1 HOUR WHERE id BETWEEN %d AND %d`,
					w.rand.IntN(1000), text(w.rand, 20), id, id+size-1)
				continue
			}
			values := make([]string, size)
			for j := range values {
				values[j] = wideRow(w.rand, k*size+j)
			}
			w.add(size, "INSERT INTO docs VALUES %s", strings.Join(values, ","))
			first = append(first, k*size)
		}
		return nil
	})
}

func mixFill(float64) []string {
	var stmts []string
	for t := range mixTables {
		r := rand.New(rand.NewPCG(uint64(t), 2))
		for id := 1; id <= mixRows; {
			values := make([]string, 0, 1000)
			for ; id <= mixRows && len(values) < cap(values); id++ {
				values = append(values, mixRow(r, id))
			}
			stmts = append(stmts, fmt.Sprintf("INSERT INTO sbtest%d VALUES %s", t+1, strings.Join(values, ",")))
		}
	}
	return stmts
}

func mixRow(r *rand.Rand, id int) string {
	return fmt.Sprintf("(%d,%d,'%s','%s')", id, r.IntN(mixRows), digits(r, 119), digits(r, 59))
}

// digits returns n random digits, in groups as sysbench makes them.
func digits(r *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		if b[i] = '-'; i%12 != 11 {
			b[i] = byte('0' + r.IntN(10))
		}
	}
	return string(b)
}

func writeMix(ctx context.Context, g *generator) (txs, rows int, err error) {
	n := scaled(600_000, g.scale)
	return g.parallel(ctx, func(w *writer, i int) error {
		// Rows of its own, so that no writer has to wait for another.
		id := func() int { return 1 + i + writers*w.rand.IntN(mixRows/writers) }
		for k := i; k < n && w.err == nil; k += writers {
			t := 1 + w.rand.IntN(mixTables)
			gone := id()
			w.add(4, "BEGIN; UPDATE sbtest%[1]d SET k = k + 1 WHERE id = %[2]d; UPDATE sbtest%[1]d SET c = '%[3]s' WHERE id = %[4]d;"+
				"DELETE FROM sbtest%[1]d WHERE id = %[5]d; INSERT INTO sbtest%[1]d VALUES %[6]s; COMMIT",
				t, id(), digits(w.rand, 119), id(), gone, mixRow(w.rand, gone))
		}
		return nil
	})
}

// Small memory tests say little, so their scale has a floor.
const (
	drainFloor = 0.1
	largeFloor = 0.2
)

func writeDrain(ctx context.Context, g *generator) (txs, rows int, err error) {
	const size = 100
	n := scaled(10_000, max(g.scale, drainFloor))
	return g.parallel(ctx, func(w *writer, i int) error {
		for k := i; k < n && w.err == nil; k += writers {
			values := make([]string, size)
			for j := range values {
				values[j] = fmt.Sprintf("(%d,'%s')", k*size+j, text(w.rand, 1024))
			}
			w.add(size, "INSERT INTO docs VALUES %s", strings.Join(values, ","))
		}
		return nil
	})
}

func writeLarge(ctx context.Context, g *generator) (txs, rows int, err error) {
	n := scaled(1_000_000, max(g.scale, largeFloor))
	return 1, n, g.source.exec(ctx, fmt.Sprintf(`
		SET cte_max_recursion_depth = %[1]d;
		INSERT INTO large.orders
			WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %[1]d)
			SELECT i, i %% 50000, 1 + i %% 4, i / 7, CONCAT('name ', i), CONCAT(i, '@example.com'),
				REPEAT(CONCAT('note ', i, ' '), 1 + i %% 9), i / 3e0, '2026-01-01' + INTERVAL i SECOND, '2026-01-01 12:00:00.5'
			FROM n`, n))
}

//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/childproc"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/relmgr"
	"github.com/dataflowsync/dfs/sink"
)

// relmgrPart names the measurement of new ids.
const relmgrPart = "relmgr"

// The tables of a chain, each of which refers to the one before it.
var chainTables = []string{"customers", "orders", "items"}

var chainCreate = []string{
	`CREATE TABLE customers (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, tok BIGINT NOT NULL, name VARCHAR(60) NOT NULL, email VARCHAR(80), created DATETIME(6) NOT NULL)`,
	`CREATE TABLE orders (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, customer BIGINT NOT NULL, tok BIGINT NOT NULL, status ENUM('new', 'paid', 'sent', 'done') NOT NULL,
		amount DECIMAL(12,2) NOT NULL, note VARCHAR(255), updated TIMESTAMP(3) NOT NULL, FOREIGN KEY (customer) REFERENCES customers (id))`,
	`CREATE TABLE items (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, ord BIGINT NOT NULL, tok BIGINT NOT NULL, product INT NOT NULL, quantity INT NOT NULL,
		price DECIMAL(12,2) NOT NULL, note VARCHAR(100), FOREIGN KEY (ord) REFERENCES orders (id))`,
}

// A chain is a workload over tables that refer to each other. Their rows so far are
// spread over all the keys that the map has, so that references to them are too.
type chain struct {
	*workload
	keys int64 // of the map, for each table
	base int64 // rows that each table has at the beginning
}

// chainOffset is what the new ids of the map are greater by than old ones.
const chainOffset = 1_000_000_000

// chains returns the workloads: small transactions, and such of 100 rows.
func (l *lab) chains() []*chain {
	keys := max(int64(float64(mapKeys)*l.opts.maps)/int64(len(chainTables)), 3000)
	make := func(name, title string, write func(ctx context.Context, g *generator, c *chain) (txs, rows int, err error)) *chain {
		c := &chain{keys: keys, base: min(int64(scaled(100_000, l.opts.scale)), keys/2)}
		c.workload = &workload{name: name, title: title, kind: testenv.MySQL97, schema: strings.ReplaceAll(name, "-", "_"), create: chainCreate, tables: chainTables}
		c.write = func(ctx context.Context, g *generator) (int, int, error) { return write(ctx, g, c) }
		return c
	}
	return []*chain{
		make("chain", "new ids over foreign-key chains of 3 tables, 1 to 4 rows a transaction", writeChain),
		make("chain-100", "new ids over foreign-key chains of 3 tables, 100 rows a transaction", writeChain100),
	}
}

// mapKeys is how many keys the map has at full size while a chain is carried;
// lookups are measured in maps of one and of a hundred million.
const (
	mapKeys   = 10_000_000
	fewKeys   = 1_000_000
	manyKeys  = 100_000_000
	lookupFor = 1_000_000 // lookups of one round
)

// parent returns the key of one of the rows that were there at the beginning.
func (c *chain) parent(r *rand.Rand) int64 { return 1 + r.Int64N(c.base)*(c.keys/c.base) }

func chainItem(r *rand.Rand, of string) string {
	return fmt.Sprintf("(%s,%d,%d,%d,%d.%02d,'%s')", of, r.Int64(), r.IntN(1000), 1+r.IntN(9), r.IntN(1000), r.IntN(100), text(r, 30+r.IntN(40)))
}

func chainOrder(r *rand.Rand, customer int64) string {
	return fmt.Sprintf("(%d,%d,%d,%d.%02d,'%s','2026-01-01 12:00:00.5')", customer, r.Int64(), 1+r.IntN(4), r.IntN(10_000), r.IntN(100), text(r, 40+r.IntN(80)))
}

const (
	intoCustomers = "INSERT INTO customers (tok, name, email, created) VALUES "
	intoOrders    = "INSERT INTO orders (customer, tok, status, amount, note, updated) VALUES "
	intoItems     = "INSERT INTO items (ord, tok, product, quantity, price, note) VALUES "
)

func chainCustomer(r *rand.Rand) string {
	return fmt.Sprintf("(%d,'%s','%s@example.com','2026-01-01')", r.Int64(), text(r, 8+r.IntN(20)), text(r, 10))
}

// writeChain writes orders with three items each, customers, items of old orders and
// changes of old orders.
func writeChain(ctx context.Context, g *generator, c *chain) (txs, rows int, err error) {
	n := scaled(150_000, g.scale)
	return g.parallel(ctx, func(w *writer, i int) error {
		for k := i; k < n && w.err == nil; k += writers {
			switch r := w.rand; r.IntN(10) {
			case 0:
				w.add(1, "%s%s", intoCustomers, chainCustomer(r))
			case 1, 2:
				w.add(1, "UPDATE orders SET status = 1 + status %% 4, amount = amount + 1 WHERE id = %d", c.parent(r))
			case 3:
				w.add(1, "%s%s", intoItems, chainItem(r, fmt.Sprint(c.parent(r))))
			default:
				w.add(4, "BEGIN; %s%s; SET @o = LAST_INSERT_ID(); %s%s,%s,%s; COMMIT", intoOrders, chainOrder(r, c.parent(r)), intoItems,
					chainItem(r, "@o"), chainItem(r, "@o"), chainItem(r, "@o"))
			}
		}
		return nil
	})
}

func writeChain100(ctx context.Context, g *generator, c *chain) (txs, rows int, err error) {
	n := scaled(5000, g.scale)
	return g.parallel(ctx, func(w *writer, i int) error {
		for k := i; k < n && w.err == nil; k += writers {
			r := w.rand
			var customers, orders, items []string
			for range 10 {
				customers = append(customers, chainCustomer(r))
			}
			for range 30 {
				orders = append(orders, chainOrder(r, c.parent(r)))
			}
			for j := range 60 {
				of := fmt.Sprint(c.parent(r))
				if j%2 == 0 { // numbers of one INSERT follow each other
					of = fmt.Sprintf("@o + %d", j/2)
				}
				items = append(items, chainItem(r, of))
			}
			w.add(100, "BEGIN; %s%s; %s%s; SET @o = LAST_INSERT_ID(); %s%s; COMMIT", intoCustomers, strings.Join(customers, ","),
				intoOrders, strings.Join(orders, ","), intoItems, strings.Join(items, ","))
		}
		return nil
	})
}

// fill makes, unlogged, the tables of a chain and the rows that are there at the
// beginning, with keys that are greater by offset.
func (c *chain) fill(ctx context.Context, d *database, offset int64) error {
	db, err := open(d.Server, "sql_log_bin=0")
	if err != nil {
		return err
	}
	defer db.Close()
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	stmts := append([]string{"CREATE DATABASE " + c.schema, "USE " + c.schema, createEnd, "SET cte_max_recursion_depth=1000000"}, c.create...)
	key := fmt.Sprintf("1 + i * %d + %d", c.keys/c.base, offset)
	all := fmt.Sprintf(" FROM (WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < %d) SELECT i FROM n) q", c.base)
	stmts = append(stmts,
		"INSERT INTO customers SELECT "+key+", i, CONCAT('name ', i), CONCAT(i, '@example.com'), '2026-01-01'"+all,
		"INSERT INTO orders SELECT "+key+", "+key+", i, 1 + i % 4, i / 7, CONCAT('note ', i), '2026-01-01 12:00:00.5'"+all,
		"INSERT INTO items SELECT "+key+", "+key+", i, i % 1000, 1 + i % 9, i / 3, CONCAT('note ', i)"+all)
	for _, t := range chainTables {
		stmts = append(stmts, fmt.Sprintf("ALTER TABLE %s AUTO_INCREMENT=%d", t, c.keys+offset+1))
	}
	for _, s := range stmts {
		if _, err := conn.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("%.100s: %w", s, err)
		}
	}
	return nil
}

// shape tells what the tables hold, whatever their ids are.
func (c *chain) shape(ctx context.Context, d *database) (string, error) {
	var parts []string
	for _, q := range []string{
		"SELECT COUNT(*), COALESCE(BIT_XOR(CRC32(CONCAT_WS('|', tok, name, email, created))), 0) FROM $customers",
		"SELECT COUNT(*), COALESCE(BIT_XOR(CRC32(CONCAT_WS('|', o.tok, o.status, o.amount, o.note, o.updated, c.tok, c.name))), 0) FROM $orders o JOIN $customers c ON c.id = o.customer",
		"SELECT COUNT(*), COALESCE(BIT_XOR(CRC32(CONCAT_WS('|', i.tok, i.product, i.quantity, i.price, i.note, o.tok))), 0) FROM $items i JOIN $orders o ON o.id = i.ord",
	} {
		var n, sum string
		if err := d.QueryRowContext(ctx, strings.ReplaceAll(q, "$", c.schema+".")).Scan(&n, &sum); err != nil {
			return "", err
		}
		parts = append(parts, n+" "+sum)
	}
	return strings.Join(parts, ", "), nil
}

// tables of a chain as the map knows them.
func (c *chain) described() (tables []*dfs.Table) {
	for _, name := range chainTables {
		tables = append(tables, &dfs.Table{Schema: c.schema, Name: name, Key: []int{0}, Columns: []dfs.Column{{Name: "id", Type: "bigint"}}})
	}
	return tables
}

// keysUpTo gives the keys step, 2*step and so on, n in all, with consecutive ids.
func keysUpTo(n, step, offset int64) iter.Seq2[dfs.Row, dfs.Value] {
	return func(yield func(dfs.Row, dfs.Value) bool) {
		row := make(dfs.Row, 1)
		for i := int64(1); i <= n; i++ {
			row[0] = dfs.IntValue(i * step)
			if !yield(row, dfs.IntValue(i+offset)) {
				return
			}
		}
	}
}

// fillMap makes a map of consecutive keys.
func (c *chain) fillMap(ctx context.Context, path string) error {
	m, err := relmgr.Open(path, &relmgr.Options{Source: "bench", Tables: c.described()})
	if err != nil {
		return err
	}
	defer m.Close()
	for _, t := range chainTables {
		if _, err := m.Import(ctx, c.schema+"."+t, "", keysUpTo(c.keys, 1, chainOffset)); err != nil {
			return err
		}
	}
	return nil
}

// measureRelmgr carries the chains with and without new ids, in turn, and looks keys
// up in a small and a large map.
func (l *lab) measureRelmgr(ctx context.Context, r *report) error {
	for _, c := range l.chains() {
		if err := l.measureChain(ctx, c, r); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	res, err := l.measureMaps(ctx)
	r.Maps = res
	return err
}

func (l *lab) measureChain(ctx context.Context, c *chain, r *report) error {
	if err := c.fill(ctx, l.source, 0); err != nil {
		return err
	}
	begun := time.Now()
	ids := filepath.Join(l.dir, c.name+".ids")
	if err := c.fillMap(ctx, ids); err != nil {
		return err
	}
	b, err := l.generate(ctx, c.workload)
	if err != nil {
		return err
	}
	b.title = fmt.Sprintf("%s, a map of %s keys", c.title, count(float64(c.keys*int64(len(chainTables)))))
	say("%s: map of %s keys, made in %.1f s with the backlog", c.name, count(float64(c.keys*int64(len(chainTables)))), time.Since(begun).Seconds())
	want, err := c.shape(ctx, l.source)
	if err != nil {
		return err
	}
	res := newResult(b, strict)
	for round := range l.opts.rounds {
		for _, new := range []bool{false, true} {
			s, err := l.carryChain(ctx, c, b, new, ids, want, round)
			if err != nil {
				return err
			}
			k := &contender{name: "dfs", title: "DFS, without relmgr"}
			if new {
				k = &contender{name: relmgrPart, title: "DFS with relmgr"}
			}
			res.add(k, s)
			say("%s: %s: %s rows/s in %.2f s", c.name, k.name, count(s.rate(b.rows)), s.Wall.Seconds())
		}
	}
	r.add(res)
	return nil
}

// carryChain carries the backlog into a target that has the rows of the beginning,
// with new ids or without, and compares the outcome.
func (l *lab) carryChain(ctx context.Context, c *chain, b *backlog, new bool, ids, want string, round int) (s sample, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	name := "dfs"
	offset := int64(0)
	if new {
		name, offset = relmgrPart, chainOffset
	}
	dir, err := os.MkdirTemp(l.dir, c.name+"-")
	if err != nil {
		return s, err
	}
	if !l.opts.keep {
		defer os.RemoveAll(dir)
	}
	x := &trial{lab: l, source: l.source, workers: nativeWorkers, backlog: b, dir: dir}
	if l.opts.profile != "" {
		x.profile = filepath.Join(l.opts.profile, fmt.Sprintf("%s-%s-%d.cpu", c.name, name, round+1))
	}
	if new {
		x.ids = x.path("map")
		if out, err := exec.CommandContext(ctx, "cp", ids, x.ids).CombinedOutput(); err != nil {
			return s, fmt.Errorf("copy the map: %w\n%s", err, out)
		}
	}
	if x.target, err = l.launchTarget(ctx, filepath.Join(dir, "target")); err != nil {
		return s, err
	}
	defer x.target.close()
	if err := c.fill(ctx, x.target, offset); err != nil {
		return s, err
	}
	if s, err = replayDFS(ctx, x); err != nil {
		return s, err
	}
	got, err := c.shape(ctx, x.target)
	if err == nil && got != want {
		err = fmt.Errorf("the target's rows are %s, and the source's %s", got, want)
	}
	if err != nil || !new {
		return s, err
	}
	for _, t := range chainTables {
		var least int64
		if err := x.target.QueryRowContext(ctx, "SELECT MIN(id) FROM "+c.schema+"."+t).Scan(&least); err != nil {
			return s, err
		}
		if least <= offset {
			return s, fmt.Errorf("%s has a row of the id %d, which is none of the map", t, least)
		}
	}
	return s, nil
}

// A mapsResult is how fast keys are found in maps of two sizes, in all rounds.
type mapsResult struct {
	Few  mapLine `json:"few"`
	Many mapLine `json:"many"`
}

// A mapLine is what the rounds with one map gave.
type mapLine struct {
	Keys  int64  `json:"keys"`
	Bytes int64  `json:"bytes"`
	Fill  spread `json:"fill_s"`  // seconds, of the only time
	Open  spread `json:"open_ms"` // milliseconds
	First spread `json:"first"`   // lookups a second, with nothing in memory yet
	Rate  spread `json:"rate"`    // and after those
	RSS   spread `json:"rss"`     // MiB
}

// lookedUp is what a child tells of a map.
type lookedUp struct {
	Open, First, Rate float64
	RSS               int64
}

// measureMaps looks up random keys in a small map and in one a hundred times as large,
// in turn, each in a process of its own.
func (l *lab) measureMaps(ctx context.Context) (*mapsResult, error) {
	res := &mapsResult{Few: mapLine{Keys: max(int64(fewKeys*l.opts.maps), 1024)}, Many: mapLine{Keys: max(int64(manyKeys*l.opts.maps), 100*1024)}}
	lines := []*mapLine{&res.Few, &res.Many}
	paths := make([]string, len(lines))
	for i, line := range lines {
		paths[i] = filepath.Join(l.dir, fmt.Sprintf("map-%d", i))
		begun := time.Now()
		m, err := relmgr.Open(paths[i], &relmgr.Options{Tables: lookupTables()})
		if err != nil {
			return nil, err
		}
		_, err = m.Import(ctx, "s.t", "", keysUpTo(line.Keys, l.opts.step, chainOffset))
		if err = errors.Join(err, m.Close()); err != nil {
			return nil, err
		}
		line.Fill = spread{time.Since(begun).Seconds()}
		info, err := os.Stat(paths[i])
		if err != nil {
			return nil, err
		}
		line.Bytes = info.Size()
		say("%s: a map of %s keys, %d apart: %d MB, made in %.1f s", relmgrPart, count(float64(line.Keys)), l.opts.step, line.Bytes>>20, line.Fill[0])
	}
	for range l.opts.rounds {
		for i, line := range lines {
			cmd, err := childCommand(&job{Do: "lookup", Queue: paths[i], Rows: int(line.Keys), Step: l.opts.step})
			if err != nil {
				return nil, err
			}
			log := filepath.Join(l.dir, "lookup.log")
			f, err := os.Create(log)
			if err != nil {
				return nil, err
			}
			cmd.Stderr = f
			out, err := cmd.Output()
			f.Close()
			if err != nil {
				return nil, fmt.Errorf("lookups: %w; it wrote\n%s", err, tail(log))
			}
			var got lookedUp
			if err := json.Unmarshal(out, &got); err != nil {
				return nil, err
			}
			line.Open, line.First, line.Rate = append(line.Open, got.Open), append(line.First, got.First), append(line.Rate, got.Rate)
			line.RSS = append(line.RSS, float64(got.RSS)/(1<<20))
			say("%s: %s keys: opened in %.1f ms, %s lookups/s, then %s", relmgrPart, count(float64(line.Keys)), got.Open, count(got.First), count(got.Rate))
		}
	}
	return res, nil
}

func lookupTables() []*dfs.Table {
	return []*dfs.Table{{Schema: "s", Name: "t", Key: []int{0}, Columns: []dfs.Column{
		{Name: "id", Type: "bigint"}, {Name: "a", Type: "bigint"}, {Name: "b", Type: "bigint"}}}}
}

// lookup gives rows that the map knows their ids, as a pipeline does: a key and two
// references each, 4096 rows a batch, each of which the map commits.
func (j *job) lookup(ctx context.Context) error {
	tables := lookupTables()
	fk := func(column string) relmgr.ForeignKey {
		return relmgr.ForeignKey{Name: column, Schema: "s", Table: "t", Columns: []string{column}, ParentSchema: "s", Parent: "t", ParentColumns: []string{"id"}}
	}
	begun := time.Now()
	m, err := relmgr.Open(j.Queue, &relmgr.Options{Tables: tables, ForeignKeys: []relmgr.ForeignKey{fk("a"), fk("b")}, Adopt: true})
	if err != nil {
		return err
	}
	got := lookedUp{Open: time.Since(begun).Seconds() * 1000}
	r := rand.New(rand.NewPCG(1, 2))
	seq := uint64(0)
	carry := func(rows int) (perSecond float64, err error) {
		var took time.Duration
		for done := 0; done < rows; done += 4096 {
			seq++
			tx := &dfs.Transaction{Checkpoint: dfs.Checkpoint{Seq: seq}, Changes: make([]dfs.Change, 4096)}
			for i := range tx.Changes {
				row := make(dfs.Row, 3)
				for k := range row {
					row[k] = dfs.IntValue((1 + r.Int64N(int64(j.Rows))) * j.Step)
				}
				tx.Changes[i] = dfs.Change{Op: dfs.Insert, Table: tables[0], After: row}
			}
			want := tx.Changes[0].After[0].Int()/j.Step + chainOffset
			begun := time.Now()
			if err := m.Process(ctx, []*dfs.Transaction{tx}); err != nil {
				return 0, err
			}
			took += time.Since(begun)
			if id := tx.Changes[0].After[0].Int(); id != want {
				return 0, fmt.Errorf("a key got the id %d, and its id is %d", id, want)
			}
		}
		return float64(3*rows) / took.Seconds(), nil
	}
	if got.First, err = carry(lookupFor / 3); err != nil {
		return err
	}
	if got.Rate, err = carry(lookupFor); err != nil {
		return err
	}
	got.RSS = childproc.PeakRSS(os.Getpid())
	return errors.Join(json.NewEncoder(os.Stdout).Encode(got), m.Close())
}

// table returns what was measured.
func (m *mapsResult) table() table {
	t := table{
		title: "relmgr: lookups of random keys, a key and two references a row, as a pipeline does them",
		note:  "first: the first " + count(lookupFor) + " lookups of a process, with nothing in memory yet",
		head:  []string{"", "file MB", "made in s", "opened in ms", "first/s", "then/s", "peak MiB"},
	}
	for _, l := range []*mapLine{&m.Few, &m.Many} {
		t.rows = append(t.rows, []string{count(float64(l.Keys)) + " keys", count(float64(l.Bytes >> 20)), l.Fill.text(figure), l.Open.text(figure),
			l.First.text(count), l.Rate.text(count), l.RSS.text(figure)})
	}
	return t
}

// ratios returns how many times as fast the large map was, in each round.
func (m *mapsResult) ratios() (s spread) {
	for i := range min(len(m.Few.Rate), len(m.Many.Rate)) {
		s = append(s, m.Many.Rate[i]/m.Few.Rate[i])
	}
	return s
}

// newIDs opens the map as examples/basic does.
func (j *job) newIDs(ctx context.Context, src *cdc.Source) (stages []dfs.Stage, end func() error, err error) {
	tables, err := src.Tables(ctx)
	if err != nil {
		return nil, nil, err
	}
	keys, err := src.ForeignKeys(ctx)
	if err != nil {
		return nil, nil, err
	}
	blocks, err := sink.OpenIDs(ctx, j.Target, nil)
	if err != nil {
		return nil, nil, err
	}
	m, err := relmgr.Open(j.IDs, &relmgr.Options{Source: "bench", Tables: tables, ForeignKeys: keys, Allocator: blocks})
	if err != nil {
		return nil, nil, errors.Join(err, blocks.Close())
	}
	return []dfs.Stage{m}, func() error { return errors.Join(m.Close(), blocks.Close()) }, nil
}

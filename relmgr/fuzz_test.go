package relmgr_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/dfstest"
	"github.com/dataflowsync/dfs/relmgr"
	"github.com/stretchr/testify/require"
)

var (
	seeds = flag.Int("seeds", 30, "how many random schemas and workloads to run")
	seed  = flag.Uint64("seed", 1, "the first of their seeds")
)

// A world is a source in memory: tables that refer to each other, and rows that obey
// no more than what a source would make sure of. It knows by itself what each column
// refers to, and so what a target must look like.
type world struct {
	r      *rand.Rand
	tables []*worldTable
	txs    []dfs.Transaction
	tx     []dfs.Change
}

type worldTable struct {
	*dfs.Table
	refs []worldRef
	key  []int
	rows []dfs.Row
}

// A worldRef is a reference: columns of the table, in the order of the parent's key.
type worldRef struct {
	cols    []int
	parent  *worldTable
	cascade bool // else SET NULL
	late    bool // rows may come before their parent
	kind    int  // the column that tells the parent, or -1
	json    bool
}

func newWorld(t *testing.T, seed uint64) (*world, *relmgr.Options) {
	w := &world{r: newRand(seed)}
	opts := &relmgr.Options{Source: "north"}
	n := 2 + w.r.IntN(5)
	for i := range n {
		name := fmt.Sprintf("s.t%d", i)
		wt := &worldTable{}
		typ := []string{"int", "bigint unsigned", "bigint", "varchar(20)"}[w.r.IntN(4)]
		def := fmt.Sprintf("%s (id %s, v int", name, typ)
		switch {
		case i > 0 && len(w.tables[i-1].key) == 1 && w.r.IntN(4) == 0:
			// Lines of another table.
			p := w.tables[w.r.IntN(i)]
			if len(p.key) != 1 {
				p = w.tables[i-1]
			}
			wt.refs = append(wt.refs, worldRef{cols: []int{0}, parent: p, cascade: true, kind: -1})
			def = fmt.Sprintf("%s (id %s, v int, line int, key (id, line)", name, p.Columns[p.Key[0]].Type)
		case w.r.IntN(6) == 0:
			def = fmt.Sprintf("%s (id int, v int, year int, key (year, id)", name)
			opts.Policies = append(opts.Policies, relmgr.Policy{Table: name, Column: "id"})
		default:
			def += ", key id"
			switch {
			case typ == "varchar(20)" && w.r.IntN(2) == 0:
				opts.Policies = append(opts.Policies, relmgr.Policy{Table: name, IDs: relmgr.UUID, Type: "varchar(40)"})
			case typ == "varchar(20)":
				opts.Policies = append(opts.Policies, relmgr.Policy{Table: name, Func: func(_ context.Context, k relmgr.Key) (dfs.Value, error) {
					return dfs.StringValue("n-" + k.Values[0].Text()), nil
				}})
			case w.r.IntN(6) == 0:
				opts.Policies = append(opts.Policies, relmgr.Policy{Table: name, IDs: relmgr.UUID})
			}
		}
		wt.Table = dfstest.Table(t, def+")")
		wt.key = wt.Key
		w.tables = append(w.tables, wt)
	}
	// References to any table, also to itself and in rings.
	for i, wt := range w.tables {
		for k := range w.r.IntN(4) {
			p := w.tables[w.r.IntN(n)]
			var cols []int
			for _, c := range p.Key {
				col := p.Columns[c]
				col.Name, col.Nullable = fmt.Sprintf("r%d_%s", k, p.Columns[c].Name), true
				cols = append(cols, len(wt.Columns))
				wt.Columns = append(wt.Columns, col)
			}
			ref := worldRef{cols: cols, parent: p, cascade: w.r.IntN(2) == 0, late: w.r.IntN(4) == 0, kind: -1}
			wt.refs = append(wt.refs, ref)
		}
		if p := w.tables[w.r.IntN(n)]; len(p.Key) == 1 && w.r.IntN(3) == 0 {
			wt.Columns = append(wt.Columns, dfs.Column{Name: "kind", Type: "varchar(10)", Charset: "ascii", Collation: "ascii_bin"},
				dfs.Column{Name: "about", Type: p.Columns[p.Key[0]].Type, Nullable: true, Charset: p.Columns[p.Key[0]].Charset, Collation: p.Columns[p.Key[0]].Collation})
			c := len(wt.Columns)
			wt.refs = append(wt.refs, worldRef{cols: []int{c - 1}, parent: p, kind: c - 2, late: true})
			opts.References = append(opts.References, relmgr.Reference{Table: wt.String(), Columns: []string{"about"}, TypeColumn: "kind",
				Parents: map[string]string{"it": p.String(), "no": ""}})
		}
		if p := w.tables[w.r.IntN(n)]; len(p.Key) == 1 && w.r.IntN(3) == 0 {
			wt.refs = append(wt.refs, worldRef{cols: []int{len(wt.Columns)}, parent: p, kind: -1, json: true, late: true})
			wt.Columns = append(wt.Columns, dfs.Column{Name: "doc", Type: "json", Nullable: true})
			opts.References = append(opts.References, relmgr.Reference{Table: wt.String(), Columns: []string{"doc"}, Path: "$.a[*]", Parent: p.String()})
		}
		opts.Tables = append(opts.Tables, wt.Table)
		for k, ref := range wt.refs {
			if ref.kind >= 0 || ref.json {
				continue
			}
			fk := relmgr.ForeignKey{Name: fmt.Sprintf("fk%d_%d", i, k), Schema: "s", Table: wt.Name, ParentSchema: "s", Parent: ref.parent.Name}
			for m, c := range ref.cols {
				fk.Columns = append(fk.Columns, wt.Columns[c].Name)
				fk.ParentColumns = append(fk.ParentColumns, ref.parent.Columns[ref.parent.Key[m]].Name)
			}
			if ref.late {
				opts.References = append(opts.References, relmgr.Reference{Table: wt.String(), Columns: fk.Columns, Parent: ref.parent.String(), Late: true})
			} else {
				opts.ForeignKeys = append(opts.ForeignKeys, fk)
			}
		}
	}
	return w, opts
}

// value returns a key of few, so that keys come again.
func (w *world) value(col *dfs.Column) dfs.Value {
	n := int64(w.r.IntN(40))
	if w.r.IntN(3) == 0 {
		n *= 1000003
	}
	switch {
	case strings.HasPrefix(col.Type, "varchar"):
		return dfs.StringValue(fmt.Sprintf("k%d", n))
	case strings.HasSuffix(col.Type, "unsigned"):
		if w.r.IntN(10) == 0 {
			return dfs.UintValue(1<<63 + uint64(n))
		}
		return dfs.UintValue(uint64(n))
	}
	return dfs.IntValue(n)
}

func pick(row dfs.Row, cols []int) (key []dfs.Value) {
	for _, c := range cols {
		key = append(key, row[c])
	}
	return key
}

func (wt *worldTable) find(key []dfs.Value) int {
	return slices.IndexFunc(wt.rows, func(r dfs.Row) bool { return slices.Equal(pick(r, wt.key), key) })
}

// point lets a row refer to a row that is there, to one that may come, or to none.
func (w *world) point(wt *worldTable, row dfs.Row, ref worldRef) bool {
	p := ref.parent
	inKey := slices.Contains(wt.key, ref.cols[0])
	var key []dfs.Value
	switch {
	case len(p.rows) > 0 && (inKey || w.r.IntN(4) > 0):
		key = pick(p.rows[w.r.IntN(len(p.rows))], p.key)
	case inKey:
		return false
	case ref.late && w.r.IntN(2) == 0:
		for _, c := range p.key {
			key = append(key, w.value(&p.Columns[c]))
		}
		if slices.ContainsFunc(p.refs, func(r worldRef) bool { return slices.Contains(p.key, r.cols[0]) }) {
			key = nil // half of such a key is another table's
		}
	}
	switch {
	case ref.json:
		doc := `{"a": [`
		if key != nil {
			text := key[0].String()
			if key[0].Kind() == dfs.String {
				text = `"` + text + `"`
			}
			doc += text + ", " + text
		}
		row[ref.cols[0]] = dfs.JSONValue(doc + `], "b": 7}`)
		return true
	case ref.kind >= 0:
		row[ref.kind] = dfs.StringValue([]string{"it", "no"}[w.r.IntN(2)])
	}
	for i, c := range ref.cols {
		row[c] = dfs.NullValue()
		if key != nil {
			row[c] = key[i]
		}
	}
	return true
}

func (w *world) emit(wt *worldTable, op dfs.Op, before, after dfs.Row, noKeys bool) {
	w.tx = append(w.tx, dfs.Change{Op: op, Table: wt.Table, Before: slices.Clone(before), After: slices.Clone(after), NoForeignKeys: noKeys})
}

// children calls f for each row that refers to a key by a foreign key.
func (w *world) children(p *worldTable, key []dfs.Value, f func(wt *worldTable, ref worldRef, row dfs.Row)) {
	for _, wt := range w.tables {
		for _, ref := range wt.refs {
			if ref.parent != p || ref.kind >= 0 || ref.json || ref.late {
				continue
			}
			for _, row := range slices.Clone(wt.rows) {
				if slices.Equal(pick(row, ref.cols), key) && wt.find(pick(row, wt.key)) >= 0 {
					f(wt, ref, row)
				}
			}
		}
	}
}

func (w *world) remove(wt *worldTable, row dfs.Row) {
	key := pick(row, wt.key)
	at := wt.find(key)
	if at < 0 {
		return
	}
	row = wt.rows[at]
	wt.rows = slices.Delete(wt.rows, at, at+1)
	// MySQL 9.6 and later logs children first.
	w.children(wt, key, func(c *worldTable, ref worldRef, child dfs.Row) {
		if ref.cascade {
			w.remove(c, child)
			return
		}
		w.set(c, child, ref.cols, nil)
	})
	w.emit(wt, dfs.Delete, row, nil, true)
}

// set changes columns of a row, by an action of a foreign key.
func (w *world) set(wt *worldTable, row dfs.Row, cols []int, to []dfs.Value) {
	at := wt.find(pick(row, wt.key))
	if at < 0 {
		return
	}
	before := wt.rows[at]
	after := slices.Clone(before)
	for i, c := range cols {
		after[c] = dfs.NullValue()
		if to != nil {
			after[c] = to[i]
		}
	}
	if !slices.Equal(pick(before, wt.key), pick(after, wt.key)) {
		w.rename(wt, before, after)
		return
	}
	wt.rows[at] = after
	w.emit(wt, dfs.Update, before, after, true)
}

// rename gives a row another key, and its children with it.
func (w *world) rename(wt *worldTable, before, after dfs.Row) {
	at := wt.find(pick(before, wt.key))
	if at < 0 || wt.find(pick(after, wt.key)) >= 0 {
		return
	}
	wt.rows[at] = after
	old, key := pick(before, wt.key), pick(after, wt.key)
	w.emit(wt, dfs.Update, before, after, true)
	w.children(wt, old, func(c *worldTable, ref worldRef, child dfs.Row) { w.set(c, child, ref.cols, key) })
}

// work makes transactions.
func (w *world) work(n int) {
	for range n {
		for range 1 + w.r.IntN(4) {
			wt := w.tables[w.r.IntN(len(w.tables))]
			switch op := w.r.IntN(10); {
			case op < 6 || len(wt.rows) == 0:
				row := make(dfs.Row, len(wt.Columns))
				for i := range row {
					row[i] = w.value(&wt.Columns[i])
				}
				ok := true
				for _, ref := range wt.refs {
					ok = ok && w.point(wt, row, ref)
				}
				if ok && wt.find(pick(row, wt.key)) < 0 {
					wt.rows = append(wt.rows, row)
					w.emit(wt, dfs.Insert, nil, row, false)
				}
			case op < 7:
				w.remove(wt, wt.rows[w.r.IntN(len(wt.rows))])
			case op < 8 && !slices.ContainsFunc(wt.refs, func(r worldRef) bool { return slices.Contains(wt.key, r.cols[0]) }):
				before := wt.rows[w.r.IntN(len(wt.rows))]
				after := slices.Clone(before)
				for _, k := range wt.key {
					after[k] = w.value(&wt.Columns[k])
				}
				w.rename(wt, before, after)
			default:
				at := w.r.IntN(len(wt.rows))
				before := wt.rows[at]
				after := slices.Clone(before)
				after[1] = dfs.IntValue(int64(w.r.IntN(1000)))
				for _, ref := range wt.refs {
					if !slices.Contains(wt.key, ref.cols[0]) && w.r.IntN(2) == 0 {
						w.point(wt, after, ref)
					}
				}
				wt.rows[at] = after
				w.emit(wt, dfs.Update, before, after, false)
			}
		}
		w.txs = append(w.txs, dfs.Transaction{Changes: w.tx, More: len(w.tx) > 3 && w.r.IntN(10) == 0})
		w.tx = nil
	}
	w.txs[len(w.txs)-1].More = false
}

// same compares the target with the source, through the map: rows of the source
// with the new ids that the map has are the rows of the target, and no two keys have
// one id.
func (w *world) same(t *testing.T, m *relmgr.Manager, target *dfstest.Target) {
	for _, wt := range w.tables {
		ids := make(map[string]string)
		var want, columns []string
		for _, c := range wt.Columns {
			columns = append(columns, c.Name)
		}
		for _, row := range wt.rows {
			out := slices.Clone(row)
			key := w.new(t, m, wt, pick(row, wt.key))
			id := fmt.Sprint(key)
			require.Empty(t, ids[id], "two rows of %s have the key %s", wt, id)
			ids[id] = fmt.Sprint(pick(row, wt.key))
			for i, k := range wt.key {
				out[k] = key[i]
			}
			for _, ref := range wt.refs {
				olds := pick(row, ref.cols)
				switch {
				case slices.Contains(wt.key, ref.cols[0]):
					require.Equal(t, w.new(t, m, ref.parent, olds)[0], key[0])
				case ref.json:
					doc := olds[0].Text()
					_, list, _ := strings.Cut(doc, "[")
					list, _, _ = strings.Cut(list, "]")
					if list == "" {
						continue
					}
					first, _, _ := strings.Cut(list, ", ")
					new := w.new(t, m, ref.parent, []dfs.Value{parse(strings.Trim(first, `"`), &ref.parent.Columns[ref.parent.key[0]])})[0]
					text := new.String()
					if first[0] == '"' || new.Kind() == dfs.String {
						text = `"` + text + `"`
					}
					out[ref.cols[0]] = dfs.JSONValue(`{"a": [` + text + ", " + text + `], "b": 7}`)
				case slices.ContainsFunc(olds, dfs.Value.IsNull), ref.kind >= 0 && row[ref.kind].Text() == "no":
				default:
					for i, v := range w.new(t, m, ref.parent, olds) {
						out[ref.cols[i]] = v
					}
				}
			}
			var texts []string
			for _, v := range out {
				texts = append(texts, v.String())
			}
			want = append(want, strings.Join(texts, "|"))
		}
		slices.Sort(want)
		require.Equal(t, want, target.Rows(wt.String(), columns...), "the rows of %s", wt)
	}
}

func parse(text string, col *dfs.Column) dfs.Value {
	if strings.HasPrefix(col.Type, "varchar") {
		return dfs.StringValue(text)
	}
	var n uint64
	fmt.Sscan(text, &n)
	if strings.HasSuffix(col.Type, "unsigned") {
		return dfs.UintValue(n)
	}
	return dfs.IntValue(int64(n))
}

func (w *world) new(t *testing.T, m *relmgr.Manager, wt *worldTable, key []dfs.Value) dfs.Row {
	var args []any
	for _, v := range key {
		args = append(args, v)
	}
	row, ok, err := m.New(t.Context(), wt.String(), args...)
	require.NoError(t, err)
	require.True(t, ok, "%s has no row %v", wt, key)
	return row
}

// Whatever the schema and the workload, and however often the source, the target and
// the stage fail or start anew on the way, the target is the source with other ids.
func TestTheTargetIsTheSourceWithOtherIDs(t *testing.T) {
	for s := range uint64(*seeds) {
		t.Run(fmt.Sprint("seed ", *seed+s), func(t *testing.T) { fuzzOne(t, *seed+s) })
	}
}

func fuzzOne(t *testing.T, seed uint64) {
	w, opts := newWorld(t, seed)
	w.work(150)
	path := filepath.Join(t.TempDir(), "map")
	fault := dfstest.Random(seed, 0.05)
	target := &dfstest.Target{Fault: fault}
	opts.Logger = slog.New(slog.DiscardHandler)
	opts.CacheBytes = 1 << 20
	for end := 0; end < len(w.txs); {
		// Each part of the log is carried by a Manager that is opened anew; what the
		// stage did before an error stays in the map, though it was never applied.
		end = min(len(w.txs), end+1+w.r.IntN(60))
		for w.txs[end-1].More {
			end++
		}
		m, err := relmgr.Open(path, opts)
		require.NoError(t, err)
		again := dfs.StageFunc(func(ctx context.Context, batch []*dfs.Transaction) error {
			if err := m.Process(ctx, batch); err != nil {
				return err
			}
			if w.r.IntN(10) == 0 {
				return dfs.Transient(errors.New("lost"))
			}
			return nil
		})
		p := &dfs.Pipeline{Source: &dfstest.Source{Transactions: w.txs[:end], Fault: fault}, Stages: []dfs.Stage{again}, Sink: target.Open(),
			MaxBatch: 1 + w.r.IntN(20), RetryWait: 1, Logger: opts.Logger}
		require.NoError(t, p.Run(t.Context()))
		if end == len(w.txs) {
			w.same(t, m, target)
			known := int64(0)
			for _, s := range m.Stats() {
				known += s.Keys
			}
			require.NotZero(t, known)
		}
		require.NoError(t, m.Close())
	}
}

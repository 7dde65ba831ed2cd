package dfs

import (
	"hash/maphash"
	"math"
	"slices"
	"strings"
)

// What a change does to what a key names.
type touching uint8

const (
	refers  touching = iota + 1 // a foreign key leads to it
	touches                     // the row is written, and keeps the key
	makes                       // the row with the key comes or goes
)

// clash reports whether the order of two of them matters.
func clash(a, b touching) bool {
	return a == makes || b == makes || a == touches && b == touches
}

// A touch is a row, by one of its keys, or a table that a transaction touches.
type touch struct {
	of    uint64 // hash of the key's or table's name
	value uint64 // hash of the key's values
	how   touching
	table bool // of is a table; else a key
	all   bool // all rows of the table, or any value of the key
}

// Hashes that stand for no value of a key.
const (
	anyValue  = 1 // found by a touch of any value
	someValue = 2 // put by each touch of some value
)

// A keyer tells what transactions touch. It belongs to one goroutine.
type keyer struct {
	tables map[string]*TableKeys
	parent map[string][][]string // columns that foreign keys lead to, by table
	plans  map[*Table]*keyPlan
	seed   maphash.Seed
	list   []touch // what touched returns
}

// A keyPlan says which columns of a table make up its keys.
type keyPlan struct {
	name    uint64
	keyless bool // rows are told by no key
	keys    []keyColumns
	refs    []keyColumns
}

type keyColumns struct {
	of      uint64
	columns []int
	vague   bool
	parent  uint64 // the table that a foreign key leads to
}

func newKeyer(list []TableKeys) *keyer {
	k := &keyer{tables: make(map[string]*TableKeys), parent: make(map[string][][]string), plans: make(map[*Table]*keyPlan), seed: maphash.MakeSeed()}
	for i := range list {
		t := &list[i]
		k.tables[t.Schema+"."+t.Name] = t
		for _, r := range t.References {
			name := r.ParentSchema + "." + r.Parent
			k.parent[name] = append(k.parent[name], r.ParentColumns)
		}
	}
	return k
}

func (k *keyer) hash(s string) uint64 { return maphash.String(k.seed, s) }

// set returns the hash that names a key: its table and its columns, in the order
// of their names, and where in columns each of them is.
func (k *keyer) set(table string, columns []string) (of uint64, order []int) {
	lower := make([]string, len(columns))
	for i, c := range columns {
		lower[i] = strings.ToLower(c)
		order = append(order, i)
	}
	slices.SortFunc(order, func(a, b int) int { return strings.Compare(lower[a], lower[b]) })
	text := table
	for _, i := range order {
		text += "\x00" + lower[i]
	}
	return k.hash(text), order
}

func (k *keyer) plan(t *Table) *keyPlan {
	if p := k.plans[t]; p != nil {
		return p
	}
	name := t.String()
	p := &keyPlan{name: k.hash(name), keyless: true}
	find := func(columns []string) []int {
		at := make([]int, len(columns))
		for i, c := range columns {
			if at[i] = t.Column(c); at[i] < 0 {
				return nil
			}
		}
		return at
	}
	add := func(columns []string, vague bool) {
		of, order := k.set(name, columns)
		if slices.ContainsFunc(p.keys, func(c keyColumns) bool { return c.of == of }) {
			return
		}
		at := find(columns)
		if at == nil { // made of something else than columns
			p.keys = append(p.keys, keyColumns{of: of, vague: true})
			return
		}
		c := keyColumns{of: of, vague: vague}
		for _, i := range order {
			c.columns = append(c.columns, at[i])
		}
		p.keys = append(p.keys, c)
	}
	if len(t.Key) > 0 {
		var primary []string
		for _, i := range t.Key {
			primary = append(primary, t.Columns[i].Name)
		}
		add(primary, false)
		p.keyless = false
	}
	if known := k.tables[name]; known != nil {
		for _, u := range known.Unique {
			add(u.Columns, u.Vague)
		}
		for _, r := range known.References {
			of, order := k.set(r.ParentSchema+"."+r.Parent, r.ParentColumns)
			at := find(r.Columns)
			if at == nil || len(at) != len(order) {
				continue // the table had other columns then
			}
			c := keyColumns{of: of, parent: k.hash(r.ParentSchema + "." + r.Parent)}
			for _, i := range order {
				c.columns = append(c.columns, at[i])
			}
			p.refs = append(p.refs, c)
		}
	}
	for _, columns := range k.parent[name] {
		add(columns, false)
	}
	if len(k.plans) > 10_000 { // a source may make tables anew again and again
		clear(k.plans)
	}
	k.plans[t] = p
	return p
}

// touched returns what changes touch. A statement touches all rows of its table;
// see mentions for what else. The list is valid until the next call.
func (k *keyer) touched(changes []Change) []touch {
	list := k.list[:0]
	add := func(t touch) {
		// Rows of a transaction have much in common with those before them.
		if !slices.Contains(list[max(0, len(list)-8):], t) {
			list = append(list, t)
		}
	}
	for i := range changes {
		c := &changes[i]
		if c.Table == nil {
			continue
		}
		if c.Op == DDL {
			add(touch{of: k.hash(c.Table.String()), how: makes, table: true, all: true})
			continue
		}
		p := k.plan(c.Table)
		if p.keyless {
			add(touch{of: p.name, how: makes, table: true, all: true})
		} else {
			add(touch{of: p.name, how: touches, table: true})
		}
		after := c.After
		if c.Before != nil && slices.ContainsFunc(after, func(v Value) bool { return v.kind == Absent }) {
			after = slices.Clone(after)
			for j := range after { // what is absent has not changed
				if after[j].kind == Absent && j < len(c.Before) {
					after[j] = c.Before[j]
				}
			}
		}
		for j := range p.keys {
			key := &p.keys[j]
			was, hadWas, anyWas := k.value(key, c.Table, c.Before)
			is, hasIs, anyIs := k.value(key, c.Table, after)
			how := makes
			if hadWas && hasIs && was == is && anyWas == anyIs && !(anyIs && keyChanges(key, c.Before, after)) {
				if j > 0 && !p.keyless {
					continue // the primary key tells of the row
				}
				how, hadWas = touches, false
			}
			if hadWas {
				add(touch{of: key.of, value: was, how: how, all: anyWas})
			}
			if hasIs {
				add(touch{of: key.of, value: is, how: how, all: anyIs})
			}
		}
		for j := range p.refs {
			ref := &p.refs[j]
			for _, row := range [2]Row{c.Before, after} {
				if v, has, some := k.value(ref, c.Table, row); has {
					add(touch{of: ref.of, value: v, how: refers, all: some})
					add(touch{of: ref.parent, how: refers, table: true})
				}
			}
		}
	}
	if k.list = list; cap(list) > 1<<16 {
		k.list = nil
	}
	return list
}

// keyChanges reports whether the columns of a key whose value is vague differ.
func keyChanges(key *keyColumns, before, after Row) bool {
	if key.columns == nil {
		return true
	}
	for _, i := range key.columns {
		if i >= len(before) || i >= len(after) || before[i] != after[i] {
			return true
		}
	}
	return false
}

// value returns the hash of a key's values in a row. The row may have no such key:
// one with a NULL is equal to no other. And it may be any, if the values cannot be
// compared here as the server does.
func (k *keyer) value(key *keyColumns, t *Table, row Row) (v uint64, has, vague bool) {
	if row == nil {
		return 0, false, false
	}
	if key.vague {
		return 0, true, true
	}
	var h maphash.Hash
	h.SetSeed(k.seed)
	var buf [64]byte
	for _, i := range key.columns {
		if i >= len(row) {
			return 0, true, true
		}
		if row[i].kind == Null {
			return 0, false, false
		}
		b, ok := appendEqual(buf[:0], row[i], &t.Columns[i])
		if vague = vague || !ok; ok {
			h.Write(b)
			h.WriteByte(0)
		}
	}
	if vague {
		return 0, true, true
	}
	return h.Sum64(), true, false
}

// appendEqual appends what is the same for values that the server takes for equal.
// It fails where that is not known.
func appendEqual(b []byte, v Value, c *Column) ([]byte, bool) {
	switch v.kind {
	case Absent, JSON:
		return b, false
	case Float32, Float64:
		f := v.Float()
		if f == 0 || math.IsNaN(f) {
			f = 0 // -0 too
		}
		return FloatValue(f).Append(b), true
	case Decimal:
		text := v.text()
		if strings.Contains(text, ".") {
			text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
		}
		if text == "-0" {
			text = "0"
		}
		return append(b, text...), true
	case Date, DateTime, Timestamp, Time:
		v.fsp = 6
		return v.Append(b), true
	case String:
		return foldText(b, v.text(), c)
	}
	return v.Append(b), true
}

// foldText appends a text so that texts which are equal under the column's
// collation have the same result. That is known for ASCII, under collations that
// are of no one language; case, spaces at the end, and control characters are left
// out, also where they count.
func foldText(b []byte, s string, c *Column) ([]byte, bool) {
	wide := strings.HasPrefix(c.Charset, "utf16") || strings.HasPrefix(c.Charset, "utf32") || c.Charset == "ucs2"
	if c.Collation == "" || c.Collation == "binary" || strings.HasSuffix(c.Collation, "_bin") {
		return append(b, strings.TrimRight(s, " ")...), !wide
	}
	rest := c.Collation
	if _, after, ok := strings.Cut(rest, "_"); ok {
		rest = after
	}
	known := rest == "swedish_ci" && strings.HasPrefix(c.Collation, "latin1") ||
		slices.ContainsFunc([]string{"general", "unicode", "0900", "uca1400"}, func(p string) bool {
			return rest == p || strings.HasPrefix(rest, p+"_") && len(strings.Split(rest, "_")) <= 4
		})
	if wide || !known {
		return b, false
	}
	for _, ch := range []byte(strings.TrimRight(s, " ")) {
		switch {
		case ch >= 0x80:
			return b, false
		case ch < ' ', ch == 0x7f: // they weigh nothing in some collations
		case 'A' <= ch && ch <= 'Z':
			b = append(b, ch+'a'-'A')
		default:
			b = append(b, ch)
		}
	}
	return b, true
}

// mix makes one hash of two.
func mix(a, b uint64) uint64 {
	a ^= b + 0x9e3779b97f4a7c15 + a<<6 + a>>2
	a ^= a >> 31
	return a * 0xbf58476d1ce4e5b9
}

// A letterIndex finds the letters that touch the same as a transaction.
type letterIndex struct {
	at     map[uint64][]indexed
	tables map[string][]*parked // letters by the names of their tables
	ddl    []*parked            // those with statements
}

type indexed struct {
	letter *parked
	how    touching
}

func newLetterIndex() *letterIndex {
	return &letterIndex{at: make(map[uint64][]indexed), tables: make(map[string][]*parked)}
}

// add enters a letter, by what it touches.
func (x *letterIndex) add(l *parked, list []touch) {
	put := func(h uint64, how touching) {
		at := x.at[h]
		for i := range at {
			if at[i].letter == l {
				at[i].how = max(at[i].how, how)
				return
			}
		}
		x.at[h] = append(at, indexed{l, how})
	}
	for _, t := range list {
		kind := uint64(0)
		if t.table {
			kind = 1 << 63
		}
		put(mix(t.of^kind, someValue), t.how)
		if t.all {
			put(mix(t.of^kind, anyValue), t.how)
		} else if !t.table {
			put(mix(t.of, t.value|4), t.how)
		}
	}
	for _, name := range l.Tables {
		if !slices.Contains(x.tables[name], l) {
			x.tables[name] = append(x.tables[name], l)
		}
	}
	if l.Statements > 0 && !slices.Contains(x.ddl, l) {
		x.ddl = append(x.ddl, l)
	}
}

// clashes calls f for letters of which the order with one that touches list matters,
// perhaps more than once each, until it returns false.
func (x *letterIndex) clashes(list []touch, changes []Change, f func(*parked) bool) {
	find := func(h uint64, how touching) bool {
		for _, e := range x.at[h] {
			if !e.letter.gone && clash(e.how, how) && !f(e.letter) {
				return false
			}
		}
		return true
	}
	for _, t := range list {
		kind := uint64(0)
		if t.table {
			kind = 1 << 63
		}
		ok := true
		switch {
		case t.all:
			ok = find(mix(t.of^kind, someValue), t.how)
		case t.table:
			ok = find(mix(t.of^kind, anyValue), t.how)
		default:
			ok = find(mix(t.of, t.value|4), t.how) && find(mix(t.of, anyValue), t.how)
		}
		if !ok {
			return
		}
	}
	// A statement may be about several tables, and say so in its text only.
	for i := range changes {
		c := &changes[i]
		if c.Op == DDL {
			text := strings.ToLower(c.Query)
			for name, letters := range x.tables {
				if !mentions(text, name) {
					continue
				}
				for _, l := range letters {
					if !l.gone && !f(l) {
						return
					}
				}
			}
			for _, l := range x.ddl {
				if !l.gone && !f(l) {
					return
				}
			}
			continue
		}
		for _, l := range x.ddl {
			if !l.gone && mentions(l.query, c.Table.String()) && !f(l) {
				return
			}
		}
	}
}

// mentions reports whether a statement, in lower case, may be about the table, or
// about its schema as a whole.
func mentions(text, table string) bool {
	schema, name, _ := strings.Cut(strings.ToLower(table), ".")
	if strings.Contains(text, name) {
		return true
	}
	return strings.Contains(text, schema) && (strings.Contains(text, "database") || strings.Contains(text, "schema"))
}

package sink

import (
	"hash/maphash"
	"slices"

	"github.com/dataflowsync/dfs"
)

// A run of changes is merged into groups: lists of rows of one table that one
// kind of statement applies. The groups are executed in order, in one
// transaction of the target. A change joins the latest group of its kind if
// nothing after that group stands in its way, else it starts a new one at the
// end.
//
// Why the outcome is that of applying the changes one by one, if no statement
// fails and each finds as many rows as it must:
//
//  1. What an INSERT, UPDATE or DELETE by key does to its row follows from the
//     change alone. So a row's last state follows from the order of the changes
//     of this row only, and that order is kept: a change never joins a group
//     before one that holds its key, before or after.
//  2. Keys are compared by their bytes, which is finer than the server's
//     collation. A source that compares as the target does has at no time two
//     rows with equal keys. So if two keys differ in bytes and not for the
//     server, then the row of the first was deleted or renamed before the
//     second came. In the wrong order the second meets the first, and the
//     server refuses it or finds no row. A table of which this is not known
//     keeps its order (mapping.ordered).
//     (The order of keys that differ in case only is kept, since it is a common
//     case; but nothing depends on that.)
//  3. Other unique keys and foreign keys that refuse can make a statement fail,
//     but do not change what it does. Their order is kept as well, so that this
//     seldom happens.
//  4. What a change does to other rows, by the action of a foreign key or by a
//     trigger, is executed in its place: nothing moves across it.
//
// If a statement fails or counts wrong, the run is undone and applied in pieces
// and at last one by one: see conflict.go.

// group is changes of one kind, to be executed together.
type group struct {
	m      *mapping
	op     dfs.Op
	noFK   bool // with foreign_key_checks=0
	part   bool // of rows that other changes make up too, see part.go
	serial bool // one statement for each row, in order
	fixed  bool // nothing moves across it
	raw    bool // rows are found by the bytes of their text
	spare  bool // rows that a DELETE names need not be there, see over.go
	gone   int  // rows that need not be updated, since they are deleted later
	cols   colset
	rows   []rowOp // those that are gone have no images
}

// rowOp is one row of a group. cols of a group, for an update, are the columns
// that are written; for an insert, those that are present, nil meaning all.
type rowOp struct{ before, after dfs.Row }

// tableRun is what a run did so far to one table of the target. It exists also
// for tables that are known only as the other side of a foreign key.
type tableRun struct {
	epoch   uint64 // the run that the rest is about
	id      uint64
	last    int // latest group that changes the table; -1 if none does
	lastIns int // latest group that may give a child its parent
	freed   int // latest group that gives up a unique value not known here
	keyOrd  string
	barrier int   // what came before keyOrd changed ends with this group
	open    []int // groups of the table, ascending
}

// touch says which row last had a key.
type touch struct{ group, row int32 }

// merger builds the groups of one run after the other. It keeps memory for as many
// rows as a run has, however they were spread over groups.
type merger struct {
	seed    maphash.Seed
	epoch   uint64
	ids     uint64
	floor   int // the first group that a change may join
	groups  []group
	free    [][]rowOp // memory for rows, to be taken from the end
	kept    int       // how many rows free has room for
	touch   map[uint64]touch
	touched int // for how many keys touch has room
	marks   []mark
	cols    colset

	// broken names a rule to drop, for tests that must notice.
	broken string
}

// mark is a key that the change at hand touches.
type mark struct {
	hash uint64
	seen touch
	ok   bool // seen is set
}

// minKept is for how many rows memory is kept, at 48 bytes each, also if runs are
// smaller.
const minKept = 1 << 16

// maxLookBack is how many groups of its table a change tries to join.
const maxLookBack = 16

func newMerger() *merger {
	return &merger{seed: maphash.MakeSeed(), touch: make(map[uint64]touch)}
}

// reset begins a run. The groups of the last one are no longer valid.
func (g *merger) reset() {
	g.epoch++
	g.ids, g.floor = 0, 0
	most := 0
	for i := range g.groups {
		most += 2 * len(g.groups[i].rows)
	}
	most = max(most, minKept)
	for n := len(g.free) - 1; g.kept > most; n-- {
		g.kept -= cap(g.free[n])
		g.free[n] = nil
		g.free = g.free[:n]
	}
	for i := len(g.groups) - 1; i >= 0; i-- { // so that the first one gets its memory back
		rows := g.groups[i].rows
		g.groups[i] = group{}
		if n := cap(rows); g.kept+n <= most {
			clear(rows) // let go of them
			g.free = append(g.free, rows[:0])
			g.kept += n
		}
	}
	g.groups = g.groups[:0]
	if g.touched = max(g.touched, len(g.touch)); g.touched > minKept && len(g.touch) < g.touched/8 {
		g.touch, g.touched = make(map[uint64]touch), 0
	}
	clear(g.touch)
}

// room returns memory for the rows of a new group.
func (g *merger) room() (rows []rowOp) {
	if n := len(g.free) - 1; n >= 0 {
		rows, g.free[n] = g.free[n], nil
		g.free = g.free[:n]
		g.kept -= cap(rows)
	}
	return rows
}

func (g *merger) run(r *tableRun) *tableRun {
	if r.epoch != g.epoch {
		g.ids++
		*r = tableRun{epoch: g.epoch, id: g.ids, last: -1, lastIns: -1, freed: -1, barrier: -1, open: r.open[:0]}
	}
	return r
}

// add puts a change into the run. The rows are kept until the next reset.
func (g *merger) add(c *dfs.Change, m *mapping) error {
	m, err := m.locate(c)
	if err != nil {
		return err
	}
	if c.Part && c.Op == dfs.Update {
		return g.addPart(c, m)
	}
	if c.Overwrite && c.Op == dfs.Insert {
		return g.addOver(c, m)
	}
	t := m.to
	r := g.run(t.run)
	keyChange := c.Op == dfs.Update && m.keyChanges(c)

	var cols colset
	switch c.Op {
	case dfs.Update:
		cols = m.changed(g.cols, c)
		g.cols = cols
		if cols.empty() {
			return nil // the source changed only what the target does not have
		}
	case dfs.Insert:
		cols = m.present(c.After)
	}
	// The columns of a foreign key need not all come from the source.
	movesChildren := len(t.children) > 0 && (c.Op == dfs.Delete || c.Op == dfs.Update && (t.madeRefs || cols.meets(m.refCols)))
	movesParents := len(t.parents) > 0 && (c.Op == dfs.Insert || c.Op == dfs.Update && (t.madeRefs || cols.meets(m.fkCols)))
	fixed := (t.inPlace || c.Part && m.partInPlace(c) || movesChildren && !c.NoForeignKeys && t.cascades()) && g.broken != "in place"
	serial := fixed || keyChange || m.key == nil && c.Op != dfs.Insert || t.selfRef && c.Op == dfs.Delete

	need := g.floor
	if r.keyOrd != m.keyOrd {
		// Which changes so far are of the row at hand cannot be told by its key.
		r.keyOrd, r.barrier = m.keyOrd, r.last
	}
	need = max(need, r.barrier)
	if m.ordered || t.selfRef && !c.NoForeignKeys {
		need = max(need, r.last)
	}
	if !c.NoForeignKeys && g.broken != "foreign keys" {
		if movesParents {
			for i := range t.parents {
				need = max(need, g.run(t.parents[i].run).lastIns)
			}
		}
		if movesChildren {
			for i := range t.children {
				need = max(need, g.run(t.children[i].run).last)
			}
		}
	}

	g.marks = g.marks[:0]
	same := touch{group: -1}
	if m.key != nil {
		need, same = g.markKeys(c, m, r, keyChange, need)
	}
	if c.Op == dfs.Update && !serial && same.group >= 0 && int(same.group) >= need && g.fold(c, m, same) {
		g.note(r, int(same.group), int(same.row), movesChildren)
		return nil
	}
	if c.Op == dfs.Delete && !serial && same.group >= 0 {
		g.skip(c, m, same)
	}
	at, row := g.place(c, m, r, need, cols, serial, fixed, same)
	g.note(r, at, row, movesChildren || c.Op == dfs.Insert)
	if c.Op != dfs.Insert && m.freesUnknown(c) {
		r.freed = max(r.freed, at)
	}
	return nil
}

// freesUnknown reports whether c gives up a unique value that its image leaves
// out.
func (m *mapping) freesUnknown(c *dfs.Change) bool {
	for _, u := range m.uniques {
		for _, i := range u.cols {
			if c.Before[i].Kind() == dfs.Absent && (c.Op == dfs.Delete || changes(c, u.cols)) {
				return true
			}
		}
	}
	return false
}

// markKeys collects the keys that c touches, and returns the first group that
// it may join because of them, and where its row was touched last.
func (g *merger) markKeys(c *dfs.Change, m *mapping, r *tableRun, keyChange bool, need int) (int, touch) {
	same := touch{group: -1}
	base := r.id << 8
	row := c.Before
	if c.Op == dfs.Insert {
		row = c.After
	}
	for pass := 0; ; pass++ {
		h, _ := g.hash(base, row, m.key, nil)
		seen, ok := g.touch[h]
		g.marks = append(g.marks, mark{h, seen, ok})
		if ok && g.broken != "primary key" {
			p := &g.groups[seen.group]
			if o := &p.rows[seen.row]; m.sameKey(row, p.m, o.before) || m.sameKey(row, p.m, o.after) {
				need = max(need, int(seen.group))
				if pass == 0 {
					same = seen
				}
			} else {
				need = max(need, int(seen.group)+1) // another key, perhaps equal for the server
			}
		}
		if !keyChange || pass == 1 {
			break
		}
		row = m.newKey(c)
	}
	for k, u := range m.uniques {
		if c.Op == dfs.Update && !changes(c, u.cols) {
			continue
		}
		if c.Op != dfs.Delete {
			need = max(need, r.freed)
			if c.Op == dfs.Update && r.freed >= 0 {
				need = max(need, r.freed+1)
			}
		}
		for _, row := range [2]dfs.Row{c.Before, c.After} {
			h, ok := g.hash(base+uint64(k)+1, row, u.cols, u.parts)
			if !ok {
				continue
			}
			seen, ok := g.touch[h]
			g.marks = append(g.marks, mark{h, seen, ok})
			if !ok || g.broken == "unique keys" {
				continue
			}
			// Within one group an update's rows are in no certain order, since
			// two updates of a row become one. So the value must be free before.
			if seen != same && c.Op == dfs.Update {
				need = max(need, int(seen.group)+1)
			}
			need = max(need, int(seen.group))
		}
	}
	return need, same
}

// fold makes an update part of the insert of the same row, if that stands in a
// group which the update may join.
func (g *merger) fold(c *dfs.Change, m *mapping, same touch) bool {
	o := &g.groups[same.group]
	if o.op != dfs.Insert || o.serial || o.m != m || o.noFK != c.NoForeignKeys || o.cols != nil {
		return false
	}
	r := &o.rows[same.row]
	r.after = overlay(r.after, c.After)
	return true
}

// skip leaves out the update of a row that c deletes, if nothing else can have
// depended on it: it is of columns that are part of no key, and nothing was executed in
// its place since, such as a trigger, which may have read the row. Should the row not
// be there, the DELETE tells.
func (g *merger) skip(c *dfs.Change, m *mapping, same touch) {
	o := &g.groups[same.group]
	if int(same.group) < g.floor || o.op != dfs.Update || o.serial || o.fixed || o.part || o.m != m || o.noFK != c.NoForeignKeys || m.to.madeRefs ||
		o.cols.meets(m.fkCols) || o.cols.meets(m.refCols) {
		return
	}
	for _, u := range m.uniques {
		for _, i := range u.cols {
			if o.cols.has(i) {
				return
			}
		}
	}
	o.rows[same.row] = rowOp{}
	o.gone++
}

// finish ends a run, after which its groups may be written and no change added.
func (g *merger) finish() []group {
	for i := range g.groups {
		if o := &g.groups[i]; o.gone > 0 {
			o.rows = slices.DeleteFunc(o.rows, func(r rowOp) bool { return r.before == nil && r.after == nil })
			o.gone = 0
		}
	}
	return g.groups
}

// folds reports whether merging n changes made much of them: fewer rows, or groups that
// later changes should join.
func (g *merger) folds(n int) bool {
	rows := 0
	for i := range g.groups {
		rows += len(g.groups[i].rows) - g.groups[i].gone
	}
	return rows < n/8*7 || len(g.groups) > n/500
}

// place puts c into the latest group of its kind that is not before need, or
// into a new one, and returns the group and the row.
func (g *merger) place(c *dfs.Change, m *mapping, r *tableRun, need int, cols colset, serial, fixed bool, same touch) (int, int) {
	op := rowOp{c.Before, c.After}
	if fixed {
		if n := len(g.groups) - 1; n >= 0 {
			if o := &g.groups[n]; o.fixed && o.m == m && o.op == c.Op && o.part == c.Part && o.spare == c.Overwrite && o.noFK == c.NoForeignKeys {
				o.rows = append(o.rows, op)
				return n, len(o.rows) - 1
			}
		}
	} else {
		for k, tries := len(r.open)-1, 0; k >= 0 && r.open[k] >= need && tries < maxLookBack; k, tries = k-1, tries+1 {
			at := r.open[k]
			o := &g.groups[at]
			if o.m != m || o.op != c.Op || o.serial != serial || o.noFK != c.NoForeignKeys || o.part != c.Part || o.spare != c.Overwrite || o.fixed {
				continue
			}
			again := int(same.group) == at && !serial
			if !serial && !o.takes(c, cols, again) {
				continue
			}
			if again {
				x := &o.rows[same.row]
				x.after = overlay(x.after, c.After)
				return at, int(same.row)
			}
			o.rows = append(o.rows, op)
			return at, len(o.rows) - 1
		}
	}
	at := len(g.groups)
	g.groups = append(g.groups, group{m: m, op: c.Op, noFK: c.NoForeignKeys, part: c.Part, spare: c.Overwrite, serial: serial, fixed: fixed, rows: append(g.room(), op)})
	o := &g.groups[at]
	if !serial && cols != nil {
		o.cols = append(colset(nil), cols...)
		// A row that is updated now here, now there, would make a group each
		// time. The wider set lets the next change join.
		if c.Op == dfs.Update && same.group >= 0 {
			if p := &g.groups[same.group]; p.m == m && p.op == dfs.Update && !p.serial && m.has(c.After, p.cols) {
				o.cols.union(p.cols)
			}
		}
	}
	r.open = append(r.open, at)
	if fixed {
		g.floor = at + 1
	}
	return at, 0
}

// takes reports whether the group's set of columns suits the change. again says
// that the row is there already, and keeps what the change leaves out.
func (o *group) takes(c *dfs.Change, cols colset, again bool) bool {
	switch c.Op {
	case dfs.Insert:
		return o.cols == nil && cols == nil || o.cols != nil && cols != nil && o.cols.equal(cols)
	case dfs.Update:
		return cols.within(o.cols) && (again || o.m.has(c.After, o.cols))
	}
	return true
}

// note records that group at touches the marked keys.
func (g *merger) note(r *tableRun, at, row int, parent bool) {
	for _, k := range g.marks {
		g.touch[k.hash] = touch{int32(at), int32(row)}
	}
	r.last = max(r.last, at)
	if parent {
		r.lastIns = max(r.lastIns, at)
	}
}

// hash returns a hash of a key's values, and whether they can be equal to
// others: NULL never is. Keys that the server finds equal mostly have the same
// hash: case and trailing spaces do not count, nor what is beyond the part of
// the column that is indexed. Of parts, nil and 0 stand for all of it.
func (g *merger) hash(h uint64, row dfs.Row, cols, parts []int) (uint64, bool) {
	if row == nil {
		return 0, false
	}
	for k, i := range cols {
		v := row[i]
		var x uint64
		switch v.Kind() {
		case dfs.Null, dfs.Absent:
			return 0, false
		case dfs.Int64, dfs.Uint64:
			x = v.Uint()
		case dfs.String:
			s := v.Text()
			if parts != nil && parts[k] > 0 {
				s = s[:min(len(s), parts[k])] // n characters are n bytes or more
			}
			x = foldedHash(s)
		case dfs.Bytes, dfs.Decimal:
			x = maphash.String(g.seed, v.Text())
		default:
			x = maphash.Comparable(g.seed, v)
		}
		// The finaliser of MurmurHash3: each bit of the input moves half of
		// the output's.
		h ^= x + 0x9e3779b97f4a7c15 + h<<6 + h>>2
		h ^= h >> 33
		h *= 0xff51afd7ed558ccd
		h ^= h >> 33
		h *= 0xc4ceb9fe1a85ec53
		h ^= h >> 33
	}
	return h, true
}

// foldedHash is FNV-1a of s in lower case, without trailing spaces.
func foldedHash(s string) uint64 {
	for len(s) > 0 && s[len(s)-1] == ' ' {
		s = s[:len(s)-1]
	}
	h := uint64(0xcbf29ce484222325)
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c-'A' < 26 {
			c |= 0x20
		}
		h = (h ^ uint64(c)) * 0x100000001b3
	}
	return h
}

// cascades reports whether a foreign key acts on rows of other tables.
func (t *table) cascades() bool {
	for i := range t.children {
		if t.children[i].acts {
			return true
		}
	}
	return false
}

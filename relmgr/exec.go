package relmgr

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/rowkey"
)

// change rewrites a change of rows.
func (m *Manager) change(ctx context.Context, c *dfs.Change) error {
	if c.Table == nil {
		return errors.New("a change names no table")
	}
	p, err := m.plan(c.Table)
	if err != nil {
		return dfs.Standing(err) // it is the same for each row of the table
	}
	if len(p.cells) == 0 {
		return nil
	}
	n := len(c.Table.Columns)
	if c.Op != dfs.Insert && len(c.Before) != n || c.Op != dfs.Delete && len(c.After) != n {
		return &Error{Table: c.Table.String(), Err: fmt.Errorf("a %s does not have the %d columns of its table", c.Op, n)}
	}
	// Old keys are read from both images before either is written to.
	m.vals = m.vals[:0]
	late := false
	for _, row := range [2]dfs.Row{c.Before, c.After} {
		for i := range p.cells {
			cl := &p.cells[i]
			v := dfs.AbsentValue()
			if row != nil {
				var base dfs.Row
				if c.Before != nil && &row[0] != &c.Before[0] {
					base = c.Before
				}
				var waits bool
				if v, waits, err = m.cell(ctx, cl, c.Table, row, base); err != nil {
					shown := row
					if base != nil {
						shown = base
					}
					return m.blame(c.Table, shown, cl, err)
				}
				// What the row referred to before needs no check by the target, and
				// what stays gets none.
				late = late || waits && (c.Op == dfs.Insert || c.Op == dfs.Update && base != nil && v != m.vals[i])
			}
			m.vals = append(m.vals, v)
		}
	}
	for i, row := range [2]dfs.Row{c.Before, c.After} {
		for k := range p.cells {
			if v := m.vals[i*len(p.cells)+k]; row != nil && v.Kind() != dfs.Absent {
				row[p.cells[k].col] = v
			}
		}
	}
	if late {
		c.NoForeignKeys = true
	}
	c.Table = p.out
	return nil
}

func (m *Manager) blame(t *dfs.Table, row dfs.Row, cl *cell, err error) error {
	if errors.Is(err, dfs.ErrTransient) {
		return err
	}
	return &Error{Table: t.String(), Key: rowkey.Describe(t, row), Column: t.Columns[cl.col].Name, Err: err}
}

// cell returns the new value of a column, or Absent if it stays as it is. base is
// the row before an update, which has what the image after it leaves out. late
// says that the row that it refers to has not come, and that this is expected.
func (m *Manager) cell(ctx context.Context, cl *cell, t *dfs.Table, row, base dfs.Row) (v dfs.Value, late bool, err error) {
	if len(cl.args) == 1 && cl.typeCol < 0 {
		if cl.docs != nil {
			if old := row[cl.col]; old.Kind() > dfs.Absent {
				return m.documents(ctx, cl, old)
			}
			return dfs.AbsentValue(), false, nil
		}
		// Nearly all are of this kind.
		old := row[cl.args[0]]
		if old.Kind() <= dfs.Absent || cl.none != nil && cl.none[old.String()] {
			return dfs.AbsentValue(), false, nil
		}
		return m.newID(ctx, cl, cl.space, t, [1]dfs.Value{old})
	}
	there := row[cl.col].Kind() != dfs.Absent
	for _, a := range cl.args {
		there = there || row[a].Kind() != dfs.Absent
	}
	if cl.typeCol >= 0 {
		there = there || row[cl.typeCol].Kind() != dfs.Absent
	}
	if !there || base == nil && row[cl.col].Kind() == dfs.Absent {
		return dfs.AbsentValue(), false, nil
	}
	get := func(i int) (dfs.Value, error) {
		v := row[i]
		if v.Kind() == dfs.Absent && base != nil {
			v = base[i]
		}
		if v.Kind() == dfs.Absent {
			return v, fmt.Errorf("the row image lacks the column %s: set binlog_row_image=FULL on the source", t.Columns[i].Name)
		}
		return v, nil
	}
	// It may have been rewritten in the image before, where this one leaves it out.
	kept := func() (dfs.Value, bool, error) {
		if row[cl.col].Kind() == dfs.Absent {
			return base[cl.col], false, nil
		}
		return dfs.AbsentValue(), false, nil
	}
	sp := cl.space
	if cl.typeCol >= 0 {
		typ, err := get(cl.typeCol)
		if err != nil {
			return v, false, err
		}
		if typ.IsNull() {
			return kept()
		}
		text := memberText(typ, &t.Columns[cl.typeCol])
		to, known := cl.byType[text]
		if !known {
			return v, false, fmt.Errorf("%s says %s = %q, for which there is no table: add it to Parents, as \"\" if the id is to stay", cl.place, t.Columns[cl.typeCol].Name, text)
		}
		if to == nil {
			return kept()
		}
		sp = to
	}
	var few [4]dfs.Value
	olds := few[:0]
	for _, a := range cl.args {
		old, err := get(a)
		if err != nil {
			return v, false, err
		}
		if old.IsNull() {
			return kept() // a key with a NULL refers to nothing
		}
		olds = append(olds, old)
	}
	if len(olds) == 1 && cl.none[olds[0].String()] {
		return dfs.AbsentValue(), false, nil
	}
	return m.newIDs(ctx, cl, sp, t, olds)
}

func (m *Manager) newID(ctx context.Context, cl *cell, sp *space, t *dfs.Table, olds [1]dfs.Value) (dfs.Value, bool, error) {
	if sp.linear {
		key, err := sp.keyOf(olds[0])
		if err != nil {
			return dfs.Value{}, false, err
		}
		id, came, err := m.number(ctx, sp, key, cl.own)
		if err != nil {
			return dfs.Value{}, false, err
		}
		late := cl.late && !came
		switch cl.kind {
		case dfs.Int64:
			return dfs.IntValue(id), late, nil
		case dfs.Uint64:
			return dfs.UintValue(uint64(id)), late, nil
		}
		v, err := toKind(dfs.IntValue(id), cl.kind)
		return v, late, err
	}
	return m.newIDs(ctx, cl, sp, t, olds[:])
}

func (m *Manager) newIDs(ctx context.Context, cl *cell, sp *space, t *dfs.Table, olds []dfs.Value) (v dfs.Value, late bool, err error) {
	if sp.linear {
		return m.newID(ctx, cl, sp, t, [1]dfs.Value{olds[0]})
	}
	m.key = m.key[:0]
	for i, old := range olds {
		if m.key, err = appendKey(m.key, i, old, &t.Columns[cl.args[i]], sp.keyColumn(i)); err != nil {
			return v, false, err
		}
	}
	e, err := m.single(ctx, sp, m.key, func() []dfs.Value { return append([]dfs.Value(nil), olds...) }, cl.own)
	if err != nil {
		return v, false, err
	}
	v, err = toKind(e.new, cl.kind)
	return v, cl.late && !e.came, err
}

// toKind returns a new id as a column holds it.
func toKind(v dfs.Value, kind dfs.Kind) (dfs.Value, error) {
	number := v.Kind() == dfs.Int64
	switch {
	case kind == v.Kind():
		return v, nil
	case number && kind == dfs.Uint64 && v.Int() >= 0:
		return dfs.UintValue(v.Uint()), nil
	case number && kind == dfs.Decimal:
		return dfs.DecimalValue(v.String()), nil
	case number && kind == dfs.String:
		return dfs.StringValue(v.String()), nil
	case v.Kind() == dfs.String && kind == dfs.Bytes:
		return dfs.BytesValue(v.Bytes()), nil
	}
	return v, fmt.Errorf("the new id %s is a %s, which a column of the kind %s cannot hold: set Type in the policy of the table that it is the id of", v, v.Kind(), kind)
}

// keyOf returns a key of a linear space as a number: of an unsigned one its bits.
func (sp *space) keyOf(v dfs.Value) (int64, error) {
	switch v.Kind() {
	case dfs.Int64:
		if v.Int() >= 0 || !sp.unsigned {
			return v.Int(), nil
		}
	case dfs.Uint64:
		if v.Uint() <= math.MaxInt64 || sp.unsigned {
			return v.Int(), nil
		}
	case dfs.String, dfs.Decimal, dfs.Bytes:
		text := strings.TrimRight(v.Text(), " ")
		if whole, fraction, _ := strings.Cut(text, "."); v.Kind() == dfs.Decimal && strings.Trim(fraction, "0") == "" {
			text = whole
		}
		if sp.unsigned {
			if n, err := strconv.ParseUint(text, 10, 64); err == nil && strconv.FormatUint(n, 10) == text {
				return int64(n), nil
			}
		} else if n, err := strconv.ParseInt(text, 10, 64); err == nil && strconv.FormatInt(n, 10) == text {
			return n, nil
		}
	}
	return 0, fmt.Errorf("%q is no id that %s.%s can have: if it stands for no row, say so by None of the reference", v, sp.table, sp.column)
}

func (sp *space) keyColumn(i int) *dfs.Column {
	if i < len(sp.columns) {
		return &sp.columns[i]
	}
	return nil
}

// appendKey appends value i of a key as text, so that values are equal for the
// source's server if their texts are. col is the column that it is in, and own
// that of the table whose key it is, if it is known.
func appendKey(b []byte, i int, v dfs.Value, col, own *dfs.Column) ([]byte, error) {
	if i > 0 {
		b = append(b, 0)
	}
	from := len(b)
	switch v.Kind() {
	case dfs.String:
		text, err := fold(v.Text(), col, own)
		if err != nil {
			return b, err
		}
		b = append(b, text...)
	case dfs.Bytes:
		b = append(b, v.Text()...)
	case dfs.Float32, dfs.Float64, dfs.JSON:
		return b, fmt.Errorf("a %s is no key that can be looked up exactly", v.Kind())
	default:
		return v.Append(b), nil
	}
	// 0 is what separates two values.
	if strings.IndexByte(string(b[from:]), 0) >= 0 || strings.IndexByte(string(b[from:]), 1) >= 0 {
		text := strings.NewReplacer("\x01", "\x01\x02", "\x00", "\x01\x01").Replace(string(b[from:]))
		b = append(b[:from], text...)
	}
	return b, nil
}

// fold returns a text as it is compared under the collation of a key. Collations
// that are not binary are known for ASCII text alone, and some for digits alone.
func fold(text string, col, own *dfs.Column) (string, error) {
	if own == nil {
		own = col
	}
	collation := own.Collation
	plain := true
	for i := range len(text) {
		plain = plain && text[i] >= ' ' && text[i] < 0x7f
	}
	if odd(own) {
		plain = !strings.ContainsFunc(text, func(c rune) bool { return (c < '0' || c > '9') && c != '-' })
	}
	if !strings.Contains(collation, "0900") && !strings.Contains(collation, "nopad") && collation != "binary" && collation != "" {
		text = strings.TrimRight(text, " ") // PAD SPACE
	}
	wide := strings.HasPrefix(own.Charset, "utf16") || strings.HasPrefix(own.Charset, "utf32") || own.Charset == "ucs2"
	binary := strings.HasSuffix(collation, "bin") || collation == "binary" || collation == ""
	switch {
	case wide || !plain && (!binary || own.Charset != col.Charset):
		return "", fmt.Errorf("the key %q cannot be compared as the server does, whose collation for it is %s: keys of new ids must be of digits, of ASCII text where "+
			"the collation only leaves the case of letters aside, or of a binary collation; keep the keys of this table", text, collation)
	case binary || strings.HasSuffix(collation, "_cs") || strings.HasSuffix(collation, "_cs_ks"):
		return text, nil
	}
	return strings.ToLower(text), nil
}

// odd reports whether a collation takes ASCII texts for equal, or for different, that
// are not so but for the case of letters: y is i to Lithuanians, v is u to Romans, I is
// not i to Turks; aA is not aa to Danes, nor cH ch to Czechs, to whom these are letters.
// Found by comparing all texts of two characters on the servers that DFS is tested
// with: see TestFoldComparesASCIIAsTheServerDoes.
func odd(c *dfs.Column) bool {
	switch c.Charset {
	case "big5", "cp866", "gb2312", "gbk", "geostd8", "koi8u", "latin7", "macce", "swe7":
		return true
	}
	if strings.HasPrefix(c.Collation, "utf8mb4_cs_") { // Czech, and not case
		return true
	}
	unicode := strings.HasPrefix(c.Charset, "utf8")
	for part := range strings.SplitSeq(c.Collation, "_") {
		switch part {
		case "czech", "slovak", "danish", "da", "nb", "nn", "lithuanian", "lt", "latvian", "lv", "roman", "la", "spanish2", "trad", "turkish", "tr",
			"croatian", "hr", "bs", "latn", "hungarian", "hu", "ukrainian":
			return true
		case "nopad":
			if !unicode { // MariaDB does not always group such
				return true
			}
		}
	}
	return false
}

package verify

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A plan is how a table of the source and one of the target are compared.
type plan struct {
	from, to *table
	pairs    []pair
	key      []int // of pairs: what finds a row; nil if the source's table has no key
	notes    []string

	// fromIndex and toIndex order rows by the key alike, so that a range of keys
	// has the same rows on both sides. They are empty if there are none: then the
	// tables are compared in one go, in groups of rows by a hash of their keys.
	fromIndex, toIndex string

	inGo bool // some values can only be compared here, so that rows are read
	hash string

	fromSQL, toSQL sqlSide
}

// sqlSide is what a plan says to one of the servers.
type sqlSide struct {
	table string   // quoted
	index string   // " FORCE INDEX (…)"; empty if rows have no order
	forms []string // the forms of the pairs
	key   string   // a number of 32 bits made of the key, or of the row if it has none
	row   string   // a number of 64 bits made of the whole row, or of what the servers can compare
	keys  []string // quoted columns of the key
}

// newPlan pairs the columns. Its error says why rows cannot be compared at all.
func (r *run) newPlan(from, to *table) (*plan, error) {
	p := &plan{from: from, to: to}
	zero, kin := r.target.maria, r.source.maria == r.target.maria && r.source.version/100 == r.target.version/100
	for i := range from.columns {
		sc := &from.columns[i]
		j := to.column(sc.name)
		switch {
		case sc.versioning:
			p.note("column %s is left out: each server sets it by itself", sc.name)
			continue
		case j >= 0 && covers(r.ignore, to, to.columns[j].name):
			p.note("column %s is ignored", sc.name)
			continue
		case j < 0:
			return nil, fmt.Errorf("the target's table %s has no column %s: add it", to, sc.name)
		case to.columns[j].generated && !sc.generated:
			p.note("column %s is left out: the target generates it", sc.name)
			continue
		}
		p.pairs = append(p.pairs, newPair(sc, &to.columns[j], zero, kin))
	}
	for j := range to.columns {
		if from.column(to.columns[j].name) < 0 {
			p.note("column %s is the target's own, and left out", to.columns[j].name)
		}
	}
	if len(p.pairs) == 0 {
		return nil, fmt.Errorf("%s and %s have no column in common", from, to)
	}
	p.findKey()
	p.inGo = slices.ContainsFunc(p.pairs, func(p pair) bool { return p.norm != nil })
	p.hash = "CAST(CONV(LEFT(SHA2(?,224),16),16,10) AS UNSIGNED)"
	p.fromSQL, p.toSQL = p.side(from, p.fromIndex, func(p *pair) string { return p.fromExpr }), p.side(to, p.toIndex, func(p *pair) string { return p.toExpr })
	return p, nil
}

func (p *plan) note(format string, args ...any) {
	p.notes = append(p.notes, fmt.Sprintf(format, args...))
}

// findKey chooses what finds rows, and whether ranges of it are the same on both
// sides.
func (p *plan) findKey() {
	var toColumns []int
	ordered := true
	for _, i := range p.from.key() {
		at := slices.IndexFunc(p.pairs, func(q pair) bool { return q.from == &p.from.columns[i] })
		if at < 0 || !p.pairs[at].exact {
			p.key = nil
			p.note("the table is compared as if it had no key, since values of %s change on their way", p.from.columns[i].name)
			return
		}
		p.key = append(p.key, at)
		toColumns = append(toColumns, p.to.column(p.pairs[at].to.name))
		// Behind a column of which a range is found the index need not find another.
		ordered = ordered && (p.pairs[at].ordered || p.pairs[at].sorted && len(p.key) > 1)
	}
	if p.key == nil {
		return
	}
	toIndex := p.to.indexOver(toColumns)
	if toIndex == "" {
		p.note("the target has no index over the source's key, so that the whole table is read at once")
	}
	if ordered && toIndex != "" {
		p.fromIndex, p.toIndex = p.from.indexOver(p.from.key()), toIndex
	}
}

// side makes the expressions for one of the servers. The two get the same but
// for names and forms.
func (p *plan) side(t *table, index string, form func(*pair) string) sqlSide {
	s := sqlSide{table: t.ident()}
	if index != "" {
		s.index = " FORCE INDEX (" + ident(index) + ")"
	}
	all := make([]int, len(p.pairs))
	for i := range p.pairs {
		all[i] = i
		s.forms = append(s.forms, form(&p.pairs[i]))
	}
	s.row = strings.Replace(p.hash, "?", p.join(t, all, form), 1)
	key := p.key
	if key == nil {
		key = all
	}
	s.key = "CRC32(" + p.join(t, key, form) + ")"
	for _, i := range p.key {
		s.keys = append(s.keys, ident(p.columnOf(t, &p.pairs[i]).name))
	}
	return s
}

func (p *plan) columnOf(t *table, q *pair) *column {
	if t == p.from {
		return q.from
	}
	return q.to
}

// join returns an expression that gives other bytes for each other row: which
// columns are NULL, what cannot hold the separator, and what can behind its
// length. What can only be compared in Go is left out.
func (p *plan) join(t *table, columns []int, form func(*pair) string) string {
	var nulls, short, long []string
	for _, i := range columns {
		q := &p.pairs[i]
		if q.null {
			// 50 bits fit what a server adds without going over.
			nulls = append(nulls, fmt.Sprintf("ISNULL(%s)*%d", ident(p.columnOf(t, q).name), uint64(1)<<(len(nulls)%50)))
		}
		switch {
		case q.norm != nil:
		case q.long:
			long = append(long, form(q))
		default:
			short = append(short, form(q))
		}
	}
	parts := short
	for len(nulls) > 0 {
		n := min(len(nulls), 50)
		parts = append(parts, strings.Join(nulls[:n], "+"))
		nulls = nulls[n:]
	}
	for i, l := range long {
		if i < len(long)-1 {
			parts = append(parts, "LENGTH("+l+")")
		}
		parts = append(parts, l)
	}
	if len(parts) == 0 {
		parts = []string{"1"}
	}
	return "CONCAT_WS(_binary'#'," + strings.Join(parts, ",") + ")"
}

// A bound is a key between two ranges: the forms of its columns.
type bound []cell

// within returns the condition that keys are greater than lo and not greater
// than hi; nil is no bound.
func (p *plan) within(t *table, lo, hi bound) string {
	var parts []string
	if lo != nil {
		parts = append(parts, p.beyond(t, lo, ">", ">"))
	}
	if hi != nil {
		parts = append(parts, p.beyond(t, hi, "<", "<="))
	}
	if parts == nil {
		return "TRUE"
	}
	return strings.Join(parts, " AND ")
}

// beyond compares a key of several columns in the form that an optimizer reads
// ranges from, which (a,b) > (1,2) is not.
func (p *plan) beyond(t *table, b bound, strict, last string) string {
	n := len(p.key)
	cond := ""
	for k := n - 1; k >= 0; k-- {
		q := &p.pairs[p.key[k]]
		c := p.columnOf(t, q)
		name, lit := ident(c.name), q.literal(c, b[k])
		if k == n-1 {
			cond = name + last + lit
			continue
		}
		cond = fmt.Sprintf("(%s%s%s OR %s=%s AND %s)", name, strict, lit, name, lit, cond)
	}
	return cond
}

// equals returns the condition that a row has the key, as the server compares.
func (p *plan) equals(t *table, key bound) string {
	var parts []string
	for k, i := range p.key {
		q := &p.pairs[i]
		c := p.columnOf(t, q)
		parts = append(parts, ident(c.name)+"="+q.literal(c, key[k]))
	}
	return strings.Join(parts, " AND ")
}

// keyOf returns the key of a row of forms.
func (p *plan) keyOf(row []cell) bound {
	key := make(bound, len(p.key))
	for k, i := range p.key {
		key[k] = row[i]
	}
	return key
}

// id returns a key as one string, different for each key.
func (b bound) id() string {
	s := make([]byte, 0, 32*len(b))
	for _, c := range b {
		if c.null {
			s = append(s, "n;"...)
			continue
		}
		if s = strconv.AppendInt(s, int64(len(c.text)), 10); c.kind != 0 {
			s = append(s, '/', byte('a'+c.kind))
		}
		s = append(append(append(s, ':'), c.text...), ';')
	}
	return string(s)
}

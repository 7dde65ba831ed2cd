package sink

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/rowevent"
)

// mapping says how rows of one version of a source's table become rows of a
// table of the target. Indexes in it are of the source's columns.
type mapping struct {
	src *dfs.Table
	to  *table

	columns []column // by the source's column; to < 0 if it is not written
	key     []int    // what finds a row; nil if nothing does
	keyName string   // the name of that index on the target
	keyOrd  string   // what makes keys of two mappings comparable, see sameKeys

	uniques  []uniqueKey // the others that the source has all columns of
	fkCols   colset      // columns that refer to parents
	refCols  colset      // columns that children refer to
	alwaysOn colset      // columns that each update writes
	rowwise  colset      // columns that a derived table cannot carry
	enums    []int       // columns that are an ENUM on both sides
	json     bool        // one of the columns is a JSON on both sides

	// ordered says that the bytes of a key do not tell whether the target
	// finds two keys equal. So changes keep their order within the table.
	ordered bool

	// For the row-event lane; nil if it is closed to the table. Indexes are of
	// the target's columns, and back leads to the source's.
	events             *rowevent.Table
	eventKey, eventAll []int
	verified           uint64 // the run of the writer in which the table was last looked at
	unreferred         uint64 // the run in which no foreign key acted on rows that refer to the table
	back, indexedBack  []int  // the latter of the columns that are part of an index
	bySQL              string // why rows do not take it; empty if they do

	// What stands in for this mapping where a row's images leave columns of key
	// out; see locate.
	others []*mapping
	of     []int // the source's column by the target's, or -1

	// For targets that are not MySQL, by the source's column: what makes of a value
	// its text for PostgreSQL, nil standing for NULL, or the argument for SQLite, and
	// whether different values stay different. exact is nil for MySQL.
	text  []func(b []byte, v dfs.Value) ([]byte, error)
	bind  []func(v dfs.Value) (any, error)
	exact []bool

	notes      []string // how values may change in silence
	insertHead string   // "INSERT INTO `s`.`t` (`a`,`b`) VALUES "
}

// uniqueKey is a unique key by the source's columns.
type uniqueKey struct {
	cols  []int
	parts []int // how many characters are indexed, 0 for all; nil for all of all
}

// column is one column of a mapping.
type column struct {
	to    int // index in the target's table, or -1
	name  string
	intro string // before a literal of a String, "_utf8mb4"
	inHex bool

	implicit string // see targetColumn

	// For an ENUM or SET whose target's column is of another type. If it is one
	// with all of the members, renumber holds the target's numbers, by the
	// source's, from 0; else values are written by their names, members.
	members  []string
	renumber []int
	isSet    bool
	isEnum   bool // both are an ENUM, in which 0 stands for what was no member
	isJSON   bool // of the target's type JSON
	sameText bool // text in the same character set
	asBytes  bool // text is stored without naming its character set; see loose.go

	// These stand around a derived table's column when it is compared with
	// this one: a collation of its own would be an error, or stop the index
	// from being used.
	onBefore, onAfter string
}

// colset is a set of a table's columns.
type colset []uint64

func newColset(n int) colset         { return make(colset, (n+63)/64) }
func (s colset) add(i int)           { s[i/64] |= 1 << (i % 64) }
func (s colset) has(i int) bool      { return s[i/64]>>(i%64)&1 == 1 }
func (s colset) equal(t colset) bool { return slices.Equal(s, t) }

func (s colset) empty() bool {
	for _, w := range s {
		if w != 0 {
			return false
		}
	}
	return true
}

func (s colset) union(t colset) {
	for i := range s {
		s[i] |= t[i]
	}
}

func (s colset) within(t colset) bool {
	for i := range s {
		if s[i]&^t[i] != 0 {
			return false
		}
	}
	return true
}

func (s colset) meets(t colset) bool {
	for i := range s {
		if s[i]&t[i] != 0 {
			return true
		}
	}
	return false
}

// newMapping checks that rows of src fit the target's table, and returns all
// faults joined.
func newMapping(src *dfs.Table, to *table) (*mapping, error) {
	return mapTable(src, to, true)
}

// mapTable is newMapping. Unless whole, src has some of the columns only, and its
// rows are for finding those of the target.
func mapTable(src *dfs.Table, to *table, whole bool) (*mapping, error) {
	n := len(src.Columns)
	m := &mapping{src: src, to: to, columns: make([]column, n),
		fkCols: newColset(n), refCols: newColset(n), alwaysOn: newColset(n), rowwise: newColset(n)}
	back := make([]int, len(to.columns)) // the source's column by the target's
	for i := range back {
		back[i] = -1
	}
	var errs []error
	for i := range src.Columns {
		sc, c := &src.Columns[i], &m.columns[i]
		c.to = to.column(sc.Name)
		if c.to < 0 {
			errs = append(errs, fmt.Errorf("the target's table %s.%s has no column %s, which %s has: "+
				"ALTER TABLE `%s`.`%s` ADD COLUMN `%s` %s, or drop the column on the way",
				to.schema, to.name, sc.Name, src, to.schema, to.name, sc.Name, sc.Type))
			continue
		}
		tc := &to.columns[c.to]
		c.name, c.implicit = tc.name, tc.implicit
		if tc.generated {
			c.to = -1
			m.notes = append(m.notes, fmt.Sprintf("column %s is generated on the target: the source's values are left out", tc.name))
			continue
		}
		if back[c.to] >= 0 {
			errs = append(errs, fmt.Errorf("two columns of %s go into the column %s of %s.%s", src, tc.name, to.schema, to.name))
			continue
		}
		back[c.to] = i
		m.mapColumn(i, tc)
		if why := changesValues(sc.Type, tc.typ); why != "" {
			m.notes = append(m.notes, fmt.Sprintf("column %s is %s on the source and %s on the target: %s", tc.name, sc.Type, tc.typ, why))
		}
	}
	for j := range to.columns {
		tc := &to.columns[j]
		if whole && back[j] < 0 && !tc.optional && !tc.generated {
			errs = append(errs, fmt.Errorf("the column %s of the target's table %s.%s is NOT NULL without a default, and %s "+
				"has no such column: give it one by ALTER TABLE `%s`.`%s` ALTER COLUMN `%s` SET DEFAULT",
				tc.name, to.schema, to.name, src, to.schema, to.name, tc.name))
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	m.of = back
	m.findKeys(nil)
	for _, fk := range to.parents {
		m.mark(m.fkCols, back, fk.columns)
	}
	for _, fk := range to.children {
		m.mark(m.refCols, back, fk.columns)
	}
	m.insertHead = m.insertInto(nil)
	m.mapEvents(back)
	return m, nil
}

func (t *table) ident() []byte {
	return appendIdent(append(appendIdent(nil, t.schema), '.'), t.name)
}

func (m *mapping) mark(s colset, back, columns []int) {
	for _, j := range columns {
		if j >= 0 && back[j] >= 0 {
			s.add(back[j])
		}
	}
}

func (m *mapping) mapColumn(i int, tc *targetColumn) {
	sc, c := &m.src.Columns[i], &m.columns[i]
	charset := sc.Charset
	if charset == "" {
		charset = tc.charset
	}
	c.intro, c.inHex = introducer(charset)
	if tc.charset == "" && isBinary(tc.typ) {
		c.intro = "_binary" // it takes the bytes, be they text or not
	}
	if tc.charset != "" && len(sc.Members) == 0 {
		// Compared with a column, a derived table's column has a collation of
		// equal weight: error 1267 "Illegal mix of collations" without this.
		if c.intro == "_"+tc.charset {
			c.onAfter = " COLLATE " + tc.collation
		} else {
			c.onBefore, c.onAfter = "CONVERT(", " USING "+tc.charset+") COLLATE "+tc.collation
		}
	}
	if len(sc.Members) > 0 {
		c.isSet = sc.Type == "set" || strings.HasPrefix(sc.Type, "set(")
		c.isEnum = !c.isSet && strings.HasPrefix(tc.typ, "enum(")
		if alike := c.isEnum || c.isSet && strings.HasPrefix(tc.typ, "set("); !alike || !slices.Equal(sc.Members, tc.members) {
			c.members = sc.Members
			if alike {
				c.renumber = renumber(sc.Members, tc.members)
			}
			if c.isEnum && c.renumber == nil {
				m.rowwise.add(i) // names and the number 0 do not share a column
			}
		}
		if c.isEnum {
			m.enums = append(m.enums, i)
		}
	}
	c.isJSON = tc.typ == "json"
	c.sameText = sc.Charset != "" && (sc.Charset == tc.charset || sc.Charset == "utf8" && tc.charset == "utf8mb3" || sc.Charset == "utf8mb3" && tc.charset == "utf8")
	c.asBytes = c.sameText && warned(sc.Charset)
	m.json = m.json || c.isJSON && sc.Type == "json"
	if tc.onUpdate {
		m.alwaysOn.add(i)
	}
	if isSpatial(tc.typ) {
		m.rowwise.add(i)
	}
}

// renumber returns the places in to of the names in from, or nil if one is not
// there.
func renumber(from, to []string) []int {
	at := make([]int, len(from))
	for i, name := range from {
		if at[i] = slices.Index(to, name); at[i] < 0 {
			return nil
		}
	}
	return at
}

// isBinary reports whether a column of the type takes any bytes.
func isBinary(typ string) bool {
	typ, _, _ = strings.Cut(typ, "(")
	return strings.HasSuffix(typ, "binary") || strings.HasSuffix(typ, "blob")
}

func isSpatial(typ string) bool {
	switch typ {
	case "geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon",
		"geometrycollection", "geomcollection":
		return true
	}
	return false
}

// findKeys chooses what finds a row: the target's primary key, else a unique
// key without NULL, and of these rather the source's own, if the source has all of
// its columns. If has is not nil, these must be in it.
func (m *mapping) findKeys(has colset) {
	columns := func(target []int) []int {
		var out []int
		for _, j := range target {
			i := m.of[j]
			if i < 0 || has != nil && !has.has(i) {
				return nil
			}
			out = append(out, i)
		}
		return out
	}
	m.key, m.keyName, m.uniques, m.ordered = columns(m.to.primary), "PRIMARY", nil, false
	fits := func(ix *index) bool { return !ix.opaque && !ix.nullable && !ix.prefixes }
	own := slices.IndexFunc(m.to.uniques, func(ix index) bool {
		cols := columns(ix.columns)
		return fits(&ix) && cols != nil && len(cols) == len(m.src.Key) &&
			!slices.ContainsFunc(cols, func(i int) bool { return !slices.Contains(m.src.Key, i) })
	})
	for k := range m.to.uniques {
		ix := &m.to.uniques[k]
		cols := columns(ix.columns)
		switch {
		case ix.opaque || cols == nil:
		case m.key == nil && fits(ix) && (own < 0 || own == k):
			m.key, m.keyName = cols, ix.name
		default:
			m.uniques = append(m.uniques, uniqueKey{cols, ix.parts})
		}
	}
	if m.key == nil {
		m.ordered = true
		return
	}
	var shape strings.Builder
	for _, i := range m.key {
		sc, tc := &m.src.Columns[i], &m.to.columns[m.columns[i].to]
		class := keyClass(sc)
		fmt.Fprintf(&shape, "%s %d,", class, m.columns[i].to)
		// Invariant: unless ordered, two keys that the target finds equal are
		// two images of one row of the source, or one of them was gone before
		// the other came; see merge.go.
		if m.exact != nil {
			m.ordered = m.ordered || !m.exact[i]
		} else if class != keyClass(&dfs.Column{Type: tc.typ, Collation: tc.collation}) {
			m.ordered = true
		}
	}
	m.keyOrd = shape.String()
}

// sameTable reports whether rows of a and b are laid out alike.
func sameTable(a, b *dfs.Table) bool {
	return a.Schema == b.Schema && a.Name == b.Name && slices.EqualFunc(a.Columns, b.Columns, func(x, y dfs.Column) bool {
		return x.Name == y.Name && x.Type == y.Type && x.Charset == y.Charset && x.Collation == y.Collation &&
			slices.Equal(x.Members, y.Members)
	})
}

// keyClass names what decides whether two values of a column are equal. Within
// one class, equal values have equal bytes or are equal on both servers.
func keyClass(c *dfs.Column) string {
	base, _, _ := strings.Cut(c.Type, "(")
	base, _, _ = strings.Cut(base, " ")
	unsigned := strings.Contains(c.Type, "unsigned")
	switch base {
	case "tinyint", "smallint", "mediumint", "int", "integer", "bigint":
		if unsigned {
			return "uint"
		}
		return "int"
	case "char", "varchar", "tinytext", "text", "mediumtext", "longtext":
		return "text " + c.Collation
	case "binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob", "year", "enum", "set":
		return base
	}
	return c.Type
}

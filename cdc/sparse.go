package cdc

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/ddl"
)

// Row images that leave columns out. With binlog_row_image=MINIMAL the image
// before holds what tells rows apart (the primary key or, without one, a unique
// key without NULL; without that, everything), and the image after what the
// statement has set. NOBLOB leaves BLOB, TEXT, JSON and GEOMETRY out where they
// are neither needed nor set. What an image leaves out is dfs.Absent.
//
// What an INSERT leaves out has the constant default of its column, as the source
// knew it: defaults that are computed are logged. An update whose image after
// leaves a column out has not changed it, with one exception. MariaDB makes an
// update of a REPLACE that finds its row, and leaves out of the image after which
// columns it has set back to their defaults; its own replicas go wrong there (seen
// with 10.11.18). So the text of the statement is asked for.

// A note is what is known of the statement whose rows come. MariaDB writes its text
// in front of its table maps.
type note struct {
	text   bool        // there is one, not read yet: assembler.text
	tables []ddl.Table // that it names, if it is not a REPLACE
	schema string      // of its first table map
	mixed  bool        // there was another schema
}

// maxText bounds the texts that are kept until they are needed.
const maxText = 64 << 10

// annotate takes the text of the statement that the rows that follow are of.
func (a *assembler) annotate(e event) {
	a.tx.note = note{text: true}
	if len(e.body()) > maxText {
		a.readNote(string(e.body()))
		return
	}
	a.text = append(a.text[:0], e.body()...)
}

func (a *assembler) readNote(text string) {
	a.tx.note.text = false
	a.tx.note.tables = ddl.Changed(text, ddl.Mode{MariaDB: true, Version: versionNumber(a.src.known().version)})
}

// noteMap notes that the statement may have rows of a schema.
func (a *assembler) noteMap(schema []byte) {
	switch n := &a.tx.note; {
	case n.schema == "":
		n.schema = string(schema)
	case n.schema != string(schema):
		n.mixed = true
	}
}

// plain reports whether the statement at hand makes plain updates of a table: it
// names the table, and is no REPLACE. What it does not name, a trigger or a
// function may change by a REPLACE of its own. The text does not tell its default
// schema, so a name without a schema counts only if all its tables are in one.
func (a *assembler) plain(m *tableMap) bool {
	if a.tx.note.text {
		a.readNote(string(a.text))
	}
	same := func(x, y string) bool { return x == y || a.src.known().fold && strings.EqualFold(x, y) }
	return slices.ContainsFunc(a.tx.note.tables, func(t ddl.Table) bool {
		return same(t.Name, m.name) && (t.Schema == "" && !a.tx.note.mixed || same(t.Schema, m.schemaN))
	})
}

// mayReplace refuses an update of MariaDB whose image after leaves columns out, if
// it may be a REPLACE.
func (a *assembler) mayReplace(e event, m *tableMap) error {
	if !sparseUpdate(e) || a.plain(m) {
		return nil
	}
	return a.refuse(e, fmt.Sprintf("an update of %s.%s leaves columns out, and it may be a REPLACE, of which MariaDB does not log what it sets back to defaults", m.schemaN, m.name),
		"set binlog_row_image=FULL on the source, for running sessions too; or, if the update is none of a REPLACE, a trigger, a function or a view, "+
			"set binlog_row_image for all as this session has it and binlog_annotate_row_events=ON, and start again")
}

// sparseUpdate reports whether e is an update whose image after leaves columns
// out.
func sparseUpdate(e event) bool {
	r := reader{b: e.body()}
	r.bytes(8)
	switch e.kind() {
	case evUpdateRows1, evUpdateRows1Z:
	case evUpdateRows2, evUpdateRows2Z:
		r.bytes(max(0, int(r.uint16())-2))
	default:
		return false
	}
	n := int(r.packed())
	if n > maxColumns {
		return false // damaged, which Decode will say
	}
	r.bytes((n + 7) / 8)
	after := r.bytes((n + 7) / 8)
	return !r.bad && !all(after, n)
}

// sparseChange reads the images of one row, in which columns may be left out.
func (d *decoder) sparseChange(r *reader, im *images, c *dfs.Change) error {
	row, err := d.sparseRow(r, im.plan, im.before, nil)
	switch im.kind {
	case evWriteRows1:
		c.Op, c.After = dfs.Insert, row
	case evDeleteRows1:
		c.Op, c.Before = dfs.Delete, row
	default:
		c.Op, c.Before = dfs.Update, row
		if err == nil {
			c.After, err = d.sparseRow(r, im.plan, im.after, nil)
		}
	}
	return err
}

// sparseRow reads one row image of the columns in has. It has a bit for each of
// these that says whether it is NULL, and the values of the others. If special is
// not nil it is asked to read each value that is there, and reports whether it has.
func (d *decoder) sparseRow(r *reader, p *plan, has []byte, special func(i int, v *dfs.Value) (bool, error)) (dfs.Row, error) {
	n := 0
	for i := range p.columns {
		n += int(has[i/8] >> (i % 8) & 1)
	}
	nulls := r.bytes((n + 7) / 8)
	if r.bad {
		return nil, errShortEvent
	}
	row := d.newRow(len(p.columns))
	n = 0 // the columns of the image so far
	for i := range row {
		if has[i/8]&(1<<(i%8)) == 0 {
			row[i] = dfs.AbsentValue()
			continue
		}
		null := nulls[n/8]&(1<<(n%8)) != 0
		n++
		if null {
			continue
		}
		done := false
		var err error
		if special != nil {
			done, err = special(i, &row[i])
		}
		if err == nil && !done {
			err = d.value(r, &p.columns[i], &row[i])
		}
		if err != nil {
			return nil, p.columnError(i, err)
		}
	}
	return row, nil
}

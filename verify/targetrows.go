package verify

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dataflowsync/dfs"
)

// TargetRows reads a target that is no MySQL or MariaDB server, and tells what a row of
// the source becomes there. Package sink's RowReader is one, of PostgreSQL and SQLite. Its
// methods are called by one goroutine at a time.
//
// Values of the target have one form each: two are equal if, and only if, their forms have
// the same kind and text. A row has the forms of all columns of its table, and may be
// used again after a call of each has returned.
type TargetRows interface {
	// Checkpoint returns where the pipeline stands, without taking anything over. Its Pos
	// is empty if the pipeline has none. All of a transaction that it covers is seen by
	// each later call.
	Checkpoint(ctx context.Context) (dfs.Checkpoint, error)

	// Table describes a table of the target. The result stands for it in the other calls.
	// Its Key are columns that find a row, nil if there are none.
	Table(ctx context.Context, schema, name string) (*dfs.Table, error)

	// Fit says of each of from's columns whether different values stay different on the
	// target, and whether the target has them in the order in which the source's indexes
	// have them, and what people should know. Its error says why no such row is stored.
	Fit(ctx context.Context, from, to *dfs.Table) (exact, ordered []bool, notes []string, err error)

	// Stored returns what the target has once a row of from was written to it: Absent in
	// columns that are not written. Its error says why the row cannot be stored.
	Stored(ctx context.Context, from, to *dfs.Table, row dfs.Row) (dfs.Row, error)

	// Find calls each with the rows that have one of the keys, in any order.
	Find(ctx context.Context, to *dfs.Table, keys []dfs.Row, each func(dfs.Row) error) error

	// Range calls each with rows whose keys are greater than lo and not greater than hi, in
	// the target's order of keys, up to limit of them; nil is no bound, and 0 no limit. With
	// keysOnly other columns are Absent. A table without a key is read as a whole.
	Range(ctx context.Context, to *dfs.Table, keysOnly bool, lo, hi dfs.Row, limit int, each func(dfs.Row) error) error

	// Last returns the greatest key, or nil if the table is empty.
	Last(ctx context.Context, to *dfs.Table) (dfs.Row, error)
}

// A stored is what the comparison of one of TargetRows' tables needs to know.
type stored struct {
	to   *dfs.Table
	fits map[*dfs.Table]*fit
}

// fit is how rows of a table are stored.
type fit struct{ exact, ordered []bool }

// storedJob returns the comparison of a table of TargetRows.
func (m *mapper) storedJob(ctx context.Context, schema, name string) (*job, error) {
	to, err := m.TargetRows.Table(ctx, schema, name)
	if err != nil {
		return nil, fmt.Errorf("read the columns on the target: %w", err)
	}
	t := &table{schema: schema, name: name}
	for i := range to.Columns {
		c := &to.Columns[i]
		t.columns = append(t.columns, column{name: c.Name, typ: c.Type, base: shownAs(c.Type), nullable: c.Nullable})
	}
	p := &plan{from: t, to: t, key: to.Key}
	for i := range t.columns {
		p.pairs = append(p.pairs, pair{name: t.columns[i].name, from: &t.columns[i], to: &t.columns[i]})
	}
	return &job{run: m.run, plan: p, t: &TableReport{Target: t.String()}, mapper: m, stored: &stored{to, make(map[*dfs.Table]*fit)}}, nil
}

// shownAs returns a type of MySQL whose values are shown as those of the type are.
func shownAs(typ string) string {
	for _, name := range []string{"int", "numeric", "real", "double", "float", "timestamp", "date", "time", "interval", "bit", "bool"} {
		if strings.HasPrefix(strings.ToLower(typ), name) {
			return "decimal"
		}
	}
	if strings.Contains(strings.ToLower(typ), "int") {
		return "decimal"
	}
	return "text"
}

// fit asks how rows of a table are stored, once.
func (j *job) fit(ctx context.Context, from *dfs.Table) (*fit, error) {
	if f := j.stored.fits[from]; f != nil {
		return f, nil
	}
	exact, ordered, notes, err := j.TargetRows.Fit(ctx, from, j.stored.to)
	if err != nil {
		return nil, err
	}
	for _, n := range notes {
		if !slices.Contains(j.t.Notes, n) {
			j.t.Notes = append(j.t.Notes, n)
		}
	}
	if len(j.stored.fits) > 1000 { // a stage makes them anew all the time
		clear(j.stored.fits)
	}
	f := &fit{exact, ordered}
	j.stored.fits[from] = f
	return f, nil
}

// toCell makes a cell of a form.
func toCell(v dfs.Value) cell {
	switch v.Kind() {
	case dfs.Null:
		return cell{null: true}
	case dfs.Absent:
		return cell{absent: true}
	case dfs.String, dfs.Bytes:
		return cell{text: v.Text(), kind: v.Kind()}
	}
	return cell{text: v.String(), kind: v.Kind()}
}

// form makes a form of a cell that toCell has made.
func (c cell) form() dfs.Value {
	switch {
	case c.null:
		return dfs.NullValue()
	case c.absent:
		return dfs.AbsentValue()
	}
	switch c.kind {
	case dfs.Bytes:
		return dfs.BytesValue([]byte(c.text))
	case dfs.Int64:
		n, _ := strconv.ParseInt(c.text, 10, 64) // it was printed
		return dfs.IntValue(n)
	case dfs.Float64:
		f, _ := strconv.ParseFloat(c.text, 64)
		return dfs.FloatValue(f)
	}
	return dfs.StringValue(c.text)
}

func (b bound) forms() dfs.Row {
	if b == nil {
		return nil
	}
	row := make(dfs.Row, len(b))
	for i := range b {
		row[i] = b[i].form()
	}
	return row
}

// cells makes cells of a row of forms, without those of columns that are ignored.
func (j *job) cells(row dfs.Row) []cell {
	out := make([]cell, len(row))
	for i := range row {
		if out[i] = toCell(row[i]); len(j.ignore) > 0 && covers(j.ignore, j.to, j.to.columns[i].name) && !slices.Contains(j.key, i) {
			out[i] = cell{absent: true}
		}
	}
	return out
}

// A refusedRow says that the sink would refuse a row of the source: what becomes of it is
// known once the pipeline has passed it, for it has stopped there or has left it out.
type refusedRow struct{ error }

func (refusedRow) NotCarried() bool { return true }
func (e refusedRow) Unwrap() error  { return e.error }

// storedRow returns the row that the target must have of one that stages made.
func (j *job) storedRow(ctx context.Context, from *dfs.Table, row dfs.Row) ([]cell, error) {
	if _, err := j.fit(ctx, from); err != nil {
		return nil, err
	}
	forms, err := j.TargetRows.Stored(ctx, from, j.stored.to, row)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		if slices.ContainsFunc(j.to.columns, func(c column) bool { return covers(j.hide, j.to, c.name) }) {
			err = errors.New("the target cannot hold one of its values, which may be one that is hidden")
		}
		return nil, refusedRow{err}
	}
	return j.cells(forms), nil
}

// storedWith calls each with the rows of the target that have one of the keys.
func (j *job) storedWith(ctx context.Context, keys []bound, each func(row []cell)) error {
	forms := make([]dfs.Row, len(keys))
	for i := range keys {
		forms[i] = keys[i].forms()
	}
	err := j.TargetRows.Find(ctx, j.stored.to, forms, func(row dfs.Row) error {
		each(j.cells(row))
		return nil
	})
	if err != nil {
		return fmt.Errorf("read rows of the target: %w", err)
	}
	return nil
}

// storedBetween returns rows in the target's order of keys.
func (j *job) storedBetween(ctx context.Context, keysOnly bool, lo, hi bound, limit int) (rows [][]cell, err error) {
	err = j.TargetRows.Range(ctx, j.stored.to, keysOnly, lo.forms(), hi.forms(), limit, func(row dfs.Row) error {
		rows = append(rows, j.cells(row))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read rows of the target: %w", err)
	}
	return rows, nil
}

// findStored makes suspects of rows that the target has not as they should be.
func (j *job) findStored(ctx context.Context, made []madeRow) error {
	for part := range slices.Chunk(made, j.mapper.pageRows()) {
		keys := make([]bound, len(part))
		for i := range part {
			keys[i] = part[i].key
		}
		has := make(map[string][]cell, len(part))
		if err := j.storedWith(ctx, keys, func(row []cell) { has[j.keyOf(row).id()] = row }); err != nil {
			return err
		}
		for i := range part {
			j.expect(&part[i], has[part[i].key.id()])
		}
	}
	return nil
}

// expect makes a suspect of a row if the target has something else.
func (j *job) expect(r *madeRow, row []cell) {
	if row == nil || !slices.EqualFunc(r.row, row, cell.is) {
		j.t.Looked++
		j.suspects = append(j.suspects, suspect{key: r.key, from: []origin{r.of}})
	}
}

// alongside returns the way back from the target's keys to the source's if both have the
// rows in the same order, so that a range of keys is read on both sides at once.
func (m *mapper) alongside(ctx context.Context) (*feed, error) {
	if m.TargetRows == nil || len(m.sources) != 1 || len(m.order) != 1 || !m.sources[0].plain {
		return nil, nil
	}
	s, j := m.sources[0], m.order[0]
	if len(s.key) != len(j.key) {
		return nil, nil
	}
	f, ok := newFeed(s, s.shapes[0], j)
	if !ok || !f.exact {
		return nil, nil
	}
	fits, err := j.fit(ctx, s.table)
	if err != nil {
		return nil, err
	}
	for k, i := range s.key {
		if f.to[k] != j.key[k] || !fits.ordered[i] {
			return nil, nil
		}
	}
	return &f, nil
}

// extraAtOnce is how many rows more than the source's are read of a range of keys.
const extraAtOnce = 5000

// compareAlongside compares rows of the source, which are all of those behind lo up to
// the last of them, with the range of the target.
func (m *mapper) compareAlongside(ctx context.Context, f *feed, made []madeRow, lo bound) error {
	j := m.order[0]
	want := make(map[string]int, len(made))
	for i := range made {
		want[made[i].key.id()] = i
	}
	hi, limit := made[len(made)-1].key, len(made)+min(extraAtOnce, 2*m.pageRows())
	for {
		rows, err := j.storedBetween(ctx, false, lo, hi, limit)
		if err != nil {
			return err
		}
		j.t.TargetRows += uint64(len(rows))
		for _, row := range rows {
			key := j.keyOf(row)
			id := key.id()
			if i, ok := want[id]; ok {
				delete(want, id)
				j.expect(&made[i], row)
				continue
			}
			if err := m.unexpected(ctx, f, row, key); err != nil {
				return err
			}
		}
		if len(rows) < limit {
			break
		}
		lo = j.keyOf(rows[len(rows)-1])
		if err := m.settleAll(ctx, false); err != nil || j.t.More {
			return err
		}
	}
	for _, i := range want {
		j.expect(&made[i], nil)
	}
	return nil
}

// unexpected makes a suspect of a row of the target.
func (m *mapper) unexpected(ctx context.Context, f *feed, row []cell, key bound) error {
	j := m.order[0]
	if j.keepsExtra(j.to) {
		return nil
	}
	s := suspect{key: key, whole: true}
	from, ok, err := f.key(ctx, row)
	if err != nil {
		return err
	}
	if ok {
		s.from = []origin{{f.of, from}}
	}
	j.t.Looked++
	j.suspects = append(j.suspects, s)
	return nil
}

// doubtsMost is how many doubts are looked into.
const doubtsMost = 10000

// doubt notes a row that is too many unless a row of the source has another key that
// the target takes for this one.
func (j *job) doubt(key bound, f Finding) {
	if j.doubts == nil {
		j.doubts = make(map[string]Finding)
	}
	if len(j.doubts) < doubtsMost {
		j.doubts[key.id()] = f
	}
}

// resolve looks for the rows of the source that have become those of which there is
// doubt, by reading all of its keys once more, and reports those that it does not find.
func (m *mapper) resolve(ctx context.Context, j *job) error {
	if len(j.doubts) == 0 {
		return nil
	}
	for _, s := range m.sources {
		end, err := s.last(ctx, m.source.db, s.from, &s.fromSQL)
		if err != nil {
			return err
		}
		read := m.read
		if s.plain {
			if f, ok := newFeed(s, s.shapes[0], j); ok && f.byKey() {
				read = m.readKeys
			}
		}
		for lo := bound(nil); end != nil && len(j.doubts) > 0; {
			values, keys, err := read(ctx, m.source.db, s, fmt.Sprintf("%s ORDER BY %s LIMIT %d",
				s.within(s.from, lo, end), strings.Join(s.fromSQL.keys, ","), m.pace.limit(m.pageRows())), s.fromSQL.index)
			if err != nil {
				return fmt.Errorf("read keys of the source: %w", err)
			}
			if len(keys) == 0 {
				break
			}
			made, _, err := m.makeCarried(ctx, s, values, keys)
			if err != nil {
				return err
			}
			for _, r := range made {
				if r.job == j {
					delete(j.doubts, r.key.id())
				}
			}
			lo = keys[len(keys)-1]
			m.pace.spend(ctx, uint64(len(keys)))
		}
	}
	for _, f := range j.doubts {
		j.t.untold("%d rows have keys that no row of the source has now, such as %s, and since values of the key change on their way it cannot be told whether they are too many: look at them", len(j.doubts), f)
		break
	}
	j.doubts = nil
	return nil
}

// pages reports whether the source can be asked for the rows behind a value of the column,
// in order. It finds them by an index, but for those of an ENUM or SET, of which it reads
// all of the index.
func (c *column) pages() bool {
	switch c.class() {
	case classInt, classYear, classBit, classDecimal, classDate, classTime, classDateTime, classText, classBinary, classEnum, classSet:
		return true
	case classDouble:
		return c.typ == "double" // which prints all of its digits
	case classOther:
		return octets(c) > 0
	}
	return false
}

// fromStored returns what a value of the target was on the source, as a literal of the
// source is made of it, and false if it was none.
func fromStored(c *column, v cell) (cell, bool) {
	number := func(text string) (cell, bool) {
		return cell{text: text}, text != "" && strings.Trim(text, "-0123456789.") == ""
	}
	switch c.class() {
	case classBit:
		if v.kind == dfs.String && c.arg(0, 1) == len(v.text) && strings.Trim(v.text, "01") == "" && len(v.text) > 1 {
			n, err := strconv.ParseUint(v.text, 2, 64)
			return cell{text: strconv.FormatUint(n, 10)}, err == nil
		}
		return number(v.text)
	case classInt, classYear, classDecimal:
		switch v.text {
		case "t":
			return cell{text: "1"}, true
		case "f":
			return cell{text: "0"}, true
		}
		return number(v.text)
	case classDouble:
		_, err := strconv.ParseFloat(v.text, 64)
		return cell{text: v.text}, err == nil
	case classDate, classDateTime:
		text := v.text
		if rest, bc := strings.CutSuffix(text, " BC"); bc {
			if text = "0000" + strings.TrimPrefix(rest, "0001"); len(text) != len(rest) {
				return cell{}, false
			}
		}
		if c.class() == classDate {
			text, _, _ = strings.Cut(text, " ")
		}
		return cell{text: text}, len(text) >= len("2024-02-29") && strings.Trim(text, "0123456789-: .") == ""
	case classTime:
		return cell{text: v.text}, v.text != "" && strings.Trim(v.text, "0123456789-:.") == ""
	case classText, classEnum, classSet:
		return cell{text: v.text, kind: dfs.String}, v.kind == dfs.String
	case classBinary:
		if v.kind == dfs.String { // a uuid
			b, err := unhyphened(v.text)
			return cell{text: b, kind: dfs.Bytes}, err == nil
		}
		return cell{text: v.text, kind: dfs.Bytes}, v.kind == dfs.Bytes
	case classOther:
		if c.base == "uuid" && v.kind == dfs.String && len(v.text) == 32 {
			return cell{text: v.text[:8] + "-" + v.text[8:12] + "-" + v.text[12:16] + "-" + v.text[16:20] + "-" + v.text[20:], kind: dfs.String}, true
		}
		return cell{text: v.text, kind: v.kind}, true
	}
	return cell{}, false
}

// unhyphened returns the bytes of a UUID's text.
func unhyphened(s string) (string, error) {
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err == nil && len(b) != 16 {
		err = fmt.Errorf("a UUID of %d bytes", len(b))
	}
	return string(b), err
}

// storedLiteral returns the literal of a value that fromStored has made.
func storedLiteral(c *column, v cell) string {
	switch {
	case v.kind == dfs.Bytes:
		return "_binary " + hexLiteral(v.text)
	case c.class() == classText && c.charset != "" && !sameCharset(c.charset, "utf8mb4"):
		return "CONVERT(_utf8mb4 " + hexLiteral(v.text) + " USING " + c.charset + ")"
	}
	return "_utf8mb4 " + hexLiteral(v.text)
}

package cdc

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
)

// A copyShape is how the rows of a table are read. It never changes: a table that
// is altered gets another.
type copyShape struct {
	table   *dfs.Table
	columns []wireColumn
	key     *copyKey // nil if the table has none
	parts   []string // what is selected of each column
	list    string   // what is selected

	// documents are the columns with JSON, the types in which follow the columns of
	// the table.
	documents []int

	instant bool   // its engine has no views: a statement shows what is there when it begins to read
	total   uint64 // rows, as the server estimates them
	average int    // bytes a row, as the server estimates them; 0 if not known

	least, most *bound // the ends of a key that is one integer; nil if there are no rows
}

// readShape asks the server for the shape of a table as it is now. It returns nil
// if the table is not there.
func (s *Source) readShape(ctx context.Context, name tableName) (*copyShape, error) {
	t, err := readTable(ctx, s.db, name.schema, name.name)
	if err != nil {
		return nil, mark(err)
	}
	if t == nil {
		return nil, s.notThereOrHidden(ctx, name)
	}
	var kind string
	err = s.db.QueryRowContext(ctx, "SELECT table_type FROM information_schema.tables WHERE table_schema = ? AND table_name = ?",
		name.schema, name.name).Scan(&kind)
	if err != nil && err != sql.ErrNoRows {
		return nil, mark(fmt.Errorf("cdc: ask for the kind of %s: %w", t, err))
	}
	if kind == "SYSTEM VERSIONED" {
		// A query shows the rows of now only, and the log has those of before too.
		return nil, errVersioned
	}
	sh := &copyShape{table: t}
	if sh.key, err = s.chooseKey(ctx, t); err != nil {
		return nil, err
	}
	var parts, types []string
	for i := range t.Columns {
		c := &t.Columns[i]
		part := s.asLogged(c)
		w, err := s.wireColumn(c)
		if err != nil {
			return nil, &TypeError{Table: t.String(), Column: c.Name, Type: c.Type,
				Cure: "alter the column to a type that can be read, or leave the table out"}
		}
		sh.columns = append(sh.columns, w)
		parts = append(parts, part)
		if w.kind == dfs.JSON && !atLeast(s.known().version, 8, 0) {
			s.opts.Logger.Warn("this version of the server does not tell of values in JSON documents that are DECIMALs, dates or bytes: they are copied as what their texts say",
				"table", t.String(), "column", c.Name)
		} else if w.kind == dfs.JSON {
			sh.documents = append(sh.documents, i)
			types = append(types, jsonTypes(quoted(t.Schema)+"."+quoted(t.Name)+"."+quoted(c.Name)))
		}
	}
	for range types {
		sh.columns = append(sh.columns, wireColumn{kind: dfs.String})
	}
	sh.parts, sh.list = parts, strings.Join(append(slices.Clone(parts), types...), ", ")
	var total, average sql.NullInt64
	var engine sql.NullString
	err = s.db.QueryRowContext(ctx, "SELECT table_rows, avg_row_length, engine FROM information_schema.tables WHERE table_schema = ? AND table_name = ?",
		name.schema, name.name).Scan(&total, &average, &engine)
	if err != nil && err != sql.ErrNoRows {
		return nil, mark(fmt.Errorf("cdc: estimate the rows of %s: %w", t, err))
	}
	sh.instant = !slices.Contains([]string{"InnoDB", "ROCKSDB", "TokuDB"}, engine.String)
	sh.total, sh.average = uint64(max(total.Int64, 0)), int(max(average.Int64, 0))
	return sh, nil
}

// note puts the types of values in documents, which follow a row, into the row.
func (sh *copyShape) note(row dfs.Row) (dfs.Row, error) {
	n := len(sh.table.Columns)
	for i, at := range sh.documents {
		types := row[n+i]
		if types.IsNull() || row[at].IsNull() {
			continue
		}
		v, err := notedJSON(row[at].Text(), types.Text())
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", sh.table.Columns[at].Name, err)
		}
		row[at] = v
	}
	return row[:n:n], nil
}

// asLogged returns what is selected of a column, to be what the log has, and makes
// its type that of the log.
func (s *Source) asLogged(c *dfs.Column) string {
	part := quoted(c.Name)
	name, rest, _ := strings.Cut(c.Type, "(")
	switch name {
	case "bit", "enum", "set":
		return "CAST(" + part + " AS UNSIGNED)"
	case "uuid":
		part = "UNHEX(REPLACE(CAST(" + part + " AS CHAR), '-', ''))"
	case "inet6", "inet4":
		part = "INET6_ATON(CAST(" + part + " AS CHAR))"
	}
	if !s.known().named {
		return part // the log has the type that the server shows
	}
	switch name {
	case "uuid", "inet6":
		c.Type = "binary(16)"
	case "inet4":
		c.Type = "binary(4)"
	case "float", "double":
		if c.Type = name; strings.HasSuffix(rest, " unsigned") {
			c.Type += " unsigned"
		}
	case "geometrycollection":
		c.Type = "geomcollection"
	}
	return part
}

// notThereOrHidden returns nil if a table that information_schema does not show is
// not there, and else why it is hidden: the account may not read it.
func (s *Source) notThereOrHidden(ctx context.Context, name tableName) error {
	const badSchema, noSuchTable = 1049, 1146
	err := eachRow(ctx, s.db, "SELECT 1 FROM "+quoted(name.schema)+"."+quoted(name.name)+" LIMIT 0", func([]sql.NullString) {})
	if code, _ := errorCode(err); code == badSchema || code == noSuchTable {
		return nil
	}
	if err == nil {
		err = dfs.Transient(errors.New("it was created a moment ago"))
	}
	return mark(err)
}

// chooseKey returns the key to page the table by: its primary key, or else the
// shortest of its unique keys that have neither NULL nor prefixes of columns.
func (s *Source) chooseKey(ctx context.Context, t *dfs.Table) (*copyKey, error) {
	hidden := "'YES'"
	switch {
	case !s.maria && atLeast(s.known().version, 8, 0):
		hidden = "is_visible"
	case s.maria && atLeast(s.known().version, 10, 6):
		hidden = "IF(ignored = 'NO', 'YES', 'NO')"
	}
	rows, err := s.db.QueryContext(ctx, `SELECT index_name, COALESCE(column_name, ''), sub_part IS NOT NULL OR nullable = 'YES' OR index_type <> 'BTREE' OR `+hidden+` = 'NO'
		FROM information_schema.statistics WHERE table_schema = ? AND table_name = ? AND non_unique = 0
		ORDER BY index_name <> 'PRIMARY', index_name, seq_in_index`, t.Schema, t.Name)
	if err != nil {
		return nil, mark(fmt.Errorf("cdc: read the keys of %s: %w", t, err))
	}
	defer rows.Close()
	var keys []*copyKey
	bad := make(map[string]bool)
	for rows.Next() {
		var name, column string
		var unfit bool
		if err := rows.Scan(&name, &column, &unfit); err != nil {
			return nil, mark(fmt.Errorf("cdc: read the keys of %s: %w", t, err))
		}
		at := t.Column(column)
		if column == "" || at < 0 || unfit || !orderable(&t.Columns[at]) {
			bad[name] = true
			continue
		}
		if len(keys) == 0 || keys[len(keys)-1].index != name {
			keys = append(keys, &copyKey{index: name, table: t})
		}
		k := keys[len(keys)-1]
		k.columns = append(k.columns, at)
		k.text = k.text || t.Columns[at].Charset != ""
	}
	if err := rows.Err(); err != nil {
		return nil, mark(fmt.Errorf("cdc: read the keys of %s: %w", t, err))
	}
	keys = slices.DeleteFunc(keys, func(k *copyKey) bool { return bad[k.index] })
	if len(keys) == 0 {
		return nil, nil
	}
	best := keys[0]
	for _, k := range keys {
		if best.index != "PRIMARY" && (len(k.columns) < len(best.columns) || len(k.columns) == len(best.columns) && !k.text && best.text) {
			best = k
		}
	}
	best.integer = len(best.columns) == 1 && strings.Contains(t.Columns[best.columns[0]].Type, "int")
	return best, s.planWeights(ctx, best)
}

// A weigher asks the server for the order of the texts of one column, which is that
// of their WEIGHT_STRING.
type weigher struct {
	pad  string // what a space at the end weighs; empty if spaces at the end count, or if it has several levels
	pads bool   // spaces at the end do not count
	most int    // weights that a text of the column can have, in each level
	all  string // those of the empty text, if pads is set and pad is empty
}

// mostWeights is how many weights a character has at most: U+FDFA has 18.
const mostWeights = 18

// planWeights finds out how to ask the server for the order of the key's texts.
func (s *Source) planWeights(ctx context.Context, k *copyKey) error {
	k.weigh = make([]*weigher, len(k.columns))
	for i, at := range k.columns {
		c := &k.table.Columns[at]
		if c.Charset == "" {
			continue
		}
		w := &weigher{pads: !strings.Contains(c.Collation, "nopad")}
		k.weigh[i] = w
		if !s.maria && atLeast(s.known().version, 8, 0) {
			var pad string
			err := s.db.QueryRowContext(ctx, "SELECT pad_attribute FROM information_schema.collations WHERE collation_name = ?", c.Collation).Scan(&pad)
			if err != nil {
				return mark(fmt.Errorf("cdc: read how %s compares: %w", c.Collation, err))
			}
			w.pads = pad != "NO PAD"
		}
		if !w.pads {
			continue
		}
		var n int
		if _, err := fmt.Sscanf(c.Type[strings.IndexByte(c.Type, '(')+1:], "%d", &n); err != nil {
			return fmt.Errorf("cdc: the key column %s.%s is %s, of which the length is not known", k.table, c.Name, c.Type)
		}
		w.most = mostWeights * max(n, 1)
		empty := literal(nil, dfs.StringValue(""), c)
		var one, two string
		err := s.db.QueryRowContext(ctx, fmt.Sprintf("SELECT HEX(WEIGHT_STRING(%[1]s AS CHAR(1))), HEX(WEIGHT_STRING(%[1]s AS CHAR(2))), HEX(WEIGHT_STRING(%[1]s AS CHAR(%[2]d)))",
			empty, w.most)).Scan(&one, &two, &w.all)
		if err != nil {
			return mark(fmt.Errorf("cdc: ask how %s compares: %w", c.Collation, err))
		}
		if w.all == "" {
			return fmt.Errorf("cdc: the server does not tell how %s compares", c.Collation)
		}
		if two == one+one {
			w.pad, w.all = one, ""
		}
	}
	return nil
}

// expression appends an expression for the weights of a text.
func (w *weigher) expression(q []byte, v dfs.Value, c *dfs.Column) []byte {
	q = literal(append(q, "HEX(WEIGHT_STRING("...), v, c)
	if w.pads {
		n := w.most
		if w.pad != "" {
			n = max(min(n, mostWeights*len(v.Text())), 1)
		}
		q = fmt.Appendf(q, " AS CHAR(%d)", n)
	}
	return append(q, "))"...)
}

// size returns about how many bytes the answer has for a text of so many.
func (w *weigher) size(n int) int {
	if w.pads && w.pad == "" {
		return len(w.all)
	}
	return 4 * mostWeights * n
}

// shorten returns weights, of which those of spaces at the end are as many as were
// asked for, so that they compare as before and are no longer than they must. After
// each segment stands whether the rest is less than spaces, equal or more.
func (w *weigher) shorten(weights string) string {
	if !w.pads {
		return weights
	}
	const segment = 16
	spaces := w.all
	if w.pad != "" {
		spaces = strings.Repeat(w.pad, len(weights)/len(w.pad)+segment)
	}
	var b []byte
	for at := 0; ; at += segment {
		for i := at; i < at+segment; i++ {
			if i < len(weights) {
				b = append(b, weights[i])
			} else {
				b = append(b, spaces[i%len(spaces)])
			}
		}
		rest := min(at+segment, len(weights))
		switch c := strings.Compare(weights[rest:], spaces[min(rest, len(spaces)):min(len(weights), len(spaces))]); {
		case c == 0:
			return alias(append(b, '='))
		default:
			b = append(b, byte('='+c))
		}
	}
}

// orders returns bytes for each of rows, of the values of the key's columns, that
// compare as the server compares the keys. It asks the server if they are texts.
func (s *Source) orders(ctx context.Context, k *copyKey, rows []dfs.Row) ([]string, error) {
	list := make([]string, len(rows))
	if !k.text {
		for i, row := range rows {
			var b []byte
			var err error
			for _, v := range row {
				if b, err = appendOrder(b, v, "", false); err != nil {
					return nil, err
				}
			}
			list[i] = alias(b)
		}
		return list, nil
	}
	// A statement selects 4096 columns at most, and its result has to fit into memory.
	const most, mostBytes = 2000, 4 << 20
	for from := 0; from < len(rows); {
		to, columns, size := from, 0, 0
		for ; to < len(rows) && (to == from || columns < most && size < mostBytes); to++ {
			for j, v := range rows[to] {
				if w := k.weigh[j]; w != nil && v.Kind() == dfs.String {
					columns++
					size += w.size(len(v.Text()))
				}
			}
		}
		if err := s.askOrders(ctx, k, rows[from:to], list[from:]); err != nil {
			return nil, err
		}
		from = to
	}
	return list, nil
}

// askOrders is orders for keys with texts, and not too many.
func (s *Source) askOrders(ctx context.Context, k *copyKey, rows []dfs.Row, to []string) error {
	var q []byte
	for _, row := range rows {
		for j, v := range row {
			if k.weigh[j] == nil || v.Kind() != dfs.String {
				continue
			}
			if q == nil {
				q = append(q, "SELECT "...)
			} else {
				q = append(q, ", "...)
			}
			q = k.weigh[j].expression(q, v, &k.table.Columns[k.columns[j]])
		}
	}
	var weights []sql.NullString
	if q != nil {
		err := eachRow(ctx, s.db, alias(q), func(v []sql.NullString) { weights = slices.Clone(v) })
		if err != nil {
			return mark(fmt.Errorf("cdc: ask for the order of the keys of %s: %w", k.table, err))
		}
	}
	for i, row := range rows {
		var b []byte
		var err error
		for j, v := range row {
			weight := ""
			if w := k.weigh[j]; w != nil && v.Kind() == dfs.String {
				weight = w.shorten(weights[0].String)
				weights = weights[1:]
			}
			if b, err = appendOrder(b, v, weight, false); err != nil {
				return err
			}
		}
		to[i] = alias(b)
	}
	return nil
}

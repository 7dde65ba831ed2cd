package sink

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// A liteDefinition is a CREATE TABLE of SQLite in its parts.
type liteDefinition struct {
	items []string // columns and constraints
	rest  string   // WITHOUT ROWID, STRICT
}

// definition reads how a table was made.
func (l *liteBackend) definition(ctx context.Context, t *table) (*liteDefinition, error) {
	rows, err := l.query(ctx, "SELECT sql FROM sqlite_schema WHERE type='table' AND name=?1 COLLATE NOCASE", t.name)
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("the file has no table %s", l.ident(t))
	}
	return readLite(rows[0][0].text)
}

// readLite cuts a CREATE TABLE into its parts.
func readLite(sql string) (*liteDefinition, error) {
	d := &liteDefinition{}
	depth, from := 0, 0
	for i := 0; i < len(sql); i++ {
		switch c := sql[i]; {
		case c == '\'' || c == '"' || c == '`' || c == '[':
			i = skipLite(sql, i) - 1
		case strings.HasPrefix(sql[i:], "--"), strings.HasPrefix(sql[i:], "/*"):
			return nil, errors.New("its definition has comments: alter it by hand")
		case c == '(':
			if depth++; depth == 1 {
				from = i + 1
			}
		case c == ',' && depth == 1:
			d.items = append(d.items, strings.TrimSpace(sql[from:i]))
			from = i + 1
		case c == ')':
			if depth--; depth == 0 {
				d.items = append(d.items, strings.TrimSpace(sql[from:i]))
				d.rest = strings.TrimSpace(sql[i+1:])
				return d, nil
			}
		}
	}
	return nil, errors.New("its definition is not understood: alter it by hand")
}

// skipLite returns the place after the quoted text that begins at i.
func skipLite(s string, i int) int {
	q := s[i]
	if q == '[' {
		q = ']'
	}
	for i++; i < len(s); i++ {
		switch {
		case s[i] == q && q != ']' && i+1 < len(s) && s[i+1] == q:
			i++
		case s[i] == q:
			return i + 1
		}
	}
	return len(s)
}

func (d *liteDefinition) create(name string) string {
	return strings.TrimSpace("CREATE TABLE " + quoteName(name) + " (\n  " + strings.Join(d.items, ",\n  ") + "\n) " + d.rest)
}

// liteWords returns the words and quoted names of an item, those in parentheses left out,
// and how many of them stand before the first parenthesis.
func liteWords(item string) (words []string) {
	depth := 0
	for i := 0; i < len(item); {
		switch c := item[i]; {
		case c == '\'' || c == '"' || c == '`' || c == '[':
			end := skipLite(item, i)
			if depth == 0 {
				words = append(words, item[i:end])
			}
			i = end
		case c == '(':
			depth++
			i++
		case c == ')':
			depth--
			i++
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == ',':
			i++
		default:
			end := i
			for end < len(item) && !strings.ContainsRune("'\"`[() \t\r\n,", rune(item[end])) {
				end++
			}
			if depth == 0 {
				words = append(words, item[i:end])
			}
			i = end
		}
	}
	return words
}

// liteName returns what a name in quotes, or without, stands for.
func liteName(s string) string {
	if s == "" {
		return s
	}
	switch q := s[0]; q {
	case '"', '`', '\'':
		return strings.ReplaceAll(strings.TrimSuffix(s[1:], string(q)), string([]byte{q, q}), string(q))
	case '[':
		return strings.TrimSuffix(s[1:], "]")
	}
	return s
}

// liteLength finds what is in parentheses behind the type of a column.
var liteLength = regexp.MustCompile(`^(?:"(?:[^"]|"")*"|\w+)\s+[A-Za-z]\w*\s*(\(\s*\d+\s*(?:,\s*\d+\s*)?\))`)

var errByHand = errors.New("its definition has more than this program makes: alter it by hand")

// liteConstraint reports whether an item is no column.
func liteConstraint(words []string) bool {
	if len(words) == 0 {
		return true
	}
	switch strings.ToUpper(words[0]) {
	case "CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN":
		return true
	}
	return false
}

// column reads the item of a column, which must have nothing but a type, a default and
// NOT NULL, and PRIMARY KEY.
func (d *liteDefinition) column(name string) (i int, n newColumn, primary bool, err error) {
	for i, item := range d.items {
		w := liteWords(item)
		if liteConstraint(w) || !strings.EqualFold(liteName(w[0]), name) {
			continue
		}
		n = newColumn{name: liteName(w[0])}
		length := ""
		if m := liteLength.FindStringSubmatchIndex(item); m != nil && m[2] >= len(w[0]) {
			length = item[m[2]:m[3]]
			item = item[:m[2]] + item[m[3]:]
		}
		head := true // the type
		for k := 1; k < len(w); k++ {
			next := ""
			if k+1 < len(w) {
				next = strings.ToUpper(w[k+1])
			}
			switch word := strings.ToUpper(w[k]); {
			case word == "DEFAULT" && next != "":
				n.literal, head = w[k+1], false
				k++
			case word == "NOT" && next == "NULL":
				n.notNull, head = true, false
				k++
			case word == "NULL":
				head = false
			case word == "PRIMARY" && next == "KEY":
				primary, head = true, false
				k++
			case head && word[0] >= 'A' && word[0] <= 'Z' && !slices.Contains([]string{"UNIQUE", "CHECK", "REFERENCES", "COLLATE", "CONSTRAINT", "GENERATED", "AS", "ON"}, word):
				n.typ = strings.TrimSpace(n.typ + " " + w[k])
			default:
				return i, n, primary, fmt.Errorf("column %s: %w", name, errByHand)
			}
		}
		if strings.Contains(outsideLite(item), "(") {
			return i, n, primary, fmt.Errorf("column %s: %w", name, errByHand)
		}
		n.typ += length
		return i, n, primary, nil
	}
	return 0, n, false, fmt.Errorf("it has no column %s", name)
}

// outsideLite returns s without what is in quotes.
func outsideLite(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c := s[i]; c == '\'' || c == '"' || c == '`' || c == '[' {
			i = skipLite(s, i) - 1
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// change gives a column another definition.
func (d *liteDefinition) change(to *newColumn) error {
	return d.edit(to.name, func(n *newColumn) { *n = *to })
}

// edit changes the definition of a column.
func (d *liteDefinition) edit(name string, f func(*newColumn)) error {
	i, n, primary, err := d.column(name)
	if err != nil {
		return err
	}
	f(&n)
	if d.items[i] = n.item(); primary {
		d.items[i] += " PRIMARY KEY"
	}
	return nil
}

// setPrimary gives the table another primary key, or none.
func (d *liteDefinition) setPrimary(columns []string) error {
	if d.rest != "" {
		return errByHand // WITHOUT ROWID
	}
	var out []string
	for _, item := range d.items {
		w := liteWords(item)
		switch {
		case len(w) > 1 && strings.EqualFold(w[0], "PRIMARY"):
			if len(w) > 2 {
				return errByHand // ON CONFLICT
			}
			continue
		case len(w) > 0 && strings.EqualFold(w[0], "CONSTRAINT"):
			return errByHand
		case !liteConstraint(w) && strings.Contains(strings.ToUpper(strings.Join(w[1:], " ")), "PRIMARY KEY"):
			_, n, primary, err := d.column(liteName(w[0]))
			if err != nil {
				return err
			}
			if primary {
				item = n.item()
			}
		}
		out = append(out, item)
	}
	at := slices.IndexFunc(out, func(s string) bool { return liteConstraint(liteWords(s)) })
	if at < 0 {
		at = len(out)
	}
	if d.items = out; len(columns) > 0 {
		d.items = slices.Insert(out, at, "PRIMARY KEY ("+quoteNames(columns)+")")
		for _, c := range columns {
			if err := d.edit(c, func(n *newColumn) { n.notNull = true }); err != nil {
				return err
			}
		}
	}
	return nil
}

// dropUnique takes out a constraint of unique columns.
func (d *liteDefinition) dropUnique(columns []string) error {
	for i, item := range d.items {
		w := liteWords(item)
		if len(w) != 1 || !strings.EqualFold(w[0], "UNIQUE") {
			continue
		}
		var names []string
		for _, n := range strings.Split(item[strings.IndexByte(item, '(')+1:strings.LastIndexByte(item, ')')], ",") {
			names = append(names, liteName(strings.TrimSpace(n)))
		}
		if slices.EqualFunc(names, columns, strings.EqualFold) {
			d.items = slices.Delete(d.items, i, i+1)
			return nil
		}
	}
	return errByHand
}

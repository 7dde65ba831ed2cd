package sink

import (
	"errors"
	"regexp"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/match"
)

// A definition is the text of a SHOW CREATE TABLE in its parts. Servers print it in
// one form: names in backticks, strings in quotes with what is special behind
// backslashes, one column, index or constraint after the other.
type definition struct {
	items []string // columns, indexes and constraints
	rest  string   // what follows the parenthesis: engine, character set, partitions
}

// readDefinition cuts a text into its parts.
func readDefinition(text string) (d definition, err error) {
	head := strings.IndexByte(text, '(')
	if name := strings.IndexByte(text, '`'); name >= 0 && name < head {
		head = skipQuoted(text, name) // a name may have a parenthesis
		head += strings.IndexByte(text[head:], '(')
	}
	if !strings.HasPrefix(text, "CREATE TABLE ") || head < 0 {
		return d, errors.New("it is no CREATE TABLE")
	}
	depth, from := 0, head+1
	for i := head + 1; i < len(text); i++ {
		switch text[i] {
		case '\'', '"', '`':
			i = skipQuoted(text, i) - 1
		case '(':
			depth++
		case ',':
			if depth == 0 {
				d.items = append(d.items, strings.TrimSpace(text[from:i]))
				from = i + 1
			}
		case ')':
			if depth--; depth < 0 {
				d.items = append(d.items, strings.TrimSpace(text[from:i]))
				d.rest = strings.TrimSpace(text[i+1:])
				return d, nil
			}
		}
	}
	return d, errors.New("its parenthesis has no end")
}

// skipQuoted returns the place after the quoted text that begins at i.
func skipQuoted(s string, i int) int {
	q := s[i]
	for i++; i < len(s); i++ {
		switch {
		case s[i] == '\\' && q != '`':
			i++
		case s[i] == q && i+1 < len(s) && s[i+1] == q:
			i++
		case s[i] == q:
			return i + 1
		}
	}
	return len(s)
}

// names reads the quoted names between the first parentheses of s.
func names(s string) (list []string) {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\'', '"':
			i = skipQuoted(s, i) - 1
		case '`':
			end := skipQuoted(s, i)
			if depth == 1 {
				list = append(list, unquote(s[i:end]))
			}
			i = end - 1
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return list
			}
		}
	}
	return list
}

func unquote(name string) string {
	return strings.ReplaceAll(strings.Trim(name, "`"), "``", "`")
}

// A foreign key as it is printed; what follows the columns of the parent are its
// actions.
var foreignText = regexp.MustCompile("^CONSTRAINT `(?:[^`]|``)+` FOREIGN KEY (\\(.+?\\)) REFERENCES ((?:`(?:[^`]|``)+`\\.)?`(?:[^`]|``)+`) (\\(.+?\\))")

// foreign is a foreign key in a definition.
type foreign struct {
	columns       []string
	schema, table string // of the parent
	parentColumns []string
}

// readForeign reads an item that is a foreign key of a table in the schema.
func readForeign(item, schema string) (f foreign, at [2]int, ok bool) {
	m := foreignText.FindStringSubmatchIndex(item)
	if m == nil {
		return f, at, false
	}
	parent := item[m[4]:m[5]]
	first := skipQuoted(parent, 0)
	f.schema, f.table = schema, unquote(parent[:first])
	if first < len(parent) {
		f.schema, f.table = f.table, unquote(parent[first+1:])
	}
	f.columns, f.parentColumns = names(item[m[2]:m[3]]), names(item[m[6]:m[7]])
	return f, [2]int{m[4], m[5]}, true
}

// routed returns the item with the parent that the routes lead to.
func (f *foreign) routed(item string, at [2]int, routes []match.Route) string {
	schema, table := match.Target(routes, f.schema, f.table)
	b := appendIdent([]byte(item[:at[0]]), schema)
	return string(appendIdent(append(b, '.'), table)) + item[at[1]:]
}

// unnamed returns the definition without the names of its constraints, which are
// unique in a schema.
func (d definition) unnamed() definition {
	const head = "CONSTRAINT "
	out := definition{rest: d.rest}
	for _, item := range d.items {
		if strings.HasPrefix(item, head+"`") {
			item = strings.TrimSpace(item[skipQuoted(item, len(head)):])
		}
		out.items = append(out.items, item)
	}
	return out
}

// isForeign reports whether an item is a foreign key, also one that is not
// understood.
func isForeign(item string) bool {
	return strings.HasPrefix(item, "CONSTRAINT `") && strings.HasPrefix(item[skipQuoted(item, len("CONSTRAINT ")):], " FOREIGN KEY")
}

// A plain index does nothing but to find rows faster.
func plainIndex(item string) (name string, columns []string, ok bool) {
	const head = "KEY `"
	if !strings.HasPrefix(item, head) {
		return "", nil, false
	}
	end := skipQuoted(item, len(head)-1)
	columns = names(item[end:])
	return unquote(item[len(head)-1 : end]), columns, len(columns) > 0 && !strings.Contains(item[end:], "((")
}

// toMaria and toMySQL replace what one of the two prints and the other does not
// know. MySQL's collations of UCA 9.0.0 do not pad, and MariaDB's of UCA 14 have a
// kind that does not.
var (
	mysqlBin   = regexp.MustCompile(`\butf8mb4_0900_bin\b`)
	mysqlUCA   = regexp.MustCompile(`\butf8mb4_(?:[a-z_]+_)?0900_(ai_ci|as_ci|as_cs)\b`)
	mariaUCA   = regexp.MustCompile(`\butf8mb[34]_uca1400_(?:[a-z0-9]+_)*?(ai_ci|as_ci|as_cs|ai_cs)\b|\buca1400_(ai_ci|as_ci|as_cs|ai_cs)\b`)
	mariaNopad = regexp.MustCompile(`\b(utf8mb[34])_(?:nopad_bin|general_nopad_ci|unicode_nopad_ci|unicode_520_nopad_ci)\b`)
	mariaOwn   = regexp.MustCompile(`(?i) (?:PAGE_CHECKSUM|TRANSACTIONAL)=[01]\b`)
	otherTypes = regexp.MustCompile(`^(uuid|inet6|inet4)\b`)
	oldEngine  = regexp.MustCompile(`(?i)^ENGINE=(?:MyISAM|Aria|MEMORY|CSV|ARCHIVE|MRG_MyISAM|BLACKHOLE|FEDERATED)\b`)
)

// notInto are the collations of MySQL that sort by a language, and whose
// counterpart is not exactly known.
var languages = regexp.MustCompile(`\butf8mb4_[a-z_]+_0900_`)

// translate makes of the code of one family of servers that of the other, and says
// what is not the same. It does not look into strings.
func translate(s string, fromMaria, toMaria bool) (string, []string) {
	var notes []string
	note := func(what string) {
		if len(notes) == 0 || notes[len(notes)-1] != what {
			notes = append(notes, what)
		}
	}
	out := outsideQuotes(s, func(code string) string {
		switch {
		case !fromMaria && toMaria:
			if languages.MatchString(code) {
				note("collations of a language are those of no language")
			}
			code = mysqlBin.ReplaceAllString(code, "utf8mb4_nopad_bin")
			code = mysqlUCA.ReplaceAllString(code, "utf8mb4_uca1400_nopad_$1")
		case fromMaria && !toMaria:
			if mariaUCA.MatchString(code) {
				note("collations of UCA 14.0.0 are those of 9.0.0")
			}
			code = mariaUCA.ReplaceAllStringFunc(code, func(c string) string {
				end := c[len(c)-5:]
				if end == "ai_cs" {
					end = "as_cs"
				}
				return "utf8mb4_0900_" + end
			})
			code = mariaNopad.ReplaceAllStringFunc(code, func(c string) string {
				if strings.HasSuffix(c, "bin") {
					return "utf8mb4_0900_bin"
				}
				note("collations without padding are those of UCA 9.0.0")
				return "utf8mb4_0900_ai_ci"
			})
			code = mariaOwn.ReplaceAllString(code, "")
		}
		return code
	})
	return out, notes
}

// outsideQuotes applies f to what is in no quotes.
func outsideQuotes(s string, f func(string) string) string {
	var b strings.Builder
	from := 0
	for i := 0; i < len(s); i++ {
		if c := s[i]; c == '\'' || c == '"' || c == '`' {
			end := skipQuoted(s, i)
			b.WriteString(f(s[from:i]))
			b.WriteString(s[i:end])
			from, i = end, end-1
		}
	}
	b.WriteString(f(s[from:]))
	return b.String()
}

// plainTable returns the definition of a table that has the columns of t and its
// primary key, and nothing else.
func plainTable(t *dfs.Table, toMaria bool) definition {
	var d definition
	for i := range t.Columns {
		c := &t.Columns[i]
		b := append(appendIdent(nil, c.Name), ' ')
		typ := c.Type
		if len(c.Members) > 0 {
			typ, _, _ = strings.Cut(typ, "(")
			for k, m := range c.Members {
				typ += "(,"[min(k, 1):][:1] + string(appendQuoted(nil, m))
			}
			typ += ")"
		}
		if !toMaria {
			switch otherTypes.FindString(typ) {
			case "uuid":
				typ = "binary(16)" // the log has the bytes
			case "inet6":
				typ = "binary(16)"
			case "inet4":
				typ = "binary(4)"
			}
		}
		b = append(b, typ...)
		if c.Charset != "" && c.Charset != "binary" {
			b = append(append(b, " CHARACTER SET "...), c.Charset...)
			if c.Collation != "" {
				b = append(append(b, " COLLATE "...), c.Collation...)
			}
		}
		if c.Nullable {
			b = append(b, " NULL"...)
		} else {
			b = append(b, " NOT NULL"...)
		}
		d.items = append(d.items, string(b))
	}
	if len(t.Key) > 0 {
		b := []byte("PRIMARY KEY (")
		for k, i := range t.Key {
			b = appendIdent(append(b, ","[:min(k, 1)]...), t.Columns[i].Name)
		}
		d.items = append(d.items, string(append(b, ')')))
	}
	d.rest = "ENGINE=InnoDB"
	return d
}

package ddl

import (
	"slices"
	"strings"
)

// A Fill is what an ALTER TABLE gives to the rows that a table has already. No
// log shows it, so two servers have it alike only if nothing but the rows and the
// session of the statement decides about it.
type Fill struct {
	// Numbers says that a column with AUTO_INCREMENT numbers the rows, in the
	// order in which the server comes across them. Column is the column that does
	// so from now on, if it is there before, and is empty if it is new.
	Numbers bool
	Column  string

	// Orders says that the rows are put in order by ORDER BY.
	Orders bool

	// Ignores says that of rows which have the same unique key all but one go.
	Ignores bool

	// Unproven is what values are made of that servers may see in different ways:
	// the name of a function or a variable, an operator, or "SELECT". It is empty
	// if there is none.
	Unproven string
}

// Fill tells what s gives to the rows that its table has.
func (s *Statement) Fill() (f Fill) {
	if s.Kind != AlterTable {
		return f
	}
	head := lexer{s: s.Text, mode: &s.mode}
	for t := head.next(); t.kind != tokEnd && !t.is("TABLE"); t = head.next() {
		f.Ignores = f.Ignores || t.is("IGNORE")
	}
	l := lexer{s: s.Text, mode: &s.mode, pos: s.body, open: s.open}
	var all []token
	for t := l.next(); t.kind != tokEnd; t = l.next() {
		all = append(all, t)
	}
	// MariaDB: how long to wait for the table.
	if len(all) > 1 && all[0].is("WAIT") {
		all = all[2:]
	} else if len(all) > 0 && all[0].is("NOWAIT") {
		all = all[1:]
	}
	for clause := range commas(all) {
		f.clause(clause)
	}
	return f
}

// commas yields the parts of tokens between commas that are in no parentheses.
func commas(all []token) func(func([]token) bool) {
	return func(yield func([]token) bool) {
		depth, from := 0, 0
		for i, t := range all {
			switch {
			case t.punct('('):
				depth++
			case t.punct(')'):
				depth--
			case t.punct(',') && depth == 0:
				if !yield(all[from:i]) {
					return
				}
				from = i + 1
			}
		}
		yield(all[from:])
	}
}

// clause takes in one clause of the statement.
func (f *Fill) clause(c []token) {
	has := func(i int, word string) bool { return i < len(c) && c[i].is(word) }
	verb := func(word string) bool { return has(0, word) }
	switch {
	case verb("ORDER"):
		f.Orders = true
	case verb("ADD"), verb("MODIFY"), verb("CHANGE"):
		i := 1
		if has(i, "COLUMN") {
			i++
		}
		if has(i, "IF") {
			for i++; has(i, "NOT") || has(i, "EXISTS"); i++ {
			}
		}
		old := ""
		if i < len(c) && !verb("ADD") {
			for i+2 < len(c) && c[i+1].punct('.') {
				i += 2
			}
			if old = c[i].text; verb("CHANGE") {
				i++
			}
		}
		if i >= len(c) {
			return
		}
		defs := [][]token{c[i:]}
		if c[i].punct('(') {
			defs = slices.Collect(commas(c[i+1 : group(c, i)]))
		}
		for _, def := range defs {
			f.definition(def, old, verb("ADD"))
		}
	}
	// Where this is not an option of the table, it is about a column, also in a
	// clause that was not understood.
	for i := range c {
		if has(i, "AUTO_INCREMENT") && (i+1 == len(c) || !c[i+1].punct('=') && c[i+1].kind != tokNumber) {
			f.Numbers = true
		}
	}
}

// group returns the index of the parenthesis that closes the one at i, or of the
// last token if none does.
func group(c []token, i int) int {
	for depth := 0; i < len(c); i++ {
		switch {
		case c[i].punct('('):
			depth++
		case c[i].punct(')'):
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return len(c) - 1
}

// definition takes in the definition of a column, which is new or was called old
// before. It may be one of an index too, which has none of the words.
func (f *Fill) definition(def []token, old string, added bool) {
	has := func(i int, words ...string) bool {
		return i >= 0 && i < len(def) && slices.ContainsFunc(words, def[i].is)
	}
	name := 0 // where the name ends
	for name+2 < len(def) && def[name+1].punct('.') {
		name += 2
	}
	numbers := has(name+1, "SERIAL")
	stored := false
	var made, value []token // the expressions of a generated column and of a default
	for i := name + 1; i < len(def); i++ {
		switch {
		case def[i].punct('('):
			i = group(def, i)
		case has(i, "AUTO_INCREMENT"), has(i, "SERIAL") && has(i+1, "DEFAULT"):
			numbers = true
		case has(i, "STORED", "PERSISTENT"):
			stored = true
		case has(i, "AS") && i+1 < len(def) && def[i+1].punct('('):
			end := group(def, i+1)
			made, i = def[i+1:end], end
		case has(i, "DEFAULT") && !has(i-1, "SET", "SERIAL"):
			value = def[i+1:]
			for k := i + 1; k < len(def); k++ {
				if def[k].punct('(') {
					k = group(def, k)
				} else if has(k, "CHECK", "CONSTRAINT", "REFERENCES", "AFTER") {
					value = def[i+1 : k]
					break
				}
			}
		}
	}
	if numbers {
		f.Numbers, f.Column = true, old
	}
	if added {
		f.expression(value) // a default for later rows changes nothing about those that are there
	}
	if stored {
		f.expression(made)
	}
}

// expression looks for what is not known to give the same on two servers.
func (f *Fill) expression(e []token) {
	for i, t := range e {
		if f.Unproven != "" {
			return
		}
		var next token
		if i+1 < len(e) {
			next = e[i+1]
		}
		upper := strings.ToUpper(t.text)
		switch {
		case t.kind == tokPunct:
			switch t.text[0] {
			case '@':
				f.Unproven = "a variable"
			case '/':
				f.Unproven = "/" // has as many digits as div_precision_increment says, which is not logged
			case '.':
				// 1.5, or what a dot stands in front of: .5
				if i > 0 && e[i-1].named() || next.text == "" || next.text[0] < '0' || next.text[0] > '9' {
					f.Unproven = "a name with a dot"
				}
			case '(', ')', ',', '+', '-', '*', '%', '<', '>', '=', '!', '&', '|', '^', '~', ';':
			default:
				f.Unproven = t.text
			}
		case t.named() && next.kind == tokPunct && next.punct('('):
			if !slices.Contains(proven, upper) {
				f.Unproven = upper
			}
		case t.kind == tokWord && slices.Contains(unproven, upper):
			f.Unproven = upper
		}
	}
}

// unproven are the words that stand for what only one server has or chooses, or
// for a way of its own to compare, without parentheses behind them.
var unproven = []string{"CURRENT_USER", "CURRENT_ROLE", "SYSDATE", "ROWNUM", "NEXT", "PREVIOUS", "SELECT", "TABLE",
	"REGEXP", "RLIKE", "MATCH"}

// proven are the words that may stand in front of a parenthesis: functions that
// nothing but their arguments decides about, and those variables of the session
// that are logged, such as timestamp, time_zone and lc_time_names; operators; and
// types. WEEK is left out for default_week_format, and what is computed with
// floating point, compression, locale or regular expressions for libraries that
// differ.
var proven = strings.Fields(`
	AND OR XOR NOT IN BETWEEN LIKE ESCAPE CASE WHEN THEN ELSE DIV MOD INTERVAL
	CHAR NCHAR VARCHAR BINARY DECIMAL DEC DATETIME TIME
	COALESCE IFNULL NULLIF IF ISNULL GREATEST LEAST CAST CONVERT
	ABS CEIL CEILING FLOOR ROUND TRUNCATE SIGN CONV HEX UNHEX BIN OCT BIT_COUNT CRC32
	CONCAT CONCAT_WS LOWER LCASE UPPER UCASE LENGTH CHAR_LENGTH CHARACTER_LENGTH OCTET_LENGTH BIT_LENGTH
	LEFT RIGHT SUBSTRING SUBSTR MID SUBSTRING_INDEX REPLACE REPEAT SPACE REVERSE TRIM LTRIM RTRIM LPAD RPAD
	INSERT INSTR LOCATE POSITION FIELD ELT FIND_IN_SET MAKE_SET EXPORT_SET ASCII ORD STRCMP QUOTE
	TO_BASE64 FROM_BASE64 MD5 SHA SHA1 SHA2 INET_ATON INET_NTOA INET6_ATON INET6_NTOA UUID_TO_BIN BIN_TO_UUID
	NOW CURRENT_TIMESTAMP LOCALTIME LOCALTIMESTAMP CURDATE CURRENT_DATE CURTIME CURRENT_TIME
	UTC_TIMESTAMP UTC_DATE UTC_TIME UNIX_TIMESTAMP FROM_UNIXTIME
	DATE TIMESTAMP YEAR QUARTER MONTH DAY DAYOFMONTH DAYOFWEEK DAYOFYEAR WEEKDAY HOUR MINUTE SECOND MICROSECOND
	DATE_ADD DATE_SUB ADDDATE SUBDATE ADDTIME SUBTIME DATEDIFF TIMEDIFF TIMESTAMPADD TIMESTAMPDIFF LAST_DAY
	MAKEDATE MAKETIME TO_DAYS FROM_DAYS TO_SECONDS SEC_TO_TIME TIME_TO_SEC EXTRACT DATE_FORMAT TIME_FORMAT
	DAYNAME MONTHNAME STR_TO_DATE PERIOD_ADD PERIOD_DIFF
	JSON_ARRAY JSON_OBJECT JSON_QUOTE JSON_UNQUOTE JSON_EXTRACT JSON_VALUE JSON_VALID JSON_LENGTH`)

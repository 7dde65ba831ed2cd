// Package coltype reads what information_schema.COLUMNS says of a column's type.
package coltype

import "strings"

// Members returns the names of the members in COLUMN_TYPE of an ENUM or SET, such
// as "enum('a','it”s')", and nil for other types.
//
// Servers write a quote twice and, whatever the sql_mode is, a backslash, a line
// feed, a carriage return and a NUL with a backslash in front: see
// append_unescaped in MySQL's sql/sql_show.cc or sql/unireg.cc.
func Members(columnType string) []string {
	name, s, _ := strings.Cut(columnType, "(")
	if !strings.EqualFold(name, "enum") && !strings.EqualFold(name, "set") {
		return nil
	}
	var list []string
	for strings.HasPrefix(s, "'") {
		var name strings.Builder
		i := 1
		for ; i < len(s); i++ {
			c := s[i]
			if c == '\'' {
				if i+1 >= len(s) || s[i+1] != '\'' {
					break
				}
				i++
			} else if c == '\\' && i+1 < len(s) {
				i++
				switch c = s[i]; c {
				case 'n':
					c = '\n'
				case 'r':
					c = '\r'
				case '0':
					c = 0
				}
			}
			name.WriteByte(c)
		}
		list = append(list, name.String())
		if i+1 >= len(s) || s[i+1] != ',' {
			break
		}
		s = s[i+2:]
	}
	return list
}

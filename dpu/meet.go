package dpu

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/ddl"
	"github.com/dataflowsync/dfs/internal/match"
)

// other returns a table of the source besides src, or a pattern, whose rows may
// come to the table to of the target, and the unit that src or they come by. It
// returns "" if there is none. A statement about src must not act on what others
// have there.
//
// A table that would keep its name counts if it is known to exist: where a unit
// gives shop.users the name crm.people, the source seldom has a crm.people, and a
// statement that creates it is refused, since then shop.users is the other.
func (s *Units) other(src, to ddl.Table) (found string, by *unit) {
	for _, u := range s.units {
		for _, t := range u.Emits {
			if same(ddl.Table{Schema: t.Schema, Name: t.Name}, to) {
				return fmt.Sprintf("what unit %q emits", u.name), u
			}
		}
		u.sources(to, func(t ddl.Table, whole bool) bool {
			switch {
			case !whole && u.Match != nil:
				found = fmt.Sprintf("what unit %q matches", u.name)
			case !whole:
				found = u.From
			case !same(t, src) && s.comes(t, u) && (!same(t, to) || s.exists(t)):
				found = t.String()
			}
			return found != ""
		})
		if found != "" {
			return found, u
		}
	}
	if !same(src, to) && !s.opts.OnlyUnits && s.passes(to) && s.exists(to) {
		return to.String(), nil
	}
	return "", nil
}

func same(a, b ddl.Table) bool {
	return strings.EqualFold(a.Schema, b.Schema) && strings.EqualFold(a.Name, b.Name)
}

// comes reports whether the table's rows come to the unit.
func (s *Units) comes(t ddl.Table, to *unit) bool {
	for _, u := range s.units {
		if _, ok := u.matches(&dfs.Table{Schema: t.Schema, Name: t.Name}); ok && (u == to || !u.Also) {
			return u == to
		}
	}
	return false
}

// passes reports whether no unit is for the table.
func (s *Units) passes(t ddl.Table) bool {
	return !slices.ContainsFunc(s.units, func(u *unit) bool {
		_, ok := u.matches(&dfs.Table{Schema: t.Schema, Name: t.Name})
		return ok
	})
}

// exists reports whether the source is known to have the table.
func (s *Units) exists(t ddl.Table) bool {
	for _, known := range s.opts.Tables {
		if same(t, ddl.Table{Schema: known.Schema, Name: known.Name}) {
			return true
		}
	}
	for name := range s.byName { // tables whose rows have come
		if strings.EqualFold(name, t.String()) {
			return true
		}
	}
	return false
}

// A piece of a template is a text that stands for itself, or a slot: what is
// filled in there.
type piece struct {
	text string
	slot int // 0: the schema, 1: the table, 2 and on: what wildcards match; -1: none
}

// pieces cuts up the template of one side of Into, of which own is the slot that
// a * stands for. The template was found to be right.
func pieces(template string, own int) (list []piece) {
	if template == "*" {
		return []piece{{slot: own}}
	}
	for template != "" {
		text, rest, found := strings.Cut(template, "{")
		if text != "" {
			list = append(list, piece{strings.ToLower(text), -1})
		}
		if !found {
			break
		}
		var name string
		name, template, _ = strings.Cut(rest, "}")
		switch name {
		case "schema":
			list = append(list, piece{slot: 0})
		case "table":
			list = append(list, piece{slot: 1})
		default:
			n := 0
			for _, digit := range name {
				n = 10*n + int(digit-'0')
			}
			list = append(list, piece{slot: n + 1})
		}
	}
	return list
}

// dot stands between the names of a schema and of a table, and is in none.
const dot = "\x00"

// sources calls f with each table that would come to the table to of the target,
// if its rows come to the unit. Names are in lower case. Where whole is false, the
// unit may send others there that its Into does not tell apart. It ends when f
// returns true.
func (u *unit) sources(to ddl.Table, f func(t ddl.Table, whole bool) bool) {
	into, err := match.Parse(u.Into)
	if err != nil { // the default
		into = match.Pattern{Schema: "*", Table: "*"}
	}
	from := u.pattern
	if u.Match != nil {
		from = match.Pattern{Schema: "*", Table: "*"}
	}
	list := append(pieces(into.Schema, 0), piece{dot, -1})
	list = append(list, pieces(into.Table, 1)...)
	fill(list, strings.ToLower(to.Schema+dot+to.Name), make(map[int]string), func(slots map[int]string) bool {
		schema, ok1 := side(from.Schema, slots, 0, 2)
		table, ok2 := side(from.Table, slots, 1, 2+match.Pattern{Schema: from.Schema}.Wildcards())
		switch {
		case ok1 && !match.Glob(from.Schema, schema), ok2 && !match.Glob(from.Table, table):
			return false
		case !ok1 || !ok2:
			return f(ddl.Table{}, false)
		}
		src := &dfs.Table{Schema: schema, Name: table}
		parts, _ := u.matches(src)
		if s, t, err := target(u.Into, src, parts); err != nil || !same(ddl.Table{Schema: s, Name: t}, to) {
			return false // the wildcards match otherwise
		}
		return f(ddl.Table{Schema: schema, Name: table}, true)
	})
}

// leads reports whether rows of another schema may come to the schema of the
// target.
func (u *unit) leads(schema string) bool {
	into, err := match.Parse(u.Into)
	if err != nil || into.Schema == "*" || into.Schema == "{schema}" {
		return false
	}
	return fill(pieces(into.Schema, 0), strings.ToLower(schema), make(map[int]string), func(map[int]string) bool { return true })
}

// side returns the name that one side of From must have matched, and false if
// the slots do not tell. The wildcards' begin with the slot first.
func side(from string, slots map[int]string, own, first int) (string, bool) {
	if name, ok := slots[own]; ok {
		return name, true
	}
	var b strings.Builder
	for _, r := range from {
		if r != '*' && r != '?' {
			b.WriteRune(r)
			continue
		}
		text, ok := slots[first]
		if !ok {
			return "", false
		}
		b.WriteString(text)
		first++
	}
	return strings.ToLower(b.String()), true
}

// fill calls f with each way to fill the slots of list so that it gives text,
// until f returns true. The map is only lent to f.
func fill(list []piece, text string, slots map[int]string, f func(map[int]string) bool) bool {
	if len(list) == 0 {
		return text == "" && f(slots)
	}
	p := list[0]
	if p.slot >= 0 {
		known, ok := slots[p.slot]
		if !ok {
			end, _, _ := strings.Cut(text, dot)
			for n := 0; n <= len(end); n++ {
				if n < len(end) && !utf8.RuneStart(end[n]) || n == 0 && p.slot < 2 {
					continue // schemas and tables have names, wildcards may match nothing
				}
				slots[p.slot] = text[:n]
				if fill(list[1:], text[n:], slots, f) {
					return true
				}
			}
			delete(slots, p.slot)
			return false
		}
		p.text = known
	}
	rest, ok := strings.CutPrefix(text, p.text)
	return ok && fill(list[1:], rest, slots, f)
}

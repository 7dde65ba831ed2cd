package relmgr

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
)

// A how says what became of each column of a table in rows that were handed on, by
// the column's name in lower case: whose new ids it has, and "" if it was kept. Of a
// polymorphic reference it says so for each value of the type too: "about=user".
//
// The target has these rows. Were others of the table rewritten in another way, the
// same old id would be two ids there, and nobody could tell which is which. So the
// map remembers it: foreign keys, which are read from the source as it is now, and
// options may be others at the next start.
type how map[string]string

// how tells what the plan does.
func (p *plan) how() how {
	h := make(how, len(p.table.Columns))
	for i := range p.table.Columns {
		h[strings.ToLower(p.table.Columns[i].Name)] = ""
	}
	for i := range p.cells {
		cl := &p.cells[i]
		name := strings.ToLower(p.table.Columns[cl.col].Name)
		switch {
		case cl.docs != nil:
			var parts []string
			for _, d := range cl.docs {
				parts = append(parts, pathText(d.path)+" "+d.space.name())
			}
			slices.Sort(parts)
			h[name] = strings.Join(parts, ", ")
		case cl.typeCol >= 0:
			h[name] = "by " + strings.ToLower(p.table.Columns[cl.typeCol].Name)
			for v, sp := range cl.byType {
				h[name+"="+v] = ""
				if sp != nil {
					h[name+"="+v] = sp.name()
				}
			}
		default:
			h[name] = cl.space.name()
		}
	}
	return h
}

// name names the ids of the space.
func (sp *space) name() string { return strings.ToLower(sp.table + "." + sp.column) }

// differs returns a fault if the plan rewrites rows otherwise than those of its
// table that went on.
func (m *Manager) differs(p *plan) error {
	was, now := m.seen[strings.ToLower(p.table.String())], p.how()
	c := was.unlike(now)
	if c == "" {
		return nil
	}
	if m.opts.Adopt {
		m.opts.Logger.Warn("rows are rewritten otherwise than those that the target has", "table", p.table.String(), "column", c,
			"before", inWords(was[c]), "now", inWords(now[c]))
		return nil
	}
	column, value, _ := strings.Cut(c, "=")
	if value != "" {
		value = fmt.Sprintf(" where it is of the type %q", value)
	}
	return fault("", p.table, column, "the target has rows with %s%s, and now it would get %s: give the References and Policies by which it is as before, "+
		"also for a foreign key that the source has no more, and leave out of ForeignKeys one that is new; or mend the target's rows, and start once with Adopt",
		inWords(was[c]), value, inWords(now[c]))
}

// unlike returns a column that both have and which is not the same in both; "" if
// there is none.
func (h how) unlike(now how) (column string) {
	for c, before := range h {
		if is, ok := now[c]; ok && is != before && (column == "" || c < column) {
			column = c
		}
	}
	return column
}

func inWords(how string) string {
	if how == "" {
		return "its old values"
	}
	return "new ids (" + how + ")"
}

// see remembers how the rows of a table go on from now on.
func (m *Manager) see(p *plan) error {
	if err := m.differs(p); err != nil {
		return err
	}
	name := strings.ToLower(p.table.String())
	was, changed := m.seen[name], false
	if was == nil {
		was, changed = make(how), true
		m.seen[name] = was
	}
	for c, is := range p.how() {
		if before, ok := was[c]; !ok || before != is {
			was[c], changed = is, true
		}
	}
	if changed && !slices.Contains(m.newSeen, name) {
		m.newSeen = append(m.newSeen, name)
	}
	return nil
}

// forget is for a table that is dropped, with all its rows.
func (m *Manager) forget(table string) {
	name := strings.ToLower(table)
	if m.seen[name] == nil {
		return
	}
	delete(m.seen, name)
	if !slices.Contains(m.newSeen, name) {
		m.newSeen = append(m.newSeen, name)
	}
	m.forgetPlans() // so that its rows are seen anew
}

// forgetPlans makes the next row of each table find out what becomes of it.
func (m *Manager) forgetPlans() {
	clear(m.plans)
	clear(m.byName)
	m.last, m.lastPlan = nil, nil
}

func (h how) encode() string {
	b, _ := json.Marshal(h) // strings always have a form in JSON
	return string(b)
}

func decodeHow(text string) (h how) {
	_ = json.Unmarshal([]byte(text), &h)
	return h
}

// sameName is the fault of two tables with one name but for its case, as servers
// with lower_case_table_names=0 may have.
func sameName(a, b *dfs.Table) error {
	return fault("", b, "", "its name is that of %s but for the case of letters, and here they are one: leave one of them out, or give it another name; "+
		"if it was renamed, start again with the Tables of now", a)
}

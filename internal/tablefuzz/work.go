//go:build unix

package main

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/dataflowsync/dfs/internal/testenv"
)

// A workload makes statements for the source. What it makes depends on the seed
// alone, never on what a server answers: statements that fail are part of it.
type workload struct {
	r      *rand.Rand
	p      pair
	tables []*table
}

// settings returns statements that set the session up at random.
func (w *workload) settings() []string {
	r := w.r
	modes := []string{"''", "''", "'STRICT_ALL_TABLES'", "'ALLOW_INVALID_DATES'", "'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'", "'PAD_CHAR_TO_FULL_LENGTH'", "'STRICT_TRANS_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE'", "'NO_AUTO_VALUE_ON_ZERO'"}
	zones := []string{"'+00:00'", "'+13:00'", "'-11:30'", "'SYSTEM'", "'+05:45'"}
	names := []string{"utf8mb4", "latin1", "binary", "utf8", "gbk"}
	list := []string{
		"SET SESSION sql_mode=" + modes[r.IntN(len(modes))],
		"SET SESSION time_zone=" + zones[r.IntN(len(zones))],
		"SET NAMES " + names[r.IntN(len(names))],
		fmt.Sprintf("SET SESSION foreign_key_checks=%d", min(1, r.IntN(8))),
	}
	// Parts of JSON need the document that they are parts of, and MariaDB's images
	// must be alike for all sessions.
	image, parts := "FULL", "''"
	switch r.IntN(4) {
	case 0:
		image = [...]string{"MINIMAL", "NOBLOB"}[r.IntN(2)]
	case 1:
		parts = "'PARTIAL_JSON'"
	}
	if w.p.source != testenv.MariaDB {
		list = append(list, "SET SESSION binlog_row_image="+image)
	}
	if w.p.source == testenv.MySQL97 {
		list = append(list, fmt.Sprintf("SET SESSION binlog_transaction_compression=%d", r.IntN(2)),
			"SET SESSION binlog_row_value_options="+parts)
	}
	return list
}

// transaction returns the statements of one, or of one in autocommit.
func (w *workload) transaction() []string {
	r := w.r
	if r.IntN(3) == 0 {
		return []string{w.statement()}
	}
	list := []string{"BEGIN"}
	saved := 0
	for range 1 + r.IntN(7) {
		switch n := r.IntN(12); {
		case n == 0:
			saved++
			list = append(list, fmt.Sprintf("SAVEPOINT s%d", saved))
		case n == 1 && saved > 0:
			list = append(list, fmt.Sprintf("ROLLBACK TO SAVEPOINT s%d", saved))
		default:
			list = append(list, w.statement())
		}
	}
	if r.IntN(8) == 0 {
		return append(list, "ROLLBACK")
	}
	return append(list, "COMMIT")
}

// statement returns one that changes rows.
func (w *workload) statement() string {
	t := w.tables[w.r.IntN(len(w.tables))]
	switch n := w.r.IntN(20); {
	case n < 8:
		return w.insert(t)
	case n < 15:
		return w.update(t)
	}
	return w.remove(t)
}

func (w *workload) insert(t *table) string {
	r := w.r
	verb := [...]string{"INSERT", "INSERT", "INSERT", "INSERT IGNORE", "REPLACE"}[r.IntN(5)]
	cols := t.writable()
	if r.IntN(5) == 0 {
		cols = cols[:1+r.IntN(len(cols))]
	}
	var names []string
	for _, i := range cols {
		names = append(names, t.columns[i].name)
	}
	rows := 1 + r.IntN(6)
	if r.IntN(4) == 0 {
		rows = 20 + r.IntN(60)
	}
	base := r.IntN(2000)
	var b strings.Builder
	fmt.Fprintf(&b, "%s INTO %s (%s) VALUES ", verb, t.name, strings.Join(names, ", "))
	for n := range rows {
		if n > 0 {
			b.WriteString(", ")
		}
		b.WriteByte('(')
		for k, i := range cols {
			if k > 0 {
				b.WriteString(", ")
			}
			c := &t.columns[i]
			switch {
			case c.name == "id" && rows > 6:
				fmt.Fprint(&b, base+n) // else hardly any would be new
			default:
				b.WriteString(c.value(r, c.nullable))
			}
		}
		b.WriteByte(')')
	}
	if verb == "INSERT" && r.IntN(4) == 0 {
		c := &t.columns[cols[r.IntN(len(cols))]]
		fmt.Fprintf(&b, " ON DUPLICATE KEY UPDATE %s=%s", c.name, w.next(t, c))
	}
	return b.String()
}

// next returns an expression for a column's new value.
func (w *workload) next(t *table, c *column) string {
	r := w.r
	switch {
	case c.integer && r.IntN(3) == 0:
		return [...]string{c.name + "+1", c.name + "-1", "-" + c.name, c.name + "+100", "id"}[r.IntN(5)]
	case c.json && r.IntN(2) == 0:
		doc := c.make(r)
		return [...]string{
			"JSON_SET(" + c.name + ",'$.a0'," + doc + ")", "JSON_SET(" + c.name + ",'$.new',id,'$.b1'," + doc + ")",
			"JSON_REMOVE(" + c.name + ",'$.a0','$[0]')", "JSON_REPLACE(" + c.name + ",'$[0]',1,'$.k2','x')",
			"JSON_ARRAY(" + c.name + ",1)", "JSON_INSERT(" + c.name + ",'$[1]'," + doc + ")",
		}[r.IntN(6)]
	}
	return c.value(r, c.nullable)
}

// where returns a condition, and how many rows may be changed.
func (w *workload) where(t *table) string {
	r := w.r
	c := &t.columns[r.IntN(len(t.columns))]
	limit := fmt.Sprintf(" LIMIT %d", 1+r.IntN(20))
	if r.IntN(3) == 0 {
		limit = ""
	}
	switch r.IntN(6) {
	case 0:
		return fmt.Sprintf(" WHERE id %% %d = %d%s", 2+r.IntN(4), r.IntN(2), limit)
	case 1:
		return " WHERE " + c.name + " IS NULL" + limit
	case 2:
		return " ORDER BY id" + [...]string{"", " DESC"}[r.IntN(2)] + fmt.Sprintf(" LIMIT %d", 1+r.IntN(10))
	case 3:
		lo := r.IntN(2000)
		return fmt.Sprintf(" WHERE id BETWEEN %d AND %d%s", lo, lo+r.IntN(200), limit)
	case 4:
		if !c.json {
			return " WHERE " + c.name + " = " + c.value(r, false) + limit
		}
	}
	return fmt.Sprintf(" WHERE id = %s%s", t.columns[0].value(r, false), limit)
}

func (w *workload) update(t *table) string {
	r := w.r
	cols := t.writable()
	r.Shuffle(len(cols), func(i, k int) { cols[i], cols[k] = cols[k], cols[i] })
	var sets []string
	for _, i := range cols[:1+r.IntN(min(3, len(cols)))] {
		c := &t.columns[i]
		sets = append(sets, c.name+"="+w.next(t, c))
	}
	ignore := [...]string{"", "", "IGNORE "}[r.IntN(3)]
	return "UPDATE " + ignore + t.name + " SET " + strings.Join(sets, ", ") + w.where(t)
}

func (w *workload) remove(t *table) string {
	if w.r.IntN(12) == 0 {
		return "DELETE FROM " + t.name
	}
	return "DELETE FROM " + t.name + w.where(t)
}

//go:build unix

package main

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/dataflowsync/dfs/internal/testenv"
)

// A table is one random table. Its statement is the same for both servers.
type table struct {
	name    string // quoted
	columns []column
	key     []int    // columns of the primary key; nil if there is none
	parts   []string // of the definition, behind the columns
	options string
	child   bool // it has a foreign key
}

type column struct {
	columnType
	name      string // quoted
	nullable  bool
	generated string // what follows the type; empty for most
	def       string // DEFAULT ...
}

// writable returns the columns that statements set.
func (t *table) writable() (list []int) {
	for i, c := range t.columns {
		if c.generated == "" {
			list = append(list, i)
		}
	}
	return list
}

// byEvents reports whether row events can write the table, with text that is none.
func (t *table) byEvents() bool {
	for _, c := range t.columns {
		name, _, _ := strings.Cut(c.sql, " ")
		switch {
		case c.generated != "", c.json, strings.HasSuffix(name, "TEXT"), strings.HasPrefix(name, "VECTOR"),
			name == "GEOMETRY", name == "POINT":
			return false
		}
	}
	return true
}

func ident(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// oddNames are put into the names of tables and columns.
var oddNames = []string{"select", "a b", "q`t", "日本", "%s", "x.y", "ÄÖ", "'", "\\", "--", "\"", "/*", "1", "id`"}

func oddName(r *rand.Rand, plain string, n int) string {
	if r.IntN(4) == 0 {
		return ident(fmt.Sprintf("%s%d", oddNames[r.IntN(len(oddNames))], n))
	}
	return ident(fmt.Sprintf("%s%d", plain, n))
}

// A maker of tables.
type designer struct {
	r *rand.Rand
	p pair
}

// table returns a table number n, which may refer to the ones before.
func (d *designer) table(n int, before []*table) *table {
	r := d.r
	t := &table{name: oddName(r, "t", n)}
	id := integers("INT", 32)
	id.make = func(r *rand.Rand) string { return fmt.Sprint(r.IntN(60) - 5) }
	id.edges = nil
	t.columns = append(t.columns, column{columnType: id, name: "id"})
	for i := range 1 + r.IntN(9) {
		t.columns = append(t.columns, d.column(i))
	}
	partitioned := false
	switch n := r.IntN(12); {
	case n < 6:
		t.key = []int{0}
		partitioned = r.IntN(8) == 0
	case n < 9:
		t.key = d.someKey(t, true)
	}
	if t.key != nil {
		t.parts = append(t.parts, "PRIMARY KEY ("+t.list(t.key)+")")
		for _, i := range t.key {
			t.columns[i].nullable = false
		}
	}
	if partitioned {
		t.options = " PARTITION BY HASH (id) PARTITIONS 3"
		return t
	}
	if r.IntN(3) == 0 {
		t.parts = append(t.parts, "UNIQUE ("+t.list(d.someKey(t, false))+")")
	}
	if r.IntN(3) == 0 {
		t.parts = append(t.parts, "KEY ("+t.list(d.someKey(t, false))+")")
	}
	// Foreign keys between columns named id and ref, of the same type.
	if r.IntN(3) == 0 {
		parent := t
		if len(before) > 0 && r.IntN(4) > 0 {
			parent = before[r.IntN(len(before))]
		}
		if len(parent.key) == 1 && parent.key[0] == 0 && parent.options == "" {
			ref := column{columnType: id, name: "ref", nullable: true}
			actions := []string{"CASCADE", "SET NULL", "RESTRICT", "NO ACTION"}
			t.columns = append(t.columns, ref)
			t.parts = append(t.parts, fmt.Sprintf("FOREIGN KEY (ref) REFERENCES %s (id) ON DELETE %s ON UPDATE %s", parent.name, actions[r.IntN(4)], actions[r.IntN(4)]))
			t.child = true
		}
	}
	return t
}

func (d *designer) column(i int) column {
	r := d.r
	c := column{columnType: d.p.columnType(r), name: oddName(r, "c", i), nullable: r.IntN(4) > 0}
	// Servers store values without bytes as the implicit default of these, and
	// take none.
	switch c.sql {
	case "VECTOR(4)", "GEOMETRY", "POINT", "JSON":
		c.nullable = true
	}
	if !c.noDef && !c.json && r.IntN(6) == 0 && c.integer {
		c.def = " DEFAULT 7"
	}
	if !d.p.has(testenv.MySQL56) && c.integer && r.IntN(8) == 0 {
		how := [...]string{"VIRTUAL", "STORED"}[r.IntN(2)]
		c.columnType = integers("BIGINT", 64)
		c.generated, c.nullable, c.def = " GENERATED ALWAYS AS (id * 3 + 1) "+how, true, ""
	}
	return c
}

// someKey picks columns for a key: whole columns, or parts of them.
func (d *designer) someKey(t *table, primary bool) []int {
	var list []int
	size := 1 + d.r.IntN(3)
	for _, i := range d.r.Perm(len(t.columns)) {
		c := &t.columns[i]
		if len(list) < size && (c.keyable || c.prefix > 0) && (c.generated == "" || !primary) {
			list = append(list, i)
		}
	}
	return list
}

// list names the columns of a key.
func (t *table) list(key []int) string {
	var parts []string
	for _, i := range key {
		c := t.columns[i]
		if c.prefix > 0 {
			parts = append(parts, fmt.Sprintf("%s(%d)", c.name, c.prefix))
		} else {
			parts = append(parts, c.name)
		}
	}
	return strings.Join(parts, ", ")
}

// create returns the statement that makes the table.
func (t *table) create() string {
	var parts []string
	for _, c := range t.columns {
		s := c.name + " " + c.sql + c.generated
		if c.generated == "" {
			s = strings.TrimSuffix(s, " NULL")
			if c.nullable {
				s += " NULL"
			} else {
				s += " NOT NULL"
				if strings.HasPrefix(c.sql, "TIMESTAMP") {
					s += " DEFAULT '2020-01-01 00:00:00'"
				}
			}
		}
		parts = append(parts, s+c.def)
	}
	return "CREATE TABLE " + t.name + " (" + strings.Join(append(parts, t.parts...), ", ") + ")" + t.options
}

package dfs

import "strings"

// A Table describes rows. It never changes once a Change refers to it: altering
// a table makes a new one. Rows of one table in one batch mostly share it.
type Table struct {
	Schema, Name string
	Columns      []Column
	Key          []int // indexes of the primary key's columns, in key order; nil if there is none
}

// String returns "schema.name".
func (t *Table) String() string {
	if t == nil {
		return ""
	}
	return t.Schema + "." + t.Name
}

// Column returns the index of the named column, or -1. As in MySQL, letter case
// does not matter.
func (t *Table) Column(name string) int {
	for i := range t.Columns {
		if t.Columns[i].Name == name {
			return i
		}
	}
	for i := range t.Columns {
		if strings.EqualFold(t.Columns[i].Name, name) {
			return i
		}
	}
	return -1
}

// A Column is one column of a Table.
type Column struct {
	Name string

	// Type is the type as MySQL's information_schema shows it, without its
	// attributes: "bigint unsigned", "decimal(10,2)", "varchar(40)",
	// "datetime(6)". An ENUM or SET is "enum" or "set", with Members.
	Type string

	// Charset and Collation say what the bytes of a String mean: "utf8mb4" and
	// "utf8mb4_0900_ai_ci". They are empty for other kinds of value.
	Charset, Collation string

	// Members are the names of an ENUM or SET, in UTF-8. The first of an ENUM
	// has the ordinal 1; the first of a SET has bit 0.
	Members []string

	Nullable bool
}

// A Row holds one value for each of its Table's columns, in their order. What a
// source did not log is Absent: before an update or delete, what is not needed to
// find the row; after an update, what has not changed; and in an insert, what has
// the default of its column.
type Row []Value

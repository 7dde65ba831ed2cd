package relmgr

import (
	"fmt"
	"strings"

	"github.com/dataflowsync/dfs"
)

// A ForeignKey is one that the source declares, as package cdc's Source.ForeignKeys tells it.
type ForeignKey = dfs.ForeignKey

// A Reference says that columns hold keys of another table, where the source
// declares no foreign key that says so.
type Reference struct {
	// Table is whose column it is: "shop.orders".
	Table string

	// Columns hold the key. Most keys have one column.
	Columns []string

	// Parent is the table whose key it is, and ParentColumns the columns that make
	// it up, in the order of Columns. Default: the primary key.
	Parent        string
	ParentColumns []string

	// TypeColumn makes the reference polymorphic, in place of Parent: another
	// column of the row says which table the id is of. Parents gives the table for
	// each of its values, as text; "" stands for a value with which the id stays as
	// it is. Other values are errors.
	TypeColumn string
	Parents    map[string]string

	// Path makes it a reference within JSON documents in the column: "$.customer",
	// "$.items[*].product", `$."odd name"[0]`. What is not there, or null, is no
	// reference. A column of text may be empty, and else has a document, or is one of
	// None.
	Path string

	// None lists values, as text, that refer to no row and stay as they are, such
	// as "0". NULL always does.
	None []string

	// Late says that a row may be there before the row that it refers to. It is
	// then applied without the target's foreign keys. By default the target's
	// foreign key, if it has one, refuses the row.
	Late bool
}

// A reference is one that was found to be right in itself.
type reference struct {
	Reference
	place string // such as "References[2]" or "foreign key orders_ibfk_1"
	path  []step // of JSON
	none  map[string]bool
}

func parseReferences(list []Reference, keys []ForeignKey) (parsed []*reference, errs []error) {
	for i, spec := range list {
		r := &reference{Reference: spec, place: fmt.Sprintf("References[%d]", i)}
		fault := func(format string, args ...any) {
			errs = append(errs, &Fault{Place: r.place, Table: spec.Table, Text: fmt.Sprintf(format, args...)})
		}
		if !strings.Contains(spec.Table, ".") {
			fault(`Table: write it as "schema.table"`)
		}
		if len(spec.Columns) == 0 {
			fault("Columns is empty; name the columns that hold the key")
		}
		poly := spec.TypeColumn != ""
		switch {
		case poly && (spec.Parent != "" || spec.ParentColumns != nil):
			fault("TypeColumn and Parent are both set; list the tables in Parents, and leave out Parent and ParentColumns")
		case poly && len(spec.Parents) == 0:
			fault("Parents is empty; say which table the id is of for each value of %s", spec.TypeColumn)
		case !poly && spec.Parents != nil:
			fault("Parents is set and TypeColumn is not; name the column that tells which table the id is of")
		case !poly && !strings.Contains(spec.Parent, "."):
			fault(`Parent: write it as "schema.table"`)
		}
		if (poly || spec.Path != "") && len(spec.Columns) > 1 {
			fault("a reference with TypeColumn or Path has one column")
		}
		if poly && spec.Path != "" {
			fault("TypeColumn and Path are both set; a reference has either")
		}
		if spec.ParentColumns != nil && len(spec.ParentColumns) != len(spec.Columns) {
			fault("it has %d Columns and %d ParentColumns; there must be as many of both", len(spec.Columns), len(spec.ParentColumns))
		}
		if spec.Path != "" {
			var err error
			if r.path, err = parsePath(spec.Path); err != nil {
				fault("Path %q: %v", spec.Path, err)
			}
		}
		r.none = make(map[string]bool)
		for _, v := range spec.None {
			r.none[v] = true
		}
		parsed = append(parsed, r)
	}
	for _, k := range keys {
		parsed = append(parsed, declared(k))
	}
	return parsed, errs
}

// declared makes a reference of a foreign key.
func declared(k ForeignKey) *reference {
	return &reference{place: "foreign key " + k.Name, Reference: Reference{
		Table: k.Schema + "." + k.Table, Columns: k.Columns, Parent: k.ParentSchema + "." + k.Parent, ParentColumns: k.ParentColumns,
	}}
}

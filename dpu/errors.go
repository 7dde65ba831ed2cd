package dpu

import (
	"fmt"
)

// A Fault is one mistake in the units that New was given.
type Fault struct {
	Unit  int    // its index
	Name  string // its name
	Field string // such as "Rename" or "Columns[2].Expr"; empty for the unit as a whole
	Table string // the table of the source that shows it, if one does
	Text  string // what is wrong, and the cure
}

// Error returns the fault in one line.
func (f *Fault) Error() string {
	b := fmt.Appendf(nil, "unit %q", f.Name)
	if f.Field != "" {
		b = fmt.Appendf(b, ", %s", f.Field)
	}
	if f.Table != "" {
		b = fmt.Appendf(b, ", of %s", f.Table)
	}
	return string(append(append(b, ": "...), f.Text...))
}

// An Error says where a unit failed.
type Error struct {
	Unit   string // the unit's name
	Table  string // the table of the source; empty if it is no table's, as with a Lookup
	Key    string // the row's key: "id=7"; empty if it has none
	Column string // of the target, if the failure is one column's
	Err    error
}

func (e *Error) Error() string {
	b := fmt.Appendf(nil, "unit %q", e.Unit)
	if e.Table == "" {
		return fmt.Sprintf("%s, %v", b, e.Err)
	}
	b = fmt.Appendf(b, ", table %s", e.Table)
	if e.Key != "" {
		b = fmt.Appendf(b, ", row %s", e.Key)
	}
	if e.Column != "" {
		b = fmt.Appendf(b, ", column %s", e.Column)
	}
	return fmt.Sprintf("%s: %v", b, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// A PanicError is the Err of an Error for a function that panicked.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("the function panicked: %v", e.Value) }

// errImage is the error for a column that a row image leaves out and a unit
// needs.
func errImage(column string) error {
	return fmt.Errorf("the row image lacks the column %s: set binlog_row_image=FULL on the source", column)
}

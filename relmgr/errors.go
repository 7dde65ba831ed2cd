package relmgr

import (
	"errors"
	"fmt"
	"strings"
)

// ErrLost means that the map is older than what the target has: it was lost, or
// put back from a copy.
var ErrLost = errors.New("relmgr: the map is older than the target")

// A Fault is one mistake in the options, or one thing of the source's schema that
// they do not settle.
type Fault struct {
	Place  string // such as "References[2]"; empty if it is of the source's schema
	Table  string // "schema.table"
	Column string // if it is one column's
	Text   string // what is wrong, and the cure
}

// Error returns the fault in one line.
func (f *Fault) Error() string {
	var parts []string
	if f.Place != "" {
		parts = append(parts, f.Place)
	}
	if f.Table != "" {
		name := "table " + f.Table
		if f.Column != "" {
			name += ", column " + f.Column
		}
		parts = append(parts, name)
	}
	return strings.Join(append(parts, ""), ": ") + f.Text
}

// An Error says at which value of which row something failed.
type Error struct {
	Table  string // "schema.table", of the source
	Key    string // the row's old key: "id=7"; empty if it has none
	Column string
	Err    error
}

func (e *Error) Error() string {
	b := fmt.Appendf(nil, "new ids, table %s", e.Table)
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

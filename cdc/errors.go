package cdc

import (
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrPurged means that the server has deleted a part of its log that is
	// needed to go on. Only a new copy of the data helps.
	ErrPurged = errors.New("cdc: the source has purged the binary log that is needed")

	// ErrDiverged means that the server lacks transactions that were read
	// before: it was reset, put back from a backup, lost the end of its log in a
	// crash, or is another server.
	ErrDiverged = errors.New("cdc: the source lacks transactions that were read before")
)

// A Fault is one thing that keeps a Source from working.
type Fault struct {
	What string // what is wrong
	Cure string // what to do about it
}

// A SetupError holds all that Open found wrong with the options, the server's
// settings and the account.
type SetupError struct {
	Faults []Fault
}

func (e *SetupError) Error() string {
	var b strings.Builder
	if len(e.Faults) == 1 {
		b.WriteString("cdc: the source is not ready: ")
	} else {
		fmt.Fprintf(&b, "cdc: the source is not ready, for %d reasons: ", len(e.Faults))
	}
	for i, f := range e.Faults {
		if i > 0 {
			b.WriteString("; ")
		}
		if len(e.Faults) > 1 {
			fmt.Fprintf(&b, "(%d) ", i+1)
		}
		b.WriteString(f.What)
		if f.Cure != "" {
			b.WriteString(": ")
			b.WriteString(f.Cure)
		}
	}
	return b.String()
}

// An EventError means that the log holds something that cannot be handed on
// without loss.
type EventError struct {
	// At is the place in the log, as file:position, where the event ends. If
	// Decode has found it, it is the place in Transaction.Pos.
	At   string
	ID   string // the GTID of the transaction, if it has one
	What string
	Cure string

	// After is the Options.Start for a stream that is to begin right behind the
	// transaction. It is empty if that place is not known.
	After string
}

func (e *EventError) Error() string {
	id, after := "", ""
	if e.After != "" {
		after = fmt.Sprintf("; to go on past what is logged already, let the target take all that is before it, "+
			"make its changes there by hand, and start without a checkpoint at %q", e.After)
	}
	if e.ID != "" {
		id = " in transaction " + e.ID
	}
	return fmt.Sprintf("cdc: binary log at %s%s: %s; %s%s", e.At, id, e.What, e.Cure, after)
}

// A TypeError means that a column has a type that cannot be read yet, or whose
// log image does not fit it.
type TypeError struct {
	Table  string // "schema.table"
	Column string
	Type   string
	Cure   string
}

func (e *TypeError) Error() string {
	return fmt.Sprintf("cdc: column %s of %s: cannot read type %s; %s", e.Column, e.Table, e.Type, e.Cure)
}

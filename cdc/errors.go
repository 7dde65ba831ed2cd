package cdc

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/dataflowsync/dfs"
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
	// At is the place in the log, as file:position, where the event ends, or where
	// it begins if not even its length could be read. If Decode has found it, it
	// is the place in Transaction.Pos.
	At   string
	ID   string // the GTID of the transaction, if it has one
	What string
	Cure string

	// After is the Options.Start for a stream that is to begin right behind the
	// transaction. It is empty if that place is not known.
	After string

	Err error // the cause, where there is one besides What
}

// Unwrap returns Err.
func (e *EventError) Unwrap() error { return e.Err }

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

// A panicError is a fault of this program, which was met in a log that is damaged
// or of a form that nobody thought of. Reading one must not end the process that
// does it. There are two places that recover from a panic, Stream.Next and
// Source.Decode, and what they recover is an *EventError with a panicError in it.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v\n%s", e.value, e.stack) }

// unreadable makes an *EventError of an error that was met in the log at a place,
// unless it is one that says by itself what is to be done about it.
func unreadable(err error, at, id string) error {
	var event *EventError
	var typed *TypeError
	var setup *SetupError
	switch {
	case err == nil, errors.As(err, &event), errors.As(err, &typed), errors.As(err, &setup),
		errors.Is(err, dfs.ErrTransient), errors.Is(err, ErrPurged), errors.Is(err, ErrDiverged),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	if _, answered := errorCode(err); answered {
		return err
	}
	return &EventError{
		At: at, ID: id, What: strings.TrimPrefix(err.Error(), "cdc: "), Err: err,
		Cure: "the log is damaged there, or of a form that this program does not know: update it, or start behind this place with a new copy of the data",
	}
}

// recovered makes an error of what recover has returned.
func recovered(value any) error { return &panicError{value, debug.Stack()} }

package relmgr

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"strings"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/convert"
	"github.com/dataflowsync/dfs/internal/match"
)

// IDs says where new ids come from.
type IDs string

const (
	// Allocate takes whole numbers from blocks that are reserved on the target:
	// see Allocator. It is the default for primary keys of one whole number.
	Allocate IDs = "allocate"

	// Keep keeps keys as they are. It is the default for other primary keys.
	Keep IDs = "keep"

	// UUID makes a UUID of version 7, which sorts by time: 36 characters, or 16
	// bytes where the column is binary(16).
	UUID IDs = "uuid"

	// Function asks Policy.Func.
	Function IDs = "function"
)

// A Policy says what becomes of the keys of some tables.
type Policy struct {
	// Table names the tables: "shop.orders" or "shop.*". The first policy that
	// matches a table counts; two for the same name are a fault.
	Table string

	// Column is the column that gets the new ids. Default: the primary key's
	// column; if it has several, the one that refers to no other table.
	Column string

	// IDs says where they come from. Default: Function if Func is set, else
	// Allocate.
	IDs IDs

	// Func makes the new id of a key: a whole number, text or bytes, not the same
	// for two keys. It is asked once for each key, as what it returned is kept.
	Func func(ctx context.Context, key Key) (dfs.Value, error)

	// Type is the type of the new ids, where it is not that of the column: such as
	// "bigint" or "char(36)". The column has it from here on, and so have those
	// that refer to it.
	Type string

	// Target names the column of the target for which blocks are reserved, as
	// "schema.table.column", where it does not follow from the source's name: such
	// as behind a unit of package dpu with Into. Default: the source's name, as the
	// Allocator takes it.
	Target string

	// First is the least new id. Default: 1, or what the target has already.
	First uint64
}

// A Key is the old key of a row.
type Key struct {
	Table   string   // "schema.table", of the source
	Columns []string // in the order of the primary key
	Values  []dfs.Value
}

type policy struct {
	Policy
	index   int
	pattern match.Pattern
}

func (p *policy) first() uint64 {
	if p == nil {
		return 0
	}
	return p.First
}

// targetOf returns the column of the target that ids are reserved for.
func (sp *space) targetOf() (table, column string) {
	if sp.policy == nil || sp.policy.Target == "" {
		return sp.table, cmp.Or(sp.now, sp.column)
	}
	i := strings.LastIndexByte(sp.policy.Target, '.')
	return sp.policy.Target[:i], sp.policy.Target[i+1:]
}

func parsePolicies(list []Policy) (parsed []*policy, errs []error) {
	exact := make(map[string]int)
	for i, spec := range list {
		p := &policy{Policy: spec, index: i}
		fault := func(format string, args ...any) {
			errs = append(errs, &Fault{Place: fmt.Sprintf("Policies[%d]", i), Table: spec.Table, Text: fmt.Sprintf(format, args...)})
		}
		var err error
		if p.pattern, err = match.Parse(spec.Table); err != nil {
			fault("%v", err)
			continue
		}
		if !match.Wild(spec.Table) {
			k := strings.ToLower(spec.Table) + "." + strings.ToLower(spec.Column)
			if other, ok := exact[k]; ok {
				fault("Policies[%d] is about the same table; leave one out", other)
			} else if other, ok := exact[strings.ToLower(spec.Table)+"."]; ok {
				fault("Policies[%d] is about the same table; leave one out, or name the Column in both", other)
			}
			exact[k] = i
		}
		if p.IDs == "" {
			p.IDs = Allocate
			if p.Func != nil {
				p.IDs = Function
			}
		}
		switch p.IDs {
		case Allocate, Keep, UUID, Function:
		default:
			fault("IDs %q: use allocate, keep, uuid or function", p.IDs)
		}
		if (p.IDs == Function) != (p.Func != nil) {
			fault("IDs %q: Func belongs to IDs function, and only to it", p.IDs)
		}
		if p.Type != "" {
			t, err := convert.Parse(p.Type)
			if err != nil {
				fault("Type: %v", err)
			} else if p.IDs == Allocate && t.Kind() != dfs.Int64 && t.Kind() != dfs.Uint64 {
				fault("Type %q: ids from blocks are whole numbers, such as bigint", p.Type)
			}
			if p.IDs == Keep {
				fault("Type %q: what is kept has the type it had; use a unit to cast it", p.Type)
			}
		}
		if p.Target != "" && strings.Count(p.Target, ".") != 2 {
			fault("Target %q: write it as schema.table.column", p.Target)
		}
		if p.First > math.MaxInt64 {
			fault("First %d: use at most %d", p.First, int64(math.MaxInt64))
		}
		parsed = append(parsed, p)
	}
	return parsed, errs
}

// call asks a function for a new id.
func call(ctx context.Context, f func(context.Context, Key) (dfs.Value, error), key Key) (v dfs.Value, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the function panicked: %v\n%s", p, debug.Stack())
		}
	}()
	return f(ctx, key)
}

// newUUID makes a UUID of version 7 (RFC 9562, section 5.7).
func newUUID(sp *space) dfs.Value {
	var b [16]byte
	rand.Read(b[:]) // never fails
	ms := uint64(time.Now().UnixMilli())
	for i := range 6 {
		b[i] = byte(ms >> (40 - 8*i))
	}
	b[6], b[8] = b[6]&15|7<<4, b[8]&63|128
	if kindOf(sp.typ) == dfs.Bytes {
		return dfs.BytesValue(b[:])
	}
	h := hex.EncodeToString(b[:])
	return dfs.StringValue(h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:])
}

// kindOf returns the kind of values of a type.
func kindOf(typ string) dfs.Kind { return convert.KindOf(&dfs.Column{Type: typ}) }

// maxOf returns the greatest value of a type of whole numbers, as far as ids go.
func maxOf(typ string) uint64 {
	t, err := convert.Parse(typ)
	if err != nil {
		return math.MaxInt64
	}
	bits := 63
	switch t.Name {
	case "tinyint":
		bits = 7
	case "smallint":
		bits = 15
	case "mediumint":
		bits = 23
	case "int":
		bits = 31
	case "bigint":
		return math.MaxInt64
	}
	if t.Unsigned {
		bits++
	}
	return 1<<bits - 1
}

// An Allocator reserves new ids on the target. The sink's is sink.IDs.
type Allocator interface {
	// Reserve reserves up to n consecutive ids, of at least least, for a column of a
	// table, "schema.table". It returns the first of them and how many there are; 0
	// if there are no more. Nobody else, be it another pipeline or a program that
	// writes to the target, may ever get any of them. What is left when a process is
	// killed is used by the next.
	Reserve(ctx context.Context, table, column string, least, n uint64) (first, got uint64, err error)
}

// An Advancer is an Allocator that can be told what was reserved before. A target
// that was put back from a backup, or is a replica that has taken the place of one,
// may have forgotten blocks from which a map has given ids; so Open tells it. Other
// sources' maps do so when they are opened: until then, ids of theirs may be reserved
// again by those that are not. So after such a change stop all pipelines of a target,
// and open each map once, with its Allocator, before the first of them goes on.
type Advancer interface {
	Allocator

	// Advance makes sure that no id of the column before next is reserved again, and
	// reports whether any might have been.
	Advance(ctx context.Context, table, column string, next uint64) (behind bool, err error)
}

// ErrExhausted means that a column has no new ids left.
var ErrExhausted = errors.New("relmgr: no new ids left")

// An ExhaustedError names the column that has no new ids left.
type ExhaustedError struct{ Table, Column string }

func (e *ExhaustedError) Error() string {
	return fmt.Sprintf("%s.%s has no new ids left, as the column of the target holds no greater number: make it and those that refer to it a bigint there, "+
		"and say so by Type in a Policy of relmgr", e.Table, e.Column)
}

// Is makes errors.Is(err, ErrExhausted) true.
func (e *ExhaustedError) Is(target error) bool { return target == ErrExhausted }

func isBits(typ string) bool {
	name, _, _ := strings.Cut(typ, "(")
	switch name {
	case "bit", "enum", "set", "year":
		return true
	}
	return false
}

// lengthOf returns how many characters or bytes a type holds; 0 if it does not say.
func lengthOf(typ string) int {
	t, err := convert.Parse(typ)
	if err != nil || len(t.Args) == 0 {
		return 0
	}
	return t.Args[0]
}

func inexact(typ string) bool {
	k := kindOf(typ)
	return k == dfs.Float32 || k == dfs.Float64 || k == dfs.JSON
}

func holdsUUID(typ string) bool {
	switch k := kindOf(typ); k {
	case dfs.String:
		return lengthOf(typ) == 0 || lengthOf(typ) >= 36
	case dfs.Bytes:
		return lengthOf(typ) == 0 || lengthOf(typ) >= 16
	}
	return false
}

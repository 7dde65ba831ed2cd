package rowevent

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/dataflowsync/dfs"
)

// Event types (enum Log_event_type in MySQL's sources).
const (
	formatDescription = 15
	tableMapEvent     = 19
	writeRows         = 30
	updateRows        = 31
	deleteRows        = 32
)

const headerLength = 19

// Flags of a rows event.
const (
	endOfStatement = 1
	noForeignKeys  = 2
)

// postHeader holds the length of the fixed part of each event type from 1 on, as
// MySQL 5.6.4 and later write it into their format description. The server
// refuses a description that knows fewer types than it is sent.
var postHeader = [...]byte{56, 13, 0, 8, 0, 18, 0, 4, 4, 4, 4, 18, 0, 0, 95, 0, 4, 26, 8, 0, 0, 0, 8, 8, 8, 2, 0, 0, 0, 10, 10, 10, 25, 25, 0}

// FormatDescription returns the statement that a connection must run once before
// any other BINLOG. The events that follow carry no checksum.
func FormatDescription() string {
	b := begin(nil, formatDescription)
	b = append(b, 4, 0)
	var version [50]byte
	copy(version[:], "5.7.0-dfs") // any that is known to write these events
	b = append(b, version[:]...)
	b = append(b, 0, 0, 0, 0, headerLength)
	b = append(b, postHeader[:]...)
	b = append(b, 0)          // checksum algorithm: none
	b = append(b, 0, 0, 0, 0) // the place of this event's own checksum
	end(b, 0)
	return string(AppendStatement(nil, b))
}

// AppendStatement appends the BINLOG statement that applies events. It must not
// share a packet with other statements.
func AppendStatement(b, events []byte) []byte {
	b = append(b, "BINLOG '"...)
	b = base64.StdEncoding.AppendEncode(b, events)
	return append(b, '\'')
}

// begin appends the header of an event, to be completed by end.
func begin(b []byte, kind byte) []byte {
	b = append(b, 0, 0, 0, 0, kind)
	b = append(b, 1, 0, 0, 0) // server id: any but that of the target
	return append(b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
}

// end completes the event that begins at start and ends with b.
func end(b []byte, start int) {
	binary.LittleEndian.PutUint32(b[start+9:], uint32(len(b)-start))
}

// Rows are changes of one kind to one table.
type Rows struct {
	Op dfs.Op

	// Before and After are the columns of the two images, as indexes into the
	// table's columns, ascending. Before must hold the primary key.
	Before, After []int

	// From gives for each of the table's columns the index of its value in the
	// rows that Append is given.
	From []int

	NoForeignKeys bool // neither check nor act upon them

	// Raw takes a CHAR or VARCHAR as it is, also bytes that are no text of the
	// column's character set. The server stores them, and SQL would not. A TEXT of
	// such bytes it would cut without a word (MySQL 9.7, Field_blob::unpack), so
	// that is refused all the same.
	Raw bool
}

// Append appends a table map and one rows event for n changes, of which row
// returns the images, to b. The images are full rows of the source; only the
// columns of r are read. A value that does not fit its column gives an error
// that names the column and wraps ErrValue; b is then of no use.
func (t *Table) Append(b []byte, r *Rows, n int, row func(i int) (before, after dfs.Row)) ([]byte, error) {
	b, taken, err := t.AppendSome(b, r, n, math.MaxInt, row)
	if err == nil && taken < n {
		before, after := row(taken)
		_, err = t.appendRow(nil, r, before, after)
	}
	return b, err
}

// AppendSome is Append of as many of the n changes as take no more than limit bytes
// with all of b, but of one at least, and of those before the first of which a value
// does not fit. It returns how many these are, and that value's error only if there are none.
func (t *Table) AppendSome(b []byte, r *Rows, n, limit int, row func(i int) (before, after dfs.Row)) (_ []byte, taken int, _ error) {
	start := len(b)
	b = append(begin(b, tableMapEvent), t.tableMap...)
	end(b, start)

	start = len(b)
	b = appendID(begin(b, writeRows+byte(r.Op-dfs.Insert)), t.id)
	flags := byte(endOfStatement)
	if r.NoForeignKeys {
		flags |= noForeignKeys
	}
	b = append(b, flags, 0, 2, 0)
	b = appendLength(b, len(t.columns))
	if r.Op != dfs.Insert {
		b = t.appendPresent(b, r.Before)
	}
	if r.Op != dfs.Delete {
		b = t.appendPresent(b, r.After)
	}
	for ; taken < n; taken++ {
		at := len(b)
		before, after := row(taken)
		var err error
		if b, err = t.appendRow(b, r, before, after); err != nil && taken == 0 {
			return b, 0, err
		}
		if err != nil || len(b) > limit && taken > 0 {
			b = b[:at]
			break
		}
	}
	end(b, start)
	return b, taken, nil
}

// appendRow appends the images of one change.
func (t *Table) appendRow(b []byte, r *Rows, before, after dfs.Row) (_ []byte, err error) {
	if r.Op != dfs.Insert {
		if b, err = t.appendImage(b, r, r.Before, before); err != nil {
			return b, err
		}
	}
	if r.Op != dfs.Delete {
		b, err = t.appendImage(b, r, r.After, after)
	}
	return b, err
}

func (t *Table) appendPresent(b []byte, image []int) []byte {
	clear(t.present)
	for _, i := range image {
		t.present[i/8] |= 1 << (i % 8)
	}
	return append(b, t.present...)
}

func (t *Table) appendImage(b []byte, r *Rows, image []int, row dfs.Row) ([]byte, error) {
	nulls := len(b)
	b = append(b, t.present[:(len(image)+7)/8]...)
	clear(b[nulls:])
	for k, i := range image {
		v := row[r.From[i]]
		c := &t.columns[i]
		if v.IsNull() {
			if !c.nullable {
				return b, fmt.Errorf("%w: column %s cannot be NULL", ErrValue, c.name)
			}
			b[nulls+k/8] |= 1 << (k % 8)
			continue
		}
		var ok bool
		if c.kind == typeJSON {
			var err error
			if b, err = t.appendJSON(b, v); err != nil {
				return b, fmt.Errorf("%w: the document for column %s: %w", ErrValue, c.name, err)
			}
			continue
		}
		if b, ok = c.append(b, v, r.Raw); !ok {
			return b, fmt.Errorf("%w: column %s cannot hold the %s %.40q", ErrValue, c.name, v.Kind(), v.String())
		}
	}
	return b, nil
}

// appendJSON appends the length of a document, in 4 bytes, and its binary form.
func (t *Table) appendJSON(b []byte, v dfs.Value) ([]byte, error) {
	at := len(b)
	b, err := t.json.Append(append(b, 0, 0, 0, 0), v)
	binary.LittleEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	return b, err
}

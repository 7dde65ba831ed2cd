package stream

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/dataflowsync/dfs"
)

// A Format is how changes are written.
type Format string

const (
	// JSON is this package's own format, and the default:
	//
	//	{"op":"begin","seq":7,"id":"3e11…:23","committed":"2026-11-22T10:30:00Z"}
	//	{"op":"update","seq":7,"n":1,"table":"shop.users","before":{"id":1,"mail":"a"},"after":{"id":1,"mail":"b"}}
	//	{"op":"commit","seq":7,"n":1,"id":"3e11…:23","pos":"…"}
	//
	// "op" is begin, insert, update, delete, read (a row that was there before), ddl
	// or commit; "n" counts the changes of the transaction. A transaction that
	// travels in parts has several numbers; each change has that of its part.
	// Integers, YEAR and BIT are numbers with all their digits, FLOAT and DOUBLE the
	// shortest numbers that are read back as the same; DECIMAL is a string, and so
	// are dates and times as MySQL prints them, but for TIMESTAMP, which is RFC 3339
	// in UTC, unless it is zero. ENUM is its name, SET its names with commas,
	// BINARY, BLOB, GEOMETRY (SRID first) and VECTOR are base64, JSON stands as it
	// is. What a row image leaves out is left out. "part":true says that other changes
	// write other columns of the same row: see dfs.Change.Part.
	JSON Format = "json"

	// Debezium is the envelope of Debezium's MySQL connector (its documentation,
	// "Data change events"), with its defaults for how types are written
	// (adaptive_time_microseconds, precise decimals, bytes as base64). A change of
	// a primary key is a delete, a tombstone and a create. What it has and we have
	// not is null or 0: server_id, thread, query, row, and the structure of tables
	// in schema changes, whose tableChanges is empty.
	Debezium Format = "debezium"
)

// Options refine an Encoder. The zero value of each field is the default.
type Options struct {
	Format Format // default: JSON

	// Name is the logical name of the source, Debezium's topic.prefix, with which
	// Topic begins. Default: "dfs".
	Name string

	// Schemas puts Kafka Connect's schema beside each payload of Debezium's, as
	// its JSON converter does with schemas.enable. Default: payloads only.
	Schemas bool

	// NoTransactions leaves out the messages that begin and end a transaction, and
	// Debezium's transaction block. NoTombstones leaves out Debezium's tombstones.
	// Default: they are written.
	NoTransactions, NoTombstones bool

	// BadText says what becomes of text that is not valid in its character set, or
	// of a character set that is not known here: "error" or "replace", which puts
	// U+FFFD where it is wrong. Default: error.
	BadText string

	// PreciseUnsigned writes Debezium's BIGINT UNSIGNED as its mode "precise" does,
	// as a decimal in base64. Default: as a number; one beyond 2^63-1 is an error.
	PreciseUnsigned bool

	now func() time.Time
}

// Validate returns all that is wrong with the options.
func (o *Options) Validate() error {
	var errs []error
	if o.Format != "" && o.Format != JSON && o.Format != Debezium {
		errs = append(errs, fmt.Errorf("stream: Format is %q: use %q or %q", o.Format, JSON, Debezium))
	}
	if o.BadText != "" && o.BadText != "error" && o.BadText != "replace" {
		errs = append(errs, fmt.Errorf("stream: BadText is %q: use error or replace", o.BadText))
	}
	if o.Format != Debezium && (o.Schemas || o.NoTombstones || o.PreciseUnsigned) {
		errs = append(errs, errors.New("stream: Schemas, NoTombstones and PreciseUnsigned are for the format debezium: leave them out"))
	}
	return errors.Join(errs...)
}

// A Message is one JSON object.
type Message struct {
	// Topic is Name, or that with ".transaction" or ".schema.table".
	Topic string

	// Key is the row's primary key as a JSON object; nil if there is none.
	Key []byte

	// Value is nil for a tombstone.
	Value []byte

	// Headers are Debezium's of a changed key, name and value.
	Headers [][2]string

	// ID is the transaction's number and that of the message in it, and of no other
	// message of the pipeline. It is the same when the transaction is sent again, if
	// that has the same number then, as with a queue it has.
	ID string

	// Table is what it is about; nil for what begins or ends a transaction.
	Table *dfs.Table
}

// An Encoder makes messages of transactions, in order. It is not safe for
// concurrent use.
type Encoder struct {
	o    Options
	open bool // a part has come without its end
	n    int  // messages of the transaction so far
	rows int  // changes of it
	per  map[string]int
	seen []string // the keys of per, in order
	last *dfs.Table
	info *tableInfo
	tabs map[*dfs.Table]*tableInfo
	emit func(Message) error
	tx   *dfs.Transaction
}

// NewEncoder returns an Encoder. A nil o stands for the zero Options.
func NewEncoder(o *Options) (*Encoder, error) {
	if o == nil {
		o = &Options{}
	}
	if err := o.Validate(); err != nil {
		return nil, err
	}
	e := &Encoder{o: *o, per: make(map[string]int), tabs: make(map[*dfs.Table]*tableInfo)}
	if e.o.Format == "" {
		e.o.Format = JSON
	}
	if e.o.Name == "" {
		e.o.Name = "dfs"
	}
	if e.o.now == nil {
		e.o.now = time.Now
	}
	return e, nil
}

// Reset forgets a transaction of which parts came and the end did not.
func (e *Encoder) Reset() { e.open = false }

// Encode calls emit with the messages of a transaction or of a part of one, whose
// bytes emit may keep. An empty transaction has none.
func (e *Encoder) Encode(tx *dfs.Transaction, emit func(Message) error) error {
	e.tx, e.emit = tx, emit
	if !e.open {
		e.n, e.rows, e.seen = 0, 0, e.seen[:0]
		clear(e.per)
		if len(tx.Changes) == 0 && !tx.More {
			return nil
		}
		if err := e.begin(); err != nil {
			return err
		}
	}
	e.open = true
	for i := range tx.Changes {
		if err := e.change(&tx.Changes[i]); err != nil {
			c := &tx.Changes[i]
			return fmt.Errorf("transaction %d (%s), %s of %s: %w", tx.Seq, tx.ID, c.Op, c.Table, err)
		}
	}
	if tx.More {
		return nil
	}
	e.open = false
	return e.end()
}

func (e *Encoder) send(m Message) error {
	e.n++
	m.ID = strconv.FormatUint(e.tx.Seq, 10) + "." + strconv.Itoa(e.n)
	return e.emit(m)
}

func (e *Encoder) begin() error {
	if e.o.NoTransactions {
		return nil
	}
	b := make([]byte, 0, 128)
	if e.o.Format == JSON {
		b = e.head(append(b, `{"op":"begin"`...), 0)
		b = e.identity(b)
		return e.send(Message{Topic: e.o.Name + ".transaction", Value: append(b, '}')})
	}
	b = append(b, `{"status":"BEGIN","id":`...)
	b = appendText(b, e.txID())
	b = append(b, `,"ts_ms":`...)
	b = strconv.AppendInt(b, e.committed().UnixMilli(), 10)
	b = append(b, `,"event_count":null,"data_collections":null}`...)
	return e.send(e.transactionMessage(b))
}

func (e *Encoder) end() error {
	if e.o.NoTransactions {
		return nil
	}
	b := make([]byte, 0, 160)
	if e.o.Format == JSON {
		b = e.head(append(b, `{"op":"commit"`...), e.rows)
		b = e.identity(b)
		b = append(b, `,"pos":`...)
		b = append(appendText(b, string(e.tx.Pos)), '}')
		return e.send(Message{Topic: e.o.Name + ".transaction", Value: b})
	}
	b = append(b, `{"status":"END","id":`...)
	b = appendText(b, e.txID())
	b = append(b, `,"ts_ms":`...)
	b = strconv.AppendInt(b, e.committed().UnixMilli(), 10)
	b = append(b, `,"event_count":`...)
	b = strconv.AppendInt(b, int64(e.rows), 10)
	b = append(b, `,"data_collections":[`...)
	for i, name := range e.seen {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"data_collection":`...)
		b = appendText(b, name)
		b = append(b, `,"event_count":`...)
		b = append(strconv.AppendInt(b, int64(e.per[name]), 10), '}')
	}
	b = append(b, "]}"...)
	return e.send(e.transactionMessage(b))
}

// head appends the numbers of a change.
func (e *Encoder) head(b []byte, n int) []byte {
	b = append(b, `,"seq":`...)
	b = strconv.AppendUint(b, e.tx.Seq, 10)
	if n > 0 {
		b = append(b, `,"n":`...)
		b = strconv.AppendInt(b, int64(n), 10)
	}
	return b
}

// identity appends what the source calls the transaction.
func (e *Encoder) identity(b []byte) []byte {
	if e.tx.ID != "" {
		b = append(b, `,"id":`...)
		b = appendText(b, e.tx.ID)
	}
	if !e.tx.Committed.IsZero() {
		b = append(b, `,"committed":"`...)
		b = append(e.tx.Committed.UTC().AppendFormat(b, time.RFC3339Nano), '"')
	}
	return b
}

// change sends one change.
func (e *Encoder) change(c *dfs.Change) error {
	e.rows++
	if c.Op == dfs.DDL {
		return e.statement(c)
	}
	if c.Table == nil {
		return errors.New("the change has no table")
	}
	if c.Table != e.last {
		info := e.tabs[c.Table]
		if info == nil {
			if len(e.tabs) > 10_000 { // tables that were altered, over and over
				clear(e.tabs)
			}
			var err error
			if info, err = e.tableOf(c.Table); err != nil {
				return err
			}
			e.tabs[c.Table] = info
		}
		e.last, e.info = c.Table, info
	}
	if e.per[e.info.name]++; e.per[e.info.name] == 1 {
		e.seen = append(e.seen, e.info.name)
	}
	if e.o.Format == Debezium {
		return e.envelope(c)
	}
	op := c.Op.String()
	if e.tx.Snapshot {
		op = "read"
	}
	b := make([]byte, 0, 256)
	b = append(append(append(b, `{"op":"`...), op...), '"')
	b = e.head(b, e.rows)
	b = append(b, `,"table":`...)
	b = appendText(b, e.info.name)
	if c.Part {
		b = append(b, `,"part":true`...)
	}
	var err error
	for _, side := range [2]struct {
		name string
		row  dfs.Row
	}{{`,"before":`, c.Before}, {`,"after":`, c.After}} {
		if side.row == nil {
			continue
		}
		if b, err = e.appendRow(append(b, side.name...), side.row, nil); err != nil {
			return err
		}
	}
	row := c.After
	if row == nil {
		row = c.Before
	}
	key, err := e.key(row)
	if err != nil {
		return err
	}
	return e.send(Message{Topic: e.info.topic, Key: key, Value: append(b, '}'), Table: c.Table})
}

// statement sends a statement that alters tables.
func (e *Encoder) statement(c *dfs.Change) error {
	schema := ""
	switch {
	case c.Session != nil && c.Session.Schema != "":
		schema = c.Session.Schema
	case c.Table != nil:
		schema = c.Table.Schema
	}
	if e.o.Format == Debezium {
		return e.schemaChange(c, schema)
	}
	b := e.head([]byte(`{"op":"ddl"`), e.rows)
	b = append(b, `,"schema":`...)
	b = appendText(b, schema)
	b = append(b, `,"query":`...)
	b = append(appendText(b, c.Query), '}')
	return e.send(Message{Topic: e.o.Name, Value: b, Table: c.Table})
}

// key returns the row's primary key; nil if there is none, or not all of it is
// there.
func (e *Encoder) key(row dfs.Row) ([]byte, error) {
	t := e.last
	if len(t.Key) == 0 {
		return nil, nil
	}
	for _, i := range t.Key {
		if row[i].Kind() == dfs.Absent {
			return nil, nil
		}
	}
	b, err := e.appendRow(make([]byte, 0, 32), row, t.Key)
	if err == nil && e.o.Schemas {
		b = append(append(append([]byte(`{"schema":`), e.info.keySchema...), `,"payload":`...), append(b, '}')...)
	}
	return b, err
}

// appendRow appends the row as an object, or those of its columns that only lists.
func (e *Encoder) appendRow(b []byte, row dfs.Row, only []int) ([]byte, error) {
	if len(row) != len(e.last.Columns) {
		return b, fmt.Errorf("the row has %d values, and the table %d columns", len(row), len(e.last.Columns))
	}
	b = append(b, '{')
	first := true
	for k := range row {
		if only != nil {
			if k == len(only) {
				break
			}
			k = only[k]
		}
		if row[k].Kind() == dfs.Absent {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(b, e.info.names[k]...)
		var err error
		if e.o.Format == Debezium {
			b, err = e.appendConnect(b, &e.info.columns[k], row[k])
		} else {
			b, err = e.appendValue(b, &e.info.columns[k], row[k])
		}
		if err != nil {
			return b, fmt.Errorf("column %s: %w", e.last.Columns[k].Name, err)
		}
	}
	return append(b, '}'), nil
}

func (e *Encoder) committed() time.Time {
	if e.tx.Committed.IsZero() {
		return e.o.now()
	}
	return e.tx.Committed
}

// txID is what a transaction is called: by its source, or else by its number.
func (e *Encoder) txID() string {
	if e.tx.ID != "" {
		return e.tx.ID
	}
	return "seq:" + strconv.FormatUint(e.tx.Seq, 10)
}

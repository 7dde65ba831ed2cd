package cdc

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/ddl"
	"github.com/dataflowsync/dfs/internal/failpoint"
)

// A transaction is what an assembler knows of the one that it is in.
type transaction struct {
	open  bool // something of it was seen
	begun bool // its end is yet to come: it is more than a single statement
	parts bool // a part of it was handed on

	hasID bool
	uuid  [16]byte  // MySQL
	tag   string    // MySQL
	gno   uint64    // MySQL
	maria mariaGTID // MariaDB

	file      string // where it begins
	off       uint64
	committed int64 // microseconds since 1970
	held      bool  // an XA transaction, of which nothing is handed on before it ends
	spilled   bool  // it got too large to be kept
	prepares  *preparedXA
	ends      string // the prepared XA transaction that ends with this one
	saved     []savepoint
	old       bool // MySQL: it has rows as servers before 5.6 log them
	ddl       bool // it has a statement
	note      note // MariaDB: of the statement at hand

	refused *EventError // why it cannot be handed on
	skipped bool        // followed rows of it were left out, as reading begins later

	altered []ddl.Table // what the catalog has taken over from it
}

// A tableMap is the last table map seen for a table id.
type tableMap struct {
	id            uint64
	event         event  // a copy
	schema        []byte // content of its recSchema; nil if it needs none
	followed      bool
	tx            uint64 // number of the transaction it was last seen in
	part          uint64 // number of the part that has it
	schemaN, name string
}

// An assembler makes transactions of events. It is where filtering happens, and
// what decides where a transaction begins and ends.
type assembler struct {
	src *Source

	// at is the place after the last whole transaction, file and off the place
	// after the last event.
	at   position
	file string
	off  uint64
	end  uint64 // the place at which the event ends that is being handled; 0 if only the event tells

	version string // of the server that wrote the file

	tx      transaction
	txNum   uint64 // counts transactions
	partNum uint64 // counts parts
	part    []byte // the container being filled; its size is bounded by MaxPart
	maps    map[uint64]*tableMap
	last    *tableMap // the last one looked up

	text []byte // of the statement that tx.note is about

	held      map[string][]byte // containers of prepared XA transactions, by xid
	heldBytes int
	again     *preparedXA // whose rows are to be read a second time
	againEnd  event       // what ends the transaction after that

	catalog *catalog
	ahead   ahead

	follow    *following // nil: as Options.Tables say
	followDue bool       // the next transaction is to have it in State

	// clock is the latest time, in seconds since 1970, by which the log is known
	// to have come as far as it was read.
	clock int64

	// uuidText is the text of uuid with a colon, of the last transaction handed
	// on: most have the same.
	uuid     [16]byte
	uuidText []byte

	// known says that file is one of the server that is read, and beat is the place
	// in it that the server has said to have come to: what it does not send, as it
	// was read before, moves off not.
	known bool
	beat  uint64

	// skipTo makes the assembler read up to this place in the first file and
	// hand nothing on: it finds the GTID set of a place given by file.
	skipTo uint64

	// out takes a finished transaction or part.
	out     func(encoded []byte, more bool)
	moved   bool // at has moved since out was called
	counted counts
}

// filter returns which tables are followed.
func (a *assembler) filter() *filter {
	if a.follow != nil {
		return a.follow.filter
	}
	return a.src.filter
}

// due reports whether the next transaction is to have State.
func (a *assembler) due() bool { return a.followDue || a.catalog.due() }

// state returns the State at the place of a, but for the tables of a copy.
func (a *assembler) state() string {
	a.followDue = false
	c := a.catalog.state()
	if a.follow == nil {
		return c
	}
	return alias(append(a.follow.state(), c...))
}

// handle takes one event of the log. inner says that it came out of a
// transaction payload, and so has no place of its own.
func (a *assembler) handle(ctx context.Context, e event, inner bool) error {
	kind := e.kind()
	a.counted.events++
	if !inner && kind != evRotate && kind != evHeartbeat && kind != evHeartbeat2 {
		a.step(e)
		a.tick(int64(e.time()))
	}
	switch kind {
	case evTableMap:
		return a.tableMap(ctx, e)
	case evQuery, evQueryZ:
		q, err := parseQuery(e)
		if err != nil {
			return err
		}
		a.tick(int64(e.time()) + int64(q.took))
		return a.query(e, q)
	case evXID:
		return a.commit(e)
	case evGTID:
		return a.gtid(e)
	case evGTIDTagged:
		return a.taggedGTID(e)
	case evMariaGTID:
		return a.mariaGTID(e)
	case evAnonymous:
		if err := a.startAnonymous(e); err != nil {
			return err
		}
		a.commitTime(e.body())
		return nil
	case evRotate:
		return a.rotate(e)
	case evXAPrepare:
		return a.xaPrepare(e)
	case evIncident:
		return a.fault("the source says that it lost events (an INCIDENT event)",
			"its log is not complete: make a new copy of the data and start after this place")
	case evAnnotateRows:
		a.annotate(e)
		return nil
	case evExecuteLoad:
		return a.refuse(e, "LOAD DATA was logged as a statement",
			"set binlog_format=ROW on the source, for running sessions too")
	case evPreviousGTIDs:
		if a.skipTo > 0 && a.at.kind == byGTID {
			set, err := decodeGTIDSet(e.body())
			if err != nil {
				return err
			}
			a.at.set = set
		}
		return nil
	case evFormat:
		f, err := parseFormat(e)
		a.version = f.version
		return err
	case evHeartbeat:
		a.heartbeat(e)
		return nil
	case evStop, evIntvar, evAppendBlock, evDeleteFile, evRand, evUserVar, evBeginLoad,
		evHeartbeat2, evIgnorable, evRowsQuery, evTxContext, evViewChange,
		evCheckpoint, evMariaGTIDList, evStartEncryption:
		return nil
	}
	if isRows(kind) {
		return a.rows(e)
	}
	if e.flags()&flagIgnorable != 0 {
		return nil
	}
	return a.fault(fmt.Sprintf("unknown event type %d", kind),
		"it may hold changes: update this program to one that knows it")
}

// step moves the place in the file past e.
func (a *assembler) step(e event) {
	if a.end > 0 {
		a.off = a.end
		return
	}
	a.off = e.endsAt(a.off)
}

// tick notes that something was logged at t, or later. Events have the time at
// which their statement began, and so may look older than those before them.
func (a *assembler) tick(t int64) { a.clock = max(a.clock, t) }

// place returns the place after the last event, as EventError.At has it.
func (a *assembler) place() string { return a.file + ":" + strconv.FormatUint(a.off, 10) }

// appendID appends the name of the transaction: its GTID or, if it has none, the
// place where it begins.
func (a *assembler) appendID(b []byte) []byte {
	t := &a.tx
	switch {
	case !t.hasID && a.at.kind == byFile:
		b = append(append(b, t.file...), ':')
		return strconv.AppendUint(b, t.off, 10)
	case !t.hasID:
		return b
	case a.src.maria:
		return t.maria.append(b)
	}
	if len(a.uuidText) == 0 || a.uuid != t.uuid {
		a.uuid, a.uuidText = t.uuid, append(appendUUID(nil, t.uuid[:]), ':')
	}
	b = append(b, a.uuidText...)
	if t.tag != "" {
		b = append(append(b, t.tag...), ':')
	}
	return strconv.AppendUint(b, t.gno, 10)
}

// start begins a transaction.
func (a *assembler) start(e event) error {
	if a.tx.open {
		return a.fault("a transaction begins before the last one has ended",
			"the log is damaged: make a new copy of the data and start after this place")
	}
	a.txNum++
	a.tx = transaction{open: true, file: a.file, off: a.off - uint64(e.size()), committed: int64(e.time()) * 1e6}
	a.part = a.part[:0]
	a.partNum++
	return nil
}

// startAnonymous begins a transaction that no GTID event stands in front of. It
// could not be told from others by a position that is made of GTIDs.
func (a *assembler) startAnonymous(e event) error {
	if a.at.kind != byFile {
		return a.fault("a transaction has no GTID, though the source is read by GTID",
			"gtid_mode was not ON when it was logged: set it to ON, and make a new copy of the data")
	}
	return a.start(e)
}

// rotate moves to the next file of the log. The server makes one up at the start
// of each connection, to tell the name of the file that it reads from; one more
// stands at the end of each file. Only a change of the name means anything.
func (a *assembler) rotate(e event) error {
	b := e.body()
	if len(b) < 9 {
		return errShortEvent
	}
	name := b[8:]
	if string(name) != a.file {
		if a.skipTo > 0 && a.file != "" {
			return fmt.Errorf("cdc: %s ends before position %d; start at a position that it has", a.file, a.skipTo)
		}
		if a.tx.parts {
			return a.fault("a transaction has no end: its file ends first",
				"the source crashed while it wrote it: make a new copy of the data and start in file "+string(name))
		}
		// What a server has not finished before it crashed, it has not
		// committed. The next file begins with the next transaction.
		failpoint.Hit("cdc.rotate")
		a.unfinished()
		a.tx = transaction{}
		a.file = string(name)
		clear(a.maps)
		a.last = nil
		if a.at.kind == byFile && a.skipTo == 0 {
			// Nothing is left to read in the old file, and so it may be purged.
			a.at.file, a.at.pos = a.file, 4
			a.moved = true
		}
	}
	a.off = binary.LittleEndian.Uint64(b)
	a.known, a.beat = true, 0
	return nil
}

// heartbeat notes how far the server has come: the event has the place in its head
// and the file in its body.
func (a *assembler) heartbeat(e event) {
	if name := e.body(); string(name) == a.file && e.logPos() != 0 {
		a.beat = max(a.beat, a.off&^0xffffffff|uint64(e.logPos()))
	}
}

// reached returns the place up to which all of the log was taken, if no
// transaction has begun and not ended, and the place is known.
func (a *assembler) reached() (place, bool) {
	return place{a.file, max(a.off, a.beat)}, a.known && !a.tx.open && a.skipTo == 0
}

// tableMap notes which table the rows that follow belong to.
func (a *assembler) tableMap(ctx context.Context, e event) error {
	id, ok := tableID(e)
	if !ok {
		return errShortEvent
	}
	schema, table, err := tableNames(e)
	if err != nil {
		return err
	}
	if a.src.maria {
		a.noteMap(schema)
	}
	m := a.lookup(id)
	if m != nil && bytes.Equal(m.event.body(), e.body()) {
		copy(m.event, e[:headerLen])
		m.tx = a.txNum
		return nil
	}
	if m == nil {
		if len(a.maps) >= 4096 {
			clear(a.maps)
		}
		m = &tableMap{id: id}
		a.maps[id] = m
		a.last = m
	}
	m.event = append(m.event[:0], e...)
	m.schemaN, m.name = string(schema), string(table)
	m.tx, m.part, m.schema = a.txNum, 0, nil
	m.followed = a.filter().follows(m.schemaN, m.name)
	if !m.followed || a.skipTo > 0 {
		return nil
	}
	named, err := hasColumnNames(m.event)
	if err != nil {
		return err
	}
	if named {
		a.catalog.retire()
	} else {
		m.schema, err = a.record(ctx, m)
	}
	if err != nil {
		// The next try is to ask anew.
		delete(a.maps, id)
		a.last = nil
	}
	return err
}

// lookup returns the last table map with the id, or nil. Most rows belong to the
// table of the rows before, so that one is looked at first.
func (a *assembler) lookup(id uint64) *tableMap {
	if a.last != nil && a.last.id == id {
		return a.last
	}
	m := a.maps[id]
	if m != nil {
		a.last = m
	}
	return m
}

// dummyTable is the id in a rows event without rows, which only says that the
// statement has ended.
const dummyTable = 0xffffff

// rows adds row images of a followed table to the part, without a look inside.
// The table map goes in front of the first rows in each part, so that a part can
// be decoded without the others; where a statement repeats a map that the part
// has, it is left out.
func (a *assembler) rows(e event) error {
	id, ok := tableID(e)
	if !ok {
		return errShortEvent
	}
	if a.src.maria && binary.LittleEndian.Uint16(e.body()[6:])&rowsFlagStmtEnd != 0 {
		defer func() { a.tx.note = note{} }()
	}
	m := a.lookup(id)
	if m == nil || m.tx != a.txNum || !a.tx.open {
		if id == dummyTable {
			return nil
		}
		return a.fault(fmt.Sprintf("rows of table id %d come without a table map", id),
			"the log is damaged, or reading began inside a transaction: start between two transactions")
	}
	a.counted.rows++
	if !m.followed {
		a.counted.rowsFiltered++
		return nil
	}
	if a.src.maria && a.skipTo == 0 {
		if err := a.mayReplace(e, m); err != nil {
			return err
		}
	}
	if !a.src.maria && e.kind() <= evDeleteRows1 {
		a.tx.old = true
	}
	if a.skipTo > 0 || a.tx.refused != nil {
		a.tx.skipped = true
		return nil
	}
	// Invariant I6: no more than MaxPart bytes are held, but for one event.
	switch {
	case a.tx.held:
		if !a.spill(len(e)) {
			return nil
		}
	case len(a.part) > containerHead && len(a.part)+len(e) > a.src.opts.MaxPart:
		size := len(a.part) // out may keep it
		a.out(a.part, true)
		a.tx.parts = true
		a.nextPart(size)
		a.part = a.part[:0]
	}
	a.head()
	if m.part != a.partNum {
		m.part = a.partNum
		if m.schema != nil {
			a.part = appendRecord(a.part, recSchema, m.schema)
		}
		a.part = appendEvent(a.part, m.event)
	}
	a.part = appendEvent(a.part, e)
	return nil
}

// head begins the container of the part, if it is not begun.
func (a *assembler) head() {
	if len(a.part) == 0 {
		a.part = appendContainer(a.part, a.src.maria)
	}
}

// commit ends the transaction, and moves the position past it.
// Invariant I2: a position is the end of a transaction.
func (a *assembler) commit(e event) error {
	if !a.tx.open {
		return a.fault("a transaction ends that has not begun",
			"reading began inside a transaction: start between two transactions")
	}
	t := &a.tx
	if t.refused != nil {
		t.refused.After = a.after()
		return t.refused
	}
	before := a.at.pos
	a.at.file, a.at.pos = a.file, a.off
	switch a.at.kind {
	case byGTID:
		if a.at.set == nil {
			return fmt.Errorf("cdc: %s has no previous-GTIDs event, so which transactions were before it is not known; start by GTID", a.file)
		}
		a.at.set.add(t.uuid, t.tag, t.gno)
	case byMaria:
		a.at.list.set(t.maria)
	}
	a.settle()
	a.moved = true
	a.src.last.Store(int64(e.time()))
	switch {
	case a.skipTo > 0:
		if a.off > a.skipTo {
			return fmt.Errorf("cdc: no transaction ends at %s:%d: one goes from %d to %d; start at one of these",
				a.file, a.skipTo, before, a.off)
		}
	case len(a.part) > 0 || t.parts:
		a.head()
		a.counted.transactions++
		a.out(a.part, false)
	default:
		a.counted.filtered++
	}
	a.tx = transaction{}
	a.part = a.part[:0]
	if cap(a.part) > 4*a.src.opts.MaxPart {
		a.part = nil // it had grown for a large event
	}
	return nil
}

// time returns when the transaction was committed.
func (t *transaction) time() time.Time { return time.UnixMicro(t.committed) }

// statement appends a statement to the part.
func (a *assembler) statement(c dfs.Change) {
	a.tx.ddl = true
	a.head()
	a.part = appendRecord(a.part, recChanges, dfs.AppendChanges(nil, []dfs.Change{c}))
	a.counted.statements++
}

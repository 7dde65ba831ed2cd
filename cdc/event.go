package cdc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// Types of binary log events, of MySQL's libs/mysql/binlog/event/binlog_event.h
// and, from 160, MariaDB's sql/log_event.h.
const (
	evQuery             = 2
	evStop              = 3
	evRotate            = 4
	evIntvar            = 5
	evAppendBlock       = 9
	evDeleteFile        = 11
	evRand              = 13
	evUserVar           = 14
	evFormat            = 15
	evXID               = 16
	evBeginLoad         = 17
	evExecuteLoad       = 18
	evTableMap          = 19
	evWriteRows1        = 23
	evUpdateRows1       = 24
	evDeleteRows1       = 25
	evIncident          = 26
	evHeartbeat         = 27
	evIgnorable         = 28
	evRowsQuery         = 29
	evWriteRows2        = 30
	evUpdateRows2       = 31
	evDeleteRows2       = 32
	evGTID              = 33
	evAnonymous         = 34
	evPreviousGTIDs     = 35
	evTxContext         = 36
	evViewChange        = 37
	evXAPrepare         = 38
	evPartialUpdate     = 39
	evPayload           = 40
	evHeartbeat2        = 41
	evGTIDTagged        = 42
	evAnnotateRows      = 160
	evCheckpoint        = 161
	evMariaGTID         = 162
	evMariaGTIDList     = 163
	evStartEncryption   = 164
	evQueryZ            = 165
	evWriteRows1Z       = 166
	evUpdateRows1Z      = 167
	evUpdateRows2Z      = 170
	evDeleteRows2Z      = 171
	headerLen           = 19
	flagArtificial      = 0x20 // made up by the server for this connection
	flagIgnorable       = 0x80 // a reader that does not know the type may skip it
	rowsFlagStmtEnd     = 0x01
	rowsFlagNoFK        = 0x02 // foreign_key_checks=0
	rowsFlagSQLFK       = 0x10 // MySQL >= 9.6 logs by itself what foreign keys do
	mariaFlagStandalone = 0x01 // no COMMIT follows
	mariaFlagDDL        = 0x20
	mariaFlagPreparedXA = 0x40
	mariaFlagXADone     = 0x80
)

// An event is one event of the binary log: its header and body, without a
// checksum. It is at least headerLen long.
type event []byte

func (e event) time() uint32   { return binary.LittleEndian.Uint32(e) }
func (e event) kind() byte     { return e[4] }
func (e event) server() uint32 { return binary.LittleEndian.Uint32(e[5:]) }
func (e event) size() uint32   { return binary.LittleEndian.Uint32(e[9:]) } // in the log
func (e event) logPos() uint32 { return binary.LittleEndian.Uint32(e[13:]) }
func (e event) flags() uint16  { return binary.LittleEndian.Uint16(e[17:]) }
func (e event) body() []byte   { return e[headerLen:] }

// endsAt returns the place in its file at which the event ends, where the one
// before it ended at off. The event's own word has 32 bits, of which larger files
// show the lower ones, and MariaDB from 11.4 leaves it zero inside a transaction.
func (e event) endsAt(off uint64) uint64 {
	low := e.logPos()
	if low == 0 || e.flags()&flagArtificial != 0 {
		return off
	}
	at := off&^0xffffffff | uint64(low)
	if at < off {
		at += 1 << 32
	}
	return at
}

// isRows reports whether the event holds row images.
func isRows(kind byte) bool {
	return kind >= evWriteRows2 && kind <= evDeleteRows2 || kind == evPartialUpdate ||
		kind >= evWriteRows1 && kind <= evDeleteRows1 ||
		kind >= evWriteRows1Z && kind <= evDeleteRows2Z
}

var (
	errShortEvent = errors.New("cdc: binary log event is cut short")
	errChecksum   = errors.New("cdc: binary log event does not match its checksum; " +
		"check the network path and the server's disk, then start again")
)

// checkEvent checks the length of what the server sent as an event and, if sum
// is set, the CRC32 at its end, which it cuts off. If sound is set, that is known to be right.
func checkEvent(b []byte, sum, sound bool) (event, error) {
	if len(b) < headerLen {
		return nil, errShortEvent
	}
	if n := binary.LittleEndian.Uint32(b[9:]); int64(n) != int64(len(b)) {
		return nil, fmt.Errorf("cdc: binary log event of %d bytes says it has %d", len(b), n)
	}
	switch b[4] {
	case evFormat:
		// The checksum of a format description is there always, but the server
		// alters the event for each reader, and not all versions mend it.
		return b, nil
	case evRotate, evHeartbeat, evHeartbeat2:
		// Made up by the server, in some versions before it has settled on a
		// checksum: cut off what is one, and take the rest for a name.
		if end := len(b) - 4; end >= headerLen && binary.LittleEndian.Uint32(b[end:]) == crc32.ChecksumIEEE(b[:end]) {
			return b[:end], nil
		}
		if sum && !isMadeUp(b) {
			return nil, errChecksum
		}
		return b, nil
	}
	if !sum {
		return b, nil
	}
	end := len(b) - 4
	if end < headerLen {
		return nil, errShortEvent
	}
	if !sound && binary.LittleEndian.Uint32(b[end:]) != crc32.ChecksumIEEE(b[:end]) {
		return nil, errChecksum
	}
	return b[:end], nil
}

// isMadeUp reports whether an event without a checksum is one that a server makes up:
// the name of a file, behind a place in it if it is a rotate event. One wrong bit can
// make an UPDATE look like a heartbeat, which is passed over. Its body begins with the
// number of a table, of which a name has not even the zeros.
func isMadeUp(b []byte) bool {
	name := event(b).body()
	switch {
	case b[4] == evHeartbeat2:
		return false // only newer servers have it, and it always has its checksum
	case b[4] == evRotate && (event(b).flags()&flagArtificial == 0 || len(name) < 8):
		return false
	case b[4] == evRotate:
		name = name[8:]
	}
	return len(name) > 0 && len(name) <= 512 && !bytes.ContainsFunc(name, func(r rune) bool { return r < ' ' })
}

// A query is what a query event says.
type query struct {
	took   uint32 // seconds from the event's time until it was made
	failed uint16 // the error that the statement ended with, after it had done a part; or 0
	schema string
	text   string
	vars   []byte // status variables; see session

	// What session has found in vars.
	phase  byte   // of an ALTER that MariaDB logs twice
	unread string // what it could not read, or empty
}

// parseQuery reads a query event. The strings alias the event.
func parseQuery(e event) (q query, err error) {
	b := e.body()
	if len(b) < 13 {
		return q, errShortEvent
	}
	if q.took = binary.LittleEndian.Uint32(b[4:]); q.took > 1<<31 {
		q.took = 0 // less than nothing: a clock was set back
	}
	schema := int(b[8])
	q.failed = binary.LittleEndian.Uint16(b[9:])
	vars := int(binary.LittleEndian.Uint16(b[11:]))
	b = b[13:]
	if len(b) < vars+schema+1 {
		return q, errShortEvent
	}
	q.vars, b = b[:vars], b[vars:]
	q.schema, b = alias(b[:schema]), b[schema+1:]
	if e.kind() == evQueryZ {
		if b, err = inflate(b); err != nil {
			return q, fmt.Errorf("cdc: read compressed query: %w", err)
		}
	}
	q.text = alias(b)
	return q, nil
}

// A tableID is what begins a table map or rows event.
func tableID(e event) (uint64, bool) {
	b := e.body()
	if len(b) < 8 {
		return 0, false
	}
	return uint64(binary.LittleEndian.Uint32(b)) | uint64(binary.LittleEndian.Uint16(b[4:]))<<32, true
}

// tableNames reads the names in a table map event. The slices alias it.
func tableNames(e event) (schema, table []byte, err error) {
	r := reader{b: e.body()}
	r.bytes(8)
	schema = r.bytes(int(r.byte()))
	r.byte()
	table = r.bytes(int(r.byte()))
	r.byte()
	if r.bad {
		return nil, nil, errShortEvent
	}
	return schema, table, nil
}

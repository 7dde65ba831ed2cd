package cdc

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/dataflowsync/dfs"
)

// Transaction.Encoded is a container: a byte with the version, a byte with
// flags, and records. A record is a byte with its kind, the length of what
// follows as a uvarint, and that.
//
// A part of a large transaction is a container that stands for itself: it has
// all table maps that its rows need.
const (
	containerVersion = 1
	containerMaria   = 0x01 // flag: logged by MariaDB

	// recEvent is an event as logged, without its checksum: a table map, or rows
	// of a table whose map went before.
	recEvent = 1
	// recSchema tells about the table map that follows what its server left out.
	// It holds one Change, made by dfs.AppendChanges, whose Table is meant.
	recSchema = 2
	// recChanges holds Changes made by dfs.AppendChanges: statements.
	recChanges = 3
)

// appendContainer begins a container. Records are then appended to it, in the
// order of the log.
func appendContainer(b []byte, maria bool) []byte {
	flags := byte(0)
	if maria {
		flags = containerMaria
	}
	return append(b, containerVersion, flags)
}

// containerHead is how many bytes appendContainer writes.
const containerHead = 2

// appendRecord appends one record.
func appendRecord(b []byte, kind byte, data []byte) []byte {
	b = append(b, kind)
	b = binary.AppendUvarint(b, uint64(len(data)))
	return append(b, data...)
}

// appendEvent appends e and sets its length to what it is without a checksum.
func appendEvent(b []byte, e event) []byte {
	b = appendRecord(b, recEvent, e)
	binary.LittleEndian.PutUint32(b[len(b)-len(e)+9:], uint32(len(e)))
	return b
}

var errContainer = errors.New("cdc: damaged encoding of a transaction")

// openContainer reads the head of a container and returns its records.
func openContainer(b []byte) (records reader, maria bool, err error) {
	if len(b) < containerHead {
		return reader{}, false, errContainer
	}
	if b[0] != containerVersion {
		return reader{}, false, fmt.Errorf("cdc: transaction was encoded in version %d, this program reads %d", b[0], containerVersion)
	}
	return reader{b: b[containerHead:]}, b[1]&containerMaria != 0, nil
}

// record reads the next record of a container.
func (r *reader) record() (kind byte, data []byte) {
	kind = r.byte()
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.fail()
		return 0, nil
	}
	return kind, r.bytes(int(n))
}

// appendTable returns the content of a recSchema.
func appendTable(b []byte, t *dfs.Table) []byte {
	return dfs.AppendChanges(b, []dfs.Change{{Op: dfs.DDL, Table: t}})
}

// parseTable reads what appendTable wrote.
func parseTable(b []byte) (*dfs.Table, error) {
	c, err := dfs.ParseChanges(b)
	if err != nil {
		return nil, err
	}
	if len(c) != 1 || c[0].Table == nil {
		return nil, errContainer
	}
	return c[0].Table, nil
}

package cdc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
)

// A format is what a format description event says of the events that follow.
type format struct {
	version string // of the server
	maria   bool
	header  int  // bytes of an event's header: 19, or more with what others have added
	sum     bool // events end with a CRC32
	summed  bool // the event itself does
	intact  bool // and it matches
}

// maxUnsummed is the most types of events that a server knows whose format
// description has no checksum. MySQL 5.5 has 27; MySQL 5.6.1 and MariaDB 5.3, the
// first that have one, add 5 bytes to more than that. The server's version could
// tell too, but is text of any form, and damage to it could not be told.
const maxUnsummed = 32

// flagInUse is set in the first event of a file while a server writes the file.
// It is not part of what the event's CRC32 is of.
const flagInUse = 0x01

// postHeaders are the lengths of what begins the events that are read here by
// their layout. An event of another length would be of a layout that is not
// known.
var postHeaders = [...]struct {
	kind   byte
	length byte
}{
	{evQuery, 13}, {evRotate, 8}, {evTableMap, 8},
	{evWriteRows1, 8}, {evUpdateRows1, 8}, {evDeleteRows1, 8},
	{evWriteRows2, 10}, {evUpdateRows2, 10}, {evDeleteRows2, 10},
}

// parseFormat reads a format description event, with its checksum if it has one:
// 2 bytes version, 50 server version, 4 time, 1 header length, one length for
// each type, and from MySQL 5.6.1 and MariaDB 5.3 on 1 checksum algorithm and 4
// checksum, also where events have none.
func parseFormat(e event) (f format, err error) {
	b := e.body()
	if len(b) < 57 {
		return f, errShortEvent
	}
	if v := binary.LittleEndian.Uint16(b); v != 4 || b[56] < headerLen {
		return f, fmt.Errorf("cdc: binary log has format version %d; this program reads version 4, of MySQL 5.0 and later", v)
	}
	f.header = int(b[56])
	f.version, _, _ = strings.Cut(string(b[2:52]), "\x00")
	f.maria = strings.Contains(strings.ToLower(f.version), "mariadb")
	lengths := b[57:]
	f.summed = len(lengths) > maxUnsummed
	if f.intact = formatIntact(e); f.intact && len(lengths) >= 5 || f.summed {
		f.summed = true
		switch alg := lengths[len(lengths)-5]; alg {
		case 0:
		case 1:
			f.sum = true
		default:
			return f, fmt.Errorf("cdc: binary log uses the unknown checksum algorithm %d", alg)
		}
		lengths = lengths[:len(lengths)-5]
	}
	if len(lengths) < evFormat {
		return f, errShortEvent
	}
	for _, p := range postHeaders {
		if int(p.kind) > len(lengths) || lengths[p.kind-1] == p.length || lengths[p.kind-1] == 0 {
			continue // 0: the server does not write it any more, as MySQL 9 with rows of 5.1
		}
		if p.kind == evTableMap && lengths[p.kind-1] == 6 {
			return f, errors.New("cdc: binary log was written by a server older than MySQL 5.1.4")
		}
		return f, fmt.Errorf("cdc: binary log of server %q has events of type %d in a form that is not known", f.version, p.kind)
	}
	return f, nil
}

// formatIntact reports whether a format description event ends with its CRC32.
func formatIntact(e event) bool {
	end := len(e) - 4
	if end < headerLen {
		return false
	}
	sum := crc32.ChecksumIEEE(e[:17])
	sum = crc32.Update(sum, crc32.IEEETable, []byte{e[17] &^ flagInUse})
	sum = crc32.Update(sum, crc32.IEEETable, e[18:end])
	return sum == binary.LittleEndian.Uint32(e[end:])
}

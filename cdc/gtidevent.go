package cdc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
)

// A mysqlGTID is a GTID of MySQL.
type mysqlGTID struct {
	uuid      [16]byte
	tag       string
	gno       uint64
	committed int64 // microseconds since 1970, of an event with a tag
}

// maxGNO is the largest number of a transaction that MySQL gives out.
const maxGNO = math.MaxInt64

var errGNO = errors.New("cdc: GTID event has a number that no transaction can have")

// parseGTID reads a GTID event: 1 byte flags, 16 UUID, 8 number and, from 5.7, a
// byte and two numbers for parallel apply, and from 8.0 the times of commit.
func parseGTID(e event) (g mysqlGTID, err error) {
	b := e.body()
	if len(b) < 25 {
		return g, errShortEvent
	}
	copy(g.uuid[:], b[1:17])
	g.gno = binary.LittleEndian.Uint64(b[17:])
	if g.gno == 0 || g.gno > maxGNO {
		return g, errGNO
	}
	return g, nil
}

// gtid begins the transaction of a GTID event.
func (a *assembler) gtid(e event) error {
	if err := a.start(e); err != nil {
		return err
	}
	g, err := parseGTID(e)
	if err != nil {
		return err
	}
	t := &a.tx
	t.hasID, t.uuid, t.gno = true, g.uuid, g.gno
	a.commitTime(e.body())
	return nil
}

// commitTime takes the time of commit out of a GTID event's body, if it is
// there: 7 bytes of microseconds, whose highest bit says that the time of the
// commit on the first server follows.
func (a *assembler) commitTime(b []byte) {
	if len(b) >= 49 {
		a.tx.committed = int64(binary.LittleEndian.Uint64(b[41:])>>8) &^ (1 << 55)
		a.tick(a.tx.committed / 1e6)
	}
}

// Fields of a GTID event with a tag, of MySQL's Gtid_event::define_fields.
const (
	taggedUUID      = 1
	taggedGNO       = 2
	taggedTag       = 3
	taggedCommitted = 6
)

// parseTaggedGTID reads a GTID event with a tag (MySQL 8.3), which is written by
// MySQL's serialization library: a version, a size, the number of the last field
// that must be known, and the fields, each with its number in front. Fields that
// have their default are left out.
func parseTaggedGTID(e event) (g mysqlGTID, err error) {
	r := reader{b: e.body()}
	version, _, last := r.varlen(), r.varlen(), r.varlen()
	if version != 1 || last > taggedCommitted+5 {
		return g, fmt.Errorf("cdc: tagged GTID event has version %d and fields up to %d, which this program does not know", version, last)
	}
	found := 0
	for next := uint64(0); len(r.b) > 0; {
		id := r.varlen()
		if r.bad || id < next {
			return g, errShortEvent
		}
		next = id + 1
		switch id {
		case taggedUUID:
			for i := range g.uuid {
				g.uuid[i] = byte(r.varlen())
			}
			found++
		case taggedGNO:
			g.gno = r.varlen()
			if g.gno&1 != 0 || g.gno == 0 {
				return g, errGNO // less than zero, or zero
			}
			g.gno >>= 1
			found++
		case taggedTag:
			n := r.varlen()
			if n > uint64(len(r.b)) {
				return g, errShortEvent
			}
			g.tag = string(r.bytes(int(n)))
		case taggedCommitted:
			g.committed = int64(r.varlen())
		default:
			r.varlen()
		}
		if id >= taggedCommitted {
			break // nothing after it matters
		}
	}
	if r.bad || found != 2 {
		return g, errShortEvent
	}
	return g, nil
}

// varlen reads a number of MySQL's serialization library: the lowest bits of its
// first byte that are 1 count the bytes that follow. A signed one has its sign in
// the lowest bit of the result.
func (r *reader) varlen() uint64 {
	first := r.byte()
	n := bits.TrailingZeros8(^first)
	if n == 8 {
		return r.uint64()
	}
	return uint64(first)>>(n+1) | r.uint(n)<<(7-n)
}

// taggedGTID begins the transaction of a GTID event with a tag.
func (a *assembler) taggedGTID(e event) error {
	if err := a.start(e); err != nil {
		return err
	}
	g, err := parseTaggedGTID(e)
	if err != nil {
		return err
	}
	t := &a.tx
	t.hasID, t.uuid, t.tag, t.gno, t.committed = true, g.uuid, g.tag, g.gno, g.committed
	a.tick(t.committed / 1e6)
	return nil
}

// parseMariaGTID reads MariaDB's GTID event: 8 bytes number, 4 domain, 1 flags.
func parseMariaGTID(e event) (g mariaGTID, flags byte, err error) {
	b := e.body()
	if len(b) < 13 {
		return g, 0, errShortEvent
	}
	return mariaGTID{binary.LittleEndian.Uint32(b[8:]), e.server(), binary.LittleEndian.Uint64(b)}, b[12], nil
}

// mariaGTID begins the transaction of MariaDB's GTID event.
func (a *assembler) mariaGTID(e event) error {
	if err := a.start(e); err != nil {
		return err
	}
	g, flags, err := parseMariaGTID(e)
	if err != nil {
		return err
	}
	t := &a.tx
	t.hasID, t.maria = true, g
	t.begun = flags&mariaFlagStandalone == 0
	if flags&mariaFlagPreparedXA != 0 {
		a.hold()
	}
	if flags&mariaFlagXADone != 0 {
		t.begun = false
	}
	return nil
}

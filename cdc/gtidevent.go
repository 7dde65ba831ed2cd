package cdc

import (
	"encoding/binary"
	"fmt"

	"github.com/go-mysql-org/go-mysql/serialization"
)

// A mysqlGTID is a GTID of MySQL.
type mysqlGTID struct {
	uuid      [16]byte
	tag       string
	gno       uint64
	committed int64 // microseconds since 1970, of an event with a tag
}

// parseGTID reads a GTID event: 1 byte flags, 16 UUID, 8 number and, from 5.7, a
// byte and two numbers for parallel apply, and from 8.0 the times of commit.
func parseGTID(e event) (g mysqlGTID, err error) {
	b := e.body()
	if len(b) < 25 {
		return g, errShortEvent
	}
	copy(g.uuid[:], b[1:17])
	g.gno = binary.LittleEndian.Uint64(b[17:])
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

// parseTaggedGTID reads a GTID event with a tag (MySQL 8.3), which is written by
// MySQL's serialization library.
func parseTaggedGTID(e event) (g mysqlGTID, err error) {
	flags := &serialization.FieldIntFixed{Length: 1}
	uuid := &serialization.FieldIntFixed{Length: 16}
	gno, tag := new(serialization.FieldIntVar), new(serialization.FieldString)
	committed := new(serialization.FieldUintVar)
	msg := serialization.Message{Format: serialization.Format{Fields: []serialization.Field{
		{Name: "gtid_flags", Type: flags},
		{Name: "uuid", Type: uuid},
		{Name: "gno", Type: gno},
		{Name: "tag", Type: tag},
		{Name: "last_committed", Type: new(serialization.FieldIntVar)},
		{Name: "sequence_number", Type: new(serialization.FieldIntVar)},
		{Name: "immediate_commit_timestamp", Type: committed},
		{Name: "original_commit_timestamp", Type: new(serialization.FieldUintVar), Optional: true},
		{Name: "transaction_length", Type: new(serialization.FieldUintVar)},
		{Name: "immediate_server_version", Type: new(serialization.FieldUintVar)},
		{Name: "original_server_version", Type: new(serialization.FieldUintVar), Optional: true},
		{Name: "commit_group_ticket", Optional: true},
	}}}
	if err := serialization.Unmarshal(e.body(), &msg); err != nil {
		return g, fmt.Errorf("cdc: read tagged GTID event: %w", plain(err))
	}
	if len(uuid.Value) != len(g.uuid) || gno.Value <= 0 {
		return g, errShortEvent
	}
	copy(g.uuid[:], uuid.Value)
	g.tag, g.gno, g.committed = tag.Value, uint64(gno.Value), int64(committed.Value)
	return g, nil
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
	if flags&mariaFlagXADone != 0 {
		t.begun = false
	}
	return nil
}

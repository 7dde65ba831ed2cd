package cdc

import (
	"encoding/binary"
	"fmt"

	"github.com/go-mysql-org/go-mysql/serialization"
)

// gtid reads a GTID event: 1 byte flags, 16 UUID, 8 number and, from 5.7, a
// byte and two numbers for parallel apply, and from 8.0 the times of commit.
func (a *assembler) gtid(e event) error {
	if err := a.start(e); err != nil {
		return err
	}
	b := e.body()
	if len(b) < 25 {
		return errShortEvent
	}
	t := &a.tx
	t.hasID = true
	copy(t.uuid[:], b[1:17])
	t.gno = binary.LittleEndian.Uint64(b[17:])
	a.commitTime(b)
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

// taggedGTID reads a GTID event with a tag (MySQL 8.3), which is written by
// MySQL's serialization library.
func (a *assembler) taggedGTID(e event) error {
	if err := a.start(e); err != nil {
		return err
	}
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
		return fmt.Errorf("cdc: read tagged GTID event: %w", plain(err))
	}
	t := &a.tx
	if len(uuid.Value) != len(t.uuid) || gno.Value <= 0 {
		return errShortEvent
	}
	t.hasID = true
	copy(t.uuid[:], uuid.Value)
	t.tag = tag.Value
	t.gno = uint64(gno.Value)
	t.committed = int64(committed.Value)
	a.tick(t.committed / 1e6)
	return nil
}

// mariaGTID reads MariaDB's GTID event: 8 bytes number, 4 domain, 1 flags.
func (a *assembler) mariaGTID(e event) error {
	if err := a.start(e); err != nil {
		return err
	}
	b := e.body()
	if len(b) < 13 {
		return errShortEvent
	}
	t := &a.tx
	t.hasID = true
	t.maria = mariaGTID{binary.LittleEndian.Uint32(b[8:]), e.server(), binary.LittleEndian.Uint64(b)}
	t.begun = b[12]&mariaFlagStandalone == 0
	if b[12]&mariaFlagXADone != 0 {
		t.begun = false
	}
	return nil
}

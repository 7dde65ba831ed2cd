package cdc

import (
	"context"
	"encoding/binary"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

// A logAhead is a log of one file that an assembler reads ahead.
type logAhead struct {
	t      *testing.T
	events []event
	opened []uint64 // from where
	open   int      // how many are
	at     int
}

// add puts an event at the end of the log and returns where it ends.
func (l *logAhead) add(kind byte, body string) uint64 {
	e := event(makeEvent(kind, []byte(body)))
	at := uint32(4)
	if n := len(l.events); n > 0 {
		at = l.events[n-1].logPos()
	}
	binary.LittleEndian.PutUint32(e[13:], at+uint32(len(e)))
	l.events = append(l.events, e[:len(e)-4])
	return uint64(at) + uint64(len(e))
}

func (l *logAhead) next(ctx context.Context, _ bool) (event, error) {
	from := l.opened[len(l.opened)-1]
	if l.at < 0 {
		l.at = 0
		e := event(makeEvent(evRotate, append(binary.LittleEndian.AppendUint64(nil, from), "f"...)))
		binary.LittleEndian.PutUint16(e[17:], flagArtificial)
		return e[:len(e)-4], nil
	}
	for ; l.at < len(l.events); l.at++ {
		if e := l.events[l.at]; uint64(e.logPos()) > from {
			l.at++
			return e, ctx.Err()
		}
	}
	return nil, io.EOF
}

func (l *logAhead) offset() uint64   { return 0 }
func (l *logAhead) buffered() int    { return 0 }
func (l *logAhead) received() uint64 { return 0 }
func (l *logAhead) Close() error     { return nil }

func newLogAhead(t *testing.T) (*logAhead, *assembler) {
	a, _ := newAssembler("s.*")
	l := &logAhead{t: t}
	a.ahead.open = func(_ context.Context, from *position) (events, error) {
		l.opened, l.at, l.open = append(l.opened, from.pos), -1, l.open+1
		return l, nil
	}
	a.ahead.done = func(events) { l.open-- }
	return l, a
}

func TestTheLogAheadIsReadOnce(t *testing.T) {
	l, a := newLogAhead(t)
	prove := func(table string) error {
		return a.prove(t.Context(), &tableMap{schemaN: "s", name: table}, 0)
	}
	l.add(evQuery, queryBody("s", "BEGIN"))
	l.add(evQuery, queryBody("s", "ALTER TABLE T1 ADD x int"))
	l.add(evQuery, queryBody("other", "ALTER TABLE t2 ADD x int, RENAME s.t3"))
	l.add(evQuery, queryBody("s", "TRUNCATE t4"))
	l.add(evQuery, queryBody("s", "CREATE TEMPORARY TABLE t4 (id int)"))
	end := l.add(evQuery, queryBody("s", "CREATE INDEX i ON t4 (x)"))
	require.ErrorContains(t, prove("t1"), "before the table was created or altered at f:")
	require.NoError(t, prove("t2"))
	require.ErrorContains(t, prove("t3"), "before the table")
	require.NoError(t, prove("t4"))
	require.Equal(t, []uint64{4, end, end}, l.opened, "what is known to be altered is not read for again")
	require.Zero(t, l.open)

	// Once the place of a statement is behind, it does not count.
	a.off = end
	a.at.pos = end
	require.NoError(t, prove("t1"))
	l.add(evQuery, queryBody("x", "DROP DATABASE s"))
	gone := l.add(evQuery, queryBody("x", "CREATE DATABASE s"))
	require.ErrorContains(t, prove("t1"), "before the table")
	a.off, a.at.pos = gone, gone
	require.NoError(t, prove("t1"))

	// What cannot be understood may be about any table.
	weird := l.add(evQuery, queryBody("x", "EXPLODE TABLE y"))
	require.ErrorContains(t, prove("t9"), "before a statement of which it is not known what it alters")
	a.off, a.at.pos = weird+100, weird
	n := len(l.opened)
	require.ErrorContains(t, prove("t9"), "the server's log ends before f:")
	require.Equal(t, weird, l.opened[n])
	require.Zero(t, l.open)
}

// However many tables there are, memory is bounded.
func TestWhatIsKnownOfTheLogAheadIsBounded(t *testing.T) {
	l, a := newLogAhead(t)
	var name [3]byte
	for i := range maxMentions + 1 {
		name = [3]byte{'a' + byte(i%50), 'a' + byte(i/50%50), 'a' + byte(i/2500)}
		l.add(evQuery, queryBody("s", "DROP TABLE `"+string(name[:])+"`"))
	}
	err := a.prove(t.Context(), &tableMap{schemaN: "s", name: "other"}, 0)
	require.ErrorContains(t, err, "a statement of which it is not known")
	require.LessOrEqual(t, len(a.ahead.tables), maxMentions)
}

package cdc

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
)

// A rowsLog feeds an assembler with the events of transactions of the table d.t.
type rowsLog struct {
	t   *testing.T
	a   *assembler
	out *[]string
}

func newRowsLog(t *testing.T) *rowsLog {
	a, out := newAssembler("d.*")
	a.src.opts.MaxPart = 200
	return &rowsLog{t, a, out}
}

// tableMapBody is the body of a table map of d.t (id int), with its name.
const tableMapText = "\x07\x00\x00\x00\x00\x00\x01\x00\x01d\x00\x01t\x00\x01\x03\x00\x00" + "\x04\x03\x02id"

func (l *rowsLog) row(n int) {
	body := "\x07\x00\x00\x00\x00\x00\x01\x00\x02\x00\x01\x01\x00"
	require.NoError(l.t, feed(l.a, evTableMap, 0, tableMapText))
	require.NoError(l.t, feed(l.a, evWriteRows2, 0, body+string(binary.LittleEndian.AppendUint32(nil, uint32(n)))))
}

func (l *rowsLog) say(text string) error { return feed(l.a, evQuery, 0, queryBody("d", text)) }

// rows returns the numbers in what was handed on.
func (l *rowsLog) rows() (list []int64) {
	for _, b := range *l.out {
		d := decoder{src: l.a.src}
		require.NoError(l.t, d.transaction([]byte(b)))
		for _, c := range d.changes {
			list = append(list, c.After[0].Int())
		}
	}
	return list
}

func TestRowsThatATransactionTakesBack(t *testing.T) {
	for name, c := range map[string]struct {
		log  []any // a row, or a statement
		want []int64
		bad  string
	}{
		"all":          {[]any{"BEGIN", 1, "ROLLBACK", "BEGIN", 2, "COMMIT"}, []int64{2}, ""},
		"part":         {[]any{"BEGIN", 1, "SAVEPOINT `s`", 2, "ROLLBACK TO `s`", 3, "COMMIT"}, []int64{1, 3}, ""},
		"twice":        {[]any{"BEGIN", 1, "SAVEPOINT s", 2, "ROLLBACK TO SAVEPOINT S", 3, "ROLLBACK TO s", 4, "COMMIT"}, []int64{1, 4}, ""},
		"nested":       {[]any{"BEGIN", "SAVEPOINT a", 1, "SAVEPOINT b", 2, "ROLLBACK TO b", 3, "ROLLBACK TO a", 4, "COMMIT"}, []int64{4}, ""},
		"set anew":     {[]any{"BEGIN", "SAVEPOINT a", 1, "SAVEPOINT a", 2, "ROLLBACK TO a", "COMMIT"}, []int64{1}, ""},
		"nothing left": {[]any{"BEGIN", "SAVEPOINT a", 1, "ROLLBACK TO a", "COMMIT"}, nil, ""},
		"unknown":      {[]any{"BEGIN", 1, "ROLLBACK TO a", "COMMIT"}, nil, "not known"},
		"statement":    {[]any{"BEGIN", "CREATE TABLE d.t (id int)", 1, "ROLLBACK"}, nil, "after a statement"},
		"large":        {[]any{"BEGIN", 1, 2, 3, 4, 5, 6, 7, 8, "ROLLBACK"}, nil, "so large"},
		"large part":   {[]any{"BEGIN", "SAVEPOINT a", 1, 2, 3, 4, 5, 6, 7, 8, "ROLLBACK TO a", "COMMIT"}, nil, "so large"},
		"small part":   {[]any{"BEGIN", 1, 2, 3, 4, 5, 6, 7, 8, "SAVEPOINT a", 9, "ROLLBACK TO a", "COMMIT"}, []int64{1, 2, 3, 4, 5, 6, 7, 8}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := newRowsLog(t)
			var err error
			for _, x := range c.log {
				switch x := x.(type) {
				case int:
					l.row(x)
				case string:
					err = l.say(x)
				}
			}
			if c.bad == "" {
				require.NoError(t, err)
				require.Equal(t, c.want, l.rows())
				return
			}
			var bad *EventError
			require.ErrorAs(t, err, &bad)
			require.Contains(t, bad.What, c.bad)
			require.NotEmpty(t, bad.After)
		})
	}
}

// noEvents is a log of which nothing waits.
type noEvents struct{ events }

func (noEvents) buffered() int { return 0 }

// A part with a large event is handed on as it is, and no longer the assembler's: see
// Stream.emit.
func TestALargePartIsTakenBackLikeAnother(t *testing.T) {
	for name, c := range map[string]struct {
		log []any // a row, or a statement
		bad string
	}{
		"before it": {[]any{"BEGIN", "SAVEPOINT a", 1, 2, "ROLLBACK TO a", "COMMIT"}, undoneParts},
		"behind it": {[]any{"BEGIN", 1, "SAVEPOINT a", 2, "ROLLBACK TO a", "COMMIT"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := newRowsLog(t)
			l.a.src.opts.MaxPart = 10 // each row is large
			st := &Stream{src: l.a.src, batch: make([]*dfs.Transaction, 100), in: noEvents{}, asm: *l.a}
			l.a, st.asm.out = &st.asm, st.emit
			var err error
			for _, x := range c.log {
				switch x := x.(type) {
				case int:
					l.row(x)
				case string:
					err = l.say(x)
				}
			}
			if c.bad == "" {
				require.NoError(t, err)
				for _, tx := range st.batch[:st.n] {
					*l.out = append(*l.out, string(tx.Encoded))
				}
				require.Equal(t, []int64{1}, l.rows())
				return
			}
			var bad *EventError
			require.ErrorAs(t, err, &bad)
			require.Equal(t, c.bad, bad.What)
		})
	}
}

func TestPositionsWithPreparedTransactions(t *testing.T) {
	for _, text := range []string{
		"gtid " + uuid1 + " xa:x'79',x'',1@" + uuid1 + ":3;x'7a',x'00',-5@;x'7b',x'',1@" + uuid1 + ":tag:3 " + uuid1 + ":1-3 binlog.000001:936",
		"file " + uuid1 + " xa:x'79',x'',1@log%20with%3B%25.000001:4 - log with;%.000001:936",
		"mariadb 5 xa:x'79',x'',1@binlog.000001:4 0-5-7 binlog.000001:936",
	} {
		p, err := parsePosition(dfs.Position(text))
		require.NoError(t, err, text)
		require.Equal(t, text, p.String())
		v, err := ParsePosition(dfs.Position(text))
		require.NoError(t, err)
		require.Equal(t, text, v.String())
		require.NotEmpty(t, p.xa[0].at)
		from, err := p.xa[0].position(p)
		require.NoError(t, err)
		if p.kind == byGTID {
			require.Equal(t, uuid1+":1-2", from.set.String())
			require.Equal(t, uuid1+":1-3", p.set.String())
		} else {
			require.Equal(t, uint64(4), from.pos)
		}
	}
	for _, text := range []string{"gtid s xa: - f:4", "gtid s xa:x - f:4", "gtid s xa:@y - f:4", "gtid s xa:x@%zz - f:4"} {
		_, err := parsePosition(dfs.Position(text))
		require.Error(t, err, text)
	}
}

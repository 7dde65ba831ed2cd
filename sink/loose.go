package sink

import (
	"strconv"

	"github.com/dataflowsync/dfs"
)

// An ENUM may hold no member at all: ordinal 0, which shows as '' and is what a
// session without strict mode stored for a value that was none. Servers take it
// from such sessions only, with a warning for each (1265, "Data truncated").
// So statements with one run without strict mode, and after each the number of
// warnings must be that of the ordinals 0 in it. Else the server has changed
// another value too, and the check ends in error 1242.

const (
	looseSQL  = "SET sql_mode='" + looseMode + "'"
	strictSQL = "SET sql_mode='" + sqlMode + "'"
)

// appendCheck appends a statement that fails unless the one before it gave so
// many warnings.
func appendCheck(b []byte, warnings int) []byte {
	b = append(b, ";SET @dfs_check=IF(@@warning_count="...)
	b = strconv.AppendInt(b, int64(warnings), 10)
	return append(b, ",0,(SELECT 1 UNION SELECT 2))"...)
}

// zeros counts the ordinals 0 that are written with a row, in the columns of s, or
// in all if s is nil.
func (m *mapping) zeros(row dfs.Row, s colset) (n int) {
	for _, i := range m.enums {
		if v := row[i]; v.Kind() == dfs.Uint64 && v.Uint() == 0 && (s == nil || s.has(i)) {
			n++
		}
	}
	return n
}

// groupZeros counts the ordinals 0 that rows are written with. If s is nil, those
// of an update are its changed columns.
func (m *mapping) groupZeros(op dfs.Op, rows []rowOp, s colset) (n int) {
	if len(m.enums) == 0 || op == dfs.Delete {
		return 0
	}
	for i := range rows {
		cols := s
		if cols == nil && op == dfs.Update {
			cols = m.changed(nil, &dfs.Change{Op: op, Before: rows[i].before, After: rows[i].after})
		}
		n += m.zeros(rows[i].after, cols)
	}
	return n
}

// setLoose makes the session one without strict mode, or a strict one again.
func (w *writer) setLoose(loose bool) {
	if w.loose == loose {
		return
	}
	w.loose = loose
	if loose {
		w.statement(looseSQL, uncounted)
	} else {
		w.statement(strictSQL, uncounted)
	}
}

// check follows a statement that has written so many ordinals 0.
func (w *writer) check(zeros int) {
	if w.loose {
		w.b = appendCheck(w.b, zeros)
		w.want = append(w.want, uncounted)
	}
}

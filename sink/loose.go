package sink

import (
	"context"
	"fmt"
	"strconv"

	"github.com/dataflowsync/dfs"
	"github.com/go-sql-driver/mysql"
)

// An ENUM may hold no member at all: ordinal 0, which shows as '' and is what a
// session without strict mode stored for a value that was none. Servers take it
// from such sessions only, with a warning for each (1265, "Data truncated").
// So statements with one run without strict mode, and after each the number of
// warnings must be that of the ordinals 0 in it. Else the server has changed
// another value too, and the check ends in error 1242.
//
// MySQL warns also of each literal that names one of five character sets (1287,
// "deprecated"). So text of these is stored as bytes, which a column takes as they
// are, and a row with an ordinal 0 is found by the bytes of such text in its key.

const erTruncated = 1265 // ER_WARN_DATA_TRUNCATED

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

// warned reports whether MySQL 9.7 warns of the character set where it is named.
func warned(charset string) bool {
	switch charset {
	case "dec8", "hp8", "macce", "macroman", "ucs2":
		return true
	}
	return false
}

// warnedKey reports whether a comparison that finds a row names such a character
// set, or utf8mb3, which only a comparison of whole rows names.
func (m *mapping) warnedKey() bool {
	for i := range m.columns {
		c := &m.columns[i]
		if c.asBytes && (m.key == nil || m.isKey(i)) {
			return true
		}
		if m.key == nil && c.sameText {
			switch m.to.columns[c.to].charset {
			case "utf8", "utf8mb3":
				return true
			}
		}
	}
	return false
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
		w.guarded = false // a check would come between a statement and its warnings
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

// loose executes a statement that writes so many ordinals 0, and returns how many
// rows it matched. If the server warns of anything else, nothing has happened, and
// the error is that warning.
func (m *MySQL) loose(ctx context.Context, sql []byte, zeros int) (int64, error) {
	const mark, back = "SAVEPOINT dfs_loose;" + looseSQL + ";", strictSQL + ";ROLLBACK TO SAVEPOINT dfs_loose"
	n, err := m.exec(ctx, append(appendCheck(append([]byte(mark), sql...), zeros), ";"+strictSQL...))
	switch {
	case err == nil:
		return n[2], nil
	case serverError(err) != erSubqueryRows:
		return 0, err
	}
	// The check has put itself in place of the warnings, so they are made again.
	if _, err := m.exec(ctx, append([]byte(back+";"+mark), sql...)); err != nil {
		return 0, err
	}
	rows, err := m.sess.query(ctx, "SHOW WARNINGS")
	if err != nil {
		return 0, classify(err)
	}
	if _, err := m.exec(ctx, []byte(back)); err != nil {
		return 0, err
	}
	for _, r := range rows {
		if number := uint16(r[1].uint()); number != erTruncated {
			return 0, fmt.Errorf("the target does not take the row as it is: %w", &mysql.MySQLError{Number: number, Message: r[2].text})
		}
	}
	return 0, fmt.Errorf("the target changes a value of the row, or one that it makes from it, beside the ENUM that holds no member: "+
		"it warns %d times for %d", len(rows), zeros)
}

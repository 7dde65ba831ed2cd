package sink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/rowevent"
	"github.com/go-sql-driver/mysql"
)

// Servers hold text that they would not take by SQL: bytes of 0x80 and more in
// ascii, which MySQL 5.6 and MariaDB let pass, or what an older version, another
// table of the character set or a row event has stored. The rule is that it
// arrives as the same bytes or is an error. Servers whose account may use row events
// are given them by one, as a replica would be; else,
// for a TEXT, where an UPDATE writes what has an index, and where the table has
// triggers or CHECK constraints, the server's refusal stands, as a TextError. A row
// that such bytes are needed to find is found by comparing bytes.

// Errors of text that is none in its character set.
const (
	erInvalidString = 1300 // ER_INVALID_CHARACTER_STRING, of a literal
	erWrongText     = 1366 // ER_TRUNCATED_WRONG_VALUE_FOR_FIELD, of a column
	erCannotConvert = 3854 // ER_CANNOT_CONVERT_STRING

	erWrongDate = 1292 // ER_TRUNCATED_WRONG_VALUE
	erTooLong   = 1406 // ER_DATA_TOO_LONG
)

func refusesText(err error) bool {
	var server *mysql.MySQLError
	if !errors.As(err, &server) {
		return false
	}
	switch server.Number {
	case erInvalidString, erCannotConvert, erSubqueryRows: // the last for appendText
		return true
	case erWrongText: // "Incorrect string value", or integer, or decimal: in any language that word is the same
		return strings.Contains(server.Message, "string")
	}
	return false
}

// withFit adds the cure to an error about a value that the target's column cannot hold.
func withFit(err error) error {
	switch serverError(err) {
	case erWrongText, erTruncated, erDataOutOfRange, erWrongDate, erTooLong:
		return fmt.Errorf("%w: the target's column cannot hold the value: give it the type that it has on the source, or convert the value on the way", err)
	}
	return err
}

// mayBeNoText reports whether s may be none in the character set. A comparison
// with it then holds for no row, and that is no error.
func mayBeNoText(charset, s string) bool {
	switch charset {
	case "utf8mb4":
		return !utf8.ValidString(s)
	case "utf8", "utf8mb3":
		return !utf8.ValidString(s) || strings.IndexFunc(s, func(r rune) bool { return r > 0xffff }) >= 0
	case "ucs2":
		return len(s)%2 != 0
	case "utf16", "utf16le", "utf32":
		return true
	case "ascii", "gbk", "sjis", "cp932", "big5", "gb18030", "gb2312", "euckr", "ujis", "eucjpms":
		return strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf }) >= 0
	}
	return false
}

// findsNoText reports whether a row that was not found may have to be found by the
// bytes of its text.
func (m *mapping) findsNoText(r *rowOp) bool {
	for i := range r.before {
		v := r.before[i]
		if v.Kind() == dfs.String && m.columns[i].sameText && (m.key == nil || slices.Contains(m.key, i)) &&
			mayBeNoText(m.src.Columns[i].Charset, v.Text()) {
			return true
		}
	}
	return false
}

// rawRow applies a row of which the server has refused the text, with the error
// refused, or which was not found for that reason. It returns how many rows matched.
func (m *MySQL) rawRow(ctx context.Context, g *group, r *rowOp, refused error) (int64, error) {
	if g.op != dfs.Insert {
		raw := *g
		raw.raw = true
		n, err := m.exec(ctx, g.m.appendSingle(nil, &raw, r))
		if err == nil {
			return n[0], nil
		}
		if g.op == dfs.Delete || !refusesText(err) {
			return 0, err
		}
	}
	rows, ok := m.rawEvent(g, r)
	if !ok {
		if serverError(refused) == erSubqueryRows {
			refused = fmt.Errorf("a text has half a character at its end: %w", refused)
		}
		return 0, refused
	}
	if err := m.writer.verifyEvents(g.m); err != nil {
		return 0, err
	}
	b, err := g.m.events.Append(nil, rows, 1, func(int) (dfs.Row, dfs.Row) { return r.before, r.after })
	if err != nil {
		return 0, cmp.Or(refused, err)
	}
	sql := rowevent.AppendStatement(nil, b)
	if len(sql) > m.sess.srv.maxPacket {
		return 0, &tooLargeError{"a row", len(sql), m.sess.srv.maxPacket}
	}
	_, err = m.exec(ctx, sql)
	switch {
	case serverError(err) == erKeyNotFound:
		return 0, nil
	case err != nil && !isConstraint(err):
		return 0, errors.Join(refused, fmt.Errorf("by a row event: %w", err))
	case err != nil:
		return 0, err
	}
	m.stats.eventRows.Add(1)
	return 1, nil
}

// rawEvent returns how a row can go as an event, if it can.
func (m *MySQL) rawEvent(g *group, r *rowOp) (*rowevent.Rows, bool) {
	mp := g.m
	if m.sess.srv.sqlOnly != "" || mp.events == nil {
		return nil, false
	}
	rows := &rowevent.Rows{Op: g.op, Before: mp.eventKey, After: mp.eventAll, From: mp.back, NoForeignKeys: g.noFK, Raw: true}
	if g.op == dfs.Insert {
		return rows, mp.present(r.after) == nil
	}
	if rows.Before == nil {
		rows.Before = mp.eventAll
	}
	for _, j := range rows.Before {
		if r.before[mp.back[j]].Kind() == dfs.Absent {
			return nil, false
		}
	}
	rows.After = nil
	s := mp.changed(nil, &dfs.Change{Op: dfs.Update, Before: r.before, After: r.after})
	for j, i := range mp.back {
		if s.has(i) {
			if mp.to.indexed[j] {
				return nil, false
			}
			rows.After = append(rows.After, j)
		}
	}
	return rows, true
}

// appendRaw appends a comparison of a text's bytes, if they are in the character
// set of the column.
func (c *column) appendRaw(b []byte, v dfs.Value) ([]byte, bool) {
	if v.Kind() != dfs.String || !c.sameText {
		return b, false
	}
	b = appendIdent(append(b, "CAST("...), c.name)
	return appendQuoted(append(b, " AS BINARY)=_binary"...), v.Text()), true
}

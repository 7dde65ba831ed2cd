package sink

import (
	"context"
	"errors"
	"io"
	"strconv"
	"sync"

	"github.com/dataflowsync/dfs"
	"github.com/jackc/pgx/v5/pgconn"
)

// Rows of one group go by COPY, if they are to be inserted, or as arrays of keys and
// new values, of which unnest makes a table to join with. So one statement has as
// many rows as fit, whatever the columns, and PostgreSQL reads each value with the
// input function of its column's type.

// copyFrom is how many rows make COPY cheaper than INSERT, which is sent together
// with what comes before and after.
const copyFrom = 3

// pgWriter gathers statements, to be sent together.
type pgWriter struct {
	p     *pgBackend
	ctx   context.Context
	batch pgconn.Batch
	want  []int64
	size  int
}

// write executes statements, and then groups, and checks what they matched. After an
// error the transaction is to be undone, or what came since a savepoint.
func (p *pgBackend) write(ctx context.Context, before []stmt, groups []group) error {
	if !p.connected() {
		return errPGLost
	}
	w := &pgWriter{p: p, ctx: ctx}
	for _, s := range before {
		if err := w.add(s); err != nil {
			return err
		}
	}
	for i := range groups {
		if err := w.group(&groups[i]); err != nil {
			// A value that cannot be held is found before it is sent. What came before it
			// goes all the same, since it may have the savepoint to return to.
			if e := w.flush(); e != nil {
				return e
			}
			return err
		}
	}
	if s, err := p.role(nil, false); err != nil || s != "" {
		if err := errors.Join(err, w.add(stmt{sql: s, want: uncounted})); err != nil {
			return err
		}
	}
	return w.flush()
}

func (w *pgWriter) add(s stmt) error {
	list, err := params(s.args)
	if err != nil {
		return err
	}
	w.batch.ExecParams(s.sql, list, nil, nil, nil)
	w.want = append(w.want, s.want)
	w.size += len(s.sql)
	for _, a := range list {
		w.size += len(a)
	}
	if w.size >= w.p.maxBytes || len(w.want) >= 1000 {
		return w.flush()
	}
	return nil
}

// flush sends what was gathered, and checks what each statement matched.
func (w *pgWriter) flush() error {
	if len(w.want) == 0 {
		return nil
	}
	p, want := w.p, w.want
	p.core.stats.statements.Add(uint64(len(want)))
	results := p.conn.ExecBatch(w.ctx, &w.batch)
	w.batch, w.want, w.size = pgconn.Batch{}, nil, 0
	var counts []int64
	for results.NextResult() {
		tag, err := results.ResultReader().Close()
		if err != nil {
			break // Close says it again
		}
		counts = append(counts, tag.RowsAffected())
	}
	if err := results.Close(); err != nil {
		return pgClassify(err)
	}
	for i, n := range want {
		switch {
		case i >= len(counts):
			return errors.New("the target answered fewer statements than it was sent")
		case n == fence && counts[i] != 1:
			return errFence
		case n >= 0 && counts[i] != n:
			return errCount
		}
	}
	return nil
}

func (w *pgWriter) group(g *group) error {
	s, err := w.p.role(g.m.to, g.noFK)
	if err == nil && s != "" {
		err = w.add(stmt{sql: s, want: uncounted})
	}
	if err != nil {
		return err
	}
	switch {
	case g.op == dfs.Insert && !g.part && !g.serial && len(g.rows) >= copyFrom && len(g.m.written(g.cols)) > 0:
		return w.copy(g)
	case g.serial || g.part || g.op == dfs.Insert || len(g.rows) == 1:
		for i := range g.rows {
			list, err := w.p.core.statements(g, &g.rows[i])
			if err != nil {
				return err
			}
			for _, s := range list {
				if err := w.add(s); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return w.arrays(g)
}

// copy inserts the rows of a group by COPY, which fails where INSERT would.
func (w *pgWriter) copy(g *group) error {
	if err := w.flush(); err != nil {
		return err
	}
	cols := g.m.written(g.cols)
	r := &copyReader{m: g.m, cols: cols, rows: g.rows, buf: w.p.copy[:0]}
	tag, err := w.p.conn.CopyFrom(w.ctx, r, "COPY "+w.p.ident(g.m.to)+" ("+g.m.names(cols)+") FROM STDIN")
	r.end()
	w.p.copy = r.buf[:0]
	w.p.core.stats.statements.Add(1)
	switch {
	case r.err != nil:
		return r.err
	case err != nil:
		return pgClassify(err)
	case tag.RowsAffected() != int64(len(g.rows)):
		return errCount // a trigger, or a rule, has done otherwise
	}
	return nil
}

// copyReader gives rows in the text format of COPY.
type copyReader struct {
	mu    sync.Mutex
	ended bool

	m    *mapping
	cols []int
	rows []rowOp
	buf  []byte
	at   int // what of buf was read
	one  []byte
	err  error
}

// end waits for a Read, and lets none begin. When it loses the connection, the driver
// returns while its goroutine may still read, and the rows are about to be forgotten.
func (r *copyReader) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
}

func (r *copyReader) Read(to []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return 0, io.ErrClosedPipe
	}
	if r.at == len(r.buf) {
		r.buf, r.at = r.buf[:0], 0
		for len(r.rows) > 0 && len(r.buf) < 60<<10 {
			if r.err = r.row(r.rows[0].after); r.err != nil {
				return 0, r.err
			}
			r.rows = r.rows[1:]
		}
		if len(r.buf) == 0 {
			return 0, io.EOF
		}
	}
	n := copy(to, r.buf[r.at:])
	r.at += n
	return n, nil
}

// copyEscapes holds the letter that follows the backslash.
var copyEscapes = [256]byte{'\b': 'b', '\f': 'f', '\n': 'n', '\r': 'r', '\t': 't', '\v': 'v', '\\': '\\'}

func (r *copyReader) row(row dfs.Row) error {
	for k, i := range r.cols {
		if k > 0 {
			r.buf = append(r.buf, '\t')
		}
		if row[i].IsNull() {
			r.buf = append(r.buf, `\N`...)
			continue
		}
		if r.one == nil {
			r.one = make([]byte, 0, 256)
		}
		text, err := r.m.text[i](r.one[:0], row[i])
		if err != nil {
			return err
		}
		if text == nil {
			r.buf = append(r.buf, `\N`...)
			continue
		}
		r.one = text
		from := 0
		for at, c := range text {
			if e := copyEscapes[c]; e != 0 {
				r.buf = append(append(r.buf, text[from:at]...), '\\', e)
				from = at + 1
			}
		}
		r.buf = append(r.buf, text[from:]...)
	}
	r.buf = append(r.buf, '\n')
	return nil
}

// arrays updates or deletes the rows of a group, which are found by their key.
func (w *pgWriter) arrays(g *group) error {
	m, p := g.m, w.p
	cols := m.key
	n := len(cols)
	if g.op == dfs.Update {
		cols = append(append([]int(nil), cols...), m.written(g.cols)...)
	}
	sql := "DELETE FROM " + p.ident(m.to) + " t USING "
	if g.op == dfs.Update {
		sql = "UPDATE " + p.ident(m.to) + " t SET "
		for k, i := range cols[n:] {
			if k > 0 {
				sql += ","
			}
			sql += quoteName(m.columns[i].name) + "=v.c" + itoa(n+k)
		}
		sql += " FROM "
	}
	sql += "unnest("
	names := ""
	for k, i := range cols {
		if k > 0 {
			sql, names = sql+",", names+","
		}
		sql += p.place(k+1) + "::" + m.to.columns[m.columns[i].to].typ + "[]"
		names += "c" + itoa(k)
	}
	sql += ") v(" + names + ") WHERE "
	for k, i := range m.key {
		if k > 0 {
			sql += " AND "
		}
		sql += "t." + quoteName(m.columns[i].name) + "=v.c" + itoa(k)
	}
	for rows := g.rows; len(rows) > 0; {
		lists := make([][]byte, len(cols))
		size, taken := 0, 0
		var one []byte
		for taken < len(rows) && taken < p.maxRows && size < p.maxBytes {
			r := &rows[taken]
			taken++
			for k, i := range cols {
				row := r.before
				if k >= n {
					row = r.after
				}
				b := append(lists[k], "{,"[min(taken-1, 1)])
				before := len(b)
				var text []byte
				var err error
				if !row[i].IsNull() {
					if one == nil {
						one = make([]byte, 0, 64)
					}
					if text, err = m.text[i](one[:0], row[i]); err != nil {
						return err
					}
				}
				if text == nil {
					b = append(b, "NULL"...)
				} else {
					one = text
					b = appendElement(b, text)
				}
				size += len(b) - before
				lists[k] = b
			}
		}
		args := make([]any, len(cols))
		for k := range lists {
			args[k] = append(lists[k], '}')
		}
		if err := w.add(stmt{sql, args, g.wants(taken)}); err != nil {
			return err
		}
		rows = rows[taken:]
	}
	return nil
}

// appendElement appends an element of an array's text, in quotes.
func appendElement(b, text []byte) []byte {
	b = append(b, '"')
	from := 0
	for at, c := range text {
		if c == '"' || c == '\\' {
			b = append(append(b, text[from:at]...), '\\', c)
			from = at + 1
		}
	}
	return append(append(b, text[from:]...), '"')
}

func itoa(n int) string { return strconv.Itoa(n) }

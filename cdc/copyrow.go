package cdc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	gomysql "github.com/go-mysql-org/go-mysql/mysql"

	"github.com/dataflowsync/dfs"
)

// A wireColumn is how one column comes in a row of a prepared statement, which has
// numbers as such: a FLOAT is exact, as it is not in text.
type wireColumn struct {
	kind   dfs.Kind
	fsp    int
	typ    byte // by the server's description of the result
	signed bool
}

var errNotRead = errors.New("cdc: the type is not read")

// wireColumn returns how a column of the type comes.
func (s *Source) wireColumn(c *dfs.Column) (w wireColumn, err error) {
	name, rest, _ := strings.Cut(c.Type, "(")
	name, sign, _ := strings.Cut(name, " ")
	unsigned := strings.Contains(sign, "unsigned") || strings.HasSuffix(rest, "unsigned")
	if strings.HasPrefix(name, "time") || name == "datetime" {
		fmt.Sscanf(rest, "%d", &w.fsp)
	}
	switch name {
	case "tinyint", "smallint", "mediumint", "int", "bigint":
		w.kind = dfs.Int64
		if unsigned {
			w.kind = dfs.Uint64
		}
	case "year":
		w.kind = dfs.Uint64
	case "bit", "enum", "set":
		w.kind = dfs.Uint64
	case "float":
		w.kind = dfs.Float32
	case "double":
		w.kind = dfs.Float64
	case "decimal":
		w.kind = dfs.Decimal
	case "char", "varchar", "tinytext", "text", "mediumtext", "longtext":
		w.kind = dfs.String
	case "binary", "varbinary", "uuid", "inet6", "inet4", "tinyblob", "blob", "mediumblob", "longblob", "vector",
		"geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon", "geomcollection", "geometrycollection":
		w.kind = dfs.Bytes
	case "json":
		w.kind = dfs.JSON
	case "date":
		w.kind = dfs.Date
	case "time":
		w.kind = dfs.Time
	case "datetime":
		w.kind = dfs.DateTime
	case "timestamp":
		w.kind = dfs.Timestamp
	default:
		return w, errNotRead
	}
	if w.kind == dfs.String && c.Charset == "" || w.kind == dfs.Bytes && c.Charset != "" {
		return w, errNotRead
	}
	return w, nil
}

// describe takes over what a column definition packet says.
func (w *wireColumn) describe(b []byte) error {
	r := reader{b: b}
	for range 6 { // catalog, schema, table twice, name twice
		r.bytes(r.count(1))
	}
	r.packed()
	r.uint16()
	r.uint32()
	w.typ = r.byte()
	w.signed = r.uint16()&0x20 == 0
	if r.bad {
		return errors.New("the server sent a damaged description of a column")
	}
	return nil
}

// A rowReader reads rows into memory that many of them share, and that is never
// written twice.
type rowReader struct {
	values []dfs.Value
	text   []byte
	texts  bool // some column is text or bytes
}

// row reads a packet with a row. Its size is about what dfs.Transaction.Size counts.
func (d *rowReader) row(b []byte, columns []wireColumn) (row dfs.Row, size int, err error) {
	n := len(columns)
	if len(d.values)+n > cap(d.values) {
		d.values = make([]dfs.Value, 0, max(n, 2048))
	}
	at := len(d.values)
	d.values = d.values[:at+n]
	row = dfs.Row(d.values[at : at+n : at+n])
	size = 120 + 32*n
	if d.texts {
		// All of the packet at once is cheaper than each of its texts.
		if len(d.text)+len(b) > cap(d.text) {
			d.text = make([]byte, 0, max(len(b), 64<<10))
		}
		from := len(d.text)
		d.text = append(d.text, b...)
		b = d.text[from:len(d.text):len(d.text)]
		size += len(b)
	}
	r := reader{b: b}
	r.byte()
	nulls := r.bytes((n + 9) / 8)
	if r.bad {
		return nil, 0, errShortRow
	}
	for i := range columns {
		if nulls[(i+2)/8]&(1<<((i+2)%8)) != 0 {
			continue
		}
		if err := columns[i].value(&r, &row[i]); err != nil {
			return nil, 0, err
		}
		if r.bad {
			return nil, 0, errShortRow
		}
	}
	return row, size, nil
}

var errShortRow = errors.New("the server sent a damaged row")

// value reads one value that is not NULL.
func (w *wireColumn) value(r *reader, v *dfs.Value) error {
	switch w.typ {
	case typTiny, typShort, typYear, typInt24, typLong, typLongLong:
		var n int64
		switch w.typ {
		case typTiny:
			if n = int64(r.byte()); w.signed {
				n = int64(int8(n))
			}
		case typShort, typYear:
			if n = int64(r.uint16()); w.signed {
				n = int64(int16(n))
			}
		case typInt24, typLong:
			if n = int64(r.uint32()); w.signed {
				n = int64(int32(n))
			}
		default:
			n = int64(r.uint64())
		}
		switch w.kind {
		case dfs.Int64:
			*v = dfs.IntValue(n)
		case dfs.Uint64:
			*v = dfs.UintValue(uint64(n))
		default:
			return w.unfit()
		}
		return nil
	case typFloat:
		if w.kind != dfs.Float32 {
			return w.unfit()
		}
		*v = dfs.Float32Value(math.Float32frombits(r.uint32()))
		return nil
	case typDouble:
		if w.kind != dfs.Float64 {
			return w.unfit()
		}
		*v = dfs.FloatValue(math.Float64frombits(r.uint64()))
		return nil
	case typDate, typDateTime, typTimestamp:
		return w.clock(r, v)
	case typTime:
		return w.span(r, v)
	}
	b := r.bytes(r.count(1))
	switch w.kind {
	case dfs.String:
		*v = dfs.StringValue(alias(b))
	case dfs.Bytes:
		*v = dfs.BytesValue(b)
	case dfs.Decimal:
		*v = dfs.DecimalValue(alias(withoutZeros(b)))
	case dfs.JSON:
		*v = dfs.JSONValue(alias(b))
	default:
		return w.unfit()
	}
	return nil
}

// withoutZeros cuts off zeros in front, which a ZEROFILL adds.
func withoutZeros(b []byte) []byte {
	for len(b) > 1 && b[0] == '0' && b[1] != '.' {
		b = b[1:]
	}
	return b
}

func (w *wireColumn) unfit() error {
	return fmt.Errorf("the server sent a value of type %d for a %v", w.typ, w.kind)
}

// clock reads a date, or a date and a time. What is zero at its end is left out.
func (w *wireColumn) clock(r *reader, v *dfs.Value) error {
	b := reader{b: r.bytes(int(r.byte()))}
	var year, month, day, hour, minute, second, micro int
	if n := len(b.b); n > 0 {
		year, month, day = int(b.uint16()), int(b.byte()), int(b.byte())
		if n > 4 {
			hour, minute, second = int(b.byte()), int(b.byte()), int(b.byte())
		}
		if n > 7 {
			micro = int(b.uint32())
		}
	}
	if b.bad {
		return errShortRow
	}
	switch w.kind {
	case dfs.Date:
		*v = dfs.DateValue(year, month, day)
	case dfs.DateTime:
		*v = dfs.DateTimeValue(year, month, day, hour, minute, second, micro, w.fsp)
	case dfs.Timestamp:
		us := int64(0)
		if year != 0 { // the zero timestamp is no moment
			us = time.Date(year, time.Month(month), day, hour, minute, second, 0, time.UTC).Unix()*1e6 + int64(micro)
		}
		*v = dfs.TimestampMicro(us, w.fsp)
	default:
		return w.unfit()
	}
	return nil
}

// span reads a TIME.
func (w *wireColumn) span(r *reader, v *dfs.Value) error {
	b := reader{b: r.bytes(int(r.byte()))}
	var d time.Duration
	if n := len(b.b); n > 0 {
		neg := b.byte() != 0
		days := b.uint32()
		d = time.Duration(days)*24*time.Hour + time.Duration(b.byte())*time.Hour +
			time.Duration(b.byte())*time.Minute + time.Duration(b.byte())*time.Second
		if n > 8 {
			d += time.Duration(b.uint32()) * time.Microsecond
		}
		if neg {
			d = -d
		}
	}
	if b.bad {
		return errShortRow
	}
	if w.kind != dfs.Time {
		return w.unfit()
	}
	*v = dfs.TimeValue(d, w.fsp)
	return nil
}

// A copyConn is a connection that reads rows.
type copyConn struct {
	conn *client.Conn
	in   packets
	stop func() bool
}

// openCopy opens a connection that reads rows as they are stored: without a change
// of their character set, and moments in UTC. It is closed when ctx ends.
func (s *Source) openCopy(ctx context.Context) (*copyConn, error) {
	conn, err := connect(ctx, s.cfg, func(c *client.Conn) error {
		c.UnsetCapability(gomysql.CLIENT_DEPRECATE_EOF)
		c.UnsetCapability(gomysql.CLIENT_QUERY_ATTRIBUTES)
		return nil
	})
	if err != nil {
		return nil, mark(err)
	}
	c := &copyConn{conn: conn, in: newPackets(conn, 256<<10, time.Hour)}
	wire := conn.Conn.Conn // Close of the client's is not for two goroutines
	c.stop = context.AfterFunc(ctx, func() { wire.Close() })
	limit := "max_execution_time"
	if s.maria {
		limit = "max_statement_time"
	}
	if !s.maria && !atLeast(s.known().version, 5, 8) {
		limit = "sql_buffer_result" // there is no limit
	}
	// The server waits with a write as long as the one that reads holds back.
	err = c.exec("SET SESSION time_zone = '+00:00', sql_mode = 'ALLOW_INVALID_DATES', character_set_results = NULL, " +
		"net_write_timeout = 3600, group_concat_max_len = 4294967295, autocommit = 1, sql_select_limit = 18446744073709551615, " + limit + " = 0")
	if err == nil {
		err = c.exec("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// open opens a connection to the server whose log is read.
func (c *copier) open(ctx context.Context) (*copyConn, error) {
	conn, err := c.src.openCopy(ctx)
	if err != nil {
		return nil, err
	}
	name, err := c.src.identity(conn.conn)
	if err == nil {
		err = c.sameServer(name)
	}
	if err != nil {
		conn.close()
		return nil, err
	}
	return conn, nil
}

// logEnd is Source.logEnd of the server whose log is read.
func (c *copier) logEnd(ctx context.Context, p *position) error {
	conn, err := c.src.db.Conn(ctx)
	if err != nil {
		return mark(err)
	}
	defer conn.Close()
	var name string
	if err := conn.QueryRowContext(ctx, c.src.serverName()).Scan(&name); err != nil {
		return mark(fmt.Errorf("cdc: ask which server it is: %w", err))
	}
	if err := c.sameServer(name); err != nil {
		return err
	}
	return c.src.logEndOn(ctx, conn, p)
}

func (c *copyConn) close() {
	c.stop()
	c.conn.Close()
}

// serverName is the query for what tells servers apart: server_uuid, or MariaDB's
// server_id.
func (s *Source) serverName() string {
	if s.maria {
		return "SELECT @@server_id"
	}
	return "SELECT @@server_uuid"
}

// identity returns which server a connection is to.
func (s *Source) identity(conn *client.Conn) (string, error) {
	name, err := askName(conn, s.serverName())
	return name, mark(err)
}

// askName asks the server at the other end of a connection what it is called.
func askName(conn *client.Conn, query string) (string, error) {
	res, err := conn.Execute(query)
	if err != nil {
		return "", fmt.Errorf("cdc: ask which server it is: %w", plain(err))
	}
	defer res.Close()
	return cell(res, 0, 0)
}

// cell returns a value of a result as text. The text of go-mysql lies in memory that
// goes to another result once this one is closed.
func cell(res *gomysql.Result, row, column int) (string, error) {
	v, err := res.GetString(row, column)
	return strings.Clone(v), err
}

// sameServer returns an error unless name is the server whose log is read. One
// address may lead to several, as that of a proxy, or one that has moved while an
// older connection lives on. Places in the logs of two servers mean nothing to each
// other, and so no chunk could be put in.
func (c *copier) sameServer(name string) error {
	if name == c.st.server {
		return nil
	}
	return dfs.Transient(fmt.Errorf("cdc: %s led to server %s for rows and to %s for the log: name one server, not a proxy that shares reads out",
		c.src.cfg.Addr, name, c.st.server))
}

// exec runs a statement that has no result.
func (c *copyConn) exec(query string) error {
	if err := c.conn.SetDeadline(time.Time{}); err != nil {
		return dfs.Transient(err)
	}
	if _, err := c.conn.Execute(query); err != nil {
		return mark(fmt.Errorf("%.200s: %w", query, plain(err)))
	}
	return nil
}

// ask runs a query and returns the columns of its rows as text.
func (c *copyConn) ask(query string) ([][]string, error) {
	if err := c.conn.SetDeadline(time.Time{}); err != nil {
		return nil, dfs.Transient(err)
	}
	res, err := c.conn.Execute(query)
	if err != nil {
		return nil, mark(fmt.Errorf("%.200s: %w", query, plain(err)))
	}
	defer res.Close()
	list := make([][]string, res.RowNumber())
	for i := range list {
		for j := range res.ColumnNumber() {
			v, err := cell(res, i, j)
			if err != nil {
				return nil, err
			}
			list[i] = append(list[i], v)
		}
	}
	return list, nil
}

// read runs a query and calls begun once the server has begun to read rows, and
// row with each. If row reports false the rest is not read, and the connection is
// of no use any more.
func (c *copyConn) read(ctx context.Context, query string, columns []wireColumn, begun func() error, row func(packet []byte) (bool, error)) error {
	if err := c.conn.SetDeadline(time.Time{}); err != nil {
		return dfs.Transient(err)
	}
	st, err := c.conn.Prepare(query)
	if err != nil {
		return mark(fmt.Errorf("%.200s: %w", query, plain(err)))
	}
	b := append(make([]byte, 4, 16), gomysql.COM_STMT_EXECUTE)
	b = binary.LittleEndian.AppendUint32(b, st.ID)
	if err := command(c.conn, append(b, 0, 1, 0, 0, 0)); err != nil { // no cursor, once
		return dfs.Transient(plain(err))
	}
	next := func() ([]byte, error) {
		p, err := c.in.next(ctx, true)
		switch {
		case err != nil && ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil:
			return nil, dfs.Transient(err)
		case len(p) == 0:
			return nil, dfs.Transient(errShortRow)
		case p[0] == 0xff:
			return nil, mark(parseError(p))
		}
		return p, nil
	}
	p, err := next()
	if err != nil {
		return err
	}
	r := reader{b: p}
	if n := r.packed(); r.bad || n != uint64(len(columns)) {
		return fmt.Errorf("the server sends %d columns instead of %d", n, len(columns))
	}
	for i := range columns {
		if p, err = next(); err != nil {
			return err
		}
		if err := columns[i].describe(p); err != nil {
			return err
		}
	}
	if _, err = next(); err != nil { // the end of the descriptions
		return err
	}
	for first := true; ; first = false {
		if p, err = next(); err != nil {
			return err
		}
		if first {
			// The view that the rows are read in is open now, and not before.
			if err := begun(); err != nil {
				return err
			}
		}
		if p[0] == 0xfe && len(p) < 9 {
			break
		}
		if more, err := row(p); err != nil || !more {
			return err
		}
	}
	if err := c.conn.SetDeadline(time.Time{}); err != nil {
		return dfs.Transient(err)
	}
	return st.Close()
}

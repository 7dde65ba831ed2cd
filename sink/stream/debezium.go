package stream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/dataflowsync/dfs"
)

// envelope sends a row as Debezium does.
func (e *Encoder) envelope(c *dfs.Change) error {
	if c.Part {
		return errors.New("it is a part of a row, which Debezium's envelope cannot tell: use the format json, or leave part out of the unit")
	}
	op := "c"
	switch {
	case e.tx.Snapshot:
		op = "r"
	case c.Op == dfs.Update:
		op = "u"
	case c.Op == dfs.Delete:
		op = "d"
	}
	after := c.After
	if c.Op == dfs.Update {
		after = whole(c.Before, after)
	}
	before, err := e.image(c.Before)
	if err != nil {
		return err
	}
	now, err := e.image(after)
	if err != nil {
		return err
	}
	var oldKey, newKey []byte
	if c.Before != nil {
		if oldKey, err = e.key(c.Before); err != nil {
			return err
		}
	}
	if after != nil {
		if newKey, err = e.key(after); err != nil {
			return err
		}
	}
	switch {
	case c.Op == dfs.Update && oldKey != nil && newKey != nil && !bytes.Equal(oldKey, newKey):
		if err := e.row("d", before, nil, oldKey, [2]string{"__debezium.newkey", string(newKey)}); err != nil {
			return err
		}
		if err := e.tombstone(oldKey); err != nil {
			return err
		}
		return e.row("c", nil, now, newKey, [2]string{"__debezium.oldkey", string(oldKey)})
	case c.Op == dfs.Delete:
		if err := e.row(op, before, nil, oldKey); err != nil {
			return err
		}
		return e.tombstone(oldKey)
	}
	if newKey == nil {
		newKey = oldKey
	}
	return e.row(op, before, now, newKey)
}

// whole returns the image after an update with what it leaves out because it has
// not changed.
func whole(before, after dfs.Row) dfs.Row {
	var out dfs.Row
	for i, v := range after {
		if v.Kind() == dfs.Absent && i < len(before) && before[i].Kind() != dfs.Absent {
			if out == nil {
				out = append(dfs.Row(nil), after...)
			}
			out[i] = before[i]
		}
	}
	if out == nil {
		return after
	}
	return out
}

func (e *Encoder) image(row dfs.Row) ([]byte, error) {
	if row == nil {
		return nil, nil
	}
	return e.appendRow(make([]byte, 0, 128), row, nil)
}

func (e *Encoder) tombstone(key []byte) error {
	if e.o.NoTombstones || key == nil {
		return nil
	}
	return e.send(Message{Topic: e.info.topic, Key: key, Table: e.last})
}

// row sends one envelope.
func (e *Encoder) row(op string, before, after, key []byte, headers ...[2]string) error {
	b := make([]byte, 0, 512+len(before)+len(after))
	if e.o.Schemas {
		b = append(append(append(b, `{"schema":`...), e.info.valueSchema...), `,"payload":`...)
	}
	b = appendOrNull(append(b, `{"before":`...), before)
	b = appendOrNull(append(b, `,"after":`...), after)
	b = e.source(append(b, `,"source":`...), e.last.Schema, e.last.Name)
	b = append(b, `,"transaction":`...)
	if e.o.NoTransactions {
		b = append(b, "null"...)
	} else {
		b = appendText(append(b, `{"id":`...), e.txID())
		b = strconv.AppendInt(append(b, `,"total_order":`...), int64(e.rows), 10)
		b = strconv.AppendInt(append(b, `,"data_collection_order":`...), int64(e.per[e.info.name]), 10)
		b = append(b, '}')
	}
	b = append(append(append(b, `,"op":"`...), op...), '"')
	b = append(e.times(b, e.o.now()), '}')
	if e.o.Schemas {
		b = append(b, '}')
	}
	return e.send(Message{Topic: e.info.topic, Key: key, Value: b, Headers: headers, Table: e.last})
}

func appendOrNull(b, v []byte) []byte {
	if v == nil {
		return append(b, "null"...)
	}
	return append(b, v...)
}

// times appends a moment in three units, each after a comma.
func (e *Encoder) times(b []byte, t time.Time) []byte {
	b = strconv.AppendInt(append(b, `,"ts_ms":`...), t.UnixMilli(), 10)
	b = strconv.AppendInt(append(b, `,"ts_us":`...), t.UnixMicro(), 10)
	return strconv.AppendInt(append(b, `,"ts_ns":`...), t.UnixNano(), 10)
}

// place finds the file and the offset in a position of package cdc, which has them
// as binlog.000001:4711.
var place = regexp.MustCompile(`(\S+\.\d+):(\d+)(\s|$)`)

// gtid is what MySQL or MariaDB calls a transaction.
var gtid = regexp.MustCompile(`^([0-9a-fA-F-]{36}(:\w+)?:\d+|\d+-\d+-\d+)$`)

// source appends where a change comes from.
func (e *Encoder) source(b []byte, schema, table string) []byte {
	b = append(b, `{"version":"dfs","connector":"mysql","name":`...)
	b = appendText(b, e.o.Name)
	b = e.times(b, e.committed())
	b = append(b, `,"snapshot":"`...)
	b = strconv.AppendBool(b, e.tx.Snapshot)
	b = appendText(append(b, `","db":`...), schema)
	b = append(b, `,"sequence":null,"table":`...)
	if table == "" {
		b = append(b, "null"...)
	} else {
		b = appendText(b, table)
	}
	b = append(b, `,"server_id":0,"gtid":`...)
	if gtid.MatchString(e.tx.ID) {
		b = appendText(b, e.tx.ID)
	} else {
		b = append(b, "null"...)
	}
	file, pos := "", "0"
	if m := place.FindStringSubmatch(string(e.tx.Pos)); m != nil {
		file, pos = m[1], m[2]
	}
	b = appendText(append(b, `,"file":`...), file)
	b = append(append(b, `,"pos":`...), pos...)
	return append(b, `,"row":0,"thread":null,"query":null}`...)
}

// schemaChange sends a statement that alters tables, to the topic of such.
func (e *Encoder) schemaChange(c *dfs.Change, schema string) error {
	table := ""
	if c.Table != nil {
		table = c.Table.Name
	}
	key, b := []byte(`{"databaseName":`), make([]byte, 0, 512)
	key = append(appendText(key, schema), '}')
	b = e.source(append(b, `{"source":`...), schema, table)
	b = e.times(b, e.o.now())
	b = appendText(append(b, `,"databaseName":`...), schema)
	b = appendText(append(b, `,"schemaName":null,"ddl":`...), c.Query)
	b = append(b, `,"tableChanges":[]}`...)
	if e.o.Schemas {
		// Its shape has no types that could not be told from the values.
		key = append(append([]byte(`{"schema":`+schemaKey+`,"payload":`), key...), '}')
		b = append(append([]byte(`{"schema":null,"payload":`), b...), '}')
	}
	return e.send(Message{Topic: e.o.Name, Key: key, Value: b, Table: c.Table})
}

func (e *Encoder) transactionMessage(b []byte) Message {
	key := append(appendText([]byte(`{"id":`), e.txID()), '}')
	if e.o.Schemas {
		b = append(append([]byte(`{"schema":`+transactionSchema+`,"payload":`), b...), '}')
		key = append(append([]byte(`{"schema":`+transactionKeySchema+`,"payload":`), key...), '}')
	}
	return Message{Topic: e.o.Name + ".transaction", Key: key, Value: b}
}

// appendConnect appends a value as Debezium's connector does, by its section "Data
// type mappings".
func (e *Encoder) appendConnect(b []byte, c *columnInfo, v dfs.Value) ([]byte, error) {
	switch v.Kind() {
	case dfs.Null:
		return append(b, "null"...), nil
	case dfs.Uint64:
		switch {
		case c.named():
			return appendText(b, c.member(v.Uint())), nil
		case c.base == "bit" && c.bits <= 1:
			return strconv.AppendBool(b, v.Uint() != 0), nil
		case c.base == "bit":
			var le [8]byte
			binary.LittleEndian.PutUint64(le[:], v.Uint())
			return appendBase64(b, le[:(c.bits+7)/8]), nil
		case c.base == "bigint" && e.o.PreciseUnsigned:
			return appendBase64(b, twosComplement(new(big.Int).SetUint64(v.Uint()))), nil
		case v.Uint() > math.MaxInt64:
			return b, fmt.Errorf("%d is more than a signed integer of 64 bits holds, which is what Debezium's envelope has for it: set PreciseUnsigned", v.Uint())
		}
		return v.Append(b), nil
	case dfs.Int64:
		return v.Append(b), nil
	case dfs.Float32, dfs.Float64:
		return appendFloat(b, v)
	case dfs.Decimal:
		n, ok := unscaled(v.Text(), c.scale)
		if !ok {
			return b, fmt.Errorf("%q is no decimal of scale %d", v.Text(), c.scale)
		}
		return appendBase64(b, twosComplement(n)), nil
	case dfs.String:
		s, err := e.text(c, v.Text())
		return appendText(b, s), err
	case dfs.JSON:
		return appendText(b, v.Text()), nil
	case dfs.Bytes:
		switch {
		case c.base == "vector":
			return appendVector(b, v.Bytes())
		case c.geometry() && len(v.Bytes()) > 4:
			raw := v.Bytes()
			b = appendBase64(append(b, `{"wkb":`...), raw[4:])
			b = append(b, `,"srid":`...)
			return append(strconv.AppendUint(b, uint64(binary.LittleEndian.Uint32(raw)), 10), '}'), nil
		}
		return appendBase64(b, v.Bytes()), nil
	case dfs.Time:
		return strconv.AppendInt(b, v.Duration().Microseconds(), 10), nil
	}
	return e.appendMoment(b, c, v), nil
}

// appendMoment appends a date or a time. What is zero, or has a month or a day of
// zero, is null where the column may be, and else the epoch.
func (e *Encoder) appendMoment(b []byte, c *columnInfo, v dfs.Value) []byte {
	y, mo, d, h, mi, s, us := v.Clock()
	if mo == 0 || d == 0 {
		switch {
		case c.Nullable:
			return append(b, "null"...)
		case v.Kind() == dfs.Timestamp:
			return append(b, `"1970-01-01T00:00:00Z"`...)
		}
		return append(b, '0')
	}
	t := time.Date(y, time.Month(mo), d, h, mi, s, us*1000, time.UTC)
	switch {
	case v.Kind() == dfs.Date:
		return strconv.AppendInt(b, floorDiv(t.Unix(), 86400), 10)
	case v.Kind() == dfs.Timestamp:
		return append(t.AppendFormat(append(b, '"'), stampLayout(v.FSP())), '"')
	case v.FSP() <= 3:
		return strconv.AppendInt(b, t.UnixMilli(), 10)
	}
	return strconv.AppendInt(b, t.UnixMicro(), 10)
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

func (c *columnInfo) geometry() bool {
	switch c.base {
	case "geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon", "geometrycollection", "geomcollection":
		return true
	}
	return false
}

// unscaled returns the number that a decimal is, without its point.
func unscaled(s string, scale int) (*big.Int, bool) {
	whole, frac, _ := strings.Cut(s, ".")
	if len(frac) > scale {
		if strings.Trim(frac[scale:], "0") != "" {
			return nil, false
		}
		frac = frac[:scale]
	}
	return new(big.Int).SetString(whole+frac+strings.Repeat("0", scale-len(frac)), 10)
}

// twosComplement returns the number as Java's BigInteger.toByteArray does: the
// fewest bytes, the highest first, with room for the sign.
func twosComplement(n *big.Int) []byte {
	if n.Sign() >= 0 {
		b := n.Bytes()
		if len(b) == 0 || b[0]&0x80 != 0 {
			b = append([]byte{0}, b...)
		}
		return b
	}
	length := new(big.Int).Sub(new(big.Int).Neg(n), big.NewInt(1)).BitLen()/8 + 1
	b := new(big.Int).Add(n, new(big.Int).Lsh(big.NewInt(1), uint(8*length))).Bytes()
	return b
}

func appendVector(b, v []byte) ([]byte, error) {
	b = append(b, '[')
	for i := 0; i+4 <= len(v); i += 4 {
		if i > 0 {
			b = append(b, ',')
		}
		var err error
		if b, err = appendFloat(b, dfs.Float32Value(math.Float32frombits(binary.LittleEndian.Uint32(v[i:])))); err != nil {
			return b, err
		}
	}
	return append(b, ']'), nil
}

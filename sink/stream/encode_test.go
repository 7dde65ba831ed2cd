package stream

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
)

// customers is the table of the examples in Debezium's documentation.
var customers = &dfs.Table{Schema: "inventory", Name: "customers", Key: []int{0}, Columns: []dfs.Column{
	{Name: "id", Type: "int"},
	{Name: "first_name", Type: "varchar(255)", Charset: "utf8mb4"},
	{Name: "last_name", Type: "varchar(255)", Charset: "utf8mb4"},
	{Name: "email", Type: "varchar(255)", Charset: "utf8mb4"},
}}

func customer(id int64, first string) dfs.Row {
	return dfs.Row{dfs.IntValue(id), dfs.StringValue(first), dfs.StringValue("Kretchmar"), dfs.StringValue("annek@noanswer.org")}
}

const txid = "0e4d5dcd-a33b-11ea-80f1-02010a22a99e:10"

func encode(t testing.TB, o *Options, txs ...*dfs.Transaction) (list []Message) {
	t.Helper()
	o.now = func() time.Time { return time.Unix(0, 1465491411815437158) }
	e, err := NewEncoder(o)
	require.NoError(t, err)
	for _, tx := range txs {
		require.NoError(t, e.Encode(tx, func(m Message) error {
			require.True(t, m.Value == nil || json.Valid(m.Value), "%s", m.Value)
			require.True(t, m.Key == nil || json.Valid(m.Key), "%s", m.Key)
			list = append(list, m)
			return nil
		}))
	}
	return list
}

func tx(changes ...dfs.Change) *dfs.Transaction {
	return &dfs.Transaction{Checkpoint: dfs.Checkpoint{Seq: 7, Pos: "gtid 0e4d5dcd-a33b-11ea-80f1-02010a22a99e " + txid + " mysql-bin.000003:484"},
		ID: txid, Committed: time.Unix(1465581029, 100e6), Changes: changes}
}

const sourceBlock = `{"version":"dfs","connector":"mysql","name":"mysql-server-1","ts_ms":1465581029100,"ts_us":1465581029100000,"ts_ns":1465581029100000000,` +
	`"snapshot":"false","db":"inventory","sequence":null,"table":"customers","server_id":0,"gtid":"` + txid + `","file":"mysql-bin.000003","pos":484,` +
	`"row":0,"thread":null,"query":null}`

const times = `"ts_ms":1465491411815,"ts_us":1465491411815437,"ts_ns":1465491411815437158}`

// TestDebezium compares each kind of event with the form that Debezium's
// documentation gives for it, byte by byte.
func TestDebezium(t *testing.T) {
	got := encode(t, &Options{Format: Debezium, Name: "mysql-server-1"}, tx(
		dfs.Change{Op: dfs.Insert, Table: customers, After: customer(1004, "Anne")},
		dfs.Change{Op: dfs.Update, Table: customers, Before: customer(1004, "Anne"), After: customer(1004, "Anne Marie")},
		dfs.Change{Op: dfs.Update, Table: customers, Before: customer(1004, "Anne"), After: customer(1005, "Anne")},
		dfs.Change{Op: dfs.Delete, Table: customers, Before: customer(1005, "Anne")},
		dfs.Change{Op: dfs.DDL, Table: customers, Query: "ALTER TABLE customers ADD middle_name varchar(255)"}))
	row := func(id, first string) string {
		return `{"id":` + id + `,"first_name":"` + first + `","last_name":"Kretchmar","email":"annek@noanswer.org"}`
	}
	event := func(op, before, after, order string) string {
		return `{"before":` + before + `,"after":` + after + `,"source":` + sourceBlock +
			`,"transaction":{"id":"` + txid + `","total_order":` + order + `,"data_collection_order":` + order + `},"op":"` + op + `",` + times
	}
	want := []Message{
		{Topic: "mysql-server-1.transaction", Key: []byte(`{"id":"` + txid + `"}`),
			Value: []byte(`{"status":"BEGIN","id":"` + txid + `","ts_ms":1465581029100,"event_count":null,"data_collections":null}`)},
		{Key: []byte(`{"id":1004}`), Value: []byte(event("c", "null", row("1004", "Anne"), "1"))},
		{Key: []byte(`{"id":1004}`), Value: []byte(event("u", row("1004", "Anne"), row("1004", "Anne Marie"), "2"))},
		{Key: []byte(`{"id":1004}`), Value: []byte(event("d", row("1004", "Anne"), "null", "3")),
			Headers: [][2]string{{"__debezium.newkey", `{"id":1005}`}}},
		{Key: []byte(`{"id":1004}`)},
		{Key: []byte(`{"id":1005}`), Value: []byte(event("c", "null", row("1005", "Anne"), "3")),
			Headers: [][2]string{{"__debezium.oldkey", `{"id":1004}`}}},
		{Key: []byte(`{"id":1005}`), Value: []byte(event("d", row("1005", "Anne"), "null", "4"))},
		{Key: []byte(`{"id":1005}`)},
		{Topic: "mysql-server-1", Key: []byte(`{"databaseName":"inventory"}`), Value: []byte(`{"source":` + sourceBlock + "," + times[:len(times)-1] +
			`,"databaseName":"inventory","schemaName":null,"ddl":"ALTER TABLE customers ADD middle_name varchar(255)","tableChanges":[]}`)},
		{Topic: "mysql-server-1.transaction", Key: []byte(`{"id":"` + txid + `"}`),
			Value: []byte(`{"status":"END","id":"` + txid + `","ts_ms":1465581029100,"event_count":5,` +
				`"data_collections":[{"data_collection":"inventory.customers","event_count":4}]}`)},
	}
	require.Len(t, got, len(want))
	ids := make(map[string]bool)
	for i, w := range want {
		if w.Topic == "" {
			w.Topic = "mysql-server-1.inventory.customers"
		}
		require.Equal(t, w.Topic, got[i].Topic)
		require.Equal(t, string(w.Key), string(got[i].Key))
		require.Equal(t, string(w.Value), string(got[i].Value))
		require.Equal(t, w.Value == nil, got[i].Value == nil)
		require.Equal(t, w.Headers, got[i].Headers)
		ids[got[i].ID] = true
	}
	require.Len(t, ids, len(want))
}

func TestDebeziumReadsRowsThatWereThere(t *testing.T) {
	read := tx(dfs.Change{Op: dfs.Insert, Table: customers, After: customer(1, "a")})
	read.Snapshot = true
	got := encode(t, &Options{Format: Debezium, NoTransactions: true}, read)
	require.Len(t, got, 1)
	require.Contains(t, string(got[0].Value), `"op":"r"`)
	require.Contains(t, string(got[0].Value), `"snapshot":"true"`)
	require.Contains(t, string(got[0].Value), `"transaction":null`)
}

// types has a column of each type, with its value in both formats.
var types = []struct {
	column     dfs.Column
	value      dfs.Value
	json, dbz  string
	connectAs  string
	semanticAs string
}{
	{dfs.Column{Name: "t", Type: "tinyint"}, dfs.IntValue(-128), "-128", "-128", "int16", ""},
	{dfs.Column{Name: "bu", Type: "bigint unsigned"}, dfs.UintValue(1<<63 - 1), "9223372036854775807", "9223372036854775807", "int64", ""},
	{dfs.Column{Name: "b", Type: "bigint"}, dfs.IntValue(-1 << 63), "-9223372036854775808", "-9223372036854775808", "int64", ""},
	{dfs.Column{Name: "iu", Type: "int unsigned"}, dfs.UintValue(4294967295), "4294967295", "4294967295", "int64", ""},
	{dfs.Column{Name: "f", Type: "float"}, dfs.Float32Value(0.1), "0.1", "0.1", "float", ""},
	{dfs.Column{Name: "d", Type: "double"}, dfs.FloatValue(1e300), "1e+300", "1e+300", "double", ""},
	{dfs.Column{Name: "n", Type: "decimal(10,2)"}, dfs.DecimalValue("-12.50"), `"-12.50"`, `"+x4="`, "bytes", "org.apache.kafka.connect.data.Decimal"},
	{dfs.Column{Name: "s", Type: "varchar(9)", Charset: "utf8mb4"}, dfs.StringValue("a\"\\\n\x01é😀"), `"a\"\\\n\u0001é😀"`, `"a\"\\\n\u0001é😀"`, "string", ""},
	{dfs.Column{Name: "l", Type: "varchar(9)", Charset: "latin1"}, dfs.StringValue("\xe9\x80\x81"), "\"é€\u0081\"", "\"é€\u0081\"", "string", ""},
	{dfs.Column{Name: "g", Type: "varchar(9)", Charset: "gbk"}, dfs.StringValue("\xc4\xe3"), `"你"`, `"你"`, "string", ""},
	{dfs.Column{Name: "x", Type: "varbinary(9)"}, dfs.BytesValue([]byte{0, 255}), `"AP8="`, `"AP8="`, "bytes", ""},
	{dfs.Column{Name: "j", Type: "json"}, dfs.JSONValue("{\"a\":\n\"\\n\"}"), `{"a":"\n"}`, `"{\"a\":\n\"\\n\"}"`, "string", "io.debezium.data.Json"},
	{dfs.Column{Name: "e", Type: "enum", Members: []string{"a", "b"}}, dfs.UintValue(2), `"b"`, `"b"`, "string", "io.debezium.data.Enum"},
	{dfs.Column{Name: "st", Type: "set", Members: []string{"a", "b", "c"}}, dfs.UintValue(5), `"a,c"`, `"a,c"`, "string", "io.debezium.data.EnumSet"},
	{dfs.Column{Name: "b1", Type: "bit(1)"}, dfs.UintValue(1), "1", "true", "boolean", ""},
	{dfs.Column{Name: "b9", Type: "bit(9)"}, dfs.UintValue(257), "257", `"AQE="`, "bytes", "io.debezium.data.Bits"},
	{dfs.Column{Name: "y", Type: "year"}, dfs.UintValue(2026), "2026", "2026", "int32", "io.debezium.time.Year"},
	{dfs.Column{Name: "da", Type: "date"}, dfs.DateValue(1969, 12, 31), `"1969-12-31"`, "-1", "int32", "io.debezium.time.Date"},
	{dfs.Column{Name: "z", Type: "date"}, dfs.DateValue(0, 0, 0), `"0000-00-00"`, "0", "int32", "io.debezium.time.Date"},
	{dfs.Column{Name: "zn", Type: "datetime", Nullable: true}, dfs.DateTimeValue(2026, 0, 0, 0, 0, 0, 0, 0), `"2026-00-00 00:00:00"`, "null", "int64", "io.debezium.time.Timestamp"},
	// The documentation's own example.
	{dfs.Column{Name: "dt", Type: "datetime"}, dfs.DateTimeValue(2018, 6, 20, 6, 37, 3, 0, 0), `"2018-06-20 06:37:03"`, "1529476623000", "int64", "io.debezium.time.Timestamp"},
	{dfs.Column{Name: "d6", Type: "datetime(6)"}, dfs.DateTimeValue(2018, 6, 20, 6, 37, 3, 5, 6), `"2018-06-20 06:37:03.000005"`, "1529476623000005", "int64", "io.debezium.time.MicroTimestamp"},
	{dfs.Column{Name: "ts", Type: "timestamp"}, dfs.TimestampValue(time.Unix(1529501823, 0), 0), `"2018-06-20T13:37:03Z"`, `"2018-06-20T13:37:03Z"`, "string", "io.debezium.time.ZonedTimestamp"},
	{dfs.Column{Name: "t3", Type: "timestamp(3)"}, dfs.TimestampValue(time.Unix(1529501823, 5e6), 3), `"2018-06-20T13:37:03.005Z"`, `"2018-06-20T13:37:03.005Z"`, "string", "io.debezium.time.ZonedTimestamp"},
	{dfs.Column{Name: "tz", Type: "timestamp"}, dfs.TimestampValue(time.Time{}, 0), `"0000-00-00 00:00:00"`, `"1970-01-01T00:00:00Z"`, "string", "io.debezium.time.ZonedTimestamp"},
	{dfs.Column{Name: "ti", Type: "time(3)"}, dfs.TimeValue(-90*time.Minute, 3), `"-01:30:00.000"`, "-5400000000", "int64", "io.debezium.time.MicroTime"},
	{dfs.Column{Name: "p", Type: "point"}, dfs.BytesValue([]byte{0xe6, 0x10, 0, 0, 1, 1}), `"5hAAAAEB"`, `{"wkb":"AQE=","srid":4326}`, "struct", "io.debezium.data.geometry.Geometry"},
	{dfs.Column{Name: "v", Type: "vector(2)"}, dfs.BytesValue([]byte{0, 0, 128, 63, 0, 0, 0, 64}), `"AACAPwAAAEA="`, "[1,2]", "array", "io.debezium.data.FloatVector"},
	{dfs.Column{Name: "nu", Type: "int", Nullable: true}, dfs.NullValue(), "null", "null", "int32", ""},
}

func TestEachTypeInBothFormats(t *testing.T) {
	table := &dfs.Table{Schema: "s", Name: "types"}
	var row dfs.Row
	for _, c := range types {
		table.Columns = append(table.Columns, c.column)
		row = append(row, c.value)
	}
	change := dfs.Change{Op: dfs.Insert, Table: table, After: row}
	var got struct{ After map[string]json.RawMessage }
	list := encode(t, &Options{NoTransactions: true}, tx(change))
	require.NotContains(t, string(list[0].Value), "\n")
	require.NoError(t, json.Unmarshal(list[0].Value, &got))
	for _, c := range types {
		require.Equal(t, c.json, string(got.After[c.column.Name]), c.column.Type)
	}
	list = encode(t, &Options{Format: Debezium, NoTransactions: true, Schemas: true}, tx(change))
	var event struct {
		Schema struct {
			Fields []struct {
				Field  string
				Fields []struct {
					Field, Type, Name string
					Optional          bool
					Parameters        map[string]string
				}
			}
		}
		Payload struct{ After map[string]json.RawMessage }
	}
	require.NoError(t, json.Unmarshal(list[0].Value, &event))
	for i, c := range types {
		require.Equal(t, c.dbz, string(event.Payload.After[c.column.Name]), c.column.Type)
		f := event.Schema.Fields[1].Fields[i]
		require.Equal(t, []any{c.column.Name, c.connectAs, c.semanticAs, c.column.Nullable}, []any{f.Field, f.Type, f.Name, f.Optional})
	}
	require.Equal(t, map[string]string{"scale": "2", "connect.decimal.precision": "10"}, event.Schema.Fields[1].Fields[6].Parameters)
}

func TestDecimalsAreAsJavaWritesThem(t *testing.T) {
	for s, want := range map[string][]byte{
		"0": {0}, "1": {1}, "127": {127}, "128": {0, 128}, "-1": {255}, "-128": {128}, "-129": {255, 127}, "256": {1, 0}, "-256": {255, 0}, "-32768": {128, 0},
	} {
		n, _ := new(big.Int).SetString(s, 10)
		require.Equal(t, want, twosComplement(n), s)
	}
	n, ok := unscaled("-0.05", 4)
	require.True(t, ok)
	require.Equal(t, "-500", n.String())
	_, ok = unscaled("1.234", 2)
	require.False(t, ok)
}

func TestJSON(t *testing.T) {
	first := tx(dfs.Change{Op: dfs.Insert, Table: customers, After: customer(1, "a")})
	first.More = true
	second := tx(dfs.Change{Op: dfs.Update, Table: customers, Before: dfs.Row{dfs.IntValue(1), dfs.AbsentValue(), dfs.AbsentValue(), dfs.AbsentValue()},
		After: dfs.Row{dfs.AbsentValue(), dfs.StringValue("b"), dfs.AbsentValue(), dfs.AbsentValue()}},
		dfs.Change{Op: dfs.DDL, Query: "DROP TABLE x", Session: &dfs.Session{Schema: "inventory"}})
	second.Seq = 8
	got := encode(t, &Options{}, first, second)
	var b bytes.Buffer
	for _, m := range got {
		b.Write(m.Value)
		b.WriteByte('\n')
	}
	require.Equal(t, `{"op":"begin","seq":7,"id":"`+txid+`","committed":"2016-06-10T17:50:29.1Z"}
{"op":"insert","seq":7,"n":1,"table":"inventory.customers","after":{"id":1,"first_name":"a","last_name":"Kretchmar","email":"annek@noanswer.org"}}
{"op":"update","seq":8,"n":2,"table":"inventory.customers","before":{"id":1},"after":{"first_name":"b"}}
{"op":"ddl","seq":8,"n":3,"schema":"inventory","query":"DROP TABLE x"}
{"op":"commit","seq":8,"n":3,"id":"`+txid+`","committed":"2016-06-10T17:50:29.1Z","pos":"gtid 0e4d5dcd-a33b-11ea-80f1-02010a22a99e `+txid+` mysql-bin.000003:484"}
`, b.String())
	require.Empty(t, encode(t, &Options{}, tx()), "an empty transaction says nothing")

	part := dfs.Change{Op: dfs.Insert, Table: customers, After: customer(1, "a"), Part: true}
	require.Contains(t, string(encode(t, &Options{NoTransactions: true}, tx(part))[0].Value), `"part":true`)
	e, err := NewEncoder(&Options{Format: Debezium})
	require.NoError(t, err)
	require.ErrorContains(t, e.Encode(tx(part), func(Message) error { return nil }), "it is a part of a row")
}

func TestWhatCannotBeWrittenIsAnErrorThatNamesItsColumn(t *testing.T) {
	bad := func(o *Options, c dfs.Column, v dfs.Value) error {
		e, err := NewEncoder(o)
		require.NoError(t, err)
		table := &dfs.Table{Schema: "s", Name: "t", Columns: []dfs.Column{c}}
		return e.Encode(tx(dfs.Change{Op: dfs.Insert, Table: table, After: dfs.Row{v}}), func(Message) error { return nil })
	}
	text := func(charset string) dfs.Column { return dfs.Column{Name: "c", Type: "text", Charset: charset} }
	require.ErrorContains(t, bad(nil, text("utf8mb4"), dfs.StringValue("\xff")), "insert of s.t: column c: its text is not valid UTF-8")
	require.NoError(t, bad(&Options{BadText: "replace"}, text("utf8mb4"), dfs.StringValue("\xff")))
	require.ErrorContains(t, bad(nil, text("gbk"), dfs.StringValue("\xff")), "not valid gbk")
	require.ErrorContains(t, bad(nil, text("sjis"), dfs.StringValue("a")), "column c is text in sjis")
	require.ErrorContains(t, bad(&Options{Format: Debezium}, dfs.Column{Name: "u", Type: "bigint unsigned"}, dfs.UintValue(1<<63)), "set PreciseUnsigned")
	list := encode(t, &Options{Format: Debezium, PreciseUnsigned: true, NoTransactions: true}, tx(dfs.Change{Op: dfs.Insert,
		Table: &dfs.Table{Name: "t", Columns: []dfs.Column{{Name: "u", Type: "bigint unsigned"}}}, After: dfs.Row{dfs.UintValue(1 << 63)}}))
	require.Contains(t, string(list[0].Value), base64.StdEncoding.EncodeToString([]byte{0, 128, 0, 0, 0, 0, 0, 0, 0}))
}

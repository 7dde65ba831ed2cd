package stream

import (
	"strconv"
	"strings"

	"github.com/dataflowsync/dfs"
)

// The schemas of what is not a row.
const (
	schemaKey = `{"type":"struct","fields":[{"type":"string","optional":false,"field":"databaseName"}],"optional":false,` +
		`"name":"io.debezium.connector.mysql.SchemaChangeKey","version":1}`
	transactionKeySchema = `{"type":"struct","fields":[{"type":"string","optional":false,"field":"id"}],"optional":false,` +
		`"name":"io.debezium.connector.common.TransactionMetadataKey","version":1}`
	transactionSchema = `{"type":"struct","fields":[{"type":"string","optional":false,"field":"status"},` +
		`{"type":"string","optional":false,"field":"id"},{"type":"int64","optional":false,"field":"ts_ms"},` +
		`{"type":"int64","optional":true,"field":"event_count"},` +
		`{"type":"array","items":{"type":"struct","fields":[{"type":"string","optional":false,"field":"data_collection"},` +
		`{"type":"int64","optional":false,"field":"event_count"}],"optional":false,"name":"event.collection","version":1},` +
		`"optional":true,"field":"data_collections"}],"optional":false,` +
		`"name":"io.debezium.connector.common.TransactionMetadataValue","version":1}`
	sourceSchema = `{"type":"struct","fields":[{"type":"string","optional":false,"field":"version"},` +
		`{"type":"string","optional":false,"field":"connector"},{"type":"string","optional":false,"field":"name"},` +
		`{"type":"int64","optional":false,"field":"ts_ms"},{"type":"int64","optional":true,"field":"ts_us"},` +
		`{"type":"int64","optional":true,"field":"ts_ns"},` +
		`{"type":"string","optional":true,"name":"io.debezium.data.Enum","version":1,` +
		`"parameters":{"allowed":"true,first,first_in_data_collection,last_in_data_collection,last,false,incremental"},` +
		`"default":"false","field":"snapshot"},` +
		`{"type":"string","optional":false,"field":"db"},{"type":"string","optional":true,"field":"sequence"},` +
		`{"type":"string","optional":true,"field":"table"},{"type":"int64","optional":false,"field":"server_id"},` +
		`{"type":"string","optional":true,"field":"gtid"},{"type":"string","optional":false,"field":"file"},` +
		`{"type":"int64","optional":false,"field":"pos"},{"type":"int32","optional":false,"field":"row"},` +
		`{"type":"int64","optional":true,"field":"thread"},{"type":"string","optional":true,"field":"query"}],` +
		`"optional":false,"name":"io.debezium.connector.mysql.Source","version":1,"field":"source"}`
	blockSchema = `{"type":"struct","fields":[{"type":"string","optional":false,"field":"id"},` +
		`{"type":"int64","optional":false,"field":"total_order"},{"type":"int64","optional":false,"field":"data_collection_order"}],` +
		`"optional":true,"name":"event.block","version":1,"field":"transaction"}`
)

// avro makes a name fit for Avro, as Debezium does.
func avro(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || r == '.' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r
		}
		return '_'
	}, s)
}

// schemas makes the schemas of a table.
func (info *tableInfo) schemas(e *Encoder, t *dfs.Table) {
	name := avro(info.topic)
	var fields, keys []string
	for i := range t.Columns {
		fields = append(fields, info.columns[i].schema(e, !t.Columns[i].Nullable))
	}
	for _, i := range t.Key {
		keys = append(keys, info.columns[i].schema(e, true))
	}
	row := func(field string) string {
		return `{"type":"struct","fields":[` + strings.Join(fields, ",") + `],"optional":true,"name":"` + name + `.Value","field":"` + field + `"}`
	}
	info.keySchema = `{"type":"struct","fields":[` + strings.Join(keys, ",") + `],"optional":false,"name":"` + name + `.Key"}`
	info.valueSchema = `{"type":"struct","fields":[` + row("before") + "," + row("after") + "," + sourceSchema + "," + blockSchema +
		`,{"type":"string","optional":false,"field":"op"},{"type":"int64","optional":true,"field":"ts_ms"},` +
		`{"type":"int64","optional":true,"field":"ts_us"},{"type":"int64","optional":true,"field":"ts_ns"}],` +
		`"optional":false,"name":"` + name + `.Envelope","version":2}`
}

// schema returns the field of a column.
func (c *columnInfo) schema(e *Encoder, required bool) string {
	kind, semantic, version, params := c.connect(e)
	b := []byte(`{"type":"` + kind + `","optional":` + strconv.FormatBool(!required))
	switch {
	case c.geometry():
		b = append(b, `,"fields":[{"type":"bytes","optional":false,"field":"wkb"},{"type":"int32","optional":true,"field":"srid"}]`...)
	case c.base == "vector":
		b = append(b, `,"items":{"type":"float","optional":false}`...)
	}
	if semantic != "" {
		b = append(b, `,"name":"`+semantic+`","version":`+version...)
	}
	if params != "" {
		b = append(b, `,"parameters":{`+params+`}`...)
	}
	b = appendText(append(b, `,"field":`...), c.Name)
	return string(append(b, '}'))
}

// connect returns the types of a column: literal and semantic.
func (c *columnInfo) connect(e *Encoder) (kind, semantic, version, params string) {
	param := func(name, value string) string { return `"` + name + `":` + string(appendText(nil, value)) }
	switch c.base {
	case "tinyint":
		return "int16", "", "", ""
	case "smallint":
		if c.unsigned {
			return "int32", "", "", ""
		}
		return "int16", "", "", ""
	case "mediumint":
		return "int32", "", "", ""
	case "int", "integer":
		if c.unsigned {
			return "int64", "", "", ""
		}
		return "int32", "", "", ""
	case "bigint":
		if c.unsigned && e.o.PreciseUnsigned {
			return "bytes", "org.apache.kafka.connect.data.Decimal", "1", param("scale", "0")
		}
		return "int64", "", "", ""
	case "float":
		return "float", "", "", ""
	case "double":
		return "double", "", "", ""
	case "decimal", "numeric":
		return "bytes", "org.apache.kafka.connect.data.Decimal", "1",
			param("scale", strconv.Itoa(c.scale)) + "," + param("connect.decimal.precision", strconv.Itoa(c.bits))
	case "bit":
		if c.bits <= 1 {
			return "boolean", "", "", ""
		}
		return "bytes", "io.debezium.data.Bits", "1", param("length", strconv.Itoa(c.bits))
	case "year":
		return "int32", "io.debezium.time.Year", "1", ""
	case "date":
		return "int32", "io.debezium.time.Date", "1", ""
	case "time":
		return "int64", "io.debezium.time.MicroTime", "1", ""
	case "datetime":
		if c.bits > 3 {
			return "int64", "io.debezium.time.MicroTimestamp", "1", ""
		}
		return "int64", "io.debezium.time.Timestamp", "1", ""
	case "timestamp":
		return "string", "io.debezium.time.ZonedTimestamp", "1", ""
	case "enum":
		return "string", "io.debezium.data.Enum", "1", param("allowed", strings.Join(c.Members, ","))
	case "set":
		return "string", "io.debezium.data.EnumSet", "1", param("allowed", strings.Join(c.Members, ","))
	case "json":
		return "string", "io.debezium.data.Json", "1", ""
	case "binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob":
		return "bytes", "", "", ""
	case "vector":
		return "array", "io.debezium.data.FloatVector", "1", ""
	}
	if c.geometry() {
		return "struct", "io.debezium.data.geometry.Geometry", "1", ""
	}
	return "string", "", "", ""
}

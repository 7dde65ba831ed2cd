package queuetest

import (
	"bytes"
	"fmt"
	"math"
	"time"

	"github.com/dataflowsync/dfs"
)

var start = time.Date(2026, 11, 22, 9, 30, 0, 123456000, time.UTC)

// some returns n transactions from first on, encoded.
func some(first uint64, n int) []*dfs.Transaction {
	txs := make([]*dfs.Transaction, n)
	for i := range txs {
		seq := first + uint64(i)
		txs[i] = &dfs.Transaction{
			Checkpoint: dfs.Checkpoint{Seq: seq, Pos: dfs.Position(fmt.Sprintf("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-%d", seq))},
			ID:         fmt.Sprintf("3e11fa47-71ca-11e1-9e33-c80aa9429562:%d", seq),
			Committed:  start.Add(time.Duration(seq) * 1500 * time.Microsecond),
			Encoded:    fmt.Appendf(nil, "rows of transaction %d", seq),
		}
	}
	return txs
}

// parts returns one transaction in n parts from first on, each of size bytes.
func parts(first uint64, n, size int) []*dfs.Transaction {
	txs := some(first, n)
	for i, tx := range txs {
		tx.More = i < n-1
		tx.Encoded = bytes.Repeat([]byte{byte(first), byte(i), byte(i >> 8)}, size/3+1)
	}
	return txs
}

// at returns where a sink stands that has applied the first seq of what some
// makes from 1 on.
func at(seq uint64) dfs.Checkpoint {
	if seq == 0 {
		return dfs.Checkpoint{}
	}
	return some(seq, 1)[0].Checkpoint
}

func join(runs ...[]*dfs.Transaction) (all []*dfs.Transaction) {
	for _, r := range runs {
		all = append(all, r...)
	}
	return all
}

// kinds returns transactions with every kind of value, column and change.
func kinds() []*dfs.Transaction {
	values := []dfs.Value{
		dfs.NullValue(), dfs.AbsentValue(),
		dfs.IntValue(0), dfs.IntValue(math.MinInt64), dfs.IntValue(math.MaxInt64),
		dfs.UintValue(0), dfs.UintValue(math.MaxUint64),
		dfs.Float32Value(1.5), dfs.Float32Value(float32(math.Inf(-1))), dfs.Float32Value(math.SmallestNonzeroFloat32),
		dfs.FloatValue(-0.1), dfs.FloatValue(math.Copysign(0, -1)), dfs.FloatValue(math.MaxFloat64),
		dfs.DecimalValue("-123456789012345678901234567890.000000000000000000000000000001"),
		dfs.StringValue(""), dfs.StringValue("zażółć"), dfs.StringValue("\xe9\x80 not UTF-8"),
		dfs.BytesValue([]byte{}), dfs.BytesValue([]byte{0, 255, 0}), dfs.BytesValue(bytes.Repeat([]byte("blob"), 70_000)),
		dfs.JSONValue(`{"a": [1.0, "x", null]}`),
		dfs.DateValue(0, 0, 0), dfs.DateValue(2026, 0, 0), dfs.DateValue(9999, 12, 31),
		dfs.TimeValue(0, 0), dfs.TimeValue(-(838*time.Hour + 59*time.Minute + 59*time.Second), 6), dfs.TimeValue(time.Microsecond, 6),
		dfs.DateTimeValue(0, 0, 0, 0, 0, 0, 0, 0), dfs.DateTimeValue(2026, 11, 22, 23, 59, 59, 999999, 6),
		dfs.TimestampValue(time.Time{}, 0), dfs.TimestampMicro(1, 6), dfs.TimestampMicro(2147483647_999000, 3),
	}
	wide := &dfs.Table{Schema: "shop", Name: "every kind", Key: []int{1, 0}}
	for i := range values {
		wide.Columns = append(wide.Columns, dfs.Column{Name: fmt.Sprint("c", i), Type: "varchar(40)", Nullable: i%2 == 0})
	}
	small := &dfs.Table{Schema: "shop", Name: "état", Columns: []dfs.Column{
		{Name: "s", Type: "varchar(9)", Charset: "utf8mb4", Collation: "utf8mb4_0900_ai_ci"},
		{Name: "e", Type: "enum", Members: []string{"", "a,b", "'"}},
	}}
	row := dfs.Row(values)
	txs := some(1, 7)
	for _, tx := range txs {
		tx.Encoded = nil
	}
	txs[0].Changes = []dfs.Change{{Op: dfs.Insert, Table: wide, After: row}}
	txs[1].Changes = []dfs.Change{
		{Op: dfs.Update, Table: wide, Before: row, After: row},
		{Op: dfs.Delete, Table: small, Before: dfs.Row{dfs.StringValue("x"), dfs.UintValue(2)}, NoForeignKeys: true},
		{Op: dfs.Delete, Table: wide, Before: row},
	}
	txs[2].Changes = []dfs.Change{
		{Op: dfs.DDL, Table: &dfs.Table{Schema: "shop"}, Query: "ALTER TABLE t ADD c INT /* \x00 */"},
		{Op: dfs.DDL, Query: "CREATE TABLE x (y INT)"},
	}
	txs[3].Snapshot = true
	txs[3].Changes = []dfs.Change{{Op: dfs.Insert, Table: small, After: dfs.Row{dfs.NullValue(), dfs.NullValue()}}}
	// The fourth does nothing but move the checkpoint, and names nothing.
	txs[4].Pos, txs[4].ID, txs[4].Committed = "", "", time.Time{}
	txs[4].Snapshot, txs[4].Copied = true, true
	txs[5].Encoded = []byte{}
	txs[6].Committed = time.Date(1970, 1, 1, 0, 0, 0, 0, time.FixedZone("elsewhere", 3600))
	return txs
}

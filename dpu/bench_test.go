package dpu_test

import (
	"context"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/dfstest"
	"github.com/dataflowsync/dfs/dpu"
)

// BenchmarkUnits tells the cost of a row, inserted, of eight columns.
func BenchmarkUnits(b *testing.B) {
	table := dfstest.Table(b, "shop.orders (id bigint, user_id bigint, price decimal(10,2), quantity int, status varchar(10), street varchar(20), city varchar(20), total bigint, key id)")
	const rows = 1000
	insert := dfstest.Insert(b, table, 1234567, 7654321, "19.90", 3000, "paid", "High St 12", "Bath", 59700)
	shape := func(c dpu.Column) []dpu.Unit {
		return []dpu.Unit{{From: "shop.orders", Drop: []string{"street"}, Rename: map[string]string{"city": "town"}, Into: "crm.orders", Columns: []dpu.Column{c}}}
	}
	type In struct {
		ID       int64 `db:"id"`
		Quantity int32 `db:"quantity"`
		Total    int64 `db:"total"`
	}
	type Out struct {
		ID    int64 `db:"id,key"`
		Price int64 `db:"price"`
	}
	for _, c := range []struct {
		name  string
		units []dpu.Unit
	}{
		{"no unit", []dpu.Unit{{From: "other.*"}}},
		{"rename", []dpu.Unit{{From: "shop.orders", Rename: map[string]string{"city": "town"}, Into: "crm.orders"}}},
		{"rename, drop, compute by a function", shape(dpu.Column{Name: "each", Type: "bigint", From: []string{"total", "quantity"},
			Func: func(_ context.Context, v []dfs.Value) (dfs.Value, error) {
				return dfs.IntValue(v[0].Int() / v[1].Int()), nil
			}})},
		{"rename, drop, compute by an expression", shape(dpu.Column{Name: "double", Expr: "total * 2"})},
		{"rename, drop, compute of two columns", shape(dpu.Column{Name: "all", Expr: "total * quantity"})},
		{"rename, drop, compute a decimal", shape(dpu.Column{Name: "all", Type: "decimal(12,2)", Expr: "price * quantity"})},
		{"filter", []dpu.Unit{{From: "shop.orders", Where: dpu.Where{Expr: `status == "paid"`}}}},
		{"a part of a wide row", []dpu.Unit{{From: "shop.orders", Select: []string{"id", "total", "status"}, Rename: map[string]string{"total": "order_total"}, Into: "crm.wide",
			Columns: []dpu.Column{{Name: "has_order", Value: true}}, Part: true}}},
		{"hash", []dpu.Unit{{From: "shop.orders", Mask: map[string]dpu.Mask{"user_id": "hash"}}}},
		{"a function over structs", []dpu.Unit{{From: "shop.orders", Into: "crm.prices", Rows: dpu.MapRows(func(_ context.Context, in *In, emit func(Out)) error {
			emit(Out{in.ID, in.Total / int64(in.Quantity)})
			return nil
		})}}},
	} {
		b.Run(c.name, func(b *testing.B) {
			units, err := dpu.New(c.units, &dpu.Options{HashKey: []byte("0123456789abcdef"), Logger: quiet})
			if err != nil {
				b.Fatal(err)
			}
			tx := &dfs.Transaction{}
			batch := []*dfs.Transaction{tx}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				if n%rows == 0 { // b.Loop counts rows; a batch has many
					tx.Changes = tx.Changes[:0]
					for range rows {
						tx.Changes = append(tx.Changes, insert)
					}
					if err := units.Process(b.Context(), batch); err != nil {
						b.Fatal(err)
					}
				}
				n++
			}
		})
	}
}

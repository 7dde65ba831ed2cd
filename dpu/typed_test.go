package dpu_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/dfstest"
	"github.com/dataflowsync/dfs/dpu"
	"github.com/stretchr/testify/require"
)

type order struct {
	ID     int64   `db:"id"`
	Price  string  `db:"price"`
	Status *string `db:"status"`
	City   string  `db:"city"`
	note   string
}

type line struct {
	Order int64     `db:"order_id,key"`
	No    int       `db:"no,key"`
	Text  string    `db:"text" type:"varchar(20)"`
	Price dfs.Value `db:"price" type:"decimal(10,2)"`
}

// lines makes a row for each letter of the status.
var lines = dpu.MapRows(func(_ context.Context, in *order, emit func(line)) error {
	if in.Status == nil {
		return nil
	}
	for i, r := range *in.Status {
		emit(line{in.ID, i, in.City + string(r), dfs.DecimalValue(in.Price)})
	}
	return nil
})

func TestRowsOfAFunctionFollowTheirRow(t *testing.T) {
	got, err := process(t, []dpu.Unit{{From: "shop.orders", Into: "crm.lines", Rows: lines}}, nil,
		`insert shop.orders 7, 1, 2.10, 3, "ab", "High St", "Bath"
update shop.orders 7, 1, 2.10, 3, "ab", "High St", "Bath" -> 7, 1, 2.10, 3, "b", "High St", "Bath"
update shop.orders 7, 1, 2.10, 3, "b", "High St", "Bath" -> 8, 1, 2.10, 3, NULL, "High St", "Bath"
update shop.orders 8, 1, 2.10, 3, NULL, "High St", "Bath" -> 8, 1, 2.10, 3, "cc", "High St", "Bath"
delete shop.orders 8, 1, 2.10, 3, "cc", "High St", "Bath"
commit`)
	require.NoError(t, err)
	require.Equal(t, `insert crm.lines order_id=7, no=0, text="Batha", price=2.10
insert crm.lines order_id=7, no=1, text="Bathb", price=2.10
delete crm.lines order_id=7, no=1, text="Bathb", price=2.10
update crm.lines order_id=7, no=0, text="Batha", price=2.10 -> order_id=7, no=0, text="Bathb", price=2.10
delete crm.lines order_id=7, no=0, text="Bathb", price=2.10
insert crm.lines order_id=8, no=0, text="Bathc", price=2.10
insert crm.lines order_id=8, no=1, text="Bathc", price=2.10
delete crm.lines order_id=8, no=1, text="Bathc", price=2.10
delete crm.lines order_id=8, no=0, text="Bathc", price=2.10
`, got)
}

// everything has a field of each Go type, and stays as it is.
type everything struct {
	I8    int8          `db:"i8,key"`
	U16   uint16        `db:"u16"`
	I     int           `db:"i"`
	U     *uint64       `db:"u"`
	On    bool          `db:"flag"`
	F     float32       `db:"f"`
	D     *float64      `db:"d"`
	Dec   string        `db:"deci"`
	S     string        `db:"s"`
	B     []byte        `db:"b"`
	E     string        `db:"e"`
	J     []byte        `db:"j"`
	At    time.Time     `db:"at"`
	Span  time.Duration `db:"span"`
	V     dfs.Value     `db:"v"`
	VN    *dfs.Value    `db:"vn"`
	Other int
}

func TestEveryGoTypeStaysAsItIs(t *testing.T) {
	s, err := dfstest.Parse(`table s.t (i8 tinyint, u16 smallint unsigned, i bigint, u bigint unsigned null, flag tinyint(1), f float, d double null, deci decimal(10,2), ` +
		`s varchar(9), b varbinary(9), e enum('x','y'), j json, at datetime(6), span time(6), v date, vn date null, key i8)
insert s.t -128, 65535, -9223372036854775808, 18446744073709551615, 1, 0.5, 0.1, "1.50", "ü", 0x00ff, "y", "{}", "2026-11-22 10:30:00.5", "-01:30:00", "2026-00-00", "2026-01-01"
insert s.t 1, 0, 0, NULL, 0, 0, NULL, "0", "", 0x, "x", "1", "0000-00-00", "0:0", "0000-00-00", NULL
commit`)
	require.NoError(t, err)
	same := dpu.MapRows(func(_ context.Context, in *everything, emit func(everything)) error { emit(*in); return nil })
	units, err := dpu.New([]dpu.Unit{{From: "s.t", Rows: same}}, &dpu.Options{Tables: s.Tables})
	require.NoError(t, err)
	out, err := dfstest.Run(t.Context(), []dfs.Stage{units}, s.Transactions...)
	require.NoError(t, err)
	require.Equal(t, dfstest.Format(&s.Transactions[0]), dfstest.Format(out...))
	targets, err := units.Targets(s.Tables[0])
	require.NoError(t, err)
	require.Equal(t, s.Tables[0].Columns, targets[0].Table.Columns)
}

func TestStructsAreCheckedAgainstTheTable(t *testing.T) {
	s, err := dfstest.Parse(tables + "table s.t (id int, name varchar(9) null, big bigint unsigned, d decimal(9,2), c varchar(9) charset latin1, key id)")
	require.NoError(t, err)
	check := func(want string, f *dpu.RowFunc) {
		t.Helper()
		_, err := dpu.New([]dpu.Unit{{From: "s.t", Rows: f}}, &dpu.Options{Tables: s.Tables})
		require.ErrorContains(t, err, want)
	}
	type out struct {
		ID int `db:"id,key"`
	}
	check("has a field for the column nme, which the table does not have", rowFunc[struct {
		N string `db:"nme"`
	}, out]())
	check("column name: it may be NULL, which a string cannot hold; use *string", rowFunc[struct {
		N string `db:"name"`
	}, out]())
	check("column big: a int64 cannot hold every bigint unsigned", rowFunc[struct {
		N int64 `db:"big"`
	}, out]())
	check("column id: a int16 cannot hold every int", rowFunc[struct {
		N int16 `db:"id"`
	}, out]())
	check("column d: a float64 does not hold the digits of a decimal(9,2)", rowFunc[struct {
		N float64 `db:"d"`
	}, out]())
	check("column c: its text is in latin1", rowFunc[struct {
		N string `db:"c"`
	}, out]())
	check("column x: a map[string]int needs a tag type", rowFunc[struct {
		N int64 `db:"id"`
	}, struct {
		X map[string]int `db:"x"`
	}]())
	check("has no field with a tag db", rowFunc[struct{}, out]())
	check("int is no struct", rowFunc[int, out]())
	_, err = dpu.New([]dpu.Unit{{From: "s.t", Rows: lines, Drop: []string{"x"}}}, nil)
	require.ErrorContains(t, err, "makes all columns")
	require.Empty(t, order{}.note)
}

func rowFunc[In, Out any]() *dpu.RowFunc {
	return dpu.MapRows(func(context.Context, *In, func(Out)) error { return nil })
}

func TestRowsOfAFunctionThatFailAreNamed(t *testing.T) {
	same := dpu.MapRows(func(_ context.Context, in *order, emit func(line)) error {
		emit(line{Order: in.ID})
		emit(line{Order: in.ID, Text: strings.Repeat("x", len(in.City))})
		return nil
	})
	const row = `insert shop.orders 7, 1, 2.10, 3, "ab", "High St", "Bath"` + "\ncommit"
	_, err := process(t, []dpu.Unit{{From: "shop.orders", Rows: same}}, nil, row)
	require.ErrorContains(t, err, `row id=7: the function made two rows with the key order_id=7,no=0`)
	long := dpu.MapRows(func(_ context.Context, in *order, emit func(line)) error {
		emit(line{Text: strings.Repeat("x", 21)})
		return nil
	})
	_, err = process(t, []dpu.Unit{{From: "shop.orders", Rows: long}}, nil, row)
	require.ErrorContains(t, err, `column text: "xxxxxxxxxxxxxxxxxxxxx" has 21 characters`)
}

func ExampleMapRows() {
	type Order struct {
		ID     int64  `db:"id"`
		Street string `db:"street"`
		City   string `db:"city"`
	}
	type Address struct {
		Order int64  `db:"order_id,key"`
		Text  string `db:"text" type:"varchar(80)"`
	}
	addresses := dpu.MapRows(func(ctx context.Context, o *Order, emit func(Address)) error {
		if o.City != "" {
			emit(Address{Order: o.ID, Text: o.Street + ", " + o.City})
		}
		return nil
	})
	units, err := dpu.New([]dpu.Unit{{From: "shop.orders", Into: "crm.addresses", Rows: addresses}}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	s, _ := dfstest.Parse(`
		table shop.orders (id bigint, street varchar(40), city varchar(40), key id)
		insert shop.orders 7, "High St 1", "Bath"
		update shop.orders 7, "High St 1", "Bath" -> 7, "High St 1", ""
		commit`)
	out, err := dfstest.Run(context.Background(), []dfs.Stage{units}, s.Transactions...)
	fmt.Print(dfstest.Format(out...))
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// insert crm.addresses order_id=7, text="High St 1, Bath"
	// delete crm.addresses order_id=7, text="High St 1, Bath"
	// commit
}

// Command transform copies a shop into a CRM of another shape: columns have other
// names, an order's address becomes a table of its own, and a function of the
// shop's own says what customers are worth.
//
//	transform                                                        # in memory, on a few rows: see shop.txt
//	transform 'dfs:secret@tcp(db1:3306)/' 'dfs:secret@tcp(db2:3306)/' # from one server to another
//
// Where the target has no tables yet, it creates them.
package main

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/dfstest"
	"github.com/dataflowsync/dfs/dpu"
	"github.com/dataflowsync/dfs/sink"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch len(os.Args) {
	case 1:
		err = try(ctx, os.Stdout)
	case 3:
		err = run(ctx, os.Args[1], os.Args[2], "shop", "crm", os.Stdout)
	default:
		err = fmt.Errorf("usage: transform [SOURCE TARGET]")
	}
	if err != nil {
		log.Fatal(err)
	}
}

// An Order is a row of orders, as far as its address is concerned.
type Order struct {
	ID     int64   `db:"id"`
	Street string  `db:"street"`
	City   *string `db:"city"`
}

// An Address is a row of the table that the shop does not have.
type Address struct {
	Order int64  `db:"order_id,key"`
	Text  string `db:"text" type:"varchar(100)"`
}

// address makes no row for an order that is fetched from the shop.
func address(_ context.Context, o *Order, emit func(Address)) error {
	if o.City != nil {
		emit(Address{Order: o.ID, Text: o.Street + ", " + *o.City})
	}
	return nil
}

// worth is the custom function. It is given what its column says under From.
func worth(_ context.Context, v []dfs.Value) (dfs.Value, error) {
	orders, since := v[0].Int(), v[1]
	year, _, _, _, _, _, _ := since.Clock()
	switch {
	case orders > 100, orders > 10 && year < 2020:
		return dfs.StringValue("gold"), nil
	case orders > 10:
		return dfs.StringValue("silver"), nil
	}
	return dfs.StringValue("new"), nil
}

// units says what becomes of the tables of the schema from.
func units(from, to string) []dpu.Unit {
	return []dpu.Unit{
		{From: from + ".users", Into: to + ".people", Drop: []string{"password"},
			Rename: map[string]string{"mail": "email", "created": "customer_since"},
			Mask:   map[string]dpu.Mask{"phone": "truncate 4"},
			Columns: []dpu.Column{
				{Name: "name", Expr: `trim(first + " " + last)`, Type: "varchar(81)"},
				{Name: "class", Type: "varchar(10)", From: []string{"orders", "created"}, Func: worth},
			}},
		{Name: "addresses", From: from + ".orders", Into: to + ".addresses", Also: true, Rows: dpu.MapRows(address)},
		{From: from + ".orders", Into: to + ".orders", Where: dpu.Where{Expr: `status != "draft"`},
			Drop:    []string{"street", "city", "price", "quantity"},
			Columns: []dpu.Column{{Name: "total", Expr: "price * quantity", Type: "decimal(12,2)"}}},
	}
}

// run transforms from one server to another, until ctx ends.
func run(ctx context.Context, source, target, from, to string, out io.Writer) error {
	src, err := cdc.Open(ctx, source, &cdc.Options{Tables: []string{from + ".users", from + ".orders"}})
	if err != nil {
		return err
	}
	defer src.Close()
	tables, err := src.Tables(ctx)
	if err != nil {
		return err
	}
	stage, err := dpu.New(units(from, to), &dpu.Options{Tables: tables}) // all faults, before anything runs
	if err != nil {
		return err
	}
	targets, err := show(out, stage, tables)
	if err != nil {
		return err
	}
	dst, err := sink.OpenMySQL(ctx, target, &sink.MySQLOptions{Name: "transform " + to})
	if err != nil {
		return err
	}
	defer dst.Close()
	var made []*dfs.Table
	for _, t := range targets {
		made = append(made, t.Table)
	}
	if err := dst.CheckTables(ctx, made); err != nil {
		return fmt.Errorf("%w\n\nTo make the tables, run on the target:\n\n%s;", err, strings.Join(dpu.CreateTables(targets...), ";\n\n"))
	}
	p := &dfs.Pipeline{Source: src, Stages: []dfs.Stage{stage}, Sink: dst}
	return p.Run(ctx)
}

// show prints what becomes of the tables, column by column.
func show(out io.Writer, stage *dpu.Units, tables []*dfs.Table) (all []dpu.Target, err error) {
	for _, t := range tables {
		targets, err := stage.Targets(t)
		if err != nil {
			return nil, err
		}
		for _, t := range targets {
			fmt.Fprintln(out, t)
		}
		all = append(all, targets...)
	}
	return all, nil
}

//go:embed shop.txt
var shop string

// try transforms a few rows in memory.
func try(ctx context.Context, out io.Writer) error {
	s, err := dfstest.Parse(shop)
	if err != nil {
		return err
	}
	stage, err := dpu.New(units("shop", "crm"), &dpu.Options{Tables: s.Tables})
	if err != nil {
		return err
	}
	targets, err := show(out, stage, s.Tables)
	if err != nil {
		return err
	}
	var target dfstest.Target
	p := &dfs.Pipeline{Source: &dfstest.Source{Transactions: s.Transactions}, Stages: []dfs.Stage{stage}, Sink: target.Open()}
	if err := p.Run(ctx); err != nil {
		return err
	}
	for _, t := range targets {
		var columns []string
		for _, c := range t.Table.Columns {
			columns = append(columns, c.Name)
		}
		fmt.Fprintf(out, "%s (%s)\n", t.Table, strings.Join(columns, ", "))
		for _, row := range target.Rows(t.Table.String(), columns...) {
			fmt.Fprintln(out, "  "+row)
		}
	}
	return nil
}

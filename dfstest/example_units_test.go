package dfstest_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/dfstest"
	"github.com/dataflowsync/dfs/dpu"
	"github.com/stretchr/testify/require"
)

const customers = `
	table shop.customers (id bigint, name varchar(40), mail varchar(60) null, country char(2), key id)
`

// through sends what happens to the customers through units, and prints it.
func through(units []dpu.Unit, events string) {
	s, err := dfstest.Parse(customers + events)
	if err != nil {
		fmt.Println(err)
		return
	}
	stage, err := dpu.New(units, &dpu.Options{Tables: s.Tables, HashKey: []byte("of the test only")})
	if err != nil {
		fmt.Println(err)
		return
	}
	out, err := dfstest.Run(context.Background(), []dfs.Stage{stage}, s.Transactions...)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(dfstest.Format(out...))
}

// What must not leave the shop does not: no mail address in any change, also
// none of the past, and equal ones stay equal.
func Example_masks() {
	through([]dpu.Unit{{From: "shop.customers", Into: "stats.people", Drop: []string{"name"}, Mask: map[string]dpu.Mask{"mail": "hash"}}}, `
	insert shop.customers 1, "Ann", "ann@example.com", "gb"
	insert shop.customers 2, "Ann again", "ann@example.com", "gb"
	commit
	update shop.customers 1, "Ann", "ann@example.com", "gb" -> 1, "Ann", NULL, "gb"
	commit`)
	// Output:
	// insert stats.people id=1, mail="36faa04fbc880e5adc49a96731d4e0ce", country="gb"
	// insert stats.people id=2, mail="36faa04fbc880e5adc49a96731d4e0ce", country="gb"
	// commit
	// update stats.people id=1, mail="36faa04fbc880e5adc49a96731d4e0ce", country="gb" -> id=1, mail=NULL, country="gb"
	// commit
}

// One table goes to several by the value of a column. A row whose value changes
// moves from one to the other, in one transaction.
func Example_routesByValue() {
	through([]dpu.Unit{
		{Name: "british", From: "shop.customers", Where: dpu.Where{Expr: `country == "gb"`}, Into: "crm.customers_gb", Also: true},
		{Name: "others", From: "shop.customers", Where: dpu.Where{Expr: `country != "gb"`}, Into: "crm.customers_abroad"},
	}, `
	insert shop.customers 1, "Ann", NULL, "gb"
	commit
	update shop.customers 1, "Ann", NULL, "gb" -> 1, "Ann", NULL, "fr"
	commit
	delete shop.customers 1, "Ann", NULL, "fr"
	commit`)
	// Output:
	// insert crm.customers_gb id=1, name="Ann", mail=NULL, country="gb"
	// commit
	// delete crm.customers_gb id=1, name="Ann", mail=NULL, country="gb"
	// insert crm.customers_abroad id=1, name="Ann", mail=NULL, country="fr"
	// commit
	// delete crm.customers_abroad id=1, name="Ann", mail=NULL, country="fr"
	// commit
}

// What stops a pipeline says where it is, and faults are told before the first
// row.
func Example_errors() {
	through([]dpu.Unit{{From: "shop.customers", Drop: []string{"nmae"}, Cast: map[string]string{"country": "varchar("}}}, "")
	through([]dpu.Unit{{From: "shop.customers", Cast: map[string]string{"name": "varchar(3)"}}}, `
	insert shop.customers 1, "Ann", NULL, "gb"
	insert shop.customers 2, "Robert", NULL, "gb"
	commit`)
	// Output:
	// making units: unit "shop.customers", Cast: column country: the type "varchar(" lacks its closing parenthesis
	// stage 1: unit "shop.customers", table shop.customers, row id=2, column name: "Robert" has 6 characters, and varchar(3) takes 3
}

// The same as a test.
func TestThroughTakesAScriptAndGivesWhatComesOut(t *testing.T) {
	units, err := dpu.New([]dpu.Unit{{From: "shop.customers", Select: []string{"id", "country"}}}, nil)
	require.NoError(t, err)
	require.Equal(t, "insert shop.customers id=1, country=\"gb\"\ncommit a:1\n",
		dfstest.Through(t, customers+"insert shop.customers 1, \"Ann\", NULL, \"gb\"\ncommit a:1", units))
}

// BenchmarkCase tells what one case costs: to read a script, make units, send a
// few changes through them and show what comes out.
func BenchmarkCase(b *testing.B) {
	for b.Loop() {
		units, err := dpu.New([]dpu.Unit{{From: "shop.customers", Where: dpu.Where{Expr: `country == "gb"`}, Drop: []string{"mail"}}}, nil)
		require.NoError(b, err)
		dfstest.Through(b, customers+"insert shop.customers 1, \"Ann\", NULL, \"gb\"\ncommit\ndelete shop.customers 1, \"Ann\", NULL, \"gb\"\ncommit", units)
	}
}

package dpu_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/dfstest"
	"github.com/dataflowsync/dfs/dpu"
	"github.com/stretchr/testify/require"
)

const tables = `table shop.users (id bigint, name varchar(40), mail varchar(60) null, password varchar(60), key id)
table shop.orders (id int, user_id bigint, price decimal(10,2), quantity int, status varchar(10) null, street varchar(20), city varchar(20), key id)
table eu.orders (id int, total int, key id)
table us.orders (id int, total int, key id)
`

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// process runs a script through units and returns what comes out.
func process(t testing.TB, units []dpu.Unit, opts *dpu.Options, script string) (string, error) {
	t.Helper()
	if opts == nil {
		opts = &dpu.Options{HashKey: []byte("0123456789abcdef"), Logger: quiet}
	}
	s, err := dfstest.Parse(tables + script)
	require.NoError(t, err)
	stage, err := dpu.New(units, opts)
	require.NoError(t, err)
	out, err := dfstest.Run(t.Context(), []dfs.Stage{stage}, s.Transactions...)
	return strings.TrimSuffix(dfstest.Format(out...), "commit\n"), err
}

func TestUnits(t *testing.T) {
	for _, c := range []struct {
		name   string
		units  []dpu.Unit
		script string
		want   string
	}{
		{"what no unit takes stays", []dpu.Unit{{From: "crm.*", Drop: []string{"x"}}},
			`insert shop.users 1, "Ann", NULL, "p"`,
			`insert shop.users id=1, name="Ann", mail=NULL, password="p"`},
		{"columns are dropped and renamed, and the table is another",
			[]dpu.Unit{{From: "shop.users", Drop: []string{"Password"}, Rename: map[string]string{"mail": "email", "id": "person"}, Into: "crm.people"}},
			`insert shop.users 1, "Ann", "a@x", "p"` + "\n" + `update shop.users 1, "Ann", "a@x", "p" -> 1, "Anna", NULL, "q"` + "\n" + `delete shop.users 1, "Anna", NULL, "q"`,
			`insert crm.people person=1, name="Ann", email="a@x"
update crm.people person=1, name="Ann", email="a@x" -> person=1, name="Anna", email=NULL
delete crm.people person=1, name="Anna", email=NULL`},
		{"columns are selected, and made of others",
			[]dpu.Unit{{From: "shop.orders", Select: []string{"id"}, Columns: []dpu.Column{
				{Name: "total", Expr: "price * quantity", Type: "decimal(12,2)"}, {Name: "origin", Value: "web"}, {Name: "seen", Value: true},
				{Name: "label", Type: "varchar(30)", From: []string{"city", "street"}, Func: func(_ context.Context, v []dfs.Value) (dfs.Value, error) {
					return dfs.StringValue(v[0].Text() + ", " + v[1].Text()), nil
				}},
			}}},
			`insert shop.orders 7, 1, 2.10, 3, NULL, "High St", "Bath"`,
			`insert shop.orders id=7, total=6.30, origin="web", seen=1, label="Bath, High St"`},
		{"a made column takes the place of one",
			[]dpu.Unit{{From: "shop.users", Select: []string{"id", "name"}, Columns: []dpu.Column{{Name: "name", Expr: "upper(name)"}}, Rename: map[string]string{"name": "title"}}},
			`insert shop.users 1, "Ann", NULL, "p"`,
			`insert shop.users id=1, title="ANN"`},
		{"masks",
			[]dpu.Unit{{From: "shop.users", Mask: map[string]dpu.Mask{"id": "hash", "name": "truncate 2", "mail": "redact", "password": "redact gone"}}},
			`insert shop.users 1, "Ünn", "a@x", "p"` + "\n" + `insert shop.users 2, "B", NULL, "p"`,
			`insert shop.users id="6f51b61a3db920f1cbe06a4c38501bc0", name="Ün", mail="***", password="gone"
insert shop.users id="c6c718d2551697a7b265a3113e04b08b", name="B", mail=NULL, password="gone"`},
		{"a cast", []dpu.Unit{{From: "eu.orders", Cast: map[string]string{"total": "varchar(5)", "id": "bigint"}}},
			`update eu.orders 1, 2 -> 1, 30`, `update eu.orders id=1, total="2" -> id=1, total="30"`},
		{"rows that enter or leave a filter are inserted and deleted",
			[]dpu.Unit{{From: "eu.orders", Where: dpu.Where{Expr: "total > 10"}}},
			"insert eu.orders 1, 5\ninsert eu.orders 2, 15\nupdate eu.orders 1, 5 -> 1, 20\nupdate eu.orders 2, 15 -> 2, 16\nupdate eu.orders 2, 16 -> 2, 1\n" +
				"update eu.orders 2, 1 -> 2, 2\ndelete eu.orders 2, 2\ndelete eu.orders 1, 20",
			"insert eu.orders id=2, total=15\ninsert eu.orders id=1, total=20\nupdate eu.orders id=2, total=15 -> id=2, total=16\ndelete eu.orders id=2, total=16\n" +
				"delete eu.orders id=1, total=20"},
		{"a filter by a function", []dpu.Unit{{From: "*.orders", Where: dpu.Where{From: []string{"id"}, Func: func(_ context.Context, v []dfs.Value) (bool, error) {
			return v[0].Int()%2 == 0, nil
		}}}}, "insert eu.orders 1, 1\ninsert eu.orders 2, 1", "insert eu.orders id=2, total=1"},
		{"shards come together, with the source's name in the key",
			[]dpu.Unit{{From: "??.orders", Into: "all.{table}", Columns: []dpu.Column{{Name: "shard", Text: "{1}{2}"}}, Key: []string{"shard", "id"}}},
			"insert eu.orders 1, 5\ninsert us.orders 1, 6",
			`insert all.orders id=1, total=5, shard="eu"` + "\n" + `insert all.orders id=1, total=6, shard="us"`},
		{"a table becomes two, and deletes go the other way",
			[]dpu.Unit{{From: "shop.orders", Select: []string{"id", "price"}, Also: true}, {Name: "addresses", From: "shop.orders", Select: []string{"id", "city"}, Into: "shop.addresses"}},
			`insert shop.orders 7, 1, 2.10, 3, NULL, "High St", "Bath"` + "\n" + `delete shop.orders 7, 1, 2.10, 3, NULL, "High St", "Bath"`,
			"insert shop.orders id=7, price=2.10\ninsert shop.addresses id=7, city=\"Bath\"\ndelete shop.addresses id=7, city=\"Bath\"\ndelete shop.orders id=7, price=2.10"},
		{"parts of rows", []dpu.Unit{{From: "eu.orders", Into: "wide.orders", Part: true}},
			"update eu.orders 1, 2 -> 1, 3", "part update wide.orders id=1, total=2 -> id=1, total=3"},
		{"deleted rows stay", []dpu.Unit{{From: "eu.orders", SoftDelete: "gone"}},
			"insert eu.orders 1, 2\nupdate eu.orders 1, 2 -> 1, 3\ndelete eu.orders 1, 3\nupdate eu.orders 5, 2 -> 6, 2",
			`part insert eu.orders id=1, total=2, gone=NULL
update eu.orders id=1, total=2, gone=NULL -> id=1, total=3, gone=NULL
update eu.orders id=1, total=3, gone=NULL -> id=1, total=3, gone="2026-01-01 00:00:01.000000"
update eu.orders id=5, total=2, gone=NULL -> id=5, total=2, gone="2026-01-01 00:00:01.000000"
part insert eu.orders id=6, total=2, gone=NULL`},
		{"a function splits rows and changes them",
			[]dpu.Unit{{From: "shop.orders", Drop: []string{"status"}, Func: func(_ context.Context, c dpu.Change, emit func(dpu.Change)) error {
				emit(c.To("crm.orders", "id", "price"))
				if c.Get("city").Text() != "" {
					emit(c.With("city", dfs.StringValue("?")).To("crm.addresses", "street", "id", "city"))
				}
				return nil
			}}},
			`insert shop.orders 7, 1, 2.10, 3, NULL, "High St", "Bath"` + "\n" + `delete shop.orders 7, 1, 2.10, 3, NULL, "High St", ""`,
			"insert crm.orders id=7, price=2.10\n" + `insert crm.addresses street="High St", id=7, city="?"` + "\ndelete crm.orders id=7, price=2.10"},
		{"what a partial image leaves out stays left out",
			[]dpu.Unit{{From: "shop.orders", Select: []string{"id", "city"}, Columns: []dpu.Column{{Name: "total", Expr: "price * quantity"}, {Name: "origin", Value: 1}}}},
			`update shop.orders 7, ABSENT, 2.5, 2, NULL, ABSENT, "Bath" -> ABSENT, ABSENT, 2.0, ABSENT, ABSENT, ABSENT, ABSENT` + "\n" +
				`update shop.orders 7, ABSENT, ABSENT, ABSENT, NULL, ABSENT, ABSENT -> ABSENT, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT, "Wells"` + "\n" +
				`delete shop.orders 7, ABSENT, ABSENT, ABSENT, NULL, ABSENT, ABSENT`,
			`update shop.orders id=7, city="Bath", total=5.000000000000000000000000000000, origin=1 -> id=ABSENT, city=ABSENT, total=4.000000000000000000000000000000, origin=1
update shop.orders id=7, city=ABSENT, total=ABSENT, origin=1 -> id=ABSENT, city="Wells", total=ABSENT, origin=1
delete shop.orders id=7, city=ABSENT, total=ABSENT, origin=1`},
		{"flags stay", []dpu.Unit{{From: "eu.*", Drop: []string{"total"}}}, "nofk delete eu.orders 1, 2", "nofk delete eu.orders id=1"},
		{"statements about other tables pass", []dpu.Unit{{From: "eu.*"}}, "ddl us.orders DROP TABLE orders", "ddl us.orders DROP TABLE orders"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := process(t, c.units, nil, c.script+"\ncommit")
			require.NoError(t, err)
			require.Equal(t, c.want, strings.TrimSuffix(got, "\n"))

			s, err := dfstest.Parse(tables + c.script + "\ncommit\n" + c.script + "\ncommit")
			require.NoError(t, err)
			dfstest.CheckStage(t, func(t *testing.T) dfs.Stage {
				stage, err := dpu.New(c.units, &dpu.Options{HashKey: []byte("0123456789abcdef"), Logger: quiet})
				require.NoError(t, err)
				return stage
			}, s.Transactions...)
		})
	}
}

func TestRowsThatFailAreNamed(t *testing.T) {
	fails := func(context.Context, []dfs.Value) (dfs.Value, error) { return dfs.Value{}, errors.New("no way") }
	for _, c := range []struct {
		name   string
		unit   dpu.Unit
		script string
		want   string
	}{
		{"a function fails", dpu.Unit{Name: "people", From: "shop.users", Columns: []dpu.Column{{Name: "x", Type: "int", Func: fails}}},
			`insert shop.users 1, "Ann", NULL, "p"`, `unit "people", table shop.users, row id=1, column x: no way`},
		{"a function panics", dpu.Unit{From: "shop.users", Columns: []dpu.Column{{Name: "x", Type: "int", Func: func(context.Context, []dfs.Value) (dfs.Value, error) {
			panic("oh")
		}}}}, `insert shop.users 1, "Ann", NULL, "p"`, `unit "shop.users", table shop.users, row id=1, column x: the function panicked: oh`},
		{"a filter panics", dpu.Unit{From: "shop.users", Where: dpu.Where{Func: func(context.Context, []dfs.Value) (bool, error) { panic("oh") }}},
			`delete shop.users 1, "Ann", NULL, "p"`, `row id=1: its condition: the function panicked: oh`},
		{"a func panics", dpu.Unit{From: "shop.users", Func: func(context.Context, dpu.Change, func(dpu.Change)) error { panic("oh") }},
			`delete shop.users 1, "Ann", NULL, "p"`, `unit "shop.users", table shop.users, row id=1: the function panicked: oh`},
		{"a value does not fit", dpu.Unit{From: "eu.orders", Cast: map[string]string{"total": "tinyint"}}, "insert eu.orders 3, 300",
			"row id=3, column total: 300 is out of the range of tinyint"},
		{"a made value does not fit", dpu.Unit{From: "eu.orders", Columns: []dpu.Column{{Name: "x", Type: "varchar(2)", Expr: "string(total)"}}}, "insert eu.orders 3, 300",
			`column x: "300" has 3 characters, and varchar(2) takes 2`},
		{"integers do not wrap", dpu.Unit{From: "eu.orders", Columns: []dpu.Column{{Name: "x", Expr: "total * 9223372036854775807"}}}, "insert eu.orders 3, 300",
			"column x: 300 * 9223372036854775807 is more than a bigint holds"},
		{"a condition needs a column that the log left out", dpu.Unit{From: "eu.orders", Where: dpu.Where{Expr: "total > 1"}}, "delete eu.orders 3, ABSENT",
			"the row image lacks the column total: set binlog_row_image=FULL"},
		{"a row that enters is not whole", dpu.Unit{From: "shop.orders", Where: dpu.Where{Expr: "quantity > 1"}},
			`update shop.orders 7, 1, ABSENT, 1, NULL, "a", "b" -> 7, 1, ABSENT, 2, NULL, "a", "b"`, "the row image lacks the column price"},
		{"a made column needs one that the log left out", dpu.Unit{From: "shop.orders", Columns: []dpu.Column{{Name: "x", Expr: "price * quantity"}}},
			`update shop.orders 7, 1, ABSENT, 1, NULL, "a", "b" -> 7, 1, ABSENT, 2, NULL, "a", "b"`, "column x: the row image lacks the column price"},
		{"a func emits what Emits does not describe", dpu.Unit{From: "eu.orders", Emits: []*dfs.Table{dfstest.Table(t, "x.y (id int)")},
			Func: func(_ context.Context, c dpu.Change, emit func(dpu.Change)) error { emit(c); return nil }},
			"insert eu.orders 1, 2", "emitted a change of eu.orders that Emits does not describe"},
		{"a func names a column that is not there", dpu.Unit{From: "eu.orders",
			Func: func(_ context.Context, c dpu.Change, emit func(dpu.Change)) error {
				emit(c.To("a.b", "nope"))
				return nil
			}},
			"insert eu.orders 1, 2", "To: eu.orders has no column nope"},
		{"a statement alters its table", dpu.Unit{From: "eu.*", Drop: []string{"total"}}, "ddl eu.orders ALTER TABLE orders ADD x int",
			`unit "eu.*", table eu.orders: transaction a:1 alters it by "ALTER TABLE orders ADD x int"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := process(t, []dpu.Unit{c.unit}, nil, c.script+"\ncommit a:1")
			require.ErrorContains(t, err, c.want)
			var e *dpu.Error
			require.ErrorAs(t, err, &e)
			require.NotEmpty(t, e.Unit)
		})
	}
}

// The stage goes on after an error, as the engine needs it to.
func TestStageGoesOnAfterAPanic(t *testing.T) {
	first := true
	units, err := dpu.New([]dpu.Unit{{From: "eu.orders", Columns: []dpu.Column{{Name: "x", Type: "int", From: []string{"id"},
		Func: func(_ context.Context, v []dfs.Value) (dfs.Value, error) {
			if first {
				first = false
				panic("once")
			}
			return v[0], nil
		}}}}}, nil)
	require.NoError(t, err)
	s, err := dfstest.Parse(tables + "insert eu.orders 1, 2\ncommit")
	require.NoError(t, err)
	_, err = dfstest.Run(t.Context(), []dfs.Stage{units}, s.Transactions...)
	var p *dpu.PanicError
	require.ErrorAs(t, err, &p)
	require.Contains(t, string(p.Stack), "units_test.go")
	out, err := dfstest.Run(t.Context(), []dfs.Stage{units}, s.Transactions...)
	require.NoError(t, err)
	require.Equal(t, "insert eu.orders id=1, total=2, x=1\ncommit\n", dfstest.Format(out...))
	require.Equal(t, []dpu.UnitStats{{Name: "eu.orders", In: 1, Out: 1}}, units.Stats())
}

func TestStatementsFollowThePolicy(t *testing.T) {
	unit := []dpu.Unit{{From: "eu.*", Drop: []string{"total"}}}
	const script = "ddl eu.orders ALTER TABLE orders ADD x int\ncommit a:1"
	got, err := process(t, unit, &dpu.Options{DDL: dpu.PolicyIgnore, Logger: quiet}, script)
	require.NoError(t, err)
	require.Equal(t, "commit a:1\n", got)
	got, err = process(t, unit, &dpu.Options{DDLDone: []string{"a:1"}}, script)
	require.NoError(t, err)
	require.Equal(t, "commit a:1\n", got)
	_, err = process(t, unit, nil, "ddl eu. DROP DATABASE eu\ncommit")
	require.ErrorContains(t, err, `unit "eu.*", table tables that it does not name`)
	_, err = process(t, unit, nil, "ddl . WHATEVER THIS IS\ncommit")
	require.ErrorContains(t, err, `unit "eu.*", table tables that it does not name`)
	got, err = process(t, unit, &dpu.Options{OnlyUnits: true}, "ddl us.orders DROP TABLE orders\ninsert us.orders 1, 2\ncommit a:1")
	require.NoError(t, err)
	require.Equal(t, "commit a:1\n", got)
}

// A unit that gives its tables another name gives it to their statements too.
func TestStatementsAreTranslated(t *testing.T) {
	units := []dpu.Unit{{From: "shop.users", Into: "crm.people"}, {From: "shop_*.*", Into: "all.{1}_{table}"}, {From: "eu.*", Drop: []string{"x"}}}
	for _, c := range []struct{ in, want string }{
		{"ddl shop.users ALTER TABLE users ADD x int", "ddl crm.people ALTER TABLE `crm`.`people` ADD x int"},
		{"ddl shop_eu.t CREATE TABLE t (id int, FOREIGN KEY (id) REFERENCES shop.users (id))",
			"ddl all.eu_t CREATE TABLE `all`.`eu_t` (id int, FOREIGN KEY (id) REFERENCES `crm`.`people` (id))"},
		{"ddl shop.users RENAME TABLE shop.users TO shop_us.people", "ddl crm.people RENAME TABLE `crm`.`people` TO `all`.`us_people`"},
		{"ddl us.orders DROP TABLE orders", "ddl us.orders DROP TABLE orders"},
		{"ddl shop.users DROP TABLE shop.users, eu.orders", "error"},
		{"ddl shop_eu. DROP DATABASE shop_eu", "error"},
	} {
		got, err := process(t, units, nil, c.in+"\ncommit a:1")
		if c.want == "error" {
			require.ErrorContains(t, err, "cannot be translated for the target", c.in)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, c.want+"\ncommit a:1\n", got)
	}
}

// A statement about one table must not act on what the target has of others.
func TestStatementsAboutTablesThatMeetAreRefused(t *testing.T) {
	into := func(from, into string) dpu.Unit { return dpu.Unit{From: from, Into: into} }
	tab := func(name string) []*dfs.Table {
		return []*dfs.Table{dfstest.Table(t, name+" (id int, key id)")}
	}
	for _, c := range []struct {
		name, table string
		units       []dpu.Unit
		opts        *dpu.Options
		want        string // where the statement goes to, or why it does not
	}{
		{"shards", "shop_1.orders", []dpu.Unit{into("shop_*.orders", "all.orders")}, nil, "all.orders of the target may also have rows of shop_*.orders"},
		{"shards that keep apart", "shop_1.orders", []dpu.Unit{into("shop_*.orders", "all.orders_{1}")}, nil, "all.orders_1"},
		{"by the schema", "shop_1.orders", []dpu.Unit{into("shop_*.orders", "all.{schema}_{table}")}, nil, "all.shop_1_orders"},
		{"by both names", "a_b.c", []dpu.Unit{into("*.*", "all.{schema}_{table}")}, nil, "all.a_b_c of the target may also have rows of a.b_c"},
		{"by both names, which are short", "a.b", []dpu.Unit{into("*.*", "all.{schema}_{table}")}, nil, "all.a_b"},
		{"half of the wildcards", "a_b.c", []dpu.Unit{into("*_*.c", "all.c_{1}")}, nil, "may also have rows of *_*.c"},
		{"one character", "a1.c", []dpu.Unit{into("a?.c", "all.{1}{1}")}, nil, "all.11"},
		{"another schema", "shop.a", []dpu.Unit{into("*.*", "copy.*")}, nil, "may also have rows of *.*"},
		{"the same schema", "shop.a", []dpu.Unit{into("shop.*", "copy.*")}, nil, "copy.a"},
		{"two units", "old.users", []dpu.Unit{into("shop.users", "crm.people"), into("old.users", "CRM.People")}, nil, "may also have rows of shop.users"},
		{"a schema with the name", "shop.users", []dpu.Unit{into("shop.users", "crm.people"), into("old.*", "crm.*")}, nil, "may also have rows of old.people"},
		{"an earlier unit has it", "shop.users", []dpu.Unit{into("old.people", "x.y"), into("shop.users", "crm.people"), into("old.*", "crm.*")}, nil, "crm.people"},
		{"a table of the name", "shop.users", []dpu.Unit{into("shop.users", "crm.people")}, &dpu.Options{Tables: append(tab("shop.users"), tab("crm.people")...)},
			"may also have rows of crm.people"},
		{"a table of the name that does not come", "shop.users", []dpu.Unit{into("shop.users", "crm.people")},
			&dpu.Options{OnlyUnits: true, Tables: append(tab("shop.users"), tab("crm.people")...)}, "crm.people"},
		{"a table of the name in a unit", "shop.users", []dpu.Unit{into("shop.users", "crm.people"), into("*.*", "*.*")},
			&dpu.Options{Tables: append(tab("shop.users"), tab("crm.people")...)}, "may also have rows of crm.people"},
		{"no such table", "shop.users", []dpu.Unit{into("shop.users", "crm.people"), into("*.*", "*.*")}, nil, "crm.people"},
		{"a table without a unit", "crm.people", []dpu.Unit{into("shop.users", "crm.people")}, nil, "crm.people of the target may also have rows of shop.users"},
		{"what a function emits", "crm.people", []dpu.Unit{{From: "shop.log", Emits: tab("crm.people"), Func: func(context.Context, dpu.Change, func(dpu.Change)) error { return nil }}}, nil,
			"may also have rows of what unit \"shop.log\" emits"},
		{"what a function matches", "shop.users", []dpu.Unit{{Match: func(t *dfs.Table) bool { return t.Name == "users" }, Into: "crm.{table}"}}, nil,
			"may also have rows of what unit \"unit 1\" matches"},
		{"some rows", "shop.users", []dpu.Unit{{From: "shop.users", Into: "crm.people", Where: dpu.Where{Expr: "id > 1"}}}, nil, "its unit makes other columns or rows"},
	} {
		for _, text := range []string{"TRUNCATE TABLE %s", "ALTER TABLE %s ADD x int", "DROP TABLE %s"} {
			got, err := process(t, c.units, c.opts, "ddl "+c.table+" "+fmt.Sprintf(text, c.table)+"\ncommit a:1")
			if strings.Contains(c.want, " ") {
				require.ErrorContains(t, err, c.want, c.name)
				continue
			}
			require.NoError(t, err, c.name)
			require.Contains(t, got, "ddl "+c.want+" "+text[:5], c.name)
		}
	}

	units := []dpu.Unit{into("shop.users", "crm.people"), into("eu.*", "*.*")}
	_, err := process(t, units, nil, "ddl crm. DROP DATABASE crm\ncommit a:1")
	require.ErrorContains(t, err, "units send tables of other schemas to crm")
	_, err = process(t, units, &dpu.Options{OnlyUnits: true}, "ddl shop.users DROP TABLE shop.users, shop.other\ncommit a:1")
	require.ErrorContains(t, err, "no unit is for shop.other")
	got, err := process(t, units, nil, "ddl other. DROP DATABASE other\ncommit a:1")
	require.NoError(t, err)
	require.Equal(t, "ddl other. DROP DATABASE other\ncommit a:1\n", got)
}

func TestFaultsAreFoundAtTheStart(t *testing.T) {
	s, err := dfstest.Parse(tables)
	require.NoError(t, err)
	for _, c := range []struct {
		name  string
		units []dpu.Unit
		want  []string
	}{
		{"nothing to match", []dpu.Unit{{}}, []string{`unit "unit 1", From: is empty`}},
		{"a bad pattern", []dpu.Unit{{From: "users"}}, []string{`From: "users" names no table`}},
		{"a table that is not there", []dpu.Unit{{From: "shop.user"}}, []string{"no table of the source comes to it"}},
		{"a unit that another leaves nothing", []dpu.Unit{{From: "shop.*"}, {From: "shop.users"}}, []string{"may need Also"}},
		{"columns that are not there, each with its fault", []dpu.Unit{{From: "shop.users", Drop: []string{"pasword"}, Rename: map[string]string{"email": "x"}, Select: []string{"id", "nme"}}},
			[]string{"Drop, of shop.users: there is no column pasword; did you mean password?", "Rename, of shop.users: there is no column email; did you mean mail?",
				"Select, of shop.users: there is no column nme; did you mean name?"}},
		{"a name that no table of many has", []dpu.Unit{{From: "shop.*", Drop: []string{"password"}, Mask: map[string]dpu.Mask{"nope": "null"}}},
			[]string{"Mask: none of its tables has a column nope"}},
		{"two columns of one name", []dpu.Unit{{From: "shop.users", Rename: map[string]string{"mail": "Name"}}}, []string{"two columns are called Name"}},
		{"an expression with a mistake", []dpu.Unit{{From: "shop.users", Where: dpu.Where{Expr: "id >"}}}, []string{"Where: unexpected token EOF"}},
		{"an expression of no such column", []dpu.Unit{{From: "shop.users", Where: dpu.Where{Expr: "idd > 1"}}}, []string{"unknown name idd"}},
		{"an expression of the wrong type", []dpu.Unit{{From: "shop.users", Where: dpu.Where{Expr: "id + 1"}}}, []string{"expected bool, but got int"}},
		{"an expression that adds text to a number", []dpu.Unit{{From: "shop.users", Columns: []dpu.Column{{Name: "x", Expr: "id + name"}}}}, []string{"mismatched types int and string"}},
		{"an expression that forgets NULL", []dpu.Unit{{From: "shop.users", Columns: []dpu.Column{{Name: "x", Expr: "upper(mail)"}}}}, []string{"the column mail may be NULL here: write (mail ?? 0)"}},
		{"an expression that asks for the time", []dpu.Unit{{From: "shop.users", Columns: []dpu.Column{{Name: "x", Expr: "now()"}}}}, []string{"unknown name now"}},
		{"a column of no type", []dpu.Unit{{From: "shop.users", Columns: []dpu.Column{{Name: "x"}}}}, []string{"Columns[0].Type"}},
		{"a column of an unknown type", []dpu.Unit{{From: "shop.users", Columns: []dpu.Column{{Name: "x", Type: "text(", Value: 1}}}}, []string{"lacks its closing parenthesis"}},
		{"a constant that does not fit", []dpu.Unit{{From: "shop.users", Columns: []dpu.Column{{Name: "x", Type: "tinyint", Value: 300}}}}, []string{"out of the range of tinyint"}},
		{"a column made twice", []dpu.Unit{{From: "shop.users", Columns: []dpu.Column{{Name: "x", Value: 1}, {Name: "X", Value: 1}}}}, []string{"column X is made twice"}},
		{"a column made in two ways", []dpu.Unit{{From: "shop.users", Columns: []dpu.Column{{Name: "x", Value: 1, Expr: "1"}}}}, []string{"more than one of Value"}},
		{"an unknown mask", []dpu.Unit{{From: "shop.users", Mask: map[string]dpu.Mask{"mail": "hide"}}}, []string{`"hide" is no mask`}},
		{"a mask that makes keys equal", []dpu.Unit{{From: "shop.users", Mask: map[string]dpu.Mask{"id": "redact"}}}, []string{"would make keys equal"}},
		{"a mask of a number's first characters", []dpu.Unit{{From: "eu.orders", Mask: map[string]dpu.Mask{"total": "truncate 1"}}}, []string{"the mask truncate is for text"}},
		{"a cast that cannot be", []dpu.Unit{{From: "shop.users", Cast: map[string]string{"id": "date"}}}, []string{"bigint cannot become date"}},
		{"a placeholder that is not there", []dpu.Unit{{From: "eu.*", Into: "{1}.{2}"}}, []string{"has {2}, and From has 1 wildcards"}},
		{"a target that is a pattern", []dpu.Unit{{From: "eu.*", Into: "x.a*"}}, []string{"a * must stand alone"}},
		{"no columns", []dpu.Unit{{From: "eu.*", Drop: []string{"id", "total"}}}, []string{"no column is left"}},
		{"a soft delete without a key", []dpu.Unit{{From: "eu.*", Drop: []string{"id"}, SoftDelete: "gone"}}, []string{"set Key"}},
		{"a part that may be nothing", []dpu.Unit{{From: "shop.users", Select: []string{"id", "mail"}, Part: true}}, []string{"each of its columns but the key's may be NULL"}},
		{"two parts that write one column", []dpu.Unit{{From: "eu.orders", Into: "w.o", Part: true}, {From: "us.orders", Into: "w.o", Part: true}},
			[]string{`its column total of w.o is also written by unit "eu.orders"`}},
		{"a part and a whole", []dpu.Unit{{From: "eu.orders", Into: "w.o", Part: true}, {From: "us.orders", Into: "w.o"}}, []string{"either both are Part or none"}},
		{"parts of different keys", []dpu.Unit{{From: "eu.orders", Into: "w.o", Part: true}, {From: "us.orders", Into: "w.o", Part: true, Rename: map[string]string{"id": "no", "total": "t"}}},
			[]string{"differs from that of unit"}},
		{"each row twice", []dpu.Unit{{From: "eu.orders", Also: true}, {Name: "b", From: "eu.*"}}, []string{"would be written to eu.orders twice"}},
		{"a hash without a key", []dpu.Unit{{From: "eu.orders", Mask: map[string]dpu.Mask{"id": "hash"}}}, []string{"needs Options.HashKey"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := dpu.New(c.units, &dpu.Options{Tables: s.Tables, Logger: quiet})
			for _, want := range c.want {
				require.ErrorContains(t, err, want)
			}
			var f *dpu.Fault
			require.ErrorAs(t, err, &f)
		})
	}
	_, err = dpu.New(nil, &dpu.Options{HashKey: []byte("short"), DDL: "maybe"})
	require.ErrorContains(t, err, "use 16 or more")
	require.ErrorContains(t, err, `DDL policy "maybe"`)
}

func TestExpressions(t *testing.T) {
	const table = `table s.t (i bigint, n int null, u bigint unsigned, d decimal(10,2), f double null, s varchar(20) null, e enum('x','y'), ` +
		`j json null, t datetime(3) null, span time, c varchar(9) charset latin1, B int, q decimal(8,2) null, key i)`
	const row = `insert s.t 4, NULL, 18446744073709551615, 1.10, 0.5, NULL, "y", "{\"a\": {\"b\": [1, 9007199254740993]}}", "2026-11-22 10:30:00", "01:30:00", "c", 7, 2.50` + "\ncommit"
	for _, c := range []struct{ expr, want string }{
		{"i + 1", "5"}, {"i / 8", "0.5"}, {"i % 3", "1"}, {"-i", "-4"}, {"i ** 2", "16"},
		{"d * i", "4.400000000000000000000000000000"}, {"d * 1.2", "1.320000000000000000000000000000"}, {"d + d > 2.19", "1"}, {"d == 1.1", "1"}, {"d / 3", "0.366667000000000000000000000000"},
		{"d / 0", "error: division by zero"}, {"u", "error: reading column u: 18446744073709551615 is more than the integers"},
		{"n", "NULL"}, {"n ?? 3", "3"}, {"n == nil", "1"}, {"n == 5", "0"}, {"n != 5", "1"}, {"5 == n", "0"}, {"s == nil or len(s) > 2", "1"},
		{"s != nil and len(s) > 2", "0"}, {"s != nil ? upper(s) : \"none\"", `"none"`}, {"not (s == nil) and len(s) > 2", "0"}, {"(s ?? \"\") + e", `"y"`},
		{"e == \"y\"", "1"}, {"e in [\"x\", \"y\"]", "1"}, {"j.a.b[1]", "9007199254740993"}, {"j?.x?.y", "NULL"},
		{"t != nil ? t.Year() : 0", "2026"}, {"t ?? nil", `"2026-11-22 10:30:00.000000"`}, {"span", `"01:30:00.000000"`}, {"i > 3 && b == 7", "1"},
		{"9223372036854775807 + i", "error: 9223372036854775807 + 4 is more than a bigint holds"}, {"f == 0.5", "1"}, {"(f ?? 1.0) * 2", "1"},
		{"[1, i]", `"[1,4]"`}, {"let x = i; x * 2", "8"}, {"e matches \"^y\"", "1"},
		{`$env["i"] + B`, "11"}, {`$env["n"] + 1`, "fault: the column n may be NULL here"}, {"toJSON($env)", "fault: $env stands alone"}, {`$env["x y"] + 1`, "fault: unknown name x y"},
		{"(q ?? 0) + d", "3.600000000000000000000000000000"}, {"(q ?? 0) * 2 == 5", "1"}, {"(q ?? 0.5) / i", "0.625000000000000000000000000000"}, {"-d", "-1.100000000000000000000000000000"}, {"-(q ?? 0) < -2.4", "1"},
		{`{"total": d, "of": [i, e]}`, `"{\"of\":[4,\"y\"],\"total\":1.10}"`}, {`split("a,b", ",")`, `"[\"a\",\"b\"]"`},
		{`keys({"c": 1, "a": 2, "d": 3, "b": i})`, `"[\"a\",\"b\",\"c\",\"d\"]"`}, {`values({"c": 1, "a": 2, "d": 3, "b": i})`, `"[2,4,1,3]"`}, {`toPairs({"b": 1, "a": i})`, `"[[\"a\",4],[\"b\",1]]"`},
		{"j.a.b[1] * 1024", "error: 9007199254740993 * 1024 is more than a bigint holds"}, {"j.a.b[0] + d == 2.1 ? 1 : 0", "1"}, {"j.none + 1", "error: NULL + 1: there is nothing to compute with"},
		{"reduce(1..10, #acc * 99999999, 1)", "error: is more than a bigint holds"}, {"i / 0", "error: +Inf is no number of a column"},
		{"(e + 1) > d", "fault: mismatched types string and int"}, {"len(idd) * d > 1", "fault: unknown name idd"}, {"d in [1.5]", "fault: cannot use"},
		{"c", "fault: the column c is text in latin1"}, {"n > 3", "fault: the column n may be NULL here"}, {"n == nil and n > 3", "fault: the column n may be NULL here"},
		{"n != nil or n > 3", "fault: the column n may be NULL here"}, {"i + s", "fault: the column s may be NULL here"},
	} {
		t.Run(c.expr, func(t *testing.T) {
			typ := ""
			switch {
			case strings.HasPrefix(c.expr, "j"), strings.HasPrefix(c.expr, "reduce"): // only the row tells its type
				typ = "bigint"
			case c.expr == "t ?? nil":
				typ = "datetime(6)"
			}
			s, err := dfstest.Parse(table + "\n" + row)
			require.NoError(t, err)
			units, err := dpu.New([]dpu.Unit{{From: "s.t", Select: []string{"i"}, Columns: []dpu.Column{{Name: "r", Type: typ, Expr: c.expr}}}}, &dpu.Options{Tables: s.Tables})
			if want, ok := strings.CutPrefix(c.want, "fault: "); ok {
				require.ErrorContains(t, err, want)
				return
			}
			require.NoError(t, err)
			out, err := dfstest.Run(t.Context(), []dfs.Stage{units}, s.Transactions...)
			if want, ok := strings.CutPrefix(c.want, "error: "); ok {
				require.ErrorContains(t, err, want)
				return
			}
			require.NoError(t, err)
			require.Equal(t, "insert s.t i=4, r="+c.want+"\ncommit\n", dfstest.Format(out...))
		})
	}
}

func TestTargetsAreKnownBeforeTheFirstRow(t *testing.T) {
	s, err := dfstest.Parse(tables)
	require.NoError(t, err)
	units, err := dpu.New([]dpu.Unit{
		{Name: "orders", From: "shop.orders", Drop: []string{"street"}, Rename: map[string]string{"price": "amount"}, Cast: map[string]string{"price": "decimal(10,1)"},
			Mask: map[string]dpu.Mask{"city": "redact"}, Columns: []dpu.Column{{Name: "total", Expr: "price * quantity", Type: "decimal(12,2)"}}, SoftDelete: "gone", Into: "crm.orders"},
		{From: "eu.orders", Into: "w.o", Part: true, Rename: map[string]string{"total": "eu"}},
		{From: "us.orders", Into: "w.o", Part: true, Rename: map[string]string{"total": "us"}},
	}, &dpu.Options{Tables: s.Tables, Logger: quiet})
	require.NoError(t, err)
	targets, err := units.Targets(s.Tables[1])
	require.NoError(t, err)
	require.Len(t, targets, 1)
	require.Equal(t, `shop.orders -> crm.orders, unit "orders"
  id int               <- id (key)
  user_id bigint       <- user_id
  amount decimal(10,1) <- price, cast from decimal(10,2)
  quantity int         <- quantity
  status varchar(10)   <- status
  city varchar(20)     <- city, masked by redact
  total decimal(12,2)  <- = price * quantity
  gone timestamp(6)    <- when the row was deleted
  dropped: street
  note: column price, decimal(10,2) cast to decimal(10,1): numbers are rounded to 1 digits after the point
`, targets[0].String())
	for _, table := range s.Tables[2:] {
		more, err := units.Targets(table)
		require.NoError(t, err)
		targets = append(targets, more...)
	}
	kept, err := units.Targets(s.Tables[0])
	require.NoError(t, err)
	require.Equal(t, "shop.users -> shop.users\n", strings.SplitAfter(kept[0].String(), "\n")[0])
	require.Equal(t, []string{"CREATE TABLE `crm`.`orders` (\n  `id` int NOT NULL,\n  `user_id` bigint NOT NULL,\n  `amount` decimal(10,1) NOT NULL,\n" +
		"  `quantity` int NOT NULL,\n  `status` varchar(10) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci,\n" +
		"  `city` varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci NOT NULL,\n  `total` decimal(12,2),\n  `gone` timestamp(6) NULL,\n  PRIMARY KEY (`id`)\n)",
		"CREATE TABLE `w`.`o` (\n  `id` int NOT NULL,\n  `eu` int,\n  `us` int,\n  PRIMARY KEY (`id`)\n)"}, dpu.CreateTables(targets...))
}

// A source may describe its tables anew in each transaction.
func TestTablesOfOneShapeShareAPlan(t *testing.T) {
	made := 0
	units, err := dpu.New([]dpu.Unit{{Match: func(*dfs.Table) bool { made++; return true }, Drop: []string{"total"}}}, nil)
	require.NoError(t, err)
	var txs []dfs.Transaction
	for range 50 {
		s, err := dfstest.Parse(tables + "insert eu.orders 1, 2\ncommit")
		require.NoError(t, err)
		txs = append(txs, s.Transactions...)
	}
	out, err := dfstest.Run(t.Context(), []dfs.Stage{units}, txs...)
	require.NoError(t, err)
	require.Equal(t, 1, made)
	for _, tx := range out {
		require.Same(t, out[0].Changes[0].Table, tx.Changes[0].Table)
	}
}

func TestNotesAreLoggedOnce(t *testing.T) {
	var b strings.Builder
	log := slog.New(slog.NewTextHandler(&b, nil))
	_, err := process(t, []dpu.Unit{{From: "shop.orders", Cast: map[string]string{"price": "int"}}}, &dpu.Options{Logger: log},
		strings.Repeat(`insert shop.orders 7, 1, 2.10, 3, NULL, "a", "b"`+"\ncommit\n", 3))
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(b.String(), "numbers are rounded"), b.String())
}

func ExampleNew() {
	units, err := dpu.New([]dpu.Unit{
		{From: "shop.users", Drop: []string{"password"}, Rename: map[string]string{"mail": "email"}, Into: "crm.people"},
		{From: "shop.orders", Where: dpu.Where{Expr: `status != "draft"`},
			Columns: []dpu.Column{{Name: "total", Type: "decimal(12,2)", Expr: "price * quantity"}}},
	}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	s, _ := dfstest.Parse(`
		table shop.users (id bigint, name varchar(40), mail varchar(60), password varchar(60), key id)
		table shop.orders (id bigint, price decimal(10,2), quantity int, status varchar(10), key id)
		insert shop.users 1, "Ann", "ann@example.com", "secret"
		insert shop.orders 7, 19.90, 3, "draft"
		update shop.orders 7, 19.90, 3, "draft" -> 7, 19.90, 3, "paid"
		commit`)
	out, err := dfstest.Run(context.Background(), []dfs.Stage{units}, s.Transactions...)
	fmt.Print(dfstest.Format(out...))
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// insert crm.people id=1, name="Ann", email="ann@example.com"
	// insert shop.orders id=7, price=19.90, quantity=3, status="paid", total=59.70
	// commit
}

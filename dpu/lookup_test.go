package dpu_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/dfstest"
	"github.com/dataflowsync/dfs/dpu"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"
)

// cities is a Lookup in memory that counts.
type cities struct {
	names map[int64]string
	asked [][]dfs.Row
	err   error
}

func (c *cities) Columns() []dfs.Column {
	return []dfs.Column{{Name: "name", Type: "varchar(20)", Charset: "utf8mb4"}}
}

func (c *cities) Rows(_ context.Context, keys []dfs.Row) ([]dfs.Row, error) {
	c.asked = append(c.asked, keys)
	found := make([]dfs.Row, len(keys))
	for i, k := range keys {
		if name, ok := c.names[k[0].Int()]; ok {
			found[i] = dfs.Row{dfs.StringValue(name)}
		}
	}
	return found, c.err
}

const people = "table s.p (id int, city int null, key id)\n"

func TestLookups(t *testing.T) {
	c := &cities{names: map[int64]string{1: "Bath", 2: "Wells"}}
	units, err := dpu.New([]dpu.Unit{{From: "s.p", Lookups: []dpu.Join{{Lookup: c, On: []string{"city"}, As: map[string]string{"name": "city_name"}}},
		Where: dpu.Where{Expr: "id < 100"}, Columns: []dpu.Column{{Name: "loud", Expr: "upper(city_name ?? \"?\")", Type: "varchar(20)"}}}}, nil)
	require.NoError(t, err)
	s, err := dfstest.Parse(people + `insert s.p 1, 1
insert s.p 2, 2
insert s.p 3, 1
insert s.p 4, 9
insert s.p 5, NULL
commit
update s.p 1, 1 -> 1, 2
update s.p 1, 2 -> 100, 2
update s.p 2, ABSENT -> ABSENT, ABSENT
delete s.p 2, 2
commit`)
	require.NoError(t, err)
	for range 2 {
		out, err := dfstest.Run(t.Context(), []dfs.Stage{units}, s.Transactions...)
		require.NoError(t, err)
		require.Equal(t, `insert s.p id=1, city=1, city_name="Bath", loud="BATH"
insert s.p id=2, city=2, city_name="Wells", loud="WELLS"
insert s.p id=3, city=1, city_name="Bath", loud="BATH"
insert s.p id=4, city=9, city_name=NULL, loud="?"
insert s.p id=5, city=NULL, city_name=NULL, loud="?"
commit
update s.p id=1, city=1, city_name=ABSENT, loud=ABSENT -> id=1, city=2, city_name="Wells", loud="WELLS"
delete s.p id=1, city=2, city_name=ABSENT, loud=ABSENT
update s.p id=2, city=ABSENT, city_name=ABSENT, loud=ABSENT -> id=ABSENT, city=ABSENT, city_name=ABSENT, loud=ABSENT
delete s.p id=2, city=2, city_name=ABSENT, loud=ABSENT
commit
`, dfstest.Format(out...))
	}
	require.Len(t, c.asked, 1, "one call for all keys of the batch, and none once they are kept")
	require.Len(t, c.asked[0], 3)
}

func TestLookupsAreKeptForATimeAndInNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cities{names: map[int64]string{1: "Bath"}}
		units, err := dpu.New([]dpu.Unit{{From: "s.p", Lookups: []dpu.Join{{Lookup: c, On: []string{"city"}, Cache: 2, CacheFor: time.Second}}}}, nil)
		require.NoError(t, err)
		look := func(city int) (asked int) {
			s, err := dfstest.Parse(people + fmt.Sprintf("insert s.p 1, %d\ncommit", city))
			require.NoError(t, err)
			before := len(c.asked)
			_, err = dfstest.Run(t.Context(), []dfs.Stage{units}, s.Transactions...)
			require.NoError(t, err)
			return len(c.asked) - before
		}
		require.Equal(t, 1, look(1))
		require.Equal(t, 0, look(1))
		time.Sleep(time.Second)
		require.Equal(t, 1, look(1), "it was too old")
		for city := range 5 {
			look(city + 10)
		}
		require.Equal(t, 1, look(1), "others took its place")
	})
}

func TestLookupsThatFail(t *testing.T) {
	s, err := dfstest.Parse(people + "insert s.p 1, 7\ncommit")
	require.NoError(t, err)
	run := func(j dpu.Join) error {
		units, err := dpu.New([]dpu.Unit{{From: "s.p", Lookups: []dpu.Join{j}}}, &dpu.Options{Tables: s.Tables})
		if err != nil {
			return err
		}
		_, err = dfstest.Run(t.Context(), []dfs.Stage{units}, s.Transactions...)
		return err
	}
	require.ErrorContains(t, run(dpu.Join{Lookup: &cities{}, On: []string{"city"}, Required: true}), "row id=1: nothing is found for the key 7, and the lookup is required")
	err = run(dpu.Join{Lookup: &cities{err: dfs.Transient(errors.New("away"))}, On: []string{"city"}})
	require.ErrorContains(t, err, `unit "s.p", Lookups[0]: looking up 1 keys: away`)
	require.ErrorIs(t, err, dfs.ErrTransient)
	require.ErrorContains(t, run(dpu.Join{On: []string{"city"}}), "Lookups[0].Lookup: is nil")
	require.ErrorContains(t, run(dpu.Join{Lookup: &cities{}, On: []string{"town"}}), "Lookups[0].On, of s.p: there is no column town")
	_, err = dpu.New([]dpu.Unit{{From: "s.p", Where: dpu.Where{Expr: "name != nil"}, Lookups: []dpu.Join{{Lookup: &cities{}, On: []string{"city"}}}}}, &dpu.Options{Tables: s.Tables})
	require.ErrorContains(t, err, "Where, of s.p: unknown name name")
	require.ErrorContains(t, run(dpu.Join{Lookup: &cities{}}), "Lookups[0].On, of s.p: is empty")
	require.ErrorContains(t, run(dpu.Join{Lookup: &cities{}, On: []string{"city"}, As: map[string]string{"name": "City"}}), "its column City has the name of another")
}

func TestTableLookup(t *testing.T) {
	db, err := sql.Open("sqlite", ":memory:")
	require.NoError(t, err)
	defer db.Close()
	db.SetMaxOpenConns(1)
	_, err = db.Exec("CREATE TABLE cities (id int, part text, name text, people int, since text); " +
		"INSERT INTO cities VALUES (1, 'a', 'Bath', 90000, '1090-01-02'), (2, 'a', NULL, NULL, NULL), (3, 'b', 'x', 1, NULL), (3, 'b', 'y', 1, NULL)")
	require.NoError(t, err)
	l := &dpu.TableLookup{DB: db, Table: "cities", Key: []string{"id", "part"}, Find: []dfs.Column{
		{Name: "name", Type: "varchar(9)", Charset: "utf8mb4"}, {Name: "people", Type: "int"}, {Name: "since", Type: "date"},
	}}
	key := func(id int64, part string) dfs.Row { return dfs.Row{dfs.IntValue(id), dfs.StringValue(part)} }
	rows, err := l.Rows(t.Context(), []dfs.Row{key(2, "a"), key(9, "a"), key(1, "b"), key(1, "a")})
	require.NoError(t, err)
	require.Equal(t, []dfs.Row{{dfs.NullValue(), dfs.NullValue(), dfs.NullValue()}, nil, nil,
		{dfs.StringValue("Bath"), dfs.IntValue(90000), dfs.DateValue(1090, 1, 2)}}, rows)

	_, err = l.Rows(t.Context(), []dfs.Row{key(3, "b")})
	require.ErrorContains(t, err, "asking cities: more than one row has the key 3,b")
	_, err = l.Rows(t.Context(), []dfs.Row{{dfs.IntValue(1)}})
	require.ErrorContains(t, err, "a key has 1 values")
	l.Table = "nowhere"
	_, err = l.Rows(t.Context(), []dfs.Row{key(1, "a")})
	require.Error(t, err)
	require.NotErrorIs(t, err, dfs.ErrTransient)
	var network net.Error
	require.False(t, errors.As(err, &network))
	require.True(t, strings.HasPrefix(err.Error(), "asking nowhere"))
}

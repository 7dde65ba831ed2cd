package dpu_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/dpu"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func TestATableOfAServerIsALookup(t *testing.T) {
	for _, kind := range []testenv.Kind{testenv.MySQL97, testenv.MariaDB} {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			s := srv.Schema(t)
			srv.Exec(t, "CREATE TABLE "+s+".cities (id int PRIMARY KEY, name varchar(40) CHARACTER SET latin1, size enum('small','big') NOT NULL, people bigint unsigned, since date, share decimal(6,3), j json, code char(2), part int, UNIQUE (code, part))")
			var values []string
			for i := range 1000 {
				values = append(values, fmt.Sprintf("(%d, 'Café %d', 'big', %d, '1090-01-02', 0.5, '{}', 'c%d', %d)", i, i, i, i%10, i))
			}
			srv.Exec(t, "INSERT INTO "+s+".cities VALUES "+strings.Join(values, ","), "INSERT INTO "+s+".cities (id, size) VALUES (5000, 'small')")
			db := srv.DB(t)
			l, err := dpu.OpenTableLookup(t.Context(), db, s+".cities", []string{"ID"}, []string{"name", "size", "people", "since", "share"})
			require.NoError(t, err)
			require.Equal(t, []string{"varchar(40)", "varchar(255)"}, []string{l.Columns()[0].Type, l.Columns()[1].Type})
			keys := []dfs.Row{{dfs.IntValue(5000)}, {dfs.IntValue(7777)}}
			for i := range 998 {
				keys = append(keys, dfs.Row{dfs.IntValue(int64(i))})
			}
			rows, err := l.Rows(t.Context(), keys)
			require.NoError(t, err)
			require.Equal(t, dfs.Row{dfs.NullValue(), dfs.StringValue("small"), dfs.NullValue(), dfs.NullValue(), dfs.NullValue()}, rows[0])
			require.Nil(t, rows[1])
			require.Equal(t, dfs.Row{dfs.StringValue("Café 997"), dfs.StringValue("big"), dfs.UintValue(997), dfs.DateValue(1090, 1, 2), dfs.DecimalValue("0.500")}, rows[999])

			l, err = dpu.OpenTableLookup(t.Context(), db, s+".cities", []string{"code", "part"}, []string{"name"})
			require.NoError(t, err)
			rows, err = l.Rows(t.Context(), []dfs.Row{{dfs.StringValue("c3"), dfs.IntValue(13)}, {dfs.StringValue("c3"), dfs.IntValue(14)}})
			require.NoError(t, err)
			require.Equal(t, []dfs.Row{{dfs.StringValue("Café 13")}, nil}, rows)

			for _, c := range []struct {
				table     string
				key, find []string
				want      []string
			}{
				{"cities", []string{"id"}, []string{"name"}, []string{`"cities" names no table`}},
				{s + ".towns", []string{"id"}, []string{"name"}, []string{"there is no table " + s + ".towns", "GRANT SELECT"}},
				{s + ".cities", []string{"di"}, []string{"nam"}, []string{"has no column di", "has no column nam; did you mean name?"}},
				{s + ".cities", nil, nil, []string{"has no key", "finds nothing"}},
				{s + ".cities", []string{"code"}, []string{"name"}, []string{"no unique key", "consists of the columns code"}},
			} {
				_, err := dpu.OpenTableLookup(t.Context(), db, c.table, c.key, c.find)
				for _, want := range c.want {
					require.ErrorContains(t, err, want)
				}
			}
		})
	}
}

func TestAFileIsALookup(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cities.csv")
	open := func(text string, key []string, find ...dfs.Column) (*dpu.FileLookup, error) {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		return dpu.OpenFileLookup(file, key, find)
	}
	name, people := dfs.Column{Name: "Name"}, dfs.Column{Name: "people", Type: "int"}
	l, err := open("\ufeffid,part,name,people\n1,a,\"Bath, the \"\"spa\"\"\",90000\n2,a,,\n", []string{"id", "part"}, name, people)
	require.NoError(t, err)
	key := func(id int64, part string) dfs.Row { return dfs.Row{dfs.IntValue(id), dfs.StringValue(part)} }
	rows, err := l.Rows(t.Context(), []dfs.Row{key(2, "a"), key(1, "b"), key(1, "a")})
	require.NoError(t, err)
	require.Equal(t, []dfs.Row{{dfs.StringValue(""), dfs.NullValue()}, nil, {dfs.StringValue(`Bath, the "spa"`), dfs.IntValue(90000)}}, rows)
	_, err = l.Rows(t.Context(), []dfs.Row{{dfs.IntValue(1)}})
	require.ErrorContains(t, err, "a key has 1 values")

	for _, c := range []struct {
		text string
		key  []string
		find []dfs.Column
		want []string
	}{
		{"", []string{"id"}, []dfs.Column{name}, []string{"reading the first line of "}},
		{"id,name\n", []string{"di"}, []dfs.Column{people, {Name: "name", Type: "text("}}, []string{"has no column di", "has no column people", "lacks its closing parenthesis"}},
		{"id,name\n1,x\n1,y\n", []string{"id"}, []dfs.Column{name}, []string{"line 3: a line before it has the same key"}},
		{"id,people\n1,many\n", []string{"id"}, []dfs.Column{people}, []string{`line 2, column people: "many" is no whole number`}},
		{"id,name\n1\n", []string{"id"}, []dfs.Column{name}, []string{"wrong number of fields"}},
	} {
		_, err := open(c.text, c.key, c.find...)
		for _, want := range c.want {
			require.ErrorContains(t, err, want)
		}
	}
	_, err = dpu.OpenFileLookup(file+".none", []string{"id"}, []dfs.Column{name})
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, os.Truncate(file, 64<<20+1))
	_, err = dpu.OpenFileLookup(file, []string{"id"}, []dfs.Column{name})
	require.ErrorContains(t, err, "put it into a table of a database")
}

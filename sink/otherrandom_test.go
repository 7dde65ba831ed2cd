package sink_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/internal/testseed"
	"github.com/dataflowsync/dfs/sink"
	"github.com/stretchr/testify/require"
)

// A model runs random transactions in memory, and knows what tables must hold.
type model struct {
	rng    *rand.Rand
	tables []*dfs.Table
	rows   [][]dfs.Row
	seq    uint64
}

func newModel(seed uint64) *model {
	text := func(name string) dfs.Column {
		return dfs.Column{Name: name, Type: "varchar(10)", Charset: "utf8mb4", Collation: "utf8mb4_general_ci", Nullable: true}
	}
	number := func(name string) dfs.Column { return dfs.Column{Name: name, Type: "int", Nullable: true} }
	return &model{rng: rand.New(rand.NewPCG(seed, 1)), rows: make([][]dfs.Row, 4), tables: []*dfs.Table{
		// A unique key with NULLs, a key of two columns, no key, and none but a parent.
		{Schema: "source", Name: "u", Key: []int{0}, Columns: []dfs.Column{{Name: "id", Type: "int"}, number("u"), text("w"), number("v")}},
		{Schema: "source", Name: "c", Key: []int{1, 0}, Columns: []dfs.Column{{Name: "x", Type: "int"}, {Name: "y", Type: "varchar(10)", Charset: "utf8mb4", Collation: "utf8mb4_bin"}, number("v")}},
		{Schema: "source", Name: "n", Columns: []dfs.Column{number("a"), text("b"), number("v")}},
		{Schema: "source", Name: "p", Key: []int{0}, Columns: []dfs.Column{{Name: "id", Type: "int"}, number("up"), number("v")}},
	}}
}

const modelSQL = `CREATE TABLE u (id int PRIMARY KEY, u int UNIQUE, w varchar(10), v int);
CREATE TABLE c (x int NOT NULL, y varchar(10) NOT NULL, v int, PRIMARY KEY (y, x));
CREATE TABLE n (a int, b varchar(10), v int);
CREATE TABLE p (id int PRIMARY KEY, up int, v int, FOREIGN KEY (up) REFERENCES p (id))`

func (m *model) value(col *dfs.Column) dfs.Value {
	if col.Nullable && m.rng.IntN(5) == 0 {
		return dfs.NullValue()
	}
	if strings.HasPrefix(col.Type, "varchar") {
		return dfs.StringValue([]string{"a", "A", "a ", "b", "é", "\\", "\t\n", "", "x'\"", "{1,2}", "NULL", "\\N"}[m.rng.IntN(12)])
	}
	return dfs.IntValue(int64(m.rng.IntN(25)))
}

// fits reports whether a row may stand beside those of its table, but for the one at
// the place skip; and whether it has its parent, and no child loses its own.
func (m *model) fits(t int, row dfs.Row, skip int) bool {
	table := m.tables[t]
	for i, r := range m.rows[t] {
		if i == skip {
			continue
		}
		if table.Key != nil && !slices.ContainsFunc(table.Key, func(k int) bool { return r[k] != row[k] }) {
			return false
		}
		if t == 0 && !row[1].IsNull() && r[1] == row[1] {
			return false
		}
	}
	return t != 3 || row[1].IsNull() || slices.ContainsFunc(m.rows[3], func(r dfs.Row) bool { return r[0] == row[1] })
}

func (m *model) parent(row dfs.Row) bool {
	return slices.ContainsFunc(m.rows[3], func(r dfs.Row) bool { return r[1] == row[0] })
}

// change makes one change, or none if what was tried is not allowed.
func (m *model) change() (dfs.Change, bool) {
	t := m.rng.IntN(4)
	table, rows := m.tables[t], m.rows[t]
	fresh := func() dfs.Row {
		row := make(dfs.Row, len(table.Columns))
		for i := range row {
			row[i] = m.value(&table.Columns[i])
		}
		return row
	}
	switch op := m.rng.IntN(10); {
	case op < 4 || len(rows) == 0:
		row := fresh()
		if !m.fits(t, row, -1) {
			return dfs.Change{}, false
		}
		m.rows[t] = append(rows, row)
		return dfs.Change{Op: dfs.Insert, Table: table, After: row}, true
	case op < 8:
		i := m.rng.IntN(len(rows))
		after, other := slices.Clone(rows[i]), fresh()
		for k := range after {
			if m.rng.IntN(3) == 0 && (t != 3 || k > 0) {
				after[k] = other[k]
			}
		}
		if !m.fits(t, after, i) {
			return dfs.Change{}, false
		}
		c := dfs.Change{Op: dfs.Update, Table: table, Before: rows[i], After: after}
		rows[i] = after
		return c, true
	}
	i := m.rng.IntN(len(rows))
	if t == 3 && m.parent(rows[i]) {
		return dfs.Change{}, false
	}
	c := dfs.Change{Op: dfs.Delete, Table: table, Before: rows[i]}
	m.rows[t] = slices.Delete(rows, i, i+1)
	return c, true
}

func (m *model) batch(n int) (list []*dfs.Transaction) {
	for range n {
		m.seq++
		tx := &dfs.Transaction{Checkpoint: dfs.Checkpoint{Seq: m.seq, Pos: dfs.Position(fmt.Sprint(m.seq))}, ID: fmt.Sprint("id ", m.seq)}
		for range m.rng.IntN(4) {
			if c, ok := m.change(); ok {
				tx.Changes = append(tx.Changes, c)
			}
		}
		list = append(list, tx)
	}
	return list
}

// holds returns the rows of a table as one text each, in order.
func (m *model) holds(t int) (list []string) {
	for _, r := range m.rows[t] {
		text := ""
		for _, v := range r {
			text += fmt.Sprintf("%q ", v.String())
		}
		list = append(list, text)
	}
	slices.Sort(list)
	return list
}

// What runs of random transactions leave on a target is what they leave when each
// change is made alone.
func TestRandomRunsOnOtherTargetsEqualOneByOne(t *testing.T) {
	seed := testseed.New(t)
	check := func(t *testing.T, k dfs.Sink, query func(q string) [][]string) {
		m := newModel(seed)
		_, err := k.Checkpoint(t.Context())
		require.NoError(t, err)
		for range 25 {
			require.NoError(t, k.Apply(t.Context(), m.batch(1+m.rng.IntN(300))), "seed %d", seed)
			for i, table := range m.tables {
				var have []string
				for _, r := range query("SELECT * FROM " + table.Name) {
					text := ""
					for _, v := range r {
						text += fmt.Sprintf("%q ", v)
					}
					have = append(have, text)
				}
				slices.Sort(have)
				require.Equal(t, m.holds(i), have, "seed %d, table %s", seed, table.Name)
			}
		}
	}
	t.Run("postgres", func(t *testing.T) {
		srv := testenv.SharedPostgres(t)
		schema := srv.Schema(t)
		srv.Exec(t, "SET search_path="+schema+"; "+modelSQL)
		k := openPostgres(t, srv, schema, nil)
		defer k.Close()
		check(t, k, func(q string) [][]string { return srv.Query(t, "SET search_path="+schema+"; "+q) })
		s := k.Stats()
		t.Logf("%d statements, %d fallbacks, %d one by one, of %d changes", s.Statements, s.Fallbacks, s.Serial, s.Inserts+s.Updates+s.Deletes)
		require.Less(t, s.Statements, s.Inserts+s.Updates+s.Deletes)
	})
	t.Run("sqlite", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "target.db")
		db := openFile(t, path)
		_, err := db.Exec(modelSQL)
		require.NoError(t, err)
		k := openSQLite(t, path, nil)
		defer k.Close()
		check(t, k, func(q string) [][]string { return fileRows(t, db, q) })
	})
}

// Conflicts are what the policies say, and nothing else is touched.
func TestConflictsOnOtherTargets(t *testing.T) {
	for _, policy := range []sink.Policy{sink.PolicyError, sink.PolicyOverwrite, sink.PolicyIgnore} {
		rules := []sink.ConflictRule{{Tables: "*.*", Policy: policy}}
		check := func(t *testing.T, k dfs.Sink, query func(q string) [][]string, stats func() sink.Stats) {
			m := newModel(1)
			table := m.tables[0]
			row := func(id, u int64, w string) dfs.Row {
				return dfs.Row{dfs.IntValue(id), dfs.IntValue(u), dfs.StringValue(w), dfs.IntValue(0)}
			}
			_, err := k.Checkpoint(t.Context())
			require.NoError(t, err)
			batch := []*dfs.Transaction{
				{Changes: []dfs.Change{{Op: dfs.Insert, Table: table, After: row(10, 10, "good")}}},
				// A row that is there, one whose unique value another has, one that is missing.
				{Changes: []dfs.Change{{Op: dfs.Insert, Table: table, After: row(1, 1, "new")}}},
				{Changes: []dfs.Change{{Op: dfs.Update, Table: table, Before: row(2, 5, "two"), After: row(2, 3, "two new")}}},
				{Changes: []dfs.Change{{Op: dfs.Update, Table: table, Before: row(7, 7, "was"), After: row(7, 70, "is")}}},
				{Changes: []dfs.Change{{Op: dfs.Delete, Table: table, Before: row(8, 8, "was")}}},
				{Changes: []dfs.Change{{Op: dfs.Insert, Table: table, After: row(11, 11, "last")}}},
			}
			for i, tx := range batch {
				tx.Checkpoint = dfs.Checkpoint{Seq: uint64(i) + 1, Pos: "x"}
			}
			err = k.Apply(t.Context(), batch)
			have := query("SELECT id, u, w FROM u ORDER BY id")
			switch policy {
			case sink.PolicyError:
				var conflict *sink.ConflictError
				require.ErrorAs(t, err, &conflict)
				require.Equal(t, uint64(2), conflict.Seq)
				require.Equal(t, "id=1", conflict.Key)
				require.Equal(t, [][]string{{"1", "100", "own"}, {"2", "2", "own"}, {"3", "3", "own"}, {"10", "10", "good"}}, have)
				at, err := k.Checkpoint(t.Context())
				require.NoError(t, err)
				require.Equal(t, uint64(1), at.Seq)
				return
			case sink.PolicyOverwrite:
				require.Equal(t, [][]string{{"1", "1", "new"}, {"2", "3", "two new"}, {"7", "70", "is"}, {"10", "10", "good"}, {"11", "11", "last"}}, have)
			case sink.PolicyIgnore:
				require.Equal(t, [][]string{{"1", "100", "own"}, {"2", "2", "own"}, {"3", "3", "own"}, {"10", "10", "good"}, {"11", "11", "last"}}, have)
			}
			require.NoError(t, err)
			require.Equal(t, uint64(4), stats().Conflicts[0].Count)
		}
		own := "INSERT INTO u VALUES (1,100,'own',0),(2,2,'own',0),(3,3,'own',0)"
		t.Run("postgres/"+string(policy), func(t *testing.T) {
			srv := testenv.SharedPostgres(t)
			schema := srv.Schema(t)
			srv.Exec(t, "SET search_path="+schema+"; "+modelSQL+"; "+own)
			k := openPostgres(t, srv, schema, &sink.PostgresOptions{Conflicts: rules})
			defer k.Close()
			check(t, k, func(q string) [][]string { return srv.Query(t, "SET search_path="+schema+"; "+q) }, k.Stats)
		})
		t.Run("sqlite/"+string(policy), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "target.db")
			db := openFile(t, path)
			_, err := db.Exec(modelSQL + ";" + own)
			require.NoError(t, err)
			k := openSQLite(t, path, &sink.SQLiteOptions{Conflicts: rules})
			defer k.Close()
			check(t, k, func(q string) [][]string { return fileRows(t, db, q) }, k.Stats)
		})
	}
}

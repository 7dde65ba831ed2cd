package sink

import (
	"fmt"
	"strings"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/stretchr/testify/require"
)

// mergeTables are a parent and a child for which no server is needed.
func mergeTables(t *testing.T, acts bool) (parent, child *mapping) {
	columns := func(names ...string) (src []dfs.Column, to []targetColumn) {
		for _, n := range names {
			src = append(src, dfs.Column{Name: n, Type: "int"})
			to = append(to, targetColumn{name: n, typ: "int", nullable: true})
		}
		return src, to
	}
	pRun, cRun := new(tableRun), new(tableRun)
	p := &table{schema: "s", name: "p", key: "s.p", primary: []int{0}, uniques: []index{{columns: []int{1}, nullable: true}}, run: pRun}
	c := &table{schema: "s", name: "c", key: "s.c", primary: []int{0}, run: cRun}
	p.children = []foreignKey{{other: "s.c", columns: []int{0}, acts: acts, run: cRun}}
	c.parents = []foreignKey{{other: "s.p", columns: []int{1}, acts: acts, run: pRun}}
	ps, cs := &dfs.Table{Schema: "s", Name: "p"}, &dfs.Table{Schema: "s", Name: "c"}
	ps.Columns, p.columns = columns("id", "u", "v")
	cs.Columns, c.columns = columns("id", "pid", "v")
	var err error
	parent, err = newMapping(ps, p)
	require.NoError(t, err)
	child, err = newMapping(cs, c)
	require.NoError(t, err)
	return parent, child
}

// parseRow reads "1,2,-": a - is NULL, a ? is Absent.
func parseRow(s string) dfs.Row {
	var row dfs.Row
	for _, f := range strings.Split(s, ",") {
		switch f {
		case "-":
			row = append(row, dfs.NullValue())
		case "?":
			row = append(row, dfs.AbsentValue())
		default:
			var n int64
			fmt.Sscan(f, &n)
			row = append(row, dfs.IntValue(n))
		}
	}
	return row
}

// The changes are written as "+p 1,2,3" for an insert into p, "-p" for a
// delete, "p 1,2,3 1,2,4" for an update, with a ! in front if the source did not
// check foreign keys. Groups are written as the rows that they leave.
func TestChangesJoinGroups(t *testing.T) {
	for _, c := range []struct {
		name    string
		acts    bool
		changes string
		groups  string
	}{
		{"inserts share a statement", false, "+p 1,-,1; +p 2,-,1; +c 1,-,1; +p 3,-,1", "+p 1 2 3; +c 1"},
		{"an update is part of its row's insert", false, "+p 1,-,1; p 1,-,1 1,-,2; p 1,-,2 1,5,2", "+p 1"},
		{"updates of a row are one", false, "p 1,-,1 1,-,2; p 2,-,1 2,-,2; p 1,-,2 1,-,3", "p{v} 1 2"},
		{"updates of other columns are another statement", false, "p 1,-,1 1,-,2; p 2,1,1 2,2,1; p 3,-,1 3,-,2", "p{v} 1 3; p{u} 2"},
		{"a row that is updated in turns makes no more groups", false,
			"p 1,1,1 1,1,2; p 1,1,2 1,2,2; p 1,2,2 1,2,3; p 1,2,3 1,3,3", "p{v} 1; p{u,v} 1"},
		{"a deleted row comes back after it went", false, "-p 1,-,1; +p 1,-,2; -p 2,-,1; +p 3,-,1", "-p 1 2; +p 1 3"},
		{"a unique value is given up before it is taken", false, "-p 1,7,1; +p 2,7,1", "-p 1; +p 2"},
		{"an insert does not pass a delete that frees its value", false, "+p 9,-,1; -p 1,7,1; +p 2,7,1; +p 3,-,1", "+p 9; -p 1; +p 2 3"},
		{"unique values are swapped in three steps", false, "p 1,5,1 1,-,1; p 2,6,1 2,5,1; p 1,-,1 1,6,1", "p{u} 1; p{u} 2; p{u} 1"},
		{"NULLs are not equal", false, "+p 1,-,1; -p 2,-,1; +p 3,-,1", "+p 1 3; -p 2"},
		{"a new key is a statement of its own, in order", false, "p 1,-,1 2,-,1; p 2,-,1 3,-,1; +p 1,-,1; p 5,-,1 5,-,2", "!p 2 3; +p 1; p{v} 5"},
		{"a child comes after its parent", false, "+c 1,-,1; +p 1,-,1; +c 2,1,1", "+c 1; +p 1; +c 2"},
		{"a parent may come before other children", false, "+p 1,-,1; +c 1,1,1; +p 2,-,1; +c 2,1,1", "+p 1 2; +c 1 2"},
		{"a parent goes after its children", false, "-p 1,-,1; -c 1,2,1; -p 2,-,1", "-p 1; -c 1; -p 2"},
		{"without checks only the row counts", false, "!-p 1,-,1; !-c 1,2,1; !-p 2,-,1; -p 3,-,1", "-p 1 2; -c 1; -p 3"},
		{"nothing moves across a foreign key that acts", true, "+c 1,1,1; +p 7,-,1; -p 1,-,1; -p 2,-,1; +p 8,-,1; +c 2,8,1; p 9,-,1 9,-,2",
			"+c 1; +p 7; !-p 1 2; +p 8; +c 2; p{v} 9"},
		{"it does not act on an update of other columns", true, "p 1,-,1 1,-,2; +c 1,-,1; p 2,-,1 2,-,2", "p{v} 1 2; +c 1"},
		{"a value given up by an image that leaves it out", false, "+p 9,-,1; p 1,?,? 1,8,?; -p 2,?,?; +p 3,7,1", "+p 9; p{u} 1; -p 2; +p 3"},
		{"images that leave out other columns do not mix", false, "p 1,?,? 1,?,2; p 2,?,? 2,5,2; p 1,?,? 1,6,?", "p{v} 1; p{u,v} 2; p{u} 1"},
		{"a row that is deleted need not be updated", false, "p 1,-,1 1,-,2; p 2,-,1 2,-,2; p 1,-,2 1,-,3; -p 1,-,3; +p 1,-,4", "p{v} 2; -p 1; +p 1"},
		{"but it is if others may have waited for that", false, "p 1,7,1 1,-,1; +p 2,7,1; -p 1,-,1", "p{u} 1; +p 2; -p 1"},
		{"or something else may have read the row", true, "c 1,1,1 1,1,2; -p 5,-,1; -c 1,1,2", "c{v} 1; !-p 5; -c 1"},
		{"nothing is nothing", false, "p 1,-,1 1,-,1", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			parent, child := mergeTables(t, c.acts)
			g := newMerger()
			g.reset()
			for _, line := range strings.Split(c.changes, "; ") {
				var ch dfs.Change
				if line[0] == '!' {
					ch.NoForeignKeys, line = true, line[1:]
				}
				name, images, _ := strings.Cut(line, " ")
				m := map[byte]*mapping{'p': parent, 'c': child}[name[len(name)-1]]
				before, after, _ := strings.Cut(images, " ")
				switch name[0] {
				case '+':
					ch.Op, ch.After = dfs.Insert, parseRow(before)
				case '-':
					ch.Op, ch.Before = dfs.Delete, parseRow(before)
				default:
					ch.Op, ch.Before, ch.After = dfs.Update, parseRow(before), parseRow(after)
				}
				require.NoError(t, g.add(&ch, m))
			}
			var out []string
			for i := range g.finish() {
				out = append(out, showGroup(&g.groups[i]))
			}
			require.Equal(t, c.groups, strings.Join(out, "; "))
		})
	}
}

// Which group of a run is large differs from run to run. In a long life each was the
// large one once.
func TestMergerKeepsNoMoreThanARunNeeds(t *testing.T) {
	parent, _ := mergeTables(t, true)
	g := newMerger()
	const large = 3000
	for run := range 60 {
		g.reset()
		for range run { // each DELETE acts on children, and so no INSERT passes it
			require.NoError(t, g.add(&dfs.Change{Op: dfs.Insert, After: parseRow("0,-,0")}, parent))
			require.NoError(t, g.add(&dfs.Change{Op: dfs.Delete, Before: parseRow("0,-,0")}, parent))
		}
		for i := range large {
			require.NoError(t, g.add(&dfs.Change{Op: dfs.Insert, After: parseRow(fmt.Sprint(i+1, ",-,0"))}, parent))
		}
		groups := g.finish()
		require.Len(t, groups, 2*run+1)
		require.Len(t, groups[2*run].rows, large)
	}
	rows := 0
	for _, o := range g.groups[:cap(g.groups)] {
		rows += cap(o.rows)
	}
	for _, r := range g.free {
		rows += cap(r)
	}
	require.Less(t, rows, 2*minKept)
	g.reset()
	require.LessOrEqual(t, g.kept, minKept)
}

func showGroup(g *group) string {
	s := map[dfs.Op]string{dfs.Insert: "+", dfs.Delete: "-"}[g.op] + g.m.to.name
	if g.serial {
		s = "!" + s
	}
	var cols []string
	for i := range g.m.columns {
		if g.cols != nil && g.cols.has(i) {
			cols = append(cols, g.m.columns[i].name)
		}
	}
	if cols != nil {
		s += "{" + strings.Join(cols, ",") + "}"
	}
	for _, r := range g.rows {
		row := r.after
		if row == nil {
			row = r.before
		}
		s += " " + row[0].String()
	}
	return s
}

// Keys of the same hash must not be taken for each other.
func TestMergeTellsEqualHashesApart(t *testing.T) {
	parent, _ := mergeTables(t, false)
	g := newMerger()
	g.reset()
	a := upd(parent.src, parseRow("1,-,1"), parseRow("1,-,2"))
	require.NoError(t, g.add(&a, parent))
	h, _ := g.hash(parent.to.run.id<<8, parseRow("2,-,1"), parent.key, nil)
	g.touch[h] = touch{0, 0} // as if key 2 had the hash of key 1
	b := upd(parent.src, parseRow("2,-,1"), parseRow("2,-,5"))
	require.NoError(t, g.add(&b, parent))
	require.Len(t, g.groups, 2)
	require.Equal(t, parseRow("1,-,2"), g.groups[0].rows[0].after)
}

func TestChangesThatMakeNoSenseAreRefused(t *testing.T) {
	parent, _ := mergeTables(t, false)
	g := newMerger()
	g.reset()
	for part, c := range map[string]dfs.Change{
		"does not have the 3 columns": ins(parent.src, parseRow("1,2")),
		"lacks the column id":         del(parent.src, parseRow("?,1,1")),
		"(ddl)":                       {Op: dfs.DDL, Table: parent.src},
	} {
		require.ErrorContains(t, g.add(&c, parent), part)
	}
}

// An insert whose key is a default that the log leaves out may be of any row, so
// nothing of the table moves across it.
func TestNothingMovesAcrossAnUnknownKey(t *testing.T) {
	parent, _ := mergeTables(t, false)
	g := newMerger()
	g.reset()
	for _, c := range []dfs.Change{
		del(parent.src, parseRow("9,-,1")),
		ins(parent.src, parseRow("?,-,1")),
		upd(parent.src, parseRow("1,-,1"), parseRow("1,-,2")),
		del(parent.src, parseRow("77,-,1")),
	} {
		require.NoError(t, g.add(&c, parent))
	}
	require.Len(t, g.groups, 4, "the second delete does not join the first")
	require.Equal(t, parseRow("77,-,1"), g.groups[3].rows[0].before)
}

// A trigger of one table may read a row of another, which is deleted later.
func TestTriggersReadRowsAsTheyWere(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+s+".a (id int PRIMARY KEY, x int, y int)", "CREATE TABLE "+s+".b (id int PRIMARY KEY, x int, y int)",
		"CREATE TABLE "+s+".seen (id int, x int)",
		"CREATE TRIGGER "+s+".b_in BEFORE INSERT ON "+s+".b FOR EACH ROW INSERT INTO "+s+".seen SELECT id, x FROM "+s+".a")
	a, b := pairTable(s, "a"), pairTable(s, "b")
	m := openSink(t, srv, &MySQLOptions{Name: s})
	require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(1, pairs(dfs.Insert, a, 1, 1)...)}))
	require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(2, pairs(dfs.Update, a, 1, 1)...),
		txn(3, pairs(dfs.Insert, b, 1, 1)...), txn(4, pairs(dfs.Delete, a, 1, 1)...)}))
	require.Equal(t, []string{"1|11"}, rows(t, srv, "SELECT * FROM "+s+".seen"))
}

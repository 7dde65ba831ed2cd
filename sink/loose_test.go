package sink

import (
	"fmt"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/stretchr/testify/require"
)

// MySQL 9.7 warns of literals of these character sets, and of utf8 where it is
// named. Warnings are what the sink counts of a row with an ENUM that holds no
// member.
func TestNoMemberBesideTextThatTheServerWarnsOf(t *testing.T) {
	texts := map[string]string{"dec8": "\xe4\x00'", "hp8": "\xe4\x00'", "macce": "\xe4\x00'", "macroman": "\xe4\x00'", "ucs2": "\x00\xe4\x00'\x00\\", "latin1": "\xe4\x00'", "utf8": "\u00e4\x00'"}
	enum := dfs.Column{Name: "e", Type: "enum", Members: []string{"a", "b"}}
	for _, kind := range []testenv.Kind{testenv.MySQL97, testenv.MariaDB} {
		srv := testenv.Shared(t, kind)
		for charset, text := range texts {
			s := srv.Schema(t)
			typ := "varchar(20) CHARACTER SET " + charset
			srv.Exec(t, "CREATE TABLE "+s+".v (id int PRIMARY KEY, e enum('a','b'), c "+typ+")",
				"CREATE TABLE "+s+".k (c "+typ+" PRIMARY KEY, e enum('a','b'), n int)",
				"CREATE TABLE "+s+".none (c "+typ+", e enum('a','b'))")
			column := dfs.Column{Name: "c", Type: "varchar(20)", Charset: charset, Collation: charset + "_general_ci"}
			v := &dfs.Table{Schema: s, Name: "v", Key: []int{0}, Columns: []dfs.Column{{Name: "id", Type: "int"}, enum, column}}
			k := &dfs.Table{Schema: s, Name: "k", Key: []int{0}, Columns: []dfs.Column{column, enum, {Name: "n", Type: "int"}}}
			none := &dfs.Table{Schema: s, Name: "none", Columns: []dfs.Column{column, enum}}
			c, empty, no, b := dfs.StringValue(text), dfs.StringValue(""), dfs.UintValue(0), dfs.UintValue(2)
			id := func(n int) dfs.Value { return dfs.IntValue(int64(n)) }
			var first, second []dfs.Change
			for i := range 40 {
				first = append(first, ins(v, dfs.Row{id(i), dfs.UintValue(uint64(i % 3)), c}))
				second = append(second, upd(v, dfs.Row{id(i), dfs.UintValue(uint64(i % 3)), c}, dfs.Row{id(i), no, empty}))
			}
			first = append(first, ins(k, dfs.Row{c, no, id(1)}), ins(k, dfs.Row{empty, b, id(2)}), ins(none, dfs.Row{c, b}), ins(none, dfs.Row{c, b}))
			second = append(second, upd(k, dfs.Row{c, no, id(1)}, dfs.Row{c, no, id(5)}), upd(k, dfs.Row{empty, b, id(2)}, dfs.Row{empty, no, id(6)}),
				upd(none, dfs.Row{c, b}, dfs.Row{c, no}))
			m := openSink(t, srv, &MySQLOptions{Name: s, SQLOnly: true})
			require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(1, first...)}), "%s %s", kind, charset)
			want := fmt.Sprintf("%X", text)
			require.Equal(t, []string{"40|14|" + want}, rows(t, srv, "SELECT COUNT(*), SUM(e=0), MAX(HEX(c)) FROM "+s+".v"))
			require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(2, second...)}), "%s %s", kind, charset)
			require.Equal(t, []string{"40|40|"}, rows(t, srv, "SELECT COUNT(*), SUM(e=0), MAX(HEX(c)) FROM "+s+".v"))
			require.Equal(t, []string{want + "|0|5", "|0|6"}, rows(t, srv, "SELECT HEX(c), e+0, n FROM "+s+".k ORDER BY n"))
			require.Equal(t, []string{want + "|0", want + "|2"}, rows(t, srv, "SELECT HEX(c), e+0 FROM "+s+".none ORDER BY e+0"))
			require.Empty(t, m.Stats().Conflicts)
		}
	}
}

// What the server refuses of text in a row with such an ENUM is told as elsewhere,
// and what row events store is stored.
func TestNoMemberBesideWhatIsNoText(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	for _, typ := range []string{"varchar(20)", "longtext"} {
		for _, sqlOnly := range []bool{false, true} {
			s := srv.Schema(t)
			srv.Exec(t, "CREATE TABLE "+s+".v (id int PRIMARY KEY, e enum('a','b'), c "+typ+" CHARACTER SET swe7)")
			v := &dfs.Table{Schema: s, Name: "v", Key: []int{0}, Columns: []dfs.Column{{Name: "id", Type: "int"},
				{Name: "e", Type: "enum", Members: []string{"a", "b"}}, {Name: "c", Type: typ, Charset: "swe7"}}}
			m := openSink(t, srv, &MySQLOptions{Name: s, SQLOnly: sqlOnly})
			err := m.Apply(t.Context(), []*dfs.Transaction{txn(1,
				ins(v, dfs.Row{dfs.IntValue(1), dfs.UintValue(0), dfs.StringValue("a\x7fb")}),
				ins(v, dfs.Row{dfs.IntValue(2), dfs.UintValue(1), dfs.StringValue("a")}))})
			if !sqlOnly {
				require.NoError(t, err)
				require.Equal(t, []string{"1|0|617F62", "2|1|61"}, rows(t, srv, "SELECT id, e+0, HEX(c) FROM "+s+".v ORDER BY id"))
				continue
			}
			var text *TextError
			require.ErrorAs(t, err, &text, "%s %v", typ, sqlOnly)
			require.Equal(t, "id=1", text.Key)
			require.EqualValues(t, erInvalidString, serverError(err))
			require.ErrorContains(t, err, "VARBINARY or BLOB")
			require.Equal(t, []string{"0"}, rows(t, srv, "SELECT COUNT(*) FROM "+s+".v"))
		}
	}
}

// The cure that a TextError names is one.
func TestBytesThatAreNoTextGoIntoBinaryColumns(t *testing.T) {
	for _, kind := range []testenv.Kind{testenv.MySQL97, testenv.MariaDB} {
		srv := testenv.Shared(t, kind)
		for charset, text := range map[string]string{"ascii": "a\xff", "utf8mb4": "\xff\xfe", "ucs2": "\x00a\x00", "swe7": "\x7f", "gbk": "\x81"} {
			s := srv.Schema(t)
			srv.Exec(t, "CREATE TABLE "+s+".v (id int PRIMARY KEY, c varbinary(20), d longblob)")
			v := &dfs.Table{Schema: s, Name: "v", Key: []int{0}, Columns: []dfs.Column{{Name: "id", Type: "int"},
				{Name: "c", Type: "varchar(20)", Charset: charset}, {Name: "d", Type: "longtext", Charset: charset}}}
			m := openSink(t, srv, &MySQLOptions{Name: s, SQLOnly: true})
			row := dfs.Row{dfs.IntValue(1), dfs.StringValue(text), dfs.StringValue(text)}
			require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(1, ins(v, row))}), "%s %s", kind, charset)
			want := fmt.Sprintf("%X", text)
			require.Equal(t, []string{want + "|" + want}, rows(t, srv, "SELECT HEX(c), HEX(d) FROM "+s+".v"), charset)
		}
	}
}

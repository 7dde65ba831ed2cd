package sink_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/sink"
)

// A row image that leaves columns out (binlog_row_image=MINIMAL) means their constant
// defaults, so a default that a statement gives to a column is the target's too, or stops.
func TestDefaultsThatStatementsSetFillRows(t *testing.T) {
	const strict = "STRICT_TRANS_TABLES"
	text := func(name, typ string) dfs.Column {
		return dfs.Column{Name: name, Type: typ, Charset: "utf8mb4", Collation: "utf8mb4_bin", Nullable: true}
	}
	tab := &dfs.Table{Schema: "source", Name: "a", Key: []int{0}, Columns: []dfs.Column{{Name: "id", Type: "bigint"}, {Name: "n", Type: "int", Nullable: true},
		text("v", "varchar(20)"), text("e", "enum('x','y')")}}
	tab.Columns[3].Members = []string{"x", "y"}
	for _, target := range alteredTargets(t) {
		t.Run(target.name, func(t *testing.T) {
			k := target.open(sink.PolicyApply)
			_, err := k.Checkpoint(t.Context())
			require.NoError(t, err)
			short := func(seq uint64, id int64) *dfs.Transaction {
				out := dfs.AbsentValue()
				tx := statementAt(seq, "", "")
				tx.Changes = []dfs.Change{{Op: dfs.Insert, Table: tab, After: dfs.Row{dfs.IntValue(id), out, out, out}}}
				return tx
			}
			require.NoError(t, k.Apply(t.Context(), []*dfs.Transaction{
				statementAt(1, "CREATE TABLE a (id bigint PRIMARY KEY, n int DEFAULT 1, v varchar(20), e enum('x','y') DEFAULT 'x', d decimal(8,2) DEFAULT 2, c char(9), b varbinary(3))", strict),
				short(2, 1),
				statementAt(3, "ALTER TABLE a ALTER n SET DEFAULT 5, ALTER COLUMN v SET DEFAULT 'it''s', ALTER e SET DEFAULT 'y', ALTER d SET DEFAULT '2.00'", strict),
				short(4, 2),
				statementAt(5, "ALTER TABLE a ALTER n DROP DEFAULT, ALTER v SET DEFAULT NULL", strict),
				short(6, 3),
			}))
			require.Equal(t, [][]string{{"1", "1", "NULL", "x", "2.00"}, {"2", "5", "it's", "y", "2.00"}, {"3", "NULL", "NULL", "y", "2.00"}},
				target.query("SELECT id, COALESCE(CAST(n AS text),'NULL'), COALESCE(v,'NULL'), e, d FROM a ORDER BY id"))
			for _, q := range []string{"ALTER TABLE a ALTER e SET DEFAULT 'X'", "ALTER TABLE a ALTER c SET DEFAULT 'a '", "ALTER TABLE a ALTER b SET DEFAULT 'a'", "ALTER TABLE a ALTER n SET DEFAULT '1e1'"} {
				err := k.Apply(t.Context(), []*dfs.Transaction{statementAt(7, q, strict)})
				var stop *sink.DDLError
				require.ErrorAs(t, err, &stop, q)
				require.ErrorContains(t, err, "MODIFY", q)
			}
			require.NoError(t, k.(interface{ Close() error }).Close())
		})
	}
}

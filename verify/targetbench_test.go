package verify_test

import (
	"database/sql"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/sink"
	"github.com/dataflowsync/dfs/verify"
)

// BenchmarkOtherTargets verifies a table, and reads it plainly from both sides, one
// after the other, which is the least that a comparison of rows can do.
func BenchmarkOtherTargets(b *testing.B) {
	const n = 100000
	for _, kind := range []string{"postgres", "sqlite"} {
		b.Run(kind, func(b *testing.B) {
			l := newOtherLab(b, my97, kind)
			l.exec(l.from, "CREATE TABLE S.orders (id bigint PRIMARY KEY, user_id int, state enum('new','paid','sent'), total decimal(10,2), at datetime(3), note varchar(80), done tinyint, ratio double)",
				"CREATE TABLE S.texts LIKE S.orders", "ALTER TABLE S.texts MODIFY id varchar(20)", "CREATE TABLE S.zz_end (id int AUTO_INCREMENT PRIMARY KEY)")
			l.start(sink.Unfit{}, true)
			for i := 0; i < n; i += 5000 {
				l.exec(l.from, "INSERT INTO S.orders VALUES "+rows(i, i+5000, "(#,#%997,1+#%3,#/100,'2024-02-29 01:02:03.456','note of the order #, as people write it',#%2,#/7)"))
			}
			l.exec(l.from, "INSERT INTO S.texts SELECT * FROM S.orders")
			l.passed()
			for _, table := range []string{"orders", "texts"} {
				rate := func(b *testing.B) { b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "rows/s") }
				b.Run(table+"/plain", func(b *testing.B) {
					reader := l.otherVerifier(sink.Unfit{}).TargetRows
					for b.Loop() {
						got := 0
						rows, err := l.from.Query("SELECT * FROM " + l.schema + "." + table)
						require.NoError(b, err)
						cells, into := make([]sql.RawBytes, 8), make([]any, 8)
						for i := range cells {
							into[i] = &cells[i]
						}
						for rows.Next() {
							require.NoError(b, rows.Scan(into...))
							got++
						}
						require.NoError(b, rows.Err())
						to, err := reader.Table(b.Context(), l.target(), table)
						require.NoError(b, err)
						require.NoError(b, reader.Range(b.Context(), to, false, nil, nil, 0, func(dfs.Row) error { got++; return nil }))
						require.Equal(b, 2*n, got)
					}
					rate(b)
				})
				b.Run(table+"/verify", func(b *testing.B) {
					v := l.otherVerifier(sink.Unfit{})
					v.Tables = []string{l.schema + "." + table}
					for b.Loop() {
						r, err := v.Run(b.Context())
						require.NoError(b, err)
						require.Equal(b, verify.Equal, r.Verdict(), r)
						require.EqualValues(b, n, r.Tables[0].Rows)
					}
					rate(b)
				})
			}
		})
	}
}

package values_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/internal/testseed"
	"github.com/stretchr/testify/require"
)

// docsTables have documents beside a key, under indexes on what is in them, with columns made
// of them, and without a key.
var docsTables = []string{
	"docs (id int PRIMARY KEY, j json, k json NOT NULL, n int)",
	"indexed (id int PRIMARY KEY, j json, n int, KEY tags ((CAST(j->'$.tags' AS UNSIGNED ARRAY))), KEY name ((CAST(j->>'$.name' AS CHAR(30)))), UNIQUE KEY u ((CAST(j->>'$.u' AS UNSIGNED))))",
	"made (id int PRIMARY KEY, j json, name varchar(30) AS (j->>'$.name'), n int AS (j->'$.u') STORED, KEY (name), KEY (n))",
	"bare (id int, j json, n int)",
}

// docsWork are transactions of statements about many rows each.
func docsWork(r *rand.Rand) (s script) {
	var docs []string
	for _, c := range append(jsonOpaque(), jsonColumn()) {
		docs = append(docs, c.values...)
	}
	member := func(id int) string {
		return fmt.Sprintf(`'{"name": "n%d", "u": %d, "tags": [%d, %d, 7], "long": "%s"}'`, id%9, id, r.IntN(5), 10+r.IntN(5), strings.Repeat("é", r.IntN(200)))
	}
	doc := func(int) string { return docs[r.IntN(len(docs))] }
	s.add("SET sql_mode=''")
	next := 0
	for range 12 {
		s.add("SET binlog_row_value_options='%s'", []string{"", "PARTIAL_JSON"}[r.IntN(2)])
		s.add("BEGIN")
		for _, table := range []string{"docs", "indexed", "made", "bare"} {
			var rows []string
			for id := next; id < next+40; id++ {
				switch table {
				case "docs":
					rows = append(rows, fmt.Sprintf("(%d, %s, %s, %d)", id, doc(id), doc(id), id))
				case "bare":
					rows = append(rows, fmt.Sprintf("(%d, %s, %d)", id/2, doc(id), id))
				case "made":
					rows = append(rows, fmt.Sprintf("(%d, %s, DEFAULT, DEFAULT)", id, member(id)))
				default:
					rows = append(rows, fmt.Sprintf("(%d, %s, %d)", id, member(id), id))
				}
			}
			s.add("INSERT INTO %s VALUES %s", table, strings.Join(rows, ", "))
		}
		next += 40
		s.add("COMMIT")
		for range 3 {
			from := r.IntN(next)
			where := fmt.Sprintf("WHERE id BETWEEN %d AND %d", from, from+30)
			s.add("BEGIN")
			for range 2 {
				s.add("UPDATE docs SET j=%s %s", []string{"JSON_SET(j, '$[0]', 'new', '$.a', 5)", "JSON_REMOVE(j, '$[0]')", "JSON_ARRAY_APPEND(k, '$', CAST('1.5' AS DECIMAL(9,3)))",
					"NULL", "k", "JSON_REPLACE(j, '$.k', DATE'2024-01-01')", "JSON_OBJECT('j', j, 'k', k, 'n', n)"}[r.IntN(7)], where+" AND JSON_DEPTH(j) < 90")
				s.add("UPDATE docs SET k=%s, n=n+1 %s", doc(0), where)
				s.add("UPDATE indexed SET j=%s %s", []string{"JSON_SET(j, '$.tags[0]', id, '$.name', 'x')", "JSON_REMOVE(j, '$.name')", "JSON_ARRAY_APPEND(j, '$.tags', 8)",
					"JSON_SET(j, '$.u', id + 1000000)", "NULL", "j"}[r.IntN(6)], where)
				s.add("UPDATE made SET j=JSON_SET(j, '$.name', 'y%d', '$.u', id + %d) %s", r.IntN(9), r.IntN(1000), where)
				s.add("UPDATE bare SET j=JSON_MERGE_PRESERVE(COALESCE(j, '1'), '[1]'), n=n+1 %s AND (j IS NULL OR JSON_DEPTH(j) < 90)", where)
			}
			if r.IntN(2) == 0 {
				s.add("COMMIT")
				s.add("BEGIN")
			}
			from = r.IntN(next)
			for _, table := range []string{"docs", "indexed", "made", "bare"} {
				s.add("DELETE FROM %s WHERE id BETWEEN %d AND %d", table, from, from+20)
			}
			s.add("COMMIT")
		}
	}
	return s
}

// Documents arrive the same by row events and by SQL, with the types of all values in them.
func TestDocumentsArriveAsTheyWereOnBothLanes(t *testing.T) {
	p := pair{my97, my97}
	src, dst := testenv.Shared(t, p.from), target(t, p.to)
	seed := testseed.New(t)
	for _, sqlOnly := range []bool{false, true} {
		b := newBench(t, p, src, dst)
		for _, table := range docsTables {
			b.both("CREATE TABLE " + table)
		}
		b.run(sqlOnly, func() { b.runScript(b.from, docsWork(rand.New(rand.NewPCG(seed, 0)))) })
		b.refusals()
		require.Equal(t, sqlOnly, b.events == 0, "%d rows by events", b.events)
		types := "JSON_TYPE(j)"
		for i := range 6 {
			types += fmt.Sprintf(",IFNULL(JSON_TYPE(JSON_EXTRACT(j,'$[%d]')),'')", i)
		}
		b.same("docs", "SELECT id,n,j,k,"+types+" FROM docs", "SELECT id,n,j,k,"+types+" FROM docs")
		// What was not changed in place takes the same room.
		fresh := "SELECT id,JSON_STORAGE_SIZE(j),JSON_STORAGE_SIZE(k) FROM docs WHERE id=n"
		b.same("docs, as they came", fresh, fresh)
		for _, q := range []string{"SELECT id,n,j FROM indexed", "SELECT id FROM indexed FORCE INDEX (tags) WHERE 7 MEMBER OF (j->'$.tags')",
			"SELECT id FROM indexed WHERE JSON_CONTAINS(j->'$.tags', '[8]')", "SELECT id FROM indexed FORCE INDEX (name) WHERE CAST(j->>'$.name' AS CHAR(30))='x'",
			"SELECT id FROM indexed FORCE INDEX (u) WHERE CAST(j->>'$.u' AS UNSIGNED)>1000000", "SELECT id,j,name,n FROM made", "SELECT id FROM made FORCE INDEX (name) WHERE name='y3'",
			"SELECT id FROM made FORCE INDEX (n) WHERE n>100", "SELECT id,n,j," + types + " FROM bare"} {
			b.same(q, q, q)
		}
		for _, table := range []string{"docs", "indexed", "made", "bare"} {
			require.Contains(t, b.rows(b.to, "CHECK TABLE "+table+" EXTENDED")[0], "|OK")
		}
		b.verified()
	}
}

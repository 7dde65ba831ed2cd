package cdc_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/internal/testseed"
)

// randomDocument returns an expression for a document with values of all types, and
// with names that look like paths.
func randomDocument(rnd *rand.Rand, depth int) string {
	names := []string{"a", "b", "", " ", "a.b", `"`, "[0]", "$", "*", "ä", `\\`, "0", "aa", "a[1]", "{", "]", ","}
	if depth == 0 || rnd.IntN(3) == 0 {
		leaves := []string{"1", "-7", "4294967295", "4294967296", "18446744073709551615", "-9223372036854775808", "1.5e0", "1e300", "TRUE", "NULL", "'text'", `'a "quoted\\" one, [1]'`,
			"CAST(12.30 AS DECIMAL(20,4))", "CAST('123456789012345678901.5' AS DECIMAL(40,2))", "DATE'2026-01-02'", "TIME'-11:22:33.5'", "TIMESTAMP'2026-01-02 03:04:05.678'",
			"x'00ff'", "CAST('binary' AS BINARY)", "b'101'", "CAST(7 AS UNSIGNED)", "CAST(REPEAT('b', 100) AS BINARY)", "JSON_EXTRACT('[true]', '$[0]')", "CAST('null' AS JSON)",
			"ST_GeomFromText('POINT(1 2)')", "CAST(2026 AS YEAR)", "'base64:type15:AAA='"}
		return leaves[rnd.IntN(len(leaves))]
	}
	var parts []string
	array := rnd.IntN(2) == 0
	for range rnd.IntN(5) {
		v := randomDocument(rnd, depth-1)
		if !array {
			v = "'" + names[rnd.IntN(len(names))] + "', " + v
		}
		parts = append(parts, v)
	}
	if array {
		return "JSON_ARRAY(" + strings.Join(parts, ", ") + ")"
	}
	return "JSON_OBJECT(" + strings.Join(parts, ", ") + ")"
}

// A document that is copied is the one that the log has, to the types of all values.
func TestCopiedDocumentsAreThoseOfTheLog(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	schema := srv.Schema(t)
	seed := testseed.New(t)
	rnd := rand.New(rand.NewPCG(seed, 0))
	srv.Exec(t, "CREATE TABLE "+schema+".j (id int PRIMARY KEY, j json)")
	log := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}})
	st, _ := begin(t, log)
	var rows []string
	const docs = 300
	texts := make([]string, docs)
	for i := range docs {
		doc := "JSON_ARRAY(" + randomDocument(rnd, 4) + ")"
		texts[i] = doc
		rows = append(rows, fmt.Sprintf("(%d, %s)", i, doc))
	}
	srv.Exec(t, "INSERT INTO "+schema+".j VALUES "+strings.Join(rows, ", "))
	want := make(map[int64]dfs.Value)
	for _, tx := range readN(t, log, st, 1) {
		for _, c := range tx.Changes {
			want[c.After[0].Int()] = c.After[1]
		}
	}
	require.Len(t, want, docs)
	src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}, Snapshot: &cdc.Snapshot{}})
	got := 0
	for _, tx := range read(t, stream(t, src, ""), func(tx *dfs.Transaction) bool { return tx.Copied }) {
		for _, c := range tx.Changes {
			i := c.After[0].Int()
			require.True(t, want[i] == c.After[1], "%s: the log has %q with %v, the copy %q with %v", texts[i], want[i].Text(), want[i].JSONNotes(), c.After[1].Text(), c.After[1].JSONNotes())
			got++
		}
	}
	require.Equal(t, docs, got)
}

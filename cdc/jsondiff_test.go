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

// Updates that were logged as changes inside of JSON give the text that the
// server prints, which is the oracle here.
func TestPartialJSON(t *testing.T) {
	for _, packed := range []bool{false, true} {
		t.Run(fmt.Sprintf("compressed %v", packed), func(t *testing.T) {
			srv := testenv.Shared(t, testenv.MySQL97)
			schema := srv.Schema(t)
			srv.Exec(t, "CREATE TABLE "+schema+".a (id int PRIMARY KEY, j json, n int, k json, b blob)",
				"CREATE TABLE "+schema+".log (n int AUTO_INCREMENT PRIMARY KEY, id int, j longtext CHARACTER SET utf8mb4, k longtext CHARACTER SET utf8mb4)")
			src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".a"}})
			st, _ := begin(t, src)
			seed := testseed.New(t)
			rnd := rand.New(rand.NewPCG(seed, 0))
			stmts := []string{"USE " + schema, "SET NAMES utf8mb4", "SET SESSION binlog_row_value_options='PARTIAL_JSON'"}
			if packed {
				stmts = append(stmts, "SET SESSION binlog_transaction_compression=ON")
			}
			large := `{"big": "` + strings.Repeat("x", 70000) + `", "a": [1, 2, {"b": [true]}], "n": ` + strings.Repeat("[", 60) + strings.Repeat("]", 60) + `}`
			for id, doc := range []string{
				`'{"a": 1, "bb": [1, 2, 3], "c": {"d": {"e": [[1], [2]]}}}'`, `'[1, [2, 3], {"a": "b"}]'`, "'" + large + "'", `'{}'`,
				`'{"": 1, "\\"q\\\\": {"日本": [], "a b": 2, "x.y": 3, "z[0]": 4}, "é": 5}'`,
				`JSON_OBJECT('dt', NOW(6), 'de', CAST(1.5 AS DECIMAL(5,1)), 'd', 1.5e0, 'u', 18446744073709551615, 't', CAST('10:11:12' AS TIME))`,
			} {
				stmts = append(stmts, fmt.Sprintf("INSERT INTO a VALUES (%d, %s, 0, '{\"k\": [1]}', 'blob')", id, doc))
			}
			for range 400 {
				if rnd.IntN(8) == 0 {
					stmts = append(stmts, "UPDATE a SET n = n + 1, j = '"+[]string{`{"a": [1, 2], "c": {"d": 1}}`, `[{"a": 1}, 2]`, `7`}[rnd.IntN(3)]+"' WHERE id < 2 AND n % 7 = 0")
				}
				id := rnd.IntN(6)
				stmts = append(stmts,
					fmt.Sprintf("UPDATE a SET n = n + 1, j = %s WHERE id = %d", jsonCall(rnd, "j"), id),
					fmt.Sprintf("UPDATE a SET n = n + 1, k = %s, j = %s WHERE id = %d", jsonCall(rnd, "k"), jsonCall(rnd, "j"), id))
			}
			var run []string
			for _, s := range stmts {
				run = append(run, s)
				if strings.HasPrefix(s, "UPDATE") {
					// What the rows are after each update, in its order.
					run = append(run, "INSERT INTO log (id, j, k) SELECT id, j, k FROM a")
				}
			}
			session(t, srv, run...)
			session(t, srv, "INSERT INTO "+schema+".a VALUES (99, NULL, 0, NULL, '')")
			var now [6][2]string
			var states []string // of the rows, after each transaction
			diffs := 0
			for done := false; !done; {
				for _, tx := range readN(t, src, st, 1) {
					for _, c := range tx.Changes {
						id := c.After[0].Int()
						if done = id == 99; done {
							break
						}
						now[id] = [2]string{c.After[1].String(), c.After[3].String()}
						if c.Op == dfs.Update {
							diffs++
						}
					}
					states = append(states, fmt.Sprint(now))
				}
			}
			// The states of the server, without those that an update left as they were.
			rows, err := srv.DB(t).Query("SELECT id, IFNULL(j, 'NULL'), IFNULL(k, 'NULL') FROM " + schema + ".log ORDER BY n")
			require.NoError(t, err)
			defer rows.Close()
			var want [6][2]string
			states = states[5:] // before the updates
			for n := 0; rows.Next(); n++ {
				var id int
				var j, k string
				require.NoError(t, rows.Scan(&id, &j, &k))
				want[id] = [2]string{j, k}
				if n%6 != 5 {
					continue
				}
				for len(states) > 1 && states[0] != fmt.Sprint(want) {
					states = states[1:]
				}
				require.Equal(t, fmt.Sprint(want), states[0], "after update %d", n/6)
			}
			require.Greater(t, diffs, 500)
		})
	}
}

// jsonCall makes a call that MySQL can log as changes.
func jsonCall(rnd *rand.Rand, column string) string {
	path := func() string {
		p := "$"
		for range 1 + rnd.IntN(3) {
			p += []string{".a", ".bb", ".c", ".d", ".e", "[0]", "[1]", "[2]", "[last]", "[last-1]", ".k", `."a b"`, `."日本"`, `."\\"q\\\\"`, `.é`, `.n[0][0]`, `.new`, `."x.y"`}[rnd.IntN(18)]
		}
		return "'" + p + "'"
	}
	value := func() string {
		return []string{"1", "'text'", "NULL", "TRUE", "1.5e0", "CAST('[1, {\"z\": []}]' AS JSON)", "CAST('{}' AS JSON)", "-5", "CAST(2.5 AS DECIMAL(3,1))",
			"REPEAT('y', 300)", "CAST('2020-01-02' AS DATE)", "'\"quoted\" \\\\ \\n'", "18446744073709551615", "'日本'"}[rnd.IntN(14)]
	}
	switch rnd.IntN(4) {
	case 0:
		return "JSON_REMOVE(" + column + ", " + path() + ", " + path() + ")"
	case 1:
		return "JSON_REPLACE(" + column + ", " + path() + ", " + value() + ")"
	case 2:
		return "JSON_SET(" + column + ", " + path() + ", " + value() + ")"
	}
	return "JSON_SET(JSON_REMOVE(JSON_REPLACE(" + column + ", " + path() + ", " + value() + "), " + path() + "), " + path() + ", " + value() + ", " + path() + ", " + value() + ")"
}

// Without the document before the changes say nothing.
func TestPartialJSONWithoutTheDocument(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	schema := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+schema+".a (id int PRIMARY KEY, j json, n int)", "INSERT INTO "+schema+".a VALUES (1, '{\"a\": [1, 2, 3]}', 0)")
	src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".a"}})
	st, _ := begin(t, src)
	session(t, srv, "USE "+schema, "SET SESSION binlog_row_value_options='PARTIAL_JSON', binlog_row_image='MINIMAL'",
		"UPDATE a SET n = 1", "UPDATE a SET j = '[\"a long text, so that the changes are shorter\", 1]'", "UPDATE a SET j = JSON_SET(j, '$[1]', 2)")
	txs := read(t, st, func(tx *dfs.Transaction) bool { return tx.Encoded != nil })
	for len(txs) == 0 || txs[len(txs)-1].Encoded == nil || len(encodedOf(txs)) < 3 {
		txs = append(txs, read(t, st, func(tx *dfs.Transaction) bool { return tx.Encoded != nil })...)
	}
	txs = encodedOf(txs)
	require.NoError(t, src.Decode(t.Context(), txs[:2]))
	require.Equal(t, []string{"update a ABSENT ABSENT 1", `update a ABSENT ["a long text, so that the changes are shorter", 1] ABSENT`}, says(txs[:2]))
	var bad *cdc.EventError
	require.ErrorAs(t, src.Decode(t.Context(), txs[2:]), &bad)
	require.Contains(t, bad.What, "JSON column j")
	require.Contains(t, bad.Cure, "binlog_row_image=FULL")
	require.Equal(t, txs[2].ID, bad.ID)
	require.NotEmpty(t, bad.After)
	require.True(t, strings.HasSuffix(string(txs[2].Pos), " "+bad.At), bad.At)
}

func encodedOf(txs []*dfs.Transaction) (full []*dfs.Transaction) {
	for _, tx := range txs {
		if tx.Encoded != nil {
			full = append(full, tx)
		}
	}
	return full
}

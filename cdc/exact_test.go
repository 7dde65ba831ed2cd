package cdc_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
)

// decodeError reads the next transaction that has changes, and returns why it
// cannot be decoded.
func decodeError(t *testing.T, src *cdc.Source, st dfs.Stream) error {
	t.Helper()
	all := read(t, st, func(tx *dfs.Transaction) bool { return tx.Encoded != nil })
	return src.Decode(t.Context(), all)
}

func TestJSONThatTextDoesNotHoldIsRefused(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	schema := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+schema+".a (id int PRIMARY KEY AUTO_INCREMENT, j json)")
	src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}})
	st, _ := begin(t, src)
	for _, c := range []struct{ value, what string }{
		{"CAST('12345678901234567890.123456789' AS DECIMAL(40,9))", "the DECIMAL 12345678901234567890.123456789 inside, which would be read as the DOUBLE 1.2345678901234567e19"},
		{"CAST('1.10' AS DECIMAL(5,2))", "the DECIMAL 1.10 inside"},
		{"CAST('0.00' AS DECIMAL(5,2))", "the DECIMAL 0.00 inside"},
		{"CAST('123456789012345678901' AS DECIMAL(30))", "the DECIMAL 123456789012345678901 inside"},
		{"CAST('abc' AS BINARY)", "BINARY or BLOB"},
	} {
		srv.Exec(t, fmt.Sprintf("INSERT INTO %s.a (j) VALUES (JSON_OBJECT('k', JSON_ARRAY(1, %s)))", schema, c.value))
		err := decodeError(t, src, st)
		var typed *cdc.TypeError
		require.ErrorAs(t, err, &typed, c.value)
		require.Equal(t, schema+".a", typed.Table)
		require.Equal(t, "j", typed.Column)
		require.Contains(t, typed.Type, c.what)
		require.NotEmpty(t, typed.Cure)
	}
}

// A DECIMAL that is let through must be printed the same by a server that has
// read its text, and compare equal.
func TestDecimalsInJSONThatPassAreReadBackAsTheyWere(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	schema := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+schema+".a (id int PRIMARY KEY AUTO_INCREMENT, j json, k json)")
	src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}})
	st, _ := begin(t, src)
	const seed = 11
	rnd := rand.New(rand.NewPCG(seed, seed))
	var rows []string
	for range 600 {
		text := fmt.Sprintf("%d.%0*d", rnd.Uint64N(1<<rnd.IntN(50)), 1+rnd.IntN(9), rnd.Uint64N(1000000000))
		if rnd.IntN(4) == 0 {
			text = "-" + text
		}
		rows = append(rows, fmt.Sprintf("(CAST(CAST('%s' AS DECIMAL(40,%d)) AS JSON))", text, 1+rnd.IntN(12)))
	}
	for _, r := range rows {
		srv.Exec(t, "INSERT INTO "+schema+".a (j) VALUES "+r)
	}
	var updates []string
	for seen := 0; seen < len(rows); {
		batch := read(t, st, func(tx *dfs.Transaction) bool { return tx.Encoded != nil })
		for _, tx := range batch {
			if tx.Encoded == nil {
				continue
			}
			seen++
			err := src.Decode(t.Context(), []*dfs.Transaction{tx})
			if err != nil {
				var typed *cdc.TypeError
				require.ErrorAs(t, err, &typed)
				continue
			}
			row := tx.Changes[0].After
			updates = append(updates, fmt.Sprintf("UPDATE %s.a SET k = '%s' WHERE id = %s", schema, row[1], row[0]))
		}
	}
	require.Greater(t, len(updates), 50)
	srv.Exec(t, updates...)
	var different int
	require.NoError(t, srv.DB(t).QueryRow("SELECT COUNT(*) FROM "+schema+
		".a WHERE k IS NOT NULL AND (CAST(j AS CHAR) <> CAST(k AS CHAR) OR j <> k)").Scan(&different))
	require.Zero(t, different)
}

// members are the names of ENUM and SET members in a character set of their own.
func TestMembersOfAnotherCharacterSet(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		for _, metadata := range []string{"FULL", "MINIMAL"} {
			if kind == testenv.MySQL56 && metadata == "FULL" {
				continue // it has no such setting
			}
			t.Run(fmt.Sprintf("%v %s", kind, metadata), func(t *testing.T) {
				srv := testenv.Start(t, kind)
				if kind != testenv.MySQL56 {
					srv.Exec(t, "SET GLOBAL binlog_row_metadata="+metadata)
				}
				srv.Exec(t, "CREATE DATABASE shop", "SET NAMES utf8mb4", `CREATE TABLE shop.a (
					a enum('é','€','x') CHARACTER SET latin1, b set('ж','я') CHARACTER SET koi8r,
					c enum('a','ü') CHARACTER SET latin5, d enum('日本') CHARACTER SET utf8, e enum('p','q') CHARACTER SET hebrew)`)
				src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{"shop.*"}})
				st, _ := begin(t, src)
				srv.Exec(t, "SET NAMES utf8mb4", "INSERT INTO shop.a VALUES ('é', 'я', 'ü', '日本', 'q')")
				c := readN(t, src, st, 1)[0].Changes[0]
				var names [][]string
				for _, col := range c.Table.Columns {
					names = append(names, col.Members)
				}
				require.Equal(t, [][]string{{"é", "€", "x"}, {"ж", "я"}, {"a", "ü"}, {"日本"}, {"p", "q"}}, names)
				require.Equal(t, dfs.Row{dfs.UintValue(1), dfs.UintValue(2), dfs.UintValue(2), dfs.UintValue(1), dfs.UintValue(2)}, c.After)

				// What cannot be told is refused, unless the server tells it.
				srv.Exec(t, "SET NAMES utf8mb4", "CREATE TABLE shop.b (a enum('א') CHARACTER SET hebrew)",
					"CREATE TABLE shop.c (a set('a') CHARACTER SET ucs2)")
				readN(t, src, st, 2)
				for _, table := range []string{"b", "c"} {
					srv.Exec(t, "INSERT INTO shop."+table+" VALUES (1)")
					err := decodeError(t, src, st)
					if metadata == "MINIMAL" {
						require.NoError(t, err)
						continue
					}
					var typed *cdc.TypeError
					require.ErrorAs(t, err, &typed)
					require.Equal(t, "shop."+table, typed.Table)
					require.Equal(t, "a", typed.Column)
					require.Contains(t, typed.Cure, "utf8mb4")
				}
			})
		}
	}
}

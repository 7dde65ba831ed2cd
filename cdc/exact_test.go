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

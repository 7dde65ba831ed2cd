package cdc_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/rowevent"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/internal/testseed"
)

// typedValues are expressions of all types of SQL that a document may hold a value of.
// The columns are of the table jsonColumns.
var typedValues = []string{
	"NULL", "TRUE", "CAST('null' AS JSON)", "'text'", "'é\"\\\\ 日本 😀'", "''", "1.5e0", "-0e0", "1e308", "5e-324", "123456789.125e0",
	"0", "-1", "32767", "32768", "-32768", "-32769", "2147483647", "2147483648", "-2147483648", "-2147483649", "9223372036854775807", "-9223372036854775808",
	"CAST(5 AS UNSIGNED)", "CAST(65535 AS UNSIGNED)", "CAST(65536 AS UNSIGNED)", "CAST(4294967295 AS UNSIGNED)", "CAST(4294967296 AS UNSIGNED)", "18446744073709551615",
	"CAST('[65535, 65536, 4294967295, 4294967296, 18446744073709551615, 18446744073709551616, -9223372036854775809, -0, 1.0, 1E2]' AS JSON)",
	"1.10", "-0.001", "CAST('12345678901234567890.123456789' AS DECIMAL(40,9))", "CAST(0 AS DECIMAL(65,30))", "0.0", "-99999999999999999999",
	"CAST('2024-02-29' AS DATE)", "CAST('0000-00-00' AS DATE)", "CAST('9999-12-31 23:59:59.999999' AS DATETIME(6))", "CAST('2024-01-01 01:02:03' AS DATETIME)",
	"CAST('-838:59:59' AS TIME)", "CAST('00:00:00.5' AS TIME(1))", "CAST('-00:00:00.000001' AS TIME(6))", "TIMESTAMP'2024-05-06 07:08:09.5'",
	"CAST('abc' AS BINARY)", "x'00ff41'", "_binary''", "CAST('a' AS BINARY(200))", "b'1011'", "UUID_TO_BIN('6ccd780c-baba-1026-9564-5b8c656024db')",
	"ST_GeomFromText('POINT(1 2)')", "YEAR('2024-01-01')",
	"b1", "b9", "b64", "ts", "ts6", "y", "bin", "vbin", "tblob", "blb", "mblob", "lblob", "en", "st", "fl", "big", "bigu", "txt", "geo", "j",
}

const jsonColumns = `(id int PRIMARY KEY, b1 bit(1), b9 bit(9), b64 bit(64), ts timestamp, ts6 timestamp(6), y year, bin binary(5), vbin varbinary(300), tblob tinyblob, blb blob,
	mblob mediumblob, lblob longblob, en enum('a','é'), st set('a','b'), fl float, big bigint, bigu bigint unsigned, txt text, geo geometry, j json)`

const jsonColumnValues = `(1, b'1', b'100000001', 18446744073709551615, '2024-01-02 03:04:05', '2038-01-19 03:14:07.999999', 2024, 'ab', REPEAT(x'ff00', 150), x'00', x'80ff', REPEAT('m', 300),
	REPEAT('l', 1000), 'é', 'a,b', 0.1, -5, 18446744073709551615, 'text', ST_GeomFromText('LINESTRING(0 0, 1 1)'), '{"b": 1, "aa": [true]}')`

// jsonExpr returns a random expression for a document.
func jsonExpr(r *rand.Rand, depth int) string {
	kind := r.IntN(8)
	if depth == 0 {
		kind %= 4
	}
	key := func() string {
		return []string{"'a'", "'b'", "''", "'aa'", "'é'", "'日本'", "'a\"b'", "'z.y[0]'", "REPEAT('k', 300)", "'B'", "'\\n'", "'\\0'", "'key'", "'😀'"}[r.IntN(14)]
	}
	var parts []string
	switch kind {
	case 0, 1, 2:
		return typedValues[r.IntN(len(typedValues))]
	case 3:
		// Sizes about which the form changes.
		sizes := []int{0, 1, 127, 128, 16383, 16384, 32000, 65500, 65535, 65536, 70000}
		return fmt.Sprintf("REPEAT('s', %d)", sizes[r.IntN(len(sizes))]+r.IntN(3))
	case 4, 5:
		for range r.IntN(6) {
			parts = append(parts, jsonExpr(r, depth-1))
		}
		return "JSON_ARRAY(" + strings.Join(parts, ", ") + ")"
	}
	for range r.IntN(6) {
		parts = append(parts, key()+", "+jsonExpr(r, depth-1))
	}
	return "JSON_OBJECT(" + strings.Join(parts, ", ") + ")"
}

// edgeDocs are expressions of documents that take about 64 KB, of which the small form takes
// no more than 65535 bytes; and of such with many values, and deep ones.
func edgeDocs() (docs []string) {
	for n := 65515; n <= 65545; n++ {
		docs = append(docs,
			fmt.Sprintf("JSON_ARRAY(REPEAT('x', %d))", n),
			fmt.Sprintf("JSON_ARRAY(70000, REPEAT('x', %d), 5, -70000, 5000000000)", n-16),
			fmt.Sprintf("JSON_OBJECT('a', 70000, 'b', REPEAT('x', %d), 'c', JSON_ARRAY(70000))", n-16),
			fmt.Sprintf("JSON_ARRAY(JSON_ARRAY(JSON_OBJECT('a', REPEAT('x', %d)), 70000), CAST(70000 AS UNSIGNED))", n-24),
			fmt.Sprintf("JSON_OBJECT('a', JSON_ARRAY(1, -2, 70000), 'b', JSON_OBJECT('c', JSON_ARRAY(REPEAT('x', %d))), 'd', CAST('1.5' AS DECIMAL(5,2)))", n-24),
		)
	}
	for _, n := range []int{13106, 13107, 13108, 21842, 21843, 21844, 21845, 65535, 65536, 65537} {
		docs = append(docs, fmt.Sprintf("CAST(CONCAT('[', REPEAT('1,', %d), '-1]') AS JSON)", n-1), fmt.Sprintf("CAST(CONCAT('[', REPEAT('{},', %d), '70000]') AS JSON)", n-1))
	}
	for _, n := range []int{1, 2, 99, 100} {
		docs = append(docs, fmt.Sprintf("CAST(CONCAT(REPEAT('[', %d), REPEAT(']', %d)) AS JSON)", n, n),
			fmt.Sprintf("CAST(CONCAT(REPEAT('{\"a\":', %d), '[1]', REPEAT('}', %d)) AS JSON)", n-1, n-1),
			fmt.Sprintf("CAST(CONCAT(REPEAT('[', %d), '\"', REPEAT('x', 65400), '\"', REPEAT(']', %d)) AS JSON)", n, n))
	}
	return append(docs, "JSON_OBJECT(REPEAT('k', 65535), 1)", "JSON_OBJECT(REPEAT('k', 65535), 70000, REPEAT('l', 65534), 1)",
		"JSON_OBJECT(REPEAT('k', 65514), 1)", "JSON_OBJECT('', REPEAT('x', 3000000))", "JSON_ARRAY(REPEAT('x', 16383), REPEAT('x', 16384), REPEAT('x', 2097151), REPEAT('x', 2097152))")
}

// The server is the oracle: what stands in its log is what the encoder makes of what
// was read from it.
func TestDocumentsAreEncodedAsTheServerDoes(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	schema := srv.Schema(t)
	session(t, srv, "CREATE TABLE "+schema+".c "+jsonColumns, "SET sql_mode=''", "INSERT INTO "+schema+".c VALUES "+jsonColumnValues,
		"CREATE TABLE "+schema+".a (id int PRIMARY KEY AUTO_INCREMENT, j json)")
	src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".a"}})
	st, _ := begin(t, src)
	seed := testseed.New(t)
	r := rand.New(rand.NewPCG(seed, 0))
	docs := edgeDocs()
	for _, v := range typedValues {
		docs = append(docs, "JSON_EXTRACT(JSON_ARRAY("+v+"), '$[0]')", "JSON_ARRAY("+v+", "+v+")", "JSON_OBJECT('k', "+v+")")
	}
	for range 1000 {
		docs = append(docs, "JSON_EXTRACT(JSON_ARRAY("+jsonExpr(r, 1+r.IntN(5))+"), '$[0]')")
	}
	var e rowevent.JSONEncoder
	var encoded []byte
	for len(docs) > 0 {
		n := min(len(docs), 100)
		// Documents that are larger than a statement may be go by themselves.
		session(t, srv, "SET NAMES utf8mb4, sql_mode=''",
			"INSERT INTO "+schema+".a (j) SELECT "+strings.Join(docs[:n], " FROM "+schema+".c UNION ALL SELECT ")+" FROM "+schema+".c")
		docs = docs[n:]
		txs := read(t, st, func(tx *dfs.Transaction) bool { return tx.Encoded != nil && !tx.More })
		for _, tx := range txs {
			if tx.Encoded == nil {
				continue
			}
			raw := bytes.Clone(tx.Encoded)
			require.NoError(t, src.Decode(t.Context(), []*dfs.Transaction{tx}))
			for _, c := range tx.Changes {
				id, v := c.After[0].Int(), c.After[1]
				if v.IsNull() {
					continue
				}
				// A row: no NULLs, the id, and the document's length before it.
				image := binary.LittleEndian.AppendUint32([]byte{0}, uint32(id))
				at := len(image)
				var err error
				encoded, err = e.Append(append(append(encoded[:0], image...), 0, 0, 0, 0), v)
				if text := v.Text(); err != nil && len(text) > 16<<20 {
					continue
				}
				require.NoError(t, err, "%.500s", v.Text())
				binary.LittleEndian.PutUint32(encoded[at:], uint32(len(encoded)-at-4))
				if !bytes.Contains(raw, encoded) {
					i := bytes.Index(raw, image)
					require.Fail(t, "other bytes", "%.500s %v\n%x\n%x", v.Text(), v.JSONNotes(), raw[i:min(len(raw), i+200)], encoded[:min(len(encoded), 200)])
				}
			}
		}
	}
}

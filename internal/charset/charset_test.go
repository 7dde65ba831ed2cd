package charset

import (
	"database/sql"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

var rewrite = flag.Bool("rewrite", false, "write characters.txt as the server has the characters")

// A character is one code of a character set, and what the server makes of it:
// utf8.RuneError if nothing.
type character struct {
	code string
	r    rune
}

// characterSets returns the names of the sets of a server.
func characterSets(t *testing.T, c *sql.Conn) (names []string) {
	rows, err := c.QueryContext(t.Context(), "SELECT CHARACTER_SET_NAME FROM information_schema.CHARACTER_SETS ORDER BY 1")
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var name string
		require.NoError(t, rows.Scan(&name))
		names = append(names, name)
	}
	require.NoError(t, rows.Err())
	return names
}

// allCodes makes the tables one, two, three and four of the codes of so many bytes
// that occur in any character set. Of four those are here that begin with 81 to 84,
// those of utf32 up to U+1FFFF, and some of the others.
func allCodes(t *testing.T, c *sql.Conn) {
	exec := func(q string) {
		_, err := c.ExecContext(t.Context(), q)
		require.NoError(t, err, "%.200s", q)
	}
	var list []string
	for i := range 256 {
		list = append(list, fmt.Sprintf("(x'%02x')", i))
	}
	exec("SET sql_mode='NO_ENGINE_SUBSTITUTION'")
	exec("SET NAMES utf8mb4")
	for i := 1; i <= 4; i++ {
		exec(fmt.Sprintf("CREATE TEMPORARY TABLE b%d (b varbinary(1))", i))
		exec(fmt.Sprintf("INSERT INTO b%d VALUES ", i) + strings.Join(list, ","))
	}
	for _, name := range []string{"one", "two", "three", "four"} {
		exec("CREATE TEMPORARY TABLE " + name + " (b varbinary(4))")
	}
	exec("INSERT INTO one SELECT b FROM b1")
	exec("INSERT INTO two SELECT CONCAT(b1.b,b2.b) FROM b1, b2")
	exec("INSERT INTO three SELECT CONCAT(x'8f',b1.b,b2.b) FROM b1, b2 WHERE b1.b>=x'80' AND b2.b>=x'80'")
	exec("INSERT INTO four SELECT CONCAT(b1.b,b2.b,b3.b,b4.b) FROM b1, b2, b3, b4 WHERE b2.b BETWEEN '0' AND '9' AND b3.b>x'80' AND b4.b BETWEEN '0' AND '9'" +
		" AND (b1.b BETWEEN x'81' AND x'84' OR b1.b>x'84' AND b2.b='5' AND b3.b=x'99')")
	exec("INSERT INTO four SELECT CONCAT(x'0000',b) FROM two")
	exec("INSERT INTO four SELECT CONCAT(x'0001',b) FROM two")
}

// serverCharacters returns all codes of a character set that the server takes, from those of
// allCodes.
func serverCharacters(t *testing.T, c *sql.Conn, charset string) (list []character) {
	ctx := t.Context()
	tables := []string{"one"}
	switch charset {
	case "ujis", "eucjpms":
		tables = append(tables, "two", "three")
	case "gb18030", "utf16", "utf16le", "utf32":
		tables = append(tables, "two", "four")
	case "big5", "cp932", "euckr", "gb2312", "gbk", "sjis", "ucs2":
		tables = append(tables, "two")
	}
	for _, from := range tables {
		_, err := c.ExecContext(ctx, "CREATE TEMPORARY TABLE text (b varbinary(4), c varchar(4) CHARACTER SET "+charset+")")
		require.NoError(t, err)
		_, err = c.ExecContext(ctx, "INSERT INTO text SELECT b, b FROM "+from)
		require.NoError(t, err)
		rows, err := c.QueryContext(ctx, "SELECT HEX(b), HEX(CONVERT(c USING utf32)) FROM text WHERE HEX(b)=HEX(c) AND CHAR_LENGTH(c)=1 ORDER BY 1")
		require.NoError(t, err)
		for rows.Next() {
			var code, point string
			if err := rows.Scan(&code, &point); err != nil {
				rows.Close()
				t.Fatal(err)
			}
			b, err := hex.DecodeString(code)
			require.NoError(t, err)
			r, err := strconv.ParseUint(point, 16, 32)
			if point == "" {
				r, err = utf8.RuneError, nil // half of a pair
			}
			require.NoError(t, err, code)
			if r == '?' && !strings.HasSuffix(string(b), "?") && charset != "utf16le" {
				r = utf8.RuneError
			}
			list = append(list, character{string(b), rune(r)})
		}
		rows.Close()
		require.NoError(t, rows.Err())
		_, err = c.ExecContext(ctx, "DROP TEMPORARY TABLE text")
		require.NoError(t, err)
	}
	return list
}

// The server itself says what each code of each character set is.
func TestMembersAreTurnedIntoUTF8AsTheServerDoes(t *testing.T) {
	if *rewrite {
		characterList = ""
	}
	var file strings.Builder
	for _, kind := range []testenv.Kind{testenv.MySQL97, testenv.MariaDB, testenv.MySQL56} {
		c, err := testenv.Shared(t, kind).DB(t).Conn(t.Context())
		require.NoError(t, err)
		defer c.Close()
		_, err = c.ExecContext(t.Context(), "USE "+testenv.Shared(t, kind).Schema(t))
		require.NoError(t, err)
		allCodes(t, c)
		for _, charset := range characterSets(t, c) {
			if charset == "binary" || strings.HasPrefix(charset, "utf8") {
				continue
			}
			list := serverCharacters(t, c, charset)
			differ, next := 0, uint32(0)
			var first []string
			var run []rune
			flush := func() {
				if len(run) > 0 {
					fmt.Fprintf(&file, "%s %x %s\n", charset, next-uint32(len(run)), strconv.Quote(string(run)))
				}
				run = nil
			}
			for _, ch := range list {
				got, ok := Text(charset, ch.code)
				if !ok {
					got = string(utf8.RuneError)
				}
				if got == string(ch.r) {
					continue
				}
				differ++
				first = append(first, fmt.Sprintf("%x %s is %U", ch.code, got, ch.r))
				var code uint32
				for _, b := range []byte(ch.code) {
					code = code<<8 | uint32(b)
				}
				if code != next {
					flush()
				}
				run, next = append(run, ch.r), code+1
			}
			flush()
			t.Logf("%s %s: %d characters, %d differ", kind, charset, len(list), differ)
			if !*rewrite {
				if differ > 0 {
					t.Errorf("%s %s: %d differ: %s", kind, charset, differ, first[:min(len(first), 20)])
				}
			}
		}
		if *rewrite {
			require.NoError(t, os.WriteFile("characters.txt", []byte(characterHead+file.String()), 0o644))
			return
		}
	}
}

const characterHead = `# Characters of MySQL's character sets by their codes: set, code in hexadecimal
# digits, and the characters of it and of the codes that follow. U+FFFD stands for
# none. Made by go test -run TestMembersAreTurned -rewrite ./internal/charset from MySQL 9.7.
`

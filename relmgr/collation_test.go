package relmgr

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/stretchr/testify/require"
)

var allCollations = flag.Bool("collations", false, "compare keys under all collations of the servers")

// someCollations are such as compare ASCII letters in ways of their own, and others.
var someCollations = []string{"utf8mb4_general_ci", "utf8mb4_unicode_ci", "utf8mb4_0900_ai_ci", "utf8mb4_0900_as_cs", "utf8mb4_lithuanian_ci", "utf8mb4_lv_0900_ai_ci",
	"utf8mb4_danish_ci", "utf8mb4_hungarian_ci", "utf8mb4_roman_ci", "utf8mb4_turkish_ci", "utf8mb4_spanish2_ci", "utf8mb4_uca1400_ai_ci", "utf8mb4_uca1400_lithuanian_ai_ci",
	"latin1_swedish_ci", "latin1_general_cs", "latin2_czech_cs", "cp1257_lithuanian_ci", "utf8mb4_nopad_bin"}

// fold takes for equal what the server does, or refuses it.
func TestFoldComparesASCIIAsTheServerDoes(t *testing.T) {
	var texts []string
	for a := byte(' '); a < 0x7f; a++ {
		texts = append(texts, string(a))
		for b := byte(' '); b < 0x7f; b++ {
			texts = append(texts, string([]byte{a, b}))
		}
	}
	for _, kind := range []testenv.Kind{testenv.MySQL97, testenv.MariaDB, testenv.MySQL56} {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			schema := srv.Schema(t)
			db := srv.DB(t)
			db.SetMaxOpenConns(1)
			srv.Exec(t, "CREATE TABLE "+schema+".t (s varchar(2) CHARACTER SET ascii COLLATE ascii_bin)")
			var values []string
			for _, s := range texts {
				values = append(values, fmt.Sprintf("(x'%x')", s))
			}
			srv.Exec(t, "INSERT INTO "+schema+".t VALUES "+strings.Join(values, ","))
			query := "SELECT COLLATION_NAME, CHARACTER_SET_NAME FROM information_schema.COLLATIONS ORDER BY 1"
			if kind == testenv.MariaDB {
				query = "SELECT FULL_COLLATION_NAME, CHARACTER_SET_NAME FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY ORDER BY 1"
			}
			rows, err := db.Query(query)
			require.NoError(t, err)
			var list [][2]string
			for rows.Next() {
				var c [2]string
				require.NoError(t, rows.Scan(&c[0], &c[1]))
				if c[1] != "swe7" && c[0] != "binary" && *allCollations || slices.Contains(someCollations, c[0]) {
					list = append(list, c)
				}
			}
			require.NoError(t, rows.Err())
			require.NotEmpty(t, list)
			for _, c := range list {
				col := &dfs.Column{Collation: c[0], Charset: c[1]}
				if _, err := fold("1", col, col); err != nil {
					continue // no text at all
				}
				rows, err := db.Query(fmt.Sprintf("SELECT GROUP_CONCAT(HEX(s) ORDER BY HEX(s)) FROM %s.t GROUP BY CONVERT(s USING %s) COLLATE %s HAVING COUNT(*) > 1", schema, c[1], c[0]))
				require.NoError(t, err, c)
				server := make(map[string]string) // the least of those that are equal, by each of them
				for rows.Next() {
					var group string
					require.NoError(t, rows.Scan(&group))
					equal := strings.Split(group, ",")
					for _, h := range equal {
						server[h] = equal[0]
					}
				}
				require.NoError(t, rows.Err())
				toOurs, toServer := make(map[string]string), make(map[string]string)
				var wrong []string
				refused := 0
				for _, text := range texts {
					ours, err := fold(text, col, col)
					if err != nil {
						refused++
						continue
					}
					h := fmt.Sprintf("%X", text)
					theirs := h
					if first, ok := server[h]; ok {
						theirs = first
					}
					if was, ok := toOurs[theirs]; ok && was != ours {
						wrong = append(wrong, text+" is "+was)
					}
					if was, ok := toServer[ours]; ok && was != theirs {
						wrong = append(wrong, text+" is not "+ours)
					}
					toOurs[theirs], toServer[ours] = ours, theirs
				}
				if len(wrong) > 0 {
					t.Errorf("%s: %d texts, such as %q; %d refused", c[0], len(wrong), wrong[:min(len(wrong), 12)], refused)
				}
			}
		})
	}
}

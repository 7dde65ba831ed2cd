package cdc

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/internal/testseed"
)

var someCollations = flag.Int("collations", 8, "about how many collations are tested on each kind of server")

// Texts in the order of an index are in the order of the bytes that stand for them,
// and no two are equal, in all collations.
func TestOrderOfTextsIsTheServers(t *testing.T) {
	pool := []string{"a", "A", "b", "s", "z", "ß", "ss", "é", "e", "ä", "æ", "œ", "ch", "c", "h", "ll", "ñ", "n", "ﬁ", "ﷺ", "Ǆ", "İ", "ı", "i",
		"あ", "ア", "が", "か", "ー", "中", "一", "́", "\u200b", "\u00ad", "เ", "ก", "ö", "ü", "þ", "\t", "\x01", " ", "0", "~", "\u0e4c", "Ж", "ж", "α", "ς", "σ"}
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			db := srv.DB(t)
			src, err := Open(t.Context(), srv.DSN(""), nil)
			require.NoError(t, err)
			defer src.Close()
			schema := srv.Schema(t)
			query := "SELECT collation_name, character_set_name FROM information_schema.collations ORDER BY 1"
			if kind == testenv.MariaDB {
				query = "SELECT full_collation_name, character_set_name FROM information_schema.collation_character_set_applicability ORDER BY 1"
			}
			rows, err := db.Query(query)
			require.NoError(t, err)
			var list [][2]string
			for rows.Next() {
				var c [2]string
				require.NoError(t, rows.Scan(&c[0], &c[1]))
				if c[1] != "binary" && c[1] != "filename" {
					list = append(list, c)
				}
			}
			require.NoError(t, rows.Err())
			// All of them take minutes: some of them do each time.
			seed := testseed.New(t)
			rnd := rand.New(rand.NewPCG(seed, 0))
			list = slices.DeleteFunc(list, func(c [2]string) bool {
				return !slices.Contains([]string{"utf8mb4_unicode_ci", "utf8mb4_general_ci", "latin1_german2_ci"}, c[0]) && rnd.IntN(len(list)) > *someCollations
			})
			for i, c := range list {
				name := fmt.Sprintf("t%d", i)
				srv.Exec(t, fmt.Sprintf("CREATE TABLE %s.%s (k varchar(4) CHARACTER SET %s COLLATE %s PRIMARY KEY)", schema, name, c[1], c[0]))
				var values []string
				for range 400 {
					var b strings.Builder
					for range rnd.IntN(5) {
						b.WriteString(pool[rnd.IntN(len(pool))])
					}
					r := []rune(b.String())
					values = append(values, fmt.Sprintf("(CONVERT(_utf8mb4 x'%x' USING %s))", string(r[:min(4, len(r))]), c[1]))
				}
				_, err := db.Exec("INSERT IGNORE INTO " + schema + "." + name + " VALUES " + strings.Join(values, ","))
				require.NoError(t, err, c)
				sh, err := src.readShape(context.Background(), tableName{schema, name})
				require.NoError(t, err, c)
				if sh.key == nil {
					continue // an odd one
				}
				rows, err := db.Query("SELECT HEX(k) FROM " + schema + "." + name + " FORCE INDEX (PRIMARY) ORDER BY k")
				require.NoError(t, err)
				var keys []dfs.Row
				for rows.Next() {
					var h string
					require.NoError(t, rows.Scan(&h))
					var raw []byte
					fmt.Sscanf(h, "%x", &raw)
					keys = append(keys, dfs.Row{dfs.StringValue(string(raw))})
				}
				require.NoError(t, rows.Err())
				orders, err := src.orders(context.Background(), sh.key, keys)
				require.NoError(t, err, c)
				for i := range orders[1:] {
					require.Less(t, orders[i], orders[i+1], "%v: %q and %q", c, keys[i][0].Text(), keys[i+1][0].Text())
				}
			}
		})
	}
}

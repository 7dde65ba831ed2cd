package ddl

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestChanged(t *testing.T) {
	for text, want := range map[string]string{
		"INSERT INTO a VALUES (1)": "[.a]",
		"/* x */ insert low_priority ignore `s`.`a` (b) SELECT f() FROM c":                   "[s.a]",
		"UPDATE a SET b = 1, c.d = 2, e = (SELECT x FROM y)":                                 "[.a]",
		"UPDATE LOW_PRIORITY IGNORE s.a AS b, c JOIN d ON d.x = b.x AND d.y = 1 SET b.z = 2": "[s.a .c .d]",
		"UPDATE a b SET b.x = 1":                              "[.a]",
		"UPDATE a LEFT JOIN b USING (x) SET a.y = 1":          "[.a .b]",
		"UPDATE a FOR PORTION OF p FROM '1' TO '2' SET x = 1": "[.a]",
		"DELETE FROM a WHERE b IN (SELECT c FROM d)":          "[.a]",
		"DELETE x FROM a AS x JOIN b USING (c)":               "[.a .b]",
		"DELETE FROM x USING a AS x":                          "[]",
		"REPLACE INTO a VALUES (1)":                           "[]",
		"SELECT f()":                                          "[]",
		"CALL p()":                                            "[]",
		"LOAD DATA INFILE 'x' INTO TABLE a":                   "[]",
		`UPDATE "a" SET b = 1`:                                "[]",
		"UPDATE a":                                            "[]",
	} {
		require.Equal(t, want, fmt.Sprint(Changed(text, Mode{MariaDB: true})), text)
	}
}

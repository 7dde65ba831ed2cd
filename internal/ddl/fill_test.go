package ddl

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFill(t *testing.T) {
	numbers := Fill{Numbers: true}
	unproven := func(what string) Fill { return Fill{Unproven: what} }
	for text, want := range map[string]Fill{
		// What numbers rows.
		"ADD id int AUTO_INCREMENT UNIQUE":                    numbers,
		"ADD id SERIAL":                                       numbers,
		"ADD COLUMN `id` serial":                              numbers,
		"ADD\n COLUMN id BIGINT NOT NULL\n AUTO_INCREMENT":    numbers,
		"ADD id int SERIAL DEFAULT VALUE":                     numbers,
		"ADD (a int, id/**/SERIAL)":                           numbers,
		"ADD (a int, b int), ADD id int auto_increment":       numbers,
		"ADD COLUMN IF NOT EXISTS id SERIAL FIRST":            numbers,
		"WAIT 5 ADD id SERIAL":                                numbers,
		"MODIFY n int AUTO_INCREMENT, ENGINE=InnoDB":          {Numbers: true, Column: "n"},
		"CHANGE `n m` id int AUTO_INCREMENT":                  {Numbers: true, Column: "n m"},
		"CHANGE COLUMN t.n id SERIAL":                         {Numbers: true, Column: "n"},
		"MODIFY COLUMN IF EXISTS n SERIAL":                    {Numbers: true, Column: "n"},
		"ADD id int AUTO_INCREMENT, ADD KEY (id), ORDER BY v": {Numbers: true, Orders: true},
		"AUTO_INCREMENT=5":                                    {},
		"ENGINE InnoDB AUTO_INCREMENT 5":                      {},
		"ADD `auto_increment` int":                            {},
		"ADD serial int":                                      {},
		"ADD c int COMMENT 'AUTO_INCREMENT'":                  {},
		"DROP auto, ADD KEY (`serial`)":                       {},

		// What fills them.
		"ADD c int DEFAULT 5 COMMENT 'uuid()'":                        {},
		"ADD c int DEFAULT -1 CHECK (rand() < c) AFTER b":             {},
		"ADD c datetime DEFAULT CURRENT_TIMESTAMP ON UPDATE now()":    {},
		"ADD c datetime(6) DEFAULT NOW(6)":                            {},
		"ADD c json DEFAULT (json_array())":                           {},
		"ADD c varchar(9) DEFAULT (concat(a, ' ', \"uuid()\", .5))":   {},
		"ADD c int DEFAULT (CASE WHEN (a > 1) THEN (2) ELSE 3 END)":   {},
		"ADD c varbinary(9) DEFAULT x'00', ADD d bit(3) DEFAULT b'1'": {},
		"ADD c char(9) DEFAULT _latin1'a' COLLATE latin1_bin":         {},
		"ADD c decimal(9,2) DEFAULT (1.5 * 2)":                        {},
		"ADD c int REFERENCES p (id) ON DELETE SET DEFAULT":           {},
		"ADD c int AS (week(d)) VIRTUAL":                              {},
		"ADD c int GENERATED ALWAYS AS (week(d)) STORED":              unproven("WEEK"),
		"MODIFY c int AS (week(d)) PERSISTENT":                        unproven("WEEK"),
		"ADD c int AS (a + b) STORED":                                 {},
		"MODIFY c varchar(36) DEFAULT (uuid())":                       {},
		"ALTER c SET DEFAULT (uuid())":                                {},
		"ADD PARTITION (PARTITION p VALUES IN (DEFAULT))":             {},
		"ADD INDEX i ((rand()))":                                      {},
		"ADD c varchar(36) DEFAULT (uuid())":                          unproven("UUID"),
		"ADD c varchar(36) DEFAULT uuid()":                            unproven("UUID"),
		"ADD c varchar(36) DEFAULT (`uuid`())":                        unproven("UUID"),
		"ADD c varchar(36) DEFAULT (uuid/**/())":                      unproven("UUID"),
		"ADD c varchar(36) DEFAULT (concat('a', Rand/* x */()))":      unproven("RAND"),
		"ADD (a int, c varchar(36) DEFAULT (uuid()))":                 unproven("UUID"),
		"ADD a int, ADD c bigint DEFAULT (connection_id())":           unproven("CONNECTION_ID"),
		"ADD c bigint DEFAULT (1/3)":                                  unproven("/"),
		"ADD c bigint DEFAULT (@@server_id)":                          unproven("a variable"),
		"ADD c bigint DEFAULT @uv":                                    unproven("a variable"),
		"ADD c varchar(99) DEFAULT CURRENT_USER":                      unproven("CURRENT_USER"),
		"ADD c varchar(99) DEFAULT (CURRENT_USER)":                    unproven("CURRENT_USER"),
		"ADD c bigint DEFAULT NEXT VALUE FOR s":                       unproven("NEXT"),
		"ADD c bigint DEFAULT (s.f(1))":                               unproven("a name with a dot"),
		"ADD c bigint DEFAULT CASE WHEN 1 THEN rand() END":            unproven("RAND"),
		"ADD c int DEFAULT (default(a))":                              unproven("DEFAULT"),
	} {
		s := Parse("ALTER TABLE t "+text, "d", Mode{})
		require.Equal(t, want, s.Fill(), text)
	}
	s := Parse("ALTER ONLINE IGNORE TABLE t ADD UNIQUE (a)", "d", Mode{MariaDB: true})
	require.Equal(t, Fill{Ignores: true}, s.Fill())
	s = Parse(`ALTER TABLE t ADD "AUTO_INCREMENT" int, ADD b int DEFAULT ("RAND" + 1)`, "d", Mode{ANSIQuotes: true})
	require.Equal(t, Fill{}, s.Fill())
	s = Parse("ALTER TABLE /*! t ADD */ id SERIAL", "d", Mode{})
	require.Equal(t, numbers, s.Fill())
}

//go:build unix

package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A dry run shows what units make of rows, as SQL for the target, with an account
// that may not write there, and leaves everything as it is.
func (e *env) testDryRun(t *testing.T) {
	e.source.Exec(t, "CREATE DATABASE shop_dry", "USE shop_dry", "CREATE TABLE users (id int PRIMARY KEY, mail varchar(40) NOT NULL, password varchar(40))")
	e.target.Exec(t, "CREATE DATABASE shop_dry_crm", "CREATE TABLE shop_dry_crm.people (id int PRIMARY KEY, mail char(32) NOT NULL)",
		"CREATE USER dry@'%' IDENTIFIED BY '"+strings.ReplaceAll(targetPassword, "'", "''")+"'", "GRANT SELECT ON *.* TO dry@'%'")
	file := e.config(t, "shop_dry", [2]string{"  start:", "  start: earliest\n  server_id: 4711"}, [2]string{"", `hash_key: 0123456789abcdef
units:
  - {from: "*.users", into: shop_dry_crm.people, drop: [password], mask: {mail: hash}}`})
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	at := bytes.LastIndex(b, []byte("user: dfs"))
	require.NoError(t, os.WriteFile(file, append(append(bytes.Clone(b[:at]), "user: dry"...), b[at+len("user: dfs"):]...), 0o600))
	e.source.Exec(t, "USE shop_dry", "INSERT INTO users VALUES (1, 'ann@x', 's3cret'), (2, 'bob@x', NULL)", "UPDATE users SET mail = 'a@x' WHERE id = 1",
		"UPDATE users SET password = 'n3w'", "ALTER TABLE users ADD x int", "DELETE FROM users")

	code, out := e.basic(t, "run", "-c", file, "-dry-run", "-count", "3", "-log", "json")
	require.Equal(t, exitRun, code, out)
	require.Contains(t, out, "statement", "the CREATE TABLE is the first of the log")

	file = e.config(t, "shop_dry_go", [2]string{"tables:", "  tables: shop_dry.*"}, [2]string{"", "  ddl: ignore\n  checkpoint_schema: shop_dry_cp"}, [2]string{"", `hash_key: 0123456789abcdef
units:
  - {from: "*.users", into: shop_dry_crm.people, drop: [password], mask: {mail: hash}}`})
	e.source.Exec(t, "USE shop_dry", "INSERT INTO users VALUES (1, 'ann@x', 's3cret', 1), (2, 'bob@x', NULL, 2)", "UPDATE users SET mail = 'a@x' WHERE id = 1",
		"UPDATE users SET password = 'n3w'", "DELETE FROM users")
	e.target.Exec(t, "ALTER TABLE shop_dry_crm.people ADD x int")
	code, out = e.basic(t, "run", "-c", file, "-dry-run", "-count", "4", "-log", "json")
	require.Zero(t, code, out)
	require.Equal(t, 2, strings.Count(out, "INSERT INTO `shop_dry_crm`.`people`")+strings.Count(out, "UPDATE `shop_dry_crm`.`people` SET `mail`=_ascii'b376083abdc4a15a06dc0af7e565bedd' WHERE `id`=1;"), out)
	require.Contains(t, out, "DELETE FROM `shop_dry_crm`.`people` WHERE `id` IN (1,2);")
	require.Contains(t, out, "basic: dry run: 3 transactions with 5 rows shown, nothing written\n")
	for _, hidden := range []string{"s3cret", "n3w", "ann@x"} {
		require.NotContains(t, out, hidden)
	}

	p := e.start(t, "run", "-c", file, "-dry-run", "-count", "1", "-json", "-log", "json")
	code, out = p.wait(t)
	require.Zero(t, code, out)
	var line planned
	require.NoError(t, json.Unmarshal([]byte(out[strings.Index(out, `{"seq"`):strings.Index(out, "basic: dry run")]), &line), out)
	require.Equal(t, 2, line.Rows)
	require.Len(t, line.Statements, 2)
	require.Equal(t, "SET foreign_key_checks=0", line.Statements[0])
	require.NotEmpty(t, line.ID)
	require.NotNil(t, line.Committed)

	var n int
	require.NoError(t, e.target.DB(t).QueryRow("SELECT COUNT(*) FROM shop_dry_crm.people").Scan(&n))
	require.Zero(t, n)
	require.NoError(t, e.target.DB(t).QueryRow("SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name='shop_dry_cp'").Scan(&n))
	require.Zero(t, n)
	_, err = os.Stat(fmt.Sprintf("%s/shop_dry_go.queue", e.dir))
	require.ErrorIs(t, err, os.ErrNotExist)

	// The bound in time.
	code, out = e.basic(t, "run", "-c", file, "-dry-run", "-for", "1s")
	require.Zero(t, code, out)
	require.Contains(t, out, "3 transactions with 5 rows shown")
}

//go:build unix

package cli

import (
	"path/filepath"
	"regexp"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// testIDs gives rows new ids as the file says, before units reshape them.
func (e *env) testIDs(t *testing.T) {
	e.source.Exec(t, "CREATE DATABASE shop_ids", "USE shop_ids",
		"CREATE TABLE users (id int AUTO_INCREMENT PRIMARY KEY, name varchar(20) NOT NULL)",
		"CREATE TABLE orders (id int AUTO_INCREMENT PRIMARY KEY, user_id int NOT NULL, doc json, FOREIGN KEY (user_id) REFERENCES users (id))",
		"CREATE TABLE countries (code char(2) PRIMARY KEY)")
	e.target.Exec(t, "CREATE DATABASE shop_ids", "USE shop_ids",
		"CREATE TABLE people (id int AUTO_INCREMENT PRIMARY KEY, name varchar(20) NOT NULL)",
		"CREATE TABLE orders (id char(36) PRIMARY KEY, user_id int NOT NULL, doc json, FOREIGN KEY (user_id) REFERENCES people (id))",
		"CREATE TABLE countries (code char(2) PRIMARY KEY)", "INSERT INTO people VALUES (100, 'was there')")
	path := filepath.Join(t.TempDir(), "shop.ids")
	section := [2]string{"", `relmgr:
  path: ` + path + `
  policies:
    - {table: shop_ids.orders, ids: uuid}
    - {table: shop_ids.users, target: shop_ids.people.id}
  references:
    - {table: shop_ids.orders, columns: doc, path: "$.friend", parent: shop_ids.users}
units:
  - {from: shop_ids.users, into: shop_ids.people}`}
	watched := [2]string{"", "monitor: {listen: " + freeAddress(t) + "}"}

	wrong := section
	wrong[1] = wrong[1][:len(wrong[1])-len("units:\n  - {from: shop_ids.users, into: shop_ids.people}")] + "    - {table: shop_ids.orders, columns: nr, parent: shop_ids.users}"
	code, out := e.basic(t, "check", "-c", e.config(t, "shop_ids", wrong))
	require.Equal(t, exitSetup, code, out)
	require.Regexp(t, `shop_ids\.yaml:\d+: relmgr\.references\[1\]: shop_ids\.orders: there is no column nr`, out)

	file := e.config(t, "shop_ids", section, watched)
	code, out = e.basic(t, "check", "-c", file)
	require.Zero(t, code, out)
	require.Contains(t, out, "user_id: refers to shop_ids.users.id (foreign key orders_ibfk_1)")
	require.Contains(t, out, "id: new ids: uuid, as char(36)")
	require.Regexp(t, `note\s+shop_ids\.countries\s+code: kept`, out)
	require.NoFileExists(t, path, "check makes no map")

	p := e.start(t, "run", "-c", file)
	e.source.Exec(t, "USE shop_ids", "INSERT INTO users VALUES (1, 'Ann'), (2, 'Bob')", `INSERT INTO orders VALUES (1, 2, '{"friend": 1}')`, "INSERT INTO countries VALUES ('de')")
	db := e.target.DB(t)
	eventually(t, p, db, "SELECT code FROM shop_ids.countries", "de")
	eventually(t, p, db, "SELECT CONCAT(LENGTH(o.id), ' ', p.name, ' ', f.name, ' ', p.id > 100) FROM shop_ids.orders o JOIN shop_ids.people p ON p.id = o.user_id JOIN shop_ids.people f ON f.id = o.doc->'$.friend'",
		"36 Bob Ann 1")
	waitFor(t, func() bool { // the monitor looks once a second
		code, out = e.basic(t, "status", "-c", file)
		return regexp.MustCompile(`(?m)^ids\s+3 keys · 0 of rows that have not come$`).MatchString(out) &&
			regexp.MustCompile(`(?m)^units\s+shop_ids\.users · 2 rows in · 2 out$`).MatchString(out)
	})
	require.Zero(t, code, out)

	// Verification looks ids up in the map that the pipeline has open.
	code, out = e.basic(t, "verify", "-c", file)
	require.Zero(t, code, out)
	require.Contains(t, out, "1 rows of shop_ids.people have ids that no row of the source was given")
	e.source.Exec(t, "USE shop_ids", "INSERT INTO users VALUES (3, 'Cy'), (4, 'Di')")
	eventually(t, p, db, "SELECT COUNT(*) FROM shop_ids.people", "5")
	e.source.Exec(t, "USE shop_ids", "SET sql_log_bin = 0", "DELETE FROM users WHERE id = 3", "INSERT INTO users VALUES (5, 'never carried')")
	e.target.Exec(t, "UPDATE shop_ids.people SET name = 'other' WHERE name = 'Bob'", "DELETE FROM shop_ids.orders", "INSERT INTO shop_ids.people VALUES (9999, 'not ours')")
	code, out = e.basic(t, "verify", "-c", file)
	require.Equal(t, exitDifferent, code, out)
	require.Regexp(t, `name is "Bob" on the source, "other" on the target`, out)
	require.Contains(t, out, "2 rows of shop_ids.people have ids that no row of the source was given")
	require.Contains(t, out, "1 missing, 1 extra, 1 different", out)
	require.Regexp(t, `missing in shop_ids.users: id=5.*the map has no new id for it`, out)
	require.Contains(t, out, "shop_ids.orders: 1 rows; 1 missing, 0 extra, 0 different")
	code, out = e.basic(t, "verify", "-repair", "-c", file)
	require.Equal(t, exitDifferent, code, out)
	require.Contains(t, out, "mended")
	e.source.Exec(t, "USE shop_ids", "SET sql_log_bin = 0", "DELETE FROM users WHERE id = 5")
	code, out = e.basic(t, "verify", "-c", file)
	require.Zero(t, code, out)
	require.Contains(t, out, "2 rows of shop_ids.people have ids that no row of the source was given")
	eventually(t, p, db, "SELECT CONCAT(p.name, ' ', f.name) FROM shop_ids.orders o JOIN shop_ids.people p ON p.id = o.user_id JOIN shop_ids.people f ON f.id = o.doc->'$.friend'", "Bob Ann")
	p.signal(t, syscall.SIGTERM)
	code, out = p.wait(t)
	require.Zero(t, code, out)
	require.FileExists(t, path)
	code, out = e.basic(t, "verify", "-c", file)
	require.Zero(t, code, out) // also while it stands still
}

//go:build unix

package cli

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// testCreateUnits creates the tables that units make, of which two make one.
func (e *env) testCreateUnits(t *testing.T) {
	e.source.Exec(t, "CREATE DATABASE shop_made", "USE shop_made",
		"CREATE TABLE users (id int AUTO_INCREMENT PRIMARY KEY, mail varchar(40) NOT NULL, password varchar(40))",
		"CREATE TABLE profiles (user int PRIMARY KEY, bio varchar(40))",
		"CREATE TABLE plain (id int PRIMARY KEY, n int DEFAULT 7, KEY by_n (n))")
	e.target.Exec(t, "GRANT CREATE, ALTER, DROP, INDEX, REFERENCES, CREATE VIEW ON `shop%`.* TO dfs@'%'")
	file := e.config(t, "shop_made", [2]string{"", `  create_tables: true
units:
  - {from: shop_made.users, into: shop_made_crm.people, drop: [password], columns: [{name: has_user, type: tinyint, value: 1}], part: true}
  - {from: shop_made.profiles, into: shop_made_crm.people, rename: {user: id}, columns: [{name: has_profile, type: tinyint, value: 1}], part: true}
  - {from: shop_made.plain, into: shop_made_crm.simple}`})
	code, out := e.basic(t, "check", "-c", file)
	require.Zero(t, code, out)
	require.Contains(t, out, "is created at the first start")

	p := e.start(t, "run", "-c", file)
	e.source.Exec(t, "USE shop_made", "INSERT INTO profiles VALUES (1, 'reads')", "INSERT INTO users VALUES (1, 'ann@x', 'secret')", "INSERT INTO plain VALUES (1, 2)")
	db := e.target.DB(t)
	eventually(t, p, db, "SELECT CONCAT_WS(' ', id, mail, bio, has_user, has_profile) FROM shop_made_crm.people", "1 ann@x reads 1 1")
	eventually(t, p, db, "SELECT n FROM shop_made_crm.simple FORCE INDEX (by_n)", "2")
	p.signal(t, syscall.SIGTERM)
	code, out = p.wait(t)
	require.Zero(t, code, out)

	// A column that is missing is told with all that the unit makes.
	e.target.Exec(t, "ALTER TABLE shop_made_crm.people DROP COLUMN bio")
	code, out = e.basic(t, "check", "-c", file)
	require.Equal(t, exitSetup, code, out)
	require.Contains(t, out, "has no column bio")
	require.Regexp(t, `bio varchar\(40\)\s+<- bio  MISSING on the target`, out)
	require.Regexp(t, `bio varchar\(40\)\s+<- bio`, out)
}

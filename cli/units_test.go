package cli

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// testUnits reshapes rows as the file says.
func (e *env) testUnits(t *testing.T) {
	e.source.Exec(t, "CREATE DATABASE shop_units", "USE shop_units",
		"CREATE TABLE users (id int PRIMARY KEY, mail varchar(40) NOT NULL, password varchar(40), country char(2) NOT NULL)",
		"CREATE TABLE profiles (user int PRIMARY KEY, bio varchar(40))", "CREATE TABLE plain (id int PRIMARY KEY)",
		"CREATE TABLE orders (id int PRIMARY KEY, city int NOT NULL, country char(2) NOT NULL)", "CREATE DATABASE shop_geo", "CREATE TABLE shop_geo.cities (id int PRIMARY KEY, name varchar(40))",
		"INSERT INTO shop_geo.cities VALUES (7, 'Bath')")
	require.NoError(t, os.WriteFile(filepath.Join(e.dir, "vat.csv"), []byte("code,rate\ngb,20.00\n"), 0o600))
	e.target.Exec(t, "CREATE DATABASE shop_units_crm", "USE shop_units_crm",
		"CREATE TABLE people (id int PRIMARY KEY, email varchar(40), place varchar(10), bio varchar(40), has_profile tinyint)",
		"CREATE TABLE gone (id int PRIMARY KEY, mail char(32) NOT NULL, deleted timestamp(6) NULL)", "CREATE TABLE plain (id int PRIMARY KEY)",
		"CREATE TABLE orders (id int PRIMARY KEY, city varchar(40), rate decimal(4,2))",
		"GRANT CREATE, ALTER, DROP, INDEX, REFERENCES, CREATE VIEW ON `shop%`.* TO dfs@'%'")
	units := [2]string{"", `  ddl: apply
hash_key: 0123456789abcdef
units:
  - from: "*.users"
    into: shop_units_crm.gone
    also: true
    select: [id, mail]
    mask: {mail: hash}
    where: country == "gb"
    soft_delete: deleted
  - name: people
    from: "*.users"
    into: shop_units_crm.people
    drop: [password, country]
    rename: {mail: email}
    columns:
      - {name: place, type: varchar(10), expr: upper(country)}
    part: true
  - from: "*.profiles"
    into: shop_units_crm.people
    rename: {user: id}
    columns: [{name: has_profile, type: tinyint, value: 1}]
    part: true
  - {from: shop_units.plain, into: "shop_units_crm.*"}
  - from: shop_units.orders
    into: shop_units_crm.orders
    drop: [city, country]
    rename: {city_name: city}
    lookups:
      - {in: source, table: shop_geo.cities, on: city, key: id, find: name, as: {name: city_name}}
      - {file: vat.csv, on: country, key: code, find: rate, types: {rate: "decimal(4,2)"}}`}

	bad := e.config(t, "shop_units", [2]string{"", strings.NewReplacer("find: name, as: {name: city_name}", "find: nmae", "file: vat.csv", "file: tax.csv").Replace(units[1])})
	code, out := e.basic(t, "check", "-c", bad)
	require.Equal(t, exitSetup, code, out)
	require.Regexp(t, `shop_units\.yaml:45: units\[4\]\.lookups\[0\]: shop_geo\.cities has no column nmae`, out)
	require.Regexp(t, `shop_units\.yaml:46: units\[4\]\.lookups\[1\]: .*tax\.csv: no such file`, out)

	wrong := e.config(t, "shop_units", [2]string{"", strings.Replace(units[1], "[password, country]", "[id, email]", 1)})
	code, out = e.basic(t, "check", "-c", wrong)
	require.Equal(t, exitSetup, code, out)
	require.Regexp(t, `shop_units\.yaml:29: units\[1\]\.drop: none of its tables has a column email`, out)

	file := e.config(t, "shop_units", units)
	code, out = e.basic(t, "check", "-c", file)
	require.Zero(t, code, out)
	require.Contains(t, out, `by unit "people"`)
	require.Regexp(t, `place varchar\(10\)\s+<- = upper\(country\)`, out)
	require.Contains(t, out, "dropped: password")

	p := e.start(t, "run", "-c", file)
	e.source.Exec(t, "USE shop_units", "INSERT INTO profiles VALUES (1, 'reads')", "INSERT INTO users VALUES (1, 'ann@x', 'secret', 'gb'), (2, 'bob@x', NULL, 'fr')",
		"UPDATE users SET mail = 'a@x' WHERE id = 1", "DELETE FROM profiles", "INSERT INTO profiles VALUES (3, NULL)", "UPDATE users SET country = 'fr' WHERE id = 1",
		"ALTER TABLE plain ADD n int", "INSERT INTO plain VALUES (1, 5)")
	db := e.target.DB(t)
	eventually(t, p, db, "SELECT n FROM shop_units_crm.plain", "5")
	eventually(t, p, db, "SELECT GROUP_CONCAT(CONCAT_WS(' ', id, IFNULL(email,'-'), IFNULL(place,'-'), IFNULL(bio,'-'), IFNULL(has_profile,'-')) ORDER BY id) FROM shop_units_crm.people",
		"1 a@x FR - -,2 bob@x FR - -,3 - - - 1")
	// The HMAC of a@x under the key, and deleted when it left the filter.
	eventually(t, p, db, "SELECT CONCAT(id, ' ', mail, ' ', deleted IS NOT NULL) FROM shop_units_crm.gone", "1 b376083abdc4a15a06dc0af7e565bedd 1")
	e.source.Exec(t, "INSERT INTO shop_units.orders VALUES (1, 7, 'gb'), (2, 8, 'fr')")
	eventually(t, p, db, "SELECT GROUP_CONCAT(CONCAT_WS(' ', id, IFNULL(city,'-'), IFNULL(rate,'-')) ORDER BY id) FROM shop_units_crm.orders", "1 Bath 20.00,2 - -")
	p.signal(t, syscall.SIGTERM)
	code, out = p.wait(t)
	require.Zero(t, code, out)
	require.Contains(t, out, "unit=people in=4 out=4")
}

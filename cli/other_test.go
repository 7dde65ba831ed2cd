//go:build unix

package cli

import (
	"database/sql"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"
)

// TestPostgreSQLAndAFileAreTargets of check, run and status.
func TestPostgreSQLAndAFileAreTargets(t *testing.T) {
	e := &env{dir: t.TempDir(), source: testenv.Start(t, testenv.MySQL97)}
	e.source.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.people (id int PRIMARY KEY, name varchar(20) NOT NULL DEFAULT 'no one', at timestamp NULL, KEY (name))",
		"INSERT INTO shop.people VALUES (1, 'Åsa', NULL)")
	_, port, err := net.SplitHostPort(e.source.Addr())
	require.NoError(t, err)
	file := func(target string) string {
		path := filepath.Join(e.dir, "dfs.yaml")
		require.NoError(t, os.WriteFile(path, fmt.Appendf(nil, "source: {port: %s, user: root, tables: shop.*, snapshot: true}\ntarget: %s\n", port, target), 0o600))
		return path
	}
	walk := func(t *testing.T, path, about string, count func() string, change func(q string)) {
		code, out := e.basic(t, "status", "-c", path)
		require.Zero(t, code, out)
		require.Contains(t, out, "not started")
		code, out = e.basic(t, "check", "-c", path)
		require.Zero(t, code, out)
		require.Regexp(t, "shop.people → shop.people .*is created at the first start", out)
		require.Contains(t, out, about)
		p := e.start(t, "-c", path)
		waitFor(t, func() bool { return count() == "1" })
		e.source.Exec(t, "INSERT INTO shop.people VALUES (2, 'Bo', NOW()), (3, 'Ci', NULL)", "UPDATE shop.people SET name='Bob' WHERE id=2")
		waitFor(t, func() bool { return count() == "3" })
		code, out = e.basic(t, "verify", "-c", path)
		require.Zero(t, code, out)
		require.Contains(t, out, "equal          shop.people: 3 rows")
		change("UPDATE people SET name='Cy' WHERE id=3")
		code, out = e.basic(t, "verify", "-c", path)
		require.Equal(t, exitDifferent, code, out)
		require.Contains(t, out, `different in shop.people: id=3; name is "Ci" on the source, "Cy" on the target`)
		change("DELETE FROM people WHERE id=1")
		code, out = e.basic(t, "verify", "-repair", "-dry-run", "-c", path)
		require.Equal(t, exitDifferent, code, out)
		require.Contains(t, out, `would be mended by: UPDATE shop.people SET name="Ci" WHERE id=3`)
		require.Contains(t, out, `would be mended by: INSERT INTO shop.people (id, name, at) VALUES (1, "Åsa", NULL)`)
		require.Contains(t, out, "1 missing, 0 extra, 1 different, 2 of them would be mended")
		require.Equal(t, "2", count())
		code, out = e.basic(t, "verify", "-repair", "-lock-time", "10s", "-c", path)
		require.Equal(t, exitDifferent, code, out)
		require.Contains(t, out, `name is "Ci" on the source, "Cy" on the target; mended`)
		require.Contains(t, out, "missing in shop.people: id=1; mended")
		code, out = e.basic(t, "verify", "-c", path)
		require.Zero(t, code, out)
		p.signal(t, syscall.SIGTERM)
		code, out = p.wait(t)
		require.Zero(t, code, out)
		code, out = e.basic(t, "status", "-c", path)
		require.Zero(t, code, out)
		require.Regexp(t, "target .*"+about+".* up to transaction [0-9]+ .* ago", out)
		e.source.Exec(t, "DELETE FROM shop.people WHERE id>1")
	}
	t.Run("postgres", func(t *testing.T) {
		srv := testenv.StartPostgres(t)
		srv.Exec(t, "CREATE ROLE dfs LOGIN PASSWORD 'se-cret/1'", "CREATE DATABASE shop OWNER dfs ENCODING 'UTF8' TEMPLATE template0")
		dsn := "postgres://dfs:se-cret%2F1@" + srv.Addr() + "/shop"
		path := file("{dsn: '" + dsn + "', create_tables: true}")
		count := func() string { return srv.Count(t, "shop", "SELECT COUNT(*) FROM shop.people") }
		walk(t, path, "PostgreSQL", count, func(q string) { srv.Count(t, "shop", "SET search_path=shop; "+q+" RETURNING 1") })
		code, out := e.basic(t, "run", "-dry-run", "-c", path)
		require.Equal(t, exitSetup, code, out)
		require.Contains(t, out, "the target ("+srv.Addr()+"/shop as user dfs) is postgres")
		require.NotContains(t, e.said.String(), "se-cret")
	})
	t.Run("file", func(t *testing.T) {
		path := file("{file: shop.db}")
		code, out := e.basic(t, "check", "-c", path)
		require.Equal(t, exitSetup, code, out)
		require.Contains(t, out, `the file has no table "people"`)
		require.NoError(t, os.Remove(filepath.Join(e.dir, "shop.db")))
		path = file("shop.db")
		count := func() (n string) {
			db, err := sql.Open("sqlite", "file:"+filepath.Join(e.dir, "shop.db")+"?mode=ro&_pragma=busy_timeout(5000)")
			require.NoError(t, err)
			defer db.Close()
			if err := db.QueryRow("SELECT COUNT(*) FROM people").Scan(&n); err != nil {
				return err.Error()
			}
			return n
		}
		walk(t, path, "SQLite", count, func(q string) {
			db, err := sql.Open("sqlite", "file:"+filepath.Join(e.dir, "shop.db")+"?_pragma=busy_timeout(5000)")
			require.NoError(t, err)
			defer db.Close()
			_, err = db.Exec(q)
			require.NoError(t, err)
		})
	})
}

package cli

import (
	"encoding/json"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs/verify"
)

// testVerify verifies through a route and a unit, while the pipeline runs.
func (e *env) testVerify(t *testing.T) {
	e.source.Exec(t, "CREATE DATABASE shop_v", "USE shop_v", "CREATE TABLE users (id int PRIMARY KEY, mail varchar(40), password varchar(40))",
		"CREATE TABLE notes (id int PRIMARY KEY, text varchar(40))", "CREATE TABLE marks (id int PRIMARY KEY, n int)")
	e.target.Exec(t, "CREATE DATABASE shop_v_to", "USE shop_v_to", "CREATE TABLE users (id int PRIMARY KEY, email varchar(40))",
		"CREATE TABLE notes (id int PRIMARY KEY, text varchar(40))", "CREATE TABLE marks (id int PRIMARY KEY, n int, gone timestamp NULL)")
	file := e.config(t, "shop_v", [2]string{"", `  routes: [{from: shop_v.*, to: shop_v_to.*}]
units:
  - {from: shop_v.users, drop: [password], rename: {mail: email}}
  - {from: shop_v.marks, soft_delete: gone}`})
	code, out := e.basic(t, "verify", "-c", file)
	require.Equal(t, exitSetup, code, out)
	require.Contains(t, out, `the target has no checkpoint of a pipeline "shop_v"`)

	p := e.start(t, "run", "-c", file)
	e.source.Exec(t, "USE shop_v", "INSERT INTO users VALUES (1,'a@x','pw'),(2,'b@x','pw')", "INSERT INTO marks VALUES (1,1),(2,2)", "DELETE FROM marks WHERE id=2",
		"INSERT INTO notes VALUES (1,'one'),(2,'two')")
	eventually(t, p, e.target.DB(t), "SELECT COUNT(*) FROM shop_v_to.notes", "2")
	code, out = e.basic(t, "verify", "-c", file)
	require.Equal(t, exitOK, code, out)
	require.Contains(t, out, "equal          shop_v.notes -> shop_v_to.notes: 2 rows\n")
	require.Contains(t, out, "equal          shop_v.users -> shop_v_to.users: 2 rows\n")

	e.target.Exec(t, "USE shop_v_to", "UPDATE users SET email='other' WHERE id=1", "DELETE FROM notes WHERE id=2")
	code, out = e.basic(t, "verify", "-c", file, "-json", "shop_v.users", "shop_v.marks")
	require.Equal(t, exitDifferent, code, out)
	var r struct {
		Verdict verify.Verdict
		Tables  []verify.TableReport
	}
	require.NoError(t, json.Unmarshal([]byte(out), &r), out)
	require.Equal(t, verify.Different, r.Verdict)
	require.Len(t, r.Tables, 2)
	code, out = e.basic(t, "verify", "-c", file, "-repair", "-dry-run")
	require.Equal(t, exitDifferent, code, out)
	require.Contains(t, out, `would be mended by: UPDATE shop_v_to.users SET email="a@x" WHERE id=1`)
	require.Contains(t, out, `would be mended by: INSERT INTO shop_v_to.notes (id, text) VALUES (2, "two")`)
	code, out = e.basic(t, "verify", "-c", file, "-repair")
	require.Equal(t, exitDifferent, code, out)
	require.Contains(t, out, `different in shop_v_to.users: id=1; email is "a@x" on the source, "other" on the target; mended`)
	require.Contains(t, out, "missing in shop_v_to.notes: id=2; mended\n")

	w := e.start(t, "verify", "-c", file, "-continuous", "-rows", "1000")
	waitFor(t, func() bool { return strings.Count(w.printed(), "equal  ") == 3 })
	w.signal(t, syscall.SIGTERM)
	code, out = w.wait(t)
	require.Equal(t, exitOK, code, out)
	require.Regexp(t, `equal +shop_v\.notes: last verified at 20\S+, \d+ rows compared, 0 findings`, out)

	code, out = e.basic(t, "verify", "-c", file, "shop_v.none")
	require.Equal(t, exitSetup, code, out)
	require.Contains(t, out, "none of the 3 followed tables is to be verified")
	p.signal(t, syscall.SIGTERM)
	code, out = p.wait(t)
	require.Zero(t, code, out)
}

//go:build unix

package cli

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/stretchr/testify/require"
)

// TestTablesThatTheTargetLacksAreCreated from MariaDB's definitions on MySQL, one of
// them reshaped by a unit.
func TestTablesThatTheTargetLacksAreCreated(t *testing.T) {
	e := &env{dir: t.TempDir(), source: testenv.Start(t, testenv.MariaDB), target: testenv.Start(t, testenv.MySQL97)}
	from, to := e.source.Schema(t), "made"
	e.source.Exec(t, "CREATE TABLE "+from+".people (id int PRIMARY KEY, mail varchar(40), boss int, KEY (mail), CONSTRAINT bosses FOREIGN KEY (boss) REFERENCES people (id)) COLLATE utf8mb4_uca1400_ai_ci",
		"CREATE TABLE "+from+".orders (id int PRIMARY KEY, price decimal(9,2) NOT NULL, quantity int NOT NULL, note text)")
	_, sourcePort, _ := net.SplitHostPort(e.source.Addr())
	_, targetPort, _ := net.SplitHostPort(e.target.Addr())
	file := filepath.Join(e.dir, "dfs.yaml")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `
name: %[4]s
source: {port: %[1]s, user: root, tables: %[3]s.*}
target:
  port: %[2]s
  user: root
  create_tables: true
  routes: [{from: "%[3]s.*", to: "%[4]s.*"}]
units:
  - {from: %[3]s.orders, drop: [note], columns: [{name: total, type: "decimal(12,2)", expr: price * quantity}]}
`, sourcePort, targetPort, from, to), 0o600))
	code, out := e.basic(t, "check", "-c", file)
	require.Zero(t, code, out)
	require.Regexp(t, from+`.people → `+to+`.people .*is created at the first start`, out)
	p := e.start(t, "-c", file)
	db := e.target.DB(t)
	eventually(t, p, db, "SELECT COUNT(*) FROM dfs.dfs_checkpoint WHERE seq > 0 AND name='"+to+"'", "1")
	e.source.Exec(t, "INSERT INTO "+from+".people VALUES (1, 'a@b', NULL), (2, 'c@d', 1)", "INSERT INTO "+from+".orders VALUES (1, 1.50, 3, 'x')")
	eventually(t, p, db, "SELECT CONCAT(id, ' ', price, ' ', quantity, ' ', total) FROM "+to+".orders", "1 1.50 3 4.50")
	eventually(t, p, db, "SELECT COUNT(*) FROM "+to+".people WHERE boss = 1", "1")
	var name, text string
	require.NoError(t, db.QueryRow("SHOW CREATE TABLE "+to+".people").Scan(&name, &text))
	require.Contains(t, text, "KEY `mail` (`mail`)")
	require.Contains(t, text, "CONSTRAINT `bosses` FOREIGN KEY (`boss`) REFERENCES `people` (`id`)")
	require.Contains(t, text, "COLLATE=utf8mb4_0900_ai_ci")

	// Later starts create nothing.
	p.signal(t, syscall.SIGTERM)
	code, out = p.wait(t)
	require.Zero(t, code, out)
	require.Contains(t, out, "created tables on the target")
	e.target.Exec(t, "DROP TABLE "+to+".orders")
	code, out = e.basic(t, "run", "-c", file)
	require.Equal(t, exitSetup, code, out)
	require.Contains(t, out, "no table "+to+".orders")
}

// TestRowsThatAreThereAlreadyAreCopied once, into tables that are made for them, and
// not where others have rows.
func TestRowsThatAreThereAlreadyAreCopied(t *testing.T) {
	e := newEnv(t)
	e.source.Exec(t, "CREATE DATABASE shop", fmt.Sprintf(people, "shop"), "CREATE TABLE shop.orders (id int PRIMARY KEY, person int, KEY (person))",
		"INSERT INTO shop.people VALUES (1, 'Åsa', 1), (2, 'Bo', 2)", "INSERT INTO shop.orders VALUES (1, 2), (2, 1), (3, 1)")
	e.target.Exec(t, "GRANT CREATE, ALTER, INDEX, REFERENCES ON `shop%`.* TO dfs@'%'", "CREATE DATABASE shop", fmt.Sprintf(people, "shop"),
		"INSERT INTO shop.people VALUES (2, 'own', 0)")
	file := e.config(t, "shop", [2]string{"  start:", "  snapshot: only"}, [2]string{"target:", "target:\n  create_tables: true"})
	for _, command := range []string{"check", "run"} {
		code, out := e.basic(t, command, "-c", file)
		require.Equal(t, exitSetup, code, out)
		require.Contains(t, out, "shop.people has rows, and those of shop.people are to be copied into it")
		require.NotContains(t, out, "shop.orders has rows")
	}
	file = e.config(t, "shop", [2]string{"  start:", "  snapshot: only"}, [2]string{"target:", "target:\n  create_tables: true\n  existing: replace"})
	code, out := e.basic(t, "run", "-c", file)
	require.Zero(t, code, out)
	var name, text, got string
	db := e.target.DB(t)
	require.NoError(t, db.QueryRow("SELECT GROUP_CONCAT(id, ' ', name ORDER BY id) FROM shop.people").Scan(&got))
	require.Equal(t, "1 Åsa,2 Bo", got)
	require.NoError(t, db.QueryRow("SELECT COUNT(*) FROM shop.orders").Scan(&got))
	require.Equal(t, "3", got)
	require.NoError(t, db.QueryRow("SHOW CREATE TABLE shop.orders").Scan(&name, &text))
	require.Contains(t, text, "KEY `person` (`person`)")
}

package cli

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/internal/testseed"
)

// testStatements kills the program with SIGKILL again and again while it applies
// statements between rows, most of which would show if they came twice or not.
func (e *env) testStatements(t *testing.T) {
	const s = "shop_ddl"
	e.both(t, "CREATE DATABASE "+s, "CREATE TABLE "+s+".a (id int PRIMARY KEY, x int, y int)", "CREATE TABLE "+s+".b LIKE "+s+".a")
	file := e.config(t, s, [2]string{"", "  ddl: apply"})
	code, poor := e.basic(t, "check", "-c", file)
	require.Equal(t, exitSetup, code)
	require.Contains(t, poor, "cure: GRANT CREATE, ALTER, DROP, INDEX, CREATE VIEW, REFERENCES ON `shop_ddl`.* TO 'dfs'@'%'")
	require.NotContains(t, poor, "ok     statements")
	e.target.Exec(t, "GRANT CREATE, ALTER, DROP, INDEX, REFERENCES, CREATE VIEW, SHOW VIEW ON `shop%`.* TO dfs@'%'", "GRANT PROCESS ON *.* TO dfs@'%'")
	_, out := e.basic(t, "check", "-c", file)
	require.Contains(t, out, "run on the target, exactly once")

	stmts := []string{"USE " + s}
	add := func(list ...string) { stmts = append(stmts, list...) }
	const rounds = 24
	for i := range rounds {
		id := 10 * i
		add(fmt.Sprintf("INSERT INTO a (id, x, y) VALUES (%d, %d, %d)", id, i, -i), fmt.Sprintf("INSERT INTO b (id, x, y) VALUES (%d, 1, 2)", id))
		switch i % 8 {
		case 0:
			add("ALTER TABLE a ADD INDEX (x)")
		case 1:
			add("RENAME TABLE a TO t, b TO a, t TO b")
		case 2:
			add("CREATE TABLE _a_gho LIKE a", "ALTER TABLE _a_gho ADD COLUMN "+fmt.Sprintf("c%d int DEFAULT %d", i, i),
				"INSERT INTO _a_gho (id, x, y) SELECT id, x, y FROM a", "RENAME TABLE a TO _a_del, _a_gho TO a", "DROP TABLE _a_del")
		case 3:
			add("ALTER TABLE a CHANGE y x int AFTER id, CHANGE x y int AFTER x")
		case 4:
			add(fmt.Sprintf("CREATE TABLE c%d SELECT id, x FROM a", i), "TRUNCATE b")
		case 5:
			add(fmt.Sprintf("CREATE OR REPLACE DEFINER=dfs@'%%' VIEW v AS SELECT a.id, %d AS n FROM a", i))
		case 6:
			add("DELETE FROM a WHERE id % 3 = 0", "ALTER TABLE b ADD INDEX (y, x), COMMENT 'round "+fmt.Sprint(i)+"'")
		case 7:
			add("UPDATE a SET y = y + 1", fmt.Sprintf("DROP TABLE IF EXISTS c%d, c%d", i+100, i-3))
		}
	}
	e.source.Exec(t, stmts...)

	seed := testseed.New(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	kills := 0
	for deadline := time.Now().Add(5 * time.Minute); ; {
		require.Less(t, time.Now(), deadline, "seed %d, %d kills", seed, kills)
		p := e.start(t, "run", "-c", file)
		select {
		case <-p.done:
			t.Fatalf("seed %d, after %d kills the program stopped:\n%s", seed, kills, p.printed())
		case <-time.After(time.Duration(150+rng.IntN(250)+10*kills) * time.Millisecond): // a slow machine needs longer
		}
		require.NoError(t, p.cmd.Process.Kill())
		<-p.done
		kills++
		if e.describe(t, e.source, s) == e.describe(t, e.target, s) {
			t.Logf("seed %d: equal after %d kills", seed, kills)
			break
		}
	}
	require.Greater(t, kills, 2) // how many it takes is the machine's
}

// describe returns what the tables of a schema are and hold. A server may still be about a
// statement of a program that was killed: if a table goes meanwhile, it returns that.
func (e *env) describe(t *testing.T, srv *testenv.Server, s string) string {
	db := srv.DB(t)
	db.SetMaxOpenConns(1)
	var out strings.Builder
	var names []string
	rows, err := db.Query("SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA=? ORDER BY 1", s)
	require.NoError(t, err)
	for rows.Next() {
		var name string
		require.NoError(t, rows.Scan(&name))
		names = append(names, name)
	}
	require.NoError(t, rows.Err())
	for _, name := range names {
		rows, err := db.Query("SHOW CREATE TABLE " + s + "." + name)
		if gone := new(mysql.MySQLError); errors.As(err, &gone) && gone.Number == 1146 {
			return fmt.Sprintf("%s:%d: %v", srv.Addr(), len(names), err)
		}
		require.NoError(t, err)
		cols, err := rows.Columns()
		require.NoError(t, err)
		vals := make([]string, len(cols))
		ptrs := make([]any, len(cols))
		for i := range vals {
			ptrs[i] = &vals[i]
		}
		require.True(t, rows.Next())
		require.NoError(t, rows.Scan(ptrs...))
		require.NoError(t, rows.Close())
		var table, sum *string
		require.NoError(t, db.QueryRow("CHECKSUM TABLE "+s+"."+name).Scan(&table, &sum))
		fmt.Fprintln(&out, strings.Split(vals[1], "SQL SECURITY")[len(strings.Split(vals[1], "SQL SECURITY"))-1])
		if sum != nil {
			fmt.Fprintln(&out, *sum)
		}
	}
	return out.String()
}

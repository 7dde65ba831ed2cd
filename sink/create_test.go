package sink

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"
)

// define reads the definition of a table as package cdc does.
func define(t *testing.T, srv *testenv.Server, schema, name string, bytes uint64) Definition {
	conn, err := srv.DB(t).Conn(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.ExecContext(t.Context(), "SET sql_mode=''")
	require.NoError(t, err)
	d := Definition{Table: &dfs.Table{Schema: schema, Name: name}, MariaDB: srv.Kind() == testenv.MariaDB, Bytes: bytes}
	var table string
	require.NoError(t, conn.QueryRowContext(t.Context(), "SHOW CREATE TABLE `"+schema+"`.`"+name+"`").Scan(&table, &d.SQL))
	rs, err := conn.QueryContext(t.Context(), "SELECT COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE='YES', COALESCE(CHARACTER_SET_NAME,''), COALESCE(COLLATION_NAME,''), COLUMN_KEY='PRI' "+
		"FROM information_schema.COLUMNS WHERE TABLE_SCHEMA=? AND TABLE_NAME=? ORDER BY ORDINAL_POSITION", schema, name)
	require.NoError(t, err)
	defer rs.Close()
	for rs.Next() {
		var c dfs.Column
		var key bool
		require.NoError(t, rs.Scan(&c.Name, &c.Type, &c.Nullable, &c.Charset, &c.Collation, &key))
		if key {
			d.Table.Key = append(d.Table.Key, len(d.Table.Columns))
		}
		d.Table.Columns = append(d.Table.Columns, c)
	}
	require.NoError(t, rs.Err())
	return d
}

// shown returns what SHOW CREATE TABLE says, without the schemas' names.
func shown(t *testing.T, srv *testenv.Server, schema, name string) string {
	line := rows(t, srv, "SHOW CREATE TABLE `"+schema+"`.`"+name+"`")[0]
	return strings.ReplaceAll(line, "`"+schema+"`.", "")
}

// madeTables are statements that need a schema in the place of %[1]s. They refer to
// each other in a circle.
var madeTables = []string{
	"CREATE TABLE %[1]s.`a (b)` (id int NOT NULL AUTO_INCREMENT, `c``,(x` varchar(20) DEFAULT 'it''s, (\\\\', k int COMMENT 'FOREIGN KEY (`a`)', up int, " +
		"e enum('a','b,)','c''d') NOT NULL DEFAULT 'a', s set('x','y') DEFAULT NULL, d decimal(12,2) unsigned DEFAULT '1.00', " +
		"ts timestamp NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, " +
		"PRIMARY KEY (id), UNIQUE KEY u (`c``,(x`(10)), KEY plain (k, `c``,(x`), KEY up (up), KEY e (e)) ENGINE=InnoDB AUTO_INCREMENT=77 DEFAULT CHARSET=utf8mb4 COMMENT='one, (two)'",
	"CREATE TABLE %[1]s.parent (id int NOT NULL, code char(3) CHARACTER SET latin1 NOT NULL, a int DEFAULT NULL, PRIMARY KEY (id), KEY code (code, id), KEY more (code(2)), KEY a (a)," +
		" CONSTRAINT p_a FOREIGN KEY (a) REFERENCES %[1]s.`a (b)` (id) ON DELETE SET NULL) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4",
	"ALTER TABLE %[1]s.`a (b)` ADD CONSTRAINT `a_p` FOREIGN KEY (up) REFERENCES %[1]s.parent (id) ON DELETE CASCADE",
}

func TestTablesAreCreatedAsTheSourceHasThem(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			from, to := srv.Schema(t), srv.Schema(t)
			for _, q := range madeTables {
				srv.Exec(t, fmt.Sprintf(q, from))
			}
			srv.Exec(t, "DROP DATABASE "+to)
			defs := []Definition{define(t, srv, from, "a (b)", 1<<40), define(t, srv, from, "parent", 0)}
			m := openSink(t, srv, &MySQLOptions{Name: to, Routes: []Route{{from + ".*", to + ".*"}}})
			made, notes, err := m.CreateTables(t.Context(), defs, false)
			require.NoError(t, err)
			require.Empty(t, notes)
			require.Equal(t, []string{to + ".a (b)", to + ".parent"}, made)
			for _, name := range []string{"a (b)", "parent"} {
				require.Equal(t, shown(t, srv, from, name), shown(t, srv, to, name))
			}

			// What is there stays as it is.
			srv.Exec(t, "ALTER TABLE "+to+".parent ADD COLUMN own int", "INSERT INTO "+to+".parent (id, code) VALUES (1, 'x')")
			made, notes, err = m.CreateTables(t.Context(), defs, true)
			require.NoError(t, err)
			require.Empty(t, made)
			require.Empty(t, notes)
			require.Equal(t, []string{"1|x|NULL|NULL"}, rows(t, srv, "SELECT * FROM "+to+".parent"))
		})
	}
}

func TestPlainIndexesOfLargeTablesComeAfterTheCopy(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			from, to := srv.Schema(t), srv.Schema(t)
			for _, q := range madeTables {
				srv.Exec(t, fmt.Sprintf(q, from))
			}
			srv.Exec(t, fmt.Sprintf(legacy(kind, usersSQL), from), "ALTER TABLE "+from+".users ADD KEY n (n), ADD KEY both_ (n, name)")
			opts := &MySQLOptions{Name: to, Routes: []Route{{from + ".*", to + ".*"}}}
			m := openSink(t, srv, opts)
			made, notes, err := m.CreateTables(t.Context(), []Definition{
				define(t, srv, from, "a (b)", deferFrom), define(t, srv, from, "parent", deferFrom), define(t, srv, from, "users", deferFrom)}, true)
			require.NoError(t, err)
			require.Len(t, made, 3)
			require.Empty(t, notes)
			left := func() []string {
				return rows(t, srv, "SELECT DISTINCT INDEX_NAME FROM information_schema.STATISTICS WHERE NON_UNIQUE=1 AND TABLE_SCHEMA='"+to+"' ORDER BY BINARY INDEX_NAME")
			}
			require.Equal(t, []string{"a", "up"}, left(), "foreign keys need them")
			require.EqualValues(t, 6, m.Stats().IndexesLeft)

			u := users(from)
			require.NoError(t, m.Apply(t.Context(), copied(1, u, 0, 3000, 1000)))
			end := txn(4)
			end.Snapshot, end.Copied = true, true
			require.EqualValues(t, 3000, m.Stats().Loaded)
			require.NoError(t, m.Close())

			// The process dies after the transaction that ends the copy, so that the
			// next has to add them.
			m = openSink(t, srv, opts)
			m.adder.seen = true
			_, err = m.Checkpoint(t.Context())
			require.NoError(t, err)
			m.adder.left.Store(1)
			ctx, cancel := context.WithCancel(t.Context())
			require.NoError(t, m.Apply(ctx, []*dfs.Transaction{end}))
			cancel()
			m.stopAdding()
			require.NoError(t, m.Close())
			m = openSink(t, srv, opts)
			_, err = m.Checkpoint(t.Context())
			require.NoError(t, err)
			require.Eventually(t, func() bool { return m.Stats().IndexesLeft == 0 }, time.Minute, 10*time.Millisecond)
			for _, name := range []string{"a (b)", "parent", "users"} {
				require.ElementsMatch(t, strings.Split(strings.ReplaceAll(shown(t, srv, from, name), ",\n", "\n"), "\n"),
					strings.Split(strings.ReplaceAll(shown(t, srv, to, name), ",\n", "\n"), "\n"))
			}
			require.Equal(t, []string{"0"}, rows(t, srv, "SELECT COUNT(*) FROM dfs.dfs_index WHERE name='"+to+"'"))
			require.NoError(t, m.AddIndexes(t.Context()), "nothing is left")

			// Rows go on as before.
			require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(5, upd(u, user(1, "user 1", 1), user(1, "x", 2)))}))
		})
	}
}

func TestAddIndexesNeedsNoEndOfTheCopy(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	from, to := srv.Schema(t), srv.Schema(t)
	srv.Exec(t, fmt.Sprintf(usersSQL, from), "ALTER TABLE "+from+".users ADD KEY n (n)")
	m := openSink(t, srv, &MySQLOptions{Name: to, Routes: []Route{{from + ".*", to + ".*"}}})
	_, _, err := m.CreateTables(t.Context(), []Definition{define(t, srv, from, "users", deferFrom)}, true)
	require.NoError(t, err)
	require.NotContains(t, shown(t, srv, to, "users"), "KEY `n`")
	require.NoError(t, m.AddIndexes(t.Context()))
	require.Equal(t, shown(t, srv, from, "users"), shown(t, srv, to, "users"))
	require.Zero(t, m.Stats().IndexesLeft)
}

// What one family of servers prints, the other takes; what it does not, is told.
func TestTablesAreCreatedAcrossServers(t *testing.T) {
	for _, c := range []struct {
		from, to testenv.Kind
		tables   map[string]string // columns and so on, by name
		want     map[string]string // a part of what the target then shows
		notes    map[string]string
	}{
		{testenv.MySQL97, testenv.MariaDB, map[string]string{
			"coll": "(id int PRIMARY KEY, a varchar(20), b varchar(20) COLLATE utf8mb4_0900_as_cs, c varchar(30) DEFAULT 'utf8mb4_0900_bin', d varchar(9) COLLATE utf8mb4_0900_bin) COLLATE utf8mb4_0900_ai_ci",
			"expr": "(id int PRIMARY KEY, j json, u char(36) DEFAULT (uuid()), g int GENERATED ALWAYS AS (id + 1) VIRTUAL, i int INVISIBLE, KEY k (id, g))",
			"func": "(id int PRIMARY KEY, a varchar(20) NOT NULL, KEY f ((lower(a))))",
		}, map[string]string{
			"coll": "`b` varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_uca1400_nopad_as_cs", "func": "PRIMARY KEY (`id`)", "expr": "uuid()",
		}, map[string]string{"func": "has the columns and the primary key"}},
		{testenv.MariaDB, testenv.MySQL97, map[string]string{
			"coll": "(id int PRIMARY KEY, a varchar(20) COLLATE utf8mb4_uca1400_as_cs, b varchar(20) COLLATE utf8mb4_nopad_bin) COLLATE utf8mb4_uca1400_ai_ci",
			"uu":   "(id uuid PRIMARY KEY, ip inet6, j json, t datetime(3) DEFAULT current_timestamp(3) ON UPDATE current_timestamp(3))",
			"aria": "(id int PRIMARY KEY AUTO_INCREMENT) ENGINE=Aria AUTO_INCREMENT=50 TRANSACTIONAL=1",
		}, map[string]string{
			"coll": "`b` varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin", "uu": "`id` binary(16)", "aria": "ENGINE=InnoDB AUTO_INCREMENT=50",
		}, map[string]string{"uu": "has the columns and the primary key", "aria": "not of Aria", "coll": "UCA 14.0.0"}},
		{testenv.MySQL56, testenv.MySQL97, map[string]string{
			"old": "(id int(11) unsigned zerofill PRIMARY KEY, z timestamp NOT NULL DEFAULT '0000-00-00 00:00:00', y year(4), t varchar(9) CHARACTER SET utf8, KEY y (y)) ENGINE=MyISAM ROW_FORMAT=COMPACT DEFAULT CHARSET=latin1",
		}, map[string]string{"old": "KEY `y` (`y`)"}, map[string]string{"old": "not of MyISAM"}},
	} {
		t.Run(fmt.Sprintf("%s to %s", c.from, c.to), func(t *testing.T) {
			src, dst := testenv.Shared(t, c.from), testenv.Shared(t, c.to)
			from, to := src.Schema(t), dst.Schema(t)
			var defs []Definition
			for name, columns := range c.tables {
				src.Exec(t, "CREATE TABLE "+from+"."+name+" "+columns)
				defs = append(defs, define(t, src, from, name, 0))
			}
			m := openSink(t, dst, &MySQLOptions{Name: to, Routes: []Route{{from + ".*", to + ".*"}}})
			made, notes, err := m.CreateTables(t.Context(), defs, true)
			require.NoError(t, err)
			require.Len(t, made, len(defs))
			for name, part := range c.want {
				require.Contains(t, shown(t, dst, to, name), part)
			}
			for name := range c.tables {
				said := ""
				for _, n := range notes {
					if strings.HasPrefix(n, to+"."+name) {
						said += n + "\n"
					}
				}
				if c.notes[name] == "" {
					require.Empty(t, said)
				}
				require.Contains(t, said, c.notes[name])
			}
			for _, d := range defs {
				require.NoError(t, m.CheckTables(t.Context(), []*dfs.Table{d.Table}))
			}
		})
	}
}

func TestCreateTablesReturnsAllFaultsAndGoesOn(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s, other := srv.Schema(t), srv.Schema(t)
	srv.Exec(t, "CREATE USER sink_maker IDENTIFIED BY 's3cret'", "GRANT CREATE, SELECT, INSERT, UPDATE, DELETE ON "+s+".* TO sink_maker")
	t.Cleanup(func() { srv.Exec(t, "DROP USER sink_maker") })
	m, err := OpenMySQL(t.Context(), "sink_maker:s3cret@tcp("+srv.Addr()+")/", &MySQLOptions{Name: s, Schema: s})
	require.NoError(t, err)
	defer m.Close()
	tab := func(schema, name, typ string) Definition {
		return Definition{Table: &dfs.Table{Schema: schema, Name: name, Columns: []dfs.Column{{Name: "id", Type: typ}}, Key: []int{0}}}
	}
	made, _, err := m.CreateTables(t.Context(), []Definition{tab(other, "denied", "int"), tab(s, "bad", "nothing"), tab(s, "good", "bigint unsigned")}, true)
	require.Equal(t, []string{s + ".good"}, made)
	require.ErrorContains(t, err, "creating the target's table "+other+".denied")
	require.ErrorContains(t, err, "GRANT CREATE, ALTER, INDEX, REFERENCES ON `"+other+"`.*")
	require.ErrorContains(t, err, "creating the target's table "+s+".bad")
}

func TestCountersOfTheTargetFollowRowsWithIds(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			s := srv.Schema(t)
			srv.Exec(t, "CREATE TABLE "+s+".users (id int AUTO_INCREMENT PRIMARY KEY, name varchar(40), n int) CHARACTER SET utf8mb4")
			u := users(s)
			m := openSink(t, srv, &MySQLOptions{Name: s})
			require.NoError(t, m.Apply(t.Context(), copied(1, u, 1, 3001, 1000)))
			require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(4, ins(u, user(5000, "x", 1)))}))
			srv.Exec(t, "INSERT INTO "+s+".users (name) VALUES ('the next')")
			require.Equal(t, []string{"5001"}, rows(t, srv, "SELECT id FROM "+s+".users WHERE name='the next'"))
		})
	}
}

func TestAStatementFindsTheIndexesThatWaitForItsTables(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			from, to := srv.Schema(t), srv.Schema(t)
			srv.Exec(t, fmt.Sprintf(legacy(kind, usersSQL), from), "ALTER TABLE "+from+".users ADD KEY n (n), ADD KEY both_ (n, name)",
				"CREATE TABLE "+from+".other (id int PRIMARY KEY, n int, KEY n (n))")
			m := openSink(t, srv, &MySQLOptions{Name: to, DDL: PolicyApply, Routes: []Route{{"shop.*", to + ".*"}}})
			var defs []Definition
			for _, name := range []string{"users", "other"} {
				d := define(t, srv, from, name, deferFrom)
				d.Table.Schema = "shop"
				defs = append(defs, d)
			}
			_, _, err := m.CreateTables(t.Context(), defs, true)
			require.NoError(t, err)
			require.EqualValues(t, 3, m.Stats().IndexesLeft)

			// Neither has a place on the target before the indexes are there: one names
			// an index, and the other takes the name from the table.
			require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{ddlTxn(1, "ALTER TABLE users DROP KEY both_")}))
			require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{ddlTxn(2, "RENAME TABLE users TO people")}))
			require.Equal(t, []string{"n"}, rows(t, srv, "SELECT INDEX_NAME FROM information_schema.STATISTICS WHERE NON_UNIQUE=1 AND TABLE_SCHEMA='"+to+"'"))
			require.EqualValues(t, 1, m.Stats().IndexesLeft, "that of another table waits")
			require.Equal(t, []string{"other|0"}, rows(t, srv, "SELECT tbl_name, ready FROM dfs.dfs_index WHERE name='"+to+"'"))
		})
	}
}

func TestIndexesAreAddedThoughTheEndOfTheCopyHadNoReply(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	from, to := srv.Schema(t), srv.Schema(t)
	srv.Exec(t, fmt.Sprintf(usersSQL, from), "ALTER TABLE "+from+".users ADD KEY n (n)")
	var before, after atomic.Bool
	mysql.RegisterDialContext("cutcopy", func(ctx context.Context, addr string) (net.Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", addr)
		return &cutConn{Conn: conn, before: &before, after: &after}, err
	})
	m, err := OpenMySQL(t.Context(), "root@cutcopy("+srv.Addr()+")/", &MySQLOptions{Name: to, Routes: []Route{{from + ".*", to + ".*"}}})
	require.NoError(t, err)
	defer m.Close()
	_, _, err = m.CreateTables(t.Context(), []Definition{define(t, srv, from, "users", deferFrom)}, true)
	require.NoError(t, err)
	_, err = m.Checkpoint(t.Context())
	require.NoError(t, err)
	end := txn(1)
	end.Snapshot, end.Copied = true, true
	after.Store(true)
	require.ErrorIs(t, m.Apply(t.Context(), []*dfs.Transaction{end}), dfs.ErrTransient)
	at, err := m.Checkpoint(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, at.Seq, "it took effect, and does not come again")
	require.Eventually(t, func() bool { return m.Stats().IndexesLeft == 0 }, time.Minute, 10*time.Millisecond)
	require.Equal(t, shown(t, srv, from, "users"), shown(t, srv, to, "users"))
}

func TestTablesThatKeepNoRowsAreMadeToKeepThem(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	from, to := srv.Schema(t), srv.Schema(t)
	srv.Exec(t, fmt.Sprintf(usersSQL, from), "ALTER TABLE "+from+".users ENGINE=BLACKHOLE") // as on a relay
	m := openSink(t, srv, &MySQLOptions{Name: to, Routes: []Route{{from + ".*", to + ".*"}}})
	_, notes, err := m.CreateTables(t.Context(), []Definition{define(t, srv, from, "users", 0)}, false)
	require.NoError(t, err)
	require.Len(t, notes, 1)
	require.Contains(t, notes[0], "it is of InnoDB and not of BLACKHOLE")
	require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(1, ins(users(from), user(1, "a", 1)))}))
	require.Equal(t, []string{"1|a|1"}, rows(t, srv, "SELECT * FROM "+to+".users"))
}

func TestConstraintsOfOneNameInSeveralSchemasComeTogether(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			a, b, to := srv.Schema(t), srv.Schema(t), srv.Schema(t)
			var defs []Definition
			for name, s := range map[string]string{"of_a": a, "of_b": b} {
				srv.Exec(t, "CREATE TABLE "+s+"."+name+" (id int NOT NULL PRIMARY KEY, up int, u int, UNIQUE KEY u (u), KEY up (up), "+
					"CONSTRAINT same FOREIGN KEY (up) REFERENCES "+s+"."+name+" (id)) ENGINE=InnoDB")
				defs = append(defs, define(t, srv, s, name, 0))
			}
			m := openSink(t, srv, &MySQLOptions{Name: to, Routes: []Route{{a + ".*", to + ".*"}, {b + ".*", to + ".*"}}})
			made, notes, err := m.CreateTables(t.Context(), defs, false)
			require.NoError(t, err)
			require.Len(t, made, 2)
			require.Len(t, notes, 1)
			other := defs[1].Table.Name // the name is taken when its turn comes
			require.Contains(t, notes[0], other+": the server gives its constraints other names")
			require.Equal(t, []string{"PRIMARY", "u", "up"}, rows(t, srv, "SELECT INDEX_NAME FROM information_schema.STATISTICS WHERE TABLE_SCHEMA='"+to+"' AND TABLE_NAME='"+other+"' ORDER BY 1"))
			require.Equal(t, []string{"2"}, rows(t, srv, "SELECT COUNT(*) FROM information_schema.TABLE_CONSTRAINTS WHERE CONSTRAINT_TYPE='FOREIGN KEY' AND TABLE_SCHEMA='"+to+"'"))
		})
	}
}

// The server may still be at the CREATE TABLE of a process that was killed.
func TestATableThatIsMadeMeanwhileIsLeftAlone(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	schema := srv.Schema(t)
	m, err := OpenMySQL(t.Context(), srv.DSN(""), &MySQLOptions{Name: schema})
	require.NoError(t, err)
	defer m.Close()
	d := Definition{Table: users(schema), SQL: "CREATE TABLE `users` (\n  `id` int NOT NULL,\n  PRIMARY KEY (`id`)\n) ENGINE=InnoDB"}
	c := creation{m: m, there: make(map[string]bool)} // as if it had looked before
	require.NoError(t, c.create(t.Context(), &d, false))
	clear(c.there)
	require.NoError(t, c.create(t.Context(), &d, false))
	require.Len(t, c.made, 1)
}

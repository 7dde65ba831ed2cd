package sink_test

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"

	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/sink"
	"github.com/stretchr/testify/require"
)

func openIDs(t *testing.T, dsn, schema string) *sink.IDs {
	t.Helper()
	d, err := sink.OpenIDs(t.Context(), dsn, &sink.MySQLOptions{Schema: schema})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

// Pipelines and a program that lets the server number its rows never meet, on a
// table that takes rows of defaults and on those that do not.
func TestReservedIDsCollideWithNobody(t *testing.T) {
	for _, kind := range []testenv.Kind{testenv.MySQL97, testenv.MariaDB, testenv.MySQL56} {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			schema := srv.Schema(t)
			db := srv.DB(t)
			srv.Exec(t, "USE "+schema,
				"CREATE TABLE plain (id int unsigned AUTO_INCREMENT PRIMARY KEY, name varchar(20) NOT NULL, ref int NOT NULL)",
				"CREATE TABLE parted (id bigint AUTO_INCREMENT PRIMARY KEY, name varchar(20) NOT NULL) PARTITION BY HASH (id) PARTITIONS 3",
				"CREATE TABLE uniq (id bigint AUTO_INCREMENT PRIMARY KEY, name varchar(20) NOT NULL UNIQUE)",
				"INSERT INTO uniq (name) VALUES ('')", // so a second row of defaults fails
				"CREATE TABLE watched (id bigint AUTO_INCREMENT PRIMARY KEY, name varchar(20) NOT NULL)",
				"CREATE TABLE audit (n int)",
				"CREATE TRIGGER w BEFORE INSERT ON watched FOR EACH ROW INSERT INTO audit VALUES (1)")
			for _, table := range []string{"plain", "parted", "uniq", "watched"} {
				t.Run(table, func(t *testing.T) {
					var mu sync.Mutex
					owner := make(map[uint64]string)
					take := func(who string, first, n uint64) {
						mu.Lock()
						defer mu.Unlock()
						for id := first; id < first+n; id++ {
							if other := owner[id]; other != "" {
								t.Errorf("%s and %s both have %d", who, other, id)
							}
							owner[id] = who
						}
					}
					var wg sync.WaitGroup
					for p := range 2 {
						d := openIDs(t, srv.DSN(""), schema)
						wg.Go(func() {
							for i := range 10 {
								first, n, err := d.Reserve(t.Context(), schema+"."+table, "id", 0, uint64(1+i*7))
								if err != nil || n != uint64(1+i*7) {
									t.Errorf("reserved %d from %d: %v", n, first, err)
									return
								}
								take(fmt.Sprint("pipeline ", p), first, n)
							}
						})
					}
					wg.Go(func() {
						for i := range 40 {
							extra := ""
							if table == "plain" {
								extra = ", ref=1"
							}
							r, err := db.Exec(fmt.Sprintf("INSERT INTO %s.%s SET name='n%d'%s", schema, table, i, extra))
							if err != nil {
								t.Error(err)
								return
							}
							id, _ := r.LastInsertId()
							take("program", uint64(id), 1)
						}
					})
					wg.Wait()
					var n int
					require.NoError(t, db.QueryRow("SELECT COUNT(*) FROM "+schema+"."+table+" WHERE name LIKE 'n%'").Scan(&n))
					require.Equal(t, 40, n, "no row of a reservation stays")
				})
			}
		})
	}
}

func TestReservationsKnowTheColumn(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	schema := srv.Schema(t)
	srv.Exec(t, "USE "+schema,
		"CREATE TABLE small (id tinyint unsigned AUTO_INCREMENT PRIMARY KEY)",
		"CREATE TABLE free (id bigint PRIMARY KEY)", "INSERT INTO free VALUES (41)",
		"CREATE TABLE text (id varchar(20) PRIMARY KEY)")
	d := openIDs(t, srv.DSN(""), schema)
	reserve := func(table, column string, least, n uint64) (uint64, uint64, error) {
		return d.Reserve(t.Context(), schema+"."+table, column, least, n)
	}
	// A small column is used to its end, and then has no more.
	total, last := uint64(0), uint64(0)
	for {
		first, n, err := reserve("small", "id", 0, 50)
		require.NoError(t, err)
		if n == 0 {
			break
		}
		require.Greater(t, first, last)
		total, last = total+n, first+n-1
	}
	require.GreaterOrEqual(t, total, uint64(150))
	require.LessOrEqual(t, last, uint64(255))

	first, n, err := reserve("free", "id", 0, 10)
	require.NoError(t, err)
	require.Equal(t, []uint64{42, 10}, []uint64{first, n})
	first, _, err = reserve("free", "ID", 1000, 10)
	require.NoError(t, err)
	require.Equal(t, uint64(1000), first)
	first, n, err = reserve("free", "id", math.MaxInt64-3, 10)
	require.NoError(t, err)
	require.Equal(t, []uint64{math.MaxInt64 - 3, 4}, []uint64{first, n})

	first, n, err = reserve("later", "id", 0, 10)
	require.NoError(t, err)
	require.Equal(t, []uint64{1, 10}, []uint64{first, n})
	srv.Exec(t, "CREATE TABLE "+schema+".later (id int AUTO_INCREMENT PRIMARY KEY)")
	first, _, err = reserve("later", "id", 0, 10)
	require.NoError(t, err)
	require.GreaterOrEqual(t, first, uint64(11))

	_, _, err = reserve("small", "nr", 0, 1)
	require.ErrorContains(t, err, "has no column nr")
	_, _, err = reserve("text", "id", 0, 1)
	require.ErrorContains(t, err, "holds no numbers to reserve")
}

// An account without rights beyond those on rows reserves too.
func TestReservationsNeedNoSpecialRights(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	schema := srv.Schema(t)
	srv.Exec(t, "USE "+schema, "CREATE TABLE t (id bigint AUTO_INCREMENT PRIMARY KEY)",
		"CREATE USER ids_"+schema[:3]+"@'%' IDENTIFIED BY 'x'", "GRANT ALL ON "+schema+".* TO ids_"+schema[:3]+"@'%'")
	t.Cleanup(func() { srv.Exec(t, "DROP USER ids_"+schema[:3]+"@'%'") })
	d := openIDs(t, fmt.Sprintf("ids_%s:x@tcp(%s)/", schema[:3], srv.Addr()), schema)
	next := uint64(1)
	for range 3 {
		first, n, err := d.Reserve(t.Context(), schema+".t", "id", 0, 500)
		require.NoError(t, err)
		require.Equal(t, uint64(500), n)
		require.GreaterOrEqual(t, first, next)
		next = first + n
	}
	r, err := srv.DB(t).Exec("INSERT INTO " + schema + ".t () VALUES ()")
	require.NoError(t, err)
	id, err := r.LastInsertId()
	require.NoError(t, err)
	require.GreaterOrEqual(t, uint64(id), next)
}

// Settings of the server by which a statement takes its numbers one by one, or
// leaves out some, and tables of other kinds.
func TestReservationsDoNotGoBySettings(t *testing.T) {
	srv := testenv.Start(t, testenv.MySQL97, "--innodb-autoinc-lock-mode=0")
	schema := srv.Schema(t)
	db := srv.DB(t)
	srv.Exec(t, "USE "+schema, "CREATE TABLE t (id bigint AUTO_INCREMENT PRIMARY KEY)", "CREATE TABLE m (id bigint AUTO_INCREMENT PRIMARY KEY) ENGINE=MyISAM")
	next := uint64(1)
	for _, step := range []string{"1", "1", "7"} {
		srv.Exec(t, "SET GLOBAL auto_increment_increment="+step)
		d := openIDs(t, srv.DSN(""), schema)
		first, n, err := d.Reserve(t.Context(), schema+".t", "id", 0, 100)
		require.NoError(t, err)
		require.Equal(t, uint64(100), n)
		require.GreaterOrEqual(t, first, next)
		r, err := db.Exec("INSERT INTO " + schema + ".t () VALUES ()")
		require.NoError(t, err)
		id, err := r.LastInsertId()
		require.NoError(t, err)
		require.GreaterOrEqual(t, uint64(id), first+n, "a program got an id of the block")
		next = uint64(id) + 1
	}
	var rows int
	require.NoError(t, db.QueryRow("SELECT COUNT(*) FROM "+schema+".t").Scan(&rows))
	require.Equal(t, 3, rows, "no row of a reservation stays")

	_, _, err := openIDs(t, srv.DSN(""), schema).Reserve(t.Context(), schema+".m", "id", 0, 100)
	require.ErrorContains(t, err, "the table is of MyISAM, where a row that moves the counter could not be undone: ALTER TABLE")
	require.NoError(t, db.QueryRow("SELECT COUNT(*) FROM "+schema+".m").Scan(&rows))
	require.Zero(t, rows)
}

// A target that has forgotten what was reserved is told, and gives it to nobody.
func TestIDsThatWereForgottenAreNotGivenAgain(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	schema := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+schema+".t (id bigint AUTO_INCREMENT PRIMARY KEY, name varchar(20) NOT NULL)")
	d := openIDs(t, srv.DSN(""), schema)
	first, n, err := d.Reserve(t.Context(), schema+".t", "id", 1, 100)
	require.NoError(t, err)
	behind, err := d.Advance(t.Context(), schema+".t", "ID", first+n)
	require.NoError(t, err)
	require.False(t, behind)
	for _, forget := range []string{"DELETE FROM " + schema + ".dfs_ids", "UPDATE " + schema + ".dfs_ids SET next=3"} {
		srv.Exec(t, forget)
		behind, err = d.Advance(t.Context(), schema+".t", "id", 5000)
		require.NoError(t, err)
		require.True(t, behind)
		first, _, err = d.Reserve(t.Context(), schema+".t", "id", 1, 100)
		require.NoError(t, err)
		require.GreaterOrEqual(t, first, uint64(5000))
	}
	_, _, err = d.Reserve(t.Context(), schema+"."+strings.Repeat("x", 600), "id", 1, 1)
	require.ErrorContains(t, err, "the table of ids holds 600")
}

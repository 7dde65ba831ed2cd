package cdc_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
)

// Each error that a transaction of the log gives says where reading can go on.
func TestThereIsAWayPastWhatCannotBeRead(t *testing.T) {
	eachSetup(t, func(t *testing.T, _ setup, srv *testenv.Server) {
		srv.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.a (id int PRIMARY KEY)")
		src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{"shop.*"}})
		st, _ := begin(t, src)
		session(t, srv, "USE shop", "SET SESSION binlog_format='STATEMENT'", "BEGIN", "INSERT INTO a VALUES (1)", "INSERT INTO a VALUES (2)", "COMMIT")
		session(t, srv, "USE shop", "INSERT INTO a VALUES (3)")
		want := []string{"rows were changed by a statement"}
		session(t, srv, "USE shop", "SET SESSION binlog_format='STATEMENT'", "INSERT INTO a VALUES (4)")
		want = append(want, "rows were changed by a statement")
		for i, what := range want {
			var bad *cdc.EventError
			require.ErrorAs(t, ended(t, st), &bad)
			require.Contains(t, bad.What, what)
			require.NotEmpty(t, bad.After)
			require.Contains(t, bad.Error(), bad.After)
			src = open(t, srv.DSN(""), &cdc.Options{Tables: []string{"shop.*"}, Start: bad.After})
			st = stream(t, src, "")
			if i == 0 {
				require.Equal(t, "insert a 3", said(readN(t, src, st, 1)[0]))
			}
		}
		session(t, srv, "USE shop", "INSERT INTO a VALUES (5)")
		require.Equal(t, "insert a 5", said(readN(t, src, st, 1)[0]))
	})
}

// A place given by file on a server with GTIDs is found by reading the file from
// its beginning. What is before the place must not stop that, and what is prepared
// there may be committed later.
func TestStartByFileBehindWhatCannotBeRead(t *testing.T) {
	srv := testenv.Start(t, testenv.MySQL97)
	srv.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.a (id int PRIMARY KEY)")
	session(t, srv, "USE shop", "SET SESSION binlog_format='STATEMENT'", "INSERT INTO a VALUES (1)")
	session(t, srv, "USE shop", "XA START 'x'", "INSERT INTO a VALUES (2)", "XA END 'x'", "XA PREPARE 'x'", "XA COMMIT 'x'")
	session(t, srv, "USE shop", "XA START 'y'", "INSERT INTO a VALUES (3)", "XA END 'y'", "XA PREPARE 'y'")
	start := "file:" + logEnd(t, srv)
	session(t, srv, "USE shop", "INSERT INTO a VALUES (4)", "XA COMMIT 'y'")
	src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{"shop.*"}, Start: start})
	st := stream(t, src, "")
	require.Equal(t, []string{"insert a 4", "insert a 3"}, says(readN(t, src, st, 2)))
}

// logEnd returns where the log of a MySQL 9.7 ends, as file:position.
func logEnd(t *testing.T, srv *testenv.Server) string {
	t.Helper()
	var file, pos, rest string
	require.NoError(t, srv.DB(t).QueryRow("SHOW BINARY LOG STATUS").Scan(&file, &pos, &rest, &rest, &rest))
	return file + ":" + pos
}

// What a session logs as statements comes with neither rows nor a promise that a
// target does the same.
func TestStatementsThatATargetCannotRunAsTheSourceDid(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		srv := testenv.Shared(t, kind)
		s := srv.Schema(t)
		srv.Exec(t, "CREATE TABLE "+s+".a (id int PRIMARY KEY)", "INSERT INTO "+s+".a VALUES (1), (2)",
			"CREATE TABLE "+s+".x (id int PRIMARY KEY)", "CREATE TABLE "+s+".p (id int PRIMARY KEY) ENGINE=InnoDB",
			"CREATE TABLE "+s+".c (id int PRIMARY KEY, p int, FOREIGN KEY (p) REFERENCES "+s+".p (id)) ENGINE=InnoDB")
		o := &cdc.Options{Tables: []string{s + ".*"}}
		src := open(t, srv.DSN(""), o)
		st, _ := begin(t, src)
		var bad *cdc.EventError
		if kind != testenv.MySQL56 { // which forbids it where it has GTIDs
			session(t, srv, "USE "+s, "SET binlog_format=STATEMENT", "CREATE TABLE b SELECT * FROM a")
			require.ErrorAs(t, ended(t, st), &bad, kind)
			require.Contains(t, bad.What, "SELECT was logged as a statement")
		}

		st, _ = begin(t, open(t, srv.DSN(""), o))
		_, err := srv.DB(t).Exec("DROP TABLE " + s + ".x, " + s + ".p")
		require.Error(t, err)
		session(t, srv, "USE "+s, "INSERT INTO c VALUES (1, NULL)")
		if kind == testenv.MySQL56 {
			// The others log what they have dropped, or drop nothing.
			require.ErrorAs(t, ended(t, st), &bad)
			require.Contains(t, bad.What, "ended with error 1217")
			continue
		}
		for _, tx := range readN(t, src, st, map[testenv.Kind]int{testenv.MySQL97: 1, testenv.MariaDB: 2}[kind]) {
			require.NotContains(t, said(tx), "`p`")
		}
	}
}

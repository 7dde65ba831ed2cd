package cdc_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
)

// A sink that cannot store the first position makes the pipeline open its stream
// again and again. What is committed meanwhile must not be lost.
func TestStartDoesNotMoveUntilItIsStored(t *testing.T) {
	eachSetup(t, func(t *testing.T, s setup, srv *testenv.Server) {
		srv.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.a (id int PRIMARY KEY)")
		src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{"shop.*"}, Start: "now"})
		st := stream(t, src, "") // is never read
		srv.Exec(t, "INSERT INTO shop.a VALUES (1)", "FLUSH LOGS", "INSERT INTO shop.a VALUES (2)")
		require.NoError(t, st.Close())
		st, start := begin(t, src)
		require.NoError(t, st.Close())
		srv.Exec(t, "INSERT INTO shop.a VALUES (3)")
		again, same := begin(t, src)
		require.Equal(t, start, same)
		require.Equal(t, []string{"insert a 1", "insert a 2", "insert a 3"}, says(readN(t, src, again, 3)))
	})
}

func TestStartThatTheLogDoesNotHave(t *testing.T) {
	eachSetup(t, func(t *testing.T, s setup, srv *testenv.Server) {
		srv.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.a (id int PRIMARY KEY)", "FLUSH LOGS")
		_, last := logNames(t, srv)
		check := func(start string) string {
			t.Helper()
			src := open(t, srv.DSN(""), &cdc.Options{Start: start})
			// MariaDB tells what it has purged no earlier than when it is to send it.
			var text string
			for i, err := range []error{src.CheckStart(limit(t)), openError(t, src, "")} {
				if i == 0 && err == nil && s.kind == testenv.MariaDB {
					continue
				}
				var setup *cdc.SetupError
				require.ErrorAs(t, err, &setup, "%d", i)
				require.NotErrorIs(t, err, dfs.ErrTransient)
				require.NotContains(t, err.Error(), "read before")
				require.Len(t, setup.Faults, 1)
				require.NotEmpty(t, setup.Faults[0].Cure)
				text = setup.Faults[0].What
			}
			require.Contains(t, text, start)
			return text
		}
		require.Contains(t, check("file:binlog.000999:4"), "the files binlog.000001 to "+last)
		require.Contains(t, check("file:binlog.000001:99999999"), "binlog.000001 has ")
		const foreign = "gtid:3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5"
		var first string
		switch s.word {
		case "gtid":
			require.Contains(t, check(foreign), "the server has committed ")
			var set string
			require.NoError(t, srv.DB(t).QueryRow("SELECT CONCAT(@@server_uuid, ':1')").Scan(&set))
			first = "gtid:" + set
		case "mariadb":
			require.Contains(t, check("gtid:7-8-9"), "the last transactions of the server's log are 0-")
			require.Contains(t, check(foreign), "not a GTID of MariaDB")
			first = "gtid:0-1-1"
		default:
			require.Contains(t, check(foreign), "gtid_mode is not ON")
		}

		// What was purged.
		srv.Exec(t, "INSERT INTO shop.a VALUES (1)", "FLUSH LOGS")
		require.Eventually(t, func() bool {
			oldest, last := logNames(t, srv)
			srv.Exec(t, "PURGE BINARY LOGS TO '"+last+"'")
			return oldest == last
		}, time.Minute, 50*time.Millisecond)
		require.Contains(t, check("file:binlog.000001:4"), "the server has the files ")
		if s.word != "file" {
			require.Contains(t, check(first), "not in the source's log")
		}
		open(t, srv.DSN(""), &cdc.Options{Start: "file:binlog.000001:4"})
	})
}

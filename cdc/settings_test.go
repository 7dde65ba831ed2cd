package cdc_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
)

// rowsFrom reads the ids of the rows of shop.a that follow a position, up to last.
func rowsFrom(t *testing.T, src *cdc.Source, st dfs.Stream, last string) (ids []string, pos []dfs.Position) {
	t.Helper()
	for len(ids) == 0 || ids[len(ids)-1] != last {
		for _, tx := range read(t, st, func(tx *dfs.Transaction) bool { return tx.Encoded != nil }) {
			require.NoError(t, src.Decode(t.Context(), []*dfs.Transaction{tx}))
			for _, c := range tx.Changes {
				if c.Op == dfs.Insert {
					ids = append(ids, c.After[0].String())
				}
			}
			if !tx.More {
				pos = append(pos, tx.Pos)
			}
		}
	}
	return ids, pos
}

// Checksums may be switched on and off while the log is read, and what is read may
// have been written under the other setting.
func TestChecksumsThatAreSwitched(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Start(t, kind, "--binlog-checksum=CRC32")
			srv.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.a (id int PRIMARY KEY)")
			o := &cdc.Options{Tables: []string{"shop.*"}}
			with := open(t, srv.DSN(""), o)
			st, start := begin(t, with)
			srv.Exec(t, "INSERT INTO shop.a VALUES (1)", "SET GLOBAL binlog_checksum=NONE", "INSERT INTO shop.a VALUES (2)")
			without := open(t, srv.DSN(""), o)
			srv.Exec(t, "SET GLOBAL binlog_checksum=CRC32", "INSERT INTO shop.a VALUES (3)")
			ids, pos := rowsFrom(t, with, st, "3")
			require.Equal(t, []string{"1", "2", "3"}, ids)
			for _, src := range []*cdc.Source{with, without} {
				for i, p := range append([]dfs.Position{start}, pos[:2]...) {
					st := stream(t, src, p)
					again, _ := rowsFrom(t, src, st, "3")
					require.Equal(t, ids[i:], again)
					require.NoError(t, st.Close())
				}
			}
		})
	}
}

// GTIDs may be switched on while the log is read by file, and reading then goes on
// by GTID; transactions without one in the way are named.
func TestGTIDsThatAreSwitchedOn(t *testing.T) {
	srv := testenv.Start(t, testenv.MySQL97, "--gtid-mode=OFF", "--enforce-gtid-consistency=ON")
	srv.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.a (id int PRIMARY KEY)")
	src := open(t, srv.DSN(""), nil)
	st, _ := begin(t, src)
	srv.Exec(t, "INSERT INTO shop.a VALUES (1)", "SET GLOBAL gtid_mode=OFF_PERMISSIVE", "INSERT INTO shop.a VALUES (2)")
	session(t, srv, "SET gtid_next='aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa:5'", "INSERT INTO shop.a VALUES (3)")
	srv.Exec(t, "SET GLOBAL gtid_mode=ON_PERMISSIVE", "INSERT INTO shop.a VALUES (4)")
	session(t, srv, "SET gtid_next='ANONYMOUS'", "INSERT INTO shop.a VALUES (5)")
	// What has no GTID cannot be read any more once they are on.
	ids, pos := rowsFrom(t, src, st, "5")
	srv.Exec(t, "SET GLOBAL gtid_mode=ON", "INSERT INTO shop.a VALUES (6)", "INSERT INTO shop.a VALUES (7)")
	moreIDs, morePos := rowsFrom(t, src, st, "7")
	ids, pos = append(ids, moreIDs...), append(pos, morePos...)
	require.Equal(t, []string{"1", "2", "3", "4", "5", "6", "7"}, ids)
	for _, p := range pos {
		require.True(t, strings.HasPrefix(string(p), "file "), p)
	}
	src = open(t, srv.DSN(""), nil)
	again, byGTID := rowsFrom(t, src, stream(t, src, pos[5]), "7")
	require.Equal(t, []string{"7"}, again)
	require.True(t, strings.HasPrefix(string(byGTID[len(byGTID)-1]), "gtid "), byGTID)
	err := ended(t, stream(t, src, pos[0]))
	require.NotErrorIs(t, err, dfs.ErrTransient)
	require.ErrorContains(t, err, "SET GLOBAL gtid_mode = ON_PERMISSIVE")
	srv.Exec(t, "SET GLOBAL gtid_mode = ON_PERMISSIVE")
	src = open(t, srv.DSN(""), nil)
	again, _ = rowsFrom(t, src, stream(t, src, pos[0]), "7")
	require.Equal(t, ids[1:], again)
}

// What sessions may set for themselves does not matter to what is read.
func TestSessionSettings(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			args := []string{"--secure-file-priv=", "--binlog-order-commits=OFF"}
			if kind == testenv.MariaDB {
				args[1] = "--gtid-ignore-duplicates=ON"
			}
			srv := testenv.Start(t, kind, args...)
			srv.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.a (id int PRIMARY KEY)")
			file := filepath.Join(srv.Dir(), "rows.txt")
			require.NoError(t, os.WriteFile(file, []byte("10\n11\n"), 0o644))
			src := open(t, srv.DSN(""), nil)
			st, start := begin(t, src)
			stmts := []string{"USE shop",
				"SET SESSION sql_log_bin=0", "INSERT INTO a VALUES (1)", "SET SESSION sql_log_bin=1", "INSERT INTO a VALUES (2)",
				fmt.Sprintf("LOAD DATA INFILE '%s' INTO TABLE a", file),
				"SET SESSION foreign_key_checks=0, unique_checks=0", "INSERT INTO a VALUES (3)",
				"CREATE TEMPORARY TABLE x (id int)", "INSERT INTO x VALUES (4)", "INSERT INTO a SELECT * FROM x", "DROP TEMPORARY TABLE x"}
			want := []string{"2", "10", "11", "3", "4"}
			switch kind {
			case testenv.MySQL97:
				stmts = append(stmts, "SET SESSION binlog_rows_query_log_events=ON", "INSERT INTO a VALUES (5)",
					"SET SESSION binlog_transaction_compression=ON", "INSERT INTO a VALUES (6)")
				want = append(want, "5", "6")
			case testenv.MySQL56:
				stmts = append(stmts, "SET SESSION binlog_rows_query_log_events=ON", "INSERT INTO a VALUES (5)")
				want = append(want, "5")
			case testenv.MariaDB:
				stmts = append(stmts, "SET SESSION gtid_domain_id=7, server_id=99, gtid_seq_no=1000", "INSERT INTO a VALUES (5)",
					"SET SESSION skip_replication=1", "INSERT INTO a VALUES (6)")
				want = append(want, "5", "6")
			}
			session(t, srv, append(stmts, "INSERT INTO a VALUES (99)")...)
			want = append(want, "99")
			ids, pos := rowsFrom(t, src, st, "99")
			require.Equal(t, want, ids)
			st.Close()
			again, _ := rowsFrom(t, src, stream(t, src, start), "99")
			require.Equal(t, want, again)
			again, _ = rowsFrom(t, src, stream(t, src, pos[0]), "99")
			require.Equal(t, want[1:], again)
		})
	}
}

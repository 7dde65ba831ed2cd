package cdc_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
)

// A server sends a transaction as soon as it is in the log. Where it waits for a
// replica before it commits, what was read is not in gtid_executed yet, and
// nothing has diverged.
func TestTransactionIsReadBeforeItIsCommitted(t *testing.T) {
	srv := testenv.Start(t, testenv.MySQL97)
	srv.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.a (id int PRIMARY KEY)",
		"INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'",
		"SET GLOBAL rpl_semi_sync_source_timeout = 600000")
	src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{"shop.*"}})
	st, _ := begin(t, src)
	// No replica will say that it has them.
	srv.Exec(t, "SET GLOBAL rpl_semi_sync_source_enabled = ON")
	next := []string{"AUTOMATIC", "AUTOMATIC", "AUTOMATIC:mine",
		"aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa:7", "1aaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa:foo:9"}
	committed := make(chan error, len(next))
	for i, gtid := range next {
		conn, err := srv.DB(t).Conn(t.Context())
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		_, err = conn.ExecContext(t.Context(), "SET gtid_next = '"+gtid+"'")
		require.NoError(t, err)
		go func() {
			_, err := conn.ExecContext(t.Context(), fmt.Sprintf("INSERT INTO shop.a VALUES (%d)", i))
			committed <- err
		}()
	}
	var pos dfs.Position
	for _, tx := range readN(t, src, st, len(next)) {
		pos = tx.Pos
	}
	var owned string
	require.NoError(t, srv.DB(t).QueryRow("SELECT @@global.gtid_owned").Scan(&owned))
	require.NotEmpty(t, owned, "the transactions have been committed too early to be of use here")

	st = stream(t, src, pos)
	srv.Exec(t, "SET GLOBAL rpl_semi_sync_source_enabled = OFF")
	for range next {
		require.NoError(t, <-committed)
	}
	srv.Exec(t, "INSERT INTO shop.a VALUES (100)")
	require.Equal(t, "insert a 100", said(readN(t, src, st, 1)[0]))
}

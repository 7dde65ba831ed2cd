package verify

import (
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs/internal/testenv"
)

// A flag is set at each look, as soon as the source was read, and the pipeline is
// always quick to bring it. Only a lock keeps a verification from taking that for a
// difference.
func TestWithoutTheLockARowThatMovesOnIsAFalseAlarm(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	schema := srv.Schema(t)
	db, err := sql.Open("mysql", srv.DSN("")+"?multiStatements=true")
	require.NoError(t, err)
	defer db.Close()
	exec := func(text string) error {
		_, err := db.ExecContext(t.Context(), fmt.Sprintf(text, schema))
		return err
	}
	for _, s := range []string{"CREATE TABLE %s.flags (id int PRIMARY KEY, flag int)", "INSERT INTO %s.flags VALUES (1, 0)"} {
		require.NoError(t, exec(s))
	}
	// The target is on the same server, and does not log, so that the source's log
	// has nothing of it.
	target, err := sql.Open("mysql", srv.DSN("")+"?sql_log_bin=0&multiStatements=true")
	require.NoError(t, err)
	defer target.Close()
	_, err = target.ExecContext(t.Context(), fmt.Sprintf(`CREATE DATABASE %[1]s_to; CREATE TABLE %[1]s_to.flags (id int PRIMARY KEY, flag int);
		INSERT INTO %[1]s_to.flags VALUES (1, 7); CREATE TABLE %[1]s_to.dfs_checkpoint (name varchar(64) PRIMARY KEY, pos mediumtext)`, schema))
	require.NoError(t, err)
	defer target.ExecContext(t.Context(), "DROP DATABASE "+schema+"_to")
	bring := func() {
		var gtids, uuid string
		var flag int
		require.NoError(t, db.QueryRow("SELECT REPLACE(@@global.gtid_executed, '\n', ''), @@global.server_uuid").Scan(&gtids, &uuid))
		require.NoError(t, db.QueryRow("SELECT flag FROM "+schema+".flags").Scan(&flag))
		_, err := target.ExecContext(t.Context(), fmt.Sprintf("BEGIN; UPDATE %[1]s_to.flags SET flag=%[2]d; REPLACE INTO %[1]s_to.dfs_checkpoint VALUES ('dfs', 'gtid %[3]s %[4]s b.1:4'); COMMIT",
			schema, flag, uuid, gtids))
		require.NoError(t, err)
	}
	for broken, want := range map[string]Verdict{"": Equal, "lock": Different} {
		bring()
		_, err := target.ExecContext(t.Context(), "UPDATE "+schema+"_to.flags SET flag=-1") // as if the pipeline had not come so far
		require.NoError(t, err)
		v := &Verifier{Source: srv.DSN(""), Target: srv.DSN(""), Schema: schema + "_to", Tables: []string{schema + ".*"},
			Routes: []Route{{schema + ".*", schema + "_to.*"}}, LockTime: time.Minute, broken: broken}
		locked := 0
		v.between = func(what string) {
			err := exec("SET innodb_lock_wait_timeout=1; UPDATE %s.flags SET flag=flag+1")
			if what == "locked" {
				locked++
				require.Equal(t, broken == "", err != nil, "%s: %v", broken, err)
			}
			bring()
		}
		r, err := v.Run(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, r.Verdict(), "%q:\n%s", broken, r)
		require.NotZero(t, locked)
	}
}

//go:build unix

package cli

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"
)

// testCheck looks at what "check" says of tables and settings in order, and of
// several faults at once.
func (e *env) testCheck(t *testing.T) {
	e.both(t, "CREATE DATABASE shop_k", fmt.Sprintf(people, "shop_k"), "CREATE TABLE shop_k.log (line TEXT)")
	file := e.config(t, "shop_k")
	code, out := e.basic(t, "check", "-c", file)
	require.Zero(t, code, out)
	require.Contains(t, out, "source  "+e.source.Addr()+" as user dfs, MySQL 9.7.")
	require.Regexp(t, `(?m)^  ok     binlog_row_image +FULL: each row is logged with all its columns$`, out)
	require.Regexp(t, `(?m)^  ok     account +may read the log and the tables$`, out)
	require.Regexp(t, `(?m)^  note   sync_binlog +0: `, out, "the test's servers do not flush")
	require.Regexp(t, `(?m)^  ok     checkpoint +nothing applied yet; begins at source.start$`, out)
	require.Contains(t, out, "tables  2 tables followed, and where they go\n")
	require.Regexp(t, `(?m)^  note   shop_k.log → shop_k.log +1 columns, no primary key`, out)
	require.Regexp(t, `\nready, with \d+ notes\n$`, out)

	e.target.Exec(t, "ALTER TABLE shop_k.people DROP COLUMN n", "DROP TABLE shop_k.log")
	file = e.config(t, "shop_k", [2]string{"tables:", `  tables: ["shop_k.*", "shop_k.nothing"]`}, [2]string{"path:", "  path: nowhere/x.queue"})
	code, out = e.basic(t, "check", "-c", file)
	require.Equal(t, exitSetup, code, out)
	require.Contains(t, out, "  FAULT  ")
	require.Contains(t, out, "shop_k.nothing")
	require.Regexp(t, `(?m)^  FAULT  shop_k\.people → .*\bn\b`, out, "tables are looked at all the same")
	require.Regexp(t, `(?m)^  FAULT  shop_k\.log → `, out)
	require.Contains(t, out, "cure: make the folder")
	require.Contains(t, e.plain(out), "(DIR/shop_k.yaml:10)")
}

// testFaults makes each mistake that a person is likely to make. Each gets one
// message that names the thing and the cure, and its exit code; check says the
// same.
func (e *env) testFaults(t *testing.T) {
	e.both(t, "CREATE DATABASE shop_f", fmt.Sprintf(people, "shop_f"))
	e.source.Exec(t, "CREATE USER poor@'%' IDENTIFIED BY '"+sourcePassword+"'", "GRANT SELECT ON shop_f.* TO poor@'%'")
	_, port, _ := strings.Cut(e.source.Addr(), ":")
	_, targetPort, _ := strings.Cut(e.target.Addr(), ":")
	for _, test := range []struct {
		name         string
		edits        [][2]string
		before, then []string // on the source
		there, back  []string // on the target
		want         []string
	}{
		{name: "the source's password is wrong",
			edits: [][2]string{{"SOURCE_PASSWORD", "  password: ${WRONG_PASSWORD}"}},
			want:  []string{"the source (SOURCE as user dfs) cannot be used", "Error 1045", "check the user and the password"}},
		{name: "the target's password is wrong",
			edits: [][2]string{{"TARGET_PASSWORD", "  password: ${WRONG_PASSWORD}"}},
			want:  []string{"the target (TARGET as user dfs) cannot be used", "Error 1045", "check the user and the password"}},
		{name: "nobody listens at the target's port",
			edits: [][2]string{{"port: " + targetPort, "  port: 1"}},
			want:  []string{"the target (127.0.0.1:1 as user dfs) cannot be used", "connection refused", "check that the server runs"}},
		{name: "the target's account lacks a grant",
			edits: [][2]string{{"password: ${TARGET_PASSWORD}", "  password: ${TARGET_PASSWORD}\n  checkpoint_schema: elsewhere"}},
			want:  []string{"the target (TARGET as user dfs) cannot be used", "checkpoint table", "CREATE DATABASE IF NOT EXISTS `elsewhere`", "GRANT SELECT, INSERT, UPDATE"}},
		{name: "nobody listens at the source's port",
			edits: [][2]string{{"port: " + port, "  port: 1"}},
			want:  []string{"the source (127.0.0.1:1 as user dfs) cannot be used", "connection refused", "check that the server runs and that its address is right"}},
		{name: "the source's account lacks a grant",
			edits: [][2]string{{"user: dfs", "  user: poor"}},
			want:  []string{"the source (SOURCE as user poor) cannot be used", "REPLICATION SLAVE", "GRANT REPLICATION SLAVE"}},
		{name: "the source logs statements",
			before: []string{"SET GLOBAL binlog_format = STATEMENT"}, then: []string{"SET GLOBAL binlog_format = ROW"},
			want: []string{"binlog_format is STATEMENT", "SET GLOBAL binlog_format = ROW"}},
		{name: "a pattern matches no table",
			edits: [][2]string{{"tables:", "  tables: [shop_f.poeple]"}},
			want:  []string{"shop_f.poeple", "shop_f.people"}},
		{name: "the target lacks the table",
			there: []string{"RENAME TABLE shop_f.people TO shop_f.gone"}, back: []string{"RENAME TABLE shop_f.gone TO shop_f.people"},
			want: []string{"the target (TARGET as user dfs) cannot be used", "shop_f.people"}},
		{name: "the target's table lacks a column",
			there: []string{"ALTER TABLE shop_f.people RENAME COLUMN n TO m"}, back: []string{"ALTER TABLE shop_f.people RENAME COLUMN m TO n"},
			want: []string{"the target (TARGET as user dfs) cannot be used", "shop_f.people", "column"}},
		{name: "the queue's folder does not exist",
			edits: [][2]string{{"path:", "  path: nowhere/shop.queue"}},
			want:  []string{"the queue cannot be used", "DIR/nowhere/shop.queue", "folder"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := e.config(t, "shop_f", test.edits...)
			e.source.Exec(t, test.before...)
			e.target.Exec(t, test.there...)
			defer func() {
				e.source.Exec(t, test.then...)
				e.target.Exec(t, test.back...)
			}()
			code, out := e.basic(t, "run", "-c", file)
			require.Equal(t, exitSetup, code, out)
			require.Equal(t, 1, strings.Count(out, " cannot be used"), out)
			for _, want := range test.want {
				require.Contains(t, e.plain(out), want)
			}
			t.Log(e.plain(out))
			code, out = e.basic(t, "check", "-c", file)
			require.Equal(t, exitSetup, code, out)
			require.Contains(t, out, "\nnot ready: ", out)
			require.Contains(t, out, "FAULT", out)
		})
	}

	t.Run("nothing was lost", func(t *testing.T) {
		e.target.Exec(t, "DELETE FROM shop_f.people")
		file := e.config(t, "shop_f")
		e.source.Exec(t, "INSERT INTO shop_f.people VALUES (1, 'Åsa', 1)")
		p := e.start(t, "-c", file)
		eventually(t, p, e.target.DB(t), "SELECT COUNT(*) FROM shop_f.people", "1")
		p.signal(t, syscall.SIGTERM)
		code, out := p.wait(t)
		require.Zero(t, code, out)
	})
}

// testPurged lets the source forget what the pipeline has not read.
func (e *env) testPurged(t *testing.T) {
	e.both(t, "CREATE DATABASE shop_p", fmt.Sprintf(people, "shop_p"))
	file := e.config(t, "shop_p")
	p := e.start(t, "-c", file)
	e.source.Exec(t, "INSERT INTO shop_p.people VALUES (1, 'Åsa', 1)")
	eventually(t, p, e.target.DB(t), "SELECT COUNT(*) FROM shop_p.people", "1")
	p.signal(t, syscall.SIGTERM)
	code, out := p.wait(t)
	require.Zero(t, code, out)
	code, out = e.basic(t, "check", "-c", file)
	require.Zero(t, code, out)
	require.Regexp(t, `(?m)^  ok     position +the log has all that follows transaction \d$`, out)

	e.source.Exec(t, "INSERT INTO shop_p.people VALUES (2, 'Bo', 1)")
	waitFor(t, func() bool { // a file stays while the server still sends it to somebody
		e.source.Exec(t, "FLUSH BINARY LOGS", "PURGE BINARY LOGS BEFORE NOW() + INTERVAL 1 DAY")
		code, out = e.basic(t, "check", "-c", file)
		return code == exitSetup
	})
	require.Regexp(t, `(?m)^  FAULT  cdc: the source has purged the binary log that is needed: transactions [-0-9a-f]+:\d+ are missing, .*error 1236: make a new copy`, out)
	code, out = e.basic(t, "run", "-c", file)
	require.Equal(t, exitRun, code, out)
	require.Regexp(t, `(?m)^basic: stopped: source, .*purged .* are missing, .*error 1236: make a new copy of the data`, out)
}

// testEmbed runs examples/embed.
func (e *env) testEmbed(t *testing.T) {
	e.both(t, "CREATE DATABASE shop_e", fmt.Sprintf(people, "shop_e"))
	// Its pipeline has the default name, which no other test uses.
	dsn := func(addr, password string) string {
		cfg := mysql.NewConfig()
		cfg.User, cfg.Passwd, cfg.Net, cfg.Addr = "dfs", password, "tcp", addr
		return cfg.FormatDSN()
	}
	p := &program{done: make(chan struct{})}
	p.cmd = exec.Command(filepath.Join(filepath.Dir(binary), "embed"), dsn(e.source.Addr(), sourcePassword), "shop_e.*",
		filepath.Join(e.dir, "embed.queue"), dsn(e.target.Addr(), targetPassword))
	e.begin(t, p)
	// It starts now, so wait until it has fixed where that is.
	eventually(t, p, e.target.DB(t), "SELECT COUNT(*) FROM dfs.dfs_checkpoint WHERE name = 'dfs' AND seq > 0", "1")
	e.source.Exec(t, "INSERT INTO shop_e.people VALUES (1, 'Åsa', 1), (2, 'Bo', 1)")
	eventually(t, p, e.target.DB(t), "SELECT COUNT(*) FROM shop_e.people", "2")
	p.signal(t, syscall.SIGTERM)
	code, out := p.wait(t)
	require.Zero(t, code, out)
	require.Regexp(t, `applied [2-9] transactions, 2 rows\n$`, out)

	page, err := os.ReadFile("../examples/embed/main.go")
	require.NoError(t, err)
	require.Less(t, strings.Count(string(page), "\n"), 60)
}

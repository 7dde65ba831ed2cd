//go:build unix

package cli

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs/internal/same"
)

// An archive in a folder and a bucket is one of several targets, beside MySQL, SQLite and
// a stream: all get the copy of the rows and what follows across a kill -9. What is
// restored from it equals the source, and its later copies leave the other targets as
// they are.
func TestAnArchiveAmongSeveralTargets(t *testing.T) {
	backend := s3mem.New()
	server := httptest.NewServer(gofakes3.New(backend, gofakes3.WithLogger(gofakes3.DiscardLog())).Server())
	defer server.Close()
	require.NoError(t, backend.CreateBucket("backups"))
	const secret = "an-S3-secret-that-is-not-shown"

	e := newEnv(t)
	e.source.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.t (id int PRIMARY KEY, s varchar(20))", "INSERT INTO shop.t VALUES (1, 'a'), (2, 'b')")
	_, sourcePort, err := net.SplitHostPort(e.source.Addr())
	require.NoError(t, err)
	_, targetPort, err := net.SplitHostPort(e.target.Addr())
	require.NoError(t, err)
	file := filepath.Join(e.dir, "dfs.yaml")
	text := fmt.Sprintf(`name: shop
source: {port: %s, user: dfs, password: "${SOURCE_PASSWORD}", tables: shop.*, snapshot: true}
queue: {path: shop.queue}
dead_letters: {path: letters}
journal: {path: shop.journal}
targets:
  - {name: copy, port: %s, user: root, create_tables: true, ddl: apply}
  - {name: backup, archive: {dir: backup, store: "s3://backups/shop?region=us-east-1&endpoint=%s", access_key: AKIAEXAMPLE, secret_key: %s, segment_bytes: 2KB}}
  - {name: lite, file: lite.db, create_tables: true, ddl: apply}
  - {name: events, stream: {to: events.ndjson}}
`, sourcePort, targetPort, server.URL, secret)
	write := func(text string) { require.NoError(t, os.WriteFile(file, []byte(text), 0o600)) }
	write(text)
	code, out := e.basic(t, "check", "-c", file)
	require.Zero(t, code, out)
	require.Regexp(t, `(?m)^target backup  archive .*\n(?s:.*)^tables backup  1 table `, out)
	code, out = e.basic(t, "status", "-c", file)
	require.Zero(t, code, out)
	require.Contains(t, out, "backup · archive · not started")

	dst := e.target.DB(t)
	p := e.start(t, "run", "-c", file)
	next := 3
	rows := func(n int) {
		for range n {
			e.source.Exec(t, fmt.Sprintf("INSERT INTO shop.t (id, s) VALUES (%d, 'row')", next), fmt.Sprintf("UPDATE shop.t SET s = 'ä%d' WHERE id = %d", next, next/2))
			next++
		}
	}
	whole := func(count int) { // rows come until a later segment says that the copy is whole
		t.Helper()
		waitFor(t, func() bool {
			select {
			case <-p.done:
				t.Fatalf("the program has ended:\n%s", p.printed())
			default:
			}
			_, out := e.basic(t, "archive", "list", "-c", file)
			return strings.Count(out, "restores to") >= count
		})
	}
	whole(1)
	rows(20)
	require.NoError(t, p.cmd.Process.Kill())
	<-p.done
	rows(20)
	e.source.Exec(t, "ALTER TABLE shop.t ADD COLUMN n int NOT NULL DEFAULT 5", "UPDATE shop.t SET n = id WHERE id > 3",
		"CREATE TABLE shop.u (id int PRIMARY KEY, d datetime DEFAULT NULL)", "INSERT INTO shop.u VALUES (1, '2026-01-02 03:04:05')")
	p = e.start(t, "run", "-c", file)
	rows(20)
	e.source.Exec(t, "DELETE FROM shop.t WHERE id % 5 = 0", "INSERT INTO shop.u VALUES (2, NULL)")
	eventually(t, p, dst, "SELECT COUNT(*) FROM shop.u", "2")
	var states []state
	waitFor(t, func() bool { // each stands where the source does
		code, out = e.basic(t, "status", "-c", file, "-json")
		require.Zero(t, code, out)
		states = nil
		require.NoError(t, json.Unmarshal([]byte(out), &states))
		at := states[0].Target.Seq
		for _, s := range states {
			if at < 60 || s.Waiting > 0 || s.Target.Seq != at || s.Uncaptured == nil || *s.Uncaptured != (distance{}) {
				return false
			}
		}
		return true
	})
	require.Equal(t, "archive", states[1].Target.Product)
	require.NotNil(t, states[1].Target.Updated)
	require.NotEmpty(t, states[1].Target.ID)
	require.Equal(t, states[0].Target.ID, states[1].Target.ID)
	p.signal(t, syscall.SIGTERM)
	code, out = p.wait(t)
	require.Zero(t, code, out)
	code, out = e.basic(t, "archive", "verify", "-c", file, "-target", "backup")
	require.Zero(t, code, out)
	require.Contains(t, out, ", 0 faults")
	code, out = e.basic(t, "archive", "list", "-c", file, "-target", "copy")
	require.Equal(t, exitUsage, code, out)
	require.Contains(t, out, "has no archive")
	code, out = e.basic(t, "verify", "-c", file, "-target", "backup")
	require.Equal(t, exitSetup, code, out)
	require.Contains(t, out, "is an archive")

	// The other targets, and a restore into SQLite.
	equal := func(databases ...string) {
		t.Helper()
		r, err := same.Compare(t.Context(), e.source.DB(t), dst, same.Options{Schemas: []string{"shop"}})
		require.NoError(t, err)
		require.Empty(t, r.Differences)
		const all = "SELECT (SELECT GROUP_CONCAT(%s) FROM (SELECT * FROM %st ORDER BY id) x), (SELECT GROUP_CONCAT(%s) FROM (SELECT * FROM %su ORDER BY id) x)"
		source, err := e.source.DB(t).Conn(t.Context())
		require.NoError(t, err)
		defer source.Close()
		_, err = source.ExecContext(t.Context(), "SET group_concat_max_len = 1000000")
		require.NoError(t, err)
		var a, b string
		require.NoError(t, source.QueryRowContext(t.Context(), fmt.Sprintf(all, "CONCAT(id,'|',s,'|',n)", "shop.", "CONCAT(id,'|',COALESCE(d,'-'))", "shop.")).Scan(&a, &b))
		want := a + "\n" + b
		for _, name := range databases {
			db, err := sql.Open("sqlite", filepath.Join(e.dir, name))
			require.NoError(t, err)
			require.NoError(t, db.QueryRow(fmt.Sprintf(all, "id||'|'||s||'|'||n", "", "id||'|'||COALESCE(d,'-')", "")).Scan(&a, &b))
			require.NoError(t, db.Close())
			require.Equal(t, want, a+"\n"+b, name)
		}
	}
	restore := func(name string) {
		t.Helper()
		back := filepath.Join(e.dir, name+".yaml")
		text := fmt.Sprintf(`name: %s
source: {archive: {dir: backup, store: "s3://backups/shop?region=us-east-1&endpoint=%s", access_key: AKIAEXAMPLE, secret_key: %s}, tables: shop.*}
target: {file: %[1]s.db}
`, name, server.URL, secret)
		require.NoError(t, os.WriteFile(back, []byte(text), 0o600))
		code, out := e.basic(t, "archive", "restore", "-c", back)
		require.Zero(t, code, out)
	}
	restore("first")
	equal("lite.db", "first.db")

	// All rows are copied again for the archive, which changes nothing for the others.
	write(strings.Replace(text, "segment_bytes: 2KB", "segment_bytes: 2KB, baseline: 1s", 1))
	p = e.start(t, "run", "-c", file)
	whole(2)
	write(text)
	p.signal(t, syscall.SIGTERM)
	code, out = p.wait(t)
	require.Zero(t, code, out)
	restore("second")
	equal("lite.db", "second.db")

	// An archive that comes later does not know how the tables were made.
	write(text + "  - {name: late, archive: late}\n")
	code, out = e.basic(t, "run", "-c", file)
	require.Equal(t, exitSetup, code, out)
	require.Contains(t, out, "an archive must be there before the first")
	e.mu.Lock()
	defer e.mu.Unlock()
	require.NotContains(t, e.said.String(), secret)
}

//go:build unix

package cli

import (
	"database/sql"
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
)

// The program keeps an archive in a bucket; loses its folder to a kill -9 and goes on from
// what is sealed; and restores, from the bucket alone, into a file of SQLite, where
// tables are altered on the way.
func TestArchiveInABucket(t *testing.T) {
	backend := s3mem.New()
	server := httptest.NewServer(gofakes3.New(backend, gofakes3.WithLogger(gofakes3.DiscardLog())).Server())
	defer server.Close()
	require.NoError(t, backend.CreateBucket("backups"))
	const secret = "an-S3-secret-that-is-not-shown"
	store := "s3://backups/shop?region=us-east-1&endpoint=" + server.URL

	e := newEnv(t)
	require.NoError(t, os.Mkdir(filepath.Join(e.dir, ".aws"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(e.dir, ".aws", "credentials"), []byte("[default]\naws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = "+secret+"\n"), 0o600))
	e.source.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.t (id int PRIMARY KEY, s varchar(20))", "INSERT INTO shop.t VALUES (1, 'a'), (2, 'b')")
	_, port, err := net.SplitHostPort(e.source.Addr())
	require.NoError(t, err)
	keep := filepath.Join(e.dir, "keep.yaml")
	require.NoError(t, os.WriteFile(keep, []byte(fmt.Sprintf(`name: backup
source: {host: 127.0.0.1, port: %s, user: dfs, password: "${SOURCE_PASSWORD}", tables: shop.*, snapshot: true}
target: {archive: {dir: backup, store: "%s", segment_bytes: 2KB}}
`, port, store)), 0o600))
	code, out := e.basic(t, "check", "-c", keep)
	require.Equal(t, exitOK, code, out)
	p := e.start(t, "run", "-c", keep)
	rows := func(n int) {
		for i := range n {
			e.source.Exec(t, fmt.Sprintf("INSERT INTO shop.t (id, s) SELECT MAX(id)+1, '%d' FROM shop.t", i))
		}
	}
	stored := func(want string) { // rows come until so much is sealed: how they are packed is a matter of time
		t.Helper()
		defer func() {
			if t.Failed() {
				t.Log(out, p.printed())
			}
		}()
		waitFor(t, func() bool {
			select {
			case <-p.done:
				t.Fatalf("the program has ended:\n%s", p.printed())
			default:
			}
			rows(30)
			_, out = e.basic(t, "archive", "list", "-store", store)
			return strings.Contains(out, want)
		})
	}
	waitFor(t, func() bool { return strings.Contains(p.printed(), "all tables are copied") })
	stored("restores to")
	rows(10)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGKILL))
	p.wait(t)
	require.NoError(t, os.RemoveAll(filepath.Join(e.dir, "backup")))
	e.source.Exec(t, "ALTER TABLE shop.t ADD COLUMN n int NOT NULL DEFAULT 5, ADD UNIQUE KEY n_s (n, s, id)", "UPDATE shop.t SET n = id WHERE id > 3",
		"CREATE TABLE shop.u (id int PRIMARY KEY, d datetime DEFAULT NULL)", "INSERT INTO shop.u VALUES (1, '2026-01-02 03:04:05')")
	var last, count string
	require.NoError(t, e.source.DB(t).QueryRow("SELECT @@global.gtid_executed, (SELECT COUNT(*) FROM shop.t)").Scan(&last, &count))
	p = e.start(t, "run", "-c", keep)
	all, _, _ := strings.Cut(last, ":")
	_, to, _ := strings.Cut(last, "-")
	to = to[strings.LastIndexByte(to, '-')+1:]
	gtid := all + ":" + to
	waitFor(t, func() bool {
		rows(10) // so that what is above is sealed
		code, out := e.basic(t, "archive", "show", "-store", store, "-from", gtid, "-to", gtid)
		return code == exitOK && strings.Contains(out, "insert shop.u: 1")
	})
	p.signal(t, syscall.SIGTERM)
	code, out = p.wait(t)
	require.Equal(t, exitOK, code, out)
	code, out = e.basic(t, "archive", "verify", "-store", store)
	require.Equal(t, exitOK, code, out)

	back := filepath.Join(e.dir, "restore.yaml")
	require.NoError(t, os.WriteFile(back, []byte(fmt.Sprintf("name: restore\nsource: {archive: {store: \"%s\"}, tables: shop.*}\ntarget: {file: shop.db}\n", store)), 0o600))
	code, out = e.basic(t, "archive", "restore", "-c", back, "-to", gtid)
	require.Equal(t, exitOK, code, out)
	db, err := sql.Open("sqlite", filepath.Join(e.dir, "shop.db"))
	require.NoError(t, err)
	defer db.Close()
	var have string
	require.NoError(t, db.QueryRow("SELECT (SELECT COUNT(*) FROM t WHERE n=CASE WHEN id>3 THEN id ELSE 5 END) || ' ' || (SELECT d FROM u) || ' ' || "+
		"(SELECT COUNT(*) FROM sqlite_schema WHERE name='t.n_s')").Scan(&have))
	require.Equal(t, count+" 2026-01-02 03:04:05 1", have)

	// What the bucket refuses is told, and no secret with it.
	bad := strings.Replace(store, "backups", "nothing", 1)
	code, out = e.basic(t, "archive", "list", "-store", bad)
	require.Equal(t, exitSetup, code, out)
	require.Contains(t, out, "no such bucket")
	e.mu.Lock()
	defer e.mu.Unlock()
	require.NotContains(t, e.said.String(), secret)
}

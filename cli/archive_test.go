//go:build unix

package cli

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs/internal/same"
)

// The program keeps an archive, encrypted, across a kill -9; lists, shows and verifies
// it; restores it to the transaction before an accident, with some tables, into a
// target; and takes one transaction back.
func TestArchiveCommands(t *testing.T) {
	e := newEnv(t)
	src, dst := e.source.DB(t), e.target.DB(t)
	e.source.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.t (id int PRIMARY KEY, s varchar(20))",
		"CREATE TABLE shop.u (id int PRIMARY KEY AUTO_INCREMENT, s varchar(20), KEY (s))", "INSERT INTO shop.t VALUES (1, 'a'), (2, 'b')", "INSERT INTO shop.u (s) VALUES ('x')")
	key := strings.Repeat("0123456789abcdef", 4)
	require.NoError(t, os.WriteFile(filepath.Join(e.dir, "key"), []byte(key+"\n"), 0o600))
	_, sourcePort, err := net.SplitHostPort(e.source.Addr())
	require.NoError(t, err)
	_, targetPort, err := net.SplitHostPort(e.target.Addr())
	require.NoError(t, err)
	keep := filepath.Join(e.dir, "keep.yaml")
	require.NoError(t, os.WriteFile(keep, []byte(fmt.Sprintf(`name: backup
source: {host: 127.0.0.1, port: %s, user: dfs, password: "${SOURCE_PASSWORD}", tables: shop.*, snapshot: true}
target: {archive: {dir: backup, key_file: key, segment_bytes: 2KB}}
`, sourcePort)), 0o600))
	back := filepath.Join(e.dir, "restore.yaml")
	require.NoError(t, os.WriteFile(back, []byte(fmt.Sprintf(`name: restore
source: {archive: {dir: backup, key_file: key}, tables: shop.*}
target: {host: 127.0.0.1, port: %s, user: root, password: ""}
`, targetPort)), 0o600))

	code, out := e.basic(t, "check", "-c", keep)
	require.Equal(t, exitOK, code, out)
	require.Contains(t, out, "is not there yet, and will be made")
	p := e.start(t, "run", "-c", keep)
	// listed waits until the archive has what is looked for.
	listed := func(want string) {
		t.Helper()
		waitFor(t, func() bool {
			_, out := e.basic(t, "archive", "list", "-c", keep)
			return strings.Contains(out, want)
		})
	}
	listed("restores to")
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGKILL))
	p.wait(t)
	e.source.Exec(t, "INSERT INTO shop.t VALUES (3, 'c')", "ALTER TABLE shop.t ADD COLUMN n int DEFAULT 5", "UPDATE shop.t SET n = id")
	e.source.Exec(t, "INSERT INTO shop.u (s) VALUES ('y')")
	e.source.Exec(t, "CREATE TABLE shop.side (id int PRIMARY KEY)", "INSERT INTO shop.side VALUES (1)", "TRUNCATE TABLE shop.side")
	e.target.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.side (id int PRIMARY KEY)", "INSERT INTO shop.side VALUES (77)")
	p = e.start(t, "run", "-c", keep)
	var before, accident, after string
	read := func(q string, into *string, args ...any) { require.NoError(t, src.QueryRow(q, args...).Scan(into)) }
	read("SELECT @@global.gtid_executed", &before)
	e.source.Exec(t, "CREATE TABLE shop.copied LIKE shop.t", "INSERT INTO shop.copied SELECT * FROM shop.t")
	read("SELECT @@global.gtid_executed", &before)
	e.source.Exec(t, "DELETE FROM shop.t")
	read("SELECT GTID_SUBTRACT(@@global.gtid_executed, ?)", &accident, before)
	read("SELECT @@global.gtid_executed", &before)
	e.source.Exec(t, "UPDATE shop.u SET s = 'later' WHERE id = 1")
	read("SELECT GTID_SUBTRACT(@@global.gtid_executed, ?)", &after, before)
	waitFor(t, func() bool {
		code, out := e.basic(t, "archive", "show", "-c", keep, "-from", after)
		return code == exitOK && strings.Contains(out, "update shop.u: 1")
	})
	p.signal(t, syscall.SIGTERM)
	code, out = p.wait(t)
	require.Equal(t, exitOK, code, out)

	code, out = e.basic(t, "archive", "verify", "-dir", "backup", "-key-file", "key")
	require.Equal(t, exitOK, code, out)
	require.Contains(t, out, ", 0 faults")
	code, out = e.basic(t, "archive", "list", "-json", "-c", back)
	require.Equal(t, exitOK, code, out)
	require.True(t, json.Valid([]byte(out)))
	code, out = e.basic(t, "archive", "list", "-dir", "backup")
	require.Equal(t, exitSetup, code, out)
	require.Contains(t, out, "it is encrypted: give the key")
	code, out = e.basic(t, "archive", "show", "-c", back, "-from", accident, "-to", accident, "-rows", "shop.t")
	require.Equal(t, exitOK, code, out)
	require.Contains(t, out, "  delete shop.t\n    - id=\"3\" s=\"c\" n=\"3\"\n")

	// To the transaction before the accident, one table of two.
	code, out = e.basic(t, "archive", "restore", "-c", back, "-to", accident, "-before", "shop.t", "shop.copied")
	require.Equal(t, exitOK, code, out)
	r, err := same.Compare(t.Context(), src, dst, same.Options{Schemas: []string{"shop"}, Ignore: []string{"shop.t", "shop.u", "shop.side"}})
	require.NoError(t, err)
	require.Empty(t, r.Differences)
	var restored, copied string
	for table, into := range map[string]*string{"t": &restored, "copied": &copied} {
		require.NoError(t, dst.QueryRow("SELECT GROUP_CONCAT(id, s, n ORDER BY id) FROM shop."+table).Scan(into))
	}
	require.Equal(t, "1a1,2b2,3c3", restored)
	require.Equal(t, copied, restored)
	var side string // is not restored, and so neither are statements about it
	require.NoError(t, dst.QueryRow("SELECT GROUP_CONCAT(id) FROM shop.side").Scan(&side))
	require.Equal(t, "77", side)
	e.target.Exec(t, "DROP TABLE shop.side")
	require.Error(t, dst.QueryRow("SELECT 1 FROM shop.u").Scan(new(int)))

	// Once more is nothing; to an earlier place it is refused.
	code, out = e.basic(t, "archive", "restore", "-c", back, "-to", accident, "-before", "shop.t", "shop.copied")
	require.Equal(t, exitOK, code, out)
	require.Contains(t, out, "nothing was restored: the target stands there already")
	code, out = e.basic(t, "archive", "restore", "-c", back, "-to", "seq:5", "-before", "shop.t", "shop.copied")
	require.NotEqual(t, exitOK, code, out)
	require.Contains(t, out, "restore into an empty target")
	// That it has come there is no reason to say that all is well if the tables are gone.
	e.target.Exec(t, "CREATE TABLE shop.aside LIKE shop.t", "INSERT INTO shop.aside SELECT * FROM shop.t", "DROP TABLE shop.t, shop.copied")
	code, out = e.basic(t, "archive", "restore", "-c", back, "-to", accident, "-before", "shop.t", "shop.copied")
	require.Equal(t, exitSetup, code, out)
	require.Contains(t, out, "it has none of the tables")
	require.Contains(t, out, "set another name in the file")
	e.target.Exec(t, "RENAME TABLE shop.aside TO shop.t", "CREATE TABLE shop.copied LIKE shop.t", "INSERT INTO shop.copied SELECT * FROM shop.t")
	// Under another name the target has rows, which are not touched.
	b, err := os.ReadFile(back)
	require.NoError(t, err)
	other := filepath.Join(e.dir, "other.yaml")
	require.NoError(t, os.WriteFile(other, []byte(strings.Replace(string(b), "name: restore", "name: other", 1)), 0o600))
	code, out = e.basic(t, "archive", "restore", "-c", other)
	require.Equal(t, exitSetup, code, out)
	require.Contains(t, out, "shop.t has rows")

	// The accident is taken back in the source itself.
	require.NoError(t, os.WriteFile(other, []byte(strings.Replace(string(b), targetPort, sourcePort, 1)), 0o600))
	code, out = e.basic(t, "archive", "undo", "-c", other, "-from", accident)
	require.Equal(t, exitOK, code, out)
	require.Contains(t, out, "INSERT INTO `shop`.`t` (`id`,`s`,`n`) VALUES (3,")
	code, out = e.basic(t, "archive", "undo", "-c", other, "-from", accident, "-apply")
	require.Equal(t, exitOK, code, out)
	require.Contains(t, out, "took back 3 rows of 1 transaction\n")
	require.NoError(t, src.QueryRow("SELECT GROUP_CONCAT(id, s, n ORDER BY id) FROM shop.t").Scan(&restored))
	require.Equal(t, copied, restored)
	code, out = e.basic(t, "archive", "undo", "-c", other, "-from", accident, "-apply")
	require.Equal(t, exitRun, code, out)
	require.Contains(t, out, "nothing was taken back, as the target has moved on")

	// All rows are copied again as often as the file says, and a restore begins there.
	b, err = os.ReadFile(keep)
	require.NoError(t, err)
	again := filepath.Join(e.dir, "again.yaml")
	require.NoError(t, os.WriteFile(again, []byte(strings.Replace(string(b), "segment_bytes: 2KB", "segment_bytes: 2KB, baseline: 1s", 1)), 0o600))
	p = e.start(t, "run", "-c", again)
	waitFor(t, func() bool {
		_, out := e.basic(t, "archive", "list", "-c", keep)
		return strings.Count(out, "restores to") > 1
	})
	p.signal(t, syscall.SIGTERM)
	code, out = p.wait(t)
	require.Equal(t, exitOK, code, out)
	third := filepath.Join(e.dir, "third.yaml")
	b, err = os.ReadFile(back)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(third, []byte(strings.Replace(string(b), "name: restore", "name: third", 1)), 0o600))
	e.target.Exec(t, "DROP DATABASE shop")
	code, out = e.basic(t, "archive", "restore", "-c", third)
	require.Equal(t, exitOK, code, out)
	r, err = same.Compare(t.Context(), src, dst, same.Options{Schemas: []string{"shop"}, Structure: true})
	require.NoError(t, err)
	require.Empty(t, r.Differences)

	// A byte that changed is named.
	segments, err := filepath.Glob(filepath.Join(e.dir, "backup", "segment-*.dfs"))
	require.NoError(t, err)
	require.NotEmpty(t, segments)
	file := segments[0]
	b, err = os.ReadFile(file)
	require.NoError(t, err)
	b[len(b)/2] ^= 4
	require.NoError(t, os.WriteFile(file, b, 0o600))
	code, out = e.basic(t, "archive", "verify", "-c", back)
	require.Equal(t, exitDifferent, code, out)
	require.Contains(t, out, "fault: archive segment "+filepath.Base(file))
	e.mu.Lock()
	defer e.mu.Unlock()
	require.NotContains(t, e.said.String(), key)
}

//go:build unix

package testenv

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// orphanKind asks the test binary to start a server of this kind, tell its
// process id and hang: see TestKilledProcessLeavesNoServer.
const orphanKind = "DFS_TESTENV_ORPHAN"

func TestMain(m *testing.M) {
	if kind := os.Getenv(orphanKind); kind != "" {
		s, err := startTemp(Kind(kind))
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(s.PID(), s.Dir())
		select {}
	}
	Main(m)
}

func eachKind(t *testing.T, f func(*testing.T, Kind)) {
	for _, kind := range Kinds() {
		t.Run(string(kind), func(t *testing.T) { f(t, kind) })
	}
}

// query returns the one value that q selects. It leaves no connection behind,
// for which Stop would wait some seconds.
func (s *Server) query(t *testing.T, q string) (v string) {
	t.Helper()
	db := s.open()
	defer db.Close()
	require.NoError(t, db.QueryRow(q).Scan(&v), q)
	return v
}

func TestServerLogsRowsAndNeedsNoPassword(t *testing.T) {
	eachKind(t, func(t *testing.T, kind Kind) {
		began := time.Now()
		s := Shared(t, kind)
		t.Logf("%s %s answers after %v", kind, s.query(t, "SELECT VERSION()"), time.Since(began).Round(time.Millisecond))

		require.Equal(t, "1", s.query(t, "SELECT @@log_bin"))
		require.Equal(t, "ROW", s.query(t, "SELECT @@binlog_format"))
		require.Equal(t, "utf8mb4", s.query(t, "SELECT @@character_set_server"))
		require.Equal(t, "127.0.0.1", s.query(t, "SELECT @@bind_address"))
		if kind != MySQL56 {
			require.Equal(t, "FULL", s.query(t, "SELECT @@binlog_row_metadata"))
		}
		if kind != MariaDB {
			require.Equal(t, "ON", s.query(t, "SELECT @@gtid_mode"))
			require.Empty(t, s.query(t, "SELECT @@gtid_purged"), "the log has all there ever was")
		}
		require.Equal(t, "root@localhost", s.query(t,
			"SELECT GROUP_CONCAT(user, '@', host) FROM mysql.user WHERE user NOT LIKE 'm%.%'"))
	})
}

func TestSharedIsOneServerAndSchemasAreApart(t *testing.T) {
	s := Shared(t, MySQL97)
	require.Same(t, s, Shared(t, MySQL97))

	var names []string
	for _, name := range []string{"Größe/a b", "Größe/a b", strings.Repeat("long", 30)} {
		t.Run(name, func(t *testing.T) {
			schema := s.Schema(t)
			names = append(names, schema)
			s.Exec(t, "USE "+schema, "CREATE TABLE a (id INT PRIMARY KEY)", "INSERT INTO a VALUES (1)")
		})
	}
	for _, name := range names {
		require.Equal(t, "0", s.query(t, "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = '"+name+"'"))
	}
}

func TestCommittedRowsSurviveKillAndRestart(t *testing.T) {
	eachKind(t, func(t *testing.T, kind Kind) {
		t.Parallel()
		s := Start(t, kind)
		s.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.a (id INT PRIMARY KEY) ENGINE=InnoDB",
			"INSERT INTO shop.a VALUES (1), (2)")
		uuid := s.identity(t)

		pid := s.PID()
		require.NoError(t, s.Kill())
		require.True(t, ended(pid))
		require.NoError(t, s.Kill(), "once more")
		require.NoError(t, s.Stop(), "nothing is left to stop")

		addr := s.Addr()
		require.NoError(t, s.Restart(t.Context()))
		require.Equal(t, addr, s.Addr())
		require.Equal(t, "2", s.query(t, "SELECT COUNT(*) FROM shop.a"))
		require.Equal(t, uuid, s.identity(t))

		require.NoError(t, s.Stop())
		require.NoError(t, s.Restart(t.Context()))
		require.NoError(t, s.Restart(t.Context()), "of a running server")
		require.Equal(t, "2", s.query(t, "SELECT COUNT(*) FROM shop.a"))

		out, err := s.Command("mysqlbinlog", "--verbose", filepath.Join(s.Dir(), "binlog.000001")).CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Contains(t, string(out), "### INSERT INTO `shop`.`a`")
	})
}

// identity returns what tells the server from all others.
func (s *Server) identity(t *testing.T) string {
	if s.kind == MariaDB {
		return s.query(t, "SELECT @@server_id")
	}
	return s.query(t, "SELECT CONCAT(@@server_id, ' ', @@server_uuid)")
}

func TestTwoServersOfAKindAreApart(t *testing.T) {
	eachKind(t, func(t *testing.T, kind Kind) {
		t.Parallel()
		a, b := Start(t, kind, "--max-connections=17"), Start(t, kind)
		require.NotEqual(t, a.Addr(), b.Addr())
		require.NotEqual(t, a.identity(t), b.identity(t))
		require.Equal(t, "17", a.query(t, "SELECT @@max_connections"))
		require.Equal(t, "100", b.query(t, "SELECT @@max_connections"))
	})
}

func TestClientProgramsReachTheServer(t *testing.T) {
	eachKind(t, func(t *testing.T, kind Kind) {
		s := Shared(t, kind)
		schema := s.Schema(t)
		s.Exec(t, "USE "+schema, "CREATE TABLE a (id INT PRIMARY KEY)", "INSERT INTO a VALUES (42)")
		for _, c := range []struct {
			name, want string
			args       []string
		}{
			{"mysql", "42\n", []string{"--batch", "--skip-column-names", "--execute=SELECT id FROM a", schema}},
			{"mysqladmin", "mysqld is alive\n", []string{"ping"}},
			{"mysqldump", "VALUES (42)", []string{"--skip-extended-insert", "--single-transaction", schema, "a"}},
			{"mysqlbinlog", "CREATE TABLE a", []string{"--read-from-remote-server", "binlog.000001"}},
		} {
			if kind == MySQL56 && c.name == "mysqldump" {
				continue // as Command says
			}
			cmd := s.Command(c.name, c.args...)
			var stderr strings.Builder
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			require.NoError(t, err, "%s: %s", c.name, stderr.String())
			require.Contains(t, strings.ReplaceAll(string(out), "VALUES\n", "VALUES "), c.want, c.name)
		}
	})
}

func TestPausedServerIsSilentUntilResumed(t *testing.T) {
	s := Start(t, MariaDB)
	require.NoError(t, s.Pause())
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.Error(t, s.DB(t).PingContext(ctx))
	require.NoError(t, s.Resume())
	require.NoError(t, s.DB(t).PingContext(t.Context()))
	require.NoError(t, s.Pause())
	require.NoError(t, s.Stop(), "though it is paused")
}

func TestFolderIsKeptBetweenLaunches(t *testing.T) {
	// Longer than the path of a socket may be.
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 30))
	for want := range 2 {
		s, err := Launch(t.Context(), MySQL97, dir)
		require.NoError(t, err)
		t.Cleanup(func() { s.Kill() })
		s.Exec(t, fmt.Sprintf("CREATE DATABASE shop%d", want))
		require.Equal(t, fmt.Sprint(want+1),
			s.query(t, "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name LIKE 'shop%'"))
		require.NoError(t, s.Stop())
	}
}

func TestStartThatFailsShowsTheLog(t *testing.T) {
	eachKind(t, func(t *testing.T, kind Kind) {
		t.Parallel()
		_, err := startTemp(kind, "--no-such-option")
		require.ErrorContains(t, err, "start "+string(kind))
		require.ErrorContains(t, err, "no-such-option'")
	})
}

func TestAbsentServerNamesTheScript(t *testing.T) {
	t.Setenv("DFS_SERVERS", t.TempDir())
	_, err := Launch(t.Context(), MySQL97, t.TempDir())
	require.ErrorContains(t, err, "run scripts/servers.sh mysql-9.7")
}

func TestCleanupLeavesNeitherProcessNorFolder(t *testing.T) {
	var pid int
	var dir string
	t.Run("server", func(t *testing.T) {
		s := Start(t, MySQL56)
		pid, dir = s.PID(), filepath.Dir(s.Dir())
		require.DirExists(t, dir)
	})
	require.True(t, ended(pid))
	require.NoDirExists(t, dir)
}

func TestKilledProcessLeavesNoServer(t *testing.T) {
	eachKind(t, func(t *testing.T, kind Kind) {
		t.Parallel()
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), orphanKind+"="+string(kind))
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		line, err := bufio.NewReader(out).ReadString('\n')
		cmd.Process.Kill()
		require.NoError(t, err)
		cmd.Wait()

		var pid int
		var dir string
		_, err = fmt.Sscan(line, &pid, &dir)
		require.NoError(t, err, "%q", line)
		t.Cleanup(func() { os.RemoveAll(filepath.Dir(dir)) })
		require.Eventually(t, func() bool { return ended(pid) }, timeout, 10*time.Millisecond)
	})
}

// ended reports whether the process has ended. It may still await the parent
// that asks for its exit code.
func ended(pid int) bool {
	if syscall.Kill(pid, 0) == syscall.ESRCH {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(stat), ") Z ")
}

func TestPostgresSurvivesItsOwnDeath(t *testing.T) {
	s := StartPostgres(t)
	s.Exec(t, "CREATE TABLE t (n int)", "INSERT INTO t VALUES (1)")
	require.NoError(t, s.Kill())
	require.NoError(t, s.Restart(t.Context()))
	require.Equal(t, [][]string{{"1"}}, s.Query(t, "SELECT n FROM t"))
	require.NoError(t, s.Stop())
}

//go:build unix

package cli

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"

	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/stretchr/testify/require"
)

// A source that does not log what its foreign keys do needs the same ones on the
// target, or rows stay there that it has deleted.
func TestForeignKeysThatTheLogDoesNotTell(t *testing.T) {
	for _, test := range []struct {
		source, target testenv.Kind
		silent         bool
	}{
		{testenv.MySQL56, testenv.MySQL97, true},
		{testenv.MariaDB, testenv.MariaDB, true},
		{testenv.MySQL97, testenv.MariaDB, false},
	} {
		t.Run(string(test.source), func(t *testing.T) {
			t.Parallel()
			e := &env{dir: t.TempDir(), source: testenv.Start(t, test.source), target: testenv.Start(t, test.target)}
			e.both(t, "CREATE DATABASE shop", "CREATE TABLE shop.p (a INT, b INT, PRIMARY KEY (a, b))")
			const child = "CREATE TABLE shop.%s (id INT PRIMARY KEY, x INT, y INT%s)"
			e.source.Exec(t, fmt.Sprintf(child, "c", ", CONSTRAINT `of p` FOREIGN KEY (x, y) REFERENCES shop.p (a, b) ON DELETE CASCADE ON UPDATE SET NULL"),
				fmt.Sprintf(child, "plain", ", FOREIGN KEY (x, y) REFERENCES shop.p (a, b)"))
			e.target.Exec(t, fmt.Sprintf(child, "c", ""), fmt.Sprintf(child, "plain", ""))
			_, sourcePort, _ := net.SplitHostPort(e.source.Addr())
			_, targetPort, _ := net.SplitHostPort(e.target.Addr())
			config := func(name, tables, more string) string {
				file := filepath.Join(e.dir, name)
				require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, "source: {port: %s, user: root, tables: %q}\ntarget: {port: %s, user: root%s}\n",
					sourcePort, tables, targetPort, more), 0o600))
				return file
			}
			file := config("dfs.yaml", "shop.*", "")
			code, out := e.basic(t, "check", "-c", file)
			if !test.silent {
				require.Zero(t, code, out)
				require.NotContains(t, out, "of p")
				return
			}
			require.Equal(t, exitSetup, code, out)
			cure := regexp.MustCompile("ALTER TABLE `shop`.`c` ADD .*").FindString(out)
			require.Equal(t, "ALTER TABLE `shop`.`c` ADD CONSTRAINT `of p` FOREIGN KEY (`x`, `y`) REFERENCES `shop`.`p` (`a`, `b`) ON DELETE CASCADE ON UPDATE SET NULL", cure)
			require.NotContains(t, out, "plain`")
			code, out = e.basic(t, "run", "-c", file)
			require.Equal(t, exitSetup, code, out)
			require.Contains(t, out, cure)

			// A statement that is on its way may add it, so this is but a note.
			code, out = e.basic(t, "check", "-c", config("apply.yaml", "shop.*", ", ddl: apply"))
			require.Zero(t, code, out)
			require.Contains(t, out, "unless a statement of the source does so first")
			code, out = e.basic(t, "check", "-c", config("child.yaml", "shop.c", ""))
			require.Equal(t, exitSetup, code, out)
			require.Contains(t, out, "and shop.p, whose rows it goes by, is not followed")

			// One that does something else is none.
			e.target.Exec(t, "ALTER TABLE shop.c ADD CONSTRAINT other FOREIGN KEY (x, y) REFERENCES shop.p (a, b) ON DELETE CASCADE ON UPDATE CASCADE")
			code, _ = e.basic(t, "check", "-c", file)
			require.Equal(t, exitSetup, code)
			e.target.Exec(t, "ALTER TABLE shop.c DROP FOREIGN KEY other", cure)
			code, out = e.basic(t, "check", "-c", file)
			require.Zero(t, code, out)
			p := e.start(t, "-c", file)
			db := e.target.DB(t)
			eventually(t, p, db, "SELECT COUNT(*) FROM dfs.dfs_checkpoint WHERE seq > 0", "1")
			e.source.Exec(t, "INSERT INTO shop.p VALUES (1, 1), (2, 2)", "INSERT INTO shop.c VALUES (1, 1, 1), (2, 2, 2)", "DELETE FROM shop.p WHERE a = 1")
			eventually(t, p, db, "SELECT CONCAT(COUNT(*), MIN(id)) FROM shop.c", "12")
			p.signal(t, syscall.SIGTERM)
			code, out = p.wait(t)
			require.Zero(t, code, out)
		})
	}
}

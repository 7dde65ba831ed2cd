//go:build unix

package cli

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/stretchr/testify/require"
)

// TestStatusMeasuresEachKindOfSource reads positions by GTID set, by MariaDB's
// domains, and by file and offset.
func TestStatusMeasuresEachKindOfSource(t *testing.T) {
	for _, test := range []struct {
		name   string
		kind   testenv.Kind
		args   []string
		behind string
	}{
		{"MySQL 5.6", testenv.MySQL56, nil, `2 transactions not read yet`},
		{"MySQL 5.6 without GTIDs", testenv.MySQL56, []string{"--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"}, `\d+ bytes of the log not read yet`},
		{"MariaDB", testenv.MariaDB, nil, `2 transactions not read yet`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			e := &env{dir: t.TempDir(), source: testenv.Start(t, test.kind, test.args...)}
			e.target = testenv.Start(t, test.kind)
			e.both(t, "CREATE DATABASE shop", fmt.Sprintf(people, "shop"))
			_, sourcePort, _ := net.SplitHostPort(e.source.Addr())
			_, targetPort, _ := net.SplitHostPort(e.target.Addr())
			file := filepath.Join(e.dir, "dfs.yaml")
			require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `
source: {port: %s, user: root, tables: shop.*}
queue: {path: shop.queue}
target: {port: %s, user: root}
`, sourcePort, targetPort), 0o600))
			code, out := e.basic(t, "check", "-c", file)
			require.Zero(t, code, out)
			db := e.target.DB(t)

			p := e.start(t, "-c", file)
			eventually(t, p, db, "SELECT COUNT(*) FROM dfs.dfs_checkpoint WHERE seq > 0", "1")
			e.source.Exec(t, "INSERT INTO shop.people VALUES (1, 'Åsa', 1)")
			eventually(t, p, db, "SELECT COUNT(*) FROM shop.people", "1")
			p.signal(t, syscall.SIGTERM)
			code, out = p.wait(t)
			require.Zero(t, code, out)

			inStep := func() state {
				code, out := e.basic(t, "status", "-c", file, "-json")
				require.Zero(t, code, out)
				var s state
				require.NoError(t, json.Unmarshal([]byte(out), &s))
				return s
			}
			require.True(t, inStep().InStep)
			e.source.Exec(t, "UPDATE shop.people SET n = 2", "UPDATE shop.people SET n = 3")
			require.False(t, inStep().InStep)
			code, out = e.basic(t, "status", "-c", file)
			require.Zero(t, code, out)
			require.Regexp(t, `(?m)^behind    `+test.behind+`, 0 transactions in the queue$`, out)

			require.NoError(t, e.source.Stop())
			code, out = e.basic(t, "status", "-c", file)
			require.Equal(t, exitRun, code, out)
			require.Regexp(t, `(?m)^source .* cannot be read: `, out)
			require.Regexp(t, `(?m)^target .* up to transaction `, out)
			require.Regexp(t, `(?m)^behind    unknown$`, out)
		})
	}
}

func TestCountGTIDs(t *testing.T) {
	for set, want := range map[string]uint64{
		"": 0, "u:1": 1, "u:1-5": 5, "u:1-5:7:tag:1-3,\nv:9": 10,
	} {
		n, err := countGTIDs(set)
		require.NoError(t, err)
		require.Equal(t, want, n, set)
	}
	_, err := countGTIDs("u:5-1")
	require.Error(t, err)
}

func TestDomainsBetween(t *testing.T) {
	n, err := domainsBetween("0-1-25,1-1-7", "0-2-30,1-1-7,2-9-4")
	require.NoError(t, err)
	require.Equal(t, uint64(9), n)
	_, err = domainsBetween("", "0-1")
	require.Error(t, err)
}

func Example_report() {
	report(os.Stdout, "the source (db1:3306 as user dfs) cannot be used", &cdc.SetupError{Faults: []cdc.Fault{
		{What: "binlog_format is STATEMENT", Cure: "SET GLOBAL binlog_format = ROW"},
	}})
	// Output:
	// basic: the source (db1:3306 as user dfs) cannot be used:
	//   - binlog_format is STATEMENT
	//     cure: SET GLOBAL binlog_format = ROW
}

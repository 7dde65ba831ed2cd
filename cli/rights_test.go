package cli

import (
	"net"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/sink"
)

// TestRightsOn asks each kind of server about accounts with and without rights.
func TestRightsOn(t *testing.T) {
	all := make(map[string]sink.Policy)
	for _, r := range rights {
		all[r.name] = sink.PolicyApply
	}
	for _, kind := range []testenv.Kind{testenv.MySQL97, testenv.MySQL56, testenv.MariaDB} {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Start(t, kind)
			schema := srv.Schema(t)
			host, port, err := net.SplitHostPort(srv.Addr())
			require.NoError(t, err)
			grant := "CREATE, ALTER, DROP, INDEX, REFERENCES, CREATE VIEW"
			srv.Exec(t, "CREATE TABLE "+schema+".t (id int PRIMARY KEY)")
			ask := func(t *testing.T, user string, grants ...string) finding {
				user = "dfs_" + user
				srv.Exec(t, "CREATE USER "+user+"@'%' IDENTIFIED BY 'pw'", "GRANT SELECT, INSERT, UPDATE, DELETE ON "+schema+".* TO "+user+"@'%'")
				t.Cleanup(func() { srv.Exec(t, "DROP USER "+user+"@'%'") })
				for _, g := range grants {
					srv.Exec(t, g+" TO "+user+"@'%'")
				}
				cfg := mysql.NewConfig()
				cfg.Net, cfg.Addr, cfg.User, cfg.Passwd = "tcp", net.JoinHostPort(host, port), user, "pw"
				server, err := askServer(t.Context(), cfg.FormatDSN())
				require.NoError(t, err)
				defer server.Close()
				return server.rightsOn(t.Context(), schema, all)
			}
			on := " ON " + schema + ".*"
			f := ask(t, "none")
			require.Equal(t, "fault", f.Verdict)
			require.Contains(t, f.Cure, "GRANT CREATE, ALTER, DROP, INDEX, ")
			require.Contains(t, f.Cure, " ON `"+schema+"`.* TO 'dfs_none'@'%'")
			require.Equal(t, "ok", ask(t, "has", "GRANT "+grant+on).Verdict)
			f = ask(t, "some", "GRANT CREATE, ALTER, REFERENCES, CREATE VIEW"+on)
			require.Equal(t, "GRANT DROP, INDEX ON `"+schema+"`.* TO 'dfs_some'@'%'", f.Cure)
			f = ask(t, "one", "GRANT CREATE, DROP, INDEX, REFERENCES, CREATE VIEW"+on, "GRANT ALTER ON "+schema+".t")
			require.Equal(t, "note", f.Verdict)
			require.Contains(t, f.Text, "not known")
			f = ask(t, "noref", "GRANT CREATE, ALTER, DROP, INDEX, CREATE VIEW"+on)
			require.Equal(t, "note", f.Verdict)
			require.Contains(t, f.Cure, "GRANT REFERENCES ON")
			if kind == testenv.MySQL97 {
				srv.Exec(t, "CREATE ROLE dfs_alter", "GRANT "+grant+on+" TO dfs_alter")
				f = ask(t, "role", "GRANT dfs_alter")
				require.Equal(t, "fault", f.Verdict, "a role that is not active is of no use")
				srv.Exec(t, "SET GLOBAL activate_all_roles_on_login = ON")
				f = ask(t, "role2", "GRANT dfs_alter")
				require.Equal(t, "note", f.Verdict)
				require.Contains(t, f.Text, "whether it has REFERENCES", "of a role that is not told")
			}
		})
	}
}

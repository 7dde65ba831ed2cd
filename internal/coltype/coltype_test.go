package coltype_test

import (
	"database/sql"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs/internal/coltype"
	"github.com/dataflowsync/dfs/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// The server itself says what the names are, by SELECT of a value of each.
func TestMembersAreWhatTheServerHas(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		srv := testenv.Shared(t, kind)
		schema := srv.Schema(t)
		conn, err := srv.DB(t).Conn(t.Context())
		require.NoError(t, err)
		defer conn.Close()
		for _, mode := range []string{"", "NO_BACKSLASH_ESCAPES", "ANSI_QUOTES"} {
			table := schema + ".t" + mode
			exec := func(q string) {
				_, err := conn.ExecContext(t.Context(), q)
				require.NoError(t, err, q)
			}
			exec("SET NAMES utf8mb4")
			exec("SET sql_mode=''")
			exec("CREATE TABLE " + table + ` (id int PRIMARY KEY, c enum('a','','it''s','''','\\','a\\','\\''','d,e','''),(''','l\nf','c\rr','n\0l','\t','"','ö','%_','日本') CHARACTER SET utf8)`)
			exec("SET sql_mode='" + mode + "'")
			var typ string
			require.NoError(t, conn.QueryRowContext(t.Context(), "SELECT COLUMN_TYPE FROM information_schema.COLUMNS WHERE TABLE_SCHEMA='"+schema+
				"' AND TABLE_NAME='t"+mode+"' AND COLUMN_NAME='c'").Scan(&typ))
			got := coltype.Members(typ)
			require.Len(t, got, 17, typ)
			for i, name := range got {
				_, err := conn.ExecContext(t.Context(), "INSERT INTO "+table+" VALUES (?, ?)", i+1, i+1)
				require.NoError(t, err)
				var want sql.NullString
				require.NoError(t, conn.QueryRowContext(t.Context(), "SELECT c FROM "+table+" WHERE id=?", i+1).Scan(&want))
				require.Equal(t, want.String, name, "%s %s", kind, typ)
			}
		}
	}
	require.Nil(t, coltype.Members("varchar(10)"))
	require.Equal(t, []string{"x"}, coltype.Members("SET('x')"))
}

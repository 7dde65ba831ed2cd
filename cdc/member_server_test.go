package cdc

import (
	"database/sql"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs/internal/testenv"
)

// The server itself says what each byte of each character set is.
func TestMembersAreTurnedIntoUTF8AsTheServerDoes(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	db := srv.DB(t)
	names := []string{"ascii"}
	for name := range singleByte {
		names = append(names, name)
	}
	for _, charset := range names {
		for c := range 256 {
			var want sql.NullString
			require.NoError(t, db.QueryRow(fmt.Sprintf(
				"SELECT CONVERT(_%s X'%02X' USING utf8mb4)", charset, c)).Scan(&want), "%s %02x", charset, c)
			if want.String == "?" && c != '?' {
				continue // not a character, and so in no name
			}
			got, ok := memberText(charset, string([]byte{byte(c)}))
			require.True(t, ok, "%s %02x", charset, c)
			require.Equal(t, want.String, got, "%s %02x", charset, c)
		}
	}
}

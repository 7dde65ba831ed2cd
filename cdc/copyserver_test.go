package cdc

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
)

// An address may lead to several servers. Rows of one and the log of another do not
// make a copy.
func TestRowsAreOfTheServerWhoseLogIsRead(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			src, err := Open(t.Context(), srv.DSN(""), nil)
			require.NoError(t, err)
			defer src.Close()
			c := &copier{src: src, st: &Stream{server: src.server}}
			conn, err := c.open(t.Context())
			require.NoError(t, err)
			conn.close()
			var end position
			require.NoError(t, c.logEnd(t.Context(), &end))
			require.NotEmpty(t, end.file)

			c.st.server = "another"
			_, err = c.open(t.Context())
			require.ErrorIs(t, err, dfs.ErrTransient)
			require.ErrorContains(t, err, "led to server "+src.server+" for rows and to another for the log")
			require.ErrorContains(t, c.logEnd(t.Context(), &end), "led to server")
		})
	}
}

package cdc

import (
	"strings"
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
			c := &copier{src: src, st: &Stream{server: src.known().server}}
			conn, err := c.open(t.Context())
			require.NoError(t, err)
			conn.close()
			var end position
			require.NoError(t, c.logEnd(t.Context(), &end))
			require.NotEmpty(t, end.file)

			c.st.server = "another"
			_, err = c.open(t.Context())
			require.ErrorIs(t, err, dfs.ErrTransient)
			require.ErrorContains(t, err, "led to server "+src.known().server+" for rows and to another for the log")
			require.ErrorContains(t, c.logEnd(t.Context(), &end), "led to server")
		})
	}
}

// What a query has returned is not overwritten by the answers to later ones, which
// go-mysql puts in the same memory.
func TestAnswersOutliveLaterOnes(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	src, err := Open(t.Context(), srv.DSN(""), nil)
	require.NoError(t, err)
	defer src.Close()
	c := &copier{src: src, st: &Stream{server: src.known().server}}
	conn, err := c.open(t.Context())
	require.NoError(t, err)
	defer conn.close()
	name, err := src.identity(conn.conn)
	require.NoError(t, err)
	which, err := serverOf(conn.conn)
	require.NoError(t, err)
	list, err := conn.ask("SELECT 'binlog.000001', 4, 'and so on'")
	require.NoError(t, err)
	want := []string{strings.Clone(name), strings.Clone(which), strings.Clone(list[0][0])}
	for range 20 { // the pool may give other memory at times
		_, err := conn.ask("SELECT REPEAT('x', 200)")
		require.NoError(t, err)
	}
	require.Equal(t, want, []string{name, which, list[0][0]})
	require.Equal(t, src.known().server, name)
	require.Equal(t, "binlog.000001", list[0][0])
}

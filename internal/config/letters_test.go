package config

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDeadLetters(t *testing.T) {
	none := func(string) (string, bool) { return "", false }
	const parts = "source: {host: db1, user: dfs}\n"
	c, err := Parse("/etc/dfs/dfs.yaml", []byte(parts+"target: {host: db2, user: dfs}\ndead_letters: {path: x.letters, max_letters: -1, max_bytes: 1MiB, keep_for: 24h}"), none)
	require.NoError(t, err)
	require.Equal(t, "/etc/dfs/x.letters", c.Letters.Path)
	require.Equal(t, -1, c.Letters.MaxLetters)
	_, err = Parse("/etc/dfs/dfs.yaml", []byte(parts+"target: {host: db2, user: dfs}\ndead_letters: {max_letters: 5}"), none)
	require.ErrorContains(t, err, "/etc/dfs/dfs.yaml:3: dead_letters.path is missing; name the file, or leave dead_letters out")

	// Each of several targets has a file of its own.
	c, err = Parse("/etc/dfs/dfs.yaml", []byte(parts+"queue: {path: q}\ndead_letters: {path: x.letters}\ntargets:\n- {name: a, host: db2, user: dfs}\n- {name: b, host: db3, user: dfs}"), none)
	require.NoError(t, err)
	require.Equal(t, "/etc/dfs/x.letters.a", c.Lines()[0].Letters.Path)
	require.Equal(t, "/etc/dfs/x.letters.b", c.Lines()[1].Letters.Path)
}

package config

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestArchives(t *testing.T) {
	const server = "{host: db, user: dfs}"
	for text, want := range map[string][]string{
		"source: " + server + "\ntarget: {archive: x}": {"write source.snapshot: true"},
		"source: {host: db, user: dfs, snapshot: true}\ntarget:\n  archive: x\n  host: db2\n  routes: [{from: a.*, to: b.*}]\nunits: [{from: a.b, drop: [c]}]": {
			"target has both archive and host", "target has both archive and routes", "units: an archive keeps rows as the source has them"},
		"source: {host: db, user: dfs, snapshot: true}\ntarget:\n  archive:\n    dir: x\n    keep_for: 1d\n    segment_bytes: -1": {"no baseline", "target.archive.segment_bytes is negative"},
		"source:\n  archive:\n    dir: x\n    baseline: 1d\n  start: now\nqueue: {path: q}\ntarget: " + server: {
			"source.archive.baseline is for an archive that is written", "source has both archive and start", "needs no queue"},
		"source: {archive: x}\ntarget: {archive: y}":                                                             {"both archives"},
		"source:\n  archive:\n    dir: x\n    key: abc\n    key_file: y\ntarget: " + server:                      {"both key and key_file", "not 64 hexadecimal digits"},
		"source: {host: db, user: dfs, snapshot: true}\nqueue: {path: q}\ntargets:\n  - name: a\n    archive: x": {"targets[0] is an archive, which cannot be one of several targets"},
		"source: {archive: {}}\ntarget: " + server:                                                               {"names no folder"},
	} {
		_, err := Parse("dir/f.yaml", []byte(text), func(string) (string, bool) { return "", false })
		for _, part := range want {
			require.ErrorContains(t, err, part, text)
		}
		require.Len(t, strings.Split(err.Error(), "\n"), len(want), err)
	}
	c, err := Parse("dir/f.yaml", []byte("source: {host: db, user: dfs, snapshot: true}\ntarget: {archive: backup}"), nil)
	require.NoError(t, err)
	require.Equal(t, "dir/backup", c.Target.Archive.Dir)
	require.Equal(t, "archive dir/backup", c.Target.String())
	o, err := c.Target.Archive.Options()
	require.NoError(t, err)
	require.Nil(t, o.Key)
}

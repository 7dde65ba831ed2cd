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
		"source: {archive: x}\ntarget: {archive: y}":                                        {"both archives"},
		"source:\n  archive:\n    dir: x\n    key: abc\n    key_file: y\ntarget: " + server: {"both key and key_file", "not 64 hexadecimal digits"},
		"source: {host: db, user: dfs}\nqueue: {path: q}\ntargets:\n  - {name: a, archive: x}\n  - {name: b, archive: {dir: ./x}}": {
			"f.yaml:4: an archive begins with a copy", "f.yaml:5: an archive begins with a copy", "f.yaml:5: targets[0] and targets[1] are archives in one folder"},
		"source: {host: db, user: dfs, snapshot: true}\nqueue: {path: q}\ntargets:\n  - name: a\n    archive: {store: \"s3://b/p\"}\n    checkpoint: k\n    tables: a.b\n    host: db2\n    existing: append\n    only_units: true\n    units: [{from: a.b, drop: [c]}]": {
			"f.yaml:5: target.archive names no folder", "f.yaml:6: checkpoint: an archive keeps its own", "f.yaml:7: tables: an archive keeps all tables", "f.yaml:8: target has both archive and host",
			"f.yaml:9: target has both archive and existing", "f.yaml:10: only_units: an archive keeps rows", "f.yaml:11: units: an archive keeps rows"},
		"source: {archive: {}}\ntarget: " + server: {"names no folder"},
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

// An archive may be one of several targets, with a key that is a secret and without a
// file of dead letters, as it refuses nothing.
func TestAnArchiveIsOneOfSeveralTargets(t *testing.T) {
	key := strings.Repeat("ab", 32)
	c, err := Parse("dir/f.yaml", []byte(`name: shop
source: {host: db, user: dfs, snapshot: true}
queue: {path: q}
dead_letters: {path: letters}
targets:
  - {name: copy, host: db2, user: dfs}
  - {name: backup, archive: {dir: backup, store: "s3://b/p?region=x", key: `+key+`, access_key: id, secret_key: hidden, keep_for: 30d, baseline: 7d}}
`), nil)
	require.NoError(t, err)
	require.Equal(t, []string{"copy", "backup"}, c.Readers())
	l := c.Lines()[1]
	require.Equal(t, ArchiveTarget, l.Target.Kind())
	require.Equal(t, "dir/backup", l.Target.Archive.Dir)
	require.Equal(t, "dir/backup", l.Target.Address())
	require.Equal(t, "dir/letters.copy", c.Lines()[0].Letters.Path)
	require.Empty(t, l.Letters.Path)
	require.Subset(t, c.Secrets(), []string{key, "hidden"})
}

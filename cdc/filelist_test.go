package cdc

import (
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// gzipped compresses a file and takes it away, as gzip does.
func gzipped(t *testing.T, path string) {
	plain, err := os.ReadFile(path)
	require.NoError(t, err)
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err = w.Write(plain)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.NoError(t, os.WriteFile(path+".gz", b.Bytes(), 0o644))
	require.NoError(t, os.Remove(path))
}

func three() map[string]*logWriter {
	return map[string]*logWriter{
		"b.000001": newLog("9.7.4", true).before(0).ddl(1, "CREATE TABLE a (i int)").rotate("b.000002"),
		"b.000002": newLog("9.7.4", true).before(1).ddl(2, "CREATE TABLE b (i int)").rotate("b.000003"),
		"b.000003": newLog("9.7.4", true).before(2).ddl(3, "CREATE TABLE c (i int)"),
	}
}

func TestCompressedFilesAreNamed(t *testing.T) {
	dir := folder(t, three())
	_, from, err := readFiles(t, nil, "", filepath.Join(dir, "b.000001"))
	require.NoError(t, err)

	gzipped(t, filepath.Join(dir, "b.000002"))
	for _, o := range []*Options{nil, {Start: "file:b.000002:4"}} {
		_, _, err = readFiles(t, o, "", dir)
		require.ErrorContains(t, err, "compressed")
		require.ErrorContains(t, err, "unpack it")
		require.NotErrorIs(t, err, ErrPurged)
	}
	_, _, err = readFiles(t, nil, from, dir)
	require.ErrorContains(t, err, "b.000002:0: the file is compressed with gzip")
	_, _, err = readFiles(t, nil, "", filepath.Join(dir, "b.000002.gz"))
	require.ErrorContains(t, err, "compressed with gzip")

	gzipped(t, filepath.Join(dir, "b.000001"))
	gzipped(t, filepath.Join(dir, "b.000003"))
	_, _, err = readFiles(t, nil, "", dir)
	require.ErrorContains(t, err, "b.000001.gz is compressed")
}

func TestCompressedFilesThatAreNotNeededAreLeftAlone(t *testing.T) {
	dir := folder(t, three())
	_, from, err := readFiles(t, nil, "", filepath.Join(dir, "b.000001"), filepath.Join(dir, "b.000002"))
	require.NoError(t, err)
	gzipped(t, filepath.Join(dir, "b.000001"))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "b.000003.zst"), []byte("kept beside it"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "dump.000001.gz"), []byte("of something else"), 0o644))
	said, _, err := readFiles(t, nil, from, dir)
	require.NoError(t, err)
	require.Equal(t, all3[2:], said)
}

func TestLinksInAFolderAreFollowed(t *testing.T) {
	store, dir := folder(t, three()), t.TempDir()
	for name := range three() {
		require.NoError(t, os.Symlink(filepath.Join(store, name), filepath.Join(dir, name)))
	}
	require.NoError(t, os.Symlink(filepath.Join(store, "gone"), filepath.Join(dir, "b.000004")))
	require.NoError(t, os.Symlink(store, filepath.Join(dir, "b.000005")))
	said, _, err := readFiles(t, nil, "", dir)
	require.NoError(t, err)
	require.Equal(t, all3, said)
}

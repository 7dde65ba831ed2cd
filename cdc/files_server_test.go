package cdc_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
)

// openFiles opens a Source of files that the test closes.
func openFiles(t testing.TB, o *cdc.Options, paths ...string) *cdc.Source {
	t.Helper()
	src, err := cdc.OpenFiles(t.Context(), paths, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, src.Close()) })
	return src
}

// readAll returns the transactions up to the end that have changes, decoded, and
// the last position.
func readAll(t testing.TB, src *cdc.Source, st dfs.Stream) (full []*dfs.Transaction, last dfs.Position) {
	t.Helper()
	batch := make([]*dfs.Transaction, 7)
	for {
		n, err := st.Next(limit(t), batch)
		if err == io.EOF {
			require.Zero(t, n)
			require.NoError(t, src.Decode(t.Context(), full))
			return full, last
		}
		require.NoError(t, err)
		for _, tx := range batch[:n] {
			last = tx.Pos
			if tx.Encoded != nil {
				full = append(full, tx)
			}
		}
	}
}

// copyLogs copies the log of a server that runs, and its index.
func copyLogs(t testing.TB, srv *testenv.Server) string {
	t.Helper()
	dir := t.TempDir()
	files, err := filepath.Glob(filepath.Join(srv.Dir(), "binlog.*"))
	require.NoError(t, err)
	for _, f := range files {
		b, err := os.ReadFile(f)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, filepath.Base(f)), b, 0o644))
	}
	return dir
}

// place returns the file and the offset of a position.
func place(t testing.TB, pos dfs.Position) string {
	t.Helper()
	p, err := cdc.ParsePosition(pos)
	require.NoError(t, err)
	return fmt.Sprintf("%s:%d %s", p.File, p.Offset, p.GTIDs)
}

func TestFilesAreReadAsTheirServer(t *testing.T) {
	eachSetup(t, func(t *testing.T, s setup, srv *testenv.Server) {
		if s.kind == testenv.MySQL56 {
			return // its log names no columns
		}
		srv.Exec(t, "CREATE DATABASE shop", "FLUSH LOGS")
		o := &cdc.Options{Tables: []string{"shop.*"}, Start: "earliest", MaxPart: 4 << 10}
		src := open(t, srv.DSN(""), o)
		st := stream(t, src, "")
		said := runWorkload(t, srv)
		for i := range 3 {
			rows := fmt.Sprintf("(%d, 1, 'x')", 100*i+100)
			for k := range 90 {
				rows += fmt.Sprintf(", (%d, %d, REPEAT('y', 10))", 100*i+101+k, k)
			}
			srv.Exec(t, "INSERT INTO shop.b VALUES "+rows, "SET GLOBAL binlog_checksum="+[]string{"NONE", "CRC32", "CRC32"}[i])
		}
		want := readN(t, src, st, said+3)

		dir := copyLogs(t, srv)
		for _, path := range []string{dir, filepath.Join(dir, "binlog.index")} {
			files := openFiles(t, o, path)
			require.NoError(t, files.CheckStart(t.Context()))
			got, end := readAll(t, files, stream(t, files, ""))
			require.Equal(t, says(want), says(got))
			for i, tx := range got {
				require.Equal(t, place(t, want[i].Pos), place(t, tx.Pos))
				require.Equal(t, want[i].ID, tx.ID)
				require.Equal(t, want[i].Committed, tx.Committed)
				require.Equal(t, want[i].More, tx.More)
				require.Equal(t, want[i].Changes, tx.Changes)
			}
			for i, tx := range got {
				if tx.More {
					continue
				}
				rest, last := readAll(t, files, stream(t, files, tx.Pos))
				require.Equal(t, says(want[i+1:]), says(rest), "after %s", tx.Pos)
				if last != "" {
					require.Equal(t, end, last)
				}
				p, err := cdc.ParsePosition(tx.Pos)
				require.NoError(t, err)
				starts := []string{fmt.Sprintf("file:%s:%d", p.File, p.Offset)}
				if s.word != "file" {
					starts = append(starts, "gtid:"+p.GTIDs)
					// From the one to the other.
					rest, _ = readAll(t, files, stream(t, files, want[i].Pos))
					require.Equal(t, says(want[i+1:]), says(rest), "after %s", tx.Pos)
					if len(rest) > 0 {
						back := stream(t, src, tx.Pos)
						parts := 0
						for _, r := range rest {
							if !r.More {
								parts++
							}
						}
						require.Equal(t, says(want[i+1:]), says(readN(t, src, back, parts)), "after %s", tx.Pos)
						back.Close()
					}
				}
				for _, start := range starts {
					from := openFiles(t, &cdc.Options{Tables: o.Tables, Start: start, MaxPart: o.MaxPart}, path)
					require.NoError(t, from.CheckStart(t.Context()))
					rest, _ := readAll(t, from, stream(t, from, ""))
					require.Equal(t, says(want[i+1:]), says(rest), "from %s", start)
				}
			}
		}
	})
}

// runWorkload runs the workload, and returns how many followed transactions it has.
func runWorkload(t *testing.T, srv *testenv.Server) (n int) {
	t.Helper()
	srv.Exec(t, "CREATE DATABASE other")
	conn, err := srv.DB(t).Conn(context.Background())
	require.NoError(t, err)
	defer conn.Close()
	for _, w := range workload {
		for _, stmt := range strings.Split(w.sql, "; ") {
			_, err := conn.ExecContext(t.Context(), stmt)
			require.NoError(t, err, stmt)
		}
		if w.says != "" {
			n++
		}
	}
	return n
}

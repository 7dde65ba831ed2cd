package cdc

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testseed"
)

var flips = flag.Int("flips", 80, "how many bytes of logs are changed (make flips: 10000 of each)")

// told is what a log says: a line for each change and for the end of each transaction,
// and the error that it ends with.
func told(t *testing.T, path string) (lines []string, err error) {
	ctx := context.Background()
	src, err := OpenFiles(ctx, []string{path}, &Options{Tables: []string{"*.*"}, Logger: fuzzOptions.Logger, TrustColumnNames: true})
	if err != nil {
		return nil, err
	}
	defer src.Close()
	st, err := src.Open(ctx, dfs.Checkpoint{})
	if err != nil {
		return nil, err
	}
	defer st.Close()
	batch := make([]*dfs.Transaction, 64)
	for {
		n, err := st.Next(ctx, batch)
		if err == io.EOF {
			return lines, nil
		}
		if err != nil {
			return lines, err
		}
		for _, tx := range batch[:n] {
			if err := src.Decode(ctx, []*dfs.Transaction{tx}); err != nil {
				return lines, err
			}
			for _, c := range tx.Changes {
				lines = append(lines, fmt.Sprint(c.Op, c.Table, c.Before, c.After, c.Query))
			}
			if len(tx.Changes) > 0 && !tx.More {
				lines = append(lines, "commit "+tx.ID)
			}
		}
	}
}

// bare returns the log without checksums.
func bare(log []byte) []byte {
	le := binary.LittleEndian
	out := append([]byte(nil), log[:4]...)
	for at := 4; at+headerLen <= len(log); {
		e := append(event(nil), log[at:at+int(le.Uint32(log[at+9:]))]...)
		at += len(e)
		if e.kind() == evFormat {
			// Its own checksum stays, whatever the log has, and counts a file as closed.
			e[17] &^= 1
			e[len(e)-5] = 0
			le.PutUint32(e[len(e)-4:], crc32.ChecksumIEEE(e[:len(e)-4]))
		} else {
			e = e[:len(e)-4]
		}
		le.PutUint32(e[9:], uint32(len(e)))
		le.PutUint32(e[13:], uint32(len(out)+len(e)))
		out = append(out, e...)
	}
	return out
}

// A byte of a log is changed, wherever: with checksums it is seen, and nothing of the
// event is handed on; without them it gives an error or other rows, and no panic.
func TestAChangedByteOfALog(t *testing.T) {
	rng := rand.New(rand.NewPCG(testseed.New(t), 1))
	for i, log := range fixtureLogs(t) {
		path := filepath.Join(t.TempDir(), "f.000001")
		require.NoError(t, os.WriteFile(path, log, 0o600))
		whole, end := told(t, path)
		if end != nil {
			mustBeTyped(t, end) // a log that does not name its columns
		}
		for _, sums := range []bool{true, false} {
			name := fmt.Sprint("log ", i, ", checksums: ", sums)
			format, err := parseFormat(event(log[4 : 4+binary.LittleEndian.Uint32(log[13:])]))
			require.NoError(t, err)
			if sums && !format.sum {
				continue // it was written without
			}
			b := log
			if !sums && format.sum {
				b = bare(log)
				require.NoError(t, os.WriteFile(path, b, 0o600))
				same, err := told(t, path)
				require.Equal(t, whole, same)
				require.Equal(t, end == nil, err == nil)
			}
			seen := 0
			for n := range *flips {
				at, bit := rng.IntN(len(b)), byte(1)<<rng.IntN(8)
				if n < len(b) && *flips >= len(b) {
					at = n // each byte
				}
				b[at] ^= bit
				require.NoError(t, os.WriteFile(path, b, 0o600))
				lines, err := told(t, path)
				b[at] ^= bit
				if err != nil {
					mustBeTyped(t, err)
					seen++
				}
				if !sums {
					continue
				}
				require.LessOrEqual(t, len(lines), len(whole), "%s: bit %d of byte %d", name, bit, at)
				require.True(t, slices.Equal(whole[:len(lines)], lines), "%s: bit %d of byte %d", name, bit, at)
				if end == nil && len(lines) < len(whole) {
					require.Error(t, err, "%s: bit %d of byte %d: what is missing is not told", name, bit, at)
				}
			}
			t.Logf("%s: of %d changes %d were told", name, *flips, seen)
		}
	}
}

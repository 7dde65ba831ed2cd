//go:build unix

package sink

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs/internal/faultvfs"
	"github.com/dataflowsync/dfs/internal/files"
	"github.com/dataflowsync/dfs/internal/testseed"
)

// A sync fails once, as on Linux: the pages are taken for clean, reads give what was
// written, and later syncs succeed without it. The process ends, the next one goes on, and
// then the power goes. What was promised is there, whichever sync it was.
func TestASyncOfAnArchiveFailsOnce(t *testing.T) {
	rng := rand.New(rand.NewPCG(testseed.New(t), 0))
	tried := 0
	for n, failed := 1, true; failed; n++ {
		root := t.TempDir()
		fs := faultvfs.New(t, root)
		dir := filepath.Join(root, "archive")
		require.NoError(t, os.Mkdir(dir, 0o700))
		rec := fs.Record()
		k := &archiveTrial{t: t, dir: dir, disk: fs.Files(), promise: func(seq uint64) { rec.Mark(int(seq)) }}
		fs.FailAt(n, 1, faultvfs.Failed, faultvfs.Sync)
		for k.told < trialLast && k.errs == 0 {
			k.step(t.Context())
		}
		failed = len(fs.Stop()) > 0
		k.close()
		died := rec.Len()
		k.finish()
		fs.StopRecording()
		total := rec.Len()
		for at := died; failed && at <= total; at += 1 + rng.IntN(6) {
			for _, loss := range []faultvfs.Loss{faultvfs.All, faultvfs.Some} {
				after := t.TempDir()
				require.NoError(t, os.Mkdir(filepath.Join(after, "archive"), 0o700))
				mark := rec.Crash(t, at, loss, rng, after)
				again := &archiveTrial{t: t, dir: filepath.Join(after, "archive"), disk: files.System{}, told: uint64(max(mark, 0))}
				func() {
					defer func() {
						if t.Failed() {
							t.Logf("sync %d had failed, after event %d of %d; the power went after event %d, lost: %v", n, died, total, at, loss)
						}
					}()
					again.finish()
				}()
				tried++
			}
		}
	}
	require.Greater(t, tried, 100)
	t.Logf("the power was cut %d times", tried)
}

package sink

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/queue/queuetest"
	"github.com/dataflowsync/dfs/sink/sinktest"
)

// An archive keeps the contract of a sink: what a reader sees of the table is what
// its transactions make.
func TestArchiveIsASink(t *testing.T) {
	sinktest.Run(t, "shop", func(t *testing.T) sinktest.Target {
		dir := t.TempDir()
		return sinktest.Target{
			Open: func(tb testing.TB) dfs.Sink {
				a, err := OpenArchive(dir, &ArchiveOptions{SegmentBytes: 4 << 10, Logger: quiet})
				require.NoError(tb, err)
				return a
			},
			Rows: func(tb testing.TB) []sinktest.Row {
				rows := make(map[int64]sinktest.Row)
				for _, tx := range archived(tb, dir, nil) {
					for _, c := range tx.Changes {
						if c.Before != nil {
							delete(rows, c.Before[0].Int())
						}
						if r := c.After; r != nil {
							rows[r[0].Int()] = sinktest.Row{ID: r[0].Int(), Name: r[1].Text(), N: r[2].Int()}
						}
					}
				}
				var list []sinktest.Row
				for _, r := range rows {
					list = append(list, r)
				}
				slices.SortFunc(list, func(a, b sinktest.Row) int { return int(a.ID - b.ID) })
				return list
			},
		}
	})
}

func TestArchiveIsAQueue(t *testing.T) {
	for name, o := range map[string]ArchiveOptions{
		"plain":                         {},
		"small segments, and encrypted": {SegmentBytes: 3000, Key: bytes.Repeat([]byte{7}, 32)},
	} {
		t.Run(name, func(t *testing.T) {
			queuetest.Run(t, func(t *testing.T, dir string) dfs.Queue {
				o := o
				o.Logger = quiet
				a, err := OpenArchive(dir, &o)
				require.NoError(t, err)
				return a
			})
		})
	}
}

var quiet = slog.New(slog.DiscardHandler)

// openArchive opens an archive that is closed when the test ends.
func openArchive(tb testing.TB, dir string, o ArchiveOptions) *Archive {
	tb.Helper()
	if o.Logger == nil {
		o.Logger = quiet
	}
	a, err := OpenArchive(dir, &o)
	require.NoError(tb, err)
	tb.Cleanup(func() { a.Close() })
	return a
}

// archived returns all that an archive holds, as another process reads it.
func archived(tb testing.TB, dir string, key []byte) (all []*dfs.Transaction) {
	tb.Helper()
	if names, _ := filepath.Glob(filepath.Join(dir, "segment-*")); len(names) == 0 {
		return nil
	}
	a, err := OpenArchive(dir, &ArchiveOptions{ReadOnly: true, Key: key, Logger: quiet})
	require.NoError(tb, err)
	defer a.Close()
	s, err := a.Open(context.Background(), dfs.Checkpoint{Seq: a.Stats().First - 1})
	require.NoError(tb, err)
	defer s.Close()
	batch := make([]*dfs.Transaction, 100)
	for {
		n, err := s.Next(context.Background(), batch)
		if err == io.EOF {
			return all
		}
		require.NoError(tb, err)
		all = append(all, batch[:n]...)
	}
}

// logged returns a transaction as a source encodes it.
func logged(seq uint64, size int) *dfs.Transaction {
	return &dfs.Transaction{
		Checkpoint: dfs.Checkpoint{Seq: seq, Pos: dfs.Position(fmt.Sprintf("gtid 3e11fa47 3e11fa47:1-%d binlog.1:%d", seq, seq*100))},
		ID:         fmt.Sprintf("3e11fa47-71ca-11e1-9e33-c80aa9429562:%d", seq),
		Committed:  time.UnixMicro(1_800_000_000_000_000 + int64(seq)*1000).UTC(),
		Encoded:    bytes.Repeat([]byte(fmt.Sprintf("row %d;", seq)), 1+size/8),
	}
}

func loggedRun(first uint64, n, size int) (txs []*dfs.Transaction) {
	for i := range n {
		txs = append(txs, logged(first+uint64(i), size))
	}
	return txs
}

// archiveChild goes on from where an archive stands, in batches and parts of varying
// length, and prints each number it may rely on.
func archiveChild(dir string) error {
	a, err := OpenArchive(dir, &ArchiveOptions{SegmentBytes: 60 << 10, Logger: quiet})
	if err != nil {
		return err
	}
	at, err := a.Checkpoint(context.Background())
	if err != nil {
		return err
	}
	for n, seq := 1, at.Seq; ; n = n*7%499 + 1 {
		batch := loggedRun(seq+1, n, 300)
		for i, tx := range batch {
			tx.More = n%5 == 0 && i < n-1
			if i == n-1 && n%3 == 0 {
				tx.State = fmt.Sprint("state ", tx.Seq)
			}
		}
		if n%10 == 0 {
			if err := a.Apply(context.Background(), batch[:n/2]); err != nil {
				return err
			}
			batch = batch[n/2:]
		}
		if err := a.Apply(context.Background(), batch); err != nil {
			return err
		}
		seq += uint64(n)
		fmt.Println(seq)
	}
}

// Invariant I8: what was acknowledged survives kill -9, without a gap or a repeat.
func TestArchiveSurvivesKill(t *testing.T) {
	dir := t.TempDir()
	var acked uint64
	rounds, sealed := *archiveKills, 0
	for round := 0; round < rounds || sealed < 2; round++ {
		require.Less(t, round, rounds+200, "nothing is sealed")
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "DFS_ARCHIVE_CHILD="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		// A child on a slow machine may not come far, and so the later ones get longer.
		time.AfterFunc(time.Duration(30+rand.IntN(200)+20*max(0, round-rounds))*time.Millisecond, func() { cmd.Process.Kill() })
		for lines := bufio.NewScanner(out); lines.Scan(); {
			_, err := fmt.Sscan(lines.Text(), &acked)
			require.NoError(t, err, lines.Text())
		}
		cmd.Wait()
		names, err := filepath.Glob(filepath.Join(dir, "segment-*.dfs"))
		require.NoError(t, err)
		sealed = len(names)
		if round%4 != 3 {
			continue // the next one goes on where this was cut
		}
		all := archived(t, dir, nil)
		require.GreaterOrEqual(t, uint64(len(all)), acked)
		for i, tx := range all {
			want := logged(uint64(i+1), 300)
			want.More, want.State = tx.More, tx.State
			require.Equal(t, want, tx)
		}
		a := openArchive(t, dir, ArchiveOptions{SegmentBytes: 60 << 10})
		at, err := a.Checkpoint(t.Context())
		require.NoError(t, err)
		require.Equal(t, uint64(len(all)), at.Seq)
		for i := len(all) - 1; i >= 0; i-- {
			if all[i].State != "" {
				require.Equal(t, all[i].State, at.State)
				break
			}
		}
		acked = at.Seq
		require.NoError(t, a.Close())
	}
	t.Logf("%d transactions, %d segments", acked, sealed)
}

// A power cut leaves any prefix of what was not yet confirmed, or garbage in its place.
func TestArchiveWithATornEndGoesOn(t *testing.T) {
	dir := t.TempDir()
	a := openArchive(t, dir, ArchiveOptions{})
	type ack struct {
		seq  uint64
		size int64
	}
	acks := []ack{{0, 0}}
	path := filepath.Join(dir, openName(1))
	for seq := uint64(0); seq < 300; {
		n := 1 + int(seq)%7
		require.NoError(t, a.Apply(t.Context(), loggedRun(seq+1, n, 100)))
		seq += uint64(n)
		info, err := os.Stat(path)
		require.NoError(t, err)
		acks = append(acks, ack{seq, info.Size()})
	}
	require.NoError(t, a.Close())
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 40 {
		cut := acks[1].size + rng.Int64N(int64(len(whole))-acks[1].size+1)
		torn := append([]byte(nil), whole[:cut]...)
		if i%2 == 1 {
			for range rng.IntN(5000) {
				torn = append(torn, byte(rng.Uint32()))
			}
		}
		copied := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(copied, openName(1)), torn, 0o600))
		want := acks[0].seq
		for _, a := range acks {
			if a.size <= cut {
				want = a.seq
			}
		}
		a := openArchive(t, copied, ArchiveOptions{})
		at, err := a.Checkpoint(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, at.Seq)
		require.NoError(t, a.Apply(t.Context(), loggedRun(want+1, 3, 100)))
		require.NoError(t, a.Close())
		require.Len(t, archived(t, copied, nil), int(want)+3)
	}
}

// What was confirmed and is damaged later is no torn end.
func TestArchiveTellsDamageFromATornEnd(t *testing.T) {
	dir := t.TempDir()
	a := openArchive(t, dir, ArchiveOptions{})
	for seq := uint64(1); seq < 100; seq += 10 {
		require.NoError(t, a.Apply(t.Context(), loggedRun(seq, 10, 100)))
	}
	require.NoError(t, a.Close())
	path := filepath.Join(dir, openName(1))
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	b[len(b)/2] ^= 1
	require.NoError(t, os.WriteFile(path, b, 0o600))
	_, err = OpenArchive(dir, nil)
	var damage *ArchiveError
	require.ErrorAs(t, err, &damage)
	require.ErrorContains(t, err, "what was stored after that")
}

func TestArchiveOfAnotherKeyIsRefusedInWords(t *testing.T) {
	key, other := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	for name, c := range map[string]struct {
		with, by []byte
		text     string
	}{
		"another":        {key, other, "another key"},
		"none":           {key, nil, "it is encrypted: give the key"},
		"one too many":   {nil, key, "not encrypted"},
		"the wrong size": {key, key[:31], "Key has 31 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			a := openArchive(t, dir, ArchiveOptions{Key: c.with})
			require.NoError(t, a.Apply(t.Context(), loggedRun(1, 10, 100)))
			require.NoError(t, a.Close())
			_, err := OpenArchive(dir, &ArchiveOptions{Key: c.by})
			require.ErrorContains(t, err, c.text)
			if len(c.by) != 31 {
				require.ErrorIs(t, err, ErrArchiveKey)
			}
			require.Len(t, archived(t, dir, c.with), 10)
		})
	}
}

// Nothing of an encrypted archive's rows, names or positions can be read.
func TestEncryptedArchiveShowsNothing(t *testing.T) {
	dir := t.TempDir()
	a := openArchive(t, dir, ArchiveOptions{Key: bytes.Repeat([]byte{1}, 32), SegmentBytes: 1000})
	for seq := uint64(1); seq < 100; seq += 10 {
		batch := loggedRun(seq, 10, 100)
		batch[9].State = "state of a table"
		require.NoError(t, a.Apply(t.Context(), batch))
	}
	require.NoError(t, a.Close())
	names, err := filepath.Glob(filepath.Join(dir, "segment-*"))
	require.NoError(t, err)
	require.Greater(t, len(names), 3)
	for _, name := range names {
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		for _, secret := range []string{"row ", "state", "3e11fa47", "binlog"} {
			require.NotContains(t, string(b), secret)
		}
	}
}

func TestArchiveReportsAllFaultsAtOnce(t *testing.T) {
	_, err := OpenArchive("", &ArchiveOptions{SegmentBytes: -1, KeepFor: -1, KeepBytes: -1})
	for _, text := range []string{"no folder", "SegmentBytes", "KeepFor", "KeepBytes"} {
		require.ErrorContains(t, err, text)
	}
	_, err = OpenArchive(t.TempDir(), &ArchiveOptions{ReadOnly: true})
	require.ErrorContains(t, err, "no segment is in the folder")
}

// A segment that is missing, foreign or renamed is named.
func TestArchiveNoticesMissingAndForeignSegments(t *testing.T) {
	fill := func(dir string) {
		a := openArchive(t, dir, ArchiveOptions{SegmentBytes: 1})
		for seq := uint64(1); seq < 100; seq += 20 {
			require.NoError(t, a.Apply(t.Context(), loggedRun(seq, 20, 100)))
		}
		require.NoError(t, a.Close())
	}
	one, two := t.TempDir(), t.TempDir()
	fill(one)
	fill(two)
	in := func(dir string, n uint64) string { return filepath.Join(dir, sealName(n)) }
	third, err := os.ReadFile(in(one, 3))
	require.NoError(t, err)
	refused := func(text string) {
		t.Helper()
		_, err := OpenArchive(one, nil)
		require.ErrorIs(t, err, dfs.ErrGap)
		require.ErrorContains(t, err, text)
	}
	require.NoError(t, os.Remove(in(one, 3)))
	refused("segments 3 to 3 are missing before it, with transactions 41 to 60")
	foreign, err := os.ReadFile(in(two, 3))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(in(one, 3), foreign, 0o600))
	refused("another archive")
	require.NoError(t, os.WriteFile(in(one, 3), third, 0o600))
	require.Len(t, archived(t, one, nil), 100)
	require.NoError(t, os.Rename(filepath.Join(one, openName(5)), filepath.Join(one, openName(9))))
	_, err = OpenArchive(one, nil)
	require.ErrorContains(t, err, "it is segment 5 under another name: call it segment-00000005.open")
}

// Small blocks are written anew when a segment is sealed, and what a crash leaves of
// that does no harm.
func TestArchiveWritesSmallBlocksAnew(t *testing.T) {
	dir := t.TempDir()
	a := openArchive(t, dir, ArchiveOptions{SegmentBytes: 100 << 10})
	s, err := a.Open(t.Context(), dfs.Checkpoint{})
	require.NoError(t, err)
	defer s.Close()
	next, batch := uint64(1), make([]*dfs.Transaction, 10)
	var before int64
	for seq := uint64(1); len(a.segs) < 2; seq++ {
		before = a.Stats().Bytes
		require.NoError(t, a.Apply(t.Context(), loggedRun(seq, 1, 100)))
		if seq%3 == 0 { // a reader that stands in the old form goes on in the new one
			n, err := s.Next(t.Context(), batch)
			require.NoError(t, err)
			for _, tx := range batch[:n] {
				require.Equal(t, logged(next, 100), tx)
				next++
			}
		}
	}
	require.Less(t, a.segs[0].size, before/3)
	require.Len(t, a.segs[0].records, 1)
	last := a.Stats().Last
	require.NoError(t, a.Close())
	for _, name := range []string{"new.tmp", "seal.tmp", openName(1)} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("half of it"), 0o600))
	}
	a = openArchive(t, dir, ArchiveOptions{})
	at, err := a.Checkpoint(t.Context())
	require.NoError(t, err)
	require.Equal(t, last, at.Seq)
	for _, name := range []string{"new.tmp", "seal.tmp", openName(1)} {
		require.NoFileExists(t, filepath.Join(dir, name))
	}
	require.Len(t, archived(t, dir, nil), int(last))
}

// Two archives on one folder in two processes: the one that claimed it last writes.
func TestArchiveTakenOverByAnotherIsAConflict(t *testing.T) {
	dir := t.TempDir()
	a, b := openArchive(t, dir, ArchiveOptions{}), openArchive(t, dir, ArchiveOptions{})
	require.NoError(t, a.Apply(t.Context(), loggedRun(1, 5, 10)))
	at, err := b.Checkpoint(t.Context())
	require.NoError(t, err)
	require.Equal(t, uint64(5), at.Seq)
	require.ErrorIs(t, a.Apply(t.Context(), loggedRun(6, 1, 10)), dfs.ErrConflict)
	_, err = a.Checkpoint(t.Context())
	require.ErrorIs(t, err, dfs.ErrConflict)
	require.True(t, errors.Is(a.Reset(t.Context(), dfs.Checkpoint{}), dfs.ErrConflict))
	require.NoError(t, b.Apply(t.Context(), loggedRun(6, 1, 10)))
}

// Parts of a transaction are not waited for, so a machine that fails may have lost the
// first of them and not the others. That is a torn end, and no damage.
func TestArchiveThatLostTheFirstOfManyPartsGoesOn(t *testing.T) {
	dir := t.TempDir()
	a := openArchive(t, dir, ArchiveOptions{})
	require.NoError(t, a.Apply(t.Context(), loggedRun(1, 10, 100)))
	safe := a.w.size
	for seq := uint64(11); seq < 15; seq++ {
		batch := loggedRun(seq, 1, 100)
		batch[0].More = true
		require.NoError(t, a.Apply(t.Context(), batch))
	}
	require.NoError(t, a.Close())
	path := filepath.Join(dir, openName(1))
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	clear(b[safe : safe+100])
	require.NoError(t, os.WriteFile(path, b, 0o600))
	a = openArchive(t, dir, ArchiveOptions{})
	at, err := a.Checkpoint(t.Context())
	require.NoError(t, err)
	require.Equal(t, uint64(10), at.Seq)
	require.NoError(t, a.Apply(t.Context(), loggedRun(11, 10, 100)))
	require.Len(t, archived(t, dir, nil), 20)
}

// What a crash has left is taken out of the way before anything is written, also when that
// succeeds at the second try only.
func TestArchiveThatCouldNotBeTakenOverIsNotWritten(t *testing.T) {
	dir := t.TempDir()
	a := openArchive(t, dir, ArchiveOptions{})
	require.NoError(t, a.Apply(t.Context(), loggedRun(1, 10, 100)))
	require.NoError(t, a.Close())
	left := filepath.Join(dir, "seal.tmp")
	require.NoError(t, os.MkdirAll(filepath.Join(left, "in the way"), 0o700))
	a = openArchive(t, dir, ArchiveOptions{})
	for range 2 {
		require.ErrorContains(t, a.Apply(t.Context(), loggedRun(11, 10, 100)), "remove what a crash has left")
	}
	require.NoError(t, os.RemoveAll(left))
	require.NoError(t, a.Apply(t.Context(), loggedRun(11, 10, 100)))
	require.NoError(t, a.Close())
	require.Len(t, archived(t, dir, nil), 20)
}

// Who reads finds each transaction while segments are sealed.
func TestArchiveIsReadWhileSegmentsAreSealed(t *testing.T) {
	a := openArchive(t, t.TempDir(), ArchiveOptions{SegmentBytes: 1})
	ctx := t.Context()
	require.NoError(t, a.Apply(ctx, loggedRun(1, 1, 10)))
	done := make(chan error, 1)
	go func() {
		for seq := uint64(2); seq < 200; seq++ {
			if err := a.Apply(ctx, loggedRun(seq, 1, 10)); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	batch := make([]*dfs.Transaction, 1)
	for {
		at := a.End()
		s, err := a.Open(ctx, dfs.Checkpoint{Seq: at.Seq - 1})
		require.NoError(t, err)
		_, err = s.Next(ctx, batch)
		require.NoError(t, err)
		require.Equal(t, at.Pos, batch[0].Pos)
		require.NoError(t, s.Close())
		select {
		case err := <-done:
			require.NoError(t, err)
			return
		default:
		}
	}
}

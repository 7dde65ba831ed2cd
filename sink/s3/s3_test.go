package s3_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/queue/queuetest"
	"github.com/dataflowsync/dfs/sink"
	"github.com/dataflowsync/dfs/sink/s3"
)

// A server is one of S3's protocol on loopback, which can be down, and which can be
// one that does not know conditional writes.
type server struct {
	*httptest.Server
	backend *s3mem.Backend
	down    atomic.Bool
	blind   atomic.Bool
	refuse  atomic.Bool  // copies
	bytes   atomic.Int64 // that were sent to it
}

func serve(t *testing.T) *server {
	s := &server{backend: s3mem.New()}
	h := gofakes3.New(s.backend, gofakes3.WithLogger(gofakes3.DiscardLog())).Server()
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.down.Load() {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		if s.refuse.Load() && r.Header.Get("X-Amz-Copy-Source") != "" {
			http.Error(w, "busy", http.StatusServiceUnavailable)
			return
		}
		if s.blind.Load() {
			r.Header.Del("If-None-Match")
		}
		if r.ContentLength > 0 {
			s.bytes.Add(r.ContentLength)
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	require.NoError(t, s.backend.CreateBucket("backups"))
	return s
}

var options = &s3.Options{AccessKey: "AKIAEXAMPLE", SecretKey: "wJalrXUtnFEMI"}

func (s *server) address(prefix string) string {
	return "s3://backups/" + prefix + "?region=us-east-1&endpoint=" + s.URL
}

func (s *server) store(t testing.TB, prefix string) *s3.Store {
	store, err := s3.Open(t.Context(), s.address(prefix), options)
	require.NoError(t, err)
	return store
}

var quiet = slog.New(slog.DiscardHandler)

func open(t testing.TB, dir string, o sink.ArchiveOptions) *sink.Archive {
	o.Logger = quiet
	a, err := sink.OpenArchive(dir, &o)
	require.NoError(t, err)
	t.Cleanup(func() { a.Close() })
	return a
}

// fill applies transactions of a few hundred bytes that do not compress.
func fill(t testing.TB, a *sink.Archive, from, to uint64) {
	for seq := from; seq <= to; seq++ {
		require.NoError(t, a.Apply(t.Context(), []*dfs.Transaction{transaction(seq)}))
	}
}

func transaction(seq uint64) *dfs.Transaction {
	body := make([]byte, 400)
	x := seq*2862933555777941757 + 3037000493
	for i := range body {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		body[i] = byte(x)
	}
	return &dfs.Transaction{Checkpoint: dfs.Checkpoint{Seq: seq, Pos: dfs.Position(fmt.Sprint("at ", seq))}, ID: fmt.Sprint("tx ", seq), Encoded: body}
}

// holds requires that an archive gives back the transactions from first to last.
func holds(t testing.TB, a *sink.Archive, first, last uint64) {
	t.Helper()
	seq := first
	require.NoError(t, a.Each(t.Context(), dfs.StopPoint{}, dfs.StopPoint{}, nil, func(tx *dfs.Transaction) error {
		want := transaction(seq)
		if tx.Seq != seq || tx.ID != want.ID || string(tx.Encoded) != string(want.Encoded) {
			return fmt.Errorf("transaction %d is not what it was", seq)
		}
		seq++
		return nil
	}))
	require.Equal(t, last+1, seq)
}

func (s *server) names(t testing.TB, prefix string) (list []string) {
	all, err := s.store(t, prefix).List(t.Context())
	require.NoError(t, err)
	for _, o := range all {
		list = append(list, o.Name)
	}
	return list
}

func local(t testing.TB, dir string) (list []string) {
	names, err := filepath.Glob(filepath.Join(dir, "segment-*"))
	require.NoError(t, err)
	for _, n := range names {
		list = append(list, filepath.Base(n))
	}
	return list
}

func TestArchiveInABucketIsAQueue(t *testing.T) {
	s := serve(t)
	queuetest.Run(t, func(t *testing.T, dir string) dfs.Queue {
		a, err := sink.OpenArchive(dir, &sink.ArchiveOptions{SegmentBytes: 3000, Logger: quiet, Store: s.store(t, strings.ReplaceAll(dir, "/", "-"))})
		require.NoError(t, err)
		return a
	})
}

// Sealed segments are in the bucket and nowhere else, and from there the archive goes on
// when its folder is lost.
func TestAnArchiveOutlivesItsFolder(t *testing.T) {
	s := serve(t)
	dir := t.TempDir()
	a := open(t, dir, sink.ArchiveOptions{SegmentBytes: 4 << 10, Store: s.store(t, "shop")})
	fill(t, a, 1, 95)
	holds(t, a, 1, 95)
	require.Len(t, local(t, dir), 1)
	stored := s.names(t, "shop")
	require.Greater(t, len(stored), 5)
	list, _ := a.List()
	sealed := list[len(list)-2].Last
	require.NoError(t, a.Close())

	// Who reads needs no folder, and sees what is sealed.
	r, err := sink.OpenArchive("", &sink.ArchiveOptions{ReadOnly: true, Store: s.store(t, "shop"), Logger: quiet})
	require.NoError(t, err)
	defer r.Close()
	holds(t, r, 1, sealed)
	seq, err := r.Find(t.Context(), "tx 40")
	require.NoError(t, err)
	require.EqualValues(t, 40, seq)
	report, err := sink.VerifyArchive(t.Context(), "", &sink.VerifyArchiveOptions{Store: s.store(t, "shop")})
	require.NoError(t, err)
	require.Empty(t, report.Faults)
	require.Equal(t, sealed, report.Transactions)

	// With its folder it goes on with the last, and without it with what is sealed.
	a = open(t, dir, sink.ArchiveOptions{SegmentBytes: 4 << 10, Store: s.store(t, "shop")})
	at, err := a.Checkpoint(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 95, at.Seq)
	require.NoError(t, a.Close())
	other := t.TempDir()
	b := open(t, other, sink.ArchiveOptions{SegmentBytes: 4 << 10, Store: s.store(t, "shop")})
	at, err = b.Checkpoint(t.Context())
	require.NoError(t, err)
	require.Equal(t, dfs.Checkpoint{Seq: sealed, Pos: dfs.Position(fmt.Sprint("at ", sealed))}, at)
	fill(t, b, sealed+1, 120)
	holds(t, b, 1, 120)

	// The first folder comes back: it must not continue what another has.
	a, err = sink.OpenArchive(dir, &sink.ArchiveOptions{SegmentBytes: 4 << 10, Store: s.store(t, "shop"), Logger: quiet})
	require.NoError(t, err)
	defer a.Close()
	_, err = a.Checkpoint(t.Context())
	require.ErrorIs(t, err, dfs.ErrConflict)
	require.ErrorContains(t, err, "continued from another folder")
	holds(t, b, 1, 120)
}

// Two writers with folders of their own: the one that stores a segment first goes on,
// and the other stops before anything is replaced.
func TestTwoWritersOfABucket(t *testing.T) {
	s := serve(t)
	a := open(t, t.TempDir(), sink.ArchiveOptions{SegmentBytes: 4 << 10, Store: s.store(t, "two")})
	fill(t, a, 1, 30)
	b := open(t, t.TempDir(), sink.ArchiveOptions{SegmentBytes: 4 << 10, Store: s.store(t, "two")})
	at, err := b.Checkpoint(t.Context())
	require.NoError(t, err)
	fill(t, b, at.Seq+1, 60)
	seq := uint64(31)
	for err = error(nil); err == nil && seq < 100; seq++ {
		err = a.Apply(t.Context(), []*dfs.Transaction{transaction(seq)})
	}
	require.ErrorIs(t, err, dfs.ErrConflict)
	holds(t, b, 1, 60)
}

// While the server is down Apply fails as what may pass, and nothing is lost or stored
// twice afterwards; also by a process that ended in between.
func TestTheServerIsDown(t *testing.T) {
	for _, restart := range []bool{false, true} {
		s := serve(t)
		dir := t.TempDir()
		o := sink.ArchiveOptions{SegmentBytes: 4 << 10, Store: s.store(t, "down")}
		a := open(t, dir, o)
		fill(t, a, 1, 3)
		s.down.Store(true)
		seq := uint64(4)
		var err error
		for ; err == nil; seq++ {
			err = a.Apply(t.Context(), []*dfs.Transaction{transaction(seq)})
		}
		seq--
		require.ErrorIs(t, err, dfs.ErrTransient)
		require.ErrorContains(t, err, "s3://backups/down")
		require.NotContains(t, err.Error(), options.SecretKey)
		err = a.Apply(t.Context(), []*dfs.Transaction{transaction(seq)})
		require.ErrorIs(t, err, dfs.ErrTransient)
		s.down.Store(false)
		if restart {
			require.NoError(t, a.Close())
			a = open(t, dir, o)
			at, err := a.Checkpoint(t.Context())
			require.NoError(t, err)
			require.Equal(t, seq-1, at.Seq)
		}
		fill(t, a, seq, 60)
		holds(t, a, 1, 60)
		require.Len(t, local(t, dir), 1)
	}
}

// A process ends after a segment was stored and before it is gone from the folder.
func TestWhatIsStoredAlreadyIsNotStoredAgain(t *testing.T) {
	s := serve(t)
	dir := t.TempDir()
	a := open(t, dir, sink.ArchiveOptions{SegmentBytes: 4 << 10})
	fill(t, a, 1, 60)
	require.NoError(t, a.Close())
	names := local(t, dir)
	require.Greater(t, len(names), 4)
	store := s.store(t, "again")
	for _, n := range names[:2] {
		f, err := os.Open(filepath.Join(dir, n))
		require.NoError(t, err)
		info, err := f.Stat()
		require.NoError(t, err)
		require.NoError(t, store.Put(t.Context(), n, f, info.Size()))
		require.NoError(t, f.Close())
	}
	// An archive that was without a store moves there.
	a = open(t, dir, sink.ArchiveOptions{SegmentBytes: 4 << 10, Store: store})
	fill(t, a, 61, 90)
	holds(t, a, 1, 90)
	require.Len(t, local(t, dir), 1)
}

// One flipped byte of an object is found, named, and never decoded.
func TestDamageInABucketIsNamed(t *testing.T) {
	s := serve(t)
	a := open(t, t.TempDir(), sink.ArchiveOptions{SegmentBytes: 4 << 10, Store: s.store(t, "hurt")})
	fill(t, a, 1, 60)
	require.NoError(t, a.Close())
	const name = "segment-00000002.dfs"
	store := s.store(t, "hurt")
	list, err := store.List(t.Context())
	require.NoError(t, err)
	for _, o := range list {
		if o.Name != name {
			continue
		}
		b := make([]byte, o.Size)
		_, err := store.ReadAt(t.Context(), name, b, 0)
		require.NoError(t, err)
		b[len(b)/2] ^= 1
		_, err = s.backend.PutObject("backups", "hurt/"+name, map[string]string{}, strings.NewReader(string(b)), int64(len(b)), nil)
		require.NoError(t, err)
	}
	report, err := sink.VerifyArchive(t.Context(), "", &sink.VerifyArchiveOptions{Store: store})
	require.NoError(t, err)
	require.NotEmpty(t, report.Faults)
	require.ErrorContains(t, report.Faults[0], name)
	r, err := sink.OpenArchive("", &sink.ArchiveOptions{ReadOnly: true, Store: store, Logger: quiet})
	require.NoError(t, err)
	defer r.Close()
	err = r.Each(t.Context(), dfs.StopPoint{}, dfs.StopPoint{}, nil, func(*dfs.Transaction) error { return nil })
	var damage *sink.ArchiveError
	require.ErrorAs(t, err, &damage)
	require.Equal(t, name, damage.File)

	// A segment that is missing is a gap, and a server that is down no damage.
	require.NoError(t, store.Delete(t.Context(), name))
	_, err = sink.OpenArchive("", &sink.ArchiveOptions{ReadOnly: true, Store: store, Logger: quiet})
	require.ErrorIs(t, err, dfs.ErrGap)
	s.down.Store(true)
	_, err = sink.VerifyArchive(t.Context(), "", &sink.VerifyArchiveOptions{Store: store})
	require.ErrorIs(t, err, dfs.ErrTransient)
	require.False(t, errors.As(err, &damage))
}

// Reset sets the segments of the bucket aside, and what is not to be kept is deleted there.
func TestResetAndKeepInABucket(t *testing.T) {
	s := serve(t)
	o := sink.ArchiveOptions{SegmentBytes: 4 << 10, Store: s.store(t, "keep"), KeepBytes: 1}
	a := open(t, t.TempDir(), o)
	fill(t, a, 1, 40)
	before := len(s.names(t, "keep"))
	require.NoError(t, a.Reset(t.Context(), dfs.Checkpoint{Seq: 100, Pos: "at 100"}))
	require.Len(t, s.names(t, "keep/aside-1"), before)
	fill(t, a, 101, 140)
	require.Len(t, s.names(t, "keep/aside-1"), before)
	require.NoError(t, a.Baseline(t.Context(), nil))
	tx := transaction(141)
	tx.Snapshot, tx.Copied, tx.ID = true, true, "snapshot all"
	require.NoError(t, a.Apply(t.Context(), []*dfs.Transaction{tx}))
	list, bases := a.List()
	require.Len(t, bases, 1)
	require.NotZero(t, bases[0].Done)
	for seq := uint64(142); seq < 160; seq++ {
		require.NoError(t, a.Apply(t.Context(), []*dfs.Transaction{transaction(seq)}))
	}
	after, _ := a.List()
	require.Less(t, list[0].First, after[0].First)
	for _, name := range s.names(t, "keep") {
		require.True(t, strings.HasPrefix(name, "aside-") || name >= after[0].File, name)
	}
}

func TestAddressesAndRights(t *testing.T) {
	s := serve(t)
	for _, c := range [][2]string{
		{"https://backups/shop", "write s3://bucket/prefix"},
		{"s3:///shop", "write s3://bucket/prefix"},
		{"s3://AKIA:secretkey@backups/shop", "without credentials"},
		{"s3://backups/shop?regoin=x", `"regoin"`},
		{"s3://backups/shop?endpoint=localhost:9000", "write https://host:port"},
		{"s3://backups/shop?path_style=maybe", "path_style"},
		{"s3://nothing/shop?region=us-east-1&endpoint=" + s.URL, "no such bucket"},
	} {
		_, err := s3.Open(t.Context(), c[0], options)
		require.ErrorContains(t, err, c[1])
		require.NotContains(t, err.Error(), "secretkey")
	}
	_, err := s3.Open(t.Context(), s.address("x"), &s3.Options{AccessKey: "one"})
	require.ErrorContains(t, err, "secret key is missing")

	// Who replaces objects in silence cannot hold an archive, but can be read.
	s.blind.Store(true)
	_, err = s3.Open(t.Context(), s.address("x"), options)
	require.ErrorContains(t, err, "If-None-Match")
	readOnly := *options
	readOnly.ReadOnly = true
	_, err = s3.Open(t.Context(), s.address("x"), &readOnly)
	require.NoError(t, err)
	s.blind.Store(false)
	require.Empty(t, s.names(t, "x"))

	store := s.store(t, "y")
	require.NoError(t, store.Put(t.Context(), "a", strings.NewReader("first"), 5))
	require.ErrorIs(t, store.Put(t.Context(), "a", strings.NewReader("other"), 5), fs.ErrExist)
	b := make([]byte, 10)
	n, err := store.ReadAt(t.Context(), "a", b, 1)
	require.ErrorIs(t, err, io.EOF)
	require.Equal(t, "irst", string(b[:n]))
	_, err = store.ReadAt(t.Context(), "none", b, 0)
	require.ErrorIs(t, err, fs.ErrNotExist)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = store.List(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

// A segment that is in the folder and in the bucket, as a process leaves it that is killed
// in between, is set aside from both.
func TestResetOfASegmentThatIsInBothPlaces(t *testing.T) {
	s := serve(t)
	dir := t.TempDir()
	o := sink.ArchiveOptions{SegmentBytes: 4 << 10, Store: s.store(t, "both")}
	a := open(t, dir, o)
	fill(t, a, 1, 40)
	require.NoError(t, a.Close())
	stored := s.names(t, "both")
	require.Greater(t, len(stored), 2)
	list, err := o.Store.List(t.Context())
	require.NoError(t, err)
	for _, x := range list {
		b := make([]byte, x.Size)
		_, err := o.Store.ReadAt(t.Context(), x.Name, b, 0)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, x.Name), b, 0o600))
	}
	a = open(t, dir, o)
	require.NoError(t, a.Reset(t.Context(), dfs.Checkpoint{Seq: 100, Pos: "at 100"}))
	for _, name := range s.names(t, "both") {
		require.True(t, strings.HasPrefix(name, "aside-1/"), name)
	}
	fill(t, a, 101, 140)
	require.NoError(t, a.Close())
	a = open(t, dir, o)
	holds(t, a, 101, 140)
}

// What a Reset has moved before the server went away is not there any more, so nothing
// is written behind it.
func TestAResetThatIsBrokenOff(t *testing.T) {
	s := serve(t)
	dir := t.TempDir()
	o := sink.ArchiveOptions{SegmentBytes: 4 << 10, Store: s.store(t, "torn")}
	a := open(t, dir, o)
	fill(t, a, 1, 40)
	at, err := a.Checkpoint(t.Context())
	require.NoError(t, err)
	before := len(s.names(t, "torn"))
	s.refuse.Store(true)
	require.ErrorIs(t, a.Reset(t.Context(), dfs.Checkpoint{Seq: 100, Pos: "at 100"}), dfs.ErrTransient)
	s.refuse.Store(false)
	now, err := a.Checkpoint(t.Context())
	require.NoError(t, err)
	require.Less(t, now.Seq, at.Seq)
	fill(t, a, now.Seq+1, 60)
	require.NoError(t, a.Close())
	a = open(t, dir, o)
	holds(t, a, 1, 60)
	require.GreaterOrEqual(t, len(s.names(t, "torn")), before)
}

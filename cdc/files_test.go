package cdc

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
)

// A logWriter writes binary log files event by event.
type logWriter struct {
	b   []byte
	sum bool
}

// newLog begins a file as a server of the version would.
func newLog(version string, sum bool) *logWriter {
	w := &logWriter{b: []byte(logMagic), sum: sum}
	body := append([]byte{4, 0}, version...)
	body = append(body, make([]byte, 2+50+4-len(body))...)
	lengths := make([]byte, 42)
	for _, p := range postHeaders {
		lengths[p.kind-1] = p.length
	}
	body = append(append(body, headerLen), lengths...)
	body = append(body, 0)
	if sum {
		body[len(body)-1] = 1
	}
	w.add(evFormat, body)
	return w
}

// add appends an event of server 1.
func (w *logWriter) add(kind byte, body []byte) *logWriter {
	e := append(make([]byte, headerLen), body...)
	size := len(e)
	if w.sum || kind == evFormat {
		size += 4
	}
	e[4], e[5] = kind, 1
	binary.LittleEndian.PutUint32(e[9:], uint32(size))
	binary.LittleEndian.PutUint32(e[13:], uint32(len(w.b)+size))
	if w.sum || kind == evFormat {
		e = binary.LittleEndian.AppendUint32(e, crc32.ChecksumIEEE(e))
	}
	w.b = append(w.b, e...)
	return w
}

// gtid appends a GTID event of MySQL.
func (w *logWriter) gtid(n uint64) *logWriter {
	uuid, _ := parseUUID(uuid1)
	return w.add(evGTID, binary.LittleEndian.AppendUint64(append([]byte{1}, uuid[:]...), n))
}

// ddl appends a statement, with a GTID in front unless n is 0.
func (w *logWriter) ddl(n uint64, text string) *logWriter {
	if n > 0 {
		w.gtid(n)
	}
	return w.add(evQuery, []byte(queryBody("d", text)))
}

// before appends MySQL's previous-GTIDs event: 1 to n.
func (w *logWriter) before(n uint64) *logWriter {
	set := new(gtidSet)
	if n > 0 {
		uuid, _ := parseUUID(uuid1)
		set.sid(uuid, "").add(span{1, n})
	}
	return w.add(evPreviousGTIDs, set.encode())
}

// rotate ends the file.
func (w *logWriter) rotate(next string) *logWriter {
	return w.add(evRotate, append(binary.LittleEndian.AppendUint64(nil, 4), next...))
}

// folder writes files.
func folder(t testing.TB, files map[string]*logWriter) string {
	dir := t.TempDir()
	for name, w := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), w.b, 0o644))
	}
	return dir
}

// readFiles returns the statements in files, where reading ended, and why, which
// is nil for the end of the files.
func readFiles(t testing.TB, o *Options, from dfs.Position, paths ...string) (said []string, at dfs.Position, err error) {
	if o == nil {
		o = new(Options)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	src, err := OpenFiles(t.Context(), paths, o)
	if err != nil {
		return nil, "", err
	}
	defer src.Close()
	st, err := src.Open(t.Context(), dfs.Checkpoint{Pos: from})
	if err != nil {
		return nil, "", err
	}
	defer st.Close()
	batch := make([]*dfs.Transaction, 10)
	for {
		n, err := st.Next(t.Context(), batch)
		if err == io.EOF {
			return said, at, nil
		}
		if err == nil {
			err = src.Decode(t.Context(), batch[:n])
		}
		if err != nil {
			return said, at, err
		}
		for _, tx := range batch[:n] {
			at = tx.Pos
			for _, c := range tx.Changes {
				said = append(said, strings.TrimPrefix(c.Query, "CREATE TABLE "))
			}
		}
	}
}

// pair is a log of two files with three statements.
func pair(sum bool) map[string]*logWriter {
	return map[string]*logWriter{
		"b.000001": newLog("9.7.4", sum).before(0).ddl(1, "CREATE TABLE a (i int)").ddl(2, "CREATE TABLE b (i int)").rotate("b.000002"),
		"b.000002": newLog("9.7.4", sum).before(2).ddl(3, "CREATE TABLE c (i int)"),
	}
}

var all3 = []string{"a (i int)", "b (i int)", "c (i int)"}

func TestFilesComeInTheOrderOfTheirNumbers(t *testing.T) {
	dir := folder(t, pair(true))
	a, b := filepath.Join(dir, "b.000001"), filepath.Join(dir, "b.000002")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "b.index"), []byte("/var/lib/mysql/b.000001\n./b.000002\n\n"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "error.000003"), []byte("no log"), 0o644))
	for _, paths := range [][]string{{dir}, {b, a}, {filepath.Join(dir, "b.index")}} {
		said, at, err := readFiles(t, nil, "", paths...)
		require.NoError(t, err)
		require.Equal(t, all3, said)
		require.Equal(t, "gtid 1 "+uuid1+":1-3 b.000002:", string(at)[:len(at)-3])
	}
	for start, want := range map[string][]string{
		"gtid:" + uuid1 + ":1":   all3[1:],
		"gtid:" + uuid1 + ":2-3": all3[:1],
		"file:b.000002:4":        all3[2:],
	} {
		said, _, err := readFiles(t, &Options{Start: start}, "", dir)
		require.NoError(t, err, start)
		require.Equal(t, want, said, start)
	}
}

func TestNumbersBeyondSixDigits(t *testing.T) {
	dir := folder(t, map[string]*logWriter{
		"b.999999":  newLog("9.7.4", true).before(0).ddl(1, "CREATE TABLE a (i int)").rotate("b.1000000"),
		"b.1000000": newLog("9.7.4", true).before(1).ddl(2, "CREATE TABLE b (i int)"),
	})
	said, _, err := readFiles(t, nil, "", dir)
	require.NoError(t, err)
	require.Equal(t, all3[:2], said)
}

func TestMissingFilesAreNoticed(t *testing.T) {
	three := pair(true)
	three["b.000002"].rotate("b.000003")
	three["b.000003"] = newLog("9.7.4", true).before(3).ddl(4, "CREATE TABLE d (i int)")
	whole := folder(t, three)
	delete(three, "b.000002")
	gap := folder(t, three)
	_, _, err := readFiles(t, &Options{Start: "gtid:" + uuid1 + ":1"}, "", gap)
	require.ErrorContains(t, err, "no file between b.000001 and b.000003")
	said, _, err := readFiles(t, &Options{Start: "gtid:" + uuid1 + ":1-3"}, "", gap)
	require.NoError(t, err, "the gap is before the place to begin at")
	require.Equal(t, []string{"d (i int)"}, said)

	// Under names without numbers, only GTIDs tell.
	for name, w := range three {
		require.NoError(t, os.WriteFile(filepath.Join(gap, name+".bak"), w.b, 0o644))
	}
	said, _, err = readFiles(t, nil, "", filepath.Join(gap, "b.000001.bak"), filepath.Join(gap, "b.000003.bak"))
	require.ErrorIs(t, err, ErrPurged)
	require.ErrorContains(t, err, uuid1+":3")
	require.Equal(t, all3[:2], said)

	// Files that were removed since they were read are not needed; those before
	// which something is missing cannot be gone on from.
	_, at, err := readFiles(t, nil, "", filepath.Join(whole, "b.000001"))
	require.NoError(t, err)
	require.NoError(t, os.Remove(filepath.Join(whole, "b.000001")))
	said, _, err = readFiles(t, nil, at, whole)
	require.NoError(t, err)
	require.Equal(t, []string{"c (i int)", "d (i int)"}, said)
	require.NoError(t, os.Remove(filepath.Join(whole, "b.000002")))
	_, _, err = readFiles(t, nil, at, whole)
	require.ErrorIs(t, err, ErrPurged)
	require.ErrorContains(t, err, uuid1+":3")
	var setup *SetupError
	_, _, err = readFiles(t, &Options{Start: "gtid:" + uuid1 + ":1-2"}, "", whole)
	require.ErrorAs(t, err, &setup, "without a checkpoint it is the start that is wrong")

	// A server that was reset has begun again.
	_, _, err = readFiles(t, nil, dfs.Position("gtid 1 "+uuid1+":1-40 b.000009:4"), folder(t, pair(true)))
	require.ErrorIs(t, err, ErrDiverged)
	require.ErrorContains(t, err, uuid1+":4-40")
}

func TestPositionsInFilesWithoutGTIDs(t *testing.T) {
	one := newLog("5.5.60-log", false)
	one.ddl(0, "CREATE TABLE a (i int)")
	between := len(one.b)
	one.ddl(0, "CREATE TABLE b (i int)").rotate("b.000002")
	files := map[string]*logWriter{"b.000001": one, "b.000002": newLog("5.5.60-log", false).ddl(0, "CREATE TABLE c (i int)")}
	dir := folder(t, files)
	said, at, err := readFiles(t, nil, "", dir)
	require.NoError(t, err)
	require.Equal(t, all3, said)
	require.Equal(t, "file 1 - b.000002:", string(at)[:18])

	pos := func(file string, off int) dfs.Position {
		return dfs.Position((&position{kind: byFile, server: "1", file: file, pos: uint64(off)}).String())
	}
	said, _, err = readFiles(t, nil, pos("b.000001", between), dir)
	require.NoError(t, err)
	require.Equal(t, all3[1:], said)
	for p, want := range map[dfs.Position]error{
		pos("b.000001", between+1):     ErrDiverged, // inside an event
		pos("b.000001", len(one.b)+1):  ErrDiverged,
		pos("b.000003", 4):             ErrDiverged,
		pos("b.000000", 4):             ErrPurged,
		"file 2 - b.000001:4":          ErrDiverged,
		"mariadb 1 0-1-2 b.000001:200": nil,
	} {
		_, _, err = readFiles(t, nil, p, dir)
		require.Error(t, err, p)
		if want != nil {
			require.ErrorIs(t, err, want, p)
		}
	}

	// A file that does not end as a file does may lack what was written later.
	files["b.000001"].b = one.b[:between]
	dir = folder(t, files)
	said, _, err = readFiles(t, nil, "", dir)
	var bad *EventError
	require.ErrorAs(t, err, &bad)
	require.Equal(t, all3[:1], said)
	require.Contains(t, bad.What, "ends without the event that ends it")
	said, _, err = readFiles(t, &Options{Start: bad.After}, "", dir)
	require.NoError(t, err)
	require.Equal(t, all3[2:], said)
}

func TestEndOfTheLastFile(t *testing.T) {
	w := pair(true)["b.000001"]
	upTo := func(b []byte, o *Options) (int, error) {
		path := filepath.Join(t.TempDir(), "b.000001")
		require.NoError(t, os.WriteFile(path, b, 0o644))
		said, _, err := readFiles(t, o, "", path)
		return len(said), err
	}
	var log strings.Builder
	o := &Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}
	n, err := upTo(w.b, o)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.NotContains(t, log.String(), "WARN")
	began := false
	for i := range w.b {
		log.Reset()
		n, err := upTo(w.b[:i], o)
		if !began && err != nil {
			continue // not even its head is there
		}
		began = true
		require.NoError(t, err, "cut at %d", i)
		require.LessOrEqual(t, n, 2)
	}
	require.True(t, began)
}

func TestEveryFlippedBitOfAFileIsNoticed(t *testing.T) {
	for _, sum := range []bool{true, false} {
		whole := newLog("9.7.4", sum).before(0).ddl(1, "CREATE TABLE a (i int)").ddl(2, "CREATE TABLE b (i int)").rotate("b.000002")
		path := filepath.Join(t.TempDir(), "b.000001")
		for bit := 0; bit < len(whole.b)*8; bit += 1 + bit%3 {
			b := bytes.Clone(whole.b)
			b[bit/8] ^= 1 << (bit % 8)
			require.NoError(t, os.WriteFile(path, b, 0o644))
			said, _, err := readFiles(t, nil, "", path)
			if err != nil {
				mustBeTyped(t, err)
			} else if sum && bit != (4+17)*8 { // but for the flag that a server unsets when it closes the file
				t.Fatalf("bit %d of byte %d flipped, and %q was read", bit%8, bit/8, said)
			}
		}
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	good := newLog("9.7.4", true).ddl(0, "CREATE TABLE a (i int)")
	encrypted := newLog("10.11.18-MariaDB", true).add(evStartEncryption, make([]byte, 17))
	old := newLog("5.1.3-alpha", false)
	old.b[4+headerLen+57+evTableMap-1] = 6
	long := newLog("9.9.9", false)
	long.b[4+headerLen+57+evWriteRows2-1] = 12
	for _, w := range []*logWriter{old, long} {
		end := len(w.b) - 4
		binary.LittleEndian.PutUint32(w.b[end:], crc32.ChecksumIEEE(w.b[4:end]))
	}
	v3 := append([]byte(logMagic), make([]byte, 75)...)
	v3[4+4], v3[4+9] = startV3, 75
	for want, b := range map[string][]byte{
		"is encrypted (binlog_encryption)":  []byte(logMagicCipher + "xxxxxxxxxxxxxxxxxxxxxxxx"),
		"is encrypted (encrypt_binlog)":     encrypted.b,
		"is no binary log":                  []byte("<html></html>"),
		"form of MySQL before 5.0":          v3,
		"older than MySQL 5.1.4":            old.b,
		"does not begin with a format":      append([]byte(logMagic), good.b[4+120:]...),
		"in a form that is not known":       long.b,
		"even hold a format description":    good.b[:40],
		"format version 3":                  bytes.Replace(bytes.Clone(good.b), []byte{4, 0, '9'}, []byte{3, 0, '9'}, 1),
		"claims to have 3 bytes":            append(bytes.Clone(good.b), 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0),
		"rows of table id 0 come without a": newLog("9.7.4", true).add(evWriteRows2, make([]byte, 20)).b,
		"unknown event type 20":             newLog("5.1.12", false).add(20, make([]byte, 20)).b,
		"unknown event type 8":              newLog("5.0.90", false).add(8, make([]byte, 20)).b,
	} {
		path := filepath.Join(t.TempDir(), "b.000001")
		require.NoError(t, os.WriteFile(path, b, 0o644))
		_, _, err := readFiles(t, nil, "", path)
		require.ErrorContains(t, err, want)
		mustBeTyped(t, err)
	}
	_, _, err := readFiles(t, &Options{Start: "now"}, "", folder(t, pair(true)))
	require.ErrorContains(t, err, `start "now" means nothing for files`)
	two := pair(true)
	two["relay.000001"] = good
	_, _, err = readFiles(t, nil, "", folder(t, two))
	require.ErrorContains(t, err, "files of two logs")
	mixed := pair(true)
	mixed["b.000002"] = newLog("10.11.18-MariaDB", true).ddl(0, "CREATE TABLE c (i int)")
	_, _, err = readFiles(t, nil, "", folder(t, mixed))
	require.ErrorContains(t, err, "MySQL and MariaDB")
	mustBeTyped(t, err)
}

func TestServerVersionsOfManyForms(t *testing.T) {
	for version, maria := range map[string]bool{
		"9.7.4-2": false, "8.0.36-28": false, "5.7.44-rds.20240408-log": false, "8.0.mysql_aurora.3.04.0": false,
		"5.6.mysql_aurora.1.22.2": false, "5.1.73": false, "": false, "x": false,
		"10.11.18-MariaDB-log": true, "5.5.5-10.4.7-MariaDB": true, "12.0.1-MariaDB-ubu": true,
	} {
		f, err := parseFormat(newLog(version, true).b[4:])
		require.NoError(t, err, version)
		require.Equal(t, version, f.version)
		require.Equal(t, maria, f.maria, version)
		require.True(t, f.sum && f.summed && f.intact)
	}
	// MySQL 5.5 knows 27 types, and no checksum.
	e := event(newLog("5.5.62-log", false).b[4:])[:headerLen+57+27]
	binary.LittleEndian.PutUint32(e[9:], uint32(len(e)))
	f, err := parseFormat(e)
	require.NoError(t, err)
	require.False(t, f.sum || f.summed)
}

// A file of more than 4 GB has events that tell the lower half of their place.
func TestPlacesBeyond4GB(t *testing.T) {
	path := filepath.Join(t.TempDir(), "b.000001")
	w := newLog("9.7.4", true).before(0).ddl(1, "CREATE TABLE a (i int)")
	f, err := os.Create(path)
	require.NoError(t, err)
	defer f.Close()
	_, err = f.Write(w.b)
	require.NoError(t, err)
	big := uint64(5 << 30)
	l := &logReader{file: f, name: "b.000001", size: 4096, off: big, placed: true, described: true, format: format{header: headerLen}}
	tail := (&logWriter{}).ddl(0, "CREATE TABLE b (i int)")
	binary.LittleEndian.PutUint32(tail.b[13:], uint32(big+uint64(len(tail.b))))
	_, err = f.WriteAt(tail.b, int64(big))
	require.NoError(t, err)
	_, err = f.Seek(int64(big), io.SeekStart)
	require.NoError(t, err)
	e, err := l.next()
	require.NoError(t, err)
	require.Equal(t, byte(evQuery), e.kind())
	require.Equal(t, big+uint64(len(tail.b)), l.off)
	require.True(t, l.placed)
	_, err = l.next()
	require.Equal(t, io.EOF, err)
}

func TestFollowWaitsForMore(t *testing.T) {
	two := pair(true)
	dir := folder(t, map[string]*logWriter{"b.000001": two["b.000001"]})
	path := filepath.Join(dir, "b.000001")
	whole := two["b.000001"].b
	require.NoError(t, os.WriteFile(path, whole[:len(whole)-100], 0o644))
	before := runtime.NumGoroutine()
	src, err := OpenFiles(t.Context(), []string{dir}, &Options{Follow: true, Heartbeat: 20 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	st, err := src.Open(t.Context(), dfs.Checkpoint{})
	require.NoError(t, err)
	batch := make([]*dfs.Transaction, 1)
	next := func() string {
		for {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			n, err := st.Next(ctx, batch)
			cancel()
			require.NoError(t, err)
			require.Equal(t, 1, n)
			require.NoError(t, src.Decode(t.Context(), batch))
			if len(batch[0].Changes) > 0 {
				return batch[0].Changes[0].Query
			}
		}
	}
	require.Contains(t, next(), "TABLE a")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	for err == nil {
		_, err = st.Next(ctx, batch)
	}
	require.ErrorIs(t, err, context.DeadlineExceeded)
	grow := func(path string, b []byte) {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
		require.NoError(t, err)
		for _, c := range b {
			_, err = f.Write([]byte{c})
			require.NoError(t, err)
		}
		require.NoError(t, f.Close())
	}
	go grow(path, whole[len(whole)-100:])
	require.Contains(t, next(), "TABLE b")
	go grow(filepath.Join(dir, "b.000002"), two["b.000002"].b)
	require.Contains(t, next(), "TABLE c")

	// A file that is written anew is not what was read.
	require.NoError(t, os.Truncate(filepath.Join(dir, "b.000002"), 10))
	err = nil
	for err == nil {
		_, err = st.Next(t.Context(), batch)
	}
	require.ErrorIs(t, err, ErrDiverged)
	require.NoError(t, st.Close())

	// Close ends a wait.
	st, err = src.Open(t.Context(), dfs.Checkpoint{Pos: dfs.Position("gtid 1 " + uuid1 + ":1-2 b.000001:4")})
	require.NoError(t, err)
	done := make(chan error)
	go func() {
		var err error
		for err == nil {
			_, err = st.Next(context.Background(), batch)
		}
		done <- err
	}()
	require.NoError(t, src.Close())
	require.ErrorIs(t, <-done, os.ErrClosed)
	for start := time.Now(); runtime.NumGoroutine() > before; runtime.Gosched() {
		require.Less(t, time.Since(start), time.Minute)
	}
}

func TestGTIDSetMinus(t *testing.T) {
	for _, c := range [][3]string{
		{":1-10", ":3-4:6", ":1-2:5:7-10"},
		{":1-3:5-9", ":2-6", ":1:7-9"},
		{":5", ":1-10", ""},
		{":1-5:tag:1-3", ":1-5:tag:2", ":tag:1:3"},
		{":1-5", "", ":1-5"},
		{":1:3:5", ":1-2:5-6", ":3"},
	} {
		parse := func(s string) *gtidSet {
			if s != "" {
				s = uuid1 + s
			}
			set, err := parseGTIDSet(s)
			require.NoError(t, err)
			return set
		}
		want := parse(c[2])
		got := parse(c[0]).minus(parse(c[1]))
		require.Equal(t, want.String(), got.String(), c)
		for n := uint64(1); n < 12; n++ {
			uuid, _ := parseUUID(uuid1)
			require.Equal(t, parse(c[0]).has(uuid, "", n) && !parse(c[1]).has(uuid, "", n), got.has(uuid, "", n), "%v %d", c, n)
		}
	}
}

// mariaLog begins a file of MariaDB, of which the list of GTIDs is empty.
func mariaLog() *logWriter {
	return newLog("10.11.18-MariaDB", false).add(evMariaGTIDList, make([]byte, 4))
}

// maria appends a statement with the GTID 0-1-n.
func (w *logWriter) maria(n uint64, text string) *logWriter {
	body := binary.LittleEndian.AppendUint64(nil, n)
	w.add(evMariaGTID, append(body, 0, 0, 0, 0, mariaFlagStandalone, 0, 0, 0, 0, 0, 0))
	return w.ddl(0, text)
}

// After a failover to a server that lacks the last transactions that were read,
// nothing of its log may be taken for read.
func TestFollowingTheFilesOfAServerThatLacksTransactions(t *testing.T) {
	const pos = "mariadb 1 0-7-3 b.000001:4"
	for _, c := range []struct {
		log *logWriter
		bad bool
	}{
		{mariaLog().maria(2, "CREATE TABLE a (i int)").maria(3, "CREATE TABLE b (i int)"), true},
		{mariaLog().maria(2, "CREATE TABLE a (i int)").maria(4, "CREATE TABLE b (i int)"), true},
		{newLog("10.11.18-MariaDB", false).add(evMariaGTIDList, []byte{1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0}), true},
		{mariaLog().maria(2, "CREATE TABLE a (i int)"), false},
	} {
		dir := folder(t, map[string]*logWriter{"b.000001": c.log})
		src, err := OpenFiles(t.Context(), []string{dir}, &Options{Follow: true, Heartbeat: 20 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		st, err := src.Open(t.Context(), dfs.Checkpoint{Pos: pos})
		require.NoError(t, err)
		long := 100 * time.Millisecond // in which a wrong answer would come, if not on a slow machine
		if c.bad {
			long = time.Minute
		}
		ctx, cancel := context.WithTimeout(t.Context(), long)
		for err == nil {
			var n int
			n, err = st.Next(ctx, make([]*dfs.Transaction, 1))
			require.Zero(t, n)
		}
		if cancel(); c.bad {
			require.ErrorIs(t, err, ErrDiverged)
			require.ErrorContains(t, err, "0-7-3")
		} else {
			require.ErrorIs(t, err, context.DeadlineExceeded, "it may yet come")
		}
		require.NoError(t, src.Close())
	}
}

// Where there are no GTIDs, names tell whether a file is missing, also if they do
// not begin alike.
func TestFilesWithOtherNamesFollowByNumber(t *testing.T) {
	log := func(next string) *logWriter {
		w := newLog("9.7.4", false).ddl(0, "CREATE TABLE a (i int)")
		if next == "" {
			return w.add(evStop, nil)
		}
		return w.rotate(next)
	}
	for _, c := range []struct {
		first, rotate, second string
		bad                   bool
	}{
		{"b.000001", "b.000002", "copy-b.000002", false},
		{"b.000001", "b.000002", "copy-b.000003", true},
		{"b.000001", "", "copy-b.000002", false},
		{"b.000001", "", "copy-b.000003", true},
		{"first", "b.000002", "copy-b.000003", true},
		{"first", "b.000002", "copy-b.000002", false},
		{"first", "b.000002", "second", false},
	} {
		dir := folder(t, map[string]*logWriter{c.first: log(c.rotate), c.second: log("")})
		_, _, err := readFiles(t, nil, "", filepath.Join(dir, c.first), filepath.Join(dir, c.second))
		if !c.bad {
			require.NoError(t, err, c)
			continue
		}
		var bad *EventError
		require.ErrorAs(t, err, &bad, "%v", c)
		require.Contains(t, bad.What, c.second)
	}
}

package stream

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/checkfile"
	"github.com/dataflowsync/dfs/sink/sinktest"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("STREAM_TEST_CHILD"); path != "" {
		child(path)
		return
	}
	os.Exit(m.Run())
}

// lines returns the messages that are stored, of all files.
func lines(t testing.TB, path string, o *FileOptions) (list []string) {
	rec, _, err := checkfile.Read(path + ".checkpoint")
	require.NoError(t, err)
	f := &File{path: path, opts: *o}
	for n := min(rec.File, 1); n <= rec.File; n++ {
		b, err := os.ReadFile(f.name(n))
		if os.IsNotExist(err) {
			continue
		}
		require.NoError(t, err)
		if n == rec.File {
			b = b[:rec.Offset]
		}
		if len(b) > 0 {
			require.Equal(t, byte('\n'), b[len(b)-1])
			list = append(list, strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")...)
		}
	}
	return list
}

// rows makes the table of the messages, as a reader would.
func rows(t testing.TB, lines []string) []sinktest.Row {
	type item struct {
		ID   int64  `json:"id"`
		Name string `json:"name"`
		N    int64  `json:"n"`
	}
	table := make(map[int64]sinktest.Row)
	for _, line := range lines {
		var m struct {
			Op            string `json:"op"`
			Before, After *item
		}
		require.NoError(t, json.Unmarshal([]byte(line), &m), line)
		if m.Before != nil {
			require.Equal(t, sinktest.Row(*m.Before), table[m.Before.ID])
			delete(table, m.Before.ID)
		}
		if m.After != nil {
			require.NotContains(t, table, m.After.ID, line)
			table[m.After.ID] = sinktest.Row(*m.After)
		}
	}
	var list []sinktest.Row
	for _, r := range table {
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b sinktest.Row) int { return int(a.ID - b.ID) })
	return list
}

func TestFileKeepsTheContractOfASink(t *testing.T) {
	for name, o := range map[string]*FileOptions{
		"json":                 {},
		"debezium, many files": {Options: Options{Format: Debezium}, MaxBytes: 20_000},
	} {
		t.Run(name, func(t *testing.T) {
			sinktest.Run(t, "shop", func(t *testing.T) sinktest.Target {
				path := filepath.Join(t.TempDir(), "changes.ndjson")
				return sinktest.Target{
					Open: func(tb testing.TB) dfs.Sink {
						f, err := OpenFile(path, o)
						require.NoError(tb, err)
						return f
					},
					Rows: func(tb testing.TB) []sinktest.Row { return rows(tb, lines(tb, path, o)) },
				}
			})
		})
	}
}

func TestWriterKeepsWhatOfTheContractItCan(t *testing.T) {
	sinktest.Run(t, "shop", func(t *testing.T) sinktest.Target {
		path := filepath.Join(t.TempDir(), "checkpoint")
		return sinktest.Target{Open: func(tb testing.TB) dfs.Sink {
			w, err := OpenWriter(io.Discard, path, nil)
			require.NoError(tb, err)
			return w
		}}
	})
}

var items = sinktest.Table("shop")

func insert(seq uint64) *dfs.Transaction {
	return &dfs.Transaction{Checkpoint: dfs.Checkpoint{Seq: seq, Pos: dfs.Position(fmt.Sprint("at ", seq))}, ID: fmt.Sprint("t", seq),
		Committed: time.Unix(1.8e9, 0), Changes: []dfs.Change{
			{Op: dfs.Insert, Table: items, After: dfs.Row{dfs.IntValue(int64(seq)), dfs.StringValue("x"), dfs.IntValue(1)}}}}
}

// child writes transactions of one to five, without end, and says how far it is.
func child(path string) {
	f, err := OpenFile(path, &FileOptions{MaxBytes: 5000})
	if err != nil {
		panic(err)
	}
	at, err := f.Checkpoint(context.Background())
	for n := at.Seq; err == nil; {
		var batch []*dfs.Transaction
		for range 1 + n%5 {
			n++
			batch = append(batch, insert(n))
			batch[len(batch)-1].More = n%7 == 0 // so that parts await their end
		}
		if err = f.Apply(context.Background(), batch); err == nil {
			fmt.Println(n)
		}
	}
	panic(err)
}

func TestFileOfAProcessThatIsKilledHasEachTransactionOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "changes.ndjson")
	o := &FileOptions{MaxBytes: 5000}
	for round := range 12 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "STREAM_TEST_CHILD="+path)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		r := bufio.NewReader(out)
		for range 5 + round*3 {
			_, err := r.ReadString('\n')
			require.NoError(t, err)
		}
		require.NoError(t, cmd.Process.Kill())
		cmd.Wait()

		f, err := OpenFile(path, o)
		require.NoError(t, err)
		at, err := f.Checkpoint(t.Context())
		require.NoError(t, err)
		require.NoError(t, f.Close())
		info, err := os.Stat(f.name(f.rec.File))
		require.NoError(t, err)
		require.Equal(t, f.rec.Offset, info.Size())
		left, err := f.numbers()
		require.NoError(t, err)
		require.Equal(t, f.rec.File, slices.Max(left))
		want := uint64(0)
		for _, line := range lines(t, path, o) {
			var m struct {
				Op  string `json:"op"`
				Seq uint64 `json:"seq"`
			}
			require.NoError(t, json.Unmarshal([]byte(line), &m))
			if m.Op == "insert" {
				want++
				require.Equal(t, want, m.Seq, "round %d", round)
			}
		}
		require.Equal(t, at.Seq, want)
		require.NotZero(t, want)
	}
}

func TestFilesRotateBetweenTransactionsAndOldOnesGo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "changes.ndjson")
	f, err := OpenFile(path, &FileOptions{MaxBytes: 1000, Keep: 2})
	require.NoError(t, err)
	defer f.Close()
	_, err = f.Checkpoint(t.Context())
	require.NoError(t, err)
	for seq := range uint64(100) {
		require.NoError(t, f.Apply(t.Context(), []*dfs.Transaction{insert(seq + 1)}))
	}
	left, err := f.numbers()
	require.NoError(t, err)
	require.Len(t, left, 3)
	for _, n := range left[:2] {
		b, err := os.ReadFile(f.name(n))
		require.NoError(t, err)
		require.True(t, bytes.HasPrefix(b, []byte(`{"op":"begin"`)))
		require.Contains(t, string(b[bytes.LastIndexByte(b[:len(b)-1], '\n')+1:]), `"op":"commit"`)
	}
}

func TestFileRefusesWhatIsNotItsOwn(t *testing.T) {
	dir := t.TempDir()
	open := func(name string, o *FileOptions) error {
		f, err := OpenFile(filepath.Join(dir, name), o)
		require.NoError(t, err)
		defer f.Close()
		if _, err = f.Checkpoint(t.Context()); err != nil {
			return err
		}
		return f.Apply(t.Context(), []*dfs.Transaction{insert(f.seq + 1)})
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "other"), []byte("mine\n"), 0o600))
	require.ErrorContains(t, open("other", nil), "has 5 bytes already, and no checkpoint")
	b, err := os.ReadFile(filepath.Join(dir, "other"))
	require.NoError(t, err)
	require.Equal(t, "mine\n", string(b))

	require.NoError(t, open("own", nil))
	require.NoError(t, open("own", nil))
	require.ErrorContains(t, open("own", &FileOptions{MaxBytes: 10}), "was written as one file")
	require.NoError(t, os.Truncate(filepath.Join(dir, "own"), 10))
	require.ErrorContains(t, open("own", nil), "it was cut or removed")

	mark := filepath.Join(dir, "own.checkpoint")
	b, err = os.ReadFile(mark)
	require.NoError(t, err)
	b[5] ^= 1
	require.NoError(t, os.WriteFile(mark, b, 0o600))
	require.ErrorContains(t, open("own", nil), "is damaged")

	_, err = OpenFile("x", &FileOptions{Options: Options{Format: "xml", BadText: "drop"}, Keep: 1, MaxBytes: -1})
	for _, want := range []string{`Format is "xml"`, `BadText is "drop"`, "MaxBytes is -1"} {
		require.ErrorContains(t, err, want)
	}
}

func TestWriterSaysTheSameAgainAfterACrash(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "checkpoint")
	var out bytes.Buffer
	w, err := OpenWriter(&out, mark, nil)
	require.NoError(t, err)
	_, err = w.Checkpoint(t.Context())
	require.NoError(t, err)
	require.NoError(t, w.Apply(t.Context(), []*dfs.Transaction{insert(1), insert(2)}))
	require.Equal(t, AtLeastOnce, w.Stats().Guarantee)
	require.EqualValues(t, 6, w.Stats().Messages)
	require.NoError(t, w.Close())
	w, err = OpenWriter(&out, mark, nil)
	require.NoError(t, err)
	defer w.Close()
	at, err := w.Checkpoint(t.Context())
	require.NoError(t, err)
	require.Equal(t, dfs.Checkpoint{Seq: 2, Pos: "at 2"}, at)
	require.Equal(t, 6, strings.Count(out.String(), "\n"))
}

// The first parts of a transaction begin a new file, and those that follow go on in it.
// The checkpoint named the file before, with the length of the new one: what had come
// there since was cut off, and the new file removed, by the next start.
func TestPartsThatBeginAFileAreStored(t *testing.T) {
	path := filepath.Join(t.TempDir(), "changes.ndjson")
	o := &FileOptions{MaxBytes: 300}
	open := func() *File {
		f, err := OpenFile(path, o)
		require.NoError(t, err)
		t.Cleanup(func() { f.Close() })
		return f
	}
	f := open()
	_, err := f.Checkpoint(t.Context())
	require.NoError(t, err)
	var want []string
	for seq := uint64(1); seq <= 3; seq++ {
		require.NoError(t, f.Apply(t.Context(), []*dfs.Transaction{insert(seq)}))
		want = append(want, fmt.Sprintf(`{"id":%d,`, seq))
	}
	for seq := uint64(4); seq <= 7; seq++ {
		part := insert(seq)
		part.More = seq < 7
		require.NoError(t, f.Apply(t.Context(), []*dfs.Transaction{part}))
		want = append(want, fmt.Sprintf(`{"id":%d,`, seq))
	}
	require.NoError(t, f.Close())

	f = open()
	at, err := f.Checkpoint(t.Context())
	require.NoError(t, err)
	require.Equal(t, uint64(7), at.Seq)
	require.NoError(t, f.Apply(t.Context(), []*dfs.Transaction{insert(8)}))
	want = append(want, `{"id":8,`)
	var got []string
	for _, line := range lines(t, path, o) {
		if _, row, ok := strings.Cut(line, `"after":`); ok {
			got = append(got, row[:strings.IndexByte(row, ',')+1])
		}
	}
	require.Equal(t, want, got)
	require.Greater(t, f.rec.File, 2)
}

package queue

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
)

var letterTable = &dfs.Table{Schema: "shop", Name: "people", Key: []int{0}, Columns: []dfs.Column{
	{Name: "id", Type: "bigint"}, {Name: "name", Type: "varchar(40)", Charset: "utf8mb4", Collation: "utf8mb4_bin"}}}

func letterRows(from, to int) (list []dfs.Change) {
	for i := from; i < to; i++ {
		list = append(list, dfs.Change{Op: dfs.Insert, Table: letterTable, After: dfs.Row{dfs.IntValue(int64(i)), dfs.StringValue(fmt.Sprint("n", i))}})
	}
	return list
}

func openLetters(t *testing.T, path string, opts *LettersOptions) *Letters {
	l, err := OpenLetters(path, opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

func TestLettersOutliveTheProcess(t *testing.T) {
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "letters")
	l, err := OpenLetters(path, &LettersOptions{Pipeline: "shop"})
	require.NoError(t, err)
	b, err := l.Book(ctx)
	require.NoError(t, err)
	require.Equal(t, &dfs.LetterBook{Next: 1}, b)

	now := time.Now().UTC()
	one := &dfs.Letter{Number: 1, State: dfs.LetterParked, Seq: 7, Pos: "p", ID: "a:7", Committed: now, Parts: 1, Rows: 2, Tables: []string{"shop.people"},
		Part: "sink", Err: "bad \x00 row", Came: now, Attempts: 1, Changes: letterRows(0, 2)}
	require.NoError(t, l.Write(ctx, &dfs.LetterWrite{Put: []*dfs.Letter{one}, Skip: []string{"a:9"}, Keys: []byte("[]")}))
	require.EqualValues(t, 1, one.Revision)
	one.Parts, one.Rows, one.Whole, one.Changes = 2, 5, true, letterRows(2, 5)
	two := &dfs.Letter{Number: 3, State: dfs.LetterSkipped, Parts: 1, Whole: true, Changes: []dfs.Change{}}
	require.NoError(t, l.Write(ctx, &dfs.LetterWrite{Put: []*dfs.Letter{one, two}, Reached: 12}))
	one.Changes, one.Edited, one.Edits = nil, letterRows(9, 10), 1
	require.NoError(t, l.Write(ctx, &dfs.LetterWrite{Put: []*dfs.Letter{one}}))
	require.NoError(t, l.Close())

	l = openLetters(t, path, &LettersOptions{Pipeline: "shop"})
	b, err = l.Book(ctx)
	require.NoError(t, err)
	require.Len(t, b.Letters, 2)
	require.Equal(t, []string{"a:9"}, b.Skip)
	require.Equal(t, "[]", string(b.Keys))
	require.EqualValues(t, 12, b.Reached)
	require.EqualValues(t, 4, b.Next)
	one.Edited = nil
	require.Equal(t, one, b.Letters[0])
	got, err := l.Letter(ctx, 1, 0)
	require.NoError(t, err)
	require.Equal(t, letterRows(0, 5), got.Changes)
	require.Equal(t, letterRows(9, 10), got.Edited)
	got, err = l.Letter(ctx, 1, 1)
	require.NoError(t, err)
	require.Equal(t, letterRows(0, 1), got.Changes, "one at least")

	// Numbers are not used again.
	require.NoError(t, l.Write(ctx, &dfs.LetterWrite{Delete: []uint64{3}, Unskip: []string{"a:9"}}))
	b, err = l.Book(ctx)
	require.NoError(t, err)
	require.Len(t, b.Letters, 1)
	require.Empty(t, b.Skip)
	require.EqualValues(t, 4, b.Next)
	_, err = l.Letter(ctx, 3, 0)
	require.ErrorIs(t, err, dfs.ErrNoLetter)
}

func TestALetterIsWrittenByOneWhoHasReadIt(t *testing.T) {
	ctx := t.Context()
	l := openLetters(t, filepath.Join(t.TempDir(), "letters"), nil)
	a := &dfs.Letter{Number: 1, State: dfs.LetterParked, Parts: 1, Changes: letterRows(0, 1)}
	b := *a
	require.NoError(t, l.Write(ctx, &dfs.LetterWrite{Put: []*dfs.Letter{a}}))
	require.ErrorIs(t, l.Write(ctx, &dfs.LetterWrite{Put: []*dfs.Letter{&b}, Skip: []string{"x"}}), dfs.ErrLetterChanged)
	require.Zero(t, b.Revision)
	c := *a
	a.State = dfs.LetterWanted
	require.NoError(t, l.Write(ctx, &dfs.LetterWrite{Put: []*dfs.Letter{a}}))
	c.State = dfs.LetterSkipped
	require.ErrorIs(t, l.Write(ctx, &dfs.LetterWrite{Put: []*dfs.Letter{&c}}), dfs.ErrLetterChanged)
	book, err := l.Book(ctx)
	require.NoError(t, err)
	require.Equal(t, dfs.LetterWanted, book.Letters[0].State)
	require.Empty(t, book.Skip, "all or nothing")
}

func TestLettersAreLimited(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	put := func(l *Letters, n uint64, state dfs.LetterState, rows int) error {
		return l.Write(ctx, &dfs.LetterWrite{Put: []*dfs.Letter{{Number: n, State: state, Parts: 1, Whole: true, Changes: letterRows(0, rows)}}})
	}
	l := openLetters(t, filepath.Join(dir, "few"), &LettersOptions{MaxLetters: 2})
	require.NoError(t, put(l, 1, dfs.LetterParked, 1))
	require.NoError(t, put(l, 2, dfs.LetterSkipped, 1))
	require.NoError(t, put(l, 3, dfs.LetterParked, 1))
	err := put(l, 4, dfs.LetterParked, 1)
	require.ErrorIs(t, err, dfs.ErrLettersFull)
	require.NotErrorIs(t, err, dfs.ErrTransient)
	require.ErrorContains(t, err, "2 wait to be settled")
	b, err := l.Book(ctx)
	require.NoError(t, err)
	require.Len(t, b.Letters, 3)
	b.Letters[0].State = dfs.LetterApplied
	require.NoError(t, l.Write(ctx, &dfs.LetterWrite{Put: b.Letters[:1]}))
	require.NoError(t, put(l, 4, dfs.LetterParked, 1))

	l = openLetters(t, filepath.Join(dir, "small"), &LettersOptions{MaxBytes: 1000})
	require.ErrorIs(t, put(l, 1, dfs.LetterParked, 1000), dfs.ErrLettersFull)
	require.NoError(t, put(l, 1, dfs.LetterParked, 10))
}

func TestSettledLettersAreForgottenInTheEnd(t *testing.T) {
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "letters")
	l := openLetters(t, path, nil)
	require.NoError(t, l.Write(ctx, &dfs.LetterWrite{Put: []*dfs.Letter{
		{Number: 1, State: dfs.LetterParked, Parts: 1, Changes: letterRows(0, 1)},
		{Number: 2, State: dfs.LetterApplied, Parts: 1, Changes: letterRows(0, 1)},
	}}))
	_, err := l.db.Exec("UPDATE letter SET settled = settled - 31 * 86400, sum = NULL")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	l = openLetters(t, path, nil)
	b, err := l.Book(ctx)
	require.NoError(t, err)
	require.Len(t, b.Letters, 1)
	require.EqualValues(t, 1, b.Letters[0].Number)
	var parts int
	require.NoError(t, l.db.QueryRow("SELECT count(*) FROM part").Scan(&parts))
	require.Equal(t, 1, parts)
}

func TestADamagedLetterIsNeverRead(t *testing.T) {
	ctx := t.Context()
	l := openLetters(t, filepath.Join(t.TempDir(), "letters"), nil)
	require.NoError(t, l.Write(ctx, &dfs.LetterWrite{Put: []*dfs.Letter{
		{Number: 1, State: dfs.LetterParked, Parts: 1, Changes: letterRows(0, 3)},
		{Number: 2, State: dfs.LetterParked, Parts: 1, Changes: letterRows(3, 6)},
	}}))
	var data []byte
	require.NoError(t, l.db.QueryRow("SELECT data FROM part WHERE number = 1").Scan(&data))
	for i := range data {
		data[i] ^= 1
		_, err := l.db.Exec("UPDATE part SET data = ? WHERE number = 1", data)
		require.NoError(t, err)
		_, err = l.Letter(ctx, 1, 0)
		require.ErrorContains(t, err, "the checksum of part 1 of letter 1 is wrong")
		data[i] ^= 1
	}
	_, err := l.db.Exec("UPDATE part SET data = (SELECT data FROM part WHERE number = 2), sum = (SELECT sum FROM part WHERE number = 2) WHERE number = 1")
	require.NoError(t, err)
	_, err = l.Letter(ctx, 1, 0)
	require.ErrorContains(t, err, "the checksum of part 1 of letter 1 is wrong", "it is another's")
	_, err = l.db.Exec("DELETE FROM part WHERE number = 1")
	require.NoError(t, err)
	_, err = l.Letter(ctx, 1, 0)
	require.ErrorContains(t, err, "part 1 of letter 1 is missing")
	_, err = l.db.Exec("UPDATE letter SET info = '{', sum = NULL WHERE number = 1")
	require.NoError(t, err)
	_, err = l.Book(ctx)
	require.ErrorContains(t, err, "the file is damaged")
}

func TestLettersKnowTheirFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "letters")
	_, err := OpenLetters("", nil)
	require.ErrorContains(t, err, "no path")
	_, err = OpenLetters(filepath.Join(dir, "none", "letters"), nil)
	require.ErrorContains(t, err, "its folder does not exist")
	_, err = OpenLetters(path, &LettersOptions{ReadOnly: true})
	require.ErrorContains(t, err, "there are none")
	require.NoFileExists(t, path)

	l := openLetters(t, path, &LettersOptions{Pipeline: "a"})
	_, err = OpenLetters(path, nil)
	require.ErrorContains(t, err, fmt.Sprintf("process %d is using the file", os.Getpid()))
	r := openLetters(t, path, &LettersOptions{ReadOnly: true})
	require.NoError(t, l.Write(t.Context(), &dfs.LetterWrite{Put: []*dfs.Letter{{Number: 1, State: dfs.LetterParked, Parts: 1, Changes: letterRows(0, 1)}}}))
	b, err := r.Book(t.Context())
	require.NoError(t, err)
	require.Len(t, b.Letters, 1)
	require.ErrorContains(t, r.Write(t.Context(), &dfs.LetterWrite{}), "ReadOnly")
	require.NoError(t, l.Close())
	_, err = OpenLetters(path, &LettersOptions{Pipeline: "b"})
	require.ErrorContains(t, err, `they are of the pipeline "a", not of "b"`)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	q, err := Open(filepath.Join(dir, "queue"), nil)
	require.NoError(t, err)
	require.NoError(t, q.Close())
	_, err = OpenLetters(filepath.Join(dir, "queue"), nil)
	require.ErrorContains(t, err, "or a queue")
	_, err = Open(path, nil)
	require.ErrorContains(t, err, "another program's SQLite database")
	text := filepath.Join(dir, "text")
	require.NoError(t, os.WriteFile(text, []byte("not a database, but long enough to be looked at as one by whoever opens it, which takes a hundred bytes"), 0o600))
	_, err = OpenLetters(text, nil)
	require.ErrorContains(t, err, "this is a file of another kind")
}

func TestAWriteOfLettersThatIsEndedWritesNothing(t *testing.T) {
	l := openLetters(t, filepath.Join(t.TempDir(), "letters"), nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := l.Write(ctx, &dfs.LetterWrite{Skip: []string{"x"}})
	require.True(t, errors.Is(err, context.Canceled), "%v", err)
	b, err := l.Book(t.Context())
	require.NoError(t, err)
	require.Empty(t, b.Skip)
}

// A file that is deleted, moved or replaced takes no more letters, since those would end
// with the program; what it held is saved, and goes on from there.
func TestLettersWhoseFileIsGoneAreSaved(t *testing.T) {
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "letters")
	l, err := OpenLetters(path, nil)
	require.NoError(t, err)
	one := &dfs.Letter{Number: 1, State: dfs.LetterParked, Parts: 1, Rows: 2, Whole: true, Changes: letterRows(0, 2)}
	require.NoError(t, l.Write(ctx, &dfs.LetterWrite{Put: []*dfs.Letter{one}}))
	require.False(t, l.Gone())
	for _, more := range []string{"", "-wal", "-shm"} {
		require.NoError(t, os.Remove(path+more))
	}
	require.True(t, l.Gone())
	got, err := l.Letter(ctx, 1, 0)
	require.NoError(t, err)
	require.Equal(t, letterRows(0, 2), got.Changes)
	two := &dfs.Letter{Number: 2, State: dfs.LetterParked, Parts: 1, Whole: true, Changes: letterRows(2, 3)}
	for range 2 {
		err = l.Write(ctx, &dfs.LetterWrite{Put: []*dfs.Letter{two}})
		require.ErrorContains(t, err, "what it held is in "+path+".saved now: stop the program")
		require.NotErrorIs(t, err, dfs.ErrTransient)
	}
	require.NoFileExists(t, path, "and no new one is begun")
	require.NoError(t, l.Close())

	require.NoError(t, os.Rename(path+".saved", path))
	l = openLetters(t, path, nil)
	got, err = l.Letter(ctx, 1, 0)
	require.NoError(t, err)
	require.Equal(t, letterRows(0, 2), got.Changes)
	require.NoError(t, l.Write(ctx, &dfs.LetterWrite{Put: []*dfs.Letter{two}}))
}

package queue

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/faultvfs"
)

// A sync fails once, whichever it was. The process is killed or ends, the next one goes on,
// and then the power goes. What was confirmed is there.
func TestASyncFailsOnce(t *testing.T) {
	var q *Queue
	faultvfs.SyncFails(t, memory(t), faultvfs.Trial{
		Ends: []faultvfs.End{faultvfs.Killed, faultvfs.Closed},
		Use: func(t *testing.T, dir string, promise func(int), sick func() bool) {
			err := error(nil)
			if q, err = Open(filepath.Join(dir, "queue"), &Options{walBytes: 32 << 10, freePages: 4}); err != nil {
				require.True(t, sick(), "%v", err)
				return
			}
			for last := uint64(q.Stats().Last) + 40; !sick(); {
				at, err := q.Checkpoint(background)
				if err == nil {
					promise(int(at.Seq)) // a source may let go of what it covers
					if at.Seq >= last {
						return
					}
					err = q.Apply(background, txs(at.Seq+1, 4, 2000))
				}
				if err != nil {
					require.True(t, sick(), "%v", err)
				}
			}
		},
		Close: func(*testing.T) {
			if q != nil {
				q.Close() // what counts is what is in the file
				q = nil
			}
		},
		Check: checkQueue,
	})
}

// checkQueue requires of a queue that is left by a loss of power that it has what was
// promised, and that it goes on.
func checkQueue(t *testing.T, dir string, promised int) {
	path := filepath.Join(dir, "queue")
	q, err := Open(path, nil)
	require.NoError(t, err)
	s := q.Stats()
	require.GreaterOrEqual(t, int(s.Last), promised)
	if s.Last >= s.First {
		read(t, q, s.First, s.Last)
	}
	apply(t, q, txs(s.Last+1, 3, 1000)...)
	require.NoError(t, q.Close())
	verify(t, path)
}

// The same for dead letters.
func TestASyncOfLettersFailsOnce(t *testing.T) {
	var l *Letters
	letter := func(n uint64) *dfs.Letter {
		return &dfs.Letter{Number: n, State: dfs.LetterParked, ID: fmt.Sprint("id", n), Parts: 1, Whole: true, Changes: letterRows(int(n)*1000, int(n)*1000+400)}
	}
	faultvfs.SyncFails(t, memory(t), faultvfs.Trial{
		Ends: []faultvfs.End{faultvfs.Killed, faultvfs.Closed},
		Use: func(t *testing.T, dir string, promise func(int), sick func() bool) {
			err := error(nil)
			if l, err = OpenLetters(filepath.Join(dir, "letters"), nil); err != nil {
				require.True(t, sick(), "%v", err)
				return
			}
			for last := uint64(0); !sick(); {
				b, err := l.Book(background)
				if err == nil {
					promise(len(b.Letters)) // the target may have gone beyond them
					if last == 0 {
						last = b.Next + 8
					}
					if b.Next == last {
						return
					}
					err = l.Write(background, &dfs.LetterWrite{Put: []*dfs.Letter{letter(b.Next)}, Reached: b.Next})
				}
				if err != nil {
					require.True(t, sick(), "%v", err)
				}
			}
		},
		Close: func(*testing.T) {
			if l != nil {
				l.Close() // what counts is what is in the file
				l = nil
			}
		},
		Check: func(t *testing.T, dir string, promised int) {
			path := filepath.Join(dir, "letters")
			l, err := OpenLetters(path, nil)
			require.NoError(t, err)
			b, err := l.Book(background)
			require.NoError(t, err)
			require.GreaterOrEqual(t, len(b.Letters), promised)
			for _, have := range b.Letters {
				got, err := l.Letter(background, have.Number, 0)
				require.NoError(t, err)
				require.Equal(t, letter(have.Number).Changes, got.Changes)
			}
			require.NoError(t, l.Write(background, &dfs.LetterWrite{Put: []*dfs.Letter{letter(b.Next)}}))
			require.NoError(t, l.Close())
			db, err := sql.Open("sqlite", dataSource(path, ""))
			require.NoError(t, err)
			var said string
			require.NoError(t, db.QueryRow("PRAGMA integrity_check").Scan(&said))
			require.Equal(t, "ok", said)
			require.NoError(t, db.Close())
		},
	})
}

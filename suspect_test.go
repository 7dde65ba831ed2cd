package dfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// An overtaken source copies a row beside its log. Each time it is opened again, one
// more transaction of the log comes before that row.
type overtaken struct {
	log     int // transactions of the log
	growing bool
	opened  *int
}

func (overtaken) Unnumbered() {}

func (o overtaken) Open(_ context.Context, from Checkpoint) (Stream, error) {
	var copied, at int
	if from.Pos != "" {
		_, _ = fmt.Sscanf(string(from.Pos), "%d,%d", &copied, &at)
	}
	s := &overtakenStream{}
	add := func(tx Transaction) {
		tx.Pos = Position(fmt.Sprintf("%d,%d", copied, at))
		s.txs = append(s.txs, &tx)
	}
	first := 0
	if *o.opened++; *o.opened > 1 {
		first = 1
	}
	for copied == 0 || at < o.log {
		if copied == 0 && (first == 0 || at == o.log) {
			copied = 1
			mail := "m1000"
			if o.growing {
				mail = fmt.Sprint("m", 1000+*o.opened)
			}
			add(Transaction{Snapshot: true, ID: "snapshot", Changes: []Change{{Op: Insert, Table: peopleTable, After: person(1000, mail)}}})
			continue
		}
		first, at = 0, at+1
		add(Transaction{ID: fmt.Sprint("t", at), Changes: []Change{{Op: Insert, Table: peopleTable, After: person(int64(at), fmt.Sprint("m", at))}}})
	}
	return s, nil
}

type overtakenStream struct{ txs []*Transaction }

func (s *overtakenStream) Next(_ context.Context, batch []*Transaction) (int, error) {
	n := copy(batch, s.txs)
	if s.txs = s.txs[n:]; n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (s *overtakenStream) Close() error { return nil }

// Rows of a copy that are refused may come at another number when they come again,
// and what has theirs then must not be taken for them.
func TestRefusedRowsOfACopyAreKnownByWhatTheyAre(t *testing.T) {
	for _, letters := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			_, store, sink, p := shopped(0)
			sink.bad[1000] = true
			p.Source = overtaken{log: 10, opened: new(int)}
			var rejected []string
			if !letters {
				p.Letters = nil
				p.Reject = func(_ context.Context, tx *Transaction, _ error) error {
					rejected = append(rejected, tx.ID)
					return nil
				}
			}
			require.NoError(t, p.Run(t.Context()))
			for _, l := range store.book.Letters {
				rejected = append(rejected, l.ID)
			}
			require.Equal(t, []string{"snapshot"}, rejected)
			require.Len(t, sink.shop.people, 10)
		})
	}
}

// If they are never the same twice, nothing is stepped over, and Run ends.
func TestRefusedRowsThatAlwaysDifferStopThePipeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, store, sink, p := shopped(0)
		sink.bad[1000] = true
		p.Source = overtaken{log: 3, growing: true, opened: new(int)}
		err := p.Run(t.Context())
		var e *Error
		require.True(t, errors.As(err, &e), "%v", err)
		require.Equal(t, "sink", e.Part)
		require.Empty(t, store.book.Letters)
		require.Len(t, sink.shop.people, 3)
	})
}

// A letter does not ride on rows of a copy: sinks may take their changes for rows
// that were there.
func TestALetterDoesNotRideOnACopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, store, sink, p := shopped(3)
		sink.bad[3] = true
		var with []string
		p.Source = keyedSource{log, shopKeys} // it numbers by itself, so nothing is put between
		p.Stages = []Stage{StageFunc(func(_ context.Context, batch []*Transaction) error {
			for _, tx := range batch {
				if slices.ContainsFunc(tx.Changes, func(c Change) bool { return c.After[0].Int() == 3 }) {
					with = append(with, tx.ID)
				}
			}
			return nil
		})}
		done := running(t, p)
		require.Equal(t, []uint64{1}, store.numbers(LetterParked))
		delete(sink.bad, 3)
		with = nil
		require.NoError(t, p.RetryLetters(t.Context(), 1))
		log.append(Transaction{ID: "snapshot", Snapshot: true, Changes: []Change{{Op: Insert, Table: peopleTable, After: person(50, "m50")}}})
		log.append(Transaction{ID: "t5", Changes: []Change{{Op: Insert, Table: peopleTable, After: person(51, "m51")}}})
		require.NoError(t, settled(p, done))
		require.Equal(t, []uint64{1}, store.numbers(LetterApplied))
		require.Equal(t, []string{"t5"}, with)
		require.Len(t, sink.shop.people, 5)
	})
}

// A skip is forgotten when its transaction was stepped over, and not when another has
// come to the number that it once had.
func TestASkipIsNotForgottenByAnothersNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, store, sink, p := shopped(3)
		p.control.skip = map[string]uint64{"t4": 4} // met before, in a session that has ended
		store.book.Skip = []string{"t4"}
		running(t, p)
		log.append(Transaction{}) // what was filtered
		require.NoError(t, settled(p, make(chan error)))
		require.Equal(t, []string{"t4"}, p.Stats().Skip)
		require.Equal(t, []string{"t4"}, store.book.Skip)
		log.append(Transaction{ID: "t4", Changes: []Change{{Op: Insert, Table: peopleTable, After: person(4, "m4")}}})
		require.NoError(t, settled(p, make(chan error)))
		require.Len(t, sink.shop.people, 3)
		require.Empty(t, p.Stats().Skip)
		require.Empty(t, store.book.Skip)
	})
}

// Rows that were refused once are tried when they are copied once more.
func TestTheSameRowsAreTriedWhenTheyAreCopiedOnceMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, store, sink, p := shopped(3)
		rows := Transaction{ID: "snapshot", Snapshot: true, Changes: []Change{{Op: Insert, Table: peopleTable, After: person(50, "m50")}}}
		log.append(rows)
		sink.bad[50] = true
		done := running(t, p)
		require.Equal(t, []uint64{1}, store.numbers(LetterParked))
		delete(sink.bad, 50)
		require.NoError(t, p.SkipLetters(t.Context(), "they are copied once more", 1))
		require.NoError(t, settled(p, done))
		log.append(rows)
		require.NoError(t, settled(p, done))
		require.Len(t, sink.shop.people, 4)
	})
}

// A refusing queue takes all but one transaction.
type refusingQueue struct {
	*memLog
	id     string
	always bool // also when it is empty
}

func (q refusingQueue) Apply(ctx context.Context, batch []*Transaction) error {
	for i, tx := range batch {
		if tx.ID == q.id && (q.always || tx.Encoded != nil || tx.Changes != nil) {
			if i > 0 {
				if err := q.memLog.Apply(ctx, batch[:i]); err != nil {
					return err
				}
			}
			return errors.New("it is refused")
		}
	}
	return q.memLog.Apply(ctx, batch)
}

// A sink that refuses the step over a transaction too would be asked for ever.
func TestARefusedStepStopsThePipeline(t *testing.T) {
	for _, letters := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			log, store, _, p := shopped(5)
			log.closed = true
			to := newLog(2, 0)
			p.Sink = refusingQueue{to, "t3", true}
			calls := 0
			if !letters {
				p.Letters = nil
				p.Reject = func(context.Context, *Transaction, error) error { calls++; return nil }
			}
			require.ErrorContains(t, p.Run(t.Context()), "it is refused")
			require.LessOrEqual(t, calls, 1)
			require.Len(t, to.txs, 2)
			p.Sink = refusingQueue{to, "", false} // mended
			require.NoError(t, p.Run(t.Context()))
			require.Len(t, to.txs, 5)
			for _, tx := range to.txs {
				require.Len(t, tx.Changes, 1)
			}
			require.Empty(t, store.book.Letters)
		})
	}
}

// What travels encoded cannot become a letter, which would be an empty one.
func TestWhatIsEncodedIsNoLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, store, _, p := shopped(5)
		log.closed = true
		to := newLog(2, 0)
		p.Source, p.Sink = encoded{log}, refusingQueue{to, "t3", false}
		require.ErrorContains(t, p.Run(t.Context()), "it is refused")
		require.Empty(t, store.book.Letters)
		require.Len(t, to.txs, 2)
	})
}

// Rows of a copy have the name of their table. Skip must not leave out all of them.
func TestASkipLeavesOutNoCopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, _, sink, p := shopped(0)
		for i := range int64(3) {
			log.append(Transaction{ID: "snapshot shop.people", Snapshot: true, Changes: []Change{{Op: Insert, Table: peopleTable, After: person(i, fmt.Sprint("m", i))}}})
		}
		log.closed = true
		require.NoError(t, p.Skip("snapshot shop.people"))
		require.NoError(t, p.Run(t.Context()))
		require.Len(t, sink.shop.people, 3)
	})
}

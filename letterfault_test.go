package dfs

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// A faultySink refuses as fail says, before the shop is asked.
type faultySink struct {
	*shopSink
	fail func(*Transaction) error
}

func (s faultySink) Apply(ctx context.Context, batch []*Transaction) error {
	for n, tx := range batch {
		if err := s.fail(tx); err != nil {
			if n > 0 {
				if err := s.shopSink.Apply(ctx, batch[:n]); err != nil {
					return err
				}
			}
			return err
		}
	}
	return s.shopSink.Apply(ctx, batch)
}

func inserts(tx *Transaction, id int64) bool {
	for _, c := range tx.Changes {
		if c.Op == Insert && c.After[0].Int() == id {
			return true
		}
	}
	return false
}

// A fault of a table or target parks nothing: all that follows would be parked too.
func TestAStandingFaultParksNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, store, sink, p := shopped(10)
		sink.bad[2] = true // a fault of a row, which is parked all the same
		missing := true
		p.Sink = faultySink{sink, func(tx *Transaction) error {
			if missing && (inserts(tx, 4) || inserts(tx, 5)) {
				return Standing(errors.New("the target has no table shop.people: create it"))
			}
			return nil
		}}
		err := p.Run(t.Context())
		require.ErrorIs(t, err, ErrStanding)
		require.ErrorContains(t, err, "no table shop.people: create it (no dead letter is made of it")
		require.Equal(t, "t4", err.(*Error).ID, "the transaction that met it is named")
		require.Equal(t, []uint64{1}, store.numbers(LetterParked))
		require.EqualValues(t, 3, sink.at.Seq, "all before it are applied")

		missing = false
		running(t, p)
		require.Len(t, sink.shop.people, 9, "and it goes on at the same place")
		require.Equal(t, []uint64{1}, store.numbers(LetterParked))
	})
}

// A letter is not blamed for what it rode on, and is applied with the next.
func TestALetterIsNotBlamedForWhatItRodeOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, store, sink, p := shopped(3)
		p.Source = keyedSource{log, shopKeys} // no empty transactions, so it rides on what comes
		sink.bad[2] = true
		running(t, p)
		delete(sink.bad, 2)
		sink.bad[4] = true
		require.NoError(t, p.RetryLetters(t.Context(), 1))
		log.append(Transaction{ID: "t4", Changes: []Change{{Op: Insert, Table: peopleTable, After: person(4, "m4")}}})
		require.NoError(t, settled(p, make(chan error)))
		require.Equal(t, []uint64{1}, store.numbers(LetterApplied))
		require.Equal(t, []uint64{2}, store.numbers(LetterParked))
		l, err := store.Letter(t.Context(), 2, 0)
		require.NoError(t, err)
		require.Equal(t, "t4", l.ID)
		require.Equal(t, "m2", sink.shop.people[2])

		// One that is itself at fault is still found so.
		sink.bad[5] = true
		log.append(Transaction{ID: "t5", Changes: []Change{{Op: Insert, Table: peopleTable, After: person(5, "m5")}}})
		require.NoError(t, settled(p, make(chan error)))
		require.NoError(t, p.RetryLetters(t.Context(), 3))
		log.append(Transaction{ID: "t6", Changes: []Change{{Op: Insert, Table: peopleTable, After: person(6, "m6")}}})
		require.NoError(t, settled(p, make(chan error)))
		require.Equal(t, []uint64{2, 3}, store.numbers(LetterParked))
		require.Equal(t, "m6", sink.shop.people[6])
	})
}

// A letter is not taken for applied because a run that knew nothing of it has passed
// the number of its ride.
func TestARunWithoutTheStoreIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, store, sink, p := shopped(3)
		p.Source = keyedSource{log, shopKeys}
		sink.bad[2] = true
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		require.NoError(t, settled(p, done))
		delete(sink.bad, 2)
		// It is cut off between the note in the store and the target.
		cancel()
		require.NoError(t, <-done)
		cut := errors.New("cut off")
		p.Sink = faultySink{sink, func(tx *Transaction) error {
			if inserts(tx, 2) {
				return Transient(cut)
			}
			return nil
		}}
		require.NoError(t, p.RetryLetters(t.Context(), 1))
		for _, id := range []int64{4, 5} {
			log.append(Transaction{ID: "later", Changes: []Change{{Op: Insert, Table: peopleTable, After: person(id, fmt.Sprint("m", id))}}})
		}
		ctx, cancel = context.WithCancel(t.Context())
		go func() { done <- p.Run(ctx) }()
		for n := 0; !errors.Is(p.Stats().Apply.Err, cut) && n < 100; n++ {
			sleep()
		}
		require.ErrorIs(t, p.Stats().Apply.Err, cut)
		cancel()
		require.NoError(t, <-done)
		l, err := store.Letter(t.Context(), 1, 0)
		require.NoError(t, err)
		require.EqualValues(t, 4, l.At)

		p.Sink, p.Letters = sink, nil
		ctx, cancel = context.WithCancel(t.Context())
		go func() { done <- p.Run(ctx) }()
		for n := 0; p.Stats().Apply.At.Seq < 5 && n < 100; n++ {
			sleep()
		}
		cancel()
		require.NoError(t, <-done)
		require.NotContains(t, sink.shop.people, int64(2))

		// What a person has settled meanwhile stays so.
		require.NoError(t, (&Pipeline{Letters: store}).SkipLetters(t.Context(), "by hand", 1))
		p.Letters = store
		ctx, cancel = context.WithCancel(t.Context())
		go func() { done <- p.Run(ctx) }()
		require.NoError(t, settled(p, done))
		require.Equal(t, []uint64{1}, store.numbers(LetterSkipped))
		cancel()
		require.NoError(t, <-done)
		store.book.Letters[0].State = LetterWanted // as if nobody had

		running(t, p)
		require.Empty(t, store.numbers(LetterApplied))
		require.Equal(t, []uint64{1}, store.numbers(LetterParked))
		l, err = store.Letter(t.Context(), 1, 0)
		require.NoError(t, err)
		require.Contains(t, l.Err, "nobody knows whether it was")
		require.NoError(t, p.RetryLetters(t.Context(), 1))
		log.append(Transaction{})
		require.NoError(t, settled(p, make(chan error)))
		require.Equal(t, "m2", sink.shop.people[2])
	})
}

// What a purged letter did cannot be done again, and that is said.
func TestAPurgedLetterIsMissedByATargetThatWasPutBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, store, sink, p := shopped(5)
		sink.bad[2] = true
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		require.NoError(t, settled(p, done))
		backup, at := sink.shop.clone(), sink.at
		sink.bad = nil
		require.NoError(t, p.RetryLetters(t.Context(), 1))
		require.NoError(t, settled(p, done))
		require.NoError(t, p.PurgeLetters(t.Context(), 1))
		require.Equal(t, []uint64{1}, store.numbers(LetterPurged))
		l, err := store.Letter(t.Context(), 1, 0)
		require.NoError(t, err)
		require.Empty(t, l.Changes)
		cancel()
		require.NoError(t, <-done)
		ctx, cancel = context.WithCancel(t.Context())
		go func() { done <- p.Run(ctx) }()
		require.NoError(t, settled(p, done))
		require.Equal(t, []uint64{1}, store.numbers(LetterPurged), "a start alone changes nothing")
		cancel()
		require.NoError(t, <-done)

		sink.shop, sink.at = backup, at
		running(t, p)
		require.Equal(t, []uint64{1}, store.numbers(LetterParked))
		l, err = store.Letter(t.Context(), 1, 0)
		require.NoError(t, err)
		require.Contains(t, l.Err, "its changes were purged")
		require.ErrorContains(t, p.RetryLetters(t.Context(), 1), "its changes were purged: skip it, and have a verification")
		require.ErrorContains(t, p.EditLetter(t.Context(), 1, func(c []Change) ([]Change, error) { return c, nil }), "cannot be edited")
		// Until then its whole table waits.
		log.append(Transaction{ID: "t6", Changes: []Change{{Op: Insert, Table: peopleTable, After: person(9, "m9")}}})
		require.NoError(t, settled(p, make(chan error)))
		require.Equal(t, []uint64{1, 2}, store.numbers(LetterParked))
		require.NoError(t, p.SkipLetters(t.Context(), "repaired", 1))
		require.NoError(t, p.RetryLetters(t.Context(), 2))
		require.NoError(t, settled(p, make(chan error)))
		require.Equal(t, "m9", sink.shop.people[9])
		require.NoError(t, p.PurgeLetters(t.Context(), 1))
		require.Empty(t, store.numbers(LetterPurged), "what was skipped is deleted")
	})
}

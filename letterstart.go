package dfs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// letters puts right what the store says, now that the sink is known to stand at
// the given checkpoint. It returns nil if the pipeline has no store.
func (l *leg) letters(ctx context.Context, at Checkpoint) (*letterBox, error) {
	if l.p.Letters == nil || !l.pausable {
		return nil, nil
	}
	b := &letterBox{p: l.p, store: l.p.Letters}
	book, err := b.store.Book(ctx)
	if err != nil {
		return nil, err
	}
	if err := l.reconcile(ctx, book, at.Seq); err != nil {
		return nil, err
	}
	l.suspect.letter = 0
	l.p.learnSkips(book.Skip)
	b.next, b.known = book.Next, book.Keys
	for _, letter := range book.Letters {
		if !letter.Unsettled() {
			continue
		}
		if b.index == nil {
			if err := b.begin(ctx); err != nil {
				return nil, err
			}
		}
		if err := b.load(ctx, letter); err != nil {
			return nil, err
		}
	}
	if err := b.hold(ctx); err != nil {
		return nil, err
	}
	l.p.countLetters(book)
	return b, nil
}

// hold parks what is to be applied, but has to wait for a letter that is not.
func (b *letterBox) hold(ctx context.Context) error {
	w := &LetterWrite{}
	for _, e := range b.list {
		if e.State != LetterWanted {
			continue
		}
		var after []uint64
		waits := false
		b.earlier(e, func(o *parked) bool {
			after = append(after, o.Number)
			waits = waits || o.State == LetterParked
			return true
		})
		if waits {
			slices.Sort(after)
			e.State, e.After = LetterParked, slices.Compact(after)
			b.wanted.Add(-1)
			w.Put = append(w.Put, e.Letter)
		}
	}
	if len(w.Put) == 0 {
		return nil
	}
	return raced(b.store.Write(ctx, w))
}

// reconcile makes the book say what the checkpoint says.
func (l *leg) reconcile(ctx context.Context, book *LetterBook, at uint64) error {
	w := &LetterWrite{}
	put := func(letter *Letter) {
		if !slices.Contains(w.Put, letter) {
			w.Put = append(w.Put, letter)
		}
	}
	var keep []*Letter
	for _, letter := range book.Letters {
		switch {
		case letter.State == LetterVoid:
			keep = append(keep, letter)
			continue
		case !letter.Whole || letter.Seq > max(at, book.Reached):
			w.Delete = append(w.Delete, letter.Number)
			continue
		}
		keep = append(keep, letter)
		switch {
		case letter.Seq > at: // the target was put back
			letter.State = LetterVoid
			put(letter)
		case letter.At == 0:
		case letter.State == LetterPurged && letter.At <= at:
		case letter.State == LetterPurged:
			letter.State, letter.At, letter.Part = LetterParked, 0, ""
			letter.Err = "the target was put back to before this letter was applied, and its changes were purged: " + byRows
			l.p.logger().Error("the target lacks what a purged dead letter did", "number", letter.Number, "id", letter.ID, "tables", letter.Tables)
			put(letter)
		case letter.State == LetterApplied && letter.At <= at:
		case letter.At == at:
			letter.State = LetterApplied
			put(letter)
		case letter.At < at && !letter.Unsettled(): // a person has settled it, whatever became of it
		case letter.At < at:
			// A run with this store would have noted what became of it at once.
			letter.Err = fmt.Sprintf("it was about to be applied with transaction %d when the pipeline was cut off, and a run without this store of letters has gone on "+
				"from there, so that nobody knows whether it was: look at its rows on the target, then retry or skip it", letter.At)
			letter.State, letter.At, letter.Part = LetterParked, 0, ""
			put(letter)
		case letter.State == LetterApplied:
			letter.State, letter.At = LetterParked, 0
			letter.Err = "the target was put back to before this letter was applied"
			put(letter)
		default:
			letter.At = 0
			put(letter)
		}
		if l.suspect.letter == letter.Number && letter.Unsettled() {
			l.accused = accused{letter: letter, before: *letter, seq: l.suspect.rode, name: l.suspect.name}
			letter.State = LetterParked
			letter.Attempts++
			letter.Tried = time.Now().UTC()
			letter.blame(l.suspect.err)
			put(letter)
		}
	}
	book.Letters = keep
	for _, id := range book.Skip {
		if slices.ContainsFunc(keep, func(o *Letter) bool { return o.ID == id && o.State == LetterSkipped && o.Seq <= at }) {
			w.Unskip = append(w.Unskip, id)
		}
	}
	book.Skip = slices.DeleteFunc(book.Skip, func(id string) bool { return slices.Contains(w.Unskip, id) })
	if len(keep) > 0 && at != book.Reached {
		w.Reached = at
	}
	if len(w.Put) == 0 && len(w.Delete) == 0 && len(w.Unskip) == 0 && w.Reached == 0 {
		return nil
	}
	return raced(l.p.Letters.Write(ctx, w))
}

// raced makes the loss of a race with a person a reason to begin again.
func raced(err error) error {
	if errors.Is(err, ErrLetterChanged) || errors.Is(err, ErrNoLetter) {
		return Transient(err)
	}
	return err
}

// blame notes why the letter was refused.
func (l *Letter) blame(err error) {
	var e *Error
	if errors.As(err, &e) {
		l.Part, err = e.Part, e.Err
	}
	l.Err, l.Statement = fmt.Sprint(err), ""
	var s interface{ Statement() string }
	if errors.As(err, &s) {
		l.Statement = s.Statement()
	}
}

// begin learns the keys of the source's tables, before the first letter.
func (b *letterBox) begin(ctx context.Context) error {
	var list []TableKeys
	k, ok := b.p.Source.(Keyer)
	if !ok {
		k, ok = b.p.Decoder.(Keyer) // whose tables they are
	}
	if ok {
		var err error
		if list, err = k.Keys(ctx); err != nil {
			if b.known == nil {
				return Transient(fmt.Errorf("reading the keys of the source's tables, which tell what depends on a dead letter: %w", err))
			}
			b.p.logger().Warn("the keys of the source's tables cannot be read; those known before are used for dead letters", "err", err)
			if err := json.Unmarshal(b.known, &list); err != nil {
				return fmt.Errorf("reading the keys of tables out of the store of dead letters: %w", err)
			}
		} else if now, err := json.Marshal(list); err != nil {
			return err
		} else if string(now) != string(b.known) {
			if err := b.store.Write(ctx, &LetterWrite{Keys: now}); err != nil {
				return err
			}
			b.known = now
		}
	}
	b.keys, b.index = newKeyer(list), newLetterIndex()
	return nil
}

// load enters a letter of the store.
func (b *letterBox) load(ctx context.Context, letter *Letter) error {
	e := &parked{Letter: letter}
	// A letter that was edited still holds back what depends on it as it was.
	if !letter.Gone && (letter.Statements > 0 || letter.Bytes <= 1<<20) {
		full, err := b.store.Letter(ctx, letter.Number, 0)
		if err != nil {
			return raced(err)
		}
		b.note(e, full.Changes)
		b.note(e, full.Edited)
	} else {
		e.list = b.keys.wide(letter.Tables)
	}
	b.enter(e)
	return nil
}

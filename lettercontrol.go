package dfs

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// RetryLetters says that the letters with these numbers are to be applied, in
// their order, as soon as can be: by a Run that is at work, else by the next. They
// go through the Stages as they are now. One that is refused again waits with its
// new error, and with it those that depend on it.
//
// A letter that depends on others which wait can be applied only with them, or when
// they are settled. The error names those, and nothing is changed.
func (p *Pipeline) RetryLetters(ctx context.Context, numbers ...uint64) error {
	return p.settleLetters(ctx, "retry", numbers, func(l *Letter, book map[uint64]*Letter) error {
		switch {
		case l.State == LetterWanted:
			return nil
		case l.State != LetterParked:
			return fmt.Errorf("%v is %v, and cannot be applied again", l, l.State)
		case l.Gone:
			return fmt.Errorf("%v cannot be applied again, as its changes were purged: %s", l, byRows)
		case l.Bytes > maxRide:
			return fmt.Errorf("%v has %d MiB. It would be one transaction in memory with the one that it is applied with, and more than %d MiB are not: %s",
				l, l.Bytes>>20, maxRide>>20, byRows)
		}
		for _, n := range l.After {
			if o := book[n]; o != nil && o.State == LetterParked && !slices.Contains(numbers, n) {
				return fmt.Errorf("%v waits for letter %d, which touches the same: retry that with it, or skip it first", l, n)
			}
		}
		l.State, l.Why = LetterWanted, ""
		return nil
	})
}

// byRows is the cure for a letter that cannot be applied as it was.
const byRows = "skip it, and have a verification of its tables with repair, or another copy of them, bring their rows"

// ParkLetters takes RetryLetters back, for those that have not been applied.
func (p *Pipeline) ParkLetters(ctx context.Context, numbers ...uint64) error {
	return p.settleLetters(ctx, "park", numbers, func(l *Letter, _ map[uint64]*Letter) error {
		if l.State != LetterWanted && l.State != LetterParked {
			return fmt.Errorf("%v is %v already", l, l.State)
		}
		l.State = LetterParked
		return nil
	})
}

// SkipLetters settles letters: they are not applied, and nothing waits for them any
// more. What their transactions did is then missing on the target. The store keeps
// them, with the reason why, until they are purged.
func (p *Pipeline) SkipLetters(ctx context.Context, why string, numbers ...uint64) error {
	return p.settleLetters(ctx, "skip", numbers, func(l *Letter, _ map[uint64]*Letter) error {
		if !l.Unsettled() && l.State != LetterSkipped {
			return fmt.Errorf("%v is %v already", l, l.State)
		}
		l.State, l.Why = LetterSkipped, why
		return nil
	})
}

// EditLetter replaces the changes of a letter that waits by what edit makes of
// them. What has come in is kept beside it. The rows must fit their tables; what
// the changes touch otherwise than before is not held back by itself.
func (p *Pipeline) EditLetter(ctx context.Context, number uint64, edit func([]Change) ([]Change, error)) error {
	err := p.tryLetters(func() error {
		l, err := p.Letters.Letter(ctx, number, 0)
		if err != nil {
			return err
		}
		switch {
		case l.State != LetterParked:
			return fmt.Errorf("%v is %v; only what is parked can be edited", l, l.State)
		case l.At != 0:
			return fmt.Errorf("%v is being applied; wait until it is known whether it was", l)
		case l.Gone:
			return fmt.Errorf("%v cannot be edited, as its changes were purged: %s", l, byRows)
		case l.Bytes > maxRide:
			return fmt.Errorf("%v has %d MiB, and more than %d cannot be edited", l, l.Bytes>>20, maxRide>>20)
		}
		changes := l.Changes
		if l.Edits > 0 {
			changes = l.Edited
		}
		if l.Edited, err = edit(slices.Clone(changes)); err != nil {
			return err
		}
		if err := checkChanges(l.Edited); err != nil {
			return err
		}
		if l.Edited == nil {
			l.Edited = []Change{}
		}
		for i := range l.Edited {
			if t := l.Edited[i].Table; t != nil && !slices.Contains(l.Tables, t.String()) {
				l.Tables = append(l.Tables, t.String())
			}
		}
		l.Changes = nil
		l.Edits++
		return p.Letters.Write(ctx, &LetterWrite{Put: []*Letter{l}})
	})
	if err != nil {
		return fmt.Errorf("edit dead letter %d: %w", number, err)
	}
	p.change(func(*control) {})
	return nil
}

// checkChanges finds changes that no source could have made.
func checkChanges(changes []Change) error {
	var errs []error
	for i := range changes {
		c := &changes[i]
		if c.Op == DDL {
			continue
		}
		if c.Table == nil {
			errs = append(errs, fmt.Errorf("change %d has no table", i+1))
			continue
		}
		if (c.Before != nil) != (c.Op == Update || c.Op == Delete) || (c.After != nil) != (c.Op == Insert || c.Op == Update) {
			errs = append(errs, fmt.Errorf("change %d, the %v of %v, has not the rows of one", i+1, c.Op, c.Table))
		}
		for _, r := range [2]Row{c.Before, c.After} {
			if r != nil && len(r) != len(c.Table.Columns) {
				errs = append(errs, fmt.Errorf("change %d, the %v of %v, has %d values for %d columns", i+1, c.Op, c.Table, len(r), len(c.Table.Columns)))
			}
		}
	}
	return errors.Join(errs...)
}

// PurgeLetters deletes letters that are settled. Of one that was applied it keeps the
// head, so that a target which is put back from a backup of before that is noticed:
// see Letter.Gone. The store forgets it as it does all that was settled long ago.
func (p *Pipeline) PurgeLetters(ctx context.Context, numbers ...uint64) error {
	err := p.tryLetters(func() error {
		book, err := p.lettersOf(ctx, numbers)
		if err != nil {
			return err
		}
		var w LetterWrite
		var errs []error
		for _, n := range slices.Compact(slices.Sorted(slices.Values(numbers))) {
			switch l := book[n]; {
			case l.Unsettled():
				errs = append(errs, fmt.Errorf("%v is not settled; retry or skip it first", l))
			case l.State == LetterApplied:
				if l.Edits > 0 {
					l.Edited = []Change{}
				}
				l.State, l.Gone, l.Parts, l.Edits, l.Changes = LetterPurged, true, 1, 0, []Change{}
				l.Statement = ""
				w.Put = append(w.Put, l)
			default:
				w.Delete = append(w.Delete, n)
			}
		}
		if len(errs) > 0 {
			return errors.Join(errs...)
		}
		return p.Letters.Write(ctx, &w)
	})
	if err != nil {
		return fmt.Errorf("purge dead letters: %w", err)
	}
	return nil
}

// lettersOf returns all letters by number, and an error if one of the numbers has
// none.
func (p *Pipeline) lettersOf(ctx context.Context, numbers []uint64) (map[uint64]*Letter, error) {
	if len(numbers) == 0 {
		return nil, errors.New("no letter is named; give their numbers")
	}
	b, err := p.Letters.Book(ctx)
	if err != nil {
		return nil, err
	}
	book := make(map[uint64]*Letter)
	for _, l := range b.Letters {
		book[l.Number] = l
	}
	for _, n := range numbers {
		if book[n] == nil {
			err = errors.Join(err, fmt.Errorf("%w: %d", ErrNoLetter, n))
		}
	}
	return book, err
}

// settleLetters does what one has asked of some letters, or nothing.
func (p *Pipeline) settleLetters(ctx context.Context, what string, numbers []uint64, f func(*Letter, map[uint64]*Letter) error) error {
	written := false
	err := p.tryLetters(func() error {
		book, err := p.lettersOf(ctx, numbers)
		if err != nil {
			return err
		}
		var w LetterWrite
		var errs []error
		for _, n := range slices.Compact(slices.Sorted(slices.Values(numbers))) {
			l := *book[n]
			if err := f(&l, book); err != nil {
				errs = append(errs, err)
			} else if l.State != book[n].State || l.Why != book[n].Why {
				w.Put = append(w.Put, &l)
			}
		}
		if len(errs) > 0 || len(w.Put) == 0 {
			return errors.Join(errs...)
		}
		written = true // also if that fails: what an error says of a disk is not all
		return p.Letters.Write(ctx, &w)
	})
	if written {
		if b, err := p.Letters.Book(ctx); err == nil {
			p.countLetters(b)
		}
		p.change(func(*control) {})
	}
	if err != nil {
		return fmt.Errorf("%s dead letters: %w", what, err)
	}
	return nil
}

// tryLetters calls f again if the pipeline has written a letter meanwhile.
func (p *Pipeline) tryLetters(f func() error) error {
	if p.Letters == nil {
		return errors.New("the pipeline has no store of dead letters; set Pipeline.Letters")
	}
	for i := 0; ; i++ {
		if err := f(); !errors.Is(err, ErrLetterChanged) || i == 10 {
			return err
		}
	}
}

// countLetters takes over the numbers of a book.
func (p *Pipeline) countLetters(book *LetterBook) {
	var s LetterStats
	for _, l := range book.Letters {
		switch l.State {
		case LetterParked:
			s.Parked++
		case LetterWanted:
			s.Retrying++
		default:
			continue
		}
		if s.Oldest.IsZero() || l.Came.Before(s.Oldest) {
			s.Oldest = l.Came
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.control.letters = s
}

// moreLetters counts what a session has just written.
func (p *Pipeline) moreLetters(list []*Letter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &p.control.letters
	for _, l := range list {
		switch {
		case l.State == LetterApplied:
			s.Retrying--
		case l.State == LetterParked && l.Whole:
			s.Parked++
			if s.Oldest.IsZero() {
				s.Oldest = l.Came
			}
		}
	}
	if s.Parked+s.Retrying == 0 {
		*s = LetterStats{}
	}
}

// learnSkips takes over what the store says is to be skipped.
func (p *Pipeline) learnSkips(ids []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.control.skip
	p.control.skip = make(map[string]uint64)
	for _, id := range ids {
		p.control.skip[id] = old[id]
	}
}

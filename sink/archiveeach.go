package sink

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/dataflowsync/dfs"
)

// Each calls f with the transactions from one place to another, both of them
// included, by their numbers in the archive. A zero from is the beginning of the
// archive and a zero to its end; a time is about those committed later than from and
// up to to. Those that are encoded are decoded by decode, if it is not nil. What f is
// given belongs to it. Its error ends Each.
func (a *Archive) Each(ctx context.Context, from, to dfs.StopPoint, decode func(context.Context, []*dfs.Transaction) error, f func(*dfs.Transaction) error) error {
	first, last, err := a.span(ctx, from, to)
	if err != nil {
		return fmt.Errorf("archive %s: %w", a.dir, err)
	}
	if last < first {
		return nil
	}
	s, err := a.stream(ctx, dfs.Checkpoint{Seq: first - 1})
	if err != nil {
		return err
	}
	defer s.Close()
	s.end = last
	batch := make([]*dfs.Transaction, 256)
	for {
		n, err := s.Next(ctx, batch)
		if err == io.EOF {
			return nil
		}
		if err == nil && decode != nil {
			err = decodeWith(ctx, decode, batch[:n])
		}
		if err != nil {
			return err
		}
		for _, tx := range batch[:n] {
			if err := f(tx); err != nil {
				return err
			}
		}
	}
}

// span returns the numbers of the first and the last transaction between two places.
func (a *Archive) span(ctx context.Context, from, to dfs.StopPoint) (first, last uint64, err error) {
	if from.Place != "" || to.Place != "" {
		return 0, 0, errors.New("an archive does not know places by name: name a transaction or a time")
	}
	a.mu.Lock()
	base := a.whole.Seq
	if len(a.segs) > 0 {
		base = a.segs[0].head.base
	}
	a.mu.Unlock()
	switch {
	case from.IsZero():
		first = base
	case !from.Time.IsZero():
		// What was committed up to then is left out, and that may be nothing.
		us := from.Time.UnixMicro()
		var at uint64
		at, _, err = a.find(ctx, func(r *record) bool { return r.to > us }, func(tx *dfs.Transaction) bool { return !tx.Committed.IsZero() && tx.Committed.UnixMicro() > us })
		if at == 0 {
			first = a.End().Seq
		} else {
			first = at - 1
		}
	default:
		if first, err = a.resolve(ctx, from, true); err != nil {
			// It may be the first of all.
			if n, e := a.resolve(ctx, from, false); e == nil && n > 0 {
				first, err = base, nil
			}
		}
	}
	if err == nil {
		last, err = a.resolve(ctx, to, false)
	}
	named := func(p dfs.StopPoint) bool { return p.Seq > 0 || p.ID != "" }
	if err == nil && (named(from) && named(to) && last <= first || !from.Time.IsZero() && !to.Time.IsZero() && to.Time.Before(from.Time)) {
		err = fmt.Errorf("it is to begin with %s and to end with %s, which is before that", from, to)
	}
	return first + 1, last, err
}

package sink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/match"
)

// RestoreOptions say what to restore of an archive.
type RestoreOptions struct {
	// To says up to where: the transaction with that number in the archive, or with
	// that name at the source, such as a GTID, or all that were committed up to that
	// time. Place is not known to an archive. Default: all that it holds now.
	To dfs.StopPoint

	// Before ends before the transaction that To names by Seq or ID, as before the
	// one that was a mistake.
	Before bool

	// Tables are the tables whose rows are restored, as in cdc.Options. Statements
	// that alter tables come of all, so set MySQLOptions.Tables to the same list.
	// Default: all.
	Tables []string

	// LogOnly restores the changes that the archive has from its beginning, whether
	// or not there is a copy of the rows that were there before. It is for a target
	// that holds these, or for an archive of a log that begins with empty tables.
	LogOnly bool

	// Incomplete restores also to a place at which rows of some tables were still being
	// copied, such as of one that was added, or at which the copy of one had failed: it may
	// lack rows there. By default that is an error. A Baseline after the first does no
	// harm.
	Incomplete bool

	// Decode makes changes of transactions that the archive got as their source had
	// encoded them: new(cdc.Source).Decode for those of package cdc. Without it such
	// a transaction is an error.
	Decode func(ctx context.Context, batch []*dfs.Transaction) error
}

// A Restore reads an archive up to a place, and then ends: it is the Source of a
// pipeline that restores. It begins with the last copy of all rows that was whole at
// that place, so that a restore to any place after it takes what the copy and the
// changes since then take. The numbers of transactions begin with 1 there.
//
// Positions are those of the archive's own source, and each transaction moves the
// target's checkpoint, as ever. So a restore that was killed goes on where it was, a
// target that an older restore made can be taken further, and a target that is
// restored can be fed by the source itself from there on.
//
// A target that a restore begins in must be empty: see MySQL.CheckEmpty. It gets the
// tables of Definitions, as by MySQL.CreateTables, and needs the policy apply for
// statements that alter tables (MySQLOptions.DDL), if there are any on the way.
type Restore struct {
	a      *Archive
	base   baseline
	end    uint64
	opts   RestoreOptions
	tables match.List

	begun atomic.Pointer[begun] // as of the latest Open

	referenced map[string][]string // columns of tables that foreign keys of others refer to
}

// A begun says with which copy of rows a target has begun, and by how much the numbers of
// transactions in the archive are larger than there.
type begun struct {
	baseline
	off uint64 // wraps around if the target's numbers are larger
}

var (
	_ dfs.Source  = (*Restore)(nil)
	_ dfs.Decoder = (*Restore)(nil)
)

// Restore finds the place that opts name, and from where on it can be restored. The
// error says what can be restored instead.
func (a *Archive) Restore(ctx context.Context, opts *RestoreOptions) (*Restore, error) {
	r := &Restore{a: a}
	if opts != nil {
		r.opts = *opts
	}
	var errs []error
	var err error
	if r.tables, err = match.ParseList(r.opts.Tables); err != nil {
		errs = append(errs, err)
	}
	if r.opts.To.Place != "" {
		errs = append(errs, fmt.Errorf("an archive does not know the place %q: name a transaction, by its number or its name, or a time", r.opts.To.Place))
	}
	if r.opts.Before && r.opts.To.Seq == 0 && r.opts.To.ID == "" {
		errs = append(errs, errors.New("option Before needs a transaction to end before: name it in To"))
	}
	if len(errs) == 0 {
		if r.end, err = a.resolve(ctx, r.opts.To, r.opts.Before); err == nil {
			if err = r.choose(); err == nil {
				err = r.complete(ctx)
			}
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("restore from archive %s: %w", a.dir, err)
	}
	return r, nil
}

// choose finds the baseline to begin with.
func (r *Restore) choose() error {
	a := r.a
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.segs) == 0 {
		return errors.New("it is empty")
	}
	if r.opts.LogOnly {
		r.base = baseline{After: a.segs[0].head.base, Segment: a.segs[0].head.number}
		return nil
	}
	first := uint64(0)
	for _, b := range a.chain.Baselines {
		switch {
		case b.Done == 0:
		case b.Done <= r.end:
			r.base = b
		case first == 0:
			first = b.Done
		}
	}
	for _, s := range a.segs {
		if s.head.number == r.base.Segment {
			r.findReferenced(s.start.Defined)
		}
	}
	switch {
	case r.base.Done > 0:
		return nil
	case first > 0:
		return fmt.Errorf("the copy of rows that it begins with was whole with transaction %d only, and the restore is to end with %d: "+
			"restore to a later place", first, r.end)
	case len(a.chain.Baselines) > 0 && a.chain.Baselines[len(a.chain.Baselines)-1].Failed:
		return errors.New("its copy of rows ended without some of the tables, as the pipeline that fills it has told: mend the cause, and have all rows copied again (Baseline)")
	case len(a.chain.Baselines) > 0:
		return errors.New("its copy of rows is not whole yet: wait until it is, or go on with the pipeline that fills it")
	}
	return errors.New("it has no copy of the rows that were there before its first transaction: restore with LogOnly into a target that holds these, " +
		"or begin a new archive by a pipeline that copies them (cdc.Options.Snapshot)")
}

// complete returns an error if tables may lack rows at the place.
func (r *Restore) complete(ctx context.Context) error {
	if r.opts.Incomplete || r.opts.LogOnly {
		return nil
	}
	p, err := r.a.position(ctx, r.end)
	if err != nil || !unfinished(p) {
		return err
	}
	r.a.mu.Lock()
	defer r.a.mu.Unlock()
	for _, b := range r.a.chain.Baselines {
		if b.Again && !b.Failed && b.After < r.end && (b.Done == 0 || r.end < b.Done) {
			return nil // the rows were there before
		}
	}
	return fmt.Errorf("at transaction %d rows of some tables were still being copied, or the copy of one had failed, so that it may lack rows: "+
		"restore to another place, or with Incomplete (-incomplete)", r.end)
}

// End returns the number of the last transaction that is restored, in the archive,
// and where its source's log goes on.
func (r *Restore) End(ctx context.Context) (dfs.Checkpoint, error) {
	p, err := r.a.position(ctx, r.end)
	return dfs.Checkpoint{Seq: r.end, Pos: p}, errors.Join(err, ctx.Err())
}

// Definitions returns the tables as they were when the copy of rows began, as
// Archive.Baseline was told, of those that are restored.
func (r *Restore) Definitions() []Definition {
	r.a.mu.Lock()
	defer r.a.mu.Unlock()
	for _, s := range r.a.segs {
		if s.head.number == r.base.Segment {
			return slices.DeleteFunc(slices.Clone(s.start.Defined), func(d Definition) bool { return !r.tables.Follows(d.Table.Schema, d.Table.Name) })
		}
	}
	return nil
}

// Open returns the transactions that follow a target's checkpoint.
func (r *Restore) Open(ctx context.Context, from dfs.Checkpoint) (dfs.Stream, error) {
	at, base, err := r.locate(ctx, from)
	if err != nil {
		return nil, fmt.Errorf("restore from archive %s: %w", r.a.dir, err)
	}
	if at > r.end {
		return nil, fmt.Errorf("restore from archive %s: the target holds transactions up to %d of the archive already, and is to be restored to %d: "+
			"restore into an empty target", r.a.dir, at, r.end)
	}
	s, err := r.a.stream(ctx, dfs.Checkpoint{Seq: at})
	if err != nil {
		return nil, err
	}
	s.end = r.end
	r.begun.Store(&begun{base, at - from.Seq})
	rs := &restoreStream{archiveStream: s, off: at - from.Seq, done: at == r.end}
	if from.Seq == 0 {
		r.a.mu.Lock()
		for _, g := range r.a.segs {
			if g.head.number == r.base.Segment {
				rs.state = string(g.start.State)
			}
		}
		r.a.mu.Unlock()
	}
	return rs, nil
}

// locate returns the number in the archive of the transaction that a target has
// applied last, and the copy of rows that it has begun with, if it was an archive's.
func (r *Restore) locate(ctx context.Context, from dfs.Checkpoint) (uint64, baseline, error) {
	if from.Seq == 0 {
		return r.base.After, r.base, nil
	}
	r.a.mu.Lock()
	bases := slices.Concat([]baseline{r.base, {}}, r.a.chain.Baselines)
	r.a.mu.Unlock()
	for _, b := range bases {
		if p, err := r.a.position(ctx, b.After+from.Seq); err == nil && p == from.Pos {
			return b.After + from.Seq, b, nil
		}
	}
	// It was fed by another pipeline of the same source.
	_, last, err := r.a.find(ctx, func(*record) bool { return true }, func(tx *dfs.Transaction) bool { return tx.Pos == from.Pos })
	if err == nil && last == 0 {
		err = fmt.Errorf("%w: the target stands at %q, which is no place of the archive: it was fed from elsewhere, or is past or before what the archive holds; "+
			"restore into an empty target, under a name of its own", dfs.ErrGap, from.Pos)
	}
	return last, baseline{}, err
}

// A restoreStream gives transactions the numbers that they have on the target.
type restoreStream struct {
	*archiveStream
	off   uint64 // wraps around if the target's numbers are larger
	state string // for the first transaction that can have it
	done  bool   // there is nothing to be read
}

func (s *restoreStream) Next(ctx context.Context, batch []*dfs.Transaction) (int, error) {
	if s.done {
		return 0, io.EOF
	}
	n, err := s.archiveStream.Next(ctx, batch)
	for _, tx := range batch[:n] {
		tx.Seq -= s.off
		if s.state != "" && !tx.More {
			if tx.State == "" {
				tx.State = s.state
			}
			s.state = ""
		}
	}
	return n, err
}

// Decode implements dfs.Decoder: it leaves out the tables that are not restored, too.
func (r *Restore) Decode(ctx context.Context, batch []*dfs.Transaction) error {
	if err := decodeWith(ctx, r.opts.Decode, batch); err != nil {
		return err
	}
	begun := r.begun.Load()
	for _, tx := range batch {
		if r.opts.Tables != nil {
			tx.Changes = slices.DeleteFunc(tx.Changes, func(c dfs.Change) bool {
				return c.Op != dfs.DDL && c.Table != nil && !r.tables.Follows(c.Table.Schema, c.Table.Name)
			})
		}
		if begun != nil && begun.Again && !tx.Snapshot && tx.Seq+begun.off <= begun.Done {
			if err := r.overlap(tx); err != nil {
				return err
			}
		}
	}
	return nil
}

// decodeWith decodes those transactions of a batch that are encoded.
func decodeWith(ctx context.Context, decode func(context.Context, []*dfs.Transaction) error, batch []*dfs.Transaction) error {
	if i := slices.IndexFunc(batch, func(tx *dfs.Transaction) bool { return tx.Encoded != nil }); i >= 0 {
		if decode == nil {
			return fmt.Errorf("transaction %s was archived as its source has encoded it: set Decode to that source's, such as new(cdc.Source).Decode", txName(batch[i].Seq, batch[i].ID))
		}
		if err := decode(ctx, batch); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// Find returns the number of the last part of the transaction that the source calls
// so, such as by a GTID.
func (a *Archive) Find(ctx context.Context, id string) (uint64, error) {
	seq, err := a.resolve(ctx, dfs.StopPoint{ID: id}, false)
	if err == nil && id == "" {
		err = errors.New("no transaction is named")
	}
	if err != nil {
		return 0, fmt.Errorf("archive %s: %w", a.dir, err)
	}
	return seq, nil
}

// resolve returns the number of the last transaction up to a place.
func (a *Archive) resolve(ctx context.Context, to dfs.StopPoint, before bool) (uint64, error) {
	a.mu.Lock()
	whole := a.whole.Seq
	base := whole
	if len(a.segs) > 0 {
		base = a.segs[0].head.base
	}
	a.mu.Unlock()
	var first, last uint64
	var err error
	switch {
	case to.Seq > 0:
		if to.Seq <= base || to.Seq > whole {
			return 0, fmt.Errorf("it holds transactions %d to %d, and %d is named", base+1, whole, to.Seq)
		}
		first, last, err = a.find(ctx, func(r *record) bool { return r.first <= to.Seq && to.Seq <= r.last }, func(tx *dfs.Transaction) bool { return tx.Seq == to.Seq })
	case to.ID != "":
		is := func(tx *dfs.Transaction) bool { return tx.ID == to.ID }
		if first, last, err = a.find(ctx, func(r *record) bool { return between(r.firstID, to.ID, r.lastID) }, is); err == nil && last == 0 {
			first, last, err = a.find(ctx, func(*record) bool { return true }, is)
		}
		if err == nil && last == 0 {
			err = fmt.Errorf("it has no transaction %s: look for it by basic archive show, or in the source's log", to.ID)
		}
	case !to.Time.IsZero():
		us := to.Time.UnixMicro()
		first, last, err = a.find(ctx, func(r *record) bool { return r.to > us }, func(tx *dfs.Transaction) bool { return tx.Committed.UnixMicro() > us && !tx.Committed.IsZero() })
		if err == nil && last == 0 {
			return whole, nil
		}
		before = true
	default:
		return whole, nil
	}
	switch {
	case err != nil:
		return 0, err
	case !before:
		return last, nil
	case first <= base+1:
		return 0, fmt.Errorf("it begins with transaction %d, and nothing is before that", first)
	}
	return first - 1, nil
}

// between reports whether a name may be one of those from first to last, by the
// numbers that names such as GTIDs end with.
func between(first, id, last string) bool {
	cut := func(s string) (string, uint64, bool) {
		i := strings.LastIndexAny(s, ":-")
		n, err := strconv.ParseUint(s[i+1:], 10, 64)
		return s[:i+1], n, i >= 0 && err == nil
	}
	head, n, ok := cut(id)
	a, from, ok1 := cut(first)
	b, to, ok2 := cut(last)
	return ok && ok1 && ok2 && a == head && b == head && from <= n && n <= to
}

// find returns the numbers of the first and the last part of the first transaction
// that is wanted, or zeros. Only blocks that may have it are read.
func (a *Archive) find(ctx context.Context, maybe func(*record) bool, is func(*dfs.Transaction) bool) (first, last uint64, err error) {
	for range 20 {
		first, last, err = a.tryFind(ctx, maybe, is)
		if !errors.Is(err, os.ErrNotExist) {
			break
		}
		// A segment was sealed meanwhile.
		if a.opts.ReadOnly {
			if err := a.load(ctx); err != nil {
				return 0, 0, err
			}
		}
	}
	return first, last, err
}

func (a *Archive) tryFind(ctx context.Context, maybe func(*record) bool, is func(*dfs.Transaction) bool) (first, last uint64, err error) {
	a.mu.Lock()
	segs, whole := a.segs, a.whole.Seq
	lists := make([][]record, len(segs))
	for i, s := range segs {
		lists[i] = s.records
	}
	a.mu.Unlock()
	var f segmentReader
	defer func() {
		if f != nil {
			f.Close()
		}
	}()
	begun := uint64(1) // the first part of the transaction at hand
	for i, s := range segs {
		if begun <= s.head.base {
			begun = s.head.base + 1
		}
		if f != nil {
			f.Close()
			f = nil
		}
		for k := range lists[i] {
			r := &lists[i][k]
			if r.first > whole {
				return 0, 0, nil
			}
			if first == 0 && !maybe(r) {
				if r.whole >= r.first {
					begun = r.whole + 1
				}
				continue
			}
			if err := ctx.Err(); err != nil {
				return 0, 0, err
			}
			if f == nil {
				if f, err = a.open(s); err != nil {
					f = nil
					return 0, 0, err
				}
			}
			err := a.each(f, s, r, func(tx *dfs.Transaction) {
				if first == 0 && is(tx) {
					first = begun
				}
				if !tx.More {
					if begun = tx.Seq + 1; first > 0 && last == 0 {
						last = tx.Seq
					}
				}
			})
			if err != nil || last > 0 {
				return first, last, err
			}
		}
	}
	return 0, 0, nil
}

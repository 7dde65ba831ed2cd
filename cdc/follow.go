package cdc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/match"
)

// A following is which tables are followed at a place of the log: those of
// Options.Tables, and what was changed about them while the log was read. It is
// durable, as a part of State, and never changed: another takes its place.
type following struct {
	base    []string // Options.Tables, as they were
	added   []string // "schema.table": followed although no pattern of base has it
	dropped []string // "schema.table": not followed although base has it
	filter  *filter
}

// newFollowing returns what these follow. Faults in base are those of newFilter.
func newFollowing(base, added, dropped []string) *following {
	f := &following{base: slices.Clone(base), added: slices.Clone(added), dropped: slices.Clone(dropped)}
	f.filter, _ = newFilter(f.patterns())
	return f
}

// patterns returns all of it in the form of Options.Tables.
func (f *following) patterns() []string {
	list := slices.Clone(f.base)
	if len(f.added) > 0 && !slices.ContainsFunc(f.base, func(p string) bool { return !strings.HasPrefix(p, "!") }) {
		list = append(list, "*.*") // which a list of names would take the place of
	}
	list = append(list, f.added...)
	for _, name := range f.dropped {
		list = append(list, "!"+name)
	}
	return list
}

// follows reports whether a table is followed.
func (f *following) follows(n tableName) bool { return f.filter.follows(n.schema, n.name) }

// plus returns f with a table that is to be followed besides.
func (f *following) plus(n tableName) *following {
	if f.follows(n) {
		return f
	}
	g := newFollowing(f.base, f.added, without(f.dropped, n.String()))
	if !g.follows(n) {
		g = newFollowing(g.base, append(g.added, n.String()), g.dropped)
	}
	return g
}

// minus returns f with a table that is to be followed no more.
func (f *following) minus(n tableName) *following {
	g := newFollowing(f.base, without(f.added, n.String()), f.dropped)
	if g.follows(n) {
		g = newFollowing(g.base, g.added, append(g.dropped, n.String()))
	}
	return g
}

func without(list []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return strings.EqualFold(s, name) })
}

// onto returns what is followed when Options.Tables have become other ones. What
// was changed while the log was read stays so, unless the new patterns say so too,
// or are new and name a table to the contrary.
func (f *following) onto(base []string) *following {
	fresh := slices.DeleteFunc(slices.Clone(base), func(p string) bool { return containsFold(f.base, p) })
	g := newFollowing(base, nil, nil)
	for _, name := range f.added {
		n := nameOf(name)
		out := slices.ContainsFunc(fresh, func(p string) bool {
			parsed, not, err := match.ParseFollowed(p)
			return err == nil && not && parsed.Match(n.schema, n.name)
		})
		if !out {
			g = g.plus(n)
		}
	}
	for _, name := range f.dropped {
		if !containsFold(fresh, name) {
			g = g.minus(nameOf(name))
		}
	}
	return g
}

func containsFold(list []string, s string) bool {
	return slices.ContainsFunc(list, func(t string) bool { return strings.EqualFold(s, t) })
}

// nameOf reads "schema.table".
func nameOf(s string) tableName {
	schema, name, _ := strings.Cut(s, ".")
	return tableName{schema, name}
}

// stateFollow is the first byte of the part of a State that says what is followed:
// three lists of texts, each with its length in front. It stands before that of the
// catalog, and behind that of a copy.
const stateFollow = 3

// state returns the durable form.
func (f *following) state() []byte {
	b := []byte{stateFollow}
	for _, list := range [3][]string{f.base, f.added, f.dropped} {
		b = binary.AppendUvarint(b, uint64(len(list)))
		for _, s := range list {
			b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
		}
	}
	return b
}

// splitFollow reads what state wrote, and returns what is behind it. The result is
// nil for a State without it, as those of older programs are.
func splitFollow(state string) (f *following, rest string, err error) {
	if state == "" || state[0] != stateFollow {
		return nil, state, nil
	}
	r := reader{b: []byte(state[1:])}
	var lists [3][]string
	for i := range lists {
		for n := r.uvarint(); n > 0 && !r.bad; n-- {
			size := r.uvarint()
			if size > uint64(len(r.b)) {
				r.fail()
			}
			lists[i] = append(lists[i], alias(r.bytes(int(size))))
		}
	}
	if r.bad {
		return nil, "", errDamagedState
	}
	return newFollowing(lists[0], lists[1], lists[2]), string(r.b), nil
}

var errDamagedState = errors.New("cdc: the checkpoint's State is damaged: put the checkpoint back from a copy, or make a new copy of the data")

// Followed returns the tables that are followed at a checkpoint with this State, in
// the form of Options.Tables: those that Options.Tables had then, and what Follow and
// Unfollow have changed about them. If the State does not say, as that of an empty
// checkpoint, it returns tables.
func Followed(state string, tables []string) ([]string, error) {
	_, rest, err := splitState(state)
	if err != nil {
		return nil, err
	}
	f, _, err := splitFollow(rest)
	if err != nil || f == nil {
		return tables, err
	}
	return f.patterns(), nil
}

// A FollowChange says how the tables that a Source follows differ from those that
// were followed at a checkpoint.
type FollowChange struct {
	// New are tables that Options.Tables name now and did not then, and Gone those
	// that they name no more. Tables that the server does not have are in neither.
	New, Gone []string

	// Added and Dropped are what Follow and Unfollow have changed, and what
	// Options.Tables do not say yet.
	Added, Dropped []string
}

// Resume takes over which tables are followed at a checkpoint, without opening a
// Stream: Tables, Definitions and ForeignKeys then go by that. Options.Tables may be
// others than when the checkpoint was made, and the result says how they differ. Open
// does the same.
func (s *Source) Resume(ctx context.Context, from dfs.Checkpoint) (*FollowChange, error) {
	_, rest, err := splitState(from.State)
	if err != nil {
		return nil, err
	}
	then, _, err := splitFollow(rest)
	if err != nil {
		return nil, err
	}
	f, change, err := s.resumeFollowing(ctx, then)
	if err != nil {
		return nil, err
	}
	s.follow.Store(f)
	return change, nil
}

// resumeFollowing returns what is followed where reading goes on, given what was
// followed there before; nil if that is not known.
func (s *Source) resumeFollowing(ctx context.Context, then *following) (*following, *FollowChange, error) {
	change := new(FollowChange)
	if then == nil {
		return newFollowing(s.opts.Tables, nil, nil), change, nil
	}
	now := then.onto(s.opts.Tables)
	change.Added, change.Dropped = now.added, now.dropped
	if s.db == nil || sameSet(then.patterns(), now.patterns()) {
		return now, change, nil
	}
	all, err := s.tableNames(ctx)
	if err != nil {
		return nil, nil, mark(fmt.Errorf("cdc: look which tables are followed that were not: %w", err))
	}
	for _, n := range all {
		switch was, is := then.follows(n), now.follows(n); {
		case is && !was:
			change.New = append(change.New, n.String())
		case was && !is:
			change.Gone = append(change.Gone, n.String())
		}
	}
	return now, change, nil
}

// sameSet reports whether two lists have the same texts.
func sameSet(a, b []string) bool {
	return slices.Equal(slices.Compact(slices.Sorted(slices.Values(a))), slices.Compact(slices.Sorted(slices.Values(b))))
}

// tell logs what a person may want to know of how the tables differ.
func (c *FollowChange) tell(s *Source, copied bool) {
	log := s.opts.Logger
	if len(c.New) > 0 {
		how := "their changes come from the checkpoint on; rows that they had before are not copied: let them be copied by Resnapshot"
		if copied {
			how = "their rows are copied, and their changes come after them"
		}
		log.Warn("Options.Tables name tables that were not followed up to here", "tables", someOf(c.New), "how", how)
	}
	if len(c.Gone) > 0 {
		log.Warn("Options.Tables do not name tables that were followed up to here: from the checkpoint on nothing of them comes", "tables", someOf(c.Gone))
	}
	if len(c.Added) > 0 {
		log.Warn("these tables were added while the pipeline ran, and stay followed: write them into Options.Tables, or Unfollow them", "tables", someOf(c.Added))
	}
	if len(c.Dropped) > 0 {
		log.Warn("these tables were taken out while the pipeline ran, and stay so: leave them out of Options.Tables (\"!schema.table\"), or Follow them", "tables", someOf(c.Dropped))
	}
}

// someOf writes the first of many names.
func someOf(names []string) string {
	if n := len(names) - 20; n > 0 {
		return strings.Join(names[:20], ", ") + fmt.Sprintf(" and %d more", n)
	}
	return strings.Join(names, ", ")
}

// followed returns which tables are followed as of the latest Stream, or by
// Options.Tables if there was none.
func (s *Source) followed() *filter {
	if f := s.follow.Load(); f != nil {
		return f.filter
	}
	return s.filter
}

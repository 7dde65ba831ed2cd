package dpu

import (
	"slices"

	"github.com/dataflowsync/dfs"
)

// A plan is what the units make of one table.
type plan struct {
	src  *dfs.Table
	outs []*output
	// keep says that no unit takes the table, and its changes stay; without it
	// and outs they go.
	keep bool
}

// maxPlans bounds what is kept of a source that makes ever new Tables.
const maxPlans = 10000

// plan returns what is made of a table.
func (s *Units) plan(t *dfs.Table) (*plan, error) {
	if t == s.last && t != nil {
		return s.lastPlan, nil
	}
	p := s.plans[t]
	if p == nil {
		if t == nil || len(t.Columns) == 0 {
			return &plan{src: t, keep: true}, nil // a statement
		}
		// A source may describe one table by ever new Tables.
		name := t.String()
		for _, old := range s.byName[name] {
			if sameTable(old.src, t) {
				p = old
			}
		}
		if p == nil {
			var err error
			if p, err = s.newPlan(t); err != nil {
				return nil, err
			}
			s.byName[name] = append(s.byName[name], p)
		}
		if len(s.plans) >= maxPlans {
			clear(s.plans)
			clear(s.byName)
		}
		s.plans[t] = p
	}
	s.last, s.lastPlan = t, p
	return p, nil
}

func sameTable(a, b *dfs.Table) bool {
	return slices.Equal(a.Key, b.Key) && slices.EqualFunc(a.Columns, b.Columns, func(x, y dfs.Column) bool {
		return x.Name == y.Name && x.Type == y.Type && x.Charset == y.Charset && x.Collation == y.Collation &&
			x.Nullable == y.Nullable && slices.Equal(x.Members, y.Members)
	})
}

// newPlan asks the units about a table.
func (s *Units) newPlan(t *dfs.Table) (*plan, error) {
	p := &plan{src: t}
	taken := false
	for _, u := range s.units {
		s.choosing = u
		captures, ok := u.matches(t)
		s.choosing = nil
		if !ok {
			continue
		}
		taken = true
		o, err := u.build(t, captures)
		if err != nil {
			return nil, err
		}
		p.outs = append(p.outs, o)
		if len(o.notes) > 0 && !s.mapped[o.u.name+t.String()] {
			s.mapped[o.u.name+t.String()] = true
			s.opts.Logger.Warn("unit changes values", "unit", u.name, "table", t.String(), "how", o.notes)
		}
		if !u.Also {
			break
		}
	}
	p.keep = !taken && !s.opts.OnlyUnits
	return p, nil
}

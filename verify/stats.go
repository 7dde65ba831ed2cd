package verify

import (
	"slices"
	"strings"
	"time"
)

// TableStats is what is known of a table while a Verifier runs, and after.
type TableStats struct {
	Source, Target string
	Verdict        Verdict   // of the last time that it was compared; empty if it never was
	Verified       time.Time // when it was last found to be equal; zero if never
	Compared       time.Time // when it was last compared to its end; zero if never
	Rows           uint64    // compared in all
	Findings       int       // in all
	Untold         []string  // of the last time
}

// Stats returns what is known of each table that has been compared, in the order
// of their names. It may be called at any time, from any goroutine.
func (v *Verifier) Stats() []TableStats {
	v.mu.Lock()
	defer v.mu.Unlock()
	var list []TableStats
	for _, s := range v.stats {
		list = append(list, *s)
	}
	slices.SortFunc(list, func(a, b TableStats) int { return strings.Compare(a.Source, b.Source) })
	return list
}

// progress counts rows of a table as they are compared.
func (j *job) progress(rows uint64) { j.run.count(j.t, rows) }

func (r *run) count(t *TableReport, rows uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.table(t).Rows += rows
}

// done notes the result of a table. When it was verified is when its comparison
// began: what was compared first may have changed since.
func (r *run) done(t *TableReport) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.table(t)
	s.Target, s.Verdict, s.Compared, s.Untold = t.Target, t.Verdict, t.Began, t.Untold
	s.Findings += len(t.Findings)
	if t.Verdict == Equal {
		s.Verified = t.Began
	}
}

func (v *Verifier) table(t *TableReport) *TableStats {
	if v.stats == nil {
		v.stats = make(map[string]*TableStats)
	}
	s := v.stats[t.Source]
	if s == nil {
		s = &TableStats{Source: t.Source, Target: t.Target}
		v.stats[t.Source] = s
	}
	return s
}

//go:build unix

package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A trend is how what a process takes has changed over its life, once it had settled:
// the later half of the time that is left against the earlier one.
//
// All of it has to stay as it is, for nothing that the process holds grows with what
// the workload has written: its tables keep their number of rows, their columns stay
// the same, the target is never more than a number of transactions behind, and the
// logs of the servers, which grow, are not the process's. A set of GTIDs gets one more
// interval for a server that takes over, or that is killed.
type trend struct {
	Judged bool          `json:"judged"` // it lived long enough
	Flat   bool          `json:"flat"`   // it is judged, and nothing has grown by more than 5 %
	Lived  time.Duration `json:"lived_ns"`
	WarmUp time.Duration `json:"warm_up_ns"` // which does not count
	// The number of samples, their medians and their maxima, of both halves.
	Samples    [2]int   `json:"samples"`
	Before     sample   `json:"before"`
	After      sample   `json:"after"`
	MostBefore sample   `json:"most_before"`
	MostAfter  sample   `json:"most_after"`
	Grown      []string `json:"grown"`      // what is not flat: medians
	MostGrown  []string `json:"most_grown"` // maxima that rose by more, which one fault more than before may do
}

// A process that lived less than shortest is not judged.
const shortest = 15 * time.Minute

// warmUp returns how long a process takes to settle: half an hour, or a third of a life
// of an hour or less.
func warmUp(lived time.Duration) time.Duration {
	if lived > time.Hour {
		return 30 * time.Minute
	}
	return lived / 3
}

// A measure is a figure of a sample that has to be flat.
type measure struct {
	name  string
	of    func(sample) int64
	bytes bool
	some  int64 // more of what there are few of are no growth
}

var measures = []measure{
	{"memory", func(x sample) int64 { return x.RSS }, true, 0},
	{"heap in use", func(x sample) int64 { return x.Heap }, true, 0},
	{"open files", func(x sample) int64 { return int64(x.Files) }, false, 3},
	{"goroutines", func(x sample) int64 { return int64(x.Goroutines) }, false, 3},
}

// text returns a figure with its unit.
func (m *measure) text(x sample) string {
	if m.bytes {
		return fmt.Sprintf("%.1f MiB", float64(m.of(x))/(1<<20))
	}
	return fmt.Sprint(m.of(x))
}

// grown lists what is more than 5 % above what it was.
func grown(before, after sample) (all []string) {
	for _, m := range measures {
		if b, a := m.of(before), m.of(after); a > b+max(b/20, m.some) {
			all = append(all, fmt.Sprintf("%s grew from %s to %s", m.name, m.text(before), m.text(after)))
		}
	}
	return all
}

// trendOf judges the samples of one process, oldest first.
func trendOf(all []sample) (t trend) {
	if len(all) == 0 {
		return t
	}
	t.Lived = all[len(all)-1].Age
	t.WarmUp = warmUp(t.Lived)
	at := func(age time.Duration) int {
		return slices.IndexFunc(all, func(x sample) bool { return x.Age >= age })
	}
	settled, half := at(t.WarmUp), at((t.WarmUp+t.Lived)/2)
	earlier, later := all[settled:half], all[half:]
	t.Samples = [2]int{len(earlier), len(later)}
	if len(earlier) == 0 {
		return t
	}
	t.Before, t.After, t.MostBefore, t.MostAfter = median(earlier), median(later), maxima(earlier), maxima(later)
	if t.Judged = t.Lived >= shortest; !t.Judged {
		return t
	}
	t.Grown, t.MostGrown = grown(t.Before, t.After), grown(t.MostBefore, t.MostAfter)
	t.Flat = len(t.Grown) == 0
	return t
}

// verdict says it in words.
func (t *trend) verdict() string {
	switch {
	case t.Lived == 0:
		return "not judged"
	case !t.Judged:
		return fmt.Sprintf("not judged: the longest life was %v", t.Lived.Round(time.Second))
	case !t.Flat:
		return "NOT flat within 5 %"
	case len(t.MostGrown) > 0:
		return "flat within 5 %, but for maxima"
	default:
		return "flat within 5 %"
	}
}

// summary is the verdict with its figures, in a line.
func (t *trend) summary() string {
	text := t.verdict()
	if !t.Judged {
		return text
	}
	var figures []string
	for _, m := range measures {
		if m.of(t.MostAfter) > 0 { // a report of older days has no heap
			figures = append(figures, fmt.Sprintf("%s %s -> %s", m.name, m.text(t.Before), m.text(t.After)))
		}
	}
	return fmt.Sprintf("%s over %v: %s", text, t.Lived.Round(time.Minute), strings.Join(figures, ", "))
}

// median returns the median of each figure by itself.
func median(all []sample) sample {
	return reduce(all, func(n []int64) int64 {
		slices.Sort(n)
		return n[len(n)/2]
	})
}

// maxima returns the maximum of each figure by itself.
func maxima(all []sample) sample { return reduce(all, slices.Max[[]int64]) }

// reduce makes one sample of many, each figure by itself.
func reduce(all []sample, to func([]int64) int64) sample {
	of := func(figure func(sample) int64) int64 {
		n := make([]int64, len(all))
		for i, x := range all {
			n[i] = figure(x)
		}
		return to(n)
	}
	return sample{
		Age: time.Duration(of(func(x sample) int64 { return int64(x.Age) })),
		RSS: of(func(x sample) int64 { return x.RSS }), Heap: of(func(x sample) int64 { return x.Heap }),
		Files: int(of(func(x sample) int64 { return int64(x.Files) })), Goroutines: int(of(func(x sample) int64 { return int64(x.Goroutines) })),
	}
}

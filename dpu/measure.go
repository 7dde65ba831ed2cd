package dpu

import (
	"fmt"
	"strings"

	"github.com/dataflowsync/dfs"
)

var _ dfs.Measurer = (*Units)(nil)

// Measures returns the numbers of Stats: two for each unit, whose names end with that of
// the unit as far as it has letters and digits.
func (s *Units) Measures() []dfs.Measure {
	var list []dfs.Measure
	seen := make(map[string]int)
	for _, u := range s.Stats() {
		name := strings.Trim(strings.Map(func(c rune) rune {
			switch {
			case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
				return c
			}
			return '_'
		}, strings.ToLower(u.Name)), "_")
		seen[name]++
		if n := seen[name]; n > 1 || name == "" {
			name = fmt.Sprintf("%s_%d", name, n)
		}
		list = append(list,
			dfs.Measure{Name: "in_" + name, Help: "rows given to unit " + u.Name, Value: float64(u.In), Counter: true},
			dfs.Measure{Name: "out_" + name, Help: "rows made by unit " + u.Name, Value: float64(u.Out), Counter: true})
	}
	return list
}

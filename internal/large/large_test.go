//go:build linux

package main

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// What "make large" does with large things, with smaller ones: rows that need several
// packets of the protocol, parts, many tables, and positions that are long, in seconds.
func TestLargeThingsArriveWhole(t *testing.T) {
	j := &job{ways: []string{"queue", "direct"}, scale: 0.01, log: t.Output()}
	for _, c := range cases {
		if slices.Contains([]string{"transaction", "row", "columns", "tables", "gtids"}, c.name) {
			j.cases = append(j.cases, c)
		}
	}
	results, err := j.run(t.Context())
	require.NoError(t, err)
	require.Len(t, results, 10)
	kills := 0
	for _, r := range results {
		require.Empty(t, r.Faults, "%s, %s", r.Case, r.Way)
		require.Positive(t, r.Rows)
		kills += r.Kills
	}
	require.Positive(t, kills)
	require.Greater(t, results[8].Pos, int64(64<<10), "the position is not larger than 64 KB")
}

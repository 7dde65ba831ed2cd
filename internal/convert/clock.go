package convert

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dataflowsync/dfs"
)

// ParseClock reads a date or time as the servers print it: "2026-11-22",
// "2026-11-22 10:30:00.125" or, for a TIME, "-12:30:00". A T may stand for the
// space, and a Timestamp may end in Z; it is in UTC.
func ParseClock(text string, kind dfs.Kind) (dfs.Value, error) {
	bad := fmt.Errorf("%q is no %s", text, kind)
	s := strings.TrimSpace(text)
	if kind == dfs.Time && strings.Count(s, "-") < 2 {
		return parseTime(s, bad)
	}
	s = strings.TrimSuffix(s, "Z")
	date, clock, _ := strings.Cut(strings.Replace(s, "T", " ", 1), " ")
	var ymd [3]int
	for i, part := range strings.Split(date, "-") {
		n, err := strconv.Atoi(part)
		if i > 2 || err != nil || n < 0 || len(part) != [3]int{4, 2, 2}[i] {
			return dfs.Value{}, bad
		}
		ymd[i] = n
	}
	if strings.Count(date, "-") != 2 || ymd[1] > 12 || ymd[2] > 31 {
		return dfs.Value{}, bad
	}
	if ymd[1] > 0 && ymd[2] > 0 && time.Date(ymd[0], time.Month(ymd[1]), ymd[2], 0, 0, 0, 0, time.UTC).Day() != ymd[2] {
		return dfs.Value{}, bad
	}
	if clock == "" {
		if kind == dfs.Date {
			return dfs.DateValue(ymd[0], ymd[1], ymd[2]), nil
		}
		return dfs.DateTimeValue(ymd[0], ymd[1], ymd[2], 0, 0, 0, 0, 0), nil
	}
	t, err := parseTime(clock, bad)
	if err != nil || t.Duration() < 0 || t.Duration() >= 24*time.Hour {
		return dfs.Value{}, bad
	}
	d := t.Duration()
	return dfs.DateTimeValue(ymd[0], ymd[1], ymd[2], int(d.Hours()), int(d.Minutes())%60, int(d.Seconds())%60,
		int(d.Microseconds()%1e6), t.FSP()), nil
}

func parseTime(s string, bad error) (dfs.Value, error) {
	rest, negative := strings.CutPrefix(s, "-")
	clock, fraction, _ := strings.Cut(rest, ".")
	parts := strings.Split(clock, ":")
	if len(parts) < 2 || len(parts) > 3 || len(fraction) > 6 {
		return dfs.Value{}, bad
	}
	parts = append(parts, "0")[:3]
	var d time.Duration
	for i, unit := range []time.Duration{time.Hour, time.Minute, time.Second} {
		n, err := strconv.ParseUint(parts[i], 10, 16)
		if err != nil || i > 0 && n > 59 || n > 838 {
			return dfs.Value{}, bad
		}
		d += time.Duration(n) * unit
	}
	if fraction != "" {
		n, err := strconv.ParseUint(fraction, 10, 32)
		if err != nil {
			return dfs.Value{}, bad
		}
		d += time.Duration(n) * step(len(fraction))
	}
	if negative {
		d = -d
	}
	return dfs.TimeValue(d, len(fraction)), nil
}

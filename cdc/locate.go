package cdc

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
)

var _ dfs.Locator = (*Source)(nil)

// Locate reads a place of the log: gtid:SET is where all of these transactions
// have been read, and file:NAME:POSITION where that file has been read up to
// there. A file is compared by the number at its end, so it must be one of the
// server that is being read.
func (s *Source) Locate(place string) (func(dfs.Position) (bool, error), error) {
	at, err := parseStart(place)
	if err != nil || at.kind != "gtid" && at.kind != "file" || at.kind == "gtid" && at.gtid == "" {
		return nil, fmt.Errorf("write the place as gtid:SET or file:NAME:POSITION")
	}
	if at.kind == "file" {
		base, number := splitLog(at.file)
		if number == "" {
			return nil, fmt.Errorf("the file %q has no number at its end, as binlog.000001 has", at.file)
		}
		return func(p dfs.Position) (bool, error) {
			v, err := parsePosition(p)
			if err != nil || v.file == "" {
				return false, err
			}
			have, n := splitLog(v.file)
			if have != base {
				return false, fmt.Errorf("the source's log is called %s, and not %s", v.file, at.file)
			}
			if c := compareNumbers(n, number); c != 0 {
				return c > 0, nil
			}
			return v.pos >= at.pos, nil
		}, nil
	}
	set, notSet := parseGTIDSet(at.gtid)
	list, notList := parseGTIDList(at.gtid)
	return func(p dfs.Position) (bool, error) {
		v, err := parsePosition(p)
		switch {
		case err != nil:
			return false, err
		case v.kind == byGTID && notSet == nil:
			return v.set.contains(set), nil
		case v.kind == byMaria && notList == nil:
			return v.list.reached(list), nil
		case v.kind == byFile:
			return false, fmt.Errorf("the source is read by file and position, not by GTID; name the place as file:NAME:POSITION")
		}
		return false, fmt.Errorf("%q is not how this source writes GTIDs; it stands at %s", at.gtid, p)
	}, nil
}

// splitLog takes the number off the name of a log file.
func splitLog(file string) (base, number string) {
	i := strings.LastIndexByte(file, '.') + 1
	if i == len(file) || strings.Trim(file[i:], "0123456789") != "" {
		return file, ""
	}
	return file[:i], file[i:]
}

// compareNumbers compares texts of digits.
func compareNumbers(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

// contains reports whether all of other is in the set.
func (s *gtidSet) contains(other *gtidSet) bool {
	return !slices.ContainsFunc(other.sids, func(o gtidSID) bool {
		i := slices.IndexFunc(s.sids, func(m gtidSID) bool { return m.uuid == o.uuid && m.tag == o.tag })
		return slices.ContainsFunc(o.spans, func(want span) bool {
			return i < 0 || !slices.ContainsFunc(s.sids[i].spans, func(have span) bool {
				return have.first <= want.first && want.last <= have.last
			})
		})
	})
}

// reached reports whether the list is at or past other in each of its domains.
func (l *gtidList) reached(other *gtidList) bool {
	return !slices.ContainsFunc(other.gtids, func(want mariaGTID) bool {
		return !slices.ContainsFunc(l.gtids, func(have mariaGTID) bool {
			return have.domain == want.domain && have.seq >= want.seq
		})
	})
}

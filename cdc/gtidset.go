package cdc

import "slices"

// find returns the member for uuid and tag, or nil.
func (s *gtidSet) find(uuid [16]byte, tag string) *gtidSID {
	for i := range s.sids {
		if s.sids[i].uuid == uuid && s.sids[i].tag == tag {
			return &s.sids[i]
		}
	}
	return nil
}

// has reports whether the set has a GTID.
func (s *gtidSet) has(uuid [16]byte, tag string, n uint64) bool {
	sid := s.find(uuid, tag)
	if sid == nil {
		return false
	}
	_, found := slices.BinarySearchFunc(sid.spans, n, func(v span, n uint64) int {
		switch {
		case v.last < n:
			return -1
		case v.first > n:
			return 1
		}
		return 0
	})
	return found
}

// minus returns what of s is not in o.
func (s *gtidSet) minus(o *gtidSet) *gtidSet {
	left := new(gtidSet)
	for i := range s.sids {
		sid := &s.sids[i]
		var out []span
		if other := o.find(sid.uuid, sid.tag); other != nil {
			out = other.spans
		}
		for _, v := range sid.spans {
			for len(out) > 0 && out[0].last < v.first {
				out = out[1:]
			}
			// Spans that lie in v are cut out of it, one after the other. The last
			// may reach into the next of s as well, and so it stays.
			rest := true
			for _, cut := range out {
				if cut.first > v.last {
					break
				}
				if cut.first > v.first {
					left.sid(sid.uuid, sid.tag).add(span{v.first, cut.first - 1})
				}
				if cut.last >= v.last {
					rest = false
					break
				}
				v.first = cut.last + 1
			}
			if rest {
				left.sid(sid.uuid, sid.tag).add(v)
			}
		}
	}
	return left
}

// clone returns a copy.
func (s *gtidSet) clone() *gtidSet { return s.minus(new(gtidSet)) }

// find returns the last GTID of a domain.
func (l *gtidList) find(domain uint32) (mariaGTID, bool) {
	for _, g := range l.gtids {
		if g.domain == domain {
			return g, true
		}
	}
	return mariaGTID{}, false
}

// decodeGTIDList reads the body of MariaDB's GTID list event, which begins each
// file: what its log had before. There may be several of a domain, the last one
// logged at the end (Gtid_list_log_event of MariaDB's sql/log_event.h).
func decodeGTIDList(b []byte) ([]mariaGTID, error) {
	r := reader{b: b}
	n := int(r.uint32() & (1<<28 - 1)) // the highest bits are flags
	if r.bad || n > len(r.b)/16 {
		return nil, errShortEvent
	}
	list := make([]mariaGTID, n)
	for i := range list {
		list[i] = mariaGTID{domain: r.uint32(), server: r.uint32(), seq: r.uint64()}
	}
	return list, nil
}

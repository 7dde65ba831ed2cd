package cdc

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A gtidSet is the set of a MySQL server's GTIDs that have been read. A stream
// adds one for each transaction and writes the set into each position, so both
// are made cheap for the common case, where the set grows at one place: that
// place is kept last in the text, and only its last number is written anew.
//
// The order of the members of a set means nothing to MySQL.
type gtidSet struct {
	sids []gtidSID // the one that grew last is last
	head []byte    // text of the set up to its last number; nil if not known
}

// A gtidSID is the GTIDs of one server, or of one tag of one server.
type gtidSID struct {
	name  string // "uuid" or "uuid:tag"
	uuid  [16]byte
	tag   string
	spans []span // ascending, neither touching nor overlapping
}

// A span is the numbers first to last, both included.
type span struct{ first, last uint64 }

// parseGTIDSet reads a set as MySQL prints it, such as
// "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:7:tag:1-3". Spaces and line feeds
// are ignored.
func parseGTIDSet(s string) (*gtidSet, error) {
	set := new(gtidSet)
	s = strings.Join(strings.Fields(s), "")
	for member := range strings.SplitSeq(s, ",") {
		if member == "" {
			continue
		}
		parts := strings.Split(member, ":")
		uuid, err := parseUUID(parts[0])
		if err != nil || len(parts) < 2 {
			return nil, fmt.Errorf("%q is not a GTID set: write it as MySQL prints @@gtid_executed", member)
		}
		tag := ""
		for _, part := range parts[1:] {
			if c := part[:min(1, len(part))]; c == "" || c > "9" {
				if tag = strings.ToLower(part); tag == "" {
					return nil, fmt.Errorf("%q has an empty part between its colons", member)
				}
				continue
			}
			from, to, ok := strings.Cut(part, "-")
			if !ok {
				to = from
			}
			first, err1 := strconv.ParseUint(from, 10, 63)
			last, err2 := strconv.ParseUint(to, 10, 63)
			if err := errors.Join(err1, err2); err != nil || first == 0 || last < first {
				return nil, fmt.Errorf("%q in %q is not a span of transaction numbers", part, member)
			}
			set.sid(uuid, tag).add(span{first, last})
		}
	}
	return set, nil
}

// parseUUID reads a UUID, with its dashes or without.
func parseUUID(s string) (uuid [16]byte, err error) {
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err == nil && len(b) != len(uuid) {
		err = hex.ErrLength
	}
	copy(uuid[:], b)
	return uuid, err
}

// appendUUID writes the 16 bytes of a UUID as MySQL prints @@server_uuid.
func appendUUID(b []byte, u []byte) []byte {
	for i, part := range [5][2]int{{0, 4}, {4, 6}, {6, 8}, {8, 10}, {10, 16}} {
		if i > 0 {
			b = append(b, '-')
		}
		b = hex.AppendEncode(b, u[part[0]:part[1]])
	}
	return b
}

var uuidText = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// ownedGTIDs makes a GTID set of @@global.gtid_owned, in which each number has
// the id of the session that owns it, and nothing stands between that and the
// next UUID: "uuid:7#12:8#13uuid:tag:5#14".
func ownedGTIDs(s string) string {
	var set []string
	at := uuidText.FindAllStringIndex(s, -1)
	for i, u := range at {
		end := len(s)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		member := s[u[0]:u[1]]
		for part := range strings.SplitSeq(strings.Trim(s[u[1]:end], ":,\n"), ":") {
			part, _, _ = strings.Cut(part, "#")
			member += ":" + part
		}
		set = append(set, member)
	}
	return strings.Join(set, ",")
}

// sid returns the member for uuid and tag, which becomes the last one.
func (s *gtidSet) sid(uuid [16]byte, tag string) *gtidSID {
	n := len(s.sids)
	for i := range s.sids {
		if s.sids[i].uuid == uuid && s.sids[i].tag == tag {
			if i != n-1 {
				sid := s.sids[i]
				s.sids = append(slices.Delete(s.sids, i, i+1), sid)
			}
			return &s.sids[n-1]
		}
	}
	name := string(appendUUID(nil, uuid[:]))
	if tag != "" {
		name += ":" + tag
	}
	s.sids = append(s.sids, gtidSID{name: name, uuid: uuid, tag: strings.Clone(tag)})
	return &s.sids[n]
}

// add joins v to the spans.
func (sid *gtidSID) add(v span) {
	i, _ := slices.BinarySearchFunc(sid.spans, v, func(a, b span) int {
		// A span that ends right before v touches it, and is to be joined.
		if a.last+1 < b.first {
			return -1
		}
		return 1
	})
	j := i
	for j < len(sid.spans) && sid.spans[j].first <= v.last+1 {
		v.first = min(v.first, sid.spans[j].first)
		v.last = max(v.last, sid.spans[j].last)
		j++
	}
	sid.spans = slices.Replace(sid.spans, i, j, v)
}

// add puts one GTID into the set.
func (s *gtidSet) add(uuid [16]byte, tag string, n uint64) {
	if len(s.sids) > 0 && s.head != nil {
		sid := &s.sids[len(s.sids)-1]
		last := &sid.spans[len(sid.spans)-1]
		if n == last.last+1 && last.first < last.last && sid.uuid == uuid && sid.tag == tag {
			last.last = n
			return
		}
	}
	s.head = nil
	s.sid(uuid, tag).add(span{n, n})
}

// append writes the set as MySQL prints it, but with the members in the order of
// their last growth. It writes nothing for an empty set.
func (s *gtidSet) append(b []byte) []byte {
	if len(s.sids) == 0 {
		return b
	}
	sid := &s.sids[len(s.sids)-1]
	last := sid.spans[len(sid.spans)-1].last
	if s.head == nil {
		h := make([]byte, 0, 64)
		for i := range s.sids {
			if i > 0 {
				h = append(h, ',')
			}
			h = append(h, s.sids[i].name...)
			for _, v := range s.sids[i].spans {
				h = strconv.AppendUint(append(h, ':'), v.first, 10)
				if v.last != v.first {
					h = strconv.AppendUint(append(h, '-'), v.last, 10)
				}
			}
		}
		s.head = h[:len(h)-len(strconv.AppendUint(nil, last, 10))]
	}
	return strconv.AppendUint(append(b, s.head...), last, 10)
}

func (s *gtidSet) String() string { return string(s.append(nil)) }

// encode writes the set in the form of COM_BINLOG_DUMP_GTID. It is that of
// MySQL's Gtid_set::encode: a count of members, and for each its UUID, a count
// of spans, and for each its first number and the one after its last. Where the
// set has tags, the count has a 1 in its highest byte and again below its
// count, which is then 6 bytes long, and a tag follows each UUID (MySQL 8.3).
func (s *gtidSet) encode() []byte {
	le := binary.LittleEndian
	n := uint64(len(s.sids))
	tagged := false
	for i := range s.sids {
		tagged = tagged || s.sids[i].tag != ""
	}
	sids := s.sids
	if tagged {
		n = 1<<56 | n<<8 | 1
		// A set with tags must be in order.
		sids = slices.Clone(sids)
		slices.SortFunc(sids, func(a, b gtidSID) int { return strings.Compare(a.name, b.name) })
	}
	b := le.AppendUint64(nil, n)
	for i := range sids {
		b = append(b, sids[i].uuid[:]...)
		if tagged {
			// The length is a variable length number of MySQL's serialization
			// library: its lowest bit is zero for one byte.
			b = append(append(b, byte(len(sids[i].tag))<<1), sids[i].tag...)
		}
		b = le.AppendUint64(b, uint64(len(sids[i].spans)))
		for _, v := range sids[i].spans {
			b = le.AppendUint64(le.AppendUint64(b, v.first), v.last+1)
		}
	}
	return b
}

// decodeGTIDSet reads what encode writes, as a previous-GTIDs event holds it.
func decodeGTIDSet(b []byte) (*gtidSet, error) {
	r := reader{b: b}
	n := r.uint64()
	tagged := n>>56 == 1
	if tagged {
		n = n << 8 >> 16
	}
	set := new(gtidSet)
	for ; n > 0 && !r.bad; n-- {
		var uuid [16]byte
		copy(uuid[:], r.bytes(16))
		tag := ""
		if tagged {
			tag = string(r.bytes(int(r.byte() >> 1)))
		}
		for spans := r.uint64(); spans > 0 && !r.bad; spans-- {
			v := span{r.uint64(), r.uint64() - 1}
			if v.first == 0 || v.last < v.first || v.last > maxGNO {
				r.fail()
				break
			}
			set.sid(uuid, tag).add(v)
		}
	}
	if r.bad {
		return nil, fmt.Errorf("read GTID set: %w", errShortEvent)
	}
	return set, nil
}

// A gtidList is where a MariaDB log stands: the last GTID of each domain.
type gtidList struct {
	gtids []mariaGTID // the one that moved last is last
}

// A mariaGTID is a GTID of MariaDB, printed as "domain-server-seq".
type mariaGTID struct {
	domain, server uint32
	seq            uint64
}

// append writes the GTID as MariaDB prints it.
func (g mariaGTID) append(b []byte) []byte {
	b = append(strconv.AppendUint(b, uint64(g.domain), 10), '-')
	b = append(strconv.AppendUint(b, uint64(g.server), 10), '-')
	return strconv.AppendUint(b, g.seq, 10)
}

// parseGTIDList reads a list as MariaDB prints @@gtid_binlog_pos.
func parseGTIDList(s string) (*gtidList, error) {
	l := new(gtidList)
	for part := range strings.SplitSeq(strings.Join(strings.Fields(s), ""), ",") {
		if part == "" {
			continue
		}
		f := strings.Split(part, "-")
		if len(f) != 3 {
			return nil, fmt.Errorf("%q is not a GTID of MariaDB: write it as domain-server-number", part)
		}
		domain, err1 := strconv.ParseUint(f[0], 10, 32)
		server, err2 := strconv.ParseUint(f[1], 10, 32)
		seq, err3 := strconv.ParseUint(f[2], 10, 64)
		if errors.Join(err1, err2, err3) != nil {
			return nil, fmt.Errorf("%q is not a GTID of MariaDB: write it as domain-server-number", part)
		}
		l.set(mariaGTID{uint32(domain), uint32(server), seq})
	}
	return l, nil
}

// set makes g the last GTID of its domain.
func (l *gtidList) set(g mariaGTID) {
	for i := range l.gtids {
		if l.gtids[i].domain == g.domain {
			l.gtids = slices.Delete(l.gtids, i, i+1)
			break
		}
	}
	l.gtids = append(l.gtids, g)
}

// append writes the list as MariaDB takes it in @slave_connect_state, with the
// domain that moved last at the end.
func (l *gtidList) append(b []byte) []byte {
	for i, g := range l.gtids {
		if i > 0 {
			b = append(b, ',')
		}
		b = g.append(b)
	}
	return b
}

func (l *gtidList) String() string { return string(l.append(nil)) }

package verify

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"

	"github.com/dataflowsync/dfs"
)

// bagParts is how many parts a large table without a key is put into, by a hash of its
// rows: equal rows are in one part.
const bagParts = 1 << 16

// bagsByPart is bags of a table that has more rows than are held in memory. Of each part
// it takes the number of rows and the sum of their hashes, which two equal rows do not
// cancel out as they would by XOR. Then it reads all rows once more, and tells those
// apart of the parts that differ, or of so many of these as fit into memory.
//
// Both scans must see the same rows for what it returns to be true, which a lock or a
// source at rest makes sure of, as settling needs it anyway. Where they do not, moved
// may be set: then nothing is known, though nothing differs.
func (j *job) bagsByPart(ctx context.Context, q querier, lock string) (a map[string]int, at string, b map[string]int, err error) {
	j.more, j.moved = false, false
	began := time.Now()
	sums, err := j.partSums(ctx, q, true, lock)
	if err != nil {
		return nil, "", nil, fmt.Errorf("checksum rows of the source: %w", err)
	}
	took := time.Since(began)
	if at, err = j.pass(ctx, j.passTime(lock)); err != nil {
		return nil, "", nil, err
	}
	began = time.Now()
	others, err := j.partSums(ctx, j.targetDB(), false, "")
	if err != nil {
		return nil, "", nil, fmt.Errorf("checksum rows of the target: %w", err)
	}
	j.scan = took + time.Since(began)
	var differ []int
	held, rows := uint64(0), uint64(0)
	for i := range sums {
		rows += others[i].rows
		if sums[i] == others[i] || j.more {
			continue
		}
		n := max(sums[i].rows, others[i].rows)
		if held+n > j.inMemory() && differ != nil {
			j.more = true
			continue
		}
		held += n
		differ = append(differ, i)
	}
	if j.stored != nil {
		j.t.TargetRows = rows
	}
	if differ == nil {
		return nil, at, nil, nil
	}
	j.seam("parts")
	if a, err = j.countParts(ctx, q, true, lock, differ); err != nil {
		return nil, "", nil, fmt.Errorf("count equal rows of the source: %w", err)
	}
	if at, err = j.pass(ctx, j.passTime(lock)); err != nil {
		return nil, "", nil, err
	}
	if b, err = j.countParts(ctx, j.targetDB(), false, "", differ); err != nil {
		return nil, "", nil, fmt.Errorf("count equal rows of the target: %w", err)
	}
	withoutEqual(a, b)
	j.moved = len(a) == 0 && len(b) == 0
	return a, at, b, nil
}

// eachDigest calls f with the hash of each row of a side, of a table that only Go can
// compare.
func (j *job) eachDigest(ctx context.Context, q querier, source bool, lock string, f func(d digest)) error {
	if j.stored != nil {
		return j.storedDigests(ctx, q, source, lock, func(d digest, _ []cell, _ dfs.Row) { f(d) })
	}
	s := j.sideOf(source)
	return each(ctx, q, "SELECT "+strings.Join(s.forms, ",")+" FROM "+s.table+lock, func(r []cell) error {
		f(j.digest(r))
		return nil
	})
}

func (j *job) sideOf(source bool) *sqlSide {
	if source {
		return &j.fromSQL
	}
	return &j.toSQL
}

// part returns the part that a row of a hash is in.
func (d digest) part() int { return int(binary.LittleEndian.Uint16(d[:])) }

// partSums returns how many rows each part has, and the sum of their hashes.
func (j *job) partSums(ctx context.Context, q querier, source bool, lock string) ([]sum, error) {
	out := make([]sum, bagParts)
	if j.inGo {
		added := make([][2]uint64, bagParts)
		err := j.eachDigest(ctx, q, source, lock, func(d digest) {
			p, carry := d.part(), uint64(0)
			out[p].rows++
			added[p][0], carry = bits.Add64(added[p][0], binary.LittleEndian.Uint64(d[:]), 0)
			added[p][1], _ = bits.Add64(added[p][1], binary.LittleEndian.Uint64(d[8:]), carry)
		})
		for p := range out {
			if out[p].rows > 0 {
				out[p].xor = fmt.Sprintf("%x %x", added[p][1], added[p][0])
			}
		}
		return out, err
	}
	s := j.sideOf(source)
	err := each(ctx, q, fmt.Sprintf("SELECT %s%%%d, COUNT(*), SUM(%s) FROM %s GROUP BY 1 ORDER BY NULL%s", s.row, bagParts, s.row, s.table, lock), func(r []cell) error {
		p, err := strconv.Atoi(r[0].text)
		if err != nil || p < 0 || p >= bagParts {
			return fmt.Errorf("%q is no part: %w", r[0].text, err)
		}
		out[p].rows, err = strconv.ParseUint(r[1].text, 10, 64)
		out[p].xor = r[2].text
		return err
	})
	return out, err
}

// countParts returns how many rows a side has of each hash in some of the parts.
func (j *job) countParts(ctx context.Context, q querier, source bool, lock string, parts []int) (map[string]int, error) {
	out := make(map[string]int)
	if j.inGo {
		var in [bagParts]bool
		for _, p := range parts {
			in[p] = true
		}
		return out, j.eachDigest(ctx, q, source, lock, func(d digest) {
			if in[d.part()] {
				out[string(d[:])]++
			}
		})
	}
	s := j.sideOf(source)
	list := make([]string, len(parts))
	for i, p := range parts {
		list[i] = strconv.Itoa(p)
	}
	where := fmt.Sprintf(" WHERE %s%%%d IN (%s)", s.row, bagParts, strings.Join(list, ","))
	return out, each(ctx, q, "SELECT "+s.row+", COUNT(*) FROM "+s.table+where+" GROUP BY 1 ORDER BY NULL"+lock, func(r []cell) error {
		n, err := strconv.Atoi(r[1].text)
		out[r[0].text] = n
		return err
	})
}

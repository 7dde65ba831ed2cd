package cdc

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
)

// summed returns packets of events of many lengths, with checksums, behind skip bytes each, and
// where the events begin.
func summed(rng *rand.Rand, n, skip int) (wire []byte, at []int) {
	kinds := []byte{evQuery, evTableMap, evWriteRows2, evUpdateRows2, evXID, evGTID, evXID, evHeartbeat, evRotate}
	for range n {
		size := headerLen + 4 + rng.IntN(1+rng.IntN(1000))
		if rng.IntN(50) == 0 {
			size += mostRun
		}
		e := make([]byte, size)
		for i := range e {
			e[i] = byte(rng.Uint32())
		}
		e[4] = kinds[rng.IntN(len(kinds))]
		binary.LittleEndian.PutUint32(e[9:], uint32(size))
		binary.LittleEndian.PutUint32(e[size-4:], crc32.ChecksumIEEE(e[:size-4]))
		wire = binary.LittleEndian.AppendUint32(wire, uint32(skip+size)|rng.Uint32()<<24)
		wire = append(wire, []byte{0, semiSyncMagic, byte(rng.IntN(2))}[:skip]...)
		at = append(at, len(wire))
		wire = append(wire, e...)
	}
	return wire, at
}

// readSummed reads wire as a server's, with pieces of any length, and returns the events up to the
// first error, each copied.
func readSummed(t testing.TB, wire []byte, skip int, seed uint64) (got []event, err error) {
	src := &Source{cfg: new(mysql.Config)}
	src.opts, _ = (&Options{}).withDefaults()
	rng := rand.New(rand.NewPCG(seed, 1))
	conn := &pieces{replay{wire: wire}, rng}
	r := &remote{
		of: &Stream{src: src}, some: true, sum: true, semi: skip > 1,
		in: packets{conn: conn, size: 4 << 10, timeout: time.Hour},
	}
	for {
		e, err := r.next(context.Background(), true)
		if err != nil {
			return got, err
		}
		got = append(got, slices.Clone(e))
	}
}

// pieces is a connection over which a log comes in pieces of any length.
type pieces struct {
	replay
	rng *rand.Rand
}

func (p *pieces) Read(b []byte) (int, error) {
	return p.replay.Read(b[:min(len(b), 1+p.rng.IntN(1+p.rng.IntN(20000)))])
}

func TestChecksumsOfManyEventsAtOnce(t *testing.T) {
	for _, skip := range []int{1, 1 + semiSyncHead} {
		for seed := range uint64(5) {
			rng := rand.New(rand.NewPCG(seed, uint64(skip)))
			wire, at := summed(rng, 300, skip)
			whole := slices.Clone(wire)
			got, err := readSummed(t, wire, skip, seed)
			require.ErrorContains(t, err, "closed the connection")
			require.Len(t, got, len(at))
			for i, e := range got {
				require.Equal(t, event(whole[at[i]:at[i]+int(e.size())-4]), e, "event %d is as it came", i)
			}

			// Any wrong bits of one event are told of that one, and not before it is due.
			for range 40 {
				bad := slices.Clone(whole)
				i := rng.IntN(len(at))
				e := event(bad[at[i]:])
				e = e[:e.size()]
				if e.kind() == evHeartbeat || e.kind() == evRotate {
					continue // servers make these up, and what is wrong with them is told elsewhere
				}
				for range 1 + rng.IntN(3) {
					if j := rng.IntN(len(e)); j != 4 && (j < 9 || j > 12) { // what says kind and size
						e[j] ^= 1 << rng.IntN(8)
					}
				}
				if slices.Equal(bad, whole) {
					continue
				}
				got, err := readSummed(t, bad, skip, seed)
				require.ErrorIs(t, err, errChecksum)
				require.ErrorIs(t, err, dfs.ErrTransient)
				require.Len(t, got, i)
			}
		}
	}
}

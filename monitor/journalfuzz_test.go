package monitor

import (
	"runtime/metrics"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"

	"github.com/dataflowsync/dfs"
)

// FuzzJournalBlock reads any bytes as what is in a block whose checksum is right.
func FuzzJournalBlock(f *testing.F) {
	e := &entry{first: 7, last: 8, read: time.UnixMicro(5), at: time.UnixMicro(6), err: "refused", names: []string{"decode", "units"},
		txs:   []txHead{{seq: 7, id: "a:7", pos: "p", committed: time.UnixMicro(4)}, {seq: 8, more: true}},
		steps: []step{{counts: []int{1, 0}, data: dfs.AppendChanges(nil, []dfs.Change{{Op: dfs.DDL, Query: "x"}})}, {same: true}}}
	f.Add(appendEntry(nil, e))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := &stored{blockBuilder: blockBuilder{pipeline: "shop", first: 7, last: 8, raw: b}, data: s2.Encode(nil, b)}
		s.sum = s.check()
		was := allocated()
		list, err := s.entries()
		if used := allocated() - was; used > uint64(len(b))*1000+10<<20 {
			t.Fatalf("%d bytes made it allocate %d", len(b), used)
		}
		if err != nil {
			return
		}
		for _, e := range list {
			for i := range e.steps {
				_, _ = e.steps[i].changes()
			}
		}
	})
}

func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

package queue

import (
	"bytes"

	"github.com/dataflowsync/dfs/internal/txrun"
)

// What a stream waits for it gets from memory once it is on the disk: to read it from
// the file takes about as long as to write it. A stream that has more to read than the newest blocks
// reads the file, and while none waits nothing is kept.

// fresh is the newest blocks, one after the other.
type fresh []freshBlock

type freshBlock struct {
	id          int64
	first, last uint64
	raw         []byte
}

const (
	freshBlocks = 16       // that are kept at most
	freshBytes  = 32 << 10 // of one, before compression; what is larger does not come one by one
)

// keepFresh keeps the block just inserted, if a stream waits for it. Sealing may have let
// go of what was compressed, if that took much memory.
func (g *group) keepFresh(e *encoder) {
	if e.block.raw <= freshBytes && int64(len(e.run.Raw)) == e.block.raw && g.q.waiters.Load() > 0 {
		g.fresh = append(g.fresh, freshBlock{e.id, e.first, e.last, bytes.Clone(e.run.Raw)})
	}
}

// add adds the blocks that a group has committed, or forgets all that is not followed
// by them. q.mu is held.
func (f *fresh) add(g *group) {
	if g.st.whole == g.st.last && len(g.fresh) > 0 && g.fresh[len(g.fresh)-1].id == g.st.last.block {
		for _, b := range g.fresh {
			if n := len(*f); n > 0 && (*f)[n-1].id+1 != b.id {
				*f = nil
			}
			*f = append(*f, b)
		}
		if n := len(*f) - freshBlocks; n > 0 {
			clear((*f)[:n])
			*f = (*f)[n:]
		}
	} else if g.q.st.whole != g.st.whole || g.all {
		*f = nil
	}
}

// takeFresh gets what follows in the stream from memory, if that is kept.
func (s *stream) takeFresh() bool {
	q := s.q
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, b := range q.fresh {
		// Invariant I3: Seq is dense.
		if b.id == s.block+1 && b.first == s.seq+1+uint64(s.loaded()) {
			s.ready, s.blocks = append(s.ready, txrun.Read(bytes.Clone(b.raw), b.first, b.last)), append(s.blocks, b.id)
			s.block = b.id
		}
	}
	return len(s.ready) > 0
}

// loaded returns how many transactions wait to be handed out.
func (s *stream) loaded() (n int) {
	for _, c := range s.ready {
		n += c.Left()
	}
	return n
}

package relmgr

// A chunk has the new ids that the first keys of 256 pages have, 0 where a page is not
// whole, or not in memory: a page is whole if all of its keys have come, and have
// consecutive ids. So a map of a hundred million keys is looked up out of 0.8 MB; and
// where the pages of a chunk follow each other too, out of one line of the processor's
// cache for each chunk.
type chunk struct {
	even  bool // all pages are whole, and their ids follow each other, from first on
	n     int  // of pages that are whole
	first int64
	ids   [chunkPages]int64
}

const (
	chunkBits  = 8
	chunkPages = 1 << chunkBits
	chunkKeys  = chunkPages * pageSize
	chunkBytes = 8*chunkPages + 64
)

func (c *chunk) set(no, id int64) {
	at := &c.ids[no&(chunkPages-1)]
	if *at == 0 {
		c.n++
	}
	if *at = id; c.n < chunkPages {
		return
	}
	c.first, c.even = c.ids[0], true
	for i, id := range c.ids {
		c.even = c.even && id == c.first+int64(i)*pageSize
	}
}

// chunks are those of a space, by the number of their first page / chunkPages: in a
// list, as keys mostly are numbers from 1 on, or in a map.
type chunks struct {
	list []*chunk
	rest map[int64]*chunk
}

const mostListed = 1 << 16

func (c *chunks) at(no int64) *chunk {
	switch {
	case uint64(no) < uint64(len(c.list)):
		return c.list[no]
	case len(c.rest) == 0:
		return nil
	}
	return c.rest[no]
}

func (c *chunks) put(no int64, of *chunk) {
	if no >= 0 && no < mostListed {
		for int64(len(c.list)) <= no {
			c.list = append(c.list, nil)
		}
		c.list[no] = of
		return
	}
	if c.rest == nil {
		c.rest = make(map[int64]*chunk)
	}
	c.rest[no] = of
}

// wholeID returns the new id of a key of a whole page; 0 if it is not in memory as one.
func (m *Manager) wholeID(sp *space, key int64) int64 {
	no := key >> (pageBits + chunkBits)
	c := sp.whole.at(no)
	if c == nil {
		if c = sp.oldWhole.at(no); c == nil {
			return 0
		}
		m.keepChunk(sp, no, c)
	}
	if c.even {
		return c.first + key&(chunkKeys-1)
	}
	if id := c.ids[key>>pageBits&(chunkPages-1)]; id != 0 {
		return id + key&(pageSize-1)
	}
	return 0
}

func (m *Manager) keepChunk(sp *space, no int64, c *chunk) {
	sp.whole.put(no, c)
	m.cache.size += chunkBytes
}

// keepWhole keeps a page as one that is whole, if it is, and nothing of it is newer
// than the file.
func (m *Manager) keepWhole(p *page) bool {
	sp := p.space
	if len(p.runs) != 1 || p.dirty {
		return false
	}
	r := &p.runs[0]
	if r.span != pageSize || r.known.n != pageSize || r.came.n != pageSize || r.new <= 0 {
		return false
	}
	no := p.no >> chunkBits
	c := sp.whole.at(no)
	if c == nil {
		if c = sp.oldWhole.at(no); c == nil {
			c = new(chunk)
		}
		m.keepChunk(sp, no, c)
	}
	c.set(p.no, r.new)
	return true
}

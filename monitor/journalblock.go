package monitor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/klauspost/compress/s2"
)

// An entry is what became of a run of transactions that went through the stages
// together, or of one that was refused.
type entry struct {
	pipeline    string
	level       JournalLevel
	first, last uint64 // Seq; with JournalAll it has all between
	read        time.Time
	at          time.Time // when the outcome was known
	err         string    // why it was refused; empty: the sink has applied it
	txs         []txHead
	names       []string // of the steps
	steps       []step
	whole       bool // when read: it came through all stages
	wary        bool // it is only of interest if it is refused
	held        int  // what size said when it began to wait for its outcome
	skipped     bool // as somebody asked, and not refused

	keys    []uint64 // hashes of what it can be found by; may repeat
	secrets []string // values that the error must not show
}

// A txHead is a transaction without its changes.
type txHead struct {
	seq       uint64
	id, pos   string
	committed time.Time
	more      bool
	snapshot  bool
	parked    string // as which dead letter, and why; empty: it was not
}

// A step is the changes of an entry's transactions at one place of the way.
type step struct {
	counts []int  // of changes, by transaction
	data   []byte // what dfs.AppendChanges made of all of them
	same   bool   // nothing has changed since the step before
}

// fail notes why the entry was refused.
func (e *entry) fail(why string) {
	e.err, e.at = why, time.Now()
	for _, s := range e.secrets {
		e.err = maskText(e.err, s)
	}
	if e.err == "" {
		e.err = "refused"
	}
}

// lacking is how many of the transactions the target has not.
func (e *entry) lacking() (n int) {
	if e.err != "" {
		return len(e.txs)
	}
	for i := range e.txs {
		if e.txs[i].parked != "" {
			n++
		}
	}
	return n
}

// maskText puts dots in the place of a value. A short one counts as a word of its own
// only, as it is a part of many others by chance.
func maskText(text, secret string) string {
	if secret == "" {
		return text
	}
	word := func(c byte) bool { return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || c >= 0x80 }
	for from := 0; ; {
		i := strings.Index(text[from:], secret)
		if i < 0 {
			return text
		}
		i += from
		end := i + len(secret)
		if len(secret) < 4 && (i > 0 && word(text[i-1]) || end < len(text) && word(text[end])) {
			from = i + 1
			continue
		}
		text = text[:i] + maskedText + text[end:]
		from = i + len(maskedText)
	}
}

// cut drops the transactions from the given one on.
func (e *entry) cut(from uint64) {
	n := 0
	for n < len(e.txs) && e.txs[n].seq < from {
		n++
	}
	e.last, e.txs = from-1, e.txs[:n]
	for i := range e.steps {
		e.steps[i].counts = e.steps[i].counts[:n]
	}
}

// size returns about how many bytes of memory the entry holds.
func (e *entry) size() int {
	n := 256 + len(e.err) + 8*len(e.keys)
	for i := range e.txs {
		n += 112 + len(e.txs[i].id) + len(e.txs[i].pos) + len(e.txs[i].parked)
	}
	for i := range e.steps {
		if n += 64 + 8*len(e.steps[i].counts); !e.steps[i].same {
			n += len(e.steps[i].data)
		}
	}
	return n
}

const (
	headMore = 1 << iota
	headSnapshot
	headCommitted
	headParked
)

// appendEntry writes an entry:
//
//	first, last          uvarints
//	read, at             varints, microseconds of Unix time
//	err                  text
//	transactions         uvarint, and for each Seq less first, id, pos, flags, committed if it is known, why it was parked if it was
//	steps                uvarints of how many there are and how many it came to, and for each its name, 1 if it is as the one before,
//	                     else 0, the number of changes of each transaction, and the changes
func appendEntry(b []byte, e *entry) []byte {
	b = binary.AppendUvarint(binary.AppendUvarint(b, e.first), e.last)
	b = binary.AppendVarint(binary.AppendVarint(b, e.read.UnixMicro()), e.at.UnixMicro())
	b = appendText(b, e.err)
	b = binary.AppendUvarint(b, uint64(len(e.txs)))
	for i := range e.txs {
		t := &e.txs[i]
		b = appendText(appendText(binary.AppendUvarint(b, t.seq-e.first), t.id), t.pos)
		flags := byte(0)
		if t.more {
			flags |= headMore
		}
		if t.snapshot {
			flags |= headSnapshot
		}
		if !t.committed.IsZero() {
			flags |= headCommitted
		}
		if t.parked != "" {
			flags |= headParked
		}
		if b = append(b, flags); flags&headCommitted != 0 {
			b = binary.AppendVarint(b, t.committed.UnixMicro())
		}
		if flags&headParked != 0 {
			b = appendText(b, t.parked)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(e.names)))
	b = binary.AppendUvarint(b, uint64(len(e.steps)))
	for i := range e.steps {
		s := &e.steps[i]
		b = appendText(b, e.names[i])
		if s.same {
			b = append(b, 1)
			continue
		}
		b = append(b, 0)
		for _, n := range s.counts {
			b = binary.AppendUvarint(b, uint64(n))
		}
		b = append(binary.AppendUvarint(b, uint64(len(s.data))), s.data...)
	}
	return b
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// errDamaged says that a block is not as it was written.
var errDamaged = errors.New("it is damaged: what it says cannot be relied on")

// A parser reads what appendEntry has written. After a fault all it reads is zero.
type parser struct {
	b   []byte
	bad bool
}

func (p *parser) uvarint() uint64 {
	v, n := binary.Uvarint(p.b)
	if n <= 0 {
		p.b, p.bad = nil, true
		return 0
	}
	p.b = p.b[n:]
	return v
}

func (p *parser) varint() int64 {
	v, n := binary.Varint(p.b)
	if n <= 0 {
		p.b, p.bad = nil, true
		return 0
	}
	p.b = p.b[n:]
	return v
}

func (p *parser) bytes() []byte {
	n := p.uvarint()
	if n > uint64(len(p.b)) {
		p.b, p.bad = nil, true
		return nil
	}
	b := p.b[:n:n]
	p.b = p.b[n:]
	return b
}

func (p *parser) byte() byte {
	if len(p.b) == 0 {
		p.bad = true
		return 0
	}
	c := p.b[0]
	p.b = p.b[1:]
	return c
}

// count reads a number of things that take a byte or more each.
func (p *parser) count() int {
	n := p.uvarint()
	if n > uint64(len(p.b)) {
		p.b, p.bad = nil, true
		return 0
	}
	return int(n)
}

func (p *parser) entry() (*entry, error) {
	e := &entry{first: p.uvarint(), last: p.uvarint()}
	e.read, e.at = time.UnixMicro(p.varint()), time.UnixMicro(p.varint())
	e.err = string(p.bytes())
	e.txs = make([]txHead, p.count())
	for i := range e.txs {
		t := &e.txs[i]
		t.seq, t.id, t.pos = e.first+p.uvarint(), string(p.bytes()), string(p.bytes())
		flags := p.byte()
		t.more, t.snapshot = flags&headMore != 0, flags&headSnapshot != 0
		if flags&headCommitted != 0 {
			t.committed = time.UnixMicro(p.varint())
		}
		if flags&headParked != 0 {
			t.parked = string(p.bytes())
		}
	}
	ways := p.uvarint()
	for range p.count() {
		if p.bad {
			return nil, errDamaged
		}
		e.names = append(e.names, string(p.bytes()))
		s := step{}
		switch p.byte() {
		case 0:
			s.counts = make([]int, len(e.txs))
			for i := range s.counts {
				s.counts[i] = int(p.uvarint())
			}
			s.data = p.bytes()
		case 1:
			if len(e.steps) == 0 {
				return nil, errDamaged
			}
			s = e.steps[len(e.steps)-1]
			s.same = true
		default:
			return nil, errDamaged
		}
		e.steps = append(e.steps, s)
	}
	if p.bad {
		return nil, errDamaged
	}
	e.whole = uint64(len(e.steps)) == ways
	return e, nil
}

// changes returns the changes of the step, by transaction.
func (s *step) changes() ([][]dfs.Change, error) {
	all, err := dfs.ParseChanges(s.data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	list := make([][]dfs.Change, len(s.counts))
	for i, n := range s.counts {
		if n < 0 || n > len(all) {
			return nil, errDamaged
		}
		list[i], all = all[:n:n], all[n:]
	}
	return list, nil
}

// A blockBuilder gathers entries of one pipeline for a row of the table block:
// their bytes, one after the other, as one s2 block, and a filter of their keys. With
// JournalAll its entries follow each other without a gap from first to last.
type blockBuilder struct {
	pipeline    string
	level       JournalLevel
	first, last uint64
	at          time.Time // of its last entry
	failed, txs int
	raw         []byte
	keys        []uint64
	held        int // bytes of memory that the entries held
}

// blockBytes is where a block is cut, before compression.
const blockBytes = 256 << 10

// takes reports whether the entry may go into the block.
func (b *blockBuilder) takes(e *entry) bool {
	return b.txs == 0 || len(b.raw) < blockBytes && (e.level != JournalAll || e.lacking() == 0 && b.failed == 0 && e.first == b.last+1)
}

func (b *blockBuilder) add(e *entry) {
	if b.txs == 0 {
		b.pipeline, b.level, b.first, b.last = e.pipeline, e.level, e.first, e.last
	}
	b.first, b.last, b.at = min(b.first, e.first), max(b.last, e.last), e.at
	b.txs += len(e.txs)
	b.failed += e.lacking()
	b.raw = appendEntry(b.raw, e)
	b.keys = append(b.keys, e.keys...)
	b.held += e.size()
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A stored is a row of the table block.
type stored struct {
	blockBuilder
	filter []byte
	data   []byte
	sum    uint32
}

// seal makes the row. Its checksum is of the head too, so that a row which is whole
// and not what was written is noticed.
func (b *blockBuilder) seal() *stored {
	s := &stored{blockBuilder: *b, data: s2.Encode(nil, b.raw), filter: newFilter(b.keys)}
	s.sum = s.check()
	return s
}

func (s *stored) check() uint32 {
	var head []byte
	head = appendText(appendText(head, s.pipeline), string(s.level))
	head = binary.AppendUvarint(binary.AppendUvarint(head, s.first), s.last)
	sum := crc32.Update(0, castagnoli, head)
	return crc32.Update(crc32.Update(sum, castagnoli, s.filter), castagnoli, s.data)
}

// overhead is about what a row takes beside its data.
const overhead = 120

func (s *stored) size() int64 { return int64(len(s.data)+len(s.filter)) + overhead }

// entries returns what the block holds.
func (s *stored) entries() ([]*entry, error) {
	if s.check() != s.sum {
		return nil, errDamaged
	}
	raw, err := s2.Decode(nil, s.data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	var list []*entry
	for p := (parser{b: raw}); len(p.b) > 0; {
		e, err := p.entry()
		if err != nil {
			return nil, err
		}
		e.pipeline, e.level = s.pipeline, s.level
		list = append(list, e)
	}
	return list, nil
}

// A filter tells whether a block may have a key: a Bloom filter of 10 bits for each
// key, of which 7 are set, so that one in a hundred that are not there seems to be.
const (
	filterBits   = 10
	filterHashes = 7
)

func newFilter(keys []uint64) []byte {
	b := make([]byte, (len(keys)*filterBits+63)/64*8)
	for _, k := range keys {
		for i := range filterHashes {
			at := filterAt(b, k, i)
			b[at/8] |= 1 << (at % 8)
		}
	}
	return b
}

// filterAt returns the i-th bit of a key: by two hashes, as Kirsch and Mitzenmacher
// have shown to be as good as many.
func filterAt(filter []byte, key uint64, i int) uint64 {
	a, b := key&0xffffffff, key>>32|1
	return (a + uint64(i)*b) % uint64(8*len(filter))
}

func mayHave(filter []byte, key uint64) bool {
	if len(filter) == 0 {
		return false
	}
	for i := range filterHashes {
		if at := filterAt(filter, key, i); filter[at/8]&(1<<(at%8)) == 0 {
			return false
		}
	}
	return true
}

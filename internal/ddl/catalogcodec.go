package ddl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"

	"github.com/dataflowsync/dfs"
	"github.com/klauspost/compress/s2"
)

// catalogVersion is the first byte of what Append writes.
const catalogVersion = 2

// maxCatalog bounds a catalog's binary form before it is compressed: some
// millions of tables.
const maxCatalog = 1 << 30

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Append appends the Catalog to b in a binary form that ParseCatalog reads, also
// in later versions of this package. Catalogs that know the same give the same
// bytes.
//
// After the version come the CRC-32C of what follows, little-endian, and an s2
// block: whether letter case counts, the schemas with their tables in the order
// of their names, and the tables that exist, as dfs.AppendChanges writes them, in
// that order too. Of a catalog beyond maxCatalog nothing is kept but that: what a
// Catalog does not know is asked for.
func (c *Catalog) Append(b []byte) []byte {
	var p []byte
	str := func(s string) { p = append(binary.AppendUvarint(p, uint64(len(s))), s...) }
	bit := func(on bool) {
		if on {
			p = append(p, 1)
		} else {
			p = append(p, 0)
		}
	}
	bit(c.Fold)
	p = binary.AppendUvarint(p, uint64(len(c.schemas)))
	var tables []dfs.Change
	for _, name := range slices.Sorted(maps.Keys(c.schemas)) {
		s := c.schemas[name]
		str(name)
		bit(s.only)
		str(s.collation)
		p = binary.AppendUvarint(p, uint64(len(s.tables)))
		for _, k := range slices.Sorted(maps.Keys(s.tables)) {
			e := s.tables[k]
			str(k)
			str(e.collation)
			bit(e.table != nil)
			if e.table != nil {
				tables = append(tables, dfs.Change{Op: dfs.DDL, Table: e.table})
			}
		}
	}
	p = dfs.AppendChanges(p, tables)
	if len(p) > maxCatalog {
		return (&Catalog{Fold: c.Fold}).Append(b)
	}
	block := s2.Encode(nil, p)
	b = binary.LittleEndian.AppendUint32(append(b, catalogVersion), crc32.Checksum(block, castagnoli))
	return append(b, block...)
}

var errCatalog = errors.New("ddl: damaged catalog")

// ParseCatalog reads what Append wrote. The result does not alias b. Damaged
// input gives an error before anything is taken from it.
func ParseCatalog(b []byte) (*Catalog, error) {
	if len(b) == 0 {
		return nil, errCatalog
	}
	if b[0] != catalogVersion {
		return nil, fmt.Errorf("ddl: catalog has version %d, this program reads %d", b[0], catalogVersion)
	}
	// How long it is beside its block tells nothing: tables of a thousand equal
	// columns shrink to a thousandth.
	if len(b) < 5 || crc32.Checksum(b[5:], castagnoli) != binary.LittleEndian.Uint32(b[1:]) {
		return nil, errCatalog
	}
	if n, err := s2.DecodedLen(b[5:]); err != nil || n > maxCatalog {
		return nil, errCatalog
	}
	p, err := s2.Decode(nil, b[5:])
	if err != nil {
		return nil, errCatalog
	}
	r := catalogReader{b: p}
	c := &Catalog{Fold: r.bit()}
	type place struct {
		s    *schema
		name string
	}
	var exist []place
	for range r.uvarint() {
		if r.bad {
			break
		}
		name := r.string()
		s := c.schema(name)
		s.only, s.collation = r.bit(), r.string()
		for range r.uvarint() {
			if r.bad {
				break
			}
			k := r.string()
			s.tables[k] = tableEntry{collation: r.string()}
			if r.bit() {
				exist = append(exist, place{s, k})
			} else {
				c.absent++
			}
		}
	}
	if r.bad {
		return nil, errCatalog
	}
	tables, err := dfs.ParseChanges(r.b)
	if err != nil || len(tables) != len(exist) {
		return nil, errCatalog
	}
	for i, at := range exist {
		e := at.s.tables[at.name]
		if e.table = tables[i].Table; e.table == nil {
			return nil, errCatalog
		}
		at.s.tables[at.name] = e
	}
	return c, nil
}

// A catalogReader reads from b. After the first fault bad is set and reads give
// zero.
type catalogReader struct {
	b   []byte
	bad bool
}

func (r *catalogReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.b, r.bad = nil, true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *catalogReader) string() string {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.b, r.bad = nil, true
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

func (r *catalogReader) bit() bool {
	if len(r.b) == 0 {
		r.bad = true
		return false
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v != 0
}

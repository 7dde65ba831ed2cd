package cdc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// A payload reads the events out of a transaction payload event, in which a
// server with binlog_transaction_compression puts a whole transaction. It
// unpacks as it goes, so that memory holds one event at a time.
type payload struct {
	from io.Reader
	zip  *zstd.Decoder // kept for the next payload; it has no goroutine
	buf  []byte
	left bool // from may hold more
}

const (
	payloadEnd   = 0
	payloadSize  = 1
	payloadAlg   = 2
	payloadBytes = 3

	algZstd = 0
	algNone = 255
)

// open begins to read e. Its header is a list of fields, each a type, a length
// and that many bytes, up to a type of 0; the payload follows.
func (p *payload) open(e event) error {
	r := reader{b: e.body()}
	alg := uint64(algNone)
	for {
		kind := r.packed()
		if r.bad {
			return errShortEvent
		}
		if kind == payloadEnd {
			break
		}
		field := reader{b: r.bytes(r.count(1))}
		if kind == payloadAlg {
			alg = field.packed()
		}
		if r.bad || field.bad {
			return errShortEvent
		}
	}
	// The stream reads its next packet only when this one is used up, so the
	// bytes may be read in place.
	src := bytes.NewReader(r.b)
	switch alg {
	case algNone:
		p.from = src
	case algZstd:
		if p.zip == nil {
			zip, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
			if err != nil {
				return fmt.Errorf("cdc: unpack transaction: %w", err)
			}
			p.zip = zip
		}
		if err := p.zip.Reset(src); err != nil {
			return fmt.Errorf("cdc: unpack transaction: %w", err)
		}
		p.from = p.zip
	default:
		return fmt.Errorf("cdc: transaction is compressed by the unknown algorithm %d; set binlog_transaction_compression=OFF on the source", alg)
	}
	p.left = true
	return nil
}

// next returns the next event, valid until the next call, or nil after the last.
func (p *payload) next() (event, error) {
	p.buf = append(p.buf[:0], make([]byte, headerLen)...)
	_, err := io.ReadFull(p.from, p.buf)
	if errors.Is(err, io.EOF) {
		p.left = false
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cdc: unpack transaction: %w", err)
	}
	size := binary.LittleEndian.Uint32(p.buf[9:])
	if size < headerLen || uint64(size) > maxInflate {
		return nil, fmt.Errorf("cdc: unpack transaction: event claims to have %d bytes", size)
	}
	// Grow in steps, so that a damaged size does not take a gigabyte.
	for len(p.buf) < int(size) {
		at := len(p.buf)
		p.buf = append(p.buf, make([]byte, min(int(size)-at, 1<<20))...)
		if _, err := io.ReadFull(p.from, p.buf[at:]); err != nil {
			return nil, fmt.Errorf("cdc: unpack transaction: %w", err)
		}
	}
	return p.buf, nil
}

package cdc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/klauspost/compress/zstd"
)

// A payload reads the events out of a transaction payload event, in which a
// server with binlog_transaction_compression puts a whole transaction. What is small
// it unpacks at once, and hands out in place; of what is large it unpacks as it goes,
// so that memory holds one event at a time.
type payload struct {
	rest  []byte // events that are unpacked
	small *zstd.Decoder
	room  []byte // memory for rest

	from io.Reader     // or nil
	zip  *zstd.Decoder // both decoders are kept for the next payload, and have no goroutine
	buf  []byte
	left bool // rest or from may hold more
}

// payloadAtOnce is up to how many bytes a payload is unpacked at once. A transaction of
// one row has some 500.
const payloadAtOnce = 256 << 10

const (
	payloadEnd   = 0
	payloadAlg   = 2
	payloadBytes = 3 // when it is unpacked

	algZstd = 0
	algNone = 255
)

// open begins to read e. Its header is a list of fields, each a type, a length
// and that many bytes, up to a type of 0; the payload follows.
func (p *payload) open(e event) error {
	r := reader{b: e.body()}
	alg, size := uint64(algNone), uint64(math.MaxUint64)
	for {
		kind := r.packed()
		if r.bad {
			return errShortEvent
		}
		if kind == payloadEnd {
			break
		}
		field := reader{b: r.bytes(r.count(1))}
		switch kind {
		case payloadAlg:
			alg = field.packed()
		case payloadBytes:
			size = field.packed()
		}
		if r.bad || field.bad {
			return errShortEvent
		}
	}
	// The stream reads its next packet only when this one is used up, so the
	// bytes may be read in place.
	p.from, p.rest, p.left = nil, nil, false
	switch {
	case alg == algNone:
		p.rest = r.b
	case alg == algZstd && size <= payloadAtOnce:
		if p.small == nil {
			// Windows may be larger than what they are of.
			zip, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(1<<27))
			if err != nil {
				return fmt.Errorf("cdc: unpack transaction: %w", err)
			}
			p.small = zip
		}
		var err error
		if p.room, err = p.small.DecodeAll(r.b, p.room[:0]); err != nil {
			return fmt.Errorf("cdc: unpack transaction: %w", err)
		}
		if uint64(len(p.room)) != size {
			return fmt.Errorf("cdc: unpack transaction: it holds %d bytes, and says %d", len(p.room), size)
		}
		p.rest = p.room
	case alg == algZstd:
		if p.zip == nil {
			zip, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
			if err != nil {
				return fmt.Errorf("cdc: unpack transaction: %w", err)
			}
			p.zip = zip
		}
		if err := p.zip.Reset(bytes.NewReader(r.b)); err != nil {
			return fmt.Errorf("cdc: unpack transaction: %w", err)
		}
		p.from = p.zip
	default:
		return fmt.Errorf("cdc: transaction is compressed by the unknown algorithm %d; set binlog_transaction_compression=OFF on the source", alg)
	}
	p.left = true
	return nil
}

// kept returns a payload with the decoders of p, which is not to be used any more.
func (p *payload) kept() payload { return payload{zip: p.zip, small: p.small, room: p.room} }

// next returns the next event, valid until the next call, or nil after the last.
func (p *payload) next() (event, error) {
	if p.from == nil {
		return p.nextOfRest()
	}
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

// nextOfRest is next for what is unpacked.
func (p *payload) nextOfRest() (event, error) {
	if len(p.rest) == 0 {
		p.left = false
		return nil, nil
	}
	if len(p.rest) < headerLen {
		return nil, fmt.Errorf("cdc: unpack transaction: %w", io.ErrUnexpectedEOF)
	}
	size := event(p.rest).size()
	if size < headerLen || uint64(size) > uint64(len(p.rest)) {
		return nil, fmt.Errorf("cdc: unpack transaction: event claims to have %d bytes", size)
	}
	e := event(p.rest[:size:size])
	p.rest = p.rest[size:]
	return e, nil
}

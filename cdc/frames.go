package cdc

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	gomysql "github.com/go-mysql-org/go-mysql/mysql"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

// The names of Options.Compress, as MySQL's protocol_compression_algorithms has them.
const (
	compressZlib = "zlib"
	compressZstd = "zstd"
)

// capabilityOf is what asks a server for a compression of the protocol; 0 for none.
func capabilityOf(compress string) uint32 {
	switch compress {
	case compressZlib:
		return gomysql.CLIENT_COMPRESS
	case compressZstd:
		return gomysql.CLIENT_ZSTD_COMPRESSION_ALGORITHM
	}
	return 0
}

// A frames unpacks what a server sends over a connection with compression: frames,
// each with 3 bytes for the length of what follows, a counter, and 3 bytes for what
// that is unpacked, or 0 if it is not packed. The packets of the protocol lie in the
// sequence of their contents, and may begin and end anywhere in them.
type frames struct {
	algorithm uint8  // of go-mysql's MYSQL_COMPRESS_ constants
	raw       []byte // raw[r:w] has come and is not unpacked
	r, w      int
	out       []byte // out[at:] is unpacked, and not handed out; it may be a part of raw
	at        int
	room      []byte // memory for out

	zstd *zstd.Decoder // kept for the next frame; it has no goroutine
	zlib io.ReadCloser
}

const (
	frameHead = 7
	// frameKeep is how much memory is kept from a frame to the next. Servers send
	// frames of 16 KB, but for large events.
	frameKeep = 1 << 20
)

// read is conn.Read for what is unpacked. It reads once from conn at most, and
// returns nothing and no error if what has come makes no frame yet.
func (f *frames) read(conn io.Reader, to []byte) (int, error) {
	if f.at == len(f.out) {
		ready, err := f.unpack()
		if !ready && err == nil {
			var n int
			n, err = conn.Read(f.raw[f.w:])
			f.w += n
			if n > 0 {
				_, err = f.unpack()
			}
		}
		if err != nil {
			return 0, err
		}
	}
	n := copy(to, f.out[f.at:])
	f.at += n
	return n, nil
}

// unpack takes the next frame out of raw, if it is there as a whole. If not, it
// makes room for it.
func (f *frames) unpack() (bool, error) {
	for {
		have := f.raw[f.r:f.w]
		need := frameHead
		if len(have) >= frameHead {
			need += int(have[0]) | int(have[1])<<8 | int(have[2])<<16
		}
		if len(have) < frameHead || len(have) < need {
			f.make(need)
			return false, nil
		}
		size := int(have[4]) | int(have[5])<<8 | int(have[6])<<16
		b := have[frameHead:need]
		f.r += need
		if size == 0 {
			f.out, f.at = b, 0
		} else if err := f.inflate(b, size); err != nil {
			return false, fmt.Errorf("a compressed packet is damaged: %w", err)
		}
		if len(f.out) > 0 {
			return true, nil
		}
	}
}

// make makes raw long enough for n bytes from r on, and for some of what follows.
func (f *frames) make(n int) {
	const usual = 64 << 10
	if len(f.raw)-f.r >= n && len(f.raw) > f.w {
		return
	}
	to := f.raw
	if len(to) < n || len(to) > frameKeep && n <= frameKeep {
		to = make([]byte, max(n, usual))
	}
	f.w = copy(to, f.raw[f.r:f.w])
	f.r, f.raw = 0, to
}

// inflate sets out to the size bytes that b holds.
func (f *frames) inflate(b []byte, size int) (err error) {
	if cap(f.room) > frameKeep && size <= frameKeep {
		f.room = nil
	}
	if cap(f.room) < size {
		f.room = make([]byte, size)
	}
	f.out, f.at = nil, 0
	to := f.room[:size]
	switch f.algorithm {
	case gomysql.MYSQL_COMPRESS_ZSTD:
		if f.zstd == nil {
			f.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(1<<25))
			if err != nil {
				return err
			}
		}
		if to, err = f.zstd.DecodeAll(b, to[:0]); err != nil {
			return err
		}
	default:
		if f.zlib == nil {
			f.zlib, err = zlib.NewReader(bytes.NewReader(b))
		} else {
			err = f.zlib.(zlib.Resetter).Reset(bytes.NewReader(b), nil)
		}
		if err == nil {
			_, err = io.ReadFull(f.zlib, to)
		}
		if err != nil {
			return err
		}
		// The checksum is looked at with the end.
		if n, err := f.zlib.Read(make([]byte, 1)); n > 0 || err != io.EOF {
			return errors.Join(errFrameSize, err)
		}
	}
	if len(to) != size {
		return errFrameSize
	}
	f.out = to
	return nil
}

var errFrameSize = errors.New("it holds another number of bytes than it says")

package cdc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	gomysql "github.com/go-mysql-org/go-mysql/mysql"
)

// maxPacket is the payload at which a packet goes on in the next one.
const maxPacket = 1<<24 - 1

// mostSmall is how many packets may come before memory for a large payload is let go of.
// Large rows come with some others between them, such as the map of their table.
const mostSmall = 32

// mostSpare is the most memory that is kept so. What is larger counts while it is applied.
const mostSpare = 64 << 20

// A packets reads the packets of a dump out of a buffer that it fills with as
// much as has come. A packet is handed out in place, without a copy, unless it
// is larger than 16 MB.
type packets struct {
	conn    net.Conn
	zip     *frames // what unpacks what comes, or nil
	buf     []byte
	r, w    int // buf[r:w] is yet to be read
	size    int // usual length of buf
	timeout time.Duration
	long    []byte // the beginning of a payload of several packets
	spare   []byte // the memory of the last of these, which may be used again
	small   int    // packets since then
	events  bool   // they are events
	summed  int    // buf[:summed] holds no event whose checksum is yet to be looked at by sumsHold
	sound   bool   // the last of them are right; if not, each is for itself to be looked at
	total   uint64 // bytes that have come, as they are unpacked

	since *atomic.Int64 // the time since which the server is waited for, in nanoseconds since 1970, or 0; nil if nobody asks
}

// newPackets returns what reads the packets that come over a connection.
func newPackets(c *client.Conn, size int, timeout time.Duration) packets {
	p := packets{conn: c.Conn.Conn, size: size, timeout: timeout}
	if c.Compression != gomysql.MYSQL_COMPRESS_NONE {
		p.zip = &frames{algorithm: c.Compression}
	}
	return p
}

// eventPackets is newPackets for a connection over which a log comes.
func eventPackets(c *client.Conn, size int, timeout time.Duration) packets {
	p := newPackets(c, size, timeout)
	p.events = true
	return p
}

// next returns the payload of the next packet, which is valid until the next
// call. If wait is not set and the packet has not come whole, it returns nil.
// A call that ctx has ended can be repeated.
func (p *packets) next(ctx context.Context, wait bool) ([]byte, error) {
	for {
		if have := p.w - p.r; have >= 4 {
			n := int(binary.LittleEndian.Uint32(p.buf[p.r:]) & maxPacket)
			if have >= 4+n {
				b := p.buf[p.r+4 : p.r+4+n]
				p.r += 4 + n
				if n == maxPacket {
					if p.long == nil && p.events {
						if n := longPayload(b); cap(p.spare) < n {
							p.spare = nil // before its successor is made
							p.spare = make([]byte, 0, n)
						}
						p.long, p.spare = p.spare[:0], nil
					}
					p.long = append(p.long, b...)
					continue
				}
				if p.long != nil {
					b = append(p.long, b...)
					if p.long = nil; p.events && cap(b) <= mostSpare {
						p.spare, p.small = b, 0
					}
				} else if p.spare != nil {
					if p.small++; p.small > mostSmall {
						p.spare = nil
					}
				}
				return b, nil
			}
			p.room(4 + n)
		} else {
			p.room(4)
		}
		if !wait {
			return nil, nil
		}
		if err := p.fill(ctx); err != nil {
			return nil, err
		}
	}
}

// longPayload returns how long a payload will be that begins with b, and goes on in
// further packets, if it is an event: its head has that, behind a byte of 0. Else, and where
// a damaged head has what no server sends, it returns the length of b. Growing as packets
// come would take twice the memory of what is largest.
func longPayload(b []byte) int {
	const most = 1 << 30 // max_allowed_packet
	if n := binary.LittleEndian.Uint32(b[1+9:]); b[0] == 0 && int(n) < most+headerLen && int(n) >= len(b) {
		return int(n) + 1
	}
	return len(b)
}

// room makes buf[r:] at least n bytes long.
func (p *packets) room(n int) {
	p.summed = 0 // only whole packets are, and there is none left
	if p.r == p.w {
		p.r, p.w = 0, 0
		if len(p.buf) > p.size && n <= p.size {
			p.buf = nil // it had grown for a large packet
		}
	}
	if len(p.buf)-p.r >= n {
		return
	}
	to := p.buf
	if len(to) < n {
		to = make([]byte, max(n, p.size))
	}
	p.w = copy(to, p.buf[p.r:p.w])
	p.r = 0
	p.buf = to
}

// fill reads once from the connection, and waits for it.
func (p *packets) fill(ctx context.Context) error {
	// The deadline that ctx sets is either set after this one, or ctx is seen to
	// have ended.
	now := time.Now()
	if err := p.conn.SetReadDeadline(now.Add(p.timeout)); err != nil {
		return fmt.Errorf("read from server: %w", err)
	}
	if p.since != nil {
		p.since.Store(now.UnixNano())
		defer p.since.CompareAndSwap(now.UnixNano(), 0) // a later stream may wait by now
	}
	// And it is not set any more once fill has returned, when it would end the
	// next read.
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		p.conn.SetReadDeadline(time.Unix(1, 0))
		close(done)
	})
	defer func() {
		if !stop() {
			<-done
		}
	}()
	if err := ctx.Err(); err != nil {
		return err
	}
	var n int
	var err error
	if p.zip != nil {
		n, err = p.zip.read(p.conn, p.buf[p.w:])
	} else {
		n, err = p.conn.Read(p.buf[p.w:])
	}
	p.w += n
	p.total += uint64(n)
	if n > 0 || err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return silentError{p.timeout}
	case errors.Is(err, io.EOF):
		return errors.New("the server has closed the connection")
	}
	return fmt.Errorf("read from server: %w", err)
}

// A silentError says that nothing came for as long as was waited.
type silentError struct{ waited time.Duration }

func (e silentError) Error() string {
	return fmt.Sprintf("the server has sent nothing for %v, not even a heartbeat", e.waited)
}

// isSilence reports whether err is a silentError. Only then is memory taken for one, and not for each event.
func isSilence(err error) bool {
	var silent silentError
	return errors.As(err, &silent)
}

// parseError reads an error packet.
func parseError(b []byte) error {
	if len(b) < 3 {
		return errors.New("the server sent a damaged error")
	}
	e := &gomysql.MyError{Code: binary.LittleEndian.Uint16(b[1:])}
	b = b[3:]
	if len(b) >= 6 && b[0] == '#' {
		e.State, b = string(b[1:6]), b[6:]
	}
	e.Message = string(b)
	return e
}

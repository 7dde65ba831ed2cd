package cdc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	gomysql "github.com/go-mysql-org/go-mysql/mysql"
)

// maxPacket is the payload at which a packet goes on in the next one.
const maxPacket = 1<<24 - 1

// A packets reads the packets of a dump out of a buffer that it fills with as
// much as has come. A packet is handed out in place, without a copy, unless it
// is larger than 16 MB.
type packets struct {
	conn    net.Conn
	buf     []byte
	r, w    int // buf[r:w] is yet to be read
	size    int // usual length of buf
	timeout time.Duration
	long    []byte // the beginning of a payload of several packets
	total   uint64 // bytes read from conn
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
					p.long = append(p.long, b...)
					continue
				}
				if p.long != nil {
					b = append(p.long, b...)
					p.long = nil
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

// room makes buf[r:] at least n bytes long.
func (p *packets) room(n int) {
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
	if err := p.conn.SetReadDeadline(time.Now().Add(p.timeout)); err != nil {
		return fmt.Errorf("read from server: %w", err)
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
	n, err := p.conn.Read(p.buf[p.w:])
	p.w += n
	p.total += uint64(n)
	if n > 0 {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("the server has sent nothing for %v, not even a heartbeat", p.timeout)
	case errors.Is(err, io.EOF):
		return errors.New("the server has closed the connection")
	}
	return fmt.Errorf("read from server: %w", err)
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

package monitor

import (
	"bufio"
	"context"
	"encoding/binary"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// A frame is a message as it goes to WebSockets, all of which get the same bytes: a
// head, and the text. What a server sends is not masked (RFC 6455, section 5.1), and
// the library is asked for no compression.
type frame []byte

func newFrame(text []byte) frame {
	b := make(frame, 0, len(text)+10)
	b = append(b, 0x80|0x1) // the last, and only, of a text
	switch n := len(text); {
	case n < 126:
		b = append(b, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	return append(b, text...)
}

// A socket is a WebSocket whose handshake, reading and control frames are the library's,
// and whose messages are written as they are. The library copies each message, and takes
// a timer and a goroutine for each deadline.
type socket struct {
	*websocket.Conn
	wire *wire
}

// A wire is a connection on which the library and we write, each whole frames.
type wire struct {
	net.Conn
	mu sync.Mutex
}

func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.Conn.Write(p)
}

// write writes frames, in at most writeTime each.
func (s *socket) write(frames []frame) error {
	s.wire.mu.Lock()
	defer s.wire.mu.Unlock()
	for _, f := range frames {
		if err := s.wire.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
			return err
		}
		if _, err := s.wire.Conn.Write(f); err != nil {
			return err
		}
	}
	return s.wire.SetWriteDeadline(time.Time{}) // the library has deadlines of its own
}

// accept makes a WebSocket of a request, or answers why not.
func accept(w http.ResponseWriter, r *http.Request) (*socket, error) {
	h := &hijacked{ResponseWriter: w}
	c, err := websocket.Accept(h, r, nil) // compares Origin with Host
	if err != nil {
		return nil, err
	}
	return &socket{c, h.wire}, nil
}

// A hijacked gives the library a connection that it shares with us. The library writes
// a control frame, which is all that it writes, by one Write.
type hijacked struct {
	http.ResponseWriter
	wire *wire
}

// Hijack implements http.Hijacker.
func (h *hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.wire = &wire{Conn: c}
	return h.wire, bufio.NewReadWriter(rw.Reader, bufio.NewWriterSize(h.wire, 256)), nil
}

// closeAt ends the connection with the context.
func (s *socket) closeAt(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() { s.CloseNow() })
}

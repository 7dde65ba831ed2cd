package faults

import (
	"net"
	"sync"
	"time"
)

// A link is a connection through a proxy.
type link struct {
	p      *Proxy
	near   net.Conn
	silent bool          // guarded by p.mu
	once   sync.Once     // of close
	done   chan struct{} // closed when the link is to end

	mu     sync.Mutex
	far    net.Conn // nil while it is dialled
	ended  bool
	up     scanner // what the program sends
	reply  *answer // of a COMMIT that is to be lost; nil if none is
	inLog  bool    // the program has asked for a log
	toFlip int     // bytes until the next bit is turned over
}

// use takes the connection to the server. It is false if the link has ended.
func (k *link) use(far net.Conn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ended {
		far.Close()
		return false
	}
	k.far = far
	return true
}

// close ends both connections, by RST if hard.
func (k *link) close(hard bool) {
	k.once.Do(func() {
		close(k.done)
		k.mu.Lock()
		defer k.mu.Unlock()
		k.ended = true
		for _, c := range []net.Conn{k.near, k.far} {
			switch {
			case c == nil:
			case hard:
				reset(c)
			default:
				c.Close()
			}
		}
	})
}

// pass waits while nothing may pass. It is false if the link has ended.
func (k *link) pass() bool {
	for {
		k.p.mu.Lock()
		wait, change := k.silent || k.p.apart, k.p.change
		k.p.mu.Unlock()
		if !wait {
			select {
			case <-k.done:
				return false
			default:
				return true
			}
		}
		select {
		case <-change:
		case <-k.done:
			return false
		}
	}
}

// sleep waits for d. It is false if the link has ended.
func (k *link) sleep(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-k.done:
		return false
	}
}

// A parcel is bytes on their way, and when they are due.
type parcel struct {
	b   []byte
	due time.Time
}

// carry carries bytes one way until one side ends.
func (k *link) carry(from, to net.Conn, up bool) {
	way := make(chan parcel, 64)
	var wg sync.WaitGroup
	wg.Go(func() { k.deliver(to, way, up) })
	for {
		b := make([]byte, 16<<10)
		n, err := from.Read(b)
		if !k.pass() { // a silent link tells nobody that it was ended
			break
		}
		if n > 0 {
			b = b[:n]
			keep, hold := b, cutNot
			if up {
				hold = k.seen(b)
			} else if keep, hold = k.heard(b); len(keep) > 0 {
				k.flip(keep)
			}
			if len(keep) > 0 && hold != cutBefore {
				k.p.mu.Lock()
				due := time.Now().Add(k.p.delay)
				k.p.mu.Unlock()
				select {
				case way <- parcel{keep, due}:
				case <-k.done:
				}
			}
			if hold == cutNow || hold == cutBefore {
				k.close(true)
				break
			}
			if hold == cutSilent {
				k.p.set(func() { k.silent = true; k.p.counts.Silenced++ })
			}
		}
		if err != nil {
			break
		}
	}
	close(way)
	wg.Wait()
	k.close(false)
}

// deliver writes what is due.
func (k *link) deliver(to net.Conn, way <-chan parcel, up bool) {
	for x := range way {
		if !k.sleep(time.Until(x.due)) {
			return
		}
		for len(x.b) > 0 {
			k.p.mu.Lock()
			rate := k.p.rate
			k.p.mu.Unlock()
			n := len(x.b)
			if rate > 0 {
				n = min(n, max(1, rate/20))
				if !k.sleep(time.Duration(n) * time.Second / time.Duration(rate)) {
					return
				}
			}
			if !k.pass() {
				return
			}
			// Counted before it is written: whoever has an answer finds in the
			// counts what it answered.
			k.p.mu.Lock()
			if up {
				k.p.counts.Up += int64(n)
			} else {
				k.p.counts.Down += int64(n)
			}
			k.p.mu.Unlock()
			if _, err := to.Write(x.b[:n]); err != nil {
				k.close(false)
				return
			}
			x.b = x.b[n:]
		}
	}
}

// flip turns over the bits whose turn it is.
func (k *link) flip(b []byte) {
	k.mu.Lock()
	inLog := k.inLog
	k.mu.Unlock()
	k.p.mu.Lock()
	defer k.p.mu.Unlock()
	if k.p.flip <= 0 || !inLog {
		return
	}
	for at := 0; ; {
		if k.toFlip <= 0 {
			k.toFlip = 1 + k.p.rnd.IntN(2*k.p.flip)
		}
		if at += k.toFlip; at > len(b) {
			k.toFlip = at - len(b)
			return
		}
		b[at-1] ^= 1 << k.p.rnd.IntN(8)
		k.p.counts.Flipped++
		k.toFlip = 0
	}
}

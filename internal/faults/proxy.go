// Package faults breaks the network between a program and its MySQL or MariaDB
// servers, at will and repeatably.
//
// A [Proxy] stands before a server. Connections through it can be cut, made
// silent, slowed down, garbled, led to another server, or lose the one answer
// that matters most: that to a COMMIT.
//
//	p, err := faults.Listen(server.Addr(), nil)
//	...            // the program connects to p.Addr()
//	p.Reset()      // all of its connections end with RST
//	p.LoseCommits(1, faults.ReplyLost)
//
// What is on the way is seen as the protocol has it, so connections with TLS or
// compression can be broken, but no COMMIT is found in them.
package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/dataflowsync/dfs/internal/tcp"
)

// Options refine a Proxy. The zero value of each field is the default.
type Options struct {
	// Seed fixes which bytes are garbled. Default: 0.
	Seed uint64

	// Dial connects to the server. Default: internal/tcp.Dial.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Counts is what a Proxy has done so far.
type Counts struct {
	Connections int64 // that were taken
	Reset       int64 // ended by RST
	Ended       int64 // ended by FIN
	Silenced    int64 // made silent
	Refused     int64 // ended as soon as they came
	Flipped     int64 // bits
	LostCommits int64 // COMMITs that came to the proxy, and of which the program heard no more
	Up, Down    int64 // bytes to the server, and from it
}

// A Proxy is a loopback address that leads to a server. Its methods may be called
// from any goroutine.
type Proxy struct {
	l    net.Listener
	dial func(ctx context.Context, network, addr string) (net.Conn, error)
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu     sync.Mutex
	server string
	links  map[*link]struct{}
	delay  time.Duration
	rate   int // bytes per second each way; 0: no bound
	apart  bool
	refuse bool
	flip   int // a bit of about every so many bytes; 0: none
	rnd    *rand.Rand
	lose   int // COMMITs that are yet to be lost
	loss   Loss
	counts Counts
	change chan struct{} // closed, and made anew, when one of the above changes
}

// Listen starts a proxy before the server at an address, on a loopback port of its
// own. The caller closes it.
func Listen(server string, o *Options) (*Proxy, error) {
	if o == nil {
		o = &Options{}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("faults: %w", err)
	}
	p := &Proxy{l: l, dial: o.Dial, server: server, links: make(map[*link]struct{}),
		rnd: rand.New(rand.NewPCG(o.Seed, 0)), change: make(chan struct{})}
	if p.dial == nil {
		p.dial = tcp.Dial
	}
	p.ctx, p.stop = context.WithCancel(context.Background())
	p.wg.Go(p.accept)
	return p, nil
}

// Addr returns the host and port to connect to.
func (p *Proxy) Addr() string { return p.l.Addr().String() }

// Close ends the proxy and all of its connections.
func (p *Proxy) Close() error {
	p.stop()
	err := p.l.Close()
	p.end(true, false)
	p.wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Counts returns what the proxy has done so far.
func (p *Proxy) Counts() Counts {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts
}

// Connections returns how many connections there are, silent ones not among them.
func (p *Proxy) Connections() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k := range p.links {
		if !k.silent {
			n++
		}
	}
	return n
}

// set changes what holds for all connections, and wakes those that wait.
func (p *Proxy) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	close(p.change)
	p.change = make(chan struct{})
}

// Delay makes each byte come later by d, each way. What is on its way already is
// not affected.
func (p *Proxy) Delay(d time.Duration) { p.set(func() { p.delay = d }) }

// Rate bounds the bytes per second of each connection, each way. 0 takes the bound
// away.
func (p *Proxy) Rate(bytes int) { p.set(func() { p.rate = bytes }) }

// Partition keeps, as long as it is on, all bytes on their way, those of new
// connections too. Nothing is lost: afterwards all goes on, as after a partition
// that was shorter than TCP's patience.
func (p *Proxy) Partition(on bool) { p.set(func() { p.apart = on }) }

// Refuse ends, as long as it is on, new connections as soon as they come.
func (p *Proxy) Refuse(on bool) { p.set(func() { p.refuse = on }) }

// Flip turns over one bit of about every so many bytes that come from the server
// in a log: behind COM_BINLOG_DUMP or COM_BINLOG_DUMP_GTID. 0 ends that.
func (p *Proxy) Flip(every int) { p.set(func() { p.flip = every }) }

// Lead leads new connections to another server.
func (p *Proxy) Lead(server string) { p.set(func() { p.server = server }) }

// Reset ends all connections by RST, as when a host has restarted, and returns how
// many there were.
func (p *Proxy) Reset() int {
	n := p.end(true, false)
	p.set(func() { p.counts.Reset += int64(n) })
	return n
}

// End ends all connections by FIN, as a proxy does that restarts, and returns how
// many there were.
func (p *Proxy) End() int {
	n := p.end(false, false)
	p.set(func() { p.counts.Ended += int64(n) })
	return n
}

// Blackhole makes the connections that there are silent for good, and returns how
// many there were: nothing is carried any more, and neither side is told, even if
// the other ends. What either sends is acknowledged as far as buffers go, as by a
// middlebox that has lost the other half. New connections are carried as before.
func (p *Proxy) Blackhole() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for k := range p.links {
		if !k.silent {
			k.silent = true
			n++
		}
	}
	p.counts.Silenced += int64(n)
	close(p.change)
	p.change = make(chan struct{})
	return n
}

// Heal takes back Delay, Rate, Partition, Refuse, Flip and LoseCommits, and ends
// by RST the connections that Blackhole has made silent.
func (p *Proxy) Heal() {
	p.set(func() {
		p.delay, p.rate, p.apart, p.refuse, p.flip, p.lose = 0, 0, false, false, 0, 0
	})
	p.end(true, true)
}

// end ends the connections, or those that are silent only, and returns how many
// were not silent.
func (p *Proxy) end(hard, onlySilent bool) (n int) {
	p.mu.Lock()
	var list []*link
	for k := range p.links {
		if !k.silent {
			n++
		}
		if k.silent || !onlySilent {
			list = append(list, k)
		}
	}
	p.mu.Unlock()
	// Not with p.mu held, which a link takes after its own.
	for _, k := range list {
		k.close(hard)
	}
	return n
}

func (p *Proxy) accept() {
	for {
		near, err := p.l.Accept()
		if err != nil {
			return // closed
		}
		p.mu.Lock()
		p.counts.Connections++
		refuse, server := p.refuse, p.server
		if refuse {
			p.counts.Refused++
		}
		p.mu.Unlock()
		if refuse {
			reset(near)
			continue
		}
		p.wg.Go(func() { p.serve(near, server) })
	}
}

func (p *Proxy) serve(near net.Conn, server string) {
	k := &link{p: p, near: near, done: make(chan struct{})}
	p.mu.Lock()
	p.links[k] = struct{}{}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.links, k)
		p.mu.Unlock()
		k.close(false)
	}()
	if p.ctx.Err() != nil || !k.pass() {
		return
	}
	ctx, cancel := context.WithTimeout(p.ctx, 10*time.Second)
	far, err := p.dial(ctx, "tcp", server)
	cancel()
	if err != nil {
		k.close(true) // as if the server itself had refused
		return
	}
	if !k.use(far) {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { k.carry(near, far, true) })
	wg.Go(func() { k.carry(far, near, false) })
	wg.Wait()
}

// reset closes a connection by RST.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		t.SetLinger(0)
	}
	c.Close()
}

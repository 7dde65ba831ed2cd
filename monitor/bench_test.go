package monitor

import (
	"context"
	"fmt"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/dataflowsync/dfs"
)

// benchmarkWatched carries b.N transactions of one row, at most 5000 at a time.
func benchmarkWatched(b *testing.B, sockets int) {
	src, dst := newFeed(), new(drain)
	p := &dfs.Pipeline{Source: src, Sink: dst, Logger: discardLog}
	h, err := Open(map[string]*dfs.Pipeline{"shop": p}, &Options{Log: NewLog(discardLog.Handler(), nil), Logger: discardLog})
	if err != nil {
		b.Fatal(err)
	}
	s := httptest.NewServer(h)
	var readers sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	for range sockets {
		c, _, err := websocket.Dial(ctx, s.URL+"/api/live", nil)
		if err != nil {
			b.Fatal(err)
		}
		c.SetReadLimit(-1)
		readers.Go(func() {
			for err := error(nil); err == nil; {
				_, _, err = c.Read(ctx)
			}
		})
	}
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	b.ResetTimer()
	for sent := 0; sent < b.N; {
		n := min(5000, b.N-sent)
		src.add(n)
		sent += n
		for dst.count() < sent-5000 {
			time.Sleep(100 * time.Microsecond)
		}
	}
	for dst.count() < b.N {
		time.Sleep(100 * time.Microsecond)
	}
	b.StopTimer()
	cancel()
	<-done
	readers.Wait()
	s.Close()
	if err := h.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkWatched compares a pipeline that nobody watches with one that 500
// WebSockets of the same process watch and read.
func BenchmarkWatched(b *testing.B) {
	for _, sockets := range []int{0, 500} {
		b.Run(fmt.Sprint("sockets=", sockets), func(b *testing.B) { benchmarkWatched(b, sockets) })
	}
}

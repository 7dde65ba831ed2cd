package cdc_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
)

// A deadNetwork takes connections to a server, and can lose those that have
// carried much: then the server sees neither data nor a close.
type deadNetwork struct {
	mu    sync.Mutex
	links []*link
}

type link struct {
	carried atomic.Int64
	lost    atomic.Bool
}

// lose loses the connections that have carried much, without a word to either side.
func (n *deadNetwork) lose() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range n.links {
		l.lost.Store(l.carried.Load() > 256<<10)
	}
}

func (n *deadNetwork) listen(t *testing.T, server string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", server)
			if err != nil {
				near.Close()
				continue
			}
			t.Cleanup(func() { far.Close(); near.Close() })
			of := new(link)
			n.mu.Lock()
			n.links = append(n.links, of)
			n.mu.Unlock()
			carry := func(to, from net.Conn) {
				b := make([]byte, 4<<10)
				for {
					k, err := from.Read(b)
					of.carried.Add(int64(k))
					if of.lost.Load() {
						return
					}
					if _, e := to.Write(b[:k]); err != nil || e != nil {
						to.Close()
						return
					}
				}
			}
			go carry(near, far)
			go carry(far, near)
		}
	}()
	return l.Addr().String()
}

func TestConnectionThatIsLostUnseenDoesNotStandInTheWay(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Start(t, kind)
			srv.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.a (id int PRIMARY KEY AUTO_INCREMENT, b longtext)")
			var network deadNetwork
			dsn := strings.Replace(srv.DSN(""), srv.Addr(), network.listen(t, srv.Addr()), 1)
			src := open(t, dsn, &cdc.Options{Tables: []string{"shop.*"}, Buffer: 64 << 10})
			st, pos := begin(t, src)
			// More than all buffers on the way hold, so that the server waits to send.
			text := strings.Repeat("x", 1<<20)
			for range 24 {
				srv.Exec(t, fmt.Sprintf("INSERT INTO shop.a (b) VALUES ('%s')", text))
			}
			require.Equal(t, 1, len(readN(t, src, st, 1)))
			network.lose()
			require.NoError(t, st.Close())

			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			next, err := src.Open(ctx, dfs.Checkpoint{Pos: pos})
			require.NoError(t, err)
			defer next.Close()
			_, err = next.Next(ctx, make([]*dfs.Transaction, 1))
			require.NoError(t, err)
		})
	}
}

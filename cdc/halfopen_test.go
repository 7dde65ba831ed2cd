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

	// What is lost once a log is asked for over a connection: that, or all that the
	// server then says; and whether new connections end at once from then on.
	loseAsked, loseAnswers, thenRefuse atomic.Bool
	asked                              atomic.Int64 // logs that were asked for
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
			if err == nil && n.thenRefuse.Load() && n.asked.Load() > 0 {
				far.Close()
				near.Close()
				continue
			}
			if err != nil {
				near.Close()
				continue
			}
			t.Cleanup(func() { far.Close(); near.Close() })
			of := new(link)
			n.mu.Lock()
			n.links = append(n.links, of)
			n.mu.Unlock()
			carry := func(to, from net.Conn, up bool) {
				b := make([]byte, 4<<10)
				for {
					k, err := from.Read(b)
					of.carried.Add(int64(k))
					if up && k > 4 && (b[4] == 0x12 || b[4] == 0x1e) && (n.loseAsked.Load() || n.loseAnswers.Load()) {
						of.lost.Store(true) // COM_BINLOG_DUMP, COM_BINLOG_DUMP_GTID
						n.asked.Add(1)
						if n.loseAnswers.Load() {
							to.Write(b[:k])
						}
					}
					if of.lost.Load() {
						return
					}
					if _, e := to.Write(b[:k]); err != nil || e != nil {
						to.Close()
						return
					}
				}
			}
			go carry(near, far, false)
			go carry(far, near, true)
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

			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			next, err := src.Open(ctx, dfs.Checkpoint{Pos: pos})
			require.NoError(t, err)
			defer next.Close()
			_, err = next.Next(ctx, make([]*dfs.Transaction, 1))
			require.NoError(t, err)
		})
	}
}

func TestConnectionThatIsLostBeforeTheFirstEventIsNoticed(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		srv := testenv.Shared(t, kind)
		schema := srv.Schema(t)
		srv.Exec(t, "CREATE TABLE "+schema+".a (id int PRIMARY KEY AUTO_INCREMENT)")
		cases := map[string]func(n *deadNetwork) *atomic.Bool{
			"what was asked is lost":                  func(n *deadNetwork) *atomic.Bool { return &n.loseAsked },
			"what the server says is lost":            func(n *deadNetwork) *atomic.Bool { return &n.loseAnswers },
			"and no other connection is answered too": func(n *deadNetwork) *atomic.Bool { n.thenRefuse.Store(true); return &n.loseAnswers },
		}
		for name, lose := range cases {
			t.Run(string(kind)+"/"+name, func(t *testing.T) {
				t.Parallel()
				var network deadNetwork
				dsn := strings.Replace(srv.DSN(""), srv.Addr(), network.listen(t, srv.Addr()), 1)
				src := open(t, dsn, &cdc.Options{Tables: []string{schema + ".a"}, Heartbeat: 100 * time.Millisecond, ReadTimeout: 3 * time.Second})
				st, pos := begin(t, src)
				require.NoError(t, st.Close())
				srv.Exec(t, "INSERT INTO "+schema+".a () VALUES ()")

				lost := lose(&network)
				lost.Store(true)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				next, err := src.Open(ctx, dfs.Checkpoint{Pos: pos})
				require.NoError(t, err)
				defer next.Close()
				began := time.Now()
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					_, err = next.Next(ctx, make([]*dfs.Transaction, 1))
				}()
				require.Eventually(t, func() bool { return src.Stats().Silent > 200*time.Millisecond }, time.Minute, time.Millisecond, "it is told of meanwhile")
				<-ended
				require.Zero(t, src.Stats().Silent)
				require.ErrorIs(t, err, dfs.ErrTransient)
				require.ErrorContains(t, err, "the connection is lost")
				t.Logf("after %v: %v", time.Since(began).Round(time.Millisecond), err)

				lost.Store(false)
				network.thenRefuse.Store(false)
				next, err = src.Open(ctx, dfs.Checkpoint{Pos: pos})
				require.NoError(t, err)
				defer next.Close()
				require.NotEmpty(t, readN(t, src, next, 1))
			})
		}
	}
}

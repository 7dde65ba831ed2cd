package faults

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// echo is a server that sends back what it gets.
func echo(t *testing.T) (addr string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().String()
}

func proxy(t *testing.T, server string, o *Options) *Proxy {
	p, err := Listen(server, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

func dial(t *testing.T, p *Proxy) net.Conn {
	c, err := net.Dial("tcp", p.Addr())
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// say sends a text and waits for it to come back.
func say(t *testing.T, c net.Conn, text string) {
	t.Helper()
	require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
	_, err := io.WriteString(c, text)
	require.NoError(t, err)
	b := make([]byte, len(text))
	_, err = io.ReadFull(c, b)
	require.NoError(t, err)
	require.Equal(t, text, string(b))
}

// silent reports whether nothing comes for a moment.
func silent(t *testing.T, c net.Conn) bool {
	t.Helper()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
	_, err := c.Read(make([]byte, 1))
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// ended returns how the connection was ended.
func ended(t *testing.T, c net.Conn) error {
	t.Helper()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(time.Minute)))
	_, err := c.Read(make([]byte, 1))
	return err
}

func TestConnectionsEnd(t *testing.T) {
	p := proxy(t, echo(t), nil)
	a, b := dial(t, p), dial(t, p)
	say(t, a, "one")
	say(t, b, "two")
	require.Equal(t, 2, p.Reset())
	require.ErrorIs(t, ended(t, a), syscall.ECONNRESET)
	require.ErrorIs(t, ended(t, b), syscall.ECONNRESET)
	c := dial(t, p)
	say(t, c, "three")
	require.Equal(t, 1, p.End())
	require.ErrorIs(t, ended(t, c), io.EOF)
	p.Refuse(true)
	refused, err := net.Dial("tcp", p.Addr())
	if err == nil {
		err = ended(t, refused)
		refused.Close()
	}
	require.Error(t, err)
	p.Heal()
	say(t, dial(t, p), "four")
	require.Equal(t, Counts{Connections: 5, Reset: 2, Ended: 1, Refused: 1, Up: 15, Down: 15}, p.Counts())
}

func TestWhatWasAnsweredIsCounted(t *testing.T) {
	p := proxy(t, echo(t), nil)
	c := dial(t, p)
	for i := int64(1); i <= 2000; i++ {
		say(t, c, "ab")
		require.Equal(t, Counts{Connections: 1, Up: 2 * i, Down: 2 * i}, p.Counts())
	}
}

func TestBlackholeTellsNobody(t *testing.T) {
	p := proxy(t, echo(t), nil)
	a := dial(t, p)
	say(t, a, "before")
	require.Equal(t, 1, p.Blackhole())
	require.Zero(t, p.Connections())
	_, err := io.WriteString(a, "into the hole")
	require.NoError(t, err, "it is acknowledged")
	require.True(t, silent(t, a))
	say(t, dial(t, p), "a new one is carried")
	p.Heal()
	require.Error(t, ended(t, a))
}

func TestPartitionKeepsWhatIsOnItsWay(t *testing.T) {
	p := proxy(t, echo(t), nil)
	a := dial(t, p)
	say(t, a, "before")
	p.Partition(true)
	_, err := io.WriteString(a, "meanwhile")
	require.NoError(t, err)
	b := dial(t, p)
	_, err = io.WriteString(b, "anew")
	require.NoError(t, err)
	require.True(t, silent(t, a))
	require.True(t, silent(t, b))
	p.Partition(false)
	for _, x := range []struct {
		c    net.Conn
		text string
	}{{a, "meanwhile"}, {b, "anew"}} {
		require.NoError(t, x.c.SetDeadline(time.Now().Add(time.Minute)))
		got := make([]byte, len(x.text))
		_, err = io.ReadFull(x.c, got)
		require.NoError(t, err)
		require.Equal(t, x.text, string(got))
	}
}

func TestBytesComeLater(t *testing.T) {
	p := proxy(t, echo(t), nil)
	c := dial(t, p)
	p.Delay(50 * time.Millisecond)
	began := time.Now()
	say(t, c, "there and back")
	require.GreaterOrEqual(t, time.Since(began), 100*time.Millisecond)
	p.Delay(0)
	p.Rate(1000)
	began = time.Now()
	say(t, c, string(bytes.Repeat([]byte("x"), 200)))
	require.GreaterOrEqual(t, time.Since(began), 200*time.Millisecond)
}

func TestNewConnectionsAreLedElsewhere(t *testing.T) {
	p := proxy(t, "127.0.0.1:1", nil)
	c, err := net.Dial("tcp", p.Addr())
	if err == nil { // it may be reset that early
		err = ended(t, c)
		c.Close()
	}
	require.Error(t, err, "nobody listens there")
	p.Lead(echo(t))
	say(t, dial(t, p), "hello")
}

func TestBitsOfALogAreTurnedOver(t *testing.T) {
	count := func(seed uint64, log bool) (bits int, at []int) {
		p := proxy(t, echo(t), &Options{Seed: seed})
		p.Flip(100)
		c := dial(t, p)
		b := append([]byte{5, 0, 0, 0, comBinlogDump, 0, 0, 0, 0}, make([]byte, 4000)...)
		if !log {
			b[4] = comQuery
		}
		require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
		_, err := c.Write(b)
		require.NoError(t, err)
		got := make([]byte, len(b))
		_, err = io.ReadFull(c, got)
		require.NoError(t, err)
		for i := range b {
			if d := b[i] ^ got[i]; d != 0 {
				require.Zero(t, d&(d-1), "one bit of a byte")
				bits, at = bits+1, append(at, i)
			}
		}
		require.EqualValues(t, bits, p.Counts().Flipped)
		return bits, at
	}
	n, at := count(7, true)
	require.InDelta(t, 40, n, 25)
	_, again := count(7, true)
	require.Equal(t, at, again, "a seed fixes which")
	n, _ = count(7, false)
	require.Zero(t, n)
}

func TestCommitsAreFoundHoweverTheyArrive(t *testing.T) {
	packet := func(number byte, payload string) string {
		n := len(payload)
		return string([]byte{byte(n), byte(n >> 8), byte(n >> 16), number}) + payload
	}
	small := packet(1, "\x03COMMIT") + // of a login, say
		packet(0, "\x03BEGIN; UPDATE t SET a = 'COMMIT'") +
		packet(0, "\x03COMMIT") +
		packet(0, "\x16COMMIT") + // prepares it
		packet(0, "\x03BEGIN; UPDATE t SET a=1; commit ; ") +
		packet(0, "\x03SELECT NOCOMMIT") +
		packet(0, "\x03COMMIT;") + packet(0, "\x01")
	large := packet(0, "\x03"+strings.Repeat("x", 1<<24-2)) + packet(1, ";COMMIT") + packet(0, "\x03COMMIT")
	for _, size := range []int{1, 3, 7, 1000} {
		require.Equal(t, 3, commits([]byte(small), size))
	}
	for _, size := range []int{1000, 1 << 16, len(large)} {
		require.Equal(t, 2, commits([]byte(large), size))
	}
}

func commits(b []byte, size int) (n int) {
	var s scanner
	for len(b) > 0 {
		part := b[:min(size, len(b))]
		b = b[len(part):]
		s.scan(part, func(command byte, tail []byte) {
			if command == comQuery && isCommit(tail) {
				n++
			}
		})
	}
	return n
}

func TestACommitIsLost(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			schema := srv.Schema(t)
			srv.Exec(t, "CREATE TABLE "+schema+".a (id INT PRIMARY KEY)")
			p := proxy(t, srv.Addr(), nil)
			cfg := mysql.NewConfig()
			cfg.User, cfg.Net, cfg.Addr, cfg.MultiStatements, cfg.Logger = "root", "tcp", p.Addr(), true, &mysql.NopLogger{}
			connector, err := mysql.NewConnector(cfg)
			require.NoError(t, err)
			db := sql.OpenDB(connector)
			defer db.Close()
			for i, c := range []struct {
				loss Loss
				text string
				done bool
			}{
				{ReplyLost, "COMMIT", true}, {RequestLost, "COMMIT", false}, {ReplyHeld, "COMMIT", true},
				{ReplyLost, "UPDATE " + schema + ".a SET id = id; UPDATE " + schema + ".a SET id = id; COMMIT", true},
			} {
				conn, err := db.Conn(t.Context())
				require.NoError(t, err)
				_, err = conn.ExecContext(t.Context(), "BEGIN; INSERT INTO "+schema+".a VALUES (?)", i)
				if err != nil { // the driver prepares only single statements
					_, err = conn.ExecContext(t.Context(), "BEGIN")
					require.NoError(t, err)
					_, err = conn.ExecContext(t.Context(), "INSERT INTO "+schema+".a VALUES (?)", i)
				}
				require.NoError(t, err)
				p.LoseCommits(1, c.loss)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				if c.loss == ReplyHeld {
					cancel()
					ctx, cancel = context.WithTimeout(t.Context(), time.Second)
				}
				_, err = conn.ExecContext(ctx, c.text)
				require.Error(t, err)
				require.Equal(t, c.loss == ReplyHeld, errors.Is(err, context.DeadlineExceeded), "%v", err)
				cancel()
				conn.Close()
				require.EqualValues(t, i+1, p.Counts().LostCommits)
				have := func() (n int) {
					require.NoError(t, srv.DB(t).QueryRow("SELECT COUNT(*) FROM "+schema+".a WHERE id = ?", i).Scan(&n))
					return n
				}
				for end := time.Now().Add(time.Minute); c.done && have() == 0 && time.Now().Before(end); {
				}
				require.Equal(t, c.done, have() == 1)
			}
			// Once they are lost, others are not.
			_, err = db.Exec("BEGIN; INSERT INTO " + schema + ".a VALUES (99); COMMIT")
			require.NoError(t, err)
			p.Heal()
		})
	}
}

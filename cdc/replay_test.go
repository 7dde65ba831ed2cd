package cdc

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
)

// A replay is a connection over which a server sends a log again and again, with the
// GTIDs, places and checksums that the transactions would have. So the reader can be
// measured without a server's part in it.
type replay struct {
	net.Conn // nil: no other method is called
	lead     []byte
	wire     []byte // packets of the transactions
	rows     int    // in it
	txs      int
	events   int
	gnos     []int // where events' heads are in wire
	at       int
	round    uint64
}

func (r *replay) SetReadDeadline(time.Time) error { return nil }
func (r *replay) Close() error                    { return nil }

func (r *replay) Read(b []byte) (int, error) {
	if len(r.lead) > 0 {
		n := copy(b, r.lead)
		r.lead = r.lead[n:]
		return n, nil
	}
	if r.at == len(r.wire) {
		return 0, io.EOF
	}
	n := copy(b, r.wire[r.at:])
	r.at += n
	return n, nil
}

// again makes the log begin anew, as its next transactions.
func (r *replay) again() {
	r.at, r.round = 0, r.round+1
	for _, at := range r.gnos {
		e := event(r.wire[at:])
		e = e[:e.size()]
		if e.kind() == evGTID {
			b := e.body()
			binary.LittleEndian.PutUint64(b[17:], binary.LittleEndian.Uint64(b[17:])+uint64(r.txs))
		}
		// Places are left: they are what the assembler copies, whatever they are.
		binary.LittleEndian.PutUint32(e[len(e)-4:], crc32.ChecksumIEEE(e[:len(e)-4]))
	}
}

// The shapes of replays.
const (
	single = "rows=1"
	fifty  = "rows=50"
	packed = "rows=1,zstd" // with binlog_transaction_compression
)

// newReplay makes a replay of about so many rows of the log that MySQL 9.7 wrote of
// transactions of one row, or of 50 rows each, of ten columns.
func newReplay(tb testing.TB, rows int, shape string) *replay {
	large := shape == fifty
	zip, err := zstd.NewWriter(nil)
	require.NoError(tb, err)
	defer zip.Close()
	log, err := os.ReadFile(filepath.Join("testdata", "orders.000001"))
	require.NoError(tb, err)
	r := new(replay)
	packet := func(to []byte, e event) []byte {
		to = binary.LittleEndian.AppendUint32(to, uint32(len(e)+1))
		return append(append(to, 0), e...)
	}
	gno := uint64(0)
	var tx []event
	for r.rows < rows {
		for at := 4; at < len(log); {
			e := event(log[at:])
			e = e[:e.size()]
			at += len(e)
			switch kind := e.kind(); {
			case kind == evFormat && len(r.lead) == 0:
				r.lead = packet(r.lead, e)
			case kind == evGTID:
				tx = tx[:0]
				fallthrough
			case len(tx) > 0:
				tx = append(tx, e)
			}
			if e.kind() != evXID || len(tx) == 0 {
				continue
			}
			rows, size := 1, 0
			for _, e := range tx {
				if isRows(e.kind()) {
					size += len(e)
				}
			}
			if size > 1000 {
				rows = 50 // in one event or in two
			}
			if (rows > 1) != large {
				continue
			}
			gno++
			if shape == packed {
				tx = []event{tx[0], pack(zip, tx[1:])}
			}
			for _, e := range tx {
				from := len(r.wire) + 5
				r.wire = packet(r.wire, e)
				r.gnos = append(r.gnos, from)
				if e.kind() == evGTID {
					binary.LittleEndian.PutUint64(event(r.wire[from:]).body()[17:], gno)
				}
			}
			r.rows, r.txs, r.events = r.rows+rows, r.txs+1, r.events+len(tx)
		}
	}
	for _, at := range r.gnos {
		e := event(r.wire[at:])
		e = e[:e.size()]
		binary.LittleEndian.PutUint32(e[len(e)-4:], crc32.ChecksumIEEE(e[:len(e)-4]))
	}
	return r
}

// pack makes a transaction payload event of events.
func pack(zip *zstd.Encoder, tx []event) event {
	var b []byte
	for _, e := range tx {
		n := len(b)
		b = append(b, e[:len(e)-4]...)
		binary.LittleEndian.PutUint32(b[n+9:], uint32(len(e)-4))
	}
	z := zip.EncodeAll(b, nil)
	number := func(n int) []byte { return append([]byte{3, 0xfc}, byte(n), byte(n>>8)) }
	body := append([]byte{payloadAlg, 1, algZstd, payloadBytes}, number(len(b))...)
	body = append(append(append(body, 1), number(len(z))...), payloadEnd)
	e := append(make(event, headerLen), append(body, z...)...)
	e = append(e, 0, 0, 0, 0)
	copy(e, tx[0][:headerLen])
	e[4] = evPayload
	binary.LittleEndian.PutUint32(e[9:], uint32(len(e)))
	return e
}

// stream returns what reads r.
func (r *replay) stream(tb testing.TB) *Stream {
	src := new(Source)
	src.opts, _ = (&Options{}).withDefaults()
	src.filter, _ = newFilter([]string{"bench.*"})
	src.streams = make(map[*Stream]struct{})
	set, err := parseGTIDSet("")
	require.NoError(tb, err)
	st, err := src.newStream(&position{kind: byGTID, server: "s", set: set, file: "binlog.000001", pos: 4}, false, "")
	require.NoError(tb, err)
	st.in = &remote{of: st, in: packets{conn: r, size: src.opts.Buffer, timeout: time.Hour}, sum: true}
	return st
}

// readAll reads all transactions that r sends and gives each batch to f.
func (r *replay) readAll(tb testing.TB, st *Stream, f func([]*dfs.Transaction)) {
	batch := make([]*dfs.Transaction, 4096)
	for n := 0; n < r.txs; {
		k, err := st.Next(context.Background(), batch)
		if err != nil {
			tb.Fatal(err)
		}
		for _, tx := range batch[:k] {
			if tx.Encoded != nil && !tx.More {
				n++
			}
		}
		f(batch[:k])
	}
}

// BenchmarkFrame reads events off a connection and makes transactions of them:
// packets, checksums, GTIDs, names of tables, positions, copies of the rows.
func BenchmarkFrame(b *testing.B) {
	for _, shape := range []string{single, fifty, packed} {
		b.Run(shape, func(b *testing.B) {
			r := newReplay(b, 20000, shape)
			st := r.stream(b)
			r.readAll(b, st, func([]*dfs.Transaction) {})
			perRow(b, r.rows, func(stop, start func()) {
				stop()
				r.again()
				start()
				r.readAll(b, st, func([]*dfs.Transaction) {})
			})
		})
	}
}

// perRow runs f, which handles so many rows, and gives processor time and allocations
// for each. What f does outside of what is measured, it does between stop and start.
func perRow(b *testing.B, rows int, f func(stop, start func())) {
	var before, after runtime.MemStats
	var used, since time.Duration
	var allocs, bytes uint64
	stop := func() {
		b.StopTimer()
		used += cpuUsed(b) - since
		runtime.ReadMemStats(&after)
		allocs, bytes = allocs+after.Mallocs-before.Mallocs, bytes+after.TotalAlloc-before.TotalAlloc
	}
	start := func() {
		runtime.ReadMemStats(&before)
		since = cpuUsed(b)
		b.StartTimer()
	}
	n := 0
	start()
	for b.Loop() {
		f(stop, start)
		n += rows
	}
	stop()
	b.ReportMetric(float64(used.Nanoseconds())/float64(n), "cpu-ns/row")
	b.ReportMetric(float64(allocs)/float64(n), "allocs/row")
	b.ReportMetric(float64(bytes)/float64(n), "B/row")
}

// cpuUsed returns the processor time that this process has used, which the other work of
// a machine changes less than it does the time that passes.
func cpuUsed(tb testing.TB) time.Duration {
	var u syscall.Rusage
	require.NoError(tb, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkDecodeRows decodes what BenchmarkFrame makes.
func BenchmarkDecodeRows(b *testing.B) {
	for _, shape := range []string{single, fifty} {
		b.Run(shape, func(b *testing.B) {
			r := newReplay(b, 20000, shape)
			st := r.stream(b)
			var all []*dfs.Transaction
			r.readAll(b, st, func(txs []*dfs.Transaction) { all = append(all, txs...) })
			encoded := make([][]byte, len(all))
			for i, tx := range all {
				encoded[i] = tx.Encoded
			}
			rows := 0
			decode := func() {
				rows = 0
				for from := 0; from < len(all); from += 256 {
					batch := all[from:min(from+256, len(all))]
					for i, tx := range batch {
						tx.Encoded, tx.Changes = encoded[from+i], nil
					}
					if err := st.src.Decode(context.Background(), batch); err != nil {
						b.Fatal(err)
					}
					for _, tx := range batch {
						rows += len(tx.Changes)
					}
				}
			}
			decode()
			perRow(b, rows, func(_, _ func()) { decode() })
		})
	}
}

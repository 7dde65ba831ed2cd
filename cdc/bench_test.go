package cdc_test

import (
	"context"
	"net"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	gomysql "github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/cdc/cdctest"
	"github.com/dataflowsync/dfs/internal/testenv"
)

// benchLog is a server with a log, made once for all benchmarks.
var benchLog = struct {
	sync.Once
	rows int
}{}

func benchServer(b *testing.B) *testenv.Server {
	srv := testenv.Shared(b, testenv.MySQL97)
	benchLog.Do(func() {
		w := cdctest.Workload{Inserts: 60000, Updates: 30000, Deletes: 10000, Batches: 200, BatchRows: 100}
		srv.Exec(b, "RESET BINARY LOGS AND GTIDS")
		require.NoError(b, w.Run(context.Background(), srv.DB(b), "bench"))
		benchLog.rows = w.Rows()
	})
	return srv
}

// capture reads the whole log of the benchmark and returns what it held.
func capture(b *testing.B, src *cdc.Source, keep bool) (all []*dfs.Transaction) {
	ctx := context.Background()
	st, err := src.Open(ctx, dfs.Checkpoint{})
	require.NoError(b, err)
	defer st.Close()
	batch := make([]*dfs.Transaction, 4096)
	// The last transaction is one of the batches: 60000+30000+10000+200, and the
	// statements.
	for n := 0; n < 100200; {
		k, err := st.Next(ctx, batch)
		require.NoError(b, err)
		for _, tx := range batch[:k] {
			if tx.Encoded != nil && !tx.More {
				n++
			}
		}
		if keep {
			all = append(all, batch[:k]...)
		}
	}
	return all
}

// report gives figures per row. CPU time is that of this process.
func report(b *testing.B, cpu time.Duration, before runtime.MemStats) {
	var after runtime.MemStats
	runtime.ReadMemStats(&after)
	rows := float64(benchLog.rows) * float64(b.N)
	b.ReportMetric(rows/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(float64(cpu.Nanoseconds())/rows, "cpu-ns/row")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/rows, "allocs/row")
	b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/rows, "B/row")
}

func benchmark(b *testing.B, run func()) {
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	start := cpuTime()
	for b.Loop() {
		run()
	}
	report(b, cpuTime()-start, before)
}

// BenchmarkCapture reads a log of a server on this machine: single-row
// transactions mostly.
func BenchmarkCapture(b *testing.B) {
	srv := benchServer(b)
	src, err := cdc.Open(context.Background(), srv.DSN(""), &cdc.Options{Tables: []string{"bench.*"}, Start: "earliest"})
	require.NoError(b, err)
	defer src.Close()
	benchmark(b, func() { capture(b, src, false) })
}

// BenchmarkBinlogSyncer reads the same log with go-mysql, which decodes it.
func BenchmarkBinlogSyncer(b *testing.B) {
	srv := benchServer(b)
	host, port, err := net.SplitHostPort(srv.Addr())
	require.NoError(b, err)
	p, err := strconv.ParseUint(port, 10, 16)
	require.NoError(b, err)
	benchmark(b, func() {
		s := replication.NewBinlogSyncer(replication.BinlogSyncerConfig{
			ServerID: 77, Flavor: "mysql", Host: host, Port: uint16(p), User: "root", DisableRetrySync: true,
		})
		st, err := s.StartSync(gomysql.Position{Name: "binlog.000001", Pos: 4})
		require.NoError(b, err)
		for rows := 0; rows < benchLog.rows; {
			ev, err := st.GetEvent(context.Background())
			require.NoError(b, err)
			if e, ok := ev.Event.(*replication.RowsEvent); ok {
				n := len(e.Rows)
				if e.Type() == replication.EnumRowsEventTypeUpdate {
					n /= 2
				}
				rows += n
			}
		}
		s.Close()
	})
}

// BenchmarkDecode decodes what BenchmarkCapture reads.
func BenchmarkDecode(b *testing.B) {
	srv := benchServer(b)
	src, err := cdc.Open(context.Background(), srv.DSN(""), &cdc.Options{Tables: []string{"bench.*"}, Start: "earliest"})
	require.NoError(b, err)
	defer src.Close()
	all := capture(b, src, true)
	encoded := make([][]byte, len(all))
	for i, tx := range all {
		encoded[i] = tx.Encoded
	}
	benchmark(b, func() {
		rows := 0
		for from := 0; from < len(all); from += 1000 {
			batch := all[from:min(from+1000, len(all))]
			for i, tx := range batch {
				tx.Encoded, tx.Changes = encoded[from+i], nil
			}
			if err := src.Decode(context.Background(), batch); err != nil {
				b.Fatal(err)
			}
			for _, tx := range batch {
				for i := range tx.Changes {
					if tx.Changes[i].Op != dfs.DDL {
						rows++
					}
				}
				tx.Changes = nil
			}
		}
		if rows != benchLog.rows {
			b.Fatalf("decoded %d rows of %d", rows, benchLog.rows)
		}
	})
}

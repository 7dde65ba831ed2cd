//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/metrics"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/dpu"
	"github.com/dataflowsync/dfs/internal/childproc"
	"github.com/dataflowsync/dfs/queue"
	"github.com/dataflowsync/dfs/sink"
)

// childEnv is the variable that holds a job, as JSON, for this program started
// by itself: what is measured runs in a process of its own, so that memory and
// processor time are its own.
const childEnv = "DFS_BENCH_CHILD"

// A job is what a child does.
type job struct {
	Do      string // "apply", "copy", "follow", "capture", "archive", "gomysql", "canal" or "lookup"
	Source  string // DSN
	Target  string // DSN
	Queue   string // file; of an archive, its folder
	Tables  []string
	From    string // set of GTIDs
	Last    string // GTID of the last transaction
	Addr    string // of the source
	PID     int    // of the source's server
	File    string // of the source's log
	Pos     uint32
	Rows    int    // in the backlog; of a map, its keys
	Step    int64  // how far the keys of a map are apart
	IDs     string // file of the map of ids; empty for none
	Profile string // file for a CPU profile; empty for none
	Reshape bool   // the rows on their way, by reshapeUnits
}

// An outcome is what a child tells of its job.
type outcome struct {
	sample
	Rows int // seen
}

// runChild does a job. Capture and gomysql get ready, say so on standard output
// and begin when a line comes on standard input, so that neither the start of a
// process nor the checks before a run count, as with START REPLICA.
func runChild(text string) error {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return err
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	switch j.Do {
	case "apply":
		return j.apply(ctx)
	case "copy", "follow":
		return j.copy(ctx, j.Do == "copy")
	case "capture":
		return j.capture(ctx)
	case "archive":
		return j.archive(ctx)
	case "gomysql":
		return j.goMySQL(ctx)
	case "canal":
		return j.canal(ctx)
	case "lookup":
		return j.lookup(ctx)
	}
	return fmt.Errorf("unknown job %q", j.Do)
}

// startProfile starts a CPU profile, if one is wanted, and keeps a profile of
// the heap beside it, of when it was largest. It returns what ends them.
func (j *job) startProfile() (stop func() error, err error) {
	if j.Profile == "" {
		return func() error { return nil }, nil
	}
	f, err := os.Create(j.Profile)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	done, watched := make(chan struct{}), make(chan error, 1)
	go func() { watched <- watchHeap(strings.TrimSuffix(j.Profile, ".cpu")+".heap", done) }()
	return func() error {
		pprof.StopCPUProfile()
		close(done)
		return errors.Join(f.Close(), <-watched)
	}, nil
}

// watchHeap writes a profile of the heap each time that it has grown by a tenth.
func watchHeap(file string, done <-chan struct{}) error {
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	for most := uint64(0); ; {
		select {
		case <-done:
			return nil
		case <-look.C:
		}
		if metrics.Read(live); live[0].Value.Uint64() < most+most/10+1 {
			continue
		}
		most = live[0].Value.Uint64()
		var b bytes.Buffer
		if err := pprof.WriteHeapProfile(&b); err != nil {
			return err
		}
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
			return err
		}
	}
}

// begin waits for the line that starts the measured part.
func begin() error {
	fmt.Println("ready")
	_, err := bufio.NewReader(os.Stdin).ReadString('\n')
	return err
}

// end tells the outcome of what was measured, of which it then counts the rows.
func end(s sample, rows func() (int, error)) error {
	s.Self, s.RSS = childproc.CPUTime(os.Getpid()), childproc.PeakRSS(os.Getpid())
	o := outcome{sample: s}
	var err error
	if o.Rows, err = rows(); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(o)
}

func (j *job) open(ctx context.Context) (*cdc.Source, *queue.Queue, error) {
	src, err := cdc.Open(ctx, j.Source, &cdc.Options{Tables: j.Tables, Start: "gtid:" + j.From})
	if err != nil {
		return nil, nil, err
	}
	q, err := queue.Open(j.Queue, nil)
	return src, q, err
}

// apply is what examples/basic does, with a profile.
func (j *job) apply(ctx context.Context) error {
	stop, err := j.startProfile()
	if err != nil {
		return err
	}
	src, q, err := j.open(ctx)
	if err != nil {
		return err
	}
	dst, err := sink.OpenMySQL(ctx, j.Target, nil)
	if err != nil {
		return err
	}
	p := &dfs.Pipeline{Source: src, Queue: q, Sink: dst}
	closeIDs := func() error { return nil }
	if j.IDs != "" {
		if p.Stages, closeIDs, err = j.newIDs(ctx, src); err != nil {
			return err
		}
	}
	if j.Reshape {
		tables, err := src.Tables(ctx)
		if err != nil {
			return err
		}
		units, err := dpu.New(reshapeUnits(), &dpu.Options{Tables: tables})
		if err != nil {
			return err
		}
		p.Stages = append(p.Stages, units)
	}
	return errors.Join(p.Run(ctx), dst.Close(), q.Close(), src.Close(), closeIDs(), stop())
}

// capture stores the backlog in a queue, and then reads it back to count its
// rows.
func (j *job) capture(ctx context.Context) error {
	src, q, err := j.open(ctx)
	if err != nil {
		return err
	}
	stored, cancel := context.WithCancel(ctx)
	defer cancel()
	w := &watched{Queue: q, last: j.Last, stored: cancel}
	p := &dfs.Pipeline{Source: src, Sink: w}
	if err := begin(); err != nil {
		return err
	}
	stop, err := j.startProfile()
	if err != nil {
		return err
	}
	w.meter = startMeter(j.PID, 0)
	if err := p.Run(stored); err != nil {
		return err
	}
	if w.at == nil {
		return errors.New("capture stopped before the end of the backlog")
	}
	if err := stop(); err != nil {
		return err
	}
	return end(*w.at, func() (rows int, err error) {
		rows, err = countRows(ctx, src, q, j.Last)
		return rows, errors.Join(err, q.Close(), src.Close())
	})
}

// A watched queue tells when it has stored a transaction.
type watched struct {
	*queue.Queue
	last   string // name of the transaction
	meter  *meter
	at     *sample // what was measured until then; stopping does not count
	stored func()
}

func (w *watched) Apply(ctx context.Context, batch []*dfs.Transaction) error {
	tx := batch[len(batch)-1]
	last := tx.ID == w.last && !tx.More
	err := w.Queue.Apply(ctx, batch)
	if last && err == nil {
		s := w.meter.stop()
		w.at = &s
		w.stored()
	}
	return err
}

// countRows reads the queue from its beginning up to the named transaction.
func countRows(ctx context.Context, src *cdc.Source, q *queue.Queue, last string) (rows int, err error) {
	stream, err := q.Open(ctx, dfs.Checkpoint{})
	if err != nil {
		return 0, err
	}
	defer stream.Close()
	batch := make([]*dfs.Transaction, 4096)
	for {
		n, err := stream.Next(ctx, batch)
		if err != nil {
			return rows, err
		}
		if err := src.Decode(ctx, batch[:n]); err != nil {
			return rows, err
		}
		for _, tx := range batch[:n] {
			rows += len(tx.Changes)
			if tx.ID == last && !tx.More {
				return rows, nil
			}
		}
	}
}

// goMySQL reads the backlog with go-mysql, decoding all of it. It goes by file
// and position, which is the quicker of its modes.
func (j *job) goMySQL(ctx context.Context) error {
	host, port, err := net.SplitHostPort(j.Addr)
	if err != nil {
		return err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return err
	}
	if err := begin(); err != nil {
		return err
	}
	m := startMeter(j.PID, 0)
	s := replication.NewBinlogSyncer(replication.BinlogSyncerConfig{
		ServerID: 1, Flavor: "mysql", Host: host, Port: uint16(n), User: "root",
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	stream, err := s.StartSync(mysql.Position{Name: j.File, Pos: j.Pos})
	if err != nil {
		return err
	}
	rows := 0
	for {
		e, err := stream.GetEvent(ctx)
		if err != nil {
			return err
		}
		if r, ok := e.Event.(*replication.RowsEvent); ok {
			switch e.Header.EventType {
			case replication.UPDATE_ROWS_EVENTv1, replication.UPDATE_ROWS_EVENTv2:
				rows += len(r.Rows) / 2
			default:
				rows += len(r.Rows)
			}
		}
		// The last transaction has one row, so its end follows.
		if _, ok := e.Event.(*replication.XIDEvent); ok && rows >= j.Rows {
			// Close would take seconds, and the process ends anyway.
			return end(m.stop(), func() (int, error) { return rows, nil })
		}
	}
}

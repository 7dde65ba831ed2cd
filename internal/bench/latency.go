//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/dataflowsync/dfs/internal/testenv"
)

// latencyPart names the measurement of latency.
const latencyPart = "latency"

// pace is how many transactions a second the source gets for latency.
const pace = 500

// latencyWorkload returns the tables for latency: one for each run, so that
// each can be compared by itself.
func latencyWorkload(rounds int) *workload {
	w := &workload{name: latencyPart, schema: latencyPart, kind: testenv.MySQL97}
	for i := range rounds * len(latencyContenders) {
		w.create = append(w.create, fmt.Sprintf("CREATE TABLE t%d LIKE end_of_log", i),
			fmt.Sprintf("ALTER TABLE t%d ADD name VARCHAR(60), ADD amount DECIMAL(12,2), ADD at DATETIME(6), ADD KEY (name)", i))
	}
	return w
}

var latencyContenders = []string{"dfs", "native"}

// measureLatency measures how long after its commit a transaction can be seen
// on the target, while the source commits them at an even pace.
func (l *lab) measureLatency(ctx context.Context, r *report) error {
	// The source is one of production now, whose commits cost what they cost.
	if err := l.source.exec(ctx, "SET GLOBAL sync_binlog = 1", "SET GLOBAL innodb_flush_log_at_trx_commit = 1"); err != nil {
		return err
	}
	for round := range l.opts.rounds {
		for i, name := range latencyContenders {
			if !l.opts.wants(name, contenderNames()) {
				continue
			}
			t := &latencyRun{table: fmt.Sprintf("t%d", round*len(latencyContenders)+i),
				n: int(l.opts.latency.Seconds() * pace / float64(l.opts.rounds))}
			if err := l.latency(ctx, t, name, round); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			r.addLatency(name, t)
			slices.Sort(t.took)
			say("%s: %s: p50 %v, p99 %v at %.0f transactions/s", latencyPart, name,
				quantile(t.took, 0.5).Round(time.Microsecond), quantile(t.took, 0.99).Round(time.Microsecond), t.rate)
		}
	}
	return nil
}

// A latencyRun is one run of one contender.
type latencyRun struct {
	table string
	n     int             // transactions
	took  []time.Duration // from commit until seen, of each
	rate  float64         // transactions a second that the source really got
	sample
}

func (l *lab) latency(ctx context.Context, t *latencyRun, name string, round int) (err error) {
	dir, err := os.MkdirTemp(l.dir, "latency-")
	if err != nil {
		return err
	}
	if !l.opts.keep {
		defer os.RemoveAll(dir)
	}
	x := &trial{lab: l, source: l.source, workers: nativeWorkers, dir: dir, backlog: &backlog{workload: &workload{schema: latencyPart}}}
	if l.opts.profile != "" {
		x.profile = filepath.Join(l.opts.profile, fmt.Sprintf("latency-%s-%d.cpu", name, round+1))
	}
	if x.from, err = l.source.gtids(ctx); err != nil {
		return err
	}
	if x.target, err = l.launchTarget(ctx, filepath.Join(dir, "target")); err != nil {
		return err
	}
	defer x.target.close()

	var failed func() error
	cpu := func() time.Duration { return 0 } // of the contender, so far
	stop := func() error { return nil }
	if name == "native" {
		failed = func() error { return x.replicaError(ctx) }
		err = x.startNative(ctx, func() {})
	} else {
		var p *process
		if p, err = x.startDFS(""); err == nil {
			failed, cpu = p.gone, p.cpu
			stop = func() error { return stopDFS(ctx, p) }
			defer p.kill()
		}
	}
	if err != nil {
		return err
	}
	// Before the first transaction that counts, all has warmed up.
	warm := pace
	if err := t.write(ctx, l.source, 0, warm, nil); err != nil {
		return err
	}
	visible := "SELECT 1 FROM latency." + t.table + " WHERE id = %d"
	if err := x.target.awaitRow(ctx, fmt.Sprintf(visible, warm-1), failed); err != nil {
		return err
	}
	m, before := startMeter(l.source.PID(), x.target.PID()), cpu()
	if err := t.measure(ctx, l.source, x.target, warm, failed); err != nil {
		return err
	}
	t.sample = m.stop()
	t.Self = cpu() - before
	sums, err := l.source.checksums(ctx, latencyPart, []string{t.table})
	if err != nil {
		return err
	}
	if err := x.target.compare(ctx, latencyPart, []string{t.table}, sums); err != nil {
		return err
	}
	return stop()
}

// write commits n transactions of one row with ids from first on, at an even
// pace. It notes in done, if it is not nil, when the source said that each is
// committed. What comes late is not made up for by a pause.
func (t *latencyRun) write(ctx context.Context, source *database, first, n int, done []time.Time) error {
	conn, err := source.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	begun := time.Now()
	for i := range n {
		time.Sleep(time.Until(begun.Add(time.Duration(i) * time.Second / pace)))
		id := first + i
		_, err := conn.ExecContext(ctx, fmt.Sprintf("INSERT INTO latency.%s VALUES (%d, 'name %d', %d.5, NOW(6))", t.table, id, id%1000, id))
		if err != nil {
			return err
		}
		if done != nil {
			done[i] = time.Now()
		}
	}
	t.rate = float64(n) / time.Since(begun).Seconds()
	return nil
}

// measure writes the transactions that count, from id first on, and watches the
// target in a tight loop. Since commits arrive in order, the greatest id that
// can be seen tells of all.
func (t *latencyRun) measure(ctx context.Context, source, target *database, first int, failed func() error) error {
	conn, err := target.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	committed, seen := make([]time.Time, t.n), make([]time.Time, t.n)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	written := make(chan error, 1)
	go func() { written <- t.write(ctx, source, first, t.n, committed) }()

	query := "SELECT MAX(id) FROM latency." + t.table
	next := 0 // index of the first that has not been seen
	asked := time.Now()
	for next < t.n {
		var id int
		if err = conn.QueryRowContext(ctx, query).Scan(&id); err != nil {
			break
		}
		now := time.Now()
		for ; next <= id-first; next++ {
			seen[next] = now
		}
		if now.Sub(asked) > time.Second {
			asked = now
			if err = failed(); err != nil {
				break
			}
		}
		time.Sleep(200 * time.Microsecond)
	}
	if err != nil {
		cancel()
		<-written
		return err
	}
	if err := <-written; err != nil {
		return err
	}
	for i := range t.n {
		// The target may show it before the source's answer has arrived.
		t.took = append(t.took, max(0, seen[i].Sub(committed[i])))
	}
	return nil
}

// quantile returns the smallest of the sorted values that a share q of them
// does not exceed.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	i := int(q*float64(len(sorted))+0.999999) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}

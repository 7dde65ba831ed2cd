//go:build linux

package main

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dataflowsync/dfs/internal/testenv"
)

// nativeWorkers is how many workers MySQL's replica has by default.
const nativeWorkers = 4

// startNative makes the target a replica of the source, with so many workers. All
// other settings of replication are the server's defaults: commits keep the
// source's order, and what may run in parallel is found by write sets on MySQL, and
// by trying on MariaDB.
func (x *trial) startNative(ctx context.Context, started func()) error {
	host, port := "127.0.0.1", x.source.Addr()[len("127.0.0.1:"):]
	start := "START REPLICA"
	var stmts []string
	if x.source.Kind() == testenv.MariaDB {
		start = "START SLAVE"
		stmts = []string{
			fmt.Sprintf("SET GLOBAL slave_parallel_threads = %d", x.workers),
			"SET GLOBAL gtid_slave_pos = '" + x.from + "'",
			fmt.Sprintf("CHANGE MASTER TO MASTER_HOST='%s', MASTER_PORT=%s, MASTER_USER='root', MASTER_USE_GTID=slave_pos", host, port),
		}
	} else {
		stmts = []string{
			fmt.Sprintf("SET GLOBAL replica_parallel_workers = %d", x.workers),
			"SET GLOBAL gtid_purged = '" + x.from + "'",
			fmt.Sprintf("CHANGE REPLICATION SOURCE TO SOURCE_HOST='%s', SOURCE_PORT=%s, SOURCE_USER='root', SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1",
				host, port),
		}
	}
	if err := x.target.exec(ctx, stmts...); err != nil {
		return err
	}
	started()
	return x.target.exec(ctx, start)
}

// replicaError says why the target's replication stopped, if it did.
func (x *trial) replicaError(ctx context.Context) error {
	rows, err := x.target.QueryContext(ctx, "SHOW REPLICA STATUS") // MariaDB knows it, too
	if err != nil {
		return err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil || !rows.Next() {
		return errors.Join(err, rows.Err(), errors.New("the target is no replica"))
	}
	values := make([]any, len(columns))
	for i := range values {
		values[i] = new(sql.NullString)
	}
	if err := rows.Scan(values...); err != nil {
		return err
	}
	var errs []error
	for _, name := range []string{"Last_IO_Error", "Last_SQL_Error"} {
		if v := values[slices.Index(columns, name)].(*sql.NullString).String; v != "" {
			errs = append(errs, fmt.Errorf("replica: %s: %s", name, v))
		}
	}
	return errors.Join(errs...)
}

func replayNative(ctx context.Context, x *trial) (s sample, err error) {
	var m *meter
	if err := x.startNative(ctx, func() { m = startMeter(x.source.PID(), x.target.PID()) }); err != nil {
		return s, err
	}
	failed := func() error {
		if err := x.replicaError(ctx); err != nil || x.beat == 0 {
			return err
		}
		return x.keepsPace(ctx, time.Since(m.begun))
	}
	if err := x.await(ctx, failed); err != nil {
		return s, err
	}
	s = m.stop()
	return s, x.target.exec(ctx, "STOP REPLICA")
}

// errSlower ends a replay that cannot be the quickest any more.
var errSlower = errors.New("slower than another count of workers")

// keepsPace returns errSlower if x.beat has passed, or if after a third of that so little
// has been applied that it would take half as long again.
func (x *trial) keepsPace(ctx context.Context, took time.Duration) error {
	if took >= x.beat {
		return errSlower
	}
	if took < max(x.beat/3, time.Second) {
		return nil
	}
	set, err := x.target.applied(ctx)
	if err != nil {
		return err
	}
	share := float64(number(set)-number(x.from)) / float64(x.txs)
	if share < took.Seconds()/x.beat.Seconds()/1.5 {
		return errSlower
	}
	return nil
}

// applied returns what a replica has applied, as gtids does for what a server has.
func (d *database) applied(ctx context.Context) (set string, err error) {
	if d.Kind() != testenv.MariaDB {
		return d.gtids(ctx)
	}
	err = d.QueryRowContext(ctx, "SELECT @@gtid_slave_pos").Scan(&set)
	return set, err
}

// number returns the number of the last GTID in a set of one server.
func number(set string) int {
	last := lastGTID(set)
	n, _ := strconv.Atoi(last[strings.LastIndexAny(last, ":-")+1:])
	return n
}

// workers returns how many workers a replica gets.
func (c *contender) workers(res *result) int {
	if c.name == "best" {
		return res.line("best").Workers
	}
	return nativeWorkers
}

// A tried count of workers is what the search for the best found.
type tried struct {
	Workers int     `json:"workers"`
	Rate    float64 `json:"rows_per_second"` // 0 if it was not done when the best so far had been
}

// workerCounts returns those among which the best is looked for: the default first,
// which is known, then the likely ones.
func (o *options) workerCounts() []int {
	list := slices.Clone(o.workers)
	slices.SortFunc(list, func(a, b int) int {
		likely := func(n int) int {
			switch {
			case n == nativeWorkers:
				return -2
			case n > nativeWorkers:
				return -1
			}
			return 0
		}
		return cmp.Or(cmp.Compare(likely(a), likely(b)), cmp.Compare(max(a, nativeWorkers), max(b, nativeWorkers)), cmp.Compare(b, a))
	})
	return slices.Compact(list)
}

// findWorkers finds with how many workers the replica is quickest, which makes the
// first sample of the contender "best". A count that has not caught up when the best
// one so far had is given up, or earlier if it is much behind.
func (l *lab) findWorkers(ctx context.Context, b *backlog, d durability, res *result) error {
	c := contenders()[slices.IndexFunc(contenders(), func(c *contender) bool { return c.name == "best" })]
	best := &line{Name: c.name}
	var least time.Duration
	for _, n := range l.opts.workerCounts() {
		var s sample
		if native := res.line("native"); n == nativeWorkers && native != nil {
			s = native.Samples[0]
		} else {
			own := *c
			own.replay = func(ctx context.Context, x *trial) (sample, error) {
				x.beat = least
				return replayNative(ctx, x)
			}
			var err error
			if s, err = l.replay(ctx, &own, b, d, 0, n); err != nil && !errors.Is(err, errSlower) {
				return err
			}
		}
		if s.Wall == 0 {
			best.Tried = append(best.Tried, tried{Workers: n})
			say("%s: native replica, %d workers: slower", res.Name, n)
			continue
		}
		best.Tried = append(best.Tried, tried{n, s.rate(b.rows)})
		if n != nativeWorkers || res.line("native") == nil {
			say("%s: native replica, %d workers: %s rows/s in %.2f s", res.Name, n, count(s.rate(b.rows)), s.Wall.Seconds())
		}
		if least == 0 || s.Wall < least {
			least, best.Workers, best.Samples = s.Wall, n, []sample{s}
		}
	}
	best.Title = fmt.Sprintf("native replica, %d workers (its best)", best.Workers)
	res.Lines = append(res.Lines, best)
	return nil
}

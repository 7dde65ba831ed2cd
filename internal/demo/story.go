//go:build unix

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/go-sql-driver/mysql"
)

// A rowCount is how many rows a server has written, in all, at a moment.
type rowCount struct {
	at time.Time
	n  uint64
}

func (c rowCount) perSecond(later rowCount) float64 {
	return float64(later.n-c.n) / max(later.at.Sub(c.at).Seconds(), 0.001)
}

func countRows(ctx context.Context, db *sql.DB) (rowCount, error) {
	c := rowCount{at: time.Now()}
	rows, err := db.QueryContext(ctx, "SHOW GLOBAL STATUS WHERE Variable_name IN ('Innodb_rows_inserted', 'Innodb_rows_updated', 'Innodb_rows_deleted')")
	if err != nil {
		return c, err
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		var n uint64
		if err := rows.Scan(&name, &n); err != nil {
			return c, err
		}
		c.n += n
	}
	return c, rows.Err()
}

// load lets the shop be busy, kills the program on the way, and watches.
func (d *demo) load(ctx context.Context) error {
	d.shop = &workload{db: d.sourceDB, connections: 6, pace: d.pace}
	d.probe = &probe{source: d.sourceDB, target: d.targetDB}
	if err := d.shop.seed(ctx); err != nil {
		return fmt.Errorf("fill the shop: %w", err)
	}
	pace := "as fast as it goes"
	if d.pace > 0 {
		pace = fmt.Sprintf("%d transactions/s", d.pace)
	}
	d.screen.line("\n  a shop with %d connections, %s, for %s: orders, payments, cancellations\n", d.shop.connections, pace, d.duration)

	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, d.duration)
	defer cancel()
	var wg sync.WaitGroup
	failed := make(chan error, 3)
	for _, f := range []func(context.Context) error{d.shop.run, d.probe.run, d.killAndRestart} {
		wg.Go(func() {
			if err := f(ctx); err != nil {
				failed <- err
				cancel()
			}
		})
	}
	var err error
	if d.rows, err = countRows(ctx, d.sourceDB); err != nil {
		failed <- err
		cancel()
	}
	d.watch(ctx, began)
	wg.Wait()
	select {
	case err := <-failed:
		return err
	default:
	}
	if context.Cause(ctx) == context.Canceled {
		return ctx.Err()
	}
	return nil
}

// watch keeps the live line up to date until ctx ends.
func (d *demo) watch(ctx context.Context, began time.Time) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	var last rowCount
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now, err := countRows(ctx, d.targetDB)
		if err != nil {
			continue // the end of ctx, or of a server, which others report
		}
		applied, err := audit(ctx, d.targetDB)
		if err != nil {
			continue
		}
		rate := last.perSecond(now)
		if last.n == 0 {
			last = now
			continue
		}
		last = now
		d.mu.Lock()
		state := d.state
		d.mu.Unlock()
		if state == "" {
			state = "lag " + span(d.probe.last().lag)
		}
		d.say(func() {
			d.screen.status("  %5.1f s  source %6s · target %6s transactions · %6s rows/s · %s", time.Since(began).Seconds(),
				number(d.shop.total()), number(applied), number(rate), state)
		})
	}
}

// audit returns how many of the shop's transactions a server has.
func audit(ctx context.Context, db *sql.DB) (n uint64, err error) {
	err = db.QueryRowContext(ctx, "SELECT COALESCE(SUM(n), 0) FROM shop.audit").Scan(&n)
	return n, err
}

// killAndRestart kills the program a third of the way through.
func (d *demo) killAndRestart(ctx context.Context) error {
	began := time.Now()
	note := func(format string, args ...any) {
		d.say(func() { d.screen.line("  %5.1f s  %s", time.Since(began).Seconds(), fmt.Sprintf(format, args...)) })
	}
	if !sleep(ctx, d.duration/3) {
		return ctx.Err()
	}
	if err := d.program.ended(); err != nil {
		return err
	}
	d.program.kill()
	seq, err := d.checkpoint(ctx)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.crash.killed, d.state = time.Now(), "program is dead"
	d.mu.Unlock()
	note("%s at transaction %s", d.screen.bold("kill -9"), number(seq))
	if !sleep(ctx, d.down) {
		return ctx.Err()
	}

	// Only now is it sure what the target has: a commit that was under way when
	// the program died has come to its end.
	if seq, err = d.checkpoint(ctx); err != nil {
		return err
	}
	before, err := countRows(ctx, d.targetDB)
	if err != nil {
		return err
	}
	mark, err := audit(ctx, d.sourceDB)
	if err != nil {
		return err
	}
	started := time.Now()
	if err := d.startProgram(); err != nil {
		return err
	}
	d.mu.Lock()
	d.state = "catching up"
	d.mu.Unlock()
	note("started again; the target stands at transaction %s", number(seq))
	if err := d.await(ctx, "the first transaction after kill -9", func() (bool, error) {
		now, err := d.checkpoint(ctx)
		return now > seq, err
	}); err != nil {
		return err
	}
	first := time.Since(started)
	if err := d.await(ctx, "the target to be in step again", func() (bool, error) {
		has, err := audit(ctx, d.targetDB)
		return has >= mark, err
	}); err != nil {
		return err
	}
	after, err := countRows(ctx, d.targetDB)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.crash.at, d.crash.started, d.crash.first, d.crash.inStep = seq, started, first, time.Since(started)
	d.crash.rate, d.state = before.perSecond(after), ""
	inStep := d.crash.inStep
	d.mu.Unlock()
	note("in step again, %s after the start", span(inStep))
	return nil
}

// settle waits until the target has the last that the source committed. In
// order, the heartbeat is that.
func (d *demo) settle(ctx context.Context) error {
	last, err := countRows(ctx, d.sourceDB)
	if err != nil {
		return err
	}
	d.rate = d.rows.perSecond(last)
	done := d.screen.step("settle", "the shop is closed; the target takes the last")
	const end = 1 << 62
	if _, err := d.sourceDB.ExecContext(ctx, "UPDATE shop.heartbeat SET n = ?", uint64(end)); err != nil {
		return err
	}
	if err := d.await(ctx, "the target to catch up", func() (bool, error) {
		var n uint64
		err := d.targetDB.QueryRowContext(ctx, "SELECT COALESCE(MAX(n), 0) FROM shop.heartbeat").Scan(&n)
		return n == end, err
	}); err != nil {
		return err
	}
	if err := d.await(ctx, "the position to be the source's", func() (bool, error) { return d.inStep(ctx) }); err != nil {
		return err
	}
	done()
	done = d.screen.step("stop", "SIGTERM ends the program in good order")
	if err := d.program.stop(); err != nil {
		return fmt.Errorf("stop the program: %w; it said\n%s", err, d.program.log())
	}
	done()
	return nil
}

func (d *demo) say(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

// sleep waits, and reports whether it was not cut short.
func sleep(ctx context.Context, wait time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(wait):
		return true
	}
}

func isMissing(err error) bool {
	var e *mysql.MySQLError
	return errors.As(err, &e) && (e.Number == 1146 || e.Number == 1049)
}

func port(s *testenv.Server) string {
	_, port, _ := net.SplitHostPort(s.Addr())
	return port
}

// verdict compares everything and prints what came out.
func (d *demo) verdict(ctx context.Context) error {
	d.screen.line("\n  %-14s %9s  %-14s %s", "table", "rows", "sha256", "target")
	different, rows := 0, 0
	for _, t := range tables {
		c, err := compare(ctx, d.sourceDB, d.targetDB, t.name)
		if err != nil {
			return err
		}
		outcome := "equal"
		if c.different > 0 {
			outcome = fmt.Sprintf("DIFFERS in %s rows, first: %.200s", number(c.different), c.example)
		}
		different += c.different
		rows += c.rows
		d.screen.line("  %-14s %9s  %-14s %s", c.table, number(c.rows), c.digest, outcome)
	}

	var once []string
	counted := true
	for i, k := range kinds {
		var n uint64
		if err := d.targetDB.QueryRowContext(ctx, "SELECT n FROM shop.audit WHERE kind = ?", k.name).Scan(&n); err != nil {
			return err
		}
		if committed := d.shop.committed[i].Load(); n != committed {
			counted = false
			once = append(once, fmt.Sprintf("%s: %s committed, %s counted", k.name, number(committed), number(n)))
		}
	}
	if counted {
		once = []string{fmt.Sprintf("%s transactions committed, %s counted up on the target (n = n + 1)", number(d.shop.total()), number(d.shop.total()))}
	}
	equal := different == 0 && counted

	d.screen.line("")
	word := "EQUAL"
	if !equal {
		word = "NOT EQUAL"
	}
	lags := d.probe.steady(d.crash.killed, d.crash.started.Add(d.crash.inStep))
	d.screen.line("  %-9s %s: %d tables, %s rows, compared byte by byte", "verdict", d.screen.bold(word), len(tables), number(rows))
	d.screen.line("  %-9s %s", "once", strings.Join(once, "; "))
	d.screen.line("  %-9s %s rows/s with the shop; %s rows/s when catching up", "rate", number(d.rate), number(d.crash.rate))
	d.screen.line("  %-9s commit to visible: p50 %s, p99 %s (%s probes, but for the crash)", "lag",
		span(quantile(lags, 0.5)), span(quantile(lags, 0.99)), number(len(lags)))
	d.screen.line("  %-9s at transaction %s; dead for %s; first applied after %s, in step after %s", "kill -9",
		number(d.crash.at), span(d.crash.started.Sub(d.crash.killed)), span(d.crash.first), span(d.crash.inStep))
	if !equal {
		return errNotEqual
	}
	return nil
}

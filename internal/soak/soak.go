//go:build unix

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/dataflowsync/dfs/internal/faults"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/go-sql-driver/mysql"
)

// A soak runs DFS between two servers, writes to the source, breaks things, and
// looks whether the target is what it must be.
//
// An error of its methods is one of the soak itself, and proves nothing. What
// DFS does wrong is in found.
type soak struct {
	source, target *testenv.Server
	standby        *testenv.Server // a replica of the source, which may take its place; may be nil
	front          *faults.Proxy   // before the source, for all others; nil without a standby
	near, far      *faults.Proxy   // before the source, and before the target, for DFS
	schema         string
	patience       time.Duration
	brief          bool
	dir            string // for queues, configuration files and logs
	seed           uint64
	rnd            *rand.Rand
	command        func(config string) *exec.Cmd // the program under test
	log            io.Writer                     // tells what happens; may be nil

	src, dst *sql.DB
	settings settings
	work     *workload
	reader   *reader
	found    *findings
	tally    tally
	ledger   bool // it is kept

	takes    resources
	dfs      *instance // the one that should be at work
	launched int
	queues   int
	began    time.Time
}

// options are how a soak is set up; the zero value of each is its default.
type options struct {
	schema  string // default: "soak"
	seed    uint64 // for all that happens by chance but the moment
	writers int    // default: 4
	rate    int    // rows per second; default: 3000; negative: no limit
	ledger  bool   // kept from the start
	standby *testenv.Server
	pause   time.Duration // between large transactions; default: 10 s; negative: there are none

	// brief makes what lasts for a while last an eighth of that.
	brief bool

	// patience is how long DFS may take to do what it should, on a machine
	// that is busy with all else. Default: 90 s.
	patience time.Duration
}

// newSoak creates the tables on both servers and brings the first rows through
// DFS. The caller closes the soak.
func newSoak(ctx context.Context, source, target *testenv.Server, dir string, command func(config string) *exec.Cmd, log io.Writer, o options) (_ *soak, err error) {
	s := &soak{source: source, target: target, schema: o.schema, dir: dir, command: command, log: log,
		seed: o.seed, rnd: rand.New(rand.NewPCG(o.seed, 0)), found: &findings{}, began: time.Now(), takes: resources{every: 2 * time.Second}}
	if s.schema == "" {
		s.schema = "soak"
	}
	if o.writers == 0 {
		o.writers = 4
	}
	if o.rate == 0 {
		o.rate = 3000
	}
	if o.pause == 0 {
		o.pause = 10 * time.Second
	}
	s.brief = o.brief
	if s.patience = o.patience; s.patience == 0 {
		s.patience = 90 * time.Second
	}
	s.src, s.dst, s.standby = open(source), open(target), o.standby
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.standby != nil {
		if s.front, err = faults.Listen(source.Addr(), nil); err != nil {
			return nil, err
		}
		if err := errors.Join(s.src.Close(), follow(ctx, s.standby, source)); err != nil {
			return nil, err
		}
		s.src = openAt(s.front.Addr())
	}
	if s.near, err = faults.Listen(source.Addr(), &faults.Options{Seed: o.seed}); err == nil {
		s.far, err = faults.Listen(target.Addr(), &faults.Options{Seed: o.seed})
	}
	if err != nil {
		return nil, err
	}
	err = create(ctx, s.schema, s.src, s.dst)
	if err == nil {
		err = s.createAccount(ctx)
	}
	if err != nil {
		return nil, err
	}
	start, err := executed(ctx, source.Kind(), s.src)
	if err != nil {
		return nil, err
	}
	s.settings = settings{source: through(s.near), target: through(s.far), schema: s.schema, start: start, queue: s.nextQueue()}
	s.work = newWorkload(s.src, s.schema, o.seed, o.writers, max(o.rate, 0), o.pause)
	s.reader = &reader{src: s.src, dst: s.dst, schema: s.schema, found: s.found, work: s.work}

	if _, err := s.src.ExecContext(ctx, firstRows(s.schema, o.writers)); err != nil {
		return nil, fmt.Errorf("write the first rows: %w", err)
	}
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	if err := s.catchUp(ctx); err != nil {
		return nil, err
	}
	if o.ledger {
		return s, s.keep(ctx, true)
	}
	return s, nil
}

// createAccount creates DFS's account on both servers, unless another soak of these
// servers has done so.
func (s *soak) createAccount(ctx context.Context) error {
	for _, side := range []struct {
		db     *sql.DB
		kind   testenv.Kind
		target bool
	}{{s.src, s.source.Kind(), false}, {s.dst, s.target.Kind(), true}} {
		var n int
		if err := side.db.QueryRowContext(ctx, "SELECT COUNT(*) FROM mysql.user WHERE user = '"+account+"'").Scan(&n); err != nil {
			return fmt.Errorf("create the account: %w", err)
		}
		if n > 0 {
			continue
		}
		for _, stmt := range grants(side.kind, side.target) {
			if _, err := side.db.ExecContext(ctx, stmt); err != nil {
				return fmt.Errorf("create the account: %w", err)
			}
		}
	}
	return nil
}

// through returns the data source name of a server behind a proxy.
func through(p *faults.Proxy) string { return account + ":" + passcode + "@tcp(" + p.Addr() + ")/" }

// keep begins or ends the ledger. Everything is at rest.
func (s *soak) keep(ctx context.Context, on bool) error {
	if err := s.halt(ctx); err != nil {
		return err
	}
	if err := keepLedger(ctx, s.schema, s.dst, on); err != nil {
		return err
	}
	s.ledger = on
	return s.start(ctx)
}

// open returns a pool of connections that speak as the comparison needs it.
func open(server *testenv.Server) *sql.DB { return openAt(server.Addr()) }

func openAt(addr string) *sql.DB {
	cfg, err := mysql.ParseDSN("root@tcp(" + addr + ")/?multiStatements=true&charset=utf8mb4&time_zone=%27%2B00%3A00%27&timeout=5s")
	if err != nil {
		panic(err) // nothing in it comes from outside
	}
	cfg.Logger = &mysql.NopLogger{} // what a dying server does to a connection is no news
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		panic(err)
	}
	db := sql.OpenDB(c)
	db.SetMaxIdleConns(8)
	return db
}

// close ends all that runs.
func (s *soak) close() error {
	var errs []error
	if s.work != nil {
		errs = append(errs, s.work.halt())
	}
	if s.reader != nil {
		s.reader.halt()
	}
	s.takes.halt()
	if s.dfs != nil {
		errs = append(errs, s.dfs.kill())
	}
	errs = append(errs, s.src.Close(), s.dst.Close())
	for _, p := range []*faults.Proxy{s.near, s.far, s.front} {
		if p != nil {
			errs = append(errs, p.Close())
		}
	}
	return errors.Join(errs...)
}

// say tells what happens.
func (s *soak) say(format string, args ...any) {
	if s.log != nil {
		fmt.Fprintf(s.log, "%6.1fs  %s\n", time.Since(s.began).Seconds(), fmt.Sprintf(format, args...))
	}
}

// load begins to write to the source and to watch the target.
func (s *soak) load(ctx context.Context) {
	s.work.start(ctx)
	s.reader.start(ctx)
}

// launch starts the program under test with the given queue file.
func (s *soak) launch(queue string) (*instance, error) {
	s.launched++
	base := filepath.Join(s.dir, fmt.Sprintf("%s-%04d", s.schema, s.launched))
	set := s.settings
	set.queue = queue
	var err error
	if set.monitor, err = testenv.FreeAddr(); err != nil {
		return nil, err
	}
	if err := set.write(base + ".yaml"); err != nil {
		return nil, err
	}
	// Only the latest logs are of interest, and that of the one at work, however long it lives.
	if old := filepath.Join(s.dir, fmt.Sprintf("%s-%04d", s.schema, s.launched-20)); s.dfs == nil || s.dfs.log != old+".log" {
		os.Remove(old + ".log")
		os.Remove(old + ".yaml")
	}
	p, err := launch(s.command(base+".yaml"), base+".log")
	if err == nil {
		p.monitor = set.monitor
	}
	return p, err
}

// nextQueue returns the path of a queue file that does not exist.
func (s *soak) nextQueue() string {
	s.queues++
	return filepath.Join(s.dir, fmt.Sprintf("%s-%d.queue", s.schema, s.queues))
}

// start starts the program under test.
func (s *soak) start(ctx context.Context) (err error) {
	if s.dfs, err = s.launch(s.settings.queue); err == nil {
		s.takes.watch(s.dfs)
	}
	return err
}

// errStopped ends a soak whose program has ended by itself, or stands still.
var errStopped = errors.New("soak: DFS does not go on")

// applies waits until the target stands behind the transaction after. It
// reports how long that took since the instance was started.
func (s *soak) applies(ctx context.Context, p *instance, after uint64) (time.Duration, error) {
	return s.await(ctx, p, func(c checkpoint) bool { return c.seq > after })
}

// await waits until what the instance p does to the checkpoint satisfies ok.
func (s *soak) await(ctx context.Context, p *instance, ok func(checkpoint) bool) (time.Duration, error) {
	for end := time.Now().Add(s.patience); ; {
		c, err := readCheckpoint(ctx, s.schema, s.dst)
		switch {
		case ctx.Err() != nil:
			return 0, ctx.Err()
		case err == nil && ok(c):
			return time.Since(p.began), nil
		case p.ended():
			s.found.add(byProcess, "DFS ended by itself, after transaction %d (%v); it said last:\n%s", c.seq, p.state, p.tail())
			return 0, errStopped
		case time.Now().After(end):
			s.found.add(byProcess, "DFS has applied nothing for %v, after transaction %d (%v); it said last:\n%s", s.patience, c.seq, err, p.tail())
			return 0, errStopped
		}
		sleep(ctx, 2*time.Millisecond)
	}
}

// seq returns the number of the transaction at which the target stands.
func (s *soak) seq(ctx context.Context) (uint64, error) {
	c, err := readCheckpoint(ctx, s.schema, s.dst)
	if err != nil {
		err = fmt.Errorf("read the checkpoint: %w", err)
	}
	return c.seq, err
}

// catchUp writes a last transaction, which no other follows, and waits until
// the target has it.
func (s *soak) catchUp(ctx context.Context) error {
	if _, err := s.src.ExecContext(ctx, named(s.schema, "UPDATE S.progress SET n = n + 1 WHERE worker = 0")); err != nil {
		return fmt.Errorf("write the last transaction: %w", err)
	}
	source, err := readProgress(ctx, s.src, s.schema)
	if err != nil {
		return fmt.Errorf("read the progress of the source: %w", err)
	}
	want := source.progress[0].n
	moved, at := time.Now(), uint64(0)
	for {
		now, err := readProgress(ctx, s.dst, s.schema)
		if err == nil && now.progress[0].n >= want {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if s.dfs.ended() {
			s.found.add(byProcess, "DFS ended by itself (%v); it said last:\n%s", s.dfs.state, s.dfs.tail())
			return errStopped
		}
		if seq, err := s.seq(ctx); err == nil && seq > at {
			moved, at = time.Now(), seq
		}
		if time.Since(moved) > s.patience {
			s.found.add(byProcess, "DFS has applied nothing for %v, after transaction %d, with more to apply (%v); it said last:\n%s", s.patience, at, err, s.dfs.tail())
			return errStopped
		}
		sleep(ctx, 5*time.Millisecond)
	}
}

// settle halts the workload, lets the target catch up and makes all the checks
// that need a halt. A stop of DFS is already among the findings, and then what
// it has applied so far is judged by the reader and the ledger alone.
func (s *soak) settle(ctx context.Context) error {
	if err := s.work.halt(); err != nil {
		return err
	}
	s.say("the workload is halted; waiting for the target")
	caught := s.catchUp(ctx)
	s.reader.halt()
	s.reader.look(ctx, true)
	if caught != nil && !errors.Is(caught, errStopped) {
		return caught
	}
	if s.ledger {
		s.tally.ledgers++
		if err := checkLedger(ctx, s.schema, s.dst, s.found); err != nil {
			return err
		}
	}
	if caught != nil {
		return caught
	}
	// What the source itself does not hold to cannot be asked of the target.
	source, err := readState(ctx, s.src, s.schema, true)
	if err != nil {
		return fmt.Errorf("read the source: %w", err)
	}
	if faults := source.faults(); len(faults) > 0 {
		return fmt.Errorf("the workload is at fault: on the source, %s", strings.Join(faults, "; "))
	}
	rows, err := compareTables(ctx, s.schema, s.src, s.dst, s.found)
	if err != nil {
		return err
	}
	s.tally.compared += rows
	s.tally.settled++
	if err := checkPosition(ctx, s.source.Kind(), s.schema, s.src, s.dst, s.patience, s.found); err != nil {
		return err
	}
	if said, err := os.ReadFile(s.dfs.log); err != nil {
		return err
	} else if strings.Contains(string(said), passcode) {
		s.found.add(byProcess, "DFS has told its password: see %s", s.dfs.log)
	}
	s.say("%d rows of both sides compared", rows)
	return s.purge(ctx)
}

// purge drops the logs of both servers that nobody needs any more: DFS has it
// all, and nothing is under way.
func (s *soak) purge(ctx context.Context) error {
	dbs := []*sql.DB{s.dst, s.src}
	if s.standby != nil {
		dbs = dbs[:1] // which reads the source's
	}
	for _, db := range dbs {
		file, err := currentLog(ctx, db)
		if err == nil {
			_, err = db.ExecContext(ctx, "PURGE BINARY LOGS TO '"+file+"'")
		}
		if err != nil {
			return fmt.Errorf("purge the binary logs: %w", err)
		}
	}
	return nil
}

// currentLog returns the name of the server's last log file.
func currentLog(ctx context.Context, db *sql.DB) (file string, err error) {
	rows, err := db.QueryContext(ctx, "SHOW BINARY LOGS")
	if err != nil {
		return "", err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return "", err
	}
	into := make([]any, len(columns))
	for i := range into {
		into[i] = new(sql.RawBytes)
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return "", err
		}
		file = string(*into[0].(*sql.RawBytes))
	}
	return file, rows.Err()
}

//go:build unix

package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/dataflowsync/dfs/internal/testenv"
)

// A demo is one run.
type demo struct {
	duration, down time.Duration
	pace           int
	keep           bool

	screen         *screen
	folder         string
	source, target *testenv.Server
	sourceDB       *sql.DB
	targetDB       *sql.DB
	program        *child
	binary         string
	password       string

	shop  *workload
	probe *probe
	rows  rowCount // of the source, when the shop opened
	rate  float64  // rows per second on the source, while it was open

	mu    sync.Mutex // guards screen and crash while the shop is open
	crash crash
	state string // of the program, while it is not simply running
}

// A crash is what was seen of the kill -9.
type crash struct {
	killed, started time.Time
	at              uint64        // the last transaction applied before
	first           time.Duration // from the new start to the first transaction applied
	inStep          time.Duration // from the new start until in step again
	rate            float64       // rows per second meanwhile
}

var errNotEqual = errors.New("source and target differ")

// run tells the whole story.
func (d *demo) run(ctx context.Context) error {
	d.screen.line("%s\n", d.screen.bold("DFS: a shop on one MySQL server, kept in step on another"))
	if err := d.setUp(ctx); err != nil {
		return err
	}
	if err := d.load(ctx); err != nil {
		return err
	}
	if err := d.settle(ctx); err != nil {
		return err
	}
	return d.verdict(ctx)
}

// setUp starts the servers with the empty shop on both, and the program.
func (d *demo) setUp(ctx context.Context) error {
	done := d.screen.step("servers", "two MySQL 9.7, each commit flushed to the disk")
	durable := []string{"--sync-binlog=1", "--innodb-flush-log-at-trx-commit=1", "--innodb-doublewrite=ON"}
	var wg sync.WaitGroup
	var errs [2]error
	launch := func(i int, into **testenv.Server, folder string) {
		wg.Go(func() {
			// On an error the server is not ours, and a typed nil would be.
			s, err := testenv.Launch(ctx, testenv.MySQL97, d.path(folder), durable...)
			if errs[i] = err; err == nil {
				*into = s
			}
		})
	}
	launch(0, &d.source, "source")
	launch(1, &d.target, "target")
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	done()

	done = d.screen.step("schema", "%d tables on both sides, with foreign keys, and two accounts", len(tables))
	d.password = rand.Text()
	var err error
	if d.sourceDB, err = prepare(ctx, d.source, append(statements(), sourceAccount(d.password)...)); err != nil {
		return fmt.Errorf("make the source: %w", err)
	}
	if d.targetDB, err = prepare(ctx, d.target, append(statements(), targetAccount(d.password)...)); err != nil {
		return fmt.Errorf("make the target: %w", err)
	}
	done()

	done = d.screen.step("program", "examples/basic, with a file of 15 lines")
	d.binary = d.path("basic")
	build := exec.CommandContext(ctx, "go", "build", "-o", d.binary, "github.com/dataflowsync/dfs/examples/basic")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build examples/basic: %w\n%s", err, out)
	}
	if err := d.writeConfig(ctx); err != nil {
		return err
	}
	if err := d.startProgram(); err != nil {
		return err
	}
	if err := d.await(ctx, "the program to reach the target", func() (bool, error) {
		seq, err := d.checkpoint(ctx)
		return seq > 0, err
	}); err != nil {
		return err
	}
	done()
	return nil
}

// prepare opens the server and runs the statements.
func prepare(ctx context.Context, s *testenv.Server, statements []string) (*sql.DB, error) {
	// What the shop sends is text: parameters are put into it, which halves the
	// round trips. TIMESTAMP is compared in UTC.
	db, err := sql.Open("mysql", s.DSN("")+"?interpolateParams=true&time_zone=%27%2B00:00%27")
	if err != nil {
		return nil, err
	}
	db.SetMaxIdleConns(20)
	for _, q := range statements {
		if _, err := db.ExecContext(ctx, q); err != nil {
			return nil, fmt.Errorf("%.60s: %w", q, err)
		}
	}
	return db, nil
}

const configText = `name: demo
source:
  host: 127.0.0.1
  port: %s
  user: dfs
  password: ${DEMO_PASSWORD}
  tables: ["shop.*"]
  start: gtid:%s    # the tables were made on both sides; all after that is read
queue:
  path: shop.queue
target:
  host: 127.0.0.1
  port: %s
  user: dfs
  password: ${DEMO_PASSWORD}
`

func (d *demo) writeConfig(ctx context.Context) error {
	var gtids string
	if err := d.sourceDB.QueryRowContext(ctx, "SELECT REPLACE(@@GLOBAL.gtid_executed, '\n', '')").Scan(&gtids); err != nil {
		return err
	}
	text := fmt.Sprintf(configText, port(d.source), gtids, port(d.target))
	return os.WriteFile(d.path("dfs.yaml"), []byte(text), 0o600)
}

// startProgram starts examples/basic. The password goes by its environment.
func (d *demo) startProgram() error {
	cmd := exec.Command(d.binary, "run", "-c", d.path("dfs.yaml"))
	cmd.Env = d.environment()
	var err error
	d.program, err = startChild(cmd)
	return err
}

func (d *demo) environment() []string { return append(os.Environ(), "DEMO_PASSWORD="+d.password) }

// checkpoint returns the number of the last transaction that the target has.
func (d *demo) checkpoint(ctx context.Context) (seq uint64, err error) {
	err = d.targetDB.QueryRowContext(ctx, "SELECT COALESCE(MAX(seq), 0) FROM dfs.dfs_checkpoint WHERE name = 'demo'").Scan(&seq)
	if isMissing(err) {
		return 0, nil // the program has not made its table yet
	}
	return seq, err
}

// inStep asks the program's status command.
func (d *demo) inStep(ctx context.Context) (bool, error) {
	cmd := exec.CommandContext(ctx, d.binary, "status", "-json", "-c", d.path("dfs.yaml"))
	cmd.Env = d.environment()
	out, err := cmd.Output()
	if err != nil {
		return false, fmt.Errorf("basic status: %w\n%s", err, out)
	}
	var status struct {
		InStep bool `json:"in_step"`
	}
	err = json.Unmarshal(out, &status)
	return status.InStep, err
}

// await asks until the answer is yes, for a minute at most, and gives up when
// the program ends.
func (d *demo) await(ctx context.Context, what string, ask func() (bool, error)) error {
	timeout := time.After(time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := ask(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-d.program.done:
			return d.program.ended()
		case <-timeout:
			return fmt.Errorf("waited a minute for %s; the program said\n%s", what, d.program.log())
		case <-tick.C:
		}
	}
}

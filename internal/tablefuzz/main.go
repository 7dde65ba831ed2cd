//go:build unix

// Tablefuzz compares DFS with the servers themselves: random tables of all types,
// character sets and keys get random changes in random sessions, a pipeline with
// random options carries them, and after each round every value of the target
// must be the source's, by the servers' own bytes.
//
//	go run ./internal/tablefuzz -duration 2h
//
// It stops at the first difference, with the table, the key and both values, and
// leaves a file of SQL that makes it. The exit code is then 1, and 2 if the fuzz
// itself could not be carried out. A round depends on its seed and its pair only,
// but for the moments at which the pipeline is stopped and started within it.
package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/go-sql-driver/mysql"
)

func main() {
	var names []string
	for _, p := range pairs {
		names = append(names, p.name)
	}
	duration := flag.Duration("duration", time.Minute, "how long to go on")
	rounds := flag.Int("rounds", 0, "how many rounds at most for each pair (default: no limit)")
	seed := flag.Uint64("seed", 0, "of the first round; each next round has the next (default: a new one)")
	list := flag.String("pairs", strings.Join(names, ","), "source and target of each pair, with commas between")
	failures := flag.Int("failures", 1, "how many rounds must fail to stop")
	asJSON := flag.Bool("json", false, "report in JSON")
	dir := flag.String("dir", ".", "where to leave the SQL of a round that failed")
	flag.Parse()

	f := &fuzz{seed: *seed, rounds: *rounds, failures: *failures, duration: *duration, dir: *dir, log: os.Stderr}
	var err error
	for name := range strings.SplitSeq(*list, ",") {
		i := slices.Index(names, name)
		if i < 0 {
			err = fmt.Errorf("-pairs names %q; use some of %s", name, strings.Join(names, ","))
			break
		}
		f.pairs = append(f.pairs, pairs[i])
	}
	if flag.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "tablefuzz: %v; -h tells more\n", err)
		os.Exit(2)
	}
	if f.seed == 0 {
		f.seed = rand.Uint64N(1e9) + 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r, err := f.run(ctx)
	if *asJSON {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		err = errors.Join(err, enc.Encode(r))
	} else {
		r.write(os.Stdout)
	}
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "tablefuzz:", err)
		os.Exit(2)
	case len(r.Failures) > 0:
		os.Exit(1)
	}
}

// A report tells what was done.
type report struct {
	Seed       uint64 // of the first round
	Pairs      []string
	Seconds    float64
	Rounds     int
	Tables     int
	Rows       int // compared at the end of rounds
	Statements int // that the source took
	Refused    int // and that it did not, which is no failure
	Ended      int // rounds that ended at text that is none, which the sink says that it refuses
	Failures   []failure
}

// A failure is a round that did.
type failure struct {
	Pair   string
	Seed   uint64
	What   string
	Replay string // the command
	SQL    string // the file
}

func (r *report) write(w io.Writer) {
	fmt.Fprintf(w, "tablefuzz: %d rounds in %.0f s on %s from seed %d: %d tables, %d rows compared, %d statements (%.0f a second), %d refused by the source, %d rounds ended by what is no text\n",
		r.Rounds, r.Seconds, strings.Join(r.Pairs, ", "), r.Seed, r.Tables, r.Rows, r.Statements, float64(r.Statements)/max(r.Seconds, 1), r.Refused, r.Ended)
	if len(r.Failures) == 0 {
		fmt.Fprintln(w, "no difference")
	}
	for _, f := range r.Failures {
		fmt.Fprintf(w, "FAILED: pair %s, seed %d: %s\nagain: %s\nSQL: %s\n", f.Pair, f.Seed, f.What, f.Replay, f.SQL)
	}
}

// A fuzz is what main was asked to do.
type fuzz struct {
	pairs    []pair
	seed     uint64
	rounds   int
	failures int
	duration time.Duration
	dir      string
	log      io.Writer // nil: says nothing on the way
}

// run goes on until the time is over, or a round fails. Its error means that the
// fuzz could not be carried out.
func (f *fuzz) run(ctx context.Context) (*report, error) {
	r := &report{Seed: f.seed}
	for _, p := range f.pairs {
		r.Pairs = append(r.Pairs, p.name)
	}
	base, err := os.MkdirTemp("", "dfs-tablefuzz-")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(base)
	servers := make(map[string]*server)
	defer func() {
		for _, s := range servers {
			s.db.Close()
			s.Kill()
		}
	}()
	get := func(kind testenv.Kind, role string) (*server, error) {
		key := role + "-" + string(kind)
		if servers[key] == nil {
			s, err := launch(ctx, kind, filepath.Join(base, key), role == "target")
			if err != nil {
				return nil, err
			}
			servers[key] = s
		}
		return servers[key], nil
	}
	began := time.Now()
	told := began
	for n := 0; f.rounds == 0 || n < f.rounds; n++ {
		for _, p := range f.pairs {
			if time.Since(began) > f.duration || ctx.Err() != nil {
				return r, nil
			}
			source, err := get(p.source, "source")
			if err != nil {
				return r, err
			}
			target, err := get(p.target, "target")
			if err != nil {
				return r, err
			}
			d := &round{p: p, seed: f.seed + uint64(n), source: source, target: target, dir: base}
			res, err := d.run(ctx)
			if ctx.Err() != nil {
				return r, nil
			}
			r.Seconds = time.Since(began).Seconds()
			r.Rounds, r.Tables, r.Rows = r.Rounds+1, r.Tables+res.Tables, r.Rows+res.Rows
			r.Statements, r.Refused = r.Statements+d.took, r.Refused+d.refused
			if d.mayRefuse(err) {
				r.Ended++
				err = nil
			}
			if err != nil {
				x := failure{Pair: p.name, Seed: d.seed, What: err.Error(),
					Replay: fmt.Sprintf("go run ./internal/tablefuzz -pairs %s -seed %d -rounds 1", p.name, d.seed),
					SQL:    filepath.Join(f.dir, fmt.Sprintf("tablefuzz-%s-%d.sql", p.name, d.seed))}
				r.Failures = append(r.Failures, x)
				if err := d.save(x.SQL, err); err != nil || len(r.Failures) >= max(1, f.failures) {
					return r, err
				}
			}
			if f.log != nil && time.Since(told) > 30*time.Second {
				told = time.Now()
				r.write(f.log)
			}
		}
	}
	return r, nil
}

// launch starts a server for the fuzz.
//
// A target of MySQL 9.7 loses rows of deep cascades unless InnoDB carries them
// out: see the sink.
func launch(ctx context.Context, kind testenv.Kind, dir string, target bool) (*server, error) {
	args := []string{"--max-binlog-size=64M"}
	if kind == testenv.MySQL97 && target {
		args = append(args, "--innodb-native-foreign-keys=ON")
	}
	s, err := testenv.Launch(ctx, kind, dir, args...)
	if err != nil {
		return nil, err
	}
	cfg, err := mysql.ParseDSN(s.DSN(""))
	if err != nil {
		return nil, err
	}
	cfg.Logger = &mysql.NopLogger{}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	v := &server{Server: s, db: sql.OpenDB(connector)}
	v.db.SetMaxIdleConns(0) // no session comes back with another's settings
	return v, v.exec(ctx, "CREATE DATABASE fuzz_marks", "CREATE TABLE "+marks+" (id varchar(100) PRIMARY KEY)")
}

//go:build unix

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/config"
	"github.com/dataflowsync/dfs/queue"
	"github.com/dataflowsync/dfs/sink"
	_ "github.com/go-sql-driver/mysql"
)

// A soak that finds nothing proves something only if it finds what is there.
// So the test binary can be a DFS of its own, composed as a user would compose
// one, but broken in one of the ways below.
const (
	whole     = "whole"     // not broken
	losing    = "losing"    // leaves out a row now and then
	doubling  = "doubling"  // inserts a row twice now and then
	tearing   = "tearing"   // applies a row with the transaction after its own
	garbling  = "garbling"  // gets a text wrong now and then
	repeating = "repeating" // applies a batch again, as if its checkpoint had been lost
	lagging   = "lagging"   // stores a position that is one transaction old
	ending    = "ending"    // stops with an error
	stubborn  = "stubborn"  // takes its target back from who took it over
)

// breakEnv names the way, and makes the test binary such a DFS.
const breakEnv = "DFS_SOAK_BREAK"

// broken returns how to start a DFS that is broken in that way.
func broken(way string) func(config string) *exec.Cmd {
	return func(config string) *exec.Cmd {
		cmd := exec.Command(os.Args[0], config)
		cmd.Env = append(os.Environ(), breakEnv+"="+way)
		return cmd
	}
}

// runBroken is the main function of such a DFS.
func runBroken(way, file string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	c, err := config.Load(file)
	for err == nil {
		err = compose(ctx, way, c)
		if way == stubborn && errors.Is(err, dfs.ErrConflict) {
			err = nil
			continue
		}
		break
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func compose(ctx context.Context, way string, c *config.Config) error {
	src, err := cdc.Open(ctx, c.SourceDSN(), &cdc.Options{Tables: c.Source.Tables, Start: c.Source.Start})
	if err != nil {
		return err
	}
	defer src.Close()
	q, err := queue.Open(c.Queue.Path, nil)
	if err != nil {
		return err
	}
	defer q.Close()
	opts := &sink.MySQLOptions{Name: c.Name, Schema: c.Target.Schema}
	if way == repeating {
		// One that repeats must not mind that rows are there already.
		opts.Conflicts = []sink.ConflictRule{{Tables: "*.tokens", Policy: sink.PolicyIgnore}, {Tables: "*.*", Policy: sink.PolicyOverwrite}}
	}
	dst, err := sink.OpenMySQL(ctx, c.TargetDSN(), opts)
	if err != nil {
		return err
	}
	defer dst.Close()

	p := &dfs.Pipeline{Source: src, Queue: q, Sink: dst}
	b := breaker{every: 20}
	switch way {
	case losing:
		p.Stages = []dfs.Stage{dfs.StageFunc(b.lose)}
	case doubling:
		p.Stages = []dfs.Stage{dfs.StageFunc(b.double)}
	case tearing:
		b.every, p.MaxBatch = 3, 2 // it shows for the blink of an eye
		p.Stages = []dfs.Stage{dfs.StageFunc(b.tear)}
	case garbling:
		p.Stages = []dfs.Stage{dfs.StageFunc(b.garble)}
	case lagging:
		p.Stages = []dfs.Stage{dfs.StageFunc(b.lag)}
	case ending:
		p.Stages = []dfs.Stage{dfs.StageFunc(b.end)}
	case repeating:
		db, err := sql.Open("mysql", c.TargetDSN())
		if err != nil {
			return err
		}
		defer db.Close()
		p.MaxBatch = 10
		p.Sink = &repeater{MySQL: dst, db: db, table: c.Target.Schema + ".dfs_checkpoint", name: c.Name}
	}
	return p.Run(ctx)
}

// A breaker breaks every so many changes of a kind.
type breaker struct {
	every, n int
	held     *dfs.Change
	pos      dfs.Position
}

func (b *breaker) due() bool { b.n++; return b.n%b.every == 0 }

func is(c *dfs.Change, op dfs.Op, table string) bool {
	return c.Op == op && c.Table != nil && c.Table.Name == table
}

func (b *breaker) lose(_ context.Context, batch []*dfs.Transaction) error {
	for _, tx := range batch {
		kept := tx.Changes[:0]
		for _, c := range tx.Changes {
			if !is(&c, dfs.Update, "audit") || !b.due() {
				kept = append(kept, c)
			}
		}
		tx.Changes = kept
	}
	return nil
}

func (b *breaker) double(_ context.Context, batch []*dfs.Transaction) error {
	for _, tx := range batch {
		for _, c := range tx.Changes {
			if is(&c, dfs.Insert, "tokens") && b.due() {
				tx.Changes = append(tx.Changes, c)
			}
		}
	}
	return nil
}

func (b *breaker) tear(_ context.Context, batch []*dfs.Transaction) error {
	for _, tx := range batch {
		if b.held != nil {
			tx.Changes = append([]dfs.Change{*b.held}, tx.Changes...)
			b.held = nil
			continue
		}
		if n := len(tx.Changes); n > 0 && is(&tx.Changes[n-1], dfs.Update, "audit") && b.due() {
			last := tx.Changes[n-1]
			b.held, tx.Changes = &last, tx.Changes[:n-1]
		}
	}
	return nil
}

func (b *breaker) garble(_ context.Context, batch []*dfs.Transaction) error {
	for _, tx := range batch {
		for i := range tx.Changes {
			c := &tx.Changes[i]
			if !is(c, dfs.Insert, "items") || !b.due() {
				continue
			}
			sku := c.Table.Column("sku")
			c.After[sku] = dfs.StringValue(c.After[sku].Text() + " ")
		}
	}
	return nil
}

func (b *breaker) lag(_ context.Context, batch []*dfs.Transaction) error {
	for _, tx := range batch {
		b.pos, tx.Pos = tx.Pos, b.pos
	}
	return nil
}

func (b *breaker) end(_ context.Context, batch []*dfs.Transaction) error {
	for range batch {
		if b.n++; b.n > 200 {
			return errors.New("broken")
		}
	}
	return nil
}

// A repeater puts the checkpoint back once in a while.
type repeater struct {
	*sink.MySQL
	db    *sql.DB
	table string
	name  string
	at    dfs.Checkpoint
	n     int
}

func (r *repeater) Checkpoint(ctx context.Context) (at dfs.Checkpoint, err error) {
	r.at, err = r.MySQL.Checkpoint(ctx)
	return r.at, err
}

func (r *repeater) Apply(ctx context.Context, batch []*dfs.Transaction) error {
	last := *batch[len(batch)-1]
	if err := r.MySQL.Apply(ctx, batch); err != nil || last.More {
		return err
	}
	if r.n++; r.n%5 == 0 && r.at.Seq > 0 {
		_, err := r.db.ExecContext(ctx, "UPDATE "+r.table+" SET seq = ?, pos = ? WHERE name = ?", r.at.Seq, string(r.at.Pos), r.name)
		if err != nil {
			return err
		}
		return dfs.Transient(errors.New("the checkpoint is lost"))
	}
	r.at = last.Checkpoint
	return nil
}

func (r *repeater) ApplyEach(ctx context.Context, next func() []*dfs.Transaction, done func(seq uint64) error) error {
	for batch := next(); len(batch) > 0; batch = next() {
		last := batch[len(batch)-1].Seq
		if err := r.Apply(ctx, batch); err != nil {
			return err
		}
		if err := done(last); err != nil {
			return err
		}
	}
	return nil
}

// isBroken reports whether this process is to be a broken DFS.
func isBroken() (way string, ok bool) {
	way = os.Getenv(breakEnv)
	return way, way != "" && len(os.Args) == 2 && strings.HasSuffix(os.Args[1], ".yaml")
}

//go:build unix

package main

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"
)

// A workload writes to the source over several connections at once. All that it
// needs to know in order to go on is in the database, so that it survives a
// source that dies between a COMMIT and its answer.
type workload struct {
	db      *sql.DB
	schema  string
	seed    uint64
	rate    int           // rows per second; 0: as many as the source takes
	pause   time.Duration // between two large transactions
	writers []*writer

	held         atomic.Bool  // the target is too far behind
	transactions atomic.Int64 // committed, as far as answers tell
	rows         atomic.Int64 // changed by them
	rollbacks    atomic.Int64
	retries      atomic.Int64 // transactions given up for a deadlock or a lost connection

	stop context.CancelFunc
	wg   sync.WaitGroup
	errs chan error
}

func newWorkload(db *sql.DB, schema string, seed uint64, writers, rate int, pause time.Duration) *workload {
	w := &workload{db: db, schema: schema, seed: seed, rate: rate, pause: pause}
	for i := range writers {
		w.writers = append(w.writers, &writer{workload: w, id: i + 1, rnd: rand.New(rand.NewPCG(seed, uint64(i+1)))})
	}
	return w
}

// start lets the writers write until halt is called.
func (w *workload) start(ctx context.Context) {
	ctx, w.stop = context.WithCancel(ctx)
	w.errs = make(chan error, len(w.writers))
	for _, wr := range w.writers {
		w.wg.Go(func() { w.errs <- wr.run(ctx) })
	}
}

// halt waits until no writer writes. Its error is one of the workload itself,
// which proves nothing about what is tested.
func (w *workload) halt() error {
	if w.stop == nil {
		return nil
	}
	w.stop()
	w.stop = nil
	w.wg.Wait()
	var errs []error
	for range w.writers {
		errs = append(errs, <-w.errs)
	}
	return errors.Join(errs...)
}

// A writer is one connection of the workload. It alone touches its own tokens
// and orders, and shares all other rows.
type writer struct {
	*workload
	id   int
	rnd  *rand.Rand
	conn *sql.Conn
	due  time.Time // when its rate allows the next transaction
	big  time.Time // when the next large transaction may come

	next   int64 // the number that a new token or order gets; never used twice
	tokens []token
	orders []order
	done   progress // as the last committed transaction left it
}

type token struct{ id, alive, copies int64 }

type order struct{ id, items int64 }

// errBroken, from the use of a connection, keeps it from being used again.
var errBroken = driver.ErrBadConn

func (w *writer) run(ctx context.Context) error {
	defer w.close()
	w.due, w.big = time.Now(), time.Now().Add(w.pause/2)
	for ctx.Err() == nil {
		if !w.wait(ctx) {
			break
		}
		err := w.step(ctx)
		var server *mysql.MySQLError
		switch {
		case err == nil:
		case ctx.Err() != nil:
		case errors.As(err, &server) && !passing[server.Number]:
			return fmt.Errorf("connection %d of the workload: %w", w.id, err)
		default:
			// What became of the transaction is to be asked for again.
			w.retries.Add(1)
			w.close()
			sleep(ctx, 20*time.Millisecond)
		}
	}
	return nil
}

// passing are the errors of a server that is busy, going or coming.
var passing = map[uint16]bool{1205: true, 1213: true, 1053: true, 1040: true, 1079: true, 1152: true, 1317: true,
	1158: true, 1159: true, 1160: true, 1161: true, 3169: true, 1927: true, 1180: true}

func (w *writer) close() {
	if w.conn != nil {
		// Not back to the pool: the session may hold a transaction.
		w.conn.Raw(func(any) error { return errBroken })
		w.conn.Close()
		w.conn = nil
	}
}

// wait keeps to the rate. It is false when ctx has ended.
func (w *writer) wait(ctx context.Context) bool {
	for w.held.Load() {
		if !sleep(ctx, 20*time.Millisecond) {
			return false
		}
		w.due = time.Now()
	}
	if w.rate == 0 {
		return true
	}
	// What was missed is made up for, but not more than half a second of it.
	if late := time.Now().Add(-500 * time.Millisecond); w.due.Before(late) {
		w.due = late
	}
	return sleep(ctx, time.Until(w.due))
}

// step runs one transaction.
func (w *writer) step(ctx context.Context) error {
	if w.conn == nil {
		if err := w.connect(ctx); err != nil {
			return err
		}
	}
	t := w.compose()
	// A transaction that has been sent is seen through: to stop in its midst
	// would only tell that a session can be killed.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if _, err := w.conn.ExecContext(ctx, t.text()); err != nil {
		return err
	}
	if w.rate > 0 {
		// A large transaction may run ahead of the rate, or it would silence
		// its connection for long.
		rows := min(t.rows, w.rate)
		w.due = w.due.Add(time.Duration(float64(rows) * float64(len(w.writers)) / float64(w.rate) * float64(time.Second)))
	}
	if t.rollback {
		w.rollbacks.Add(1)
		return nil
	}
	w.tokens, w.orders, w.done = t.tokens, t.orders, t.after
	w.transactions.Add(1)
	w.rows.Add(int64(t.rows))
	return nil
}

// connect opens a session and asks it for the rows of this writer.
func (w *writer) connect(ctx context.Context) error {
	conn, err := w.db.Conn(ctx)
	if err != nil {
		return err
	}
	w.conn = conn
	if _, err := conn.ExecContext(ctx, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; SET innodb_lock_wait_timeout = 10"); err != nil {
		return err
	}
	// An older session of ours may not have ended yet. It holds this row from
	// the first statement of its transaction on.
	p := &w.done
	err = conn.QueryRowContext(ctx, named(w.schema, "SELECT n, audits, tokens, orders, items, gen FROM S.progress WHERE worker = ? FOR UPDATE"), w.id).
		Scan(&p.n, &p.audits, &p.tokens, &p.orders, &p.items, &p.gen)
	if err != nil {
		return err
	}
	w.tokens, w.orders = nil, nil
	err = each(ctx, conn, named(w.schema, "SELECT token, COUNT(*), MAX(copies) FROM S.tokens WHERE worker = ? GROUP BY token ORDER BY token"), w.id,
		func(a, b, c int64) { w.tokens = append(w.tokens, token{a, b, c}) })
	if err != nil {
		return err
	}
	return each(ctx, conn, named(w.schema, "SELECT o.id, COUNT(i.line), 0 FROM S.orders o LEFT JOIN S.items i ON i.order_id = o.id WHERE o.worker = ? GROUP BY o.id ORDER BY o.id"), w.id,
		func(a, b, _ int64) { w.orders = append(w.orders, order{a, b}) })
}

// each calls f for each row of three numbers.
func each(ctx context.Context, conn *sql.Conn, query string, arg int, f func(a, b, c int64)) error {
	rows, err := conn.QueryContext(ctx, query, arg)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var a, b, c int64
		if err := rows.Scan(&a, &b, &c); err != nil {
			return err
		}
		f(a, b, c)
	}
	return rows.Err()
}

// sleep waits for d. It is false if ctx has ended.
func sleep(ctx context.Context, d time.Duration) bool {
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	return ctx.Err() == nil
}

// text returns the transaction as one query of several statements.
func (t *transaction) text() string {
	var b strings.Builder
	b.WriteString("BEGIN;\n")
	// Every transaction takes its connection's row first: see writer.connect.
	fmt.Fprintf(&b, named(t.w.schema, "UPDATE S.progress SET n = n + 1, audits = %d, tokens = %d, orders = %d, items = %d, gen = %d WHERE worker = %d AND n = %d;\n"),
		t.after.audits, t.after.tokens, t.after.orders, t.after.items, t.after.gen, t.w.id, t.before.n)
	for _, s := range t.stmts {
		b.WriteString(s)
		b.WriteString(";\n")
	}
	if t.rollback {
		b.WriteString("ROLLBACK")
	} else {
		b.WriteString("COMMIT")
	}
	return b.String()
}

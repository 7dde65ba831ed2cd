//go:build unix

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"
)

// A workload is the shop's traffic: connections that place orders, pay, ship,
// return and cancel them, and keep customers and products.
type workload struct {
	db          *sql.DB
	connections int
	pace        int // transactions per second over all connections; 0: as fast as they can

	committed [kindCount]atomic.Uint64
	orders    atomic.Uint64 // the highest id placed
	customers atomic.Uint64
}

const (
	productCount  = 500
	customerCount = 1000
)

// A kind is one sort of transaction, out of every hundred share of them.
type kind struct {
	name  string
	share int
	do    func(*workload, context.Context, *sql.Tx, *rand.Rand) error
}

const kindCount = 7

var kinds = [kindCount]kind{
	{"order", 45, (*workload).placeOrder},
	{"ship", 20, (*workload).ship},
	{"join", 12, (*workload).join},
	{"move", 8, (*workload).move},
	{"cancel", 8, (*workload).cancel},
	{"describe", 6, (*workload).describe},
	{"reprice", 1, (*workload).reprice},
}

// seed puts products and customers into the empty shop.
func (w *workload) seed(ctx context.Context) error {
	r := rand.New(rand.NewPCG(1, 1))
	var products, stock, customers, audit values
	for i := range productCount {
		products.add(i+1, fmt.Sprintf("SKU-%05d-é", i), pick(r, nouns)+" "+fmt.Sprint(i), price(r), r.Float32()*20, r.Float64()*5,
			attributes(r), description(r), []byte{1})
		stock.add(i+1, 10000+r.IntN(1000), 0, "08:30:00")
	}
	for i := range customerCount {
		customers.add(i+1, fmt.Sprintf("customer%d@example.com", i), name(r), fmt.Sprintf("19%02d-%02d-%02d", r.IntN(100), 1+r.IntN(12), 1+r.IntN(28)),
			attributes(r), time.Now().UTC().Format(micros))
	}
	for _, k := range kinds {
		audit.add(k.name, 0)
	}
	return w.transaction(ctx, func(tx *sql.Tx) error {
		for _, s := range []struct {
			into string
			rows *values
		}{
			{"shop.products (id, sku, name, price, weight, rating, attributes, description, active)", &products},
			{"shop.stock (product_id, quantity, sold, counted)", &stock},
			{"shop.customers (id, email, name, born, preferences, created)", &customers},
			{"shop.audit (kind, n)", &audit},
		} {
			if _, err := tx.ExecContext(ctx, "INSERT INTO "+s.into+" VALUES "+s.rows.marks(), s.rows.args...); err != nil {
				return err
			}
		}
		w.customers.Store(customerCount)
		_, err := tx.ExecContext(ctx, "INSERT INTO shop.heartbeat VALUES (1, 0, UTC_TIMESTAMP(6))")
		return err
	})
}

// run drives the connections until ctx ends, and returns the first error that
// is not of its end.
func (w *workload) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	tokens := make(chan struct{}, w.connections)
	if w.pace > 0 {
		go pacer(ctx, w.pace, tokens)
	} else {
		tokens = nil
	}
	var wg sync.WaitGroup
	for i := range w.connections {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(2, uint64(i)))
			for ctx.Err() == nil {
				if tokens != nil {
					select {
					case <-tokens:
					case <-ctx.Done():
						return
					}
				}
				if err := w.one(ctx, r); err != nil && ctx.Err() == nil {
					cancel(fmt.Errorf("shop: %w", err))
				}
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// pacer hands out perSecond tokens each second, in small portions. What a busy
// machine could not use is lost.
func pacer(ctx context.Context, perSecond int, tokens chan<- struct{}) {
	const step = 10 * time.Millisecond
	tick := time.NewTicker(step)
	defer tick.Stop()
	began, given := time.Now(), 0
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			for due := int(now.Sub(began).Seconds() * float64(perSecond)); given < due; given++ {
				select {
				case tokens <- struct{}{}:
				default:
				}
			}
		}
	}
}

// one does one transaction of a random kind. A transaction in hand is finished,
// so that what was committed is known to the last.
func (w *workload) one(ctx context.Context, r *rand.Rand) error {
	n, i := r.IntN(100), 0
	for ; n >= kinds[i].share; i++ {
		n -= kinds[i].share
	}
	ctx = context.WithoutCancel(ctx)
	err := w.transaction(ctx, func(tx *sql.Tx) error {
		if err := kinds[i].do(w, ctx, tx, r); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "UPDATE shop.audit SET n = n + 1 WHERE kind = ?", kinds[i].name)
		return err
	})
	if err == nil {
		w.committed[i].Add(1)
	}
	return err
}

// transaction runs f in a transaction, again if the server gives up a deadlock.
func (w *workload) transaction(ctx context.Context, f func(*sql.Tx) error) error {
	for {
		tx, err := w.db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		if err = f(tx); err == nil {
			err = tx.Commit()
		}
		if err == nil {
			return nil
		}
		tx.Rollback()
		var e *mysql.MySQLError
		if !errors.As(err, &e) || e.Number != 1213 && e.Number != 1205 {
			return err
		}
	}
}

// total is how many transactions have committed.
func (w *workload) total() (n uint64) {
	for i := range w.committed {
		n += w.committed[i].Load()
	}
	return n
}

func (w *workload) placeOrder(ctx context.Context, tx *sql.Tx, r *rand.Rand) error {
	now := time.Now().UTC().Format(micros)
	customer := 1 + r.Uint64N(customerCount)
	done, err := tx.ExecContext(ctx, "INSERT INTO shop.orders (customer_id, status, total, placed, note) VALUES (?, 'placed', 0, ?, ?)",
		customer, now, note(r))
	if err != nil {
		return err
	}
	id, err := done.LastInsertId()
	if err != nil {
		return err
	}
	var items values
	products := r.Perm(productCount)[:1+r.IntN(5)]
	for line, p := range products {
		items.add(id, line+1, p+1, 1+r.IntN(3), price(r))
	}
	steps := []struct {
		query string
		args  []any
	}{
		{"INSERT INTO shop.order_items VALUES " + items.marks(), items.args},
		{"UPDATE shop.stock SET quantity = quantity - 1, sold = sold + 1 WHERE product_id IN (" +
			strings.TrimSuffix(strings.Repeat("?,", len(products)), ",") + ") ORDER BY product_id", ids(products)},
		{"UPDATE shop.orders SET total = (SELECT SUM(quantity * price) FROM shop.order_items WHERE order_id = ?), status = 'paid' WHERE id = ?", []any{id, id}},
		{"INSERT INTO shop.payments (order_id, method, amount, reference, paid) SELECT id, ?, total, UUID_TO_BIN(UUID()), NOW(6) FROM shop.orders WHERE id = ?",
			[]any{pick(r, []string{"card", "transfer", "voucher"}), id}},
		{"UPDATE shop.customers SET spent = spent + (SELECT total FROM shop.orders WHERE id = ?), seen = NOW(3) WHERE id = ?", []any{id, customer}},
	}
	for _, s := range steps {
		if _, err := tx.ExecContext(ctx, s.query, s.args...); err != nil {
			return err
		}
	}
	for {
		last := w.orders.Load()
		if last >= uint64(id) || w.orders.CompareAndSwap(last, uint64(id)) {
			return nil
		}
	}
}

func (w *workload) ship(ctx context.Context, tx *sql.Tx, r *rand.Rand) error {
	_, err := tx.ExecContext(ctx, "UPDATE shop.orders SET status = IF(status = 'paid', 'shipped', 'returned'), note = ? WHERE id = ?",
		note(r), w.recent(r))
	return err
}

func (w *workload) join(ctx context.Context, tx *sql.Tx, r *rand.Rand) error {
	done, err := tx.ExecContext(ctx, "INSERT INTO shop.customers (email, name, tier, preferences, created) VALUES (?, ?, ?, ?, ?)",
		fmt.Sprintf("joined%016x@example.com", r.Uint64()), name(r), 1+r.IntN(3), attributes(r), time.Now().UTC().Format(micros))
	if err != nil {
		return err
	}
	id, err := done.LastInsertId()
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO shop.addresses (customer_id, uses, street, city, country) VALUES (?, ?, ?, ?, 'SE'), (?, ?, ?, ?, 'JP')",
		id, "billing,shipping", street(r), "Malmö", id, "shipping", street(r), "東京")
	return err
}

func (w *workload) move(ctx context.Context, tx *sql.Tx, r *rand.Rand) error {
	customer := 1 + r.Uint64N(customerCount)
	if _, err := tx.ExecContext(ctx, "DELETE FROM shop.addresses WHERE customer_id = ?", customer); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, "INSERT INTO shop.addresses (customer_id, uses, street, city, country) VALUES (?, 'billing', ?, ?, 'IS')",
		customer, street(r), "Reykjavík")
	return err
}

// cancel deletes an order. Its items go by the foreign key.
func (w *workload) cancel(ctx context.Context, tx *sql.Tx, r *rand.Rand) error {
	id := w.recent(r)
	if _, err := tx.ExecContext(ctx, "DELETE FROM shop.payments WHERE order_id = ?", id); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, "DELETE FROM shop.orders WHERE id = ?", id)
	return err
}

func (w *workload) describe(ctx context.Context, tx *sql.Tx, r *rand.Rand) error {
	_, err := tx.ExecContext(ctx, "UPDATE shop.products SET description = ?, attributes = ?, rating = ?, active = NOT active WHERE id = ?",
		description(r), attributes(r), r.Float64()*5, 1+r.IntN(productCount))
	return err
}

// reprice touches a hundred rows at once.
func (w *workload) reprice(ctx context.Context, tx *sql.Tx, r *rand.Rand) error {
	from := 1 + r.IntN(productCount-100)
	_, err := tx.ExecContext(ctx, "UPDATE shop.products SET price = ROUND(price * ?, 2) WHERE id BETWEEN ? AND ?",
		0.9+0.2*r.Float64(), from, from+99)
	return err
}

// recent returns the id of an order placed not long ago; it may be gone.
func (w *workload) recent(r *rand.Rand) uint64 {
	last := w.orders.Load()
	if last == 0 {
		return 0
	}
	return last - r.Uint64N(min(last, 2000))
}

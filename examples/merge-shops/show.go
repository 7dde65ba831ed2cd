//go:build unix

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/dataflowsync/dfs/internal/testenv"
)

// tables are those of both shops, and of the one that they become.
var tables = []string{
	"CREATE DATABASE shop", "USE shop",
	"CREATE TABLE customers (id int AUTO_INCREMENT PRIMARY KEY, name varchar(40) NOT NULL, invited_by int, FOREIGN KEY (invited_by) REFERENCES customers (id))",
	"CREATE TABLE products (id int AUTO_INCREMENT PRIMARY KEY, name varchar(40) NOT NULL)",
	"CREATE TABLE orders (id int AUTO_INCREMENT PRIMARY KEY, customer_id int NOT NULL, FOREIGN KEY (customer_id) REFERENCES customers (id) ON DELETE CASCADE)",
	"CREATE TABLE order_lines (order_id int, line int, product_id int NOT NULL, PRIMARY KEY (order_id, line), " +
		"FOREIGN KEY (order_id) REFERENCES orders (id) ON DELETE CASCADE, FOREIGN KEY (product_id) REFERENCES products (id))",
	"CREATE TABLE notes (id int AUTO_INCREMENT PRIMARY KEY, kind enum('customer','order') NOT NULL, about int NOT NULL, text varchar(40) NOT NULL)",
	"CREATE TABLE carts (customer_id int PRIMARY KEY, content json NOT NULL, FOREIGN KEY (customer_id) REFERENCES customers (id) ON DELETE CASCADE)",
}

// north and south are what happens in the shops: the same ids mean other things.
var north = []string{
	"INSERT INTO customers VALUES (1,'Ann',NULL), (2,'Bob',1)",
	"INSERT INTO products VALUES (1,'tea'), (2,'pot')",
	"INSERT INTO orders VALUES (1,2)", "INSERT INTO order_lines VALUES (1,1,1), (1,2,2)",
	"INSERT INTO notes VALUES (1,'order',1,'gift wrap'), (2,'customer',1,'calls on Mondays')",
	`INSERT INTO carts VALUES (1,'{"items": [{"product": 2, "n": 1}]}')`,
}

var south = []string{
	"INSERT INTO customers VALUES (1,'Cem',NULL), (2,'Dee',1), (3,'gone',1)",
	"INSERT INTO products VALUES (1,'ink'), (2,'pen')",
	"INSERT INTO orders VALUES (1,1), (2,2), (3,3)", "INSERT INTO order_lines VALUES (1,1,2), (2,1,1), (2,2,2), (3,1,1)",
	"INSERT INTO notes VALUES (1,'customer',2,'pays late')",
	`INSERT INTO carts VALUES (2,'{"items": [{"product": 1, "n": 4}, {"product": 2, "n": 1}]}')`,
	"UPDATE orders SET customer_id=2 WHERE id=1",
	"DELETE FROM customers WHERE id=3", // and with it its order and the line of that
}

const joined = `SELECT c.name, COALESCE(i.name,'-'), COALESCE(GROUP_CONCAT(p.name ORDER BY p.name), '-'), COALESCE((SELECT GROUP_CONCAT(n.text ORDER BY n.text) FROM notes n
	WHERE n.kind='order' AND n.about=o.id OR n.kind='customer' AND n.about=c.id), '-')
	FROM customers c LEFT JOIN customers i ON i.id=c.invited_by LEFT JOIN orders o ON o.customer_id=c.id LEFT JOIN order_lines l ON l.order_id=o.id
	LEFT JOIN products p ON p.id=l.product_id GROUP BY c.id, o.id ORDER BY c.name, GROUP_CONCAT(p.name ORDER BY p.name)`

const carts = `SELECT c.name, GROUP_CONCAT(p.name, ' x', j.n ORDER BY p.name) FROM carts k JOIN customers c ON c.id=k.customer_id
	JOIN JSON_TABLE(k.content, '$.items[*]' COLUMNS (product int PATH '$.product', n int PATH '$.n')) j JOIN products p ON p.id=j.product GROUP BY c.id ORDER BY c.name`

// show starts three servers, lets two shops open, and shows what has become of them
// on the third.
func show(ctx context.Context, out io.Writer) error {
	folder, err := os.MkdirTemp("", "merge-shops-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	var servers [3]*testenv.Server
	var errs [3]error
	var wg sync.WaitGroup
	for i, name := range []string{"target", "north", "south"} {
		wg.Go(func() { servers[i], errs[i] = testenv.Launch(ctx, testenv.MySQL97, filepath.Join(folder, name)) })
	}
	wg.Wait()
	var dbs []*sql.DB
	var dsns []string
	for i, srv := range servers {
		if errs[i] != nil {
			continue
		}
		defer srv.Kill()
		db, err := sql.Open("mysql", srv.DSN(""))
		if err != nil {
			return err
		}
		defer db.Close()
		db.SetMaxOpenConns(1) // which has the schema shop
		errs[i] = exec(ctx, db, tables...)
		dbs, dsns = append(dbs, db), append(dsns, srv.DSN(""))
	}
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- merge(running, folder, dsns[0], dsns[1:], slog.New(slog.DiscardHandler)) }()
	err = open(ctx, dbs, done, out)
	stop()
	if ended := <-done; err == nil {
		err = ended
	}
	return err
}

func exec(ctx context.Context, db *sql.DB, statements ...string) error {
	for _, q := range statements {
		if _, err := db.ExecContext(ctx, q); err != nil {
			return fmt.Errorf("%.60s: %w", q, err)
		}
	}
	return nil
}

// open lets the shops do business once both pipelines have begun, and prints the
// target when all of it has arrived.
func open(ctx context.Context, dbs []*sql.DB, done chan error, out io.Writer) error {
	target := dbs[0]
	if err := until(ctx, target, "SELECT COUNT(*)=2 FROM dfs.dfs_checkpoint WHERE seq > 0", done); err != nil {
		return err
	}
	if err := exec(ctx, dbs[1], north...); err != nil {
		return err
	}
	if err := exec(ctx, dbs[2], south...); err != nil {
		return err
	}
	err := until(ctx, target, "SELECT (SELECT COUNT(*) FROM notes)=3 AND (SELECT COUNT(*) FROM carts)=2 AND (SELECT COUNT(*) FROM orders)=3 "+
		"AND (SELECT COUNT(*) FROM customers)=4 AND NOT EXISTS (SELECT 1 FROM orders o JOIN customers c ON c.id=o.customer_id WHERE c.name='Cem')", done)
	if err != nil {
		return err
	}
	for _, q := range []struct{ title, query string }{{"customer | invited by | ordered | notes", joined}, {"cart of | what is in it", carts}} {
		if err := print(ctx, target, q.title, q.query, out); err != nil {
			return err
		}
	}
	return nil
}

// until asks until the answer is 1.
func until(ctx context.Context, db *sql.DB, query string, done chan error) error {
	for {
		var yes sql.NullBool
		if err := db.QueryRowContext(ctx, query).Scan(&yes); err == nil && yes.Bool {
			return nil
		} else if ctx.Err() != nil {
			return ctx.Err()
		}
		select {
		case err := <-done:
			done <- err
			return fmt.Errorf("the pipelines ended early: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func print(ctx context.Context, db *sql.DB, title, query string, out io.Writer) error {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	fmt.Fprintln(out, title)
	texts := make([]string, len(columns))
	into := make([]any, len(columns))
	for i := range texts {
		into[i] = &texts[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		fmt.Fprintln(out, "  "+strings.Join(texts, " | "))
	}
	fmt.Fprintln(out)
	return rows.Err()
}

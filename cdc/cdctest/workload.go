// Package cdctest makes binary logs to measure readers of them with.
package cdctest

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
)

// A Workload says how much to write. Each row has 10 columns of usual types.
type Workload struct {
	Inserts   int // single-row transactions
	Updates   int // single-row transactions
	Deletes   int // single-row transactions
	Batches   int // transactions of BatchRows rows
	BatchRows int
}

// Rows returns how many rows the workload changes.
func (w Workload) Rows() int { return w.Inserts + w.Updates + w.Deletes + w.Batches*w.BatchRows }

// Run writes the workload into the table "orders" of schema, which it creates
// along with the table. It uses one connection of db. The rows are written by a
// procedure in the server, so that a large log is there soon.
func (w Workload) Run(ctx context.Context, db *sql.DB, schema string) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("write a log: %w", err)
	}
	defer conn.Close()
	exec := func(q string) {
		if err == nil {
			_, err = conn.ExecContext(ctx, q)
		}
	}
	exec("CREATE DATABASE IF NOT EXISTS " + schema)
	exec("USE " + schema)
	exec(`CREATE TABLE orders (
		id bigint unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY,
		customer int unsigned NOT NULL,
		status enum('new','paid','sent') NOT NULL,
		total decimal(10,2) NOT NULL,
		rate double,
		note varchar(100),
		body text,
		placed datetime(3) NOT NULL,
		changed timestamp(6) NULL,
		flags tinyint NOT NULL,
		KEY (customer)) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4`)
	const row = `(i, 1 + i % 3, i / 7, i / 3.0, CONCAT('order number ', i),
		REPEAT('text ', i % 20), '2024-02-29 12:00:00.123' + INTERVAL i SECOND, NOW(6), i % 100)`
	const insert = `INSERT INTO orders (customer, status, total, rate, note, body, placed, changed, flags) VALUES `
	exec("DROP PROCEDURE IF EXISTS fill")
	exec(`CREATE PROCEDURE fill(inserts INT, updates INT, deletes INT, batches INT)
	BEGIN
		DECLARE i INT DEFAULT 0;
		WHILE i < inserts DO
			SET i = i + 1;
			` + insert + row + `;
		END WHILE;
		SET i = 0;
		WHILE i < updates DO
			SET i = i + 1;
			UPDATE orders SET total = total + 1, status = 'paid', changed = NOW(6) WHERE id = i;
		END WHILE;
		SET i = 0;
		WHILE i < deletes DO
			SET i = i + 1;
			DELETE FROM orders WHERE id = i;
		END WHILE;
		SET i = 0;
		WHILE i < batches DO
			SET i = i + 1;
			` + insert + row + strings.Repeat(", "+row, max(0, w.BatchRows-1)) + `;
		END WHILE;
	END`)
	exec(fmt.Sprintf("CALL fill(%d, %d, %d, %d)", w.Inserts, w.Updates, w.Deletes, w.Batches))
	if err != nil {
		return fmt.Errorf("write a log: %w", err)
	}
	return nil
}

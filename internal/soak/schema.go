//go:build unix

package main

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
)

// Sizes of the tables whose number of rows stays the same.
const (
	accounts = 200
	counters = 40 // rows of audit
	seats    = 60
	bulkRows = 20_000 // more than fits in one part of a transaction
)

// tables are those that DFS is to keep in step, in an order that suits foreign
// keys. What each is there for:
//
//   - progress counts, for each connection of the workload, what it has
//     committed. Every transaction moves its connection's row, so a snapshot of
//     the target tells which transactions it holds, and what it must then hold
//     of everything else.
//   - accounts move money: their sum never changes.
//   - audit counts: n grows by one, and only that.
//   - tokens has no key, and some of its rows are equal.
//   - orders and items are tied by a foreign key that cascades.
//   - seats swap the values of a unique key, and leave and return.
//   - bulk is written as a whole, by one large transaction.
var tables = []string{"progress", "accounts", "audit", "tokens", "orders", "items", "seats", "bulk"}

// ddl creates the tables, on every version from MySQL 5.6 up. S stands for the
// schema.
var ddl = []string{
	`CREATE TABLE S.progress (worker INT PRIMARY KEY, n BIGINT NOT NULL, audits BIGINT NOT NULL, tokens BIGINT NOT NULL,
		orders BIGINT NOT NULL, items BIGINT NOT NULL, gen BIGINT NOT NULL) ENGINE=InnoDB`,
	`CREATE TABLE S.accounts (id INT PRIMARY KEY, balance DECIMAL(14,2) NOT NULL, version INT UNSIGNED NOT NULL,
		note VARCHAR(60), rate DOUBLE, day DATE, ts TIMESTAMP(3) NULL DEFAULT NULL, changed DATETIME(6)) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4`,
	`CREATE TABLE S.audit (id INT PRIMARY KEY, n BIGINT NOT NULL, pad VARBINARY(16)) ENGINE=InnoDB`,
	`CREATE TABLE S.tokens (worker INT NOT NULL, token BIGINT NOT NULL, copies TINYINT NOT NULL, label VARCHAR(40),
		made DATETIME(6), INDEX (token)) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4`,
	`CREATE TABLE S.orders (id BIGINT PRIMARY KEY, worker INT NOT NULL, state ENUM('new','paid','sent','back') NOT NULL,
		total DECIMAL(10,2) NOT NULL, note TEXT, data BLOB, made DATETIME(6), INDEX (worker)) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4`,
	`CREATE TABLE S.items (order_id BIGINT NOT NULL, line TINYINT UNSIGNED NOT NULL, worker INT NOT NULL, sku VARCHAR(40) NOT NULL,
		qty SMALLINT, price DECIMAL(8,3), PRIMARY KEY (order_id, line),
		FOREIGN KEY (order_id) REFERENCES S.orders (id) ON DELETE CASCADE ON UPDATE CASCADE) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4`,
	`CREATE TABLE S.seats (id INT PRIMARY KEY, seat VARCHAR(20) COLLATE utf8mb4_general_ci, turns INT NOT NULL,
		UNIQUE (seat)) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4`,
	`CREATE TABLE S.bulk (id INT PRIMARY KEY, gen BIGINT NOT NULL, pad VARCHAR(60) NOT NULL) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4`,
}

// besides creates what only the source has, in a schema that is not followed.
var besides = []string{
	`CREATE DATABASE S_other`,
	`CREATE TABLE S_other.numbers (id INT PRIMARY KEY) ENGINE=InnoDB`,
	`CREATE TABLE S_other.noise (id INT AUTO_INCREMENT PRIMARY KEY, what VARCHAR(40)) ENGINE=InnoDB`,
}

// The ledger notes, on the target, how rows are changed, by triggers and so in
// the same transaction that changes them. A sink may fold several changes of a
// row into one, so their number proves nothing. What holds in any case:
//
//   - n only ever grows: a transaction applied twice writes an old or the same
//     value once more;
//   - the steps of n add up to it, and are not more than it;
//   - a token is inserted at most as often as it says it is.
//
// A sink has to take care of triggers, and gives up much of its speed for them.
// So the ledger is kept in every second epoch only.
var ledger = []string{
	`CREATE DATABASE S_ledger`,
	`CREATE TABLE S_ledger.faults (what VARCHAR(20) NOT NULL, id BIGINT, was BIGINT, became BIGINT) ENGINE=InnoDB`,
	`CREATE TABLE S_ledger.audit (id INT PRIMARY KEY, steps BIGINT NOT NULL, sum BIGINT NOT NULL) ENGINE=InnoDB`,
	`CREATE TABLE S_ledger.tokens (worker INT, token BIGINT, copies INT NOT NULL, ins INT NOT NULL, del INT NOT NULL,
		PRIMARY KEY (worker, token)) ENGINE=InnoDB`,
}

// openLedger begins a ledger with what is there, closeLedger ends it.
var (
	openLedger = []string{
		`DELETE FROM S_ledger.audit`,
		`INSERT INTO S_ledger.audit SELECT id, 0, n FROM S.audit`,
		`DELETE FROM S_ledger.tokens`,
		`INSERT INTO S_ledger.tokens SELECT worker, token, MAX(copies), COUNT(*), 0 FROM S.tokens GROUP BY worker, token`,
		`CREATE TRIGGER S.progress_step BEFORE UPDATE ON S.progress FOR EACH ROW
			IF NEW.n <= OLD.n THEN
				INSERT INTO S_ledger.faults VALUES ('progress', NEW.worker, OLD.n, NEW.n);
			END IF`,
		`CREATE TRIGGER S.audit_step BEFORE UPDATE ON S.audit FOR EACH ROW
			BEGIN
				IF NEW.n <= OLD.n THEN
					INSERT INTO S_ledger.faults VALUES ('audit', NEW.id, OLD.n, NEW.n);
				END IF;
				UPDATE S_ledger.audit SET steps = steps + 1, sum = sum + (NEW.n - OLD.n) WHERE id = NEW.id;
			END`,
		`CREATE TRIGGER S.tokens_in AFTER INSERT ON S.tokens FOR EACH ROW
			INSERT INTO S_ledger.tokens VALUES (NEW.worker, NEW.token, NEW.copies, 1, 0) ON DUPLICATE KEY UPDATE ins = ins + 1`,
		`CREATE TRIGGER S.tokens_out AFTER DELETE ON S.tokens FOR EACH ROW
			UPDATE S_ledger.tokens SET del = del + 1 WHERE worker = OLD.worker AND token = OLD.token`,
	}
	closeLedger = []string{
		`DROP TRIGGER S.progress_step`, `DROP TRIGGER S.audit_step`, `DROP TRIGGER S.tokens_in`, `DROP TRIGGER S.tokens_out`,
	}
)

// named puts the schema's name in place of S.
func named(schema, stmt string) string {
	return strings.NewReplacer("S.", schema+".", "S_", schema+"_").Replace(stmt)
}

// create creates all that a run needs on both servers. The tables are empty:
// their first rows, too, come through DFS.
func create(ctx context.Context, schema string, src, dst *sql.DB) error {
	for _, side := range []struct {
		db    *sql.DB
		stmts [][]string
	}{
		{src, [][]string{{"CREATE DATABASE " + schema}, ddl, besides}},
		{dst, [][]string{{"CREATE DATABASE " + schema, "CREATE DATABASE S_dfs"}, ddl, ledger}},
	} {
		for _, stmts := range side.stmts {
			for _, stmt := range stmts {
				if _, err := side.db.ExecContext(ctx, named(schema, stmt)); err != nil {
					return fmt.Errorf("create the tables: %.60s: %w", stmt, err)
				}
			}
		}
	}
	var rows strings.Builder
	for id := range bulkRows {
		fmt.Fprintf(&rows, ",(%d)", id)
	}
	if _, err := src.ExecContext(ctx, "INSERT INTO "+schema+"_other.numbers VALUES "+rows.String()[1:]); err != nil {
		return fmt.Errorf("fill the helper table: %w", err)
	}
	return nil
}

// firstRows is the transaction that fills the tables on the source.
func firstRows(schema string, workers int) string {
	var b strings.Builder
	insert := func(table string, n int, row string) {
		fmt.Fprintf(&b, "INSERT INTO %s.%s VALUES ", schema, table)
		for id := range n {
			if id > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, row, id)
		}
		b.WriteString(";\n")
	}
	b.WriteString("BEGIN;\n")
	insert("progress", workers+1, "(%d,0,0,0,0,0,0)")
	insert("accounts", accounts, "(%d,1000,0,NULL,NULL,NULL,NULL,NULL)")
	insert("audit", counters, "(%d,0,NULL)")
	insert("seats", seats, "(%[1]d,'seat %[1]d',0)")
	fmt.Fprintf(&b, "INSERT INTO %[1]s.bulk SELECT id, 0, 'at first' FROM %[1]s_other.numbers;\nCOMMIT", schema)
	return b.String()
}

//go:build linux

package main

import (
	"context"
	"fmt"

	"github.com/dataflowsync/dfs/dpu"
)

// reshapedTable gets the rows of the table orders of the workload "sinks" when they
// are reshaped: one column less, one of another name, and a new one.
const reshapedTable = `CREATE TABLE reshaped (
	id BIGINT NOT NULL PRIMARY KEY,
	customer INT NOT NULL,
	status ENUM('new', 'paid', 'sent', 'done') NOT NULL,
	amount DECIMAL(12,2) NOT NULL,
	name VARCHAR(60) NOT NULL,
	mail VARCHAR(80),
	score DOUBLE,
	created DATETIME(6) NOT NULL,
	updated TIMESTAMP(3) NOT NULL,
	total DECIMAL(14,2) NOT NULL,
	KEY (customer))`

// reshapeConfig is what examples/basic is told, and reshapeUnits the same in Go.
const reshapeConfig = `
units:
  - from: sinks.orders
    drop: [note]
    rename: {email: mail}
    columns:
      - {name: total, type: "decimal(14,2)", expr: amount * 2}
    into: sinks.reshaped
`

func reshapeUnits() []dpu.Unit {
	return []dpu.Unit{{
		From: "sinks.orders", Drop: []string{"note"}, Rename: map[string]string{"email": "mail"},
		Columns: []dpu.Column{{Name: "total", Type: "decimal(14,2)", Expr: "amount * 2"}}, Into: "sinks.reshaped",
	}}
}

func replayReshaped(ctx context.Context, x *trial) (s sample, err error) {
	if err := x.target.exec(ctx, "USE sinks; "+reshapedTable); err != nil {
		return s, err
	}
	x.reshape = true
	return replayDFS(ctx, x)
}

// sameReshaped compares what the rows have become with what they should.
func sameReshaped(ctx context.Context, x *trial) error {
	const query = "SELECT CONCAT(COUNT(*), ' rows, checksum ', COALESCE(BIT_XOR(CRC32(CONCAT_WS('|', id, customer, status, amount, name, %s, score, created, updated, %s))), 0)) FROM sinks.%s"
	var want, got string
	if err := x.source.QueryRowContext(ctx, fmt.Sprintf(query, "email", "amount * 2", "orders")).Scan(&want); err != nil {
		return err
	}
	if err := x.target.QueryRowContext(ctx, fmt.Sprintf(query, "mail", "total", "reshaped")).Scan(&got); err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("table reshaped of the target has %s; it should have %s", got, want)
	}
	return nil
}

//go:build unix

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dataflowsync/dfs/internal/testenv"
)

// keepLedger begins or ends a ledger. DFS does not run meanwhile, since a sink
// looks for triggers when it first writes to a table.
func keepLedger(ctx context.Context, schema string, dst *sql.DB, on bool) error {
	stmts := closeLedger
	if on {
		stmts = openLedger
	}
	for _, stmt := range stmts {
		if _, err := dst.ExecContext(ctx, named(schema, stmt)); err != nil {
			return fmt.Errorf("begin or end the ledger: %.60s: %w", stmt, err)
		}
	}
	return nil
}

// checkLedger reads what the ledger has noted. Nothing writes to the target
// meanwhile.
func checkLedger(ctx context.Context, schema string, dst *sql.DB, found *findings) error {
	for _, check := range []struct{ query, what string }{
		{"SELECT CONCAT(what, ' ', id), was, became FROM S_ledger.faults",
			"%s was written anew with its value %s, or an older one: %s"},
		{`SELECT a.id, a.n, CONCAT(l.sum, ' in ', l.steps) FROM S.audit a JOIN S_ledger.audit l ON l.id = a.id
			WHERE a.n <> l.sum OR l.steps > l.sum`,
			"row %s of audit has counted %s, and was seen to count %s steps"},
		{`SELECT token, copies, ins FROM S_ledger.tokens WHERE ins > copies`,
			"token %s was made %s times, and inserted %s times"},
		{`SELECT l.token, CAST(l.ins AS SIGNED) - l.del, COALESCE(t.have, 0) FROM S_ledger.tokens l
			LEFT JOIN (SELECT worker, token, COUNT(*) have FROM S.tokens GROUP BY worker, token) t ON t.worker = l.worker AND t.token = l.token
			WHERE l.ins - l.del <> COALESCE(t.have, 0)`,
			"of token %s %s rows were inserted and not deleted, and %s are there"},
	} {
		rows, err := dst.QueryContext(ctx, named(schema, check.query))
		if err != nil {
			return fmt.Errorf("read the ledger: %w", err)
		}
		for rows.Next() {
			var a, b, c string
			if err := rows.Scan(&a, &b, &c); err != nil {
				rows.Close()
				return fmt.Errorf("read the ledger: %w", err)
			}
			found.add(byLedger, check.what, a, b, c)
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return fmt.Errorf("read the ledger: %w", err)
		}
	}
	return nil
}

// checkpoint is where the target stands.
type checkpoint struct {
	seq   uint64
	pos   string
	owner string // which start of DFS may move it
}

func readCheckpoint(ctx context.Context, schema string, dst *sql.DB) (c checkpoint, err error) {
	err = dst.QueryRowContext(ctx, named(schema, "SELECT seq, pos, owner FROM S_dfs.dfs_checkpoint WHERE name = 'soak'")).Scan(&c.seq, &c.pos, &c.owner)
	if errors.Is(err, sql.ErrNoRows) || err != nil && strings.Contains(err.Error(), "doesn't exist") {
		return checkpoint{}, nil // DFS has yet to make it
	}
	return c, err
}

// executed returns the transactions that the source has in its log: a GTID set,
// or the last GTID of each domain of MariaDB.
func executed(ctx context.Context, kind testenv.Kind, src *sql.DB) (set string, err error) {
	query := "SELECT @@GLOBAL.gtid_executed"
	if kind == testenv.MariaDB {
		query = "SELECT @@GLOBAL.gtid_binlog_pos"
	}
	if err := src.QueryRowContext(ctx, query).Scan(&set); err != nil {
		return "", fmt.Errorf("ask the source for its GTIDs: %w", err)
	}
	return canonical(set), nil
}

// canonical makes equal what means the same, for sets as servers print them.
func canonical(set string) string {
	parts := strings.Split(strings.ToLower(strings.Join(strings.Fields(set), "")), ",")
	slices.Sort(parts)
	return strings.Join(parts, ",")
}

// covered returns the transactions that a position says have been applied. Its
// words are the kind, the server, the set, and a place that only informs.
func covered(pos string) string {
	f := strings.Fields(pos)
	if len(f) < 3 || f[2] == "-" {
		return ""
	}
	return canonical(f[2])
}

// checkPosition waits until the checkpoint covers what the source has executed.
// Transactions that are not followed move it too, within a heartbeat or two.
func checkPosition(ctx context.Context, kind testenv.Kind, schema string, src, dst *sql.DB, within time.Duration, found *findings) error {
	want, err := executed(ctx, kind, src)
	if err != nil {
		return err
	}
	end := time.Now().Add(within)
	for {
		c, err := readCheckpoint(ctx, schema, dst)
		if err != nil {
			return fmt.Errorf("read the checkpoint: %w", err)
		}
		if covered(c.pos) == want {
			return nil
		}
		if time.Now().After(end) {
			found.add(byPosition, "the source has executed %s, and the checkpoint, number %d, covers %s", want, c.seq, covered(c.pos))
			return nil
		}
		if !sleep(ctx, 20*time.Millisecond) {
			return ctx.Err()
		}
	}
}

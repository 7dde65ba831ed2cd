//go:build unix

package main

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
)

// A state is what one snapshot of a database shows.
type state struct {
	progress map[int]progress
	money    int64 // sum of the accounts, in hundredths
	audits   int64 // sum of n
	tokens   map[int]int64
	orders   map[int]int64
	items    map[int]int64
	orphans  int64    // items without their order
	seats    [2]int64 // rows, and those that are not NULL
	surplus  []string // tokens of which there are more than there ever were
	bulk     *bulk    // nil if it was not asked for
}

// progress is a row of the table of that name: for one connection of the
// workload the number of its transactions, and what is there because of them.
type progress struct{ n, audits, tokens, orders, items, gen int64 }

type bulk struct{ rows, first, last int64 } // first and last gen

// readState reads one snapshot. A single statement is one: all of its parts
// read the same version of every table.
func readState(ctx context.Context, db *sql.DB, schema string, withBulk bool) (*state, error) {
	query := `SELECT 'progress', worker, n, audits, tokens, orders, items, gen FROM S.progress
		UNION ALL SELECT 'money', 0, SUM(CAST(balance * 100 AS SIGNED)), 0, 0, 0, 0, 0 FROM S.accounts
		UNION ALL SELECT 'audits', 0, SUM(n), 0, 0, 0, 0, 0 FROM S.audit
		UNION ALL SELECT 'tokens', worker, COUNT(*), 0, 0, 0, 0, 0 FROM S.tokens GROUP BY worker
		UNION ALL SELECT 'surplus', worker, token, COUNT(*), MAX(copies), 0, 0, 0 FROM S.tokens
			GROUP BY worker, token HAVING COUNT(*) > MAX(copies)
		UNION ALL SELECT 'orders', worker, COUNT(*), 0, 0, 0, 0, 0 FROM S.orders GROUP BY worker
		UNION ALL SELECT 'items', i.worker, COUNT(*), SUM(o.id IS NULL), 0, 0, 0, 0 FROM S.items i
			LEFT JOIN S.orders o ON o.id = i.order_id GROUP BY i.worker
		UNION ALL SELECT 'seats', 0, COUNT(*), COUNT(seat), 0, 0, 0, 0 FROM S.seats`
	if withBulk {
		query += ` UNION ALL SELECT 'bulk', 0, COUNT(*), COALESCE(MIN(gen), -1), COALESCE(MAX(gen), -1), 0, 0, 0 FROM S.bulk`
	}
	rows, err := db.QueryContext(ctx, named(schema, query))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	st := &state{progress: map[int]progress{}, tokens: map[int]int64{}, orders: map[int]int64{}, items: map[int]int64{}}
	for rows.Next() {
		var what string
		var worker int
		var v [6]sql.NullInt64 // sums of no rows are NULL
		if err := rows.Scan(&what, &worker, &v[0], &v[1], &v[2], &v[3], &v[4], &v[5]); err != nil {
			return nil, err
		}
		a, b, c := v[0].Int64, v[1].Int64, v[2].Int64
		switch what {
		case "progress":
			st.progress[worker] = progress{a, b, c, v[3].Int64, v[4].Int64, v[5].Int64}
		case "money":
			st.money = a
		case "audits":
			st.audits = a
		case "tokens":
			st.tokens[worker] = a
		case "surplus":
			st.surplus = append(st.surplus, fmt.Sprintf("token %d of connection %d is there %d times, and was only made %d times", a, worker, b, c))
		case "orders":
			st.orders[worker] = a
		case "items":
			st.items[worker], st.orphans = a, st.orphans+b
		case "seats":
			st.seats = [2]int64{a, b}
		case "bulk":
			st.bulk = &bulk{a, b, c}
		}
	}
	return st, rows.Err()
}

// readProgress reads no more than the progress.
func readProgress(ctx context.Context, db *sql.DB, schema string) (*state, error) {
	rows, err := db.QueryContext(ctx, named(schema, "SELECT worker, n FROM S.progress"))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	st := &state{progress: map[int]progress{}}
	for rows.Next() {
		var worker int
		var p progress
		if err := rows.Scan(&worker, &p.n); err != nil {
			return nil, err
		}
		st.progress[worker] = p
	}
	return st, rows.Err()
}

// transactions returns how many transactions of the workload the state holds.
func (st *state) transactions() (n int64) {
	for _, p := range st.progress {
		n += p.n
	}
	return n
}

// faults tells what is wrong with the state by itself: what no moment between
// two transactions of the source can look like.
func (st *state) faults() []string {
	var faults []string
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Sprintf(format, args...))
		}
	}
	var audits, gen int64
	for _, w := range slices.Sorted(maps.Keys(st.progress)) {
		p := st.progress[w]
		audits += p.audits
		gen += p.gen
		for _, x := range []struct {
			what       string
			have, want int64
		}{{"tokens", st.tokens[w], p.tokens}, {"orders", st.orders[w], p.orders}, {"items", st.items[w], p.items}} {
			fault(x.have != x.want, "connection %d has %d %s after its transaction %d, which left %d", w, x.have, x.what, p.n, x.want)
		}
	}
	fault(st.money != accounts*1000*100, "the accounts add up to %d hundredths, not to %d", st.money, accounts*1000*100)
	fault(st.audits != audits, "audit has counted %d, and its transactions %d", st.audits, audits)
	fault(st.orphans != 0, "%d items have no order", st.orphans)
	fault(st.seats != [2]int64{seats, seats}, "%d seats, of which %d are named; both should be %d", st.seats[0], st.seats[1], seats)
	if b := st.bulk; b != nil {
		fault(*b != bulk{bulkRows, gen, gen}, "bulk has %d rows of the generations %d to %d, not %d of generation %d", b.rows, b.first, b.last, bulkRows, gen)
	}
	return append(faults, st.surplus...)
}

// backward tells what has gone back since an earlier state.
func (st *state) backward(since *state) (faults []string) {
	for w, p := range since.progress {
		if now := st.progress[w]; now.n < p.n {
			faults = append(faults, fmt.Sprintf("connection %d has gone back from transaction %d to %d", w, p.n, now.n))
		}
	}
	return faults
}

// ahead tells what the state has and the source's, read later, has not.
func (st *state) ahead(of *state) (faults []string) {
	for w, p := range st.progress {
		if source := of.progress[w]; p.n > source.n {
			faults = append(faults, fmt.Sprintf("connection %d is at transaction %d, and at %d on the source", w, p.n, source.n))
		}
	}
	return faults
}

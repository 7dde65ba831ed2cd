//go:build unix

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/jackc/pgx/v5/pgconn"
)

// shop is there before the pipeline starts, and has what is hard to move.
var shop = []string{
	"CREATE DATABASE shop CHARACTER SET utf8mb4",
	"CREATE TABLE shop.users (id bigint unsigned PRIMARY KEY, name varchar(40) CHARACTER SET latin1 NOT NULL, born date, UNIQUE KEY (name))",
	"CREATE TABLE shop.orders (id int AUTO_INCREMENT PRIMARY KEY, user bigint unsigned NOT NULL, state enum('new','paid','sent') NOT NULL DEFAULT 'new', " +
		"total decimal(10,2) NOT NULL, made datetime(6) NOT NULL, data varbinary(40), doc json, KEY (user))",
	"INSERT INTO shop.users VALUES (1, 'Åsa', '1990-02-28'), (18446744073709551615, 'the last', NULL), (2, 'O''Neill', '1970-01-01')",
	"INSERT INTO shop.orders (user, total, made, data, doc) VALUES (1, 12.50, '2026-11-27 10:00:00.000001', x'00ff27', '{\"gift\": true}')",
}

// tables are compared by these columns, which both print alike.
var tables = map[string][2]string{
	"users":  {"id, name, born", "id, name, born"},
	"orders": {"id, user, state, total, made, HEX(data), doc", `id, "user", state, total, to_char(made,'YYYY-MM-DD HH24:MI:SS.US'), upper(encode(data,'hex')), doc`},
}

// try runs the shop on servers of its own while orders come, stops, and compares.
func try(ctx context.Context, out io.Writer) error {
	dir, err := os.MkdirTemp("", "postgres-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o711); err != nil { // PostgreSQL may run as another user
		return err
	}
	from, err := testenv.Launch(ctx, testenv.MySQL97, filepath.Join(dir, "source"))
	if err != nil {
		return err
	}
	defer from.Kill()
	to, err := testenv.LaunchPostgres(ctx, filepath.Join(dir, "target"))
	if err != nil {
		return err
	}
	defer to.Stop()
	db, err := sql.Open("mysql", from.DSN(""))
	if err != nil {
		return err
	}
	defer db.Close()
	for _, s := range shop {
		if _, err := db.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("%.60s: %w", s, err)
		}
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- keep(running, from.DSN(""), "shop.*", to.DSN()) }()
	for i := range 300 {
		if err := trade(ctx, db, i); err != nil {
			return err
		}
	}
	fmt.Fprintln(out, "300 transactions were written to MySQL while its rows were copied")
	dst, err := pgconn.Connect(ctx, to.DSN())
	if err != nil {
		return err
	}
	defer dst.Close(context.WithoutCancel(ctx))
	for {
		report, err := compare(ctx, db, dst)
		if err == nil && !strings.Contains(report, "differ") {
			fmt.Fprint(out, report)
			stop()
			return <-done
		}
		select {
		case err := <-done:
			return errors.Join(errors.New("the pipeline has ended before the target had all:\n"+report), err)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// trade is one transaction of the shop.
func trade(ctx context.Context, db *sql.DB, i int) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	_, err = tx.Exec("INSERT INTO shop.orders (user, total, made, data, doc) VALUES (?, ?, '2026-11-27 12:00:00', ?, JSON_OBJECT('n', ?, 'text', 'tab\t\\\\ quote\" €'))",
		1+i%2, float64(rand.IntN(10000))/100, []byte{0, byte(i), 0xff, '\\', '\n'}, i)
	if err == nil {
		_, err = tx.Exec("UPDATE shop.orders SET state='paid' WHERE id=?", 1+rand.IntN(i+1))
	}
	if err == nil && i%7 == 0 {
		_, err = tx.Exec("DELETE FROM shop.orders WHERE state='paid' LIMIT 1")
	}
	if err == nil {
		_, err = tx.Exec("UPDATE shop.users SET name=? WHERE id=2", fmt.Sprintf("O'Neill %d ñ", i))
	}
	return errors.Join(err, tx.Commit())
}

// compare says of each table whether both sides have the same rows.
func compare(ctx context.Context, src *sql.DB, dst *pgconn.PgConn) (string, error) {
	var b strings.Builder
	for _, name := range []string{"users", "orders"} {
		rows, err := src.QueryContext(ctx, "SELECT "+tables[name][0]+" FROM shop."+name+" ORDER BY id")
		if err != nil {
			return "", err
		}
		var want []string
		columns, err := rows.Columns()
		for err == nil && rows.Next() {
			cells := make([]sql.NullString, len(columns))
			into := make([]any, len(cells))
			for i := range cells {
				into[i] = &cells[i]
			}
			err = rows.Scan(into...)
			want = append(want, fmt.Sprint(cells))
		}
		if err = errors.Join(err, rows.Err(), rows.Close()); err != nil {
			return "", err
		}
		result, err := dst.Exec(ctx, "SELECT "+tables[name][1]+" FROM shop."+name+" ORDER BY id").ReadAll()
		if err != nil {
			return name + " cannot be read, and so differs", err
		}
		var have []string
		for _, r := range result[0].Rows {
			cells := make([]sql.NullString, len(r))
			for i := range r {
				cells[i] = sql.NullString{String: string(r[i]), Valid: r[i] != nil}
			}
			have = append(have, fmt.Sprint(cells))
		}
		verdict := "equal"
		if !slices.Equal(want, have) {
			verdict = "they differ"
		}
		fmt.Fprintf(&b, "shop.%s: %d rows on MySQL, %d on PostgreSQL: %s\n", name, len(want), len(have), verdict)
	}
	return b.String(), nil
}

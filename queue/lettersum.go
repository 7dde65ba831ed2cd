package queue

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strconv"
)

// SQLite gives back what the disk gives, as long as it looks like a database. So each
// row of the file of letters has a checksum, and the memo "rows" says how many there
// are, as one that can no longer be found has none. A file of version 1 has neither
// until its rows are written again.

// since2 is what a file of version 1 lacks.
const since2 = `
ALTER TABLE letter ADD COLUMN sum INTEGER;
ALTER TABLE skip ADD COLUMN sum INTEGER;
ALTER TABLE memo ADD COLUMN sum INTEGER;`

// rowSum returns the checksum of a row.
func rowSum(text string, numbers ...int64) int64 {
	b := make([]byte, 0, 8*len(numbers)+len(text))
	for _, n := range numbers {
		b = binary.LittleEndian.AppendUint64(b, uint64(n))
	}
	return int64(crc32.Checksum(append(b, text...), castagnoli))
}

// fits makes sure that a row has the checksum that it was written with, or none.
func (l *Letters) fits(have sql.NullInt64, want int64, what string) error {
	if !have.Valid || have.Int64 == want {
		return nil
	}
	return l.damaged(fmt.Errorf("the checksum of %s is wrong", what))
}

// sum is the column of checksums, which a file of version 1 that is only read lacks.
func (l *Letters) sum() string {
	if l.version < 2 {
		return "NULL"
	}
	return "sum"
}

// memo returns what is noted under a name, or "" if nothing is. It reads all, by no index:
// the name may be what is damaged, and then nothing would be found by it.
func (l *Letters) memo(ctx context.Context, q querier, name string) (value string, err error) {
	rows, err := q.QueryContext(ctx, "SELECT name, value, "+l.sum()+" FROM memo")
	if err != nil {
		return "", l.wrap("read", err)
	}
	defer rows.Close()
	for rows.Next() {
		var n, v string
		var sum sql.NullInt64
		if err := rows.Scan(&n, &v, &sum); err != nil {
			return "", l.wrap("read", err)
		}
		if err := l.fits(sum, rowSum(n+"\x00"+v), "what it notes as "+strconv.Quote(n)); err != nil {
			return "", err
		}
		if n == name {
			value = v
		}
	}
	return value, l.wrap("read", rows.Err())
}

func setMemo(ctx context.Context, tx *sql.Tx, name, value string) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO memo (name, value, sum) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value, sum = excluded.sum",
		name, value, rowSum(name+"\x00"+value))
	return err
}

func (l *Letters) number(ctx context.Context, q querier, name string) (uint64, error) {
	text, err := l.memo(ctx, q, name)
	if err != nil || text == "" {
		return 0, err
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		err = l.damaged(fmt.Errorf("what it notes as %s: %w", name, err))
	}
	return n, err
}

// rows returns how many rows the tables have, but for the memo that says so.
func (l *Letters) rows(ctx context.Context, q querier) (string, error) {
	var letters, skips, memos int64
	err := q.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM letter NOT INDEXED), (SELECT count(*) FROM skip), (SELECT count(*) FROM memo WHERE name <> 'rows')`).
		Scan(&letters, &skips, &memos)
	return fmt.Sprint(letters, " ", skips, " ", memos), err
}

// tally notes how many rows there are. It comes last in a transaction.
func (l *Letters) tally(ctx context.Context, tx *sql.Tx) error {
	have, err := l.rows(ctx, tx)
	if err == nil {
		err = setMemo(ctx, tx, "rows", have)
	}
	return err
}

// whole makes sure that no row is missing.
func (l *Letters) whole(ctx context.Context, q querier) error {
	want, err := l.memo(ctx, q, "rows")
	if err != nil || want == "" {
		return err
	}
	have, err := l.rows(ctx, q)
	if err != nil {
		return l.wrap("read", err)
	}
	if have != want {
		return l.damaged(fmt.Errorf("it has %s letters, transactions to skip and notes, and had %s when it was written", have, want))
	}
	return nil
}

// upgrade brings a file to the version that this program writes.
func (l *Letters) upgrade(ctx context.Context) error {
	tx, err := l.db.BeginTx(ctx, nil)
	if err != nil {
		return l.wrap("upgrade", err)
	}
	defer tx.Rollback()
	for _, s := range []string{since2, fmt.Sprintf("PRAGMA user_version = %d", lettersVersion)} {
		if _, err := tx.ExecContext(ctx, s); err != nil {
			return l.wrap("upgrade", err)
		}
	}
	l.version = lettersVersion
	if err := l.tally(ctx, tx); err != nil {
		return l.wrap("upgrade", err)
	}
	return l.wrap("upgrade", tx.Commit())
}

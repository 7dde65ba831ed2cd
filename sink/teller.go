package sink

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/dataflowsync/dfs"
)

// A Teller tells by which statements a PostgreSQL or SQLite sink writes a transaction,
// and executes none of them: DryRun's Plan is the same for MySQL. It reads of the target
// what the sink would read, in a session or file that it cannot write to. It is used by
// one goroutine at a time.
type Teller struct {
	core   *core
	notes  *recorder
	begins func(*dfs.Transaction) // told of each transaction
}

// TellPostgres checks the options as OpenPostgres does, and connects, but makes nothing
// there.
func TellPostgres(ctx context.Context, dsn string, opts *PostgresOptions) (*Teller, error) {
	p, err := newPostgres(dsn, opts)
	if err != nil {
		return nil, err
	}
	return tell(ctx, &p.core, func(*dfs.Transaction) { p.pg.replica = false })
}

// TellSQLite checks the options as OpenSQLite does, and opens the file, which must be
// there.
func TellSQLite(ctx context.Context, path string, opts *SQLiteOptions) (*Teller, error) {
	s, err := newSQLite(path, opts)
	if err != nil {
		return nil, err
	}
	s.lite.reads = true
	return tell(ctx, &s.core, func(tx *dfs.Transaction) { s.lite.fkOff = unchecked(tx) })
}

func tell(ctx context.Context, c *core, begins func(*dfs.Transaction)) (*Teller, error) {
	t := &Teller{c, &recorder{backend: c.db}, begins}
	c.db, c.tells = t.notes, true
	if err := t.connect(ctx); err != nil {
		return nil, err
	}
	return t, nil
}

// Close ends the connection.
func (t *Teller) Close() error {
	t.notes.drop()
	return nil
}

func (t *Teller) connect(ctx context.Context) error {
	if t.notes.connected() {
		if _, err := t.notes.query(ctx, "SELECT 1"); err == nil {
			return nil
		}
		t.notes.drop()
	}
	if err := t.notes.connect(ctx); err != nil {
		return err
	}
	if p, ok := t.notes.backend.(*pgBackend); ok {
		if _, err := p.simple(ctx, "SET default_transaction_read_only=on"); err != nil {
			p.drop()
			return fmt.Errorf("making the session one that only reads: %w", err)
		}
	}
	return nil
}

// Plan returns what would be done for one transaction by itself, row by row, with the
// tables as they are now, and what keeps the sink from it. The values stand in the
// statements, as text that the target reads the same.
func (t *Teller) Plan(ctx context.Context, tx *dfs.Transaction) (Planned, error) {
	p := Planned{Seq: tx.Seq, ID: tx.ID, Committed: tx.Committed, More: tx.More}
	if err := t.connect(ctx); err != nil {
		return p, err
	}
	c := t.core
	c.forget()
	t.begins(tx)
	if c.replace {
		replace([]*dfs.Transaction{tx})
	}
	for i := range tx.Changes {
		if tx.Changes[i].Op == dfs.DDL {
			p.Notes = append(p.Notes, "what a statement of the source does to the target's tables depends on what they are when it comes, and is not told: "+limit(tx.Changes[i].Query, 400))
		}
	}
	l, blobs := t.notes.backend.(*liteBackend)
	if blobs && l.fkOff {
		p.Statements = append(p.Statements, "PRAGMA foreign_keys=OFF")
	}
	said := make(map[string]bool)
	for _, it := range once(items([]*dfs.Transaction{tx})) {
		p.Rows++
		t.notes.list = t.notes.list[:0]
		err := c.one(ctx, it)
		switch {
		case err != nil && (ctx.Err() != nil || errors.Is(err, dfs.ErrTransient)):
			return p, err
		case err != nil && !said[err.Error()]: // as many rows of a table may say
			said[err.Error()] = true
			p.Stops = append(p.Stops, err.Error())
		}
		for _, s := range t.notes.list {
			if !strings.Contains(s.sql, "SAVEPOINT dfs_") {
				p.Statements = append(p.Statements, inlined(s, blobs))
			}
		}
	}
	return p, nil
}

// A recorder is a backend that executes nothing, and notes what it was to execute.
type recorder struct {
	backend
	list []stmt
}

func (r *recorder) exec(_ context.Context, s stmt) (int64, error) {
	r.list = append(r.list, s)
	return 1, nil
}

func (r *recorder) write(context.Context, []stmt, []group) error {
	return errors.New("a Teller was to write") // it applies changes one by one
}

func (r *recorder) foreignKeys(ctx context.Context, t *table, off bool) error {
	p, ok := r.backend.(*pgBackend)
	if !ok {
		return r.backend.foreignKeys(ctx, t, off) // which executes nothing
	}
	s, err := p.role(t, off)
	if err == nil && s != "" {
		r.list = append(r.list, stmt{sql: s, want: uncounted})
	}
	return err
}

// inlined returns a statement with its arguments in their places, which are $1 or ?1.
// Arguments of bytes are blobs, or texts.
func inlined(s stmt, blobs bool) string {
	var b strings.Builder
	for i := 0; i < len(s.sql); {
		c := s.sql[i]
		end := i + 1
		switch {
		case c == '"' || c == '\'':
			for end < len(s.sql) && s.sql[end] != c {
				end++ // a quote that is doubled begins another of the kind
			}
			end = min(end+1, len(s.sql))
		case c == '$' || c == '?':
			for end < len(s.sql) && '0' <= s.sql[end] && s.sql[end] <= '9' {
				end++
			}
			if n, err := strconv.Atoi(s.sql[i+1 : end]); err == nil && n >= 1 && n <= len(s.args) {
				b.WriteString(argLiteral(s.args[n-1], blobs))
				i = end
				continue
			}
		}
		b.WriteString(s.sql[i:end])
		i = end
	}
	return b.String()
}

// argLiteral returns an argument as SQL has it: PostgreSQL's are texts, which are read as
// values of the column's type, as parameters are.
func argLiteral(a any, blobs bool) string {
	text := func(s string) string {
		if strings.IndexByte(s, 0) >= 0 || !utf8.ValidString(s) { // of SQLite, which looks into no text
			return fmt.Sprintf("CAST(x'%x' AS TEXT)", s)
		}
		return "'" + strings.ReplaceAll(s, "'", "''") + "'"
	}
	switch v := a.(type) {
	case nil:
		return "NULL"
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		switch s := strconv.FormatFloat(v, 'g', -1, 64); {
		case math.IsInf(v, 1):
			return "9e999"
		case math.IsInf(v, -1):
			return "-9e999"
		case math.IsNaN(v):
			return "NULL" // as SQLite stores it
		case strings.ContainsAny(s, ".e"):
			return s
		default:
			return s + ".0"
		}
	case string:
		return text(v)
	case []byte:
		if blobs {
			return fmt.Sprintf("x'%x'", v)
		}
		return text(string(v))
	}
	return text(fmt.Sprint(a))
}

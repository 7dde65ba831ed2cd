package cdc

import (
	"context"
	"database/sql"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/ddl"
	"github.com/dataflowsync/dfs/internal/match"
)

// survey reads what followed tables look like at the place where a pipeline that
// starts now begins, which find returns. The server cannot be asked for both at
// once, so it is asked for all tables before and after the place is found: what
// is the same both times was so at the place. The others are left to be asked for
// when their rows come.
func (s *Source) survey(ctx context.Context, find func() (*position, error)) (*position, *catalog, error) {
	s.opts.Logger.Info("reading the columns of all followed tables")
	seed := maphash.MakeSeed()
	digest := func(t *dfs.Table, collation string) uint64 {
		return maphash.Bytes(seed, append(appendTable(nil, t), collation...))
	}
	before := make(map[tableName]uint64)
	err := s.eachTable(ctx, func(t *dfs.Table, collation string) { before[tableName{t.Schema, t.Name}] = digest(t, collation) })
	schemas := make(map[string]string)
	if err == nil {
		err = s.eachSchema(ctx, func(name, collation string) { schemas[name] = collation })
	}
	if err != nil {
		return nil, nil, err
	}
	c := &catalog{kept: true, tables: new(ddl.Catalog)}
	// What was seen before the place may show statements that the log has after it:
	// MySQL before 8.0 and MariaDB alter a table first. They began by now. The place
	// is looked for in the next second, so that those which begin after it are
	// told from them.
	if err := s.db.QueryRowContext(ctx, "SELECT UNIX_TIMESTAMP()").Scan(&c.asked); err != nil {
		return nil, nil, fmt.Errorf("cdc: ask the server for the time: %w", err)
	}
	var slept int
	err = s.db.QueryRowContext(ctx, "SELECT SLEEP((1000000 - MICROSECOND(NOW(6))) / 1e6)").Scan(&slept)
	if err != nil {
		return nil, nil, fmt.Errorf("cdc: wait for the server's next second: %w", err)
	}
	p, err := find()
	if err != nil {
		return nil, nil, err
	}
	if p.kind == byFile && !s.maria && atLeast(s.known().version, 8, 0) {
		// The end of the log is after a statement that is written and not yet
		// committed, whose tables still show as they were. So give it time. GTIDs
		// show with the commit; before 8.0, and in MariaDB, the log is written last.
		select {
		case <-time.After(commitWait):
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
	err = s.eachTable(ctx, func(t *dfs.Table, collation string) {
		if sum, ok := before[tableName{t.Schema, t.Name}]; ok && sum == digest(t, collation) {
			c.tables.Set(t, collation)
		}
	})
	if err == nil {
		err = s.eachSchema(ctx, func(name, collation string) {
			if schemas[name] == collation {
				c.tables.SetSchema(name, collation)
			}
		})
	}
	return p, c, err
}

// eachSchema calls f for each schema of which something is followed, and the
// collation that its tables have if they name none.
func (s *Source) eachSchema(ctx context.Context, f func(name, collation string)) error {
	return eachRow(ctx, s.db, "SELECT schema_name, default_collation_name FROM information_schema.schemata", func(v []sql.NullString) {
		if s.followed().follows(v[0].String, "") {
			f(v[0].String, v[1].String)
		}
	})
}

// guessSchemas takes the schemas' collations as they are now for those of a place
// in the past. They seldom change, and where the log tells collations, a table for
// which that was wrong does not fit what the log says of it.
func (s *Source) guessSchemas(ctx context.Context, c *catalog) error {
	if !s.maria && !atLeast(s.known().version, 8, 0) || s.maria && !atLeast(s.known().version, 10, 5) {
		return nil
	}
	return mark(s.eachSchema(ctx, c.tables.SetSchema))
}

// commitWait is more than it takes from the write of a statement to the log until
// its commit.
const commitWait = time.Second

// eachTable calls f for each followed table that the account may see, but for the
// server's own, and its default collation. It asks three times, however many they
// are.
func (s *Source) eachTable(ctx context.Context, f func(t *dfs.Table, collation string)) error {
	where, args := s.followed().condition()
	keys, collations := make(map[tableName][]string), make(map[tableName]string)
	fail := func(err error) error { return fmt.Errorf("cdc: read the columns of all tables: %w", err) }
	// Names are compared as bytes, so that rows of shop.a and shop.A do not mix.
	const order = " ORDER BY CAST(table_schema AS BINARY), CAST(table_name AS BINARY), "
	same := make(map[string]string) // most texts come many times
	intern := func(b sql.RawBytes) string {
		t, ok := same[string(b)]
		if !ok {
			t = string(b)
			if len(same) < 100_000 {
				same[t] = t
			}
		}
		return t
	}
	rows, err := s.db.QueryContext(ctx, "SELECT table_schema, table_name, COALESCE(table_collation, '') FROM information_schema.tables WHERE table_type <> 'VIEW' AND "+
		where, args...)
	if err != nil {
		return fail(err)
	}
	defer rows.Close()
	var v [8]sql.RawBytes
	for rows.Next() {
		if err := rows.Scan(&v[0], &v[1], &v[2]); err != nil {
			return fail(err)
		}
		if n := (tableName{intern(v[0]), string(v[1])}); s.followed().follows(n.schema, n.name) {
			collations[n] = intern(v[2])
		}
	}
	if err := rows.Err(); err != nil {
		return fail(err)
	}
	rows, err = s.db.QueryContext(ctx, "SELECT table_schema, table_name, column_name FROM information_schema.statistics WHERE index_name = 'PRIMARY' AND "+
		where+order+"seq_in_index", args...)
	if err != nil {
		return fail(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(&v[0], &v[1], &v[2]); err != nil {
			return fail(err)
		}
		n := tableName{intern(v[0]), string(v[1])}
		if _, followed := collations[n]; followed {
			keys[n] = append(keys[n], intern(v[2]))
		}
	}
	if err := rows.Err(); err != nil {
		return fail(err)
	}
	rows, err = s.db.QueryContext(ctx, "SELECT table_schema, table_name, column_name, column_type, data_type, is_nullable, "+
		"COALESCE(character_set_name, ''), COALESCE(collation_name, '') FROM information_schema.columns WHERE "+
		where+order+"ordinal_position", args...)
	if err != nil {
		return fail(err)
	}
	defer rows.Close()
	var t *dfs.Table
	var columns []dfs.Column
	var collation string
	var followed bool
	end := func() {
		if t == nil || !followed {
			return
		}
		t.Columns = slices.Clone(columns)
		for _, name := range keys[tableName{t.Schema, t.Name}] {
			if i := t.Column(name); i >= 0 {
				t.Key = append(t.Key, i)
			}
		}
		f(t, collation)
	}
	for rows.Next() {
		if err := rows.Scan(&v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7]); err != nil {
			return fail(err)
		}
		if t == nil || t.Schema != string(v[0]) || t.Name != string(v[1]) {
			end()
			t, columns = &dfs.Table{Schema: intern(v[0]), Name: string(v[1])}, columns[:0]
			collation, followed = collations[tableName{t.Schema, t.Name}]
		}
		if followed {
			c := dfs.Column{Name: intern(v[2]), Charset: intern(v[6]), Collation: intern(v[7])}
			setType(&c, intern(v[3]), string(v[4]), string(v[5]))
			columns = append(columns, c)
		}
	}
	if err := rows.Err(); err != nil {
		return fail(err)
	}
	end()
	return nil
}

// condition returns a condition for information_schema that all followed tables
// meet, but for those of the server's own schemas.
func (f *filter) condition() (where string, args []any) {
	for _, s := range systemSchemas {
		args = append(args, s)
	}
	where = "table_schema NOT IN (?" + strings.Repeat(", ?", len(args)-1) + ")"
	if slices.ContainsFunc(f.include, func(p pattern) bool { return match.Wild(p.schema) }) {
		return where, args
	}
	// The server need not look into the others.
	for _, p := range f.include {
		args = append(args, p.schema)
	}
	return where + " AND table_schema IN (?" + strings.Repeat(", ?", len(f.include)-1) + ")", args
}

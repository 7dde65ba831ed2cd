package sink

import (
	"context"
	"fmt"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/convert"
)

func (l *liteBackend) there(ctx context.Context, _, name string) (bool, error) {
	rows, err := l.query(ctx, "SELECT 1 FROM sqlite_schema WHERE name=?1 COLLATE NOCASE AND type IN ('table','view')", name)
	return len(rows) > 0, err
}

func (l *liteBackend) tryRights(context.Context, *mapping) error { return nil }

func (l *liteBackend) acts(ctx context.Context, _, name, parent string, k ForeignKey) (bool, error) {
	rows, err := l.query(ctx, `SELECT id, "table", "from", on_delete, on_update FROM pragma_foreign_key_list(?1) ORDER BY id, seq`, name)
	passive := func(rule string) bool { return rule == "RESTRICT" || rule == "NO ACTION" }
	same := func(have, want string) bool { return have == want || passive(have) && passive(want) }
	for i := 0; i < len(rows); {
		first := rows[i]
		var columns []string
		for ; i < len(rows) && rows[i][0] == first[0]; i++ {
			columns = append(columns, rows[i][2].text)
		}
		if l.tableKey("", first[1].text) == parent && strings.EqualFold(strings.Join(columns, "\x00"), strings.Join(k.Columns, "\x00")) &&
			same(first[3].text, k.OnDelete) && same(first[4].text, k.OnUpdate) {
			return true, err
		}
	}
	return false, err
}

func (l *liteBackend) typeOf(c *dfs.Column, t convert.Type) (string, error) {
	return liteType(c, t), nil
}

func (l *liteBackend) literal(c *dfs.Column, v dfs.Value) (string, error) {
	switch v.Kind() {
	case dfs.Int64, dfs.Float32, dfs.Float64:
		return v.String(), nil
	case dfs.Uint64:
		if len(c.Members) > 0 {
			return "'" + strings.ReplaceAll(convert.Member(v.Uint(), c.Members, strings.HasPrefix(c.Type, "set")), "'", "''") + "'", nil
		}
		return v.String(), nil
	case dfs.Bytes:
		return fmt.Sprintf("x'%x'", v.Text()), nil
	}
	return "'" + strings.ReplaceAll(v.String(), "'", "''") + "'", nil
}

func (l *liteBackend) index(t *table, k plainKey) string {
	verb := "CREATE INDEX "
	if k.unique {
		verb = "CREATE UNIQUE INDEX "
	}
	return verb + quoteName(indexName(t, k.name)) + " ON " + l.ident(t) + " (" + quoteNames(k.columns) + ")"
}

func (l *liteBackend) inlineKeys(keys []ForeignKey) (items []string) {
	for _, k := range keys {
		if k.ParentFollowed {
			items = append(items, l.core.references(k))
		}
	}
	return items
}

// create runs the statements in one transaction.
func (l *liteBackend) create(ctx context.Context, t *table, list []string) error {
	if err := l.claimName(t.schema, t.name); err != nil {
		return err
	}
	for _, s := range append(append([]string{"BEGIN IMMEDIATE"}, list...), "COMMIT") {
		if _, err := l.conn.ExecContext(ctx, s); err != nil {
			_, _ = l.conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK") // or there is none
			return liteClassify(err)
		}
	}
	return nil
}

func (l *liteBackend) addForeignKey(context.Context, ForeignKey, []string) error { return nil }

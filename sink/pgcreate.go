package sink

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/convert"
	"github.com/dataflowsync/dfs/internal/match"
)

func (p *pgBackend) there(ctx context.Context, schema, name string) (bool, error) {
	rows, err := p.query(ctx, "SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid=c.relnamespace WHERE n.nspname=$1 AND c.relname=$2", schema, name)
	return len(rows) > 0, err
}

// tryRights finds out whether the account may write the table.
func (p *pgBackend) tryRights(ctx context.Context, m *mapping) error {
	rows, err := p.query(ctx, "SELECT r FROM unnest(ARRAY['SELECT','INSERT','UPDATE','DELETE']) r WHERE NOT has_table_privilege($1, r) "+
		"UNION ALL SELECT 'USAGE of the schema' WHERE NOT has_schema_privilege($2, 'USAGE')", p.ident(m.to), m.to.schema)
	var lacks []string
	for _, r := range rows {
		lacks = append(lacks, r[0].text)
	}
	if err == nil && lacks != nil {
		err = fmt.Errorf("the account has no right to %s: GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO the account of the DSN, and USAGE ON SCHEMA %s",
			strings.Join(lacks, ", "), p.ident(m.to), quoteName(m.to.schema))
	}
	return err
}

func (p *pgBackend) acts(ctx context.Context, schema, name, parent string, k ForeignKey) (bool, error) {
	rules := map[string]string{"CASCADE": "c", "SET NULL": "n", "SET DEFAULT": "d"}
	rows, err := p.query(ctx, "SELECT fn.nspname, f.relname, k.confdeltype::text, k.confupdtype::text FROM pg_catalog.pg_constraint k "+
		"JOIN pg_catalog.pg_class c ON c.oid=k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid=c.relnamespace "+
		"JOIN pg_catalog.pg_class f ON f.oid=k.confrelid JOIN pg_catalog.pg_namespace fn ON fn.oid=f.relnamespace "+
		"WHERE k.contype='f' AND n.nspname=$1 AND c.relname=$2 AND "+
		"(SELECT array_agg(a.attname::text ORDER BY x.i) FROM unnest(k.conkey) WITH ORDINALITY x(n,i) JOIN pg_catalog.pg_attribute a ON a.attrelid=k.conrelid AND a.attnum=x.n)=$3::text[]",
		schema, name, pgTexts(k.Columns))
	for _, r := range rows {
		same := func(have, want string) bool {
			return have == rules[want] || rules[want] == "" && (have == "a" || have == "r")
		}
		if p.tableKey(r[0].text, r[1].text) == parent && same(r[2].text, k.OnDelete) && same(r[3].text, k.OnUpdate) {
			return true, err
		}
	}
	return false, err
}

// pgTexts returns names as the text of an array.
func pgTexts(names []string) string {
	b := []byte{'{'}
	for i, n := range names {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendElement(b, []byte(n))
	}
	return string(append(b, '}'))
}

func (p *pgBackend) typeOf(c *dfs.Column, t convert.Type) (string, error) {
	if err := pgNames(c.Name); err != nil {
		return "", err
	}
	if _, scale := t.Decimal(); t.Name == "bit" && bits(t) == 0 || scale < 0 {
		return "", fmt.Errorf("column %s: the type %s has no length", c.Name, c.Type)
	}
	if len(c.Members) > 0 {
		return "text", nil
	}
	return pgType(c, t), nil
}

func (p *pgBackend) literal(c *dfs.Column, v dfs.Value) (string, error) {
	t, err := convert.Parse(convert.TypeText(c))
	if err != nil {
		return "", err
	}
	typ, err := p.typeOf(c, t)
	if err != nil {
		return "", err
	}
	base, _, _ := strings.Cut(typ, "(")
	names := map[string]string{"smallint": "int2", "integer": "int4", "bigint": "int8", "real": "float4", "double precision": "float8"}
	if short := names[base]; short != "" {
		base = short
	}
	col := pgColumn{sc: c, tc: &targetColumn{base: base, precision: -1, scale: 1000}, from: t, unfit: p.unfit}
	if base == "bit" {
		col.tc.precision = bits(t)
	}
	f := col.find()
	if f == nil {
		return "", fmt.Errorf("%v is not understood", v)
	}
	text, err := f([]byte{}, v)
	switch {
	case err != nil:
		return "", err
	case text == nil:
		return "NULL", nil
	}
	return "'" + strings.ReplaceAll(string(text), "'", "''") + "'", nil
}

func (p *pgBackend) index(t *table, k plainKey) string {
	verb := "CREATE INDEX "
	if k.unique {
		verb = "CREATE UNIQUE INDEX "
	}
	return verb + quoteName(pgIndexName(t, k.name)) + " ON " + p.ident(t) + " (" + quoteNames(k.columns) + ")"
}

func (p *pgBackend) inlineKeys([]ForeignKey) []string { return nil }

// create runs the statements in one transaction.
func (p *pgBackend) create(ctx context.Context, t *table, list []string) error {
	if err := pgNames(t.schema, t.name); err != nil {
		return err
	}
	rows, err := p.query(ctx, "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname=$1", t.schema)
	if err == nil && len(rows) == 0 {
		list = append([]string{"CREATE SCHEMA " + quoteName(t.schema)}, list...)
	}
	if err == nil {
		_, err = p.simple(ctx, strings.Join(list, ";\n"))
	}
	if pgCode(err) == "42501" {
		err = fmt.Errorf("%w: GRANT CREATE ON SCHEMA %s TO the account of the DSN, or on the database, or create the table by hand", err, quoteName(t.schema))
	}
	return err
}

func (p *pgBackend) addForeignKey(ctx context.Context, k ForeignKey, made []string) error {
	to := &table{}
	to.schema, to.name = match.Target(p.core.routes, k.Schema, k.Table)
	if !k.ParentFollowed || !slices.Contains(made, to.schema+"."+to.name) {
		return nil
	}
	_, err := p.simple(ctx, "ALTER TABLE "+p.ident(to)+" ADD "+p.core.references(k))
	if err != nil {
		return fmt.Errorf("adding the foreign key %s to %s: %w", k.Name, p.ident(to), err)
	}
	return nil
}

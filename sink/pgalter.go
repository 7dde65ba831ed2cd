package sink

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/dataflowsync/dfs/internal/ddl"
)

func (p *pgBackend) altered() {}

func (p *pgBackend) takesName(t *table) error { return pgNames(t.schema, t.name) }

// pgCut finds what pgIndexName puts behind a name that it has cut.
var pgCut = regexp.MustCompile(`~[0-9a-f]{16}$`)

// pgIndexName is indexName, as long as a name may be.
func pgIndexName(t *table, name string) string {
	s := indexName(t, name)
	if len(s) <= pgNameMax {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return strings.ToValidUTF8(s[:pgNameMax-17], "") + fmt.Sprintf("~%x", sum[:8])
}

func (p *pgBackend) indexName(t *table, name string) string { return pgIndexName(t, name) }

func (p *pgBackend) do(ctx context.Context, list ...string) error {
	for _, s := range list {
		if err := p.core.run(ctx, s); err != nil {
			return p.mayNot(err)
		}
	}
	return nil
}

// mayNot adds the cure for a right that is missing.
func (p *pgBackend) mayNot(err error) error {
	if pgCode(err) == "42501" {
		return fmt.Errorf("%w: only the owner of a table may alter it: ALTER TABLE ... OWNER TO the account of the DSN, and GRANT CREATE ON its schema", err)
	}
	return err
}

func (p *pgBackend) alter(ctx context.Context, t *table, clause string) error {
	return p.do(ctx, "ALTER TABLE "+p.ident(t)+" "+clause)
}

func (p *pgBackend) createSchema(ctx context.Context, schema string) error {
	if err := pgNames(schema); err != nil {
		return err
	}
	rows, err := p.query(ctx, "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname=$1", schema)
	if err != nil || len(rows) > 0 {
		return err
	}
	return p.do(ctx, "CREATE SCHEMA "+quoteName(schema))
}

// dropSchema drops a schema and the tables in it, but nothing that is no table.
func (p *pgBackend) dropSchema(ctx context.Context, schema string) error {
	rows, err := p.query(ctx, "SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid=c.relnamespace "+
		"WHERE n.nspname=$1 AND c.relkind IN ('r','p') AND NOT c.relispartition ORDER BY 1", schema)
	if err != nil {
		return err
	}
	var names []string
	for _, r := range rows {
		names = append(names, p.ident(&table{schema: schema, name: r[0].text}))
	}
	if names != nil {
		if err := p.do(ctx, "DROP TABLE "+strings.Join(names, ", ")); err != nil {
			return err
		}
	}
	return p.do(ctx, "DROP SCHEMA IF EXISTS "+quoteName(schema))
}

func (p *pgBackend) createLike(ctx context.Context, t, like *table) error {
	if err := pgNames(t.schema, t.name); err != nil {
		return err
	}
	old, err := p.loadTable(ctx, like.schema, like.name)
	if err != nil {
		return err
	}
	list, err := p.indexes(ctx, like)
	if err == nil {
		err = p.do(ctx, "CREATE TABLE "+p.ident(t)+" (LIKE "+p.ident(like)+" INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED)")
	}
	if err != nil {
		return err
	}
	if len(old.primary) > 0 {
		var names []string
		for _, i := range old.primary {
			names = append(names, old.columns[i].name)
		}
		if err := p.setPrimary(ctx, t, names); err != nil {
			return err
		}
	}
	for _, x := range list {
		name, ours := strings.CutPrefix(x.name, like.name+".")
		if !ours || !x.plain {
			if x.unique {
				return fmt.Errorf("the target's table %s has the unique index %s, which is not one of the source's: make the new table by hand", p.ident(like), quoteName(x.name))
			}
			continue
		}
		if err := p.do(ctx, p.index(t, plainKey{name, x.unique, x.columns})); err != nil {
			return err
		}
	}
	return nil
}

func (p *pgBackend) renameTable(ctx context.Context, t, to *table) error {
	if err := pgNames(to.schema, to.name); err != nil {
		return err
	}
	if t.schema != to.schema {
		if err := p.createSchema(ctx, to.schema); err != nil {
			return err
		}
		if err := p.alter(ctx, t, "SET SCHEMA "+quoteName(to.schema)); err != nil {
			return err
		}
	}
	if t.name == to.name {
		return nil
	}
	return p.alter(ctx, &table{schema: to.schema, name: t.name}, "RENAME TO "+quoteName(to.name))
}

// truncate empties a table. TRUNCATE is refused for one that others refer to.
func (p *pgBackend) truncate(ctx context.Context, t *table) error {
	now, err := p.loadTable(ctx, t.schema, t.name)
	if err != nil {
		return err
	}
	if len(now.children) > 0 {
		return p.do(ctx, "DELETE FROM "+p.ident(t))
	}
	return p.do(ctx, "TRUNCATE "+p.ident(t))
}

func (p *pgBackend) indexes(ctx context.Context, t *table) (list []targetIndex, err error) {
	rows, err := p.query(ctx, "SELECT c.relname, i.indisunique, i.indexprs IS NULL AND i.indpred IS NULL AND i.indnkeyatts=i.indnatts AND m.amname='btree', "+
		"EXISTS (SELECT 1 FROM pg_catalog.pg_constraint k WHERE k.conindid=i.indexrelid AND k.conrelid=i.indrelid AND k.contype IN ('u','x')), "+
		"COALESCE((SELECT json_agg(a.attname ORDER BY k.n) FROM unnest(i.indkey) WITH ORDINALITY k(att,n) JOIN pg_catalog.pg_attribute a ON a.attrelid=i.indrelid AND a.attnum=k.att),'[]')::text "+
		"FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid=i.indexrelid JOIN pg_catalog.pg_am m ON m.oid=c.relam "+
		"JOIN pg_catalog.pg_class r ON r.oid=i.indrelid JOIN pg_catalog.pg_namespace n ON n.oid=r.relnamespace "+
		"WHERE n.nspname=$1 AND r.relname=$2 AND NOT i.indisprimary ORDER BY 1", t.schema, t.name)
	for _, r := range rows {
		x := targetIndex{name: r[0].text, unique: r[1].text == "t", plain: r[2].text == "t", constraint: r[3].text == "t"}
		if err := json.Unmarshal([]byte(r[4].text), &x.columns); err != nil {
			return nil, err
		}
		list = append(list, x)
	}
	return list, err
}

func (p *pgBackend) dropIndex(ctx context.Context, t *table, ix *targetIndex) error {
	if ix.constraint {
		return p.alter(ctx, t, "DROP CONSTRAINT "+quoteName(ix.name))
	}
	return p.do(ctx, "DROP INDEX "+quoteName(t.schema)+"."+quoteName(ix.name))
}

func (p *pgBackend) renameIndex(ctx context.Context, t *table, ix *targetIndex, name string) error {
	return p.do(ctx, "ALTER INDEX "+quoteName(t.schema)+"."+quoteName(ix.name)+" RENAME TO "+quoteName(name))
}

func (p *pgBackend) addColumn(ctx context.Context, t *table, n *newColumn, keep bool) error {
	err := p.alter(ctx, t, "ADD COLUMN "+n.item())
	if err == nil && !keep {
		err = p.setDefault(ctx, t, n.name, "")
	}
	return err
}

func (p *pgBackend) dropColumn(ctx context.Context, t *table, column string) error {
	return p.alter(ctx, t, "DROP COLUMN "+quoteName(column))
}

func (p *pgBackend) renameColumn(ctx context.Context, t *table, column, name string) error {
	if err := pgNames(name); err != nil {
		return err
	}
	j := t.column(column)
	if j < 0 {
		return fmt.Errorf("the target's table %s has no column %s", p.ident(t), column)
	}
	return p.alter(ctx, t, "RENAME COLUMN "+quoteName(t.columns[j].name)+" TO "+quoteName(name))
}

func (p *pgBackend) changeColumn(ctx context.Context, t *table, n *newColumn) error {
	alter := "ALTER COLUMN " + quoteName(n.name) + " "
	typ := alter + "TYPE " + n.typ
	if n.empty {
		typ += " USING NULL::" + n.typ // there need be no cast
	}
	list := []string{alter + "DROP DEFAULT", typ}
	if n.literal != "" {
		list = append(list, alter+"SET DEFAULT "+n.literal)
	}
	if n.notNull {
		list = append(list, alter+"SET NOT NULL")
	} else {
		list = append(list, alter+"DROP NOT NULL")
	}
	if old := &t.columns[t.column(n.name)]; old.optional && !old.nullable {
		// An identity has no default that can be dropped, and goes on.
		rows, err := p.query(ctx, "SELECT 1 FROM pg_catalog.pg_attribute WHERE attrelid=$1::regclass AND attname=$2 AND attidentity<>''", p.ident(t), n.name)
		switch {
		case err != nil:
			return err
		case len(rows) > 0:
			list = []string{typ}
		}
	}
	return p.alter(ctx, t, strings.Join(list, ", "))
}

func (p *pgBackend) setDefault(ctx context.Context, t *table, column, literal string) error {
	what := "DROP DEFAULT"
	if literal != "" {
		what = "SET DEFAULT " + literal
	}
	return p.alter(ctx, t, "ALTER COLUMN "+quoteName(column)+" "+what)
}

func (p *pgBackend) setPrimary(ctx context.Context, t *table, columns []string) error {
	rows, err := p.query(ctx, "SELECT conname FROM pg_catalog.pg_constraint WHERE conrelid=$1::regclass AND contype='p'", p.ident(t))
	if err != nil {
		return err
	}
	for _, r := range rows {
		if err := p.alter(ctx, t, "DROP CONSTRAINT "+quoteName(r[0].text)); err != nil {
			return err
		}
	}
	if len(columns) == 0 {
		return nil
	}
	return p.alter(ctx, t, "ADD PRIMARY KEY ("+quoteNames(columns)+")")
}

// errConversion says that values would have to be made into others.
var errConversion = errors.New("its values would become others, in a way that is not known to be the source's")

// converts allows what PostgreSQL's assignment casts do exactly, or refuse.
func (p *pgBackend) converts(ctx context.Context, t *table, def *ddl.ColumnDef, n *newColumn, _, done bool) error {
	rows, err := p.query(ctx, "SELECT a.atttypid::regtype::text, format_type(a.atttypid,a.atttypmod), format_type($3::regtype, NULL) "+
		"FROM pg_catalog.pg_attribute a WHERE a.attrelid=$1::regclass AND a.attname=$2", p.ident(t), n.name, pgBare(n.typ))
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		return fmt.Errorf("the target's table %s has no such column", p.ident(t))
	}
	if done {
		return p.fits(ctx, t, def, n)
	}
	old := t.columns[t.column(n.name)]
	from, to := rows[0][0].text, rows[0][2].text
	integer := func(s string) bool { return s == "smallint" || s == "integer" || s == "bigint" }
	switch {
	case from == to && from != "numeric" && from != "bit":
		// Of digits after the second there must not become fewer.
		if strings.HasPrefix(from, "timestamp") || from == "interval" {
			if was, is := max(old.precision, 0), pgArg(n.typ); is < was || old.precision < 0 {
				return errConversion
			}
		}
		return nil
	case from == to && from == "bit":
		if old.precision != pgArg(n.typ) {
			return errConversion
		}
		return nil
	case from == "numeric" && to == "numeric":
		if scale := pgScale(n.typ); old.precision < 0 || scale < old.scale {
			return errConversion
		}
		return nil
	case integer(from) && integer(to), integer(from) && to == "numeric", from == "numeric" && old.precision > 0 && old.scale == 0 && integer(to),
		from == "real" && to == "double precision",
		from == "character varying" && to == "text", from == "text" && to == "character varying":
		return nil
	}
	return fmt.Errorf("from %s to %s: %w", rows[0][1].text, n.typ, errConversion)
}

// fits refuses values that a source's column of the new type has in another form.
func (p *pgBackend) fits(ctx context.Context, t *table, def *ddl.ColumnDef, n *newColumn) error {
	name, where := quoteName(n.name), ""
	word, _, _ := strings.Cut(def.Type, "(")
	word, _, _ = strings.Cut(word, " ")
	switch {
	case word == "enum":
		where = name + " NOT IN (" + quotedList(def.Members) + ")"
	case word == "set", word == "year", word == "inet4", word == "inet6",
		(word == "float" || word == "double") && strings.Contains(def.Type, "("):
		where = name + " IS NOT NULL"
	case word == "char":
		where = name + " LIKE '% '"
	case word == "binary":
		where = fmt.Sprintf("octet_length(%s)<>%d", name, pgArg(def.Type))
	default:
		return nil
	}
	some, err := p.core.anyRow(ctx, t, where)
	if err == nil && some {
		err = errConversion
	}
	return err
}

// quotedList returns texts as literals with commas between.
func quotedList(list []string) string {
	var out []string
	for _, s := range list {
		out = append(out, "'"+strings.ReplaceAll(s, "'", "''")+"'")
	}
	return strings.Join(out, ",")
}

// pgBare returns a type without what is in parentheses.
func pgBare(typ string) string {
	head, rest, ok := strings.Cut(typ, "(")
	if !ok {
		return typ
	}
	_, tail, _ := strings.Cut(rest, ")")
	return head + tail
}

// pgArg returns the first number in parentheses, or 0.
func pgArg(typ string) (n int) {
	_, rest, _ := strings.Cut(typ, "(")
	for _, c := range rest {
		if c < '0' || c > '9' {
			break
		}
		n = 10*n + int(c-'0')
	}
	return n
}

// pgScale returns the second number in parentheses, or 0.
func pgScale(typ string) int {
	_, rest, ok := strings.Cut(typ, ",")
	if !ok {
		return 0
	}
	return pgArg("(" + rest)
}

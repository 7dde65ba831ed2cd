package sink

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// loadTable reads what the catalogs say of a table.
func (p *pgBackend) loadTable(ctx context.Context, schema, name string) (*table, error) {
	if err := pgNames(schema, name); err != nil {
		return nil, err
	}
	t := &table{schema: schema, name: name, key: p.tableKey(schema, name), overriding: " OVERRIDING SYSTEM VALUE"}
	rows, err := p.query(ctx, "SELECT c.oid, c.relkind, c.relpersistence FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid=c.relnamespace "+
		"WHERE n.nspname=$1 AND c.relname=$2", schema, name)
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("the target has no table %s: create it, or have CreateTables do so (create_tables in the file), or route the source's table elsewhere", p.ident(t))
	}
	oid := rows[0][0].text
	switch kind, persistence := rows[0][1].text, rows[0][2].text; {
	case kind != "r" && kind != "p":
		return nil, fmt.Errorf("the target's %s is no table (relkind %s): route the source's table elsewhere", p.ident(t), kind)
	case persistence == "u":
		return nil, fmt.Errorf("the target's table %s is UNLOGGED, so that a crash would empty it and leave the checkpoint: ALTER TABLE %s SET LOGGED", p.ident(t), p.ident(t))
	default:
		t.partitioned = kind == "p"
	}
	at, err := p.loadColumns(ctx, t, oid)
	if err == nil {
		err = p.loadKeys(ctx, t, oid, at)
	}
	if err == nil {
		err = p.loadForeignKeys(ctx, t, oid, at)
	}
	if err != nil {
		return nil, err
	}
	rows, err = p.query(ctx, "SELECT tgname, tgenabled FROM pg_catalog.pg_trigger WHERE tgrelid=$1::oid AND NOT tgisinternal AND tgenabled<>'D' "+
		"UNION ALL SELECT rulename, 'A' FROM pg_catalog.pg_rewrite WHERE ev_class=$1::oid AND ev_type<>'1'", oid)
	for _, r := range rows {
		t.inPlace = true
		if r[1].text == "O" && t.userTrigger == "" {
			t.userTrigger = r[0].text
		}
	}
	return t, err
}

// pgNames refuses names that PostgreSQL would cut, and so might take for others.
func pgNames(names ...string) error {
	for _, n := range names {
		switch {
		case len(n) > pgNameMax:
			return fmt.Errorf("the name %q has %d bytes, and PostgreSQL cuts names after %d: route the table, or rename the column on the way", n, len(n), pgNameMax)
		case n == "":
			return fmt.Errorf("a name is empty")
		case strings.ContainsRune(n, 0):
			return fmt.Errorf("the name %q has a character that PostgreSQL cannot hold", n)
		}
	}
	return nil
}

// loadColumns returns the index of each column by its number in the catalogs.
func (p *pgBackend) loadColumns(ctx context.Context, t *table, oid string) (map[string]int, error) {
	rows, err := p.query(ctx, "SELECT a.attnum, a.attname, format_type(a.atttypid,-1), a.attnotnull OR t.typnotnull, a.attidentity<>'', a.attgenerated<>'', a.atthasdef, "+
		"CASE t.typtype WHEN 'd' THEN b.typname WHEN 'e' THEN 'enum' ELSE t.typname END, CASE t.typtype WHEN 'd' THEN t.typtypmod ELSE a.atttypmod END, "+
		"NOT COALESCE(c.collisdeterministic,true) OR COALESCE(b.typname,t.typname)='citext' "+
		"FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid=a.atttypid LEFT JOIN pg_catalog.pg_type b ON b.oid=t.typbasetype AND t.typtype='d' "+
		"LEFT JOIN pg_catalog.pg_collation c ON c.oid=a.attcollation WHERE a.attrelid=$1::oid AND a.attnum>0 AND NOT a.attisdropped ORDER BY a.attnum", oid)
	if err != nil {
		return nil, err
	}
	at := make(map[string]int)
	for _, r := range rows {
		yes := func(i int) bool { return r[i].text == "t" }
		c := targetColumn{name: r[1].text, typ: r[2].text, nullable: !yes(3), generated: yes(5), base: r[7].text, collates: yes(9), precision: -1}
		c.optional = c.nullable || yes(4) || yes(6)
		if mod, err := strconv.Atoi(r[8].text); err == nil && mod >= 0 {
			switch c.base {
			case "varchar", "bpchar":
				c.precision = mod - 4
			case "numeric":
				// From PostgreSQL 15 on the scale is a signed number of 11 bits.
				c.precision, c.scale = (mod-4)>>16, ((mod-4)&0x7ff^1024)-1024
			case "interval":
				if c.precision = mod & 0xffff; c.precision == 0xffff {
					c.precision = -1
				}
			default:
				c.precision = mod
			}
		}
		at[r[0].text] = len(t.columns)
		t.columns = append(t.columns, c)
	}
	return at, nil
}

func (p *pgBackend) loadKeys(ctx context.Context, t *table, oid string, at map[string]int) error {
	rows, err := p.query(ctx, "SELECT c.relname, i.indisprimary, i.indkey::text, i.indnkeyatts, i.indpred IS NOT NULL, i.indisvalid "+
		"FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid=i.indexrelid WHERE i.indrelid=$1::oid AND i.indisunique ORDER BY 1", oid)
	if err != nil {
		return err
	}
	for _, r := range rows {
		ix := index{name: r[0].text}
		n := int(r[3].uint())
		for k, num := range strings.Fields(r[2].text) {
			j, known := at[num]
			switch {
			case k >= n: // INCLUDE
			case !known:
				ix.opaque = true // an expression
			default:
				ix.columns = append(ix.columns, j)
				ix.nullable = ix.nullable || t.columns[j].nullable
			}
		}
		// One over some of the rows, or one that is being built, finds no row.
		ix.nullable = ix.nullable || r[4].text == "t" || r[5].text != "t"
		if r[1].text == "t" && !ix.nullable {
			t.primary = ix.columns
		} else {
			t.uniques = append(t.uniques, ix)
		}
	}
	return nil
}

func (p *pgBackend) loadForeignKeys(ctx context.Context, t *table, oid string, at map[string]int) error {
	for _, side := range []struct {
		mine, other, key string
		list             *[]foreignKey
	}{{"conrelid", "confrelid", "conkey", &t.parents}, {"confrelid", "conrelid", "confkey", &t.children}} {
		rows, err := p.query(ctx, "SELECT n.nspname, c.relname, array_to_string(k."+side.key+",' '), k.confdeltype::text||k.confupdtype::text "+
			"FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid=k."+side.other+" JOIN pg_catalog.pg_namespace n ON n.oid=c.relnamespace "+
			"WHERE k.contype='f' AND k."+side.mine+"=$1::oid ORDER BY k.oid", oid)
		if err != nil {
			return err
		}
		for _, r := range rows {
			fk := foreignKey{other: p.tableKey(r[0].text, r[1].text), acts: strings.Trim(r[3].text, "ar") != ""}
			for _, num := range strings.Fields(r[2].text) {
				if j, known := at[num]; known {
					fk.columns = append(fk.columns, j)
					t.madeRefs = t.madeRefs || t.columns[j].generated
				}
			}
			t.selfRef = t.selfRef || fk.other == t.key
			*side.list = append(*side.list, fk)
		}
	}
	return nil
}

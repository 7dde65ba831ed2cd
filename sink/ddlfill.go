package sink

import (
	"context"
	"fmt"
)

// fills refuses an ALTER TABLE that may give rows of the target other values
// than those of the source, or leave other rows, which no log would show: numbers
// in an order that each server chooses, or what not only the rows and the logged
// part of the session decide about.
//
// All of the servers read the rows of an InnoDB table in the order of the
// primary key that it has before the statement. The order of partitions, and of
// rows in other engines, depends on what became of the table since it was made.
func (m *MySQL) fills(ctx context.Context, r *routed) error {
	f := &r.fill
	if !f.Numbers && !f.Ignores && f.Unproven == "" {
		return nil
	}
	t := &table{schema: r.tables[0].Schema, name: r.tables[0].Name}
	rows, err := m.sess.query(ctx, fmt.Sprintf("SELECT 1 FROM %s LIMIT 2", t.ident()))
	switch n := serverError(err); {
	case n == erNoSuchTable, n == erBadDB:
		return nil // the statement itself tells
	case err != nil:
		return fmt.Errorf("looking whether the target's table has rows that the statement fills: %w", classify(err))
	case len(rows) == 0:
		return nil
	case f.Unproven != "":
		return fmt.Errorf("it fills rows with values made of %s, which each server may make in its own way", f.Unproven)
	case len(rows) == 1:
		return nil
	}
	does := "it numbers the rows"
	if f.Ignores {
		does = "of rows with the same key it keeps one, by the order"
	}
	where := appendQuoted([]byte(" WHERE TABLE_SCHEMA="), t.schema)
	where = appendQuoted(append(where, " AND TABLE_NAME="...), t.name)
	rows, err = m.sess.query(ctx, fmt.Sprintf("SELECT ENGINE, CREATE_OPTIONS LIKE '%%partitioned%%', "+
		"(SELECT COUNT(*) FROM information_schema.STATISTICS%[1]s AND INDEX_NAME='PRIMARY'), "+
		"(SELECT COUNT(*) FROM information_schema.COLUMNS%[1]s AND EXTRA LIKE '%%auto_increment%%' AND COLUMN_NAME=%[2]s) "+
		"FROM information_schema.TABLES%[1]s", where, appendQuoted(nil, f.Column)))
	switch {
	case err != nil:
		return fmt.Errorf("reading how the target's table is kept: %w", classify(err))
	case len(rows) == 0 || rows[0][3].text != "0" && !f.Ignores:
		return nil // a view; or the column does so already, and the rows have their numbers
	case rows[0][2].text == "0":
		return fmt.Errorf("%s of a table without a primary key, in an order that each server chooses for itself", does)
	case rows[0][0].text != "InnoDB", rows[0][1].text != "0", f.Orders:
		return fmt.Errorf("%s of a table that need not be in the order of its primary key, as InnoDB's are that have no partitions and no ORDER BY", does)
	}
	return nil
}

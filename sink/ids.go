package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/match"
)

const idsTable = "dfs_ids"

// IDs reserves blocks of new ids on a MySQL or MariaDB server, for rows that a sink
// will insert there. No other IDs ever gets those, nor does any program whose rows
// are numbered by AUTO_INCREMENT. It is an allocator of package relmgr. Its methods
// may be called at any time.
//
// Each column has a row in the table dfs_ids, beside the checkpoints, with the next
// id that is free; whoever reserves holds this row. If the column is AUTO_INCREMENT
// the server's counter is moved past the block by the insert of a row, which is
// undone: that needs no lock that a running pipeline would have to wait for. So the
// ids are the target's for good, also when the process ends before they are used.
// A row with a number that a program chose by itself is only seen if it is there
// already. A server before MySQL 8.0 (MariaDB 10.2.4) forgets its counter when it
// restarts, and servers of a cluster that all take writes have one each: there an
// insert of another program may get an id of a block, and one of the two then fails
// for the key that is taken.
type IDs struct {
	connector dialer
	schema    string
	table     string // quoted
	routes    []match.Route

	mu   sync.Mutex // guards the session
	sess *session
	made bool // the table is there

	ahead bool // an insert of many rows takes all their numbers at once
}

// OpenIDs connects to the server that dsn names, as OpenMySQL does. Of opts it
// needs Schema and Routes, which should be those of the sink.
func OpenIDs(ctx context.Context, dsn string, opts *MySQLOptions) (*IDs, error) {
	if opts == nil {
		opts = &MySQLOptions{}
	}
	d := &IDs{schema: opts.Schema}
	if d.schema == "" {
		d.schema = "dfs"
	}
	var errs []error
	var err error
	if d.connector, err = connector(dsn); err != nil {
		errs = append(errs, err)
	}
	for _, r := range opts.Routes {
		parsed, err := match.ParseRoute(r.From, r.To)
		if err != nil {
			errs = append(errs, err)
		}
		d.routes = append(d.routes, parsed)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("opening the reservation of ids: %w", err)
	}
	d.table = string(appendIdent(append(appendIdent(nil, d.schema), '.'), idsTable))
	d.mu.Lock()
	defer d.mu.Unlock()
	return d, d.connect(ctx)
}

func (d *IDs) connect(ctx context.Context) error {
	if d.sess != nil {
		return nil
	}
	s, err := openSession(ctx, d.connector, true)
	if err != nil {
		return err
	}
	if !d.made {
		if err := d.setUp(ctx, s); err != nil {
			s.close()
			return err
		}
		d.made = true
	}
	// The rows that move a counter are of nothing but defaults.
	set := "SET foreign_key_checks=0, sql_mode='" + looseMode + "'"
	if !s.srv.mariadb && s.srv.major >= 8 {
		set += ", information_schema_stats_expiry=0"
	}
	mode, err := s.query(ctx, "SELECT @@innodb_autoinc_lock_mode")
	if err == nil {
		_, err = s.exec(ctx, []byte(set))
	}
	if err != nil {
		s.close()
		return classify(err)
	}
	d.ahead = mode[0][0].text != "0"
	d.sess = s
	return nil
}

func (d *IDs) setUp(ctx context.Context, s *session) error {
	create := "CREATE TABLE IF NOT EXISTS " + d.table + " (\n" +
		"  name varbinary(600) NOT NULL PRIMARY KEY COMMENT 'schema.table.column',\n" +
		"  next bigint unsigned NOT NULL COMMENT 'the least id that no pipeline has reserved'\n" +
		") ENGINE=InnoDB"
	_, err := s.query(ctx, "SELECT 1 FROM "+d.table+" LIMIT 1")
	switch serverError(err) {
	case erNoSuchTable, erBadDB:
		if _, err = s.exec(ctx, []byte(create)); serverError(err) == erBadDB {
			schema := appendIdent([]byte("CREATE DATABASE IF NOT EXISTS "), d.schema)
			_, err = s.exec(ctx, append(append(schema, ';'), create...))
		}
	}
	if err != nil {
		return fmt.Errorf("preparing the table of ids: %w; as an administrator of the target run: CREATE DATABASE IF NOT EXISTS `%s`; %s; "+
			"GRANT SELECT, INSERT, UPDATE ON %s TO the account of the DSN", classify(err), d.schema, create, d.table)
	}
	return nil
}

// Close ends the connection.
func (d *IDs) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.drop()
	return nil
}

func (d *IDs) drop() {
	if d.sess != nil {
		d.sess.close()
		d.sess = nil
	}
}

// Numbers of the server's errors that only matter here.
const (
	erAutoIncFailed    = 1467
	erDataOutOfRange   = 1264
	erCheckViolated    = 3819 // MySQL
	erConstraintFailed = 4025 // MariaDB
	erNoDefault        = 1364
	erBadNull          = 1048
)

// idColumn is what the target says of a column.
type idColumn struct {
	table  string // quoted
	name   string // quoted
	key    string // of its row in dfs_ids
	there  bool
	auto   bool
	most   uint64
	locked bool // no insert that is undone moves the counter: see describe
	parts  bool // partitioned
}

// Reserve reserves up to n consecutive ids, of at least least, for a column of a
// table, "schema.table" as rows of it reach the sink: Routes apply. It returns the
// first of them and how many there are; 0 if the column holds no greater number. A
// table that is not there yet has ids from 1 on. Errors that may pass are marked as
// transient.
func (d *IDs) Reserve(ctx context.Context, table, column string, least, n uint64) (first, got uint64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.connect(ctx); err != nil {
		return 0, 0, err
	}
	schema, name, _ := strings.Cut(table, ".")
	schema, name = match.Target(d.routes, schema, name)
	first, got, err = d.reserve(ctx, schema, name, column, max(least, 1), max(n, 1))
	if err != nil {
		d.drop() // whatever it held
		return 0, 0, fmt.Errorf("reserving ids of %s.%s.%s: %w", schema, name, column, classify(err))
	}
	return first, got, nil
}

// Advance makes sure that no id of the column before next is reserved again, and
// reports whether any might have been: see package relmgr's Advancer.
func (d *IDs) Advance(ctx context.Context, table, column string, next uint64) (behind bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.connect(ctx); err != nil {
		return false, err
	}
	schema, name, _ := strings.Cut(table, ".")
	schema, name = match.Target(d.routes, schema, name)
	if behind, err = d.advance(ctx, d.sess.tableKey(schema, name)+"."+strings.ToLower(column), next); err != nil {
		d.drop()
		return false, fmt.Errorf("telling which ids of %s.%s.%s are reserved: %w", schema, name, column, classify(err))
	}
	return behind, nil
}

func (d *IDs) advance(ctx context.Context, key string, next uint64) (behind bool, err error) {
	rows, err := d.sess.query(ctx, string(appendQuoted([]byte("SELECT next FROM "+d.table+" WHERE name=_binary"), key)))
	if err != nil || len(rows) > 0 && rows[0][0].uint() >= next {
		return false, err
	}
	if err := fits(key); err != nil {
		return false, err
	}
	b := appendQuoted([]byte("INSERT INTO "+d.table+" VALUES (_binary"), key)
	_, err = d.sess.exec(ctx, fmt.Appendf(b, ",%d) ON DUPLICATE KEY UPDATE next=GREATEST(next, VALUES(next))", next))
	return true, err
}

// fits reports a name that the table of ids would cut.
func fits(key string) error {
	if len(key) > longestName {
		return fmt.Errorf("the name %.40q... has %d bytes, and the table of ids holds %d: give the table or the column a shorter one", key, len(key), longestName)
	}
	return nil
}

// longestName is the length of dfs_ids.name.
const longestName = 600

func (d *IDs) reserve(ctx context.Context, schema, name, column string, least, n uint64) (first, got uint64, err error) {
	s := d.sess
	c, err := d.describe(ctx, schema, name, column)
	if err == nil {
		err = fits(c.key)
	}
	if err != nil {
		return 0, 0, err
	}
	if _, err := s.exec(ctx, append(appendQuoted(append([]byte("INSERT IGNORE INTO "), d.table+" VALUES (_binary"...), c.key), ",1)"...)); err != nil {
		return 0, 0, err
	}
	if c.locked {
		return d.reserveLocked(ctx, c, least, n)
	}
	if _, err := s.exec(ctx, []byte("BEGIN")); err != nil {
		return 0, 0, err
	}
	next, err := d.next(ctx, c, " FOR UPDATE")
	if err != nil {
		return 0, 0, err
	}
	first, got = max(next, least), n
	switch {
	case first > c.most:
	case c.auto:
		first, got, err = d.moveCounter(ctx, c, first, n)
		switch serverError(err) {
		case 0:
		case erDupEntry, erDupEntryWithKey, erCheckViolated, erConstraintFailed, erNoDefault, erBadNull:
			// No row of defaults can be inserted.
			if _, err := s.exec(ctx, []byte("ROLLBACK")); err != nil {
				return 0, 0, err
			}
			return d.reserveLocked(ctx, c, least, n)
		}
		if err != nil {
			return 0, 0, err
		}
	case c.there:
		greatest, err := d.greatest(ctx, c)
		if err != nil {
			return 0, 0, err
		}
		first = max(first, greatest+1)
	}
	if first > c.most {
		_, err := s.exec(ctx, []byte("ROLLBACK"))
		return 0, 0, err
	}
	got = min(got, c.most-first+1)
	if err := d.setNext(ctx, c, first+got); err != nil {
		return 0, 0, err
	}
	_, err = s.exec(ctx, []byte("COMMIT"))
	return first, got, err
}

// describe reads what the target says of a column.
func (d *IDs) describe(ctx context.Context, schema, name, column string) (*idColumn, error) {
	s := d.sess
	c := &idColumn{most: math.MaxInt64}
	c.table = string(appendIdent(append(appendIdent(nil, schema), '.'), name))
	c.name = string(appendIdent(nil, column))
	c.key = s.tableKey(schema, name) + "." + strings.ToLower(column)
	where := appendQuoted([]byte("TABLE_SCHEMA="), schema)
	where = appendQuoted(append(where, " AND TABLE_NAME="...), name)
	rows, err := s.query(ctx, "SELECT COALESCE(ENGINE,''), COALESCE(CREATE_OPTIONS,'') FROM information_schema.TABLES WHERE "+string(where))
	if err != nil || len(rows) == 0 {
		return c, err
	}
	engine := rows[0][0].text
	c.parts = strings.Contains(strings.ToLower(rows[0][1].text), "partitioned")
	rows, err = s.query(ctx, "SELECT COLUMN_TYPE, EXTRA FROM information_schema.COLUMNS WHERE "+
		string(appendQuoted(append(where, " AND COLUMN_NAME="...), column)))
	if err == nil && len(rows) == 0 {
		err = fmt.Errorf("the table is there and has no column %s: name the right one, by Target in a policy of relmgr", column)
	}
	if err != nil {
		return nil, err
	}
	c.there, c.auto = true, strings.Contains(strings.ToLower(rows[0][1].text), "auto_increment")
	typ := strings.ToLower(rows[0][0].text)
	bits, number := map[string]uint{"tinyint": 7, "smallint": 15, "mediumint": 23, "int": 31, "bigint": 63}[strings.FieldsFunc(typ, func(r rune) bool { return r < 'a' || r > 'z' })[0]]
	switch {
	case !number:
		return nil, fmt.Errorf("its type %s holds no numbers to reserve: use another kind of ids for it in relmgr's policies", typ)
	case strings.Contains(typ, "unsigned") && bits < 63:
		bits++
	}
	c.most = 1<<bits - 1
	where = appendQuoted([]byte("EVENT_OBJECT_SCHEMA="), schema)
	where = appendQuoted(append(where, " AND EVENT_OBJECT_TABLE="...), name)
	rows, err = s.query(ctx, "SELECT 1 FROM information_schema.TRIGGERS WHERE EVENT_MANIPULATION<>'DELETE' AND "+string(where))
	if err != nil || !c.auto {
		return c, err
	}
	if !strings.EqualFold(engine, "InnoDB") {
		return nil, fmt.Errorf("the table is of %s, where a row that moves the counter could not be undone: ALTER TABLE %s ENGINE=InnoDB", engine, c.table)
	}
	// Triggers would act on such a row, in the lock mode 0 an insert takes its numbers
	// one by one, and of a partitioned table servers give out again those that were
	// undone (seen with MySQL 5.6.24 and 9.7.4 and MariaDB 10.11.18).
	c.locked = len(rows) > 0 || !d.ahead || c.parts
	return c, nil
}

func (d *IDs) next(ctx context.Context, c *idColumn, lock string) (uint64, error) {
	rows, err := d.sess.query(ctx, string(appendQuoted([]byte("SELECT next FROM "+d.table+" WHERE name=_binary"), c.key))+lock)
	if err != nil {
		return 0, err
	}
	if len(rows) == 0 {
		return 0, dfs.Transient(errors.New("its row in dfs_ids is gone"))
	}
	return rows[0][0].uint(), nil
}

func (d *IDs) setNext(ctx context.Context, c *idColumn, next uint64) error {
	_, err := d.sess.exec(ctx, appendQuoted(fmt.Appendf(nil, "UPDATE %s SET next=%d WHERE name=_binary", d.table, next), c.key))
	return err
}

// greatest returns the greatest id that is there, 0 if none is.
func (d *IDs) greatest(ctx context.Context, c *idColumn) (uint64, error) {
	rows, err := d.sess.query(ctx, fmt.Sprintf("SELECT GREATEST(COALESCE(MAX(%s),0),0) FROM %s", c.name, c.table))
	if err != nil {
		return 0, err
	}
	return rows[0][0].uint(), nil
}

// moveCounter lets the server's counter give out n consecutive ids, from at least
// least on, all at once, to rows that are undone: InnoDB does not take numbers back.
//
// An INSERT of n rows takes n numbers in one piece when it meets the first row
// without one ("simple" and "mixed-mode inserts" in MySQL's manual on
// innodb_autoinc_lock_mode). So only the first has none; the others are of a row
// that is there, and change nothing. One row under another auto_increment_increment
// would be cheaper, but InnoDB goes back by that where the next session has its own
// (seen with 9.7.4), and so would an ALTER TABLE be, which waits for every open
// transaction, that of the sink too.
func (d *IDs) moveCounter(ctx context.Context, c *idColumn, least, n uint64) (first, got uint64, err error) {
	s := d.sess
	n = min(n, 8192)
	for range 20 {
		if _, err := s.exec(ctx, []byte("SAVEPOINT dfs_ids")); err != nil {
			return 0, 0, err
		}
		first, err = d.insert(ctx, c, n)
		if err == nil && first < least {
			// The counter is behind what was reserved: the server forgot it, or a
			// greater id was asked for.
			_, err = s.exec(ctx, fmt.Appendf(nil, "INSERT IGNORE INTO %s (%s) VALUES (%d)", c.table, c.name, least-1))
		}
		if _, undo := s.exec(ctx, []byte("ROLLBACK TO SAVEPOINT dfs_ids")); err == nil {
			err = undo
		}
		switch serverError(err) {
		case erAutoIncFailed, erDataOutOfRange: // the end is near
			if n == 1 {
				return c.most + 1, 0, nil
			}
			n /= 2
			continue
		}
		if err != nil || first >= least {
			return first, n, err
		}
	}
	return 0, 0, fmt.Errorf("the server counts from %d on, also behind a row of %d", first, least-1)
}

// insert takes n consecutive numbers, and returns the first of them. It leaves rows of
// nothing but defaults.
//
// All rows of an INSERT but the first have the key of a row that is there. So the second
// fails, when the numbers of all are taken, which a failure does not give back. Whose
// they are shows by the rows before and after: if exactly n numbers lie between these,
// nobody else has taken one. Else a statement that does not fail tells, for which the
// server looks at each row: 8192 numbers take it 40 ms and more, and this way 5.
func (d *IDs) insert(ctx context.Context, c *idColumn, n uint64) (first uint64, err error) {
	one := fmt.Appendf(nil, "INSERT INTO %s (%s) VALUES (NULL)", c.table, c.name)
	single := func() (uint64, error) {
		if _, err := d.sess.exec(ctx, one); err != nil {
			return 0, err
		}
		id, err := d.sess.query(ctx, "SELECT LAST_INSERT_ID()")
		if err != nil {
			return 0, err
		}
		return id[0][0].uint(), nil
	}
	there, err := single()
	if n == 1 || err != nil {
		return there, err
	}
	again := fmt.Appendf(nil, ",(%d)", there)
	many := append(slices.Grow(slices.Clone(one), int(n)*len(again)+100), bytes.Repeat(again, int(n-1))...)
	switch _, err := d.sess.exec(ctx, many); serverError(err) {
	case erDupEntry, erDupEntryWithKey:
		after, err := single()
		if err != nil || after-there == n+1 {
			return there + 1, err
		}
	default:
		if err != nil {
			return 0, err
		}
	}
	many = fmt.Appendf(many, " ON DUPLICATE KEY UPDATE %s=%s", c.name, c.name)
	if _, err := d.sess.exec(ctx, many); err != nil {
		return 0, err
	}
	id, err := d.sess.query(ctx, "SELECT LAST_INSERT_ID()")
	if err != nil {
		return 0, err
	}
	return id[0][0].uint(), nil
}

func (c *idColumn) withGrant(err error) error {
	switch serverError(err) {
	case erTableAccess, erDBAccess:
		schema, _, _ := strings.Cut(c.table, ".")
		return fmt.Errorf("%w; its counter can only be moved by ALTER TABLE, as it has triggers or partitions, takes no row of defaults or innodb_autoinc_lock_mode is 0: "+
			"GRANT LOCK TABLES ON %s.* TO the account of the DSN; GRANT ALTER ON %s TO the account of the DSN", err, schema, c.table)
	}
	return err
}

// reserveLocked reserves for a table in which no row of defaults can be inserted,
// or not without consequences: see describe. It keeps others from the table for a
// moment.
func (d *IDs) reserveLocked(ctx context.Context, c *idColumn, least, n uint64) (first, got uint64, err error) {
	s := d.sess
	if _, err := s.exec(ctx, fmt.Appendf(nil, "SET lock_wait_timeout=%d; LOCK TABLES %s WRITE, %s WRITE", lockWait, c.table, d.table)); err != nil {
		return 0, 0, c.withGrant(err)
	}
	next, err := d.next(ctx, c, "")
	if err != nil {
		return 0, 0, err
	}
	greatest, err := d.greatest(ctx, c)
	if err != nil {
		return 0, 0, err
	}
	counter, err := s.query(ctx, "SHOW CREATE TABLE "+c.table)
	if err != nil {
		return 0, 0, err
	}
	first = max(next, least, greatest+1)
	if _, after, ok := strings.Cut(counter[0][1].text, " AUTO_INCREMENT="); ok {
		digits, _, _ := strings.Cut(after, " ")
		first = max(first, cell{text: digits}.uint())
	}
	if first <= c.most {
		got = min(n, c.most-first+1)
		if _, err := s.exec(ctx, fmt.Appendf(nil, "ALTER TABLE %s AUTO_INCREMENT=%d", c.table, first+got)); err != nil {
			return 0, 0, c.withGrant(err)
		}
		if err := d.setNext(ctx, c, first+got); err != nil {
			return 0, 0, err
		}
	}
	_, err = s.exec(ctx, []byte("UNLOCK TABLES"))
	return first, got, err
}

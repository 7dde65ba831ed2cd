package sink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/ddl"
)

// Indexes that wait until the rows of their tables have come are rows of the table
// dfs_index. The rows are written before the table is created, become ready in the
// atomic write that applies the end of the copy, and go once the target has the
// index. So kill -9 at any moment loses none. They are plain indexes, on which
// neither the outcome of a change nor a foreign key depends; so a connection of its
// own adds them while others write, and when does not matter.

const indexTable = "dfs_index"

// A laterIndex is an index to be added.
type laterIndex struct{ name, text string }

// adder adds indexes in the background.
type adder struct {
	table string // quoted
	left  atomic.Int64
	seen  bool // whether there are any was looked up since Open

	mu   sync.Mutex
	stop context.CancelFunc // nil if it does not run
	done chan struct{}
}

func (m *MySQL) createIndexSQL() string {
	return "CREATE TABLE IF NOT EXISTS " + m.adder.table + " (\n" +
		"  name varchar(64) CHARACTER SET utf8 COLLATE utf8_bin NOT NULL COMMENT 'of the pipeline',\n" +
		"  tbl_schema varchar(64) CHARACTER SET utf8 COLLATE utf8_bin NOT NULL,\n" +
		"  tbl_name varchar(64) CHARACTER SET utf8 COLLATE utf8_bin NOT NULL,\n" +
		"  idx varchar(64) CHARACTER SET utf8 COLLATE utf8_bin NOT NULL,\n" +
		"  definition mediumtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,\n" +
		"  ready tinyint NOT NULL DEFAULT 0 COMMENT 'the rows of the table have come',\n" +
		"  PRIMARY KEY (name, tbl_schema, tbl_name, idx)\n" +
		") ENGINE=InnoDB"
}

// mine is the condition for the pipeline's rows.
func (m *MySQL) mine() string { return string(appendQuoted([]byte(" WHERE name="), m.name)) }

// addLater notes indexes of a table that is about to be created.
func (m *MySQL) addLater(ctx context.Context, schema, name string, list []laterIndex) error {
	b := []byte("REPLACE INTO " + m.adder.table + " (name,tbl_schema,tbl_name,idx,definition) VALUES ")
	for i, ix := range list {
		b = appendQuoted(append(b, ",("[1-min(i, 1):]...), m.name)
		for _, s := range [4]string{schema, name, ix.name, ix.text} {
			b = appendQuoted(append(b, ','), s)
		}
		b = append(b, ')')
	}
	_, err := m.exec(ctx, b)
	switch serverError(err) {
	case erNoSuchTable, erBadDB:
		if _, err = m.exec(ctx, []byte(m.createIndexSQL())); err == nil {
			_, err = m.exec(ctx, b)
		}
	}
	if err != nil {
		return fmt.Errorf("noting the indexes to be added to %s.%s: %w; as an administrator of the target run: "+
			"%s; GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO the account of the DSN", schema, name, err, m.createIndexSQL(), m.adder.table)
	}
	m.adder.left.Add(int64(len(list)))
	return nil
}

// dropLater forgets the indexes of a table that could not be created.
func (m *MySQL) dropLater(ctx context.Context, schema, name string) error {
	b := appendQuoted([]byte("DELETE FROM "+m.adder.table+m.mine()+" AND tbl_schema="), schema)
	n, err := m.exec(ctx, appendQuoted(append(b, " AND tbl_name="...), name))
	if err == nil {
		m.adder.left.Add(-n[0])
	}
	return err
}

// resumeIndexes goes on with indexes whose time has come: before the sink was opened,
// or in a transaction whose COMMIT had no reply.
func (m *MySQL) resumeIndexes(ctx context.Context) error {
	if m.adder.seen && (m.adder.left.Load() == 0 || m.adder.runs()) {
		return nil
	}
	rows, err := m.sess.query(ctx, "SELECT COUNT(*), COALESCE(SUM(ready), 0) FROM "+m.adder.table+m.mine())
	switch serverError(err) {
	case erNoSuchTable, erBadDB, erDBAccess, erTableAccess, erColumnAccess:
		m.adder.seen = true // an account that may not read the table has noted none
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading which indexes are to be added: %w", classify(err))
	}
	m.adder.seen = true
	m.adder.left.Store(int64(rows[0][0].uint()))
	if rows[0][1].uint() > 0 {
		m.startAdding()
	}
	return nil
}

// runs reports whether indexes are being added in the background.
func (a *adder) runs() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stop == nil {
		return false
	}
	select {
	case <-a.done:
		return false
	default:
		return true
	}
}

// AddIndexes adds those indexes of tables made by CreateTables that are still to be
// added, whether or not the copy of the rows is known to have ended, and waits for
// it. It is for the end of a pipeline that has copied rows and does nothing more. It
// returns what keeps indexes from being added.
func (m *MySQL) AddIndexes(ctx context.Context) error {
	if err := m.connected(ctx); err != nil {
		return err
	}
	m.stopAdding() // which may be waiting after an error
	_, err := m.exec(ctx, []byte("UPDATE "+m.adder.table+" SET ready=1"+m.mine()))
	if n := serverError(err); n == erNoSuchTable || n == erBadDB {
		return nil
	}
	if err != nil {
		return fmt.Errorf("adding indexes: %w", err)
	}
	s, err := openSession(ctx, m.connector, true)
	if err != nil {
		return reopened(err)
	}
	defer s.close()
	return m.addReady(ctx, s)
}

// startAdding adds the indexes that are ready, in the background.
func (m *MySQL) startAdding() {
	a := &m.adder
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stop != nil {
		a.stop()
		<-a.done
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.stop, a.done = cancel, make(chan struct{})
	go func() {
		defer close(a.done)
		for wait := 10 * time.Second; ; wait = min(2*wait, time.Hour) {
			s, err := openSession(ctx, m.connector, true)
			if err == nil {
				err = m.addReady(ctx, s)
				s.close()
			}
			if err == nil || ctx.Err() != nil {
				return
			}
			m.log.Warn("indexes are still to be added", "err", err, "again in", wait)
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
		}
	}()
}

// stopAdding ends what startAdding has begun.
func (m *MySQL) stopAdding() {
	a := &m.adder
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stop != nil {
		a.stop()
		<-a.done
		a.stop = nil
	}
}

// addReady adds the indexes that are ready, table after table.
func (m *MySQL) addReady(ctx context.Context, s *session) error {
	// A reader of a table that does not end its transaction must not make all writers
	// wait behind the ALTER for long. Sorting in larger pieces needs fewer passes.
	if _, err := s.exec(ctx, []byte("SET lock_wait_timeout=60")); err != nil {
		return classify(err)
	}
	if _, err := s.exec(ctx, []byte("SET innodb_ddl_buffer_size=33554432")); err != nil && serverError(err) == 0 {
		return classify(err)
	}
	return m.addWaiting(ctx, s, func(_, _ string, ready bool) bool { return ready })
}

// addWaiting adds the indexes of those tables that it is told to.
func (m *MySQL) addWaiting(ctx context.Context, s *session, add func(schema, name string, ready bool) bool) error {
	rows, err := s.query(ctx, "SELECT tbl_schema, tbl_name, idx, definition, ready FROM "+m.adder.table+m.mine()+
		" ORDER BY tbl_schema, tbl_name, idx")
	if err != nil {
		return classify(err)
	}
	var errs []error
	for i := 0; i < len(rows); {
		from := i
		var list []laterIndex
		for ; i < len(rows) && rows[i][0].text == rows[from][0].text && rows[i][1].text == rows[from][1].text; i++ {
			list = append(list, laterIndex{rows[i][2].text, rows[i][3].text})
		}
		if !add(rows[from][0].text, rows[from][1].text, rows[from][4].text != "0") {
			continue
		}
		if err := m.addTo(ctx, s, rows[from][0].text, rows[from][1].text, list); err != nil {
			if ctx.Err() != nil || errors.Is(err, dfs.ErrTransient) && serverError(err) != erLockWait {
				return err
			}
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// addBefore adds the indexes that wait for tables which a statement is about to
// alter, drop or rename. Later it might name an index that is not there, or an index
// a column that is gone.
//
// Invariant I1: from the intent of a statement until its end nobody else alters its
// tables, as their footprints tell whether it was run.
func (m *MySQL) addBefore(ctx context.Context, tables []ddl.Table) error {
	if m.adder.left.Load() == 0 {
		return nil
	}
	m.stopAdding()
	s, err := openSession(ctx, m.connector, true)
	if err != nil {
		return err
	}
	defer s.close()
	if _, err := s.exec(ctx, []byte("SET lock_wait_timeout=60")); err != nil {
		return classify(err)
	}
	err = m.addWaiting(ctx, s, func(schema, name string, _ bool) bool {
		return slices.ContainsFunc(tables, func(t ddl.Table) bool {
			return s.tableKey(t.Schema, cmp.Or(t.Name, name)) == s.tableKey(schema, name)
		})
	})
	if err != nil {
		return err
	}
	return m.resumeIndexes(ctx)
}

// addTo adds indexes to one table, those that it has not yet.
func (m *MySQL) addTo(ctx context.Context, s *session, schema, name string, list []laterIndex) error {
	where := appendQuoted([]byte(" WHERE TABLE_SCHEMA="), schema)
	where = appendQuoted(append(where, " AND TABLE_NAME="...), name)
	rows, err := s.query(ctx, "SELECT DISTINCT INDEX_NAME FROM information_schema.STATISTICS"+string(where))
	if err != nil {
		return classify(err)
	}
	there := make(map[string]bool)
	for _, r := range rows {
		there[strings.ToLower(r[0].text)] = true
	}
	b := append(appendIdent(append(appendIdent([]byte("ALTER TABLE "), schema), '.'), name), ' ')
	var add []string
	for _, ix := range list {
		if !there[strings.ToLower(ix.name)] {
			add = append(add, "ADD "+ix.text)
		}
	}
	if len(add) > 0 {
		b = append(b, strings.Join(add, ", ")...)
		m.log.Info("adding indexes", "table", schema+"."+name, "indexes", len(add))
		begun := time.Now()
		_, err := s.exec(ctx, b)
		switch n := serverError(err); {
		case n == erNoSuchTable || n == erBadDB:
			m.log.Warn("a table was dropped before its indexes were added", "table", schema+"."+name)
		case n == erDupKeyName:
			// An ALTER of ours, of which the connection was lost, has just ended.
			return dfs.Transient(fmt.Errorf("adding the indexes of %s.%s: %w", schema, name, err))
		case err != nil:
			return fmt.Errorf("adding the indexes of %s.%s: %w; or run by hand: %s", schema, name, classify(err), b)
		default:
			m.log.Info("added indexes", "table", schema+"."+name, "indexes", len(add), "took", time.Since(begun).Round(time.Millisecond))
		}
	}
	where = appendQuoted([]byte(m.mine()+" AND tbl_schema="), schema)
	where = appendQuoted(append(where, " AND tbl_name="...), name)
	if _, err := s.exec(ctx, append([]byte("DELETE FROM "+m.adder.table), where...)); err != nil {
		return fmt.Errorf("noting that indexes were added to %s.%s: %w: GRANT DELETE ON %s TO the account of the DSN",
			schema, name, classify(err), m.adder.table)
	}
	m.adder.left.Add(-int64(len(list)))
	return nil
}

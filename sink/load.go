package sink

import (
	"bytes"
	"compress/flate"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/failpoint"
)

// Rows that were there already (Transaction.Snapshot) are loaded by several
// connections at once, since one uses but one core of the server. Such rows do not
// depend on each other, and a reader of the target cannot take a copy under way
// for a state of the source; so their order does not matter, and neither does that
// some show before others. That they are applied exactly once does:
//
//  1. Each connection writes a piece of the run in a transaction of its own,
//     together with a marker: a row of dfs_load with the keys of the piece. The
//     marker is written from the checkpoint's row, under a shared lock, if that has
//     the owner and the number that the run begins after. So a piece can only be
//     committed by who may write, and by nobody once a later start owns the row.
//  2. When all pieces are committed, the connection of the checkpoint moves it past
//     the run and deletes the markers, in one transaction.
//     Before the first piece of all, that there may be markers is noted in the
//     checkpoint's row, so that a start which cannot read them does not go on.
//  3. A marker that is there when a start has taken the row over, or when a piece
//     has failed, says that its rows are on the target and not counted in. They are
//     deleted by key, with the marker, in one transaction. All of them were inserted
//     by the piece, which would have failed if one had been there before; and nothing
//     else of the source can have touched them, as it comes after the run.
//
// Invariant I1: what is counted in by the checkpoint moves in one atomic write,
// as markers are gone from when it has moved on, and rows with a marker do not count.
//
// Rows of tables with triggers, without a key, or that overwrite others go the
// ordinary way, as does a run of which a piece has failed for other reasons than a
// lost connection: then the error is that of the row.

const loadTable = "dfs_load"

const (
	defaultLoaders = 4
	maxLoaders     = 64

	// minPiece is how many rows are worth a transaction of their own.
	minPiece = 500
)

// errNotLoaded says that rows must go the ordinary way.
var errNotLoaded = errors.New("the rows cannot be loaded by several connections")

// loader is the connections that load rows. Each is a sink of which only what
// writes groups is used.
type loader struct {
	helpers []*MySQL
	table   string // of markers, quoted
	ready   bool   // it is there
	off     bool   // the account may not use it
}

func (m *MySQL) createLoadSQL() string {
	return "CREATE TABLE IF NOT EXISTS " + m.loader.table + " (\n" +
		"  name varchar(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'of the pipeline',\n" +
		"  piece int unsigned NOT NULL,\n" +
		"  seq bigint unsigned NOT NULL COMMENT 'the checkpoint that the rows come after',\n" +
		"  gone longblob NOT NULL COMMENT 'keys of rows that do not count yet',\n" +
		"  PRIMARY KEY (name, piece)\n" +
		") ENGINE=InnoDB"
}

// loads reports whether a transaction may be loaded beside others.
func loads(tx *dfs.Transaction) bool {
	if !tx.Snapshot || tx.More || tx.Copied {
		return false
	}
	for i := range tx.Changes {
		c := &tx.Changes[i]
		if c.Op != dfs.Insert || !c.NoForeignKeys || c.Part || c.Overwrite {
			return false
		}
	}
	return true
}

// loadable returns how many transactions at the head of the batch may be loaded
// by several connections, which is 0 if they are too few rows, and else how many
// come before the next that may be.
func (m *MySQL) loadable(batch []*dfs.Transaction) (load, rest int) {
	if len(m.loader.helpers) == 0 || m.loader.off || m.open {
		return 0, len(batch)
	}
	rows := 0
	for load < len(batch) && loads(batch[load]) {
		rows += len(batch[load].Changes)
		load++
	}
	if rows >= 2*minPiece {
		return load, 0
	}
	for rest = load; rest < len(batch) && !(batch[rest].Snapshot && (rest == 0 || !batch[rest-1].More) && loads(batch[rest])); rest++ {
	}
	return 0, max(rest, 1)
}

// load applies a run of transactions that are loadable.
func (m *MySQL) load(ctx context.Context, run []*dfs.Transaction) error {
	if err := m.prepareLoad(ctx); err != nil {
		return m.fail(ctx, run, false, err)
	}
	if m.loader.off || len(m.loader.helpers) == 0 {
		return m.apply(ctx, run, true)
	}
	pieces, err := m.share(ctx, run)
	if errors.Is(err, errNotLoaded) {
		return m.apply(ctx, run, true)
	}
	if err != nil {
		return m.fail(ctx, run, false, err)
	}
	move, err := m.move(run)
	if err != nil {
		return m.fail(ctx, run, false, err)
	}
	errs := make([]error, len(pieces))
	var wg sync.WaitGroup
	for i := range pieces {
		wg.Go(func() { errs[i] = m.loader.helpers[i].piece(ctx, m, i, pieces[i]) })
	}
	wg.Wait()
	for i, err := range errs {
		if err == nil {
			m.stats.commits.Add(1)
		} else {
			m.loader.helpers[i].drop() // which undoes what it had not committed
		}
	}
	if err := errors.Join(errs...); err != nil {
		if ctx.Err() != nil || errors.Is(err, dfs.ErrConflict) || errors.Is(err, dfs.ErrTransient) && !mayRepeat(errs) {
			return m.fail(ctx, run, false, err)
		}
		m.stats.fallbacks.Add(1)
		m.log.Debug("loading a run by one connection", "from", run[0].Seq, "to", run[len(run)-1].Seq, "cause", err)
		m.forget()
		if err := m.unload(ctx); errors.Is(err, errNoMarkers) && !slices.ContainsFunc(errs, mayHaveCommitted) {
			m.loader.ready = false // nothing is lost: the table is made anew for the next run
		} else if err != nil {
			return m.fail(ctx, run, false, err)
		}
		return m.apply(ctx, run, true)
	}
	m.open, m.copied = true, false
	err = m.write(ctx, nil, func() {
		m.begin(move, false)
		m.writer.statement(m.deleteMarkers(), int64(len(pieces)))
	})
	if err == nil {
		m.at = run[len(run)-1].Seq
		err = m.commit(ctx, run)
	}
	if err != nil {
		return m.fail(ctx, run, false, err)
	}
	list := items(run)
	m.stats.loaded.Add(uint64(len(list)))
	m.count(run, list)
	return nil
}

// mayRepeat reports whether all errors are of locks that pieces took from each
// other, as two that add to one page of a unique index may.
func mayRepeat(errs []error) bool {
	for _, err := range errs {
		if n := serverError(err); err != nil && n != erLockWait && n != erDeadlock {
			return false
		}
	}
	return true
}

// mayHaveCommitted reports whether a piece that ended with err may be on the target.
func mayHaveCommitted(err error) bool { return err == nil || serverError(err) == 0 }

func (m *MySQL) deleteMarkers() string {
	return string(appendQuoted([]byte("DELETE FROM "+m.loader.table+" WHERE name="), m.name))
}

// prepareLoad makes sure of the table of markers and of the connections.
func (m *MySQL) prepareLoad(ctx context.Context) error {
	if !m.loader.ready {
		_, err := m.exec(ctx, []byte(m.deleteMarkers()+" AND FALSE"))
		if serverError(err) == erNoSuchTable {
			if _, err = m.exec(ctx, []byte(m.createLoadSQL())); err == nil {
				_, err = m.exec(ctx, []byte(m.deleteMarkers()+" AND FALSE"))
			}
		}
		switch serverError(err) {
		case erDBAccess, erTableAccess, erColumnAccess, erSpecificAccess:
			m.loader.off = true
			m.log.Warn("rows that were there already are loaded by one connection: GRANT SELECT, INSERT, DELETE ON "+m.loader.table+
				" TO the account of the DSN makes that faster", "cause", err)
			return nil
		}
		if err != nil {
			return fmt.Errorf("preparing the table %s: %w", m.loader.table, err)
		}
		m.loader.ready = true
	}
	if !m.loads {
		// Invariant I1: it is known that there may be markers before there are.
		b := appendQuoted([]byte("UPDATE "+m.cpTable+" SET owner="), inRow(m.owner, true))
		n, err := m.exec(ctx, m.appendFence(append(b, " WHERE"...)))
		if err != nil {
			return fmt.Errorf("noting in the checkpoint that rows are loaded: %w", err)
		}
		if n[0] != 1 {
			return m.conflict("another pipeline of this name has moved the checkpoint, or taken it over")
		}
		m.loads = true
	}
	for i, h := range m.loader.helpers {
		if h.sess == nil {
			s, err := openSession(ctx, m.connector, m.sqlOnly)
			if n := serverError(err); n == erTooMany || n == erTooManyOfUser || n == erUserLimit {
				m.log.Warn("rows that were there already are loaded by fewer connections", "connections", i, "cause", err)
				for _, h := range m.loader.helpers[i:] {
					h.drop() // one behind the lost one may be there
				}
				m.loader.helpers = m.loader.helpers[:i]
				return nil
			}
			if err != nil {
				return reopened(err)
			}
			h.use(s)
		}
		// By this a later start ends a session whose network has died.
		if owner := pieceOwner(m.owner, i); h.sess.held != owner {
			h.sess.hold(ctx, owner)
		}
	}
	return nil
}

// pieceOwner names the lock of the connection that loads piece i.
func pieceOwner(owner string, i int) string { return fmt.Sprintf("%s.%d", owner, i) }

// A piece is the rows of a run that one connection writes.
type piece struct {
	groups []group      // one for each table, by the mappings of the run's sink
	tables []*dfs.Table // of the groups
	keys   []keyedRows  // what finds the rows again
	count  int
}

// keyedRows are rows reduced to their key.
type keyedRows struct {
	table *dfs.Table
	cols  []int // of the whole table
}

// share divides the rows of a run into pieces of about the same number of rows.
func (m *MySQL) share(ctx context.Context, run []*dfs.Transaction) ([]piece, error) {
	total := 0
	for _, tx := range run {
		total += len(tx.Changes)
	}
	n := min(len(m.loader.helpers), total/minPiece)
	each := (total + n - 1) / n
	pieces := make([]piece, 1, n)
	for _, tx := range run {
		for i := range tx.Changes {
			c := &tx.Changes[i]
			mp, err := m.mapping(ctx, c.Table)
			if err != nil || mp.key == nil || mp.to.inPlace || mp.present(c.After) != nil {
				if errors.Is(err, dfs.ErrTransient) || ctx.Err() != nil {
					return nil, err
				}
				return nil, errNotLoaded // where the error is that of a row
			}
			p := &pieces[len(pieces)-1]
			if p.count == each {
				pieces = append(pieces, piece{})
				p = &pieces[len(pieces)-1]
			}
			p.add(c, mp, each)
		}
	}
	return pieces, nil
}

func (p *piece) add(c *dfs.Change, mp *mapping, most int) {
	p.count++
	for k := len(p.groups) - 1; k >= 0; k-- {
		if g := &p.groups[k]; g.m == mp {
			g.rows = append(g.rows, rowOp{nil, c.After})
			return
		}
	}
	g := group{m: mp, op: dfs.Insert, noFK: true, rows: make([]rowOp, 0, min(most-p.count+1, 1024))}
	g.rows = append(g.rows, rowOp{nil, c.After})
	p.groups, p.tables = append(p.groups, g), append(p.tables, c.Table)
	keys := keyedRows{table: &dfs.Table{Schema: c.Table.Schema, Name: c.Table.Name}, cols: mp.key}
	for k, i := range mp.key {
		keys.table.Columns = append(keys.table.Columns, mp.src.Columns[i])
		keys.table.Key = append(keys.table.Key, k)
	}
	p.keys = append(p.keys, keys)
}

// marker returns the keys of the piece's rows, as deletes in the form of
// dfs.AppendChanges, compressed.
func (p *piece) marker() ([]byte, error) {
	deletes := make([]dfs.Change, 0, p.count)
	for k := range p.groups {
		keys := &p.keys[k]
		n := len(keys.cols)
		slab := make(dfs.Row, 0, n*len(p.groups[k].rows))
		for _, r := range p.groups[k].rows {
			for _, i := range keys.cols {
				slab = append(slab, r.after[i])
			}
			deletes = append(deletes, dfs.Change{Op: dfs.Delete, Table: keys.table, Before: slab[len(slab)-n:], NoForeignKeys: true})
		}
	}
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, flate.BestSpeed)
	if err == nil {
		_, err = w.Write(dfs.AppendChanges(nil, deletes))
	}
	if err == nil {
		err = w.Close()
	}
	return out.Bytes(), err
}

// piece writes the rows of piece i of a run of sink m and its marker, and commits
// them. h is one of m's helpers.
func (h *MySQL) piece(ctx context.Context, m *MySQL, i int, p piece) error {
	mark, err := p.marker()
	if err != nil {
		return err
	}
	// What the server says of a table is shared and only read. The mapping is not,
	// since it has room for the row being encoded.
	for k := range p.groups {
		to := p.groups[k].m.to
		if old := h.tables[to.key]; old != to {
			if old != nil {
				clear(h.maps)
			}
			h.tables[to.key] = to
		}
		if p.groups[k].m, err = h.mapping(ctx, p.tables[k]); err != nil {
			return err
		}
	}
	err = h.write(ctx, p.groups, func() {
		h.writer.statement("BEGIN", uncounted)
		h.writer.separate()
		b := append(append(h.writer.b, "INSERT INTO "...), m.loader.table...)
		b = fmt.Appendf(b, " (name,piece,seq,gone) SELECT name,%d,seq,_binary", i)
		b = appendQuoted(b, string(mark))
		b = m.appendFence(append(append(append(b, " FROM "...), m.cpTable...), " WHERE"...))
		h.writer.b = append(b, " LOCK IN SHARE MODE"...)
		h.writer.want = append(h.writer.want, fence)
	})
	if err == nil {
		failpoint.Hit("sink.load.piece")
		_, err = h.exec(ctx, []byte("COMMIT"))
		failpoint.Hit("sink.load.pieced")
	}
	return err
}

// errNoMarkers says that the table of markers is gone.
var errNoMarkers = errors.New("the table that names rows which were being loaded is gone")

// unload deletes the rows of pieces that the checkpoint does not count in, and
// their markers.
func (m *MySQL) unload(ctx context.Context) error {
	rows, err := m.sess.query(ctx, string(appendQuoted([]byte("SELECT gone FROM "+m.loader.table+" WHERE name="), m.name)))
	switch n := serverError(err); n {
	case erNoSuchTable, erBadDB, erDBAccess, erTableAccess, erColumnAccess:
		if !m.loads {
			return nil // nothing was loaded since the end of the last copy
		}
		if n == erNoSuchTable || n == erBadDB {
			return fmt.Errorf("%w (%w). If a copy of rows was under way when it was dropped, rows may be on the target that the copy will bring again: "+
				"empty the tables that were being copied and begin the copy anew. If not, create it again: %s", errNoMarkers, err, m.createLoadSQL())
		}
		return fmt.Errorf("reading which rows were being loaded when the pipeline was cut off: %w: GRANT SELECT, INSERT, DELETE ON %s TO the account of the DSN",
			err, m.loader.table)
	}
	if err != nil {
		return fmt.Errorf("reading the markers of rows that were being loaded: %w", classify(err))
	}
	var groups []group
	count := 0
	for _, r := range rows {
		list, err := m.unmark(ctx, r[0].text)
		if err != nil {
			return fmt.Errorf("deleting rows that were being loaded: %w", err)
		}
		for i := range list {
			count += len(list[i].rows)
		}
		groups = append(groups, list...)
	}
	if len(rows) > 0 {
		m.log.Info("deleting rows that were being loaded when the pipeline was cut off; they come again", "pieces", len(rows), "rows", count)
		m.open, m.copied = true, false
		err = m.write(ctx, groups, func() {
			m.begin(nil, false)
			m.writer.statement(m.deleteMarkers(), int64(len(rows)))
		})
		if err == nil {
			failpoint.Hit("sink.load.unload")
			_, err = m.exec(ctx, []byte("COMMIT"))
		}
		if err != nil {
			return fmt.Errorf("deleting rows that were being loaded: %w", err)
		}
		m.open = false
		m.stats.unloaded.Add(uint64(count))
	}
	return nil
}

// forgetMarkers deletes markers of a pipeline of the same name whose checkpoint was
// taken away, so that it begins anew. The rows that they stand for may have come to
// the target in another way since.
func (m *MySQL) forgetMarkers(ctx context.Context, s *session) error {
	_, err := s.exec(ctx, []byte(m.deleteMarkers()))
	switch serverError(err) {
	case erNoSuchTable, erDBAccess, erTableAccess, erColumnAccess:
		return nil // as in unload
	}
	if err != nil {
		return fmt.Errorf("deleting markers of a pipeline before: %w", classify(err))
	}
	return nil
}

// unmark returns the deletes that a marker stands for.
func (m *MySQL) unmark(ctx context.Context, text string) ([]group, error) {
	b, err := io.ReadAll(flate.NewReader(bytes.NewReader([]byte(text))))
	if err != nil {
		return nil, fmt.Errorf("a marker cannot be read: %w", err)
	}
	changes, err := dfs.ParseChanges(b)
	if err != nil {
		return nil, fmt.Errorf("a marker cannot be read: %w", err)
	}
	var groups []group
	var last *dfs.Table
	for i := range changes {
		c := &changes[i]
		if c.Table != last {
			to, err := m.targetTable(ctx, c.Table)
			if err != nil {
				return nil, err
			}
			mp, err := mapTable(c.Table, to, false)
			if err == nil && mp.key == nil {
				err = fmt.Errorf("the target's table %s has lost the key of its rows", to.key)
			}
			if err != nil {
				return nil, err
			}
			groups = append(groups, group{m: mp, op: dfs.Delete, noFK: true, spare: true})
			last = c.Table
		}
		g := &groups[len(groups)-1]
		g.rows = append(g.rows, rowOp{c.Before, nil})
	}
	return groups, nil
}

// newHelper returns a sink that writes groups for m.
func (m *MySQL) newHelper() *MySQL {
	h := &MySQL{rules: rules{name: m.name, schema: m.schema, routes: m.routes, log: slog.New(slog.DiscardHandler)},
		connector: m.connector, cpTable: m.cpTable, maxRows: m.maxRows, maxBytes: m.maxBytes, sqlOnly: m.sqlOnly,
		merger: newMerger(), runs: make(map[string]*tableRun)}
	h.writer.minEvents, h.writer.eventRows = m.writer.minEvents, &m.stats.eventRows
	h.forget()
	return h
}

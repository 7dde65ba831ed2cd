package sink

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/match"
)

// A DryRun is a dfs.Sink that shows the statements with which a MySQL sink would
// apply transactions, and executes none of them. It reads of the target what that
// sink would read, in a session that the server itself keeps from writing, so its
// account needs no more than the right to SELECT. The target's checkpoint is where
// it begins, and stays as it is; the checkpoint's own statements are not shown.
//
// Each transaction is shown by itself, and as SQL. A MySQL sink merges what comes
// together, and may send the same rows as row events. What only the execution
// would tell is not known here: rows that are missing on the target, or are there
// already. DryRun is used by one goroutine at a time.
type DryRun struct {
	m     *MySQL
	show  func(Planned) error
	at    uint64         // number of the last transaction or part shown
	whole dfs.Checkpoint // of the last whole transaction
	begun bool           // whole is known

	altered map[string]bool // tables that statements would have altered, by key
	sql     []string        // of the transaction at hand

	fkOff, loose bool // what the statements shown have set in their session
}

// Planned is what would be done for one transaction, or for one part of a large
// one.
type Planned struct {
	Seq       uint64    // its number
	ID        string    // the source's name for it
	Committed time.Time // at the source; zero if that is not known
	More      bool      // it goes on in the next
	Rows      int       // how many rows it changes

	// Statements are SQL, in order. Those that set foreign_key_checks or sql_mode
	// hold for what comes after, also in later transactions. Where a literal holds bytes that are no text,
	// they are in hexadecimal.
	Statements []string

	// Stops says why a MySQL sink would stop at the transaction, and how that is
	// mended. Statements then lack what it says, and the DryRun goes on.
	Stops []string

	// Notes say what else is to be known, such as statements passed over.
	Notes []string
}

var _ dfs.Sink = (*DryRun)(nil)

// OpenDryRun connects to the server as OpenMySQL does, with the same options, but
// makes nothing there. Each transaction that would change something is given to
// show, whose error ends Apply.
func OpenDryRun(ctx context.Context, dsn string, opts *MySQLOptions, show func(Planned) error) (*DryRun, error) {
	m, err := newMySQL(dsn, opts)
	if err != nil {
		return nil, err
	}
	m.sqlOnly = true
	d := &DryRun{m: m, show: show, altered: make(map[string]bool)}
	if err := d.connect(ctx); err != nil {
		return nil, err
	}
	return d, nil
}

// Close ends the connection.
func (d *DryRun) Close() error { return d.m.Close() }

func (d *DryRun) connect(ctx context.Context) error {
	s, err := openSession(ctx, d.m.connector, true)
	if err != nil {
		return err
	}
	if _, err := s.exec(ctx, []byte("SET SESSION TRANSACTION READ ONLY")); err != nil {
		s.close()
		return fmt.Errorf("making the session one that only reads: %w", classify(err))
	}
	d.m.use(s)
	return nil
}

// Checkpoint reports the last transaction shown or, at first, the last that was
// applied to the target.
func (d *DryRun) Checkpoint(ctx context.Context) (dfs.Checkpoint, error) {
	if d.m.sess != nil {
		if _, err := d.m.sess.query(ctx, "SELECT 1"); err != nil {
			d.m.drop()
		}
	}
	if d.m.sess == nil {
		if err := d.connect(ctx); err != nil {
			return dfs.Checkpoint{}, err
		}
	}
	if !d.begun {
		at, err := d.m.stored(ctx)
		if err == nil {
			err = d.m.follow(at.State)
		}
		if err != nil {
			return dfs.Checkpoint{}, err
		}
		d.whole, d.begun = at, true
	}
	d.at = d.whole.Seq
	return d.whole, nil
}

// Apply shows what would be done.
func (d *DryRun) Apply(ctx context.Context, batch []*dfs.Transaction) error {
	if d.m.sess == nil {
		return dfs.Transient(errors.New("the connection to the target is lost"))
	}
	if !d.begun {
		if _, err := d.Checkpoint(ctx); err != nil {
			return err
		}
	}
	for _, tx := range batch {
		if tx.Seq != d.at+1 {
			return fmt.Errorf("transaction %d came after %d: %w", tx.Seq, d.at, dfs.ErrGap)
		}
		p, err := d.plan(ctx, tx)
		if err != nil {
			return err
		}
		if len(p.Statements)+len(p.Stops)+len(p.Notes) > 0 {
			if err := d.show(p); err != nil {
				return err
			}
		}
		d.at = tx.Seq
		if !tx.More {
			state := d.whole.State
			if d.whole = tx.Checkpoint; tx.State == "" {
				d.whole.State = state
			} else if err := d.m.follow(tx.State); err != nil {
				return err
			}
		}
	}
	return nil
}

// Plan returns what would be done for one transaction by itself, wherever the
// target stands, and as its tables are now. It is for those who look into what was
// done: it moves nothing, and may not be mixed with Apply.
func (d *DryRun) Plan(ctx context.Context, tx *dfs.Transaction) (Planned, error) {
	if d.m.sess != nil {
		if _, err := d.m.sess.query(ctx, "SELECT 1"); err != nil {
			d.m.drop()
		}
	}
	if d.m.sess == nil {
		if err := d.connect(ctx); err != nil {
			return Planned{}, err
		}
	}
	d.m.forget()
	clear(d.altered)
	d.fkOff, d.loose = false, false
	return d.plan(ctx, tx)
}

// plan finds the statements for one transaction. The error is one that may pass.
func (d *DryRun) plan(ctx context.Context, tx *dfs.Transaction) (Planned, error) {
	p := Planned{Seq: tx.Seq, ID: tx.ID, Committed: tx.Committed, More: tx.More}
	d.sql = nil
	if err := d.alters(ctx, tx, &p); err != nil {
		return p, err
	}
	m := d.m
	m.merger.reset()
	said := make(map[string]bool)
	for _, it := range once(items([]*dfs.Transaction{tx})) {
		p.Rows++
		mp, err := d.mapping(ctx, it.c.Table)
		if err == nil {
			err = m.merger.add(it.c, mp)
		}
		switch {
		case err == nil:
		case ctx.Err() != nil, errors.Is(err, dfs.ErrTransient):
			return p, err
		case !said[err.Error()]: // as many rows of a table may say
			said[err.Error()] = true
			p.Stops = append(p.Stops, err.Error())
		}
	}
	w := &m.writer
	w.reset()
	w.fkOff, w.loose = d.fkOff, d.loose
	w.send = func(sql []byte, _ []int64) error {
		d.sql = append(d.sql, statementsOf(sql)...)
		return nil
	}
	var err error
	groups := m.merger.finish()
	for i := range groups {
		if err = w.group(&groups[i]); err != nil {
			break
		}
	}
	if err == nil {
		err = w.flush()
	}
	d.fkOff, d.loose = w.fkOff, w.loose
	if err != nil { // a row that is too large
		p.Stops = append(p.Stops, err.Error())
	}
	p.Statements = d.sql
	return p, nil
}

// alters shows a transaction's statements that alter tables, which stand at its
// head.
func (d *DryRun) alters(ctx context.Context, tx *dfs.Transaction, p *Planned) error {
	m := d.m
	rows := false
	for i := range tx.Changes {
		c := &tx.Changes[i]
		if c.Op != dfs.DDL {
			rows = true
			continue
		}
		err := m.translate(ctx, c)
		if ctx.Err() != nil || errors.Is(err, dfs.ErrTransient) {
			return err
		}
		v := m.judge(tx, c)
		if err == nil {
			err = v.err
		}
		switch {
		case v.policy == PolicyIgnore:
			p.Notes = append(p.Notes, fmt.Sprintf("passed over: %s", limit(c.Query, 400)))
			m.forget() // people alter the target at about this time
			continue
		case v.policy == PolicyError:
			p.Stops = append(p.Stops, (&DDLError{tx.Seq, tx.ID, c.Query, nil}).Error())
			continue
		case err == nil && rows:
			err = errBehindRows
		}
		var r *routed
		if err == nil {
			r, err = m.route(c, v.stmt)
		}
		switch {
		case err != nil && v.policy == PolicyTry:
			p.Notes = append(p.Notes, fmt.Sprintf("passed over, since it fails: %s: %v", limit(c.Query, 400), err))
		case err != nil:
			p.Stops = append(p.Stops, (&DDLError{tx.Seq, tx.ID, c.Query, err}).Error())
		case len(r.tables) > 0:
			if d.fkOff || d.loose {
				d.sql, d.fkOff, d.loose = append(d.sql, restoreSQL), false, false
			}
			if r.schema != "" {
				d.sql = append(d.sql, string(appendIdent([]byte("USE "), r.schema)))
			}
			d.sql = append(d.sql, r.text)
			for _, t := range r.tables {
				d.altered[m.sess.tableKey(t.Schema, t.Name)] = true
			}
		}
	}
	return nil
}

// mapping is that of the sink but for tables that a statement, shown before, would
// have altered: those are taken to be as the source has them from then on.
func (d *DryRun) mapping(ctx context.Context, src *dfs.Table) (*mapping, error) {
	m := d.m
	if src == nil || m.maps[src] != nil {
		return m.mapping(ctx, src)
	}
	schema, name := match.Target(m.routes, src.Schema, src.Name)
	if key := m.sess.tableKey(schema, name); d.altered[key] {
		t := tableLike(src, schema, name)
		t.key, t.run = key, m.tableRun(key)
		m.tables[key] = t
	}
	return m.mapping(ctx, src)
}

// tableLike describes a table of the target that is as the source's.
func tableLike(src *dfs.Table, schema, name string) *table {
	t := &table{schema: schema, name: name, primary: src.Key, indexed: make([]bool, len(src.Columns))}
	for i := range src.Columns {
		c := &src.Columns[i]
		to := targetColumn{name: c.Name, typ: lowerType(c.Type), charset: c.Charset, collation: c.Collation, nullable: c.Nullable, optional: true, members: c.Members}
		if len(c.Members) > 0 && !strings.Contains(to.typ, "(") {
			to.typ += "("
		}
		t.columns = append(t.columns, to)
	}
	return t
}

// String shows it as SQL, with all that is no statement in comments.
func (p Planned) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "-- transaction %s", txName(p.Seq, p.ID))
	if !p.Committed.IsZero() {
		fmt.Fprintf(&b, ", committed %s", p.Committed.UTC().Format("2006-01-02 15:04:05.999999"))
	}
	plural := "s"
	if p.Rows == 1 {
		plural = ""
	}
	fmt.Fprintf(&b, ", %d row%s", p.Rows, plural)
	if p.More {
		b.WriteString(", to be continued")
	}
	b.WriteByte('\n')
	comment := func(head, text string) {
		b.WriteString("-- " + head + strings.ReplaceAll(text, "\n", "\n--   ") + "\n")
	}
	for _, n := range p.Notes {
		comment("", n)
	}
	for _, s := range p.Statements {
		b.WriteString(s + ";\n")
	}
	for _, s := range p.Stops {
		comment("WOULD STOP: ", s)
	}
	return b.String()
}

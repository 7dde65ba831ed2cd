package relmgr

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/dataflowsync/dfs"
)

// What Options.Unknown may be.
const (
	UnknownLearn = "learn"
	UnknownError = "error"
)

// Options refine a Manager. The zero value of each field is the default.
type Options struct {
	// Source names the source among those of one target, in the map and in errors.
	// A map belongs to one source. Default: "".
	Source string

	// Tables are the tables of the source, as package cdc's Source.Tables tells
	// them. With them all faults show in Open. Tables that come later are learned
	// from their rows.
	Tables []*dfs.Table

	// ForeignKeys are those that the source declares, as package cdc's
	// Source.ForeignKeys tells them. Of those that statements declare later Process
	// learns from the statements.
	ForeignKeys []ForeignKey

	// References are those that the source does not declare.
	References []Reference

	// Policies say which keys get new ids, and how. The first that matches a table
	// counts.
	Policies []Policy

	// Default is the policy for tables that no Policy matches: Allocate, or Keep.
	// Default: Allocate.
	Default IDs

	// Allocator reserves new ids on the target, so that no other writer of the
	// target gets them too. Default: the map counts by itself, for a target to
	// which nobody else writes.
	Allocator Allocator

	// Unknown says what to do with a row of a table that is not in Tables:
	// UnknownLearn takes its primary key from the row's description, and
	// UnknownError stops. Default: UnknownLearn.
	Unknown string

	// DDLDone names transactions, by their ID, whose statements pass although
	// references of rows may suffer by them: see the package comment.
	DDLDone []string

	// Adopt takes a map that is older than the target: one that is new in a
	// pipeline which has run without. Rows that the target has already then have the
	// ids that they have there only if their tables keep theirs. It also takes
	// options and foreign keys by which a column is rewritten otherwise than in the
	// rows that the target has.
	Adopt bool

	// DryRun works on a copy of the map, which is gone after Close, and reserves
	// nothing: what new ids would be is told as if nobody else took any. It does not
	// disturb the pipeline that has the map open.
	DryRun bool

	// ReadOnly looks ids up in a map that a pipeline may have open, and gives none: of
	// a row with a key or a reference that is not in the map, which the pipeline has
	// not carried, Process returns ErrNoID, and its batch is then of no more use. It is
	// for who compares rows. Allocator and Adopt are of no use with it.
	ReadOnly bool

	// CacheBytes bounds the memory of what was looked up. Default: 64 MiB.
	CacheBytes int

	// Logger gets what people should know. Default: slog.Default().
	Logger *slog.Logger
}

// A Manager gives rows new ids. It is a dfs.Stage. Process must be called by one
// goroutine at a time; the other methods may be called at any time.
type Manager struct {
	opts     Options
	policies []*policy
	refs     map[string][]*reference // by child, "schema.table" in lower case

	mu     sync.Mutex // guards what follows; held during Process
	store  *store
	spaces []*space
	tables map[string]*dfs.Table // by "schema.table" in lower case
	plans  map[*dfs.Table]*plan
	byName map[string][]*plan
	seen   map[string]how // of tables of which rows have come
	last   *dfs.Table
	head   uint64 // the last transaction whose ids are stored
	begun  bool
	stale  bool // memory may be ahead of the file
	closed bool

	lastPlan     *plan
	cache        caches
	misses       int  // of what is in memory, in the batch at hand
	partly       bool // the transaction at hand comes in parts
	wanted       wanted
	dirtyPages   []*page
	dirtyEntries []entryKey
	newSeen      []string
	newLearned   []ForeignKey
	newHere      map[entryKey]bool // what functions have returned in this batch
	vals         []dfs.Value
	key          []byte

	stopLook context.CancelFunc // ends the look at the file that Open has begun
	looked   chan struct{}      // closed when it has ended
	damage   atomic.Value       // what it found: an error

	reserved       atomic.Uint64 // blocks
	keys, promised atomic.Int64  // see measure
}

var (
	_ dfs.Stage  = (*Manager)(nil)
	_ dfs.Passer = (*Manager)(nil)
)

// Open opens the map in the file at path, which it creates if need be, and checks
// the options against the tables. It returns all faults at once, each a *Fault. An
// empty path is a file that is gone after Close. A file that is not as it was written is
// refused; one that takes more than seconds to be looked at is used meanwhile, and
// Process refuses to go on once damage is found.
func Open(path string, opts *Options) (*Manager, error) {
	m, err := newManager(opts)
	if err != nil {
		return nil, fmt.Errorf("opening the map of ids: %w", err)
	}
	s, err := openStore(path, m.opts.DryRun, m.opts.ReadOnly, m.opts.Logger)
	if err != nil {
		return nil, err
	}
	m.store = s
	err = m.reset(context.Background())
	if err == nil {
		err = m.look()
	}
	if err == nil {
		err = m.check()
	}
	if err == nil && !m.opts.ReadOnly {
		err = m.advance(context.Background())
	}
	if err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// advance tells the target which ids the map has reserved.
func (m *Manager) advance(ctx context.Context) error {
	a, ok := m.opts.Allocator.(Advancer)
	if !ok {
		return nil
	}
	for _, sp := range m.spaces {
		if sp.end == 0 {
			continue
		}
		table, column := sp.targetOf()
		behind, err := a.Advance(ctx, table, column, sp.end)
		if err != nil {
			return fmt.Errorf("opening the map of ids: ids of %s.%s: %w", sp.table, sp.column, err)
		}
		if behind {
			m.opts.Logger.Warn("the target had forgotten ids that the map has given: it was put back from a backup, or is another server; "+
				"open the maps of all its sources before any of them goes on", "column", table+"."+column, "before", sp.end)
		}
	}
	return nil
}

// Check returns the faults of options that show without tables, each a *Fault but
// for those of single values. It opens nothing.
func Check(opts *Options) error {
	_, err := newManager(opts)
	return err
}

func newManager(opts *Options) (*Manager, error) {
	m := &Manager{newHere: make(map[entryKey]bool)}
	if opts != nil {
		m.opts = *opts
	}
	if m.opts.Logger == nil {
		m.opts.Logger = slog.Default()
	}
	if m.opts.CacheBytes == 0 {
		m.opts.CacheBytes = 64 << 20
	}
	m.cache.limit = m.opts.CacheBytes
	var errs []error
	switch m.opts.Default {
	case "":
		m.opts.Default = Allocate
	case Allocate, Keep:
	default:
		errs = append(errs, fmt.Errorf("default %q: use allocate or keep", m.opts.Default))
	}
	switch m.opts.Unknown {
	case "":
		m.opts.Unknown = UnknownLearn
	case UnknownLearn, UnknownError:
	default:
		errs = append(errs, fmt.Errorf("unknown %q: use learn or error", m.opts.Unknown))
	}
	if m.opts.CacheBytes < 1<<20 {
		errs = append(errs, fmt.Errorf("CacheBytes %d: use 1 MiB or more", m.opts.CacheBytes))
	}
	var found []error
	m.policies, found = parsePolicies(m.opts.Policies)
	errs = append(errs, found...)
	refs, found := parseReferences(m.opts.References, m.opts.ForeignKeys)
	errs = append(errs, found...)
	if m.opts.DryRun {
		m.opts.Allocator = nil
	}
	m.refs = make(map[string][]*reference)
	for _, r := range refs {
		m.addReference(r)
	}
	return m, errors.Join(errs...)
}

func (m *Manager) addReference(r *reference) {
	name := strings.ToLower(r.Table)
	m.refs[name] = append(m.refs[name], r)
}

// check finds what is wrong with the options for the tables, as far as they are
// known.
func (m *Manager) check() error {
	if len(m.opts.Tables) == 0 {
		return nil
	}
	var errs []error
	seen := make(map[string]bool)
	add := func(err error) {
		for _, e := range split(err) {
			if !seen[e.Error()] {
				seen[e.Error()] = true
				errs = append(errs, e)
			}
		}
	}
	for _, t := range m.opts.Tables {
		if known := m.table(t.String()); known.String() != t.String() {
			add(sameName(known, t))
			continue
		}
		p, err := m.newPlan(t)
		if err == nil {
			err = m.differs(p)
		}
		add(err)
	}
	for i, r := range m.opts.References {
		if m.table(r.Table) == nil {
			add(&Fault{Place: fmt.Sprintf("References[%d]", i), Table: r.Table, Text: "the source has no such table, or it is not followed"})
		}
	}
	for _, p := range m.policies {
		matched := false
		for _, t := range m.opts.Tables {
			if p.pattern.Match(t.Schema, t.Name) {
				matched = true
				if p.Column != "" && t.Column(p.Column) < 0 {
					add(fault(fmt.Sprintf("Policies[%d]", p.index), t, "", "there is no column %s; the columns are %s", p.Column, joinNames(columnNames(t, allColumns(t)))))
				}
				if p.Column == "" && t.Key == nil && p.IDs != Keep {
					add(fault(fmt.Sprintf("Policies[%d]", p.index), t, "", "it has no primary key; name the Column that gets new ids"))
				}
			}
		}
		if !matched && p.IDs != Keep { // keys of tables that are not followed may be said to stay
			add(&Fault{Place: fmt.Sprintf("Policies[%d]", p.index), Table: p.Table, Text: "no table of the source is matched"})
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("opening the map of ids: %w", err)
	}
	return nil
}

// split returns the errors that err joins.
func split(err error) []error {
	if err == nil {
		return nil
	}
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		return j.Unwrap()
	}
	return []error{err}
}

// reset makes memory what the file says.
func (m *Manager) reset(ctx context.Context) error {
	m.cache.clear()
	m.spaces, m.dirtyPages, m.dirtyEntries, m.newSeen, m.newLearned = nil, nil, nil, nil, nil
	m.plans, m.byName, m.seen = make(map[*dfs.Table]*plan), make(map[string][]*plan), make(map[string]how)
	m.last, m.lastPlan = nil, nil
	clear(m.newHere)
	if m.tables == nil {
		m.tables = make(map[string]*dfs.Table)
		for _, t := range m.opts.Tables {
			m.tables[strings.ToLower(t.String())] = t
		}
	}
	if err := m.store.load(ctx, m); err != nil {
		return err
	}
	m.measure()
	m.stale = false
	return nil
}

// load reads what is not looked up one by one.
func (s *store) load(ctx context.Context, m *Manager) error {
	var source string
	rows, err := s.conn.QueryContext(ctx, "SELECT source, head FROM meta")
	if err != nil {
		return s.wrap("open", err)
	}
	fresh := !rows.Next()
	if !fresh {
		err = rows.Scan(&source, (*int64ptr)(&m.head))
	}
	if err = errors.Join(err, rows.Close()); err != nil {
		return s.wrap("open", err)
	}
	switch {
	case fresh && m.opts.ReadOnly:
		return fmt.Errorf("map of ids %s: nothing is in it yet: let the pipeline run first", s.path)
	case fresh:
		if _, err := s.conn.ExecContext(ctx, "INSERT INTO meta VALUES (?, 0)", m.opts.Source); err != nil {
			return s.wrap("open", err)
		}
	case source != m.opts.Source:
		return fmt.Errorf("map of ids %s: it is of the source %q, and Options.Source says %q: give each source a file of its own", s.path, source, m.opts.Source)
	}
	rows, err = s.conn.QueryContext(ctx, `SELECT s.id, s."table", s."column", s.key, s.linear, s.type, s.next, s."end", s.asked, s.known, s.came, s.sum, `+
		`(SELECT max(old) FROM run WHERE space = s.id) FROM space s ORDER BY s.id`)
	if err != nil {
		return s.wrap("open", err)
	}
	defer rows.Close()
	for rows.Next() {
		sp := &space{}
		var key string
		var last *int64
		var sum sql.NullInt64
		if err := rows.Scan(&sp.id, &sp.table, &sp.column, &key, &sp.linear, &sp.typ, (*int64ptr)(&sp.next), (*int64ptr)(&sp.end),
			(*int64ptr)(&sp.asked), &sp.known, &sp.came, &sum, &last); err != nil {
			return s.wrap("open", err)
		}
		sp.key, sp.filed = decodeNames(key), sp.typ
		if !fits(sum, s.sums.space(sp)) {
			return s.unfit("what it has of %s.%s", sp.table, sp.column)
		}
		sp.unsigned = strings.Contains(sp.typ, "unsigned")
		if sp.empty = last == nil; last != nil {
			sp.lastPage = *last >> pageBits
		}
		sp.policy = &policy{Policy: Policy{IDs: Allocate}}
		schema, name, _ := strings.Cut(sp.table, ".")
		for _, p := range m.policies {
			if p.pattern.Match(schema, name) && (p.Column == "" || strings.EqualFold(p.Column, sp.column)) {
				sp.policy = p
				break
			}
		}
		m.spaces = append(m.spaces, sp)
	}
	if err := rows.Err(); err != nil {
		return s.wrap("open", err)
	}
	return s.loadLearned(ctx, m)
}

func (s *store) loadLearned(ctx context.Context, m *Manager) error {
	rows, err := s.conn.QueryContext(ctx, `SELECT "table", how, sum FROM seen`)
	if err != nil {
		return s.wrap("open", err)
	}
	defer rows.Close()
	for rows.Next() {
		var name, how string
		var sum sql.NullInt64
		if err := rows.Scan(&name, &how, &sum); err != nil {
			return s.wrap("open", err)
		}
		if !fits(sum, s.sums.text(name, how).sum()) {
			return s.unfit("what it has of the table %s", name)
		}
		m.seen[name] = decodeHow(how)
	}
	if err := rows.Err(); err != nil {
		return s.wrap("open", err)
	}
	learned, err := s.conn.QueryContext(ctx, `SELECT name, "table", columns, parent, parent_columns, sum FROM learned ORDER BY seq`)
	if err != nil {
		return s.wrap("open", err)
	}
	defer learned.Close()
	for learned.Next() {
		var k ForeignKey
		var table, columns, parent, parentColumns string
		var sum sql.NullInt64
		if err := learned.Scan(&k.Name, &table, &columns, &parent, &parentColumns, &sum); err != nil {
			return s.wrap("open", err)
		}
		if !fits(sum, s.sums.text(k.Name, table, columns, parent, parentColumns).sum()) {
			return s.unfit("the foreign key %s", k.Name)
		}
		k.Schema, k.Table, _ = strings.Cut(table, ".")
		k.ParentSchema, k.Parent, _ = strings.Cut(parent, ".")
		k.Columns, k.ParentColumns = decodeNames(columns), decodeNames(parentColumns)
		if !m.declares(k) {
			m.addReference(declared(k))
		}
	}
	return s.wrap("open", learned.Err())
}

// declares reports whether a foreign key is known already.
func (m *Manager) declares(k ForeignKey) bool {
	for _, r := range m.refs[strings.ToLower(k.Schema+"."+k.Table)] {
		if r.TypeColumn == "" && r.Path == "" && strings.EqualFold(r.Parent, k.ParentSchema+"."+k.Parent) &&
			strings.EqualFold(joinNames(r.Columns), joinNames(k.Columns)) {
			return true
		}
	}
	return false
}

// int64ptr reads a number that is never negative.
type int64ptr uint64

func (p *int64ptr) Scan(x any) error {
	n, ok := x.(int64)
	if !ok || n < 0 {
		return fmt.Errorf("%v is no number from 0 on", x)
	}
	*p = int64ptr(n)
	return nil
}

func encodeNames(names []string) string {
	b, _ := json.Marshal(names) // strings always have a form in JSON
	return string(b)
}

func decodeNames(text string) (names []string) {
	_ = json.Unmarshal([]byte(text), &names)
	return names
}

// Process gives the rows of the batch new ids and makes their references true. It
// returns when the map has all of that on disk.
func (m *Manager) Process(ctx context.Context, batch []*dfs.Transaction) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(batch) == 0 {
		return nil
	}
	if m.closed {
		return errors.New("the map of ids is closed")
	}
	if err, _ := m.damage.Load().(error); err != nil && !errors.Is(err, dfs.ErrTransient) {
		return err
	}
	if m.opts.ReadOnly {
		return m.compare(ctx, batch)
	}
	if m.stale {
		if err := m.reset(ctx); err != nil {
			return err
		}
	}
	if m.behind(batch[0].Seq) {
		return m.lost(batch[0].Seq)
	}
	m.begun = true // also if this fails: it may be rejected
	m.stale = true // until all is stored
	if err := m.prefetch(ctx, batch); err != nil {
		return err
	}
	for _, tx := range batch {
		m.partly = m.partly || tx.More
		for i := range tx.Changes {
			c := &tx.Changes[i]
			var err error
			if c.Op == dfs.DDL {
				err = m.statement(tx, c)
			} else {
				err = m.change(ctx, c)
			}
			if err != nil {
				return err
			}
		}
		m.partly = tx.More
	}
	if err := m.flush(ctx, batch[len(batch)-1].Seq); err != nil {
		return err
	}
	m.stale = false
	return nil
}

// Pass stores that a transaction was stepped over, so that the map is not taken for an
// older one at the next start.
func (m *Manager) Pass(ctx context.Context, at dfs.Checkpoint) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return errors.New("the map of ids is closed")
	}
	if m.opts.ReadOnly {
		return nil
	}
	if m.stale {
		if err := m.reset(ctx); err != nil {
			return err
		}
	}
	if m.behind(at.Seq) {
		return m.lost(at.Seq)
	}
	m.begun = true
	return m.flush(ctx, at.Seq)
}

// behind reports whether the map lacks what came before a transaction, which is the
// first of the process.
func (m *Manager) behind(seq uint64) bool { return !m.begun && !m.opts.Adopt && seq > m.head+1 }

func (m *Manager) lost(seq uint64) error {
	return fmt.Errorf("%w: it has what was done up to transaction %d, and the target stands at %d. If the file %s is not the right one, put the right one back. "+
		"If relmgr is new in this pipeline, start once with Adopt", ErrLost, m.head, seq-1, m.store.path)
}

// Close closes the file.
func (m *Manager) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil
	}
	m.closed = true
	if m.looked != nil {
		m.stopLook()
		<-m.looked
	}
	return m.store.close()
}

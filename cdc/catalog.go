package cdc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/ddl"
)

// A catalog is what tables look like at the place up to which a stream has read
// the log. It is there for logs that do not name columns, and durable: as State
// (dfs.Checkpoint) it travels with the first transaction after each change.
//
// It begins with what the server tells when a new pipeline starts, follows the
// statements of the log, also those about tables that are not followed, since a
// RENAME TABLE can make one of them followed, and learns from the server what it
// does not know when rows of the table come. Nothing in it is a guess: what a
// statement does to a table and this program does not know, it forgets.
type catalog struct {
	// kept is not set while the log names columns. Then nothing is known, and
	// nothing is stored.
	kept   bool
	tables *ddl.Catalog

	// asked is a time of the server, in seconds since 1970: what it was asked for
	// may hold the effect of statements that began until then. Such a statement,
	// if the log has it yet to come, must not be applied a second time.
	asked int64

	given uint64 // which Options.Schema was taken in, as its hash; 0: none

	changed bool // something was altered, and the State handed on last is not true any more
	learned bool // something was learned, and the State handed on last does not have it
	handed  time.Time
	size    int // of that State

	records map[tableName]*schemaRecord
}

// A schemaRecord is how a table of a catalog is described to the decoder.
type schemaRecord struct {
	body    []byte // of the table map that the table fits, without its id
	encoded []byte // content of a recSchema
}

// catalogVersion is the first byte of the durable form of a catalog.
const catalogVersion = 1

// What is learned need not be stored at once: where it is missing, the server is
// asked again, and what it says is checked as before. So a State of more than
// smallState bytes is handed on for that reason every learnedWait only.
const (
	smallState  = 64 << 10
	learnedWait = 10 * time.Second
)

// due reports whether the next transaction is to have State.
func (c *catalog) due() bool {
	return c.changed || c.learned && (c.size < smallState || time.Since(c.handed) >= learnedWait)
}

// state returns the durable form:
//
//	version  byte
//	kept     byte, 0 or 1
//	asked    varint
//	given    8 bytes, the lowest first
//	tables   as ddl.Catalog has it
//
// It is never empty, as a sink would take that for no change.
func (c *catalog) state() string {
	b := []byte{catalogVersion, 0}
	if c.kept {
		b[1] = 1
	}
	b = binary.AppendVarint(b, c.asked)
	b = binary.LittleEndian.AppendUint64(b, c.given)
	b = c.tables.Append(b)
	c.changed, c.learned, c.handed, c.size = false, false, time.Now(), len(b)
	return alias(b)
}

// parseCatalog reads what state has written. An empty State is that of a pipeline
// that never needed one, or of a program before it.
func parseCatalog(state string) (*catalog, error) {
	c := &catalog{tables: new(ddl.Catalog)}
	if state == "" {
		return c, nil
	}
	r := reader{b: []byte(state)}
	if v := r.byte(); v != catalogVersion {
		return nil, fmt.Errorf("cdc: the checkpoint's State has version %d, this program reads %d: go on with the program that wrote it", v, catalogVersion)
	}
	c.kept = r.byte() != 0
	var n int
	if c.asked, n = binary.Varint(r.b); n <= 0 {
		r.fail()
	}
	r.bytes(n)
	c.given = r.uint64()
	var err error
	if !r.bad {
		c.tables, err = ddl.ParseCatalog(r.b)
	}
	if r.bad || err != nil {
		return nil, errors.Join(errors.New("cdc: the checkpoint's State is damaged: put the checkpoint back from a copy, or make a new copy of the data"), err)
	}
	return c, nil
}

// retire forgets everything, since the log names columns now.
func (c *catalog) retire() {
	if c.kept {
		c.kept, c.changed, c.learned = false, true, false
		c.tables, c.records = new(ddl.Catalog), nil
	}
}

// forget drops what is known of a table, or with an empty name of all tables of a
// schema.
func (c *catalog) forget(t ddl.Table) {
	c.tables.Forget(t.Schema, t.Name)
	c.changed = true
	clear(c.records)
}

// learn takes over a table as the server describes it.
func (c *catalog) learn(a asked) {
	c.tables.Set(a.table, a.collation)
	c.learned = true
}

// fit returns what is known of the table of a table map. It is nil if nothing is
// known, or if it does not fit, and then is forgotten: the log has altered it by
// something that it does not show, such as a statement with sql_log_bin=0.
func (c *catalog) fit(m *tableMap, maria bool) (*schemaRecord, error) {
	t, known := c.tables.Table(m.schemaN, m.name)
	if !known || t == nil {
		return nil, nil
	}
	body, err := parseTableMap(m.event, maria)
	if err != nil {
		return nil, err
	}
	if !body.suits(t) {
		c.forget(ddl.Table{Schema: m.schemaN, Name: m.name})
		return nil, nil
	}
	return c.remember(m, t), nil
}

// remember makes the record of a table that fits its table map.
func (c *catalog) remember(m *tableMap, t *dfs.Table) *schemaRecord {
	if t.Schema != m.schemaN || t.Name != m.name {
		// lower_case_table_names
		named := *t
		named.Schema, named.Name = m.schemaN, m.name
		t = &named
	}
	r := &schemaRecord{bytes.Clone(m.event.body()[6:]), appendTable(nil, t)}
	if c.records == nil {
		c.records = make(map[tableName]*schemaRecord)
	}
	c.records[tableName{m.schemaN, m.name}] = r
	return r
}

// evolve has the catalog follow a statement of the log, of which s is the reading.
func (a *assembler) evolve(e event, q query, s *ddl.Statement, session *dfs.Session) {
	c := a.catalog
	if !c.kept || a.skipTo > 0 {
		return
	}
	switch s.Kind {
	case ddl.CreateView, ddl.AlterView, ddl.DropView:
		return // no table has other columns afterwards
	}
	// A table of another schema does not matter before it is moved to one of which
	// something is followed. Then it is not known, and is asked for.
	near := func(t ddl.Table) bool { return a.filter().follows(t.Schema, "") }
	if s.Settled && !slices.ContainsFunc(s.Tables, near) {
		return
	}
	// What the catalog keeps are parts of the text, which is only lent.
	kept := ddl.Parse(strings.Clone(q.text), strings.Clone(q.schema), a.mode(e, q))
	kept.Settled = kept.Settled && q.unread == ""
	s = &kept
	if a.tx.begun {
		a.tx.altered = append(a.tx.altered, s.Tables...)
	}
	clear(c.records)
	clear(a.maps)
	a.last = nil
	if s.Settled && (q.halfway(s) || int64(e.time()) <= c.asked && !absolute(s)) {
		for _, t := range s.Tables {
			c.forget(t)
		}
	} else if c.tables.Apply(s, session) {
		c.changed = true
	}
	// A schema that is gone, and made again under a name that never comes back,
	// is not to fill the memory.
	if s.Kind == ddl.DropSchema {
		for _, t := range s.Tables {
			c.forget(t)
		}
	}
}

// absolute reports whether what a statement makes of its tables does not depend on
// what they were before, so that to apply it twice does no harm.
func absolute(s *ddl.Statement) bool {
	switch s.Kind {
	case ddl.DropTable, ddl.DropSchema, ddl.TruncateTable:
		return true
	case ddl.CreateTable:
		for _, r := range s.Refs {
			if r.Role == ddl.Source {
				return false
			}
		}
		return true
	}
	return false
}

// unfinished forgets the tables that a transaction without an end has altered.
func (a *assembler) unfinished() {
	for _, t := range a.tx.altered {
		a.catalog.forget(t)
	}
}

// record returns the content of the recSchema for a table map that does not name
// its columns.
//
// What the server tells of a table is how it is now. If it was created or altered
// after what is read here was logged, its columns may have had other names then:
// see ahead.
func (a *assembler) record(ctx context.Context, m *tableMap) ([]byte, error) {
	c := a.catalog
	c.kept = true
	if r := c.records[tableName{m.schemaN, m.name}]; r != nil && bytes.Equal(r.body, m.event.body()[6:]) {
		return r.encoded, nil
	}
	r, err := c.fit(m, a.src.maria)
	if err != nil {
		return nil, err
	}
	if r != nil {
		return r.encoded, nil
	}
	if a.src.db == nil {
		return nil, a.fault(fmt.Sprintf("rows of %s.%s were logged without column names, and no statement before them in these files has created the table",
			m.schemaN, m.name), cureColumns)
	}
	found, err := askTable(ctx, a.src.db, m.schemaN, m.name)
	if err != nil {
		return nil, mark(err)
	}
	if found.table == nil {
		return nil, a.fault(fmt.Sprintf("rows of %s.%s were logged without column names, and the table is not there any more", m.schemaN, m.name),
			cureColumns+", or leave the table out with the pattern \"!"+m.schemaN+"."+m.name+"\"; and set binlog_row_metadata=FULL where the source has that")
	}
	if !a.src.opts.TrustColumnNames {
		if err := a.prove(ctx, m, found.created); err != nil {
			return nil, err
		}
	}
	body, err := parseTableMap(m.event, a.src.maria)
	if err != nil {
		return nil, err
	}
	if err := body.fits(found.table); err != nil {
		return nil, err
	}
	c.learn(found)
	if a.src.opts.TrustColumnNames {
		// It may show statements that the log has yet to come.
		c.asked = max(c.asked, found.asked)
	}
	return c.remember(m, found.table).encoded, nil
}

// What can be done where the columns of a table are not known.
const (
	cureColumns = "say in Options.Schema how the table was created, as it was at the place where reading goes on"
	cureTrust   = "; or, if that changed neither names nor order of its columns, set Options.TrustColumnNames until this is read; " +
		"otherwise start after it with a new copy of the table, and set binlog_row_metadata=FULL where the source has that"
)

// openCatalog returns the catalog for a stream that begins at a checkpoint with
// that State.
func (s *Source) openCatalog(state string) (*catalog, error) {
	c, err := parseCatalog(state)
	if err != nil {
		return nil, err
	}
	c.tables.Fold = s.known().fold
	if !s.known().named && state == "" {
		c.kept = true
	}
	// Options.Schema says how tables were at the place where reading goes on when
	// it is first given, and means nothing after that.
	h := fnv.New64a()
	h.Write([]byte(s.opts.Schema))
	if given := h.Sum64(); s.opts.Schema != "" && given != c.given {
		c.given, c.kept, c.changed = given, true, true
		if faults := c.take(s.opts.Schema, ddl.Mode{MariaDB: s.maria, Version: versionNumber(s.known().version)}); len(faults) > 0 {
			return nil, &SetupError{faults}
		}
	}
	return c, nil
}

// versionNumber returns the number that version comments go by: 80026 for
// "8.0.26-log". It is 0 if there is none.
func versionNumber(version string) int {
	var n [3]int
	i := 0
	for _, c := range []byte(version) {
		switch {
		case c >= '0' && c <= '9' && n[i] < 1000:
			n[i] = 10*n[i] + int(c-'0')
			continue
		case c == '.' && i < 2:
			i++
			continue
		}
		break
	}
	return n[0]*10000 + n[1]*100 + n[2]
}

// take applies the statements of Options.Schema.
func (c *catalog) take(text string, mode ddl.Mode) []Fault {
	var faults []Fault
	schema := ""
	for statement := range statements(text) {
		if name, ok := useOf(statement); ok {
			schema = name
			continue
		}
		s := ddl.Parse(statement, schema, mode)
		switch s.Kind {
		case ddl.CreateSchema:
			// What it says of the schema counts, and not that it has no tables yet.
			s.Kind = ddl.AlterSchema
		case ddl.CreateTable, ddl.AlterTable, ddl.DropTable, ddl.RenameTable, ddl.CreateIndex, ddl.DropIndex:
		default:
			continue
		}
		if !s.Settled {
			faults = append(faults, Fault{
				What: fmt.Sprintf("Options.Schema: which tables %.80q is about is not understood", statement),
				Cure: "write statements as SHOW CREATE TABLE does",
			})
			continue
		}
		before := make([]bool, len(s.Tables)) // which of them are there
		for i, n := range s.Tables {
			t, _ := c.tables.Table(n.Schema, n.Name)
			before[i] = t != nil
		}
		c.tables.Apply(&s, &dfs.Session{Schema: schema})
		for i, n := range s.Tables {
			t, known := c.tables.Table(n.Schema, n.Name)
			switch {
			case n.Schema == "":
				faults = append(faults, Fault{
					What: fmt.Sprintf("Options.Schema: %.80q names no schema", statement),
					Cure: "write the table as schema.table, or a USE statement in front",
				})
			case s.Kind == ddl.CreateTable && (!known || t == nil):
				faults = append(faults, Fault{
					What: fmt.Sprintf("Options.Schema: the columns of %s cannot be read from %.80q", n, statement),
					Cure: "write it as SHOW CREATE TABLE does",
				})
			case before[i] && !known:
				faults = append(faults, Fault{
					What: fmt.Sprintf("Options.Schema: what %.80q makes of %s is not understood", statement, n),
					Cure: "leave it out, and write the CREATE TABLE as SHOW CREATE TABLE has it afterwards",
				})
			}
		}
	}
	return faults
}

// useOf returns the schema that a USE statement names.
func useOf(statement string) (schema string, ok bool) {
	statement = strings.TrimSpace(statement)
	for strings.HasPrefix(statement, "--") || strings.HasPrefix(statement, "#") || strings.HasPrefix(statement, "/*") && !strings.HasPrefix(statement, "/*!") {
		statement = strings.TrimSpace(statement[skipToken(statement):])
	}
	word, rest, _ := strings.Cut(statement, " ")
	if !strings.EqualFold(word, "USE") {
		return "", false
	}
	rest = strings.TrimSpace(rest)
	if len(rest) > 1 && rest[0] == '`' && rest[len(rest)-1] == '`' {
		rest = strings.ReplaceAll(rest[1:len(rest)-1], "``", "`")
	}
	return rest, true
}

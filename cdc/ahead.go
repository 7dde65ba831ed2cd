package cdc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/ddl"
)

// An ahead is what is known of the log between the place where a stream stands
// and the log's end: which statements there are about what tables look like. What
// a server tells of a table is how it is at that time. It is right for the place of
// the stream too if no statement comes in between that is about the table.
//
// The log is read up to its end after the server was asked. That is late enough,
// since a statement is in the log before others can see what it has done. MySQL
// from 8.0 writes it to the log and then commits it to the data dictionary, of
// which an answer shows what is committed; before 8.0, and in MariaDB, a statement
// writes to the log while it has the table's metadata lock, for which a question
// waits.
//
// What was read is kept, so that the log is read at most twice, however many
// tables there are to ask for.
type ahead struct {
	// open reads the log from a place up to where it ends; done closes that.
	open func(ctx context.Context, from *position) (events, error)
	done func(events)

	version string // of the server that wrote what follows

	files  []string // the files of the log that were seen, the oldest first
	to     position // reading goes on here, at the last transaction that was seen or behind
	gtid   mysqlGTID
	maria  mariaGTID
	begun  bool // of gtid or maria it is not known whether all was read
	end    spot // the place behind the last event that was seen
	tables map[tableName]mention
	every  spot // the last statement of which it is not known what it alters
	unsure spot // the last OPTIMIZE or REPAIR, of any table

	payload payload
}

// A spot is a place in a log at which an event ends. The zero spot is before all.
type spot struct {
	file int // counts from 1
	time uint32
	off  uint64
}

func (p spot) before(q spot) bool {
	return p.file < q.file || p.file == q.file && p.off < q.off
}

// A mention is where the last statements about a table are.
type mention struct {
	altered spot // may have given it other columns
	named   spot // is about it, but alters no column
}

// maxMentions bounds what is kept of the statements ahead.
const maxMentions = 100_000

// spot returns a place of the log that was read, or the zero spot.
func (w *ahead) spot(file string, off uint64) spot {
	for i := len(w.files) - 1; i >= 0; i-- {
		if w.files[i] == file {
			return spot{file: i + 1, off: off}
		}
	}
	return spot{}
}

// place returns a spot as EventError.At has it.
func (w *ahead) place(p spot) string { return fmt.Sprintf("%s:%d", w.files[p.file-1], p.off) }

// folded returns the name under which mentions of a table are kept. On a server
// where letter case counts, a table is taken for touched when another is whose name
// differs in that alone.
func folded(schema, name string) tableName {
	return tableName{strings.ToLower(schema), strings.ToLower(name)}
}

// altered returns the last statement that may have given a table other columns.
func (w *ahead) altered(schema, name string) spot {
	last := w.every
	for _, n := range [...]tableName{folded(schema, name), folded(schema, "")} {
		if p := w.tables[n].altered; last.before(p) {
			last = p
		}
	}
	return last
}

// prove returns an error if what the server has just told of the table of m may be
// wrong for the place where the log is read.
func (a *assembler) prove(ctx context.Context, m *tableMap, created int64) error {
	const unknown = ", so what its columns were called is not known"
	w := &a.ahead
	here := w.spot(a.file, a.off)
	if here.file == 0 || !here.before(w.altered(m.schemaN, m.name)) {
		if err := w.read(ctx, a); err != nil {
			return fmt.Errorf("cdc: look in the log ahead of %s for statements about %s.%s: %w", a.place(), m.schemaN, m.name, err)
		}
		if here = w.spot(a.file, a.off); here.file == 0 || w.end.before(here) {
			return dfs.Transient(fmt.Errorf("cdc: the server's log ends before %s, up to where it was read", a.place()))
		}
	}
	utc := func(t int64) string { return time.Unix(t, 0).UTC().Format(time.DateTime + " UTC") }
	if last := w.altered(m.schemaN, m.name); here.before(last) {
		did := "the table was created or altered"
		if last == w.every {
			did = "a statement of which it is not known what it alters"
		}
		return a.fault(fmt.Sprintf("rows of %s.%s were logged without column names before %s at %s (%s)%s",
			m.schemaN, m.name, did, w.place(last), utc(int64(last.time)), unknown), cureColumns+cureTrust)
	}
	// CREATE_TIME tells of what the log does not have: statements with
	// sql_log_bin=0. Each ALTER TABLE sets it, and OPTIMIZE TABLE too.
	named := w.tables[folded(m.schemaN, m.name)].named
	if created > a.clock && !here.before(named) && !here.before(w.unsure) {
		return a.fault(fmt.Sprintf("rows of %s.%s were logged without column names before the table was created or altered at %s by a statement that is not in the log%s",
			m.schemaN, m.name, utc(created), unknown), cureColumns+cureTrust)
	}
	return nil
}

// read reads the log from the place where a stands, or from where it was read
// last, to its end.
func (w *ahead) read(ctx context.Context, a *assembler) (err error) {
	if here := w.spot(a.file, a.off); here.file == 0 || w.end.before(here) {
		*w = ahead{open: w.open, done: w.done, tables: make(map[tableName]mention), payload: w.payload.kept()}
		w.to = a.at
		switch w.to.kind {
		case byGTID:
			w.to.set = a.at.set.clone()
		case byMaria:
			w.to.list = &gtidList{append([]mariaGTID(nil), a.at.list.gtids...)}
		}
	}
	w.begun, w.payload.left = false, false
	from := w.to
	if from.kind == byFile && from.pos > a.src.farthest {
		from.pos = 4 // further on a server cannot be asked to begin
	}
	in, err := w.open(ctx, &from)
	if err != nil {
		return err
	}
	defer w.done(in)
	told, bytes, n := time.Now(), uint64(0), 0
	for {
		e, err := in.next(ctx, true)
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = w.event(a, e)
		}
		if err != nil {
			return err
		}
		if n++; n%1024 == 0 && time.Since(told) > aheadTell {
			told, bytes = time.Now(), bytes+in.received()
			a.src.opts.Logger.Info("reading the log ahead, for statements that alter tables", "at", w.place(w.end), "bytes", bytes)
		}
	}
}

// aheadTell is how often a person is told that the log is being read ahead.
const aheadTell = 5 * time.Second

// event takes an event of the log ahead.
func (w *ahead) event(a *assembler, e event) (err error) {
	kind := e.kind()
	switch kind {
	case evHeartbeat, evHeartbeat2:
		return nil
	case evFormat:
		f, err := parseFormat(e)
		w.version = f.version
		return err
	case evRotate:
		b := reader{b: e.body()}
		off, name := b.uint64(), string(b.b)
		if b.bad {
			return errShortEvent
		}
		if w.end = w.spot(name, off); w.end.file == 0 {
			w.files = append(w.files, name)
			w.end = w.spot(name, off)
		}
		return nil
	}
	if w.end.file == 0 {
		return errors.New("cdc: the server does not say which file of its log it sends")
	}
	w.end.off, w.end.time = e.endsAt(w.end.off), e.time()
	if w.to.kind == byFile {
		w.to.file, w.to.pos = w.files[w.end.file-1], w.end.off
	}
	switch kind {
	case evGTID, evGTIDTagged, evMariaGTID:
		return w.begin(e)
	case evQuery, evQueryZ:
		return w.query(a, e)
	case evPayload:
		if err := w.payload.open(e); err != nil {
			return err
		}
		for {
			e, err := w.payload.next()
			if err != nil || e == nil {
				return err
			}
			if kind := e.kind(); kind == evQuery || kind == evQueryZ {
				if err := w.query(a, e); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// begin takes the event that a transaction begins with. The one before it was read
// to its end.
func (w *ahead) begin(e event) (err error) {
	if w.begun {
		switch w.to.kind {
		case byGTID:
			w.to.set.add(w.gtid.uuid, w.gtid.tag, w.gtid.gno)
		case byMaria:
			w.to.list.set(w.maria)
		}
	}
	switch e.kind() {
	case evGTID:
		w.gtid, err = parseGTID(e)
	case evGTIDTagged:
		w.gtid, err = parseTaggedGTID(e)
	case evMariaGTID:
		w.maria, _, err = parseMariaGTID(e)
	}
	w.begun = err == nil
	return err
}

// query notes what a statement is about.
func (w *ahead) query(a *assembler, e event) error {
	q, err := parseQuery(e)
	if err != nil || q.text == "BEGIN" || q.text == "COMMIT" {
		return err
	}
	mode := modeOf(q.session(e, a.src.maria), a.src.maria, w.version)
	if q.phase&(mariaAlterBegins|mariaAlterRolledBack) != 0 {
		return nil // it comes again when it is done, or has done nothing
	}
	s := ddl.Parse(ddl.Plain(q.text, mode), q.schema, mode)
	if q.unread != "" {
		s.Settled = false // how its text is to be read is not known
	}
	alters := true
	switch s.Kind {
	case ddl.Nothing:
		if text := strings.ToUpper(s.Text); strings.Contains(text, "OPTIMIZE") || strings.Contains(text, "REPAIR") {
			w.unsure = w.end
		}
		return nil
	case ddl.Begin, ddl.Commit, ddl.Rollback, ddl.RollbackTo, ddl.Savepoint,
		ddl.XAStart, ddl.XAEnd, ddl.XAPrepare, ddl.XACommit, ddl.XARollback,
		ddl.DML, ddl.Trigger, ddl.Routine, ddl.Event, ddl.Account, ddl.Storage:
		return nil
	case ddl.TruncateTable, ddl.CreateIndex, ddl.CreateSchema, ddl.AlterSchema:
		alters = false
	}
	if alters && !s.Settled {
		w.every = w.end
		return nil
	}
	if s.Temporary {
		return nil // it is the session's own
	}
	for _, t := range s.Tables {
		if !a.filter().follows(t.Schema, t.Name) {
			continue
		}
		n := folded(strings.Clone(t.Schema), strings.Clone(t.Name))
		m := w.tables[n]
		if m.named = w.end; alters {
			m.altered = w.end
		}
		if w.tables[n] = m; len(w.tables) > maxMentions {
			clear(w.tables)
			w.every = w.end
		}
	}
	return nil
}

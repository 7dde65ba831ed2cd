package cdc

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/tcp"
)

// A Source is the log of one MySQL or MariaDB server: Open reads it from the
// server, and OpenFiles from files. It is safe for concurrent use.
type Source struct {
	cfg    *mysql.Config
	db     *sql.DB
	opts   Options
	start  start
	filter *filter // of opts.Tables
	follow atomic.Pointer[following]

	snapshot *Snapshot     // with its defaults; nil if no rows are copied at the beginning
	begun    sync.Once     // tells that the snapshot is over, or never was
	copies   *filter       // of these
	replicas *replicaWatch // nil if snapshot is

	maxRows, maxBytes atomic.Int64 // what copies read per second; 0: no bound

	serverID uint32   // of streams
	farthest uint64   // the last place in a file at which a server can be asked to begin, unless by GTID
	taken    []uint32 // ids that the server and other replicas had at the start
	uuid     string   // our own, which MySQL knows our connections by
	paths    []string // of log files, instead of a server
	plans    plans

	maria  bool // the server is MariaDB
	facts  atomic.Pointer[facts]
	damage atomic.Pointer[damage] // the last of what a server has sent

	mu      sync.Mutex
	began   dfs.Checkpoint // what Start was found to be; zero until it is asked for
	streams map[*Stream]struct{}
	copier  *copier // the last one
	asks    []*request
	closed  bool
	total   counts
	probed  probed
	opened  uint64
	bytes   uint64
	at      dfs.Position
	asked   atomic.Int32         // how many of asks no stream has taken over
	held    atomic.Bool          // rows are to wait; see Hold
	last    atomic.Int64         // Unix time of the last commit event
	waits   atomic.Int64         // since when the newest stream waits for the server; see packets.since
	acks    atomic.Pointer[acks] // of the newest stream, for Trim; nil without SemiSync
}

var (
	_ dfs.Source  = (*Source)(nil)
	_ dfs.Decoder = (*Source)(nil)
	_ dfs.Trimmer = (*Source)(nil)
)

// Open connects to the server that dsn names, as github.com/go-sql-driver/mysql
// writes it: "user:password@tcp(host:3306)/?tls=true". The database in it means
// nothing. Open checks that the server logs what a Source needs and that the
// account may read it. If not, the error is a *SetupError with every fault, and
// how to mend each. No error holds the password.
func Open(ctx context.Context, dsn string, opts *Options) (*Source, error) {
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		// The driver's errors name no more than the part that is wrong, but that
		// part may be one with the password.
		return nil, &SetupError{[]Fault{{
			What: "the data source name cannot be read",
			Cure: "write user:password@tcp(host:3306)/ or user:password@unix(/path/to/socket)/",
		}}}
	}
	o, faults := opts.withDefaults()
	begin, err := parseStart(o.Start)
	if err != nil {
		faults = append(faults, Fault{What: err.Error()})
	}
	f, bad := newFilter(o.Tables)
	faults = append(faults, bad...)
	var snapshot *Snapshot
	var copies *filter
	if o.Snapshot != nil {
		snapshot, copies, bad = o.Snapshot.withDefaults()
		faults = append(faults, bad...)
	}

	cfg.DBName = ""
	cfg.ParseTime = false
	cfg.InterpolateParams = false
	if cfg.Params == nil {
		cfg.Params = make(map[string]string)
	}
	cfg.Params["time_zone"] = "'+00:00'"
	cfg.Logger = &mysql.NopLogger{} // its errors are returned as well
	if cfg.Timeout == 0 {
		cfg.Timeout = connectTimeout
	}
	tcp.Use(cfg)
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, &SetupError{[]Fault{{What: "the data source name has parameters that do not fit together", Cure: err.Error()}}}
	}
	s := &Source{
		cfg: cfg, opts: o, start: begin, filter: f, snapshot: snapshot, copies: copies,
		farthest: math.MaxUint32, // COM_BINLOG_DUMP has 4 bytes for it
		db:       sql.OpenDB(connector),
		uuid:     newUUID(),
		streams:  make(map[*Stream]struct{}),
	}
	s.limitConns()
	if snapshot != nil {
		s.LimitCopies(snapshot.MaxRows, snapshot.MaxBytes)
		s.replicas, bad = newReplicaWatch(snapshot, s)
		faults = append(faults, bad...)
	}
	if err := s.check(ctx, faults); err != nil {
		s.replicas.close()
		s.db.Close()
		return nil, err
	}
	if err := s.showKeys(ctx); err != nil {
		s.replicas.close()
		s.db.Close()
		return nil, err
	}
	return s, nil
}

// showKeys makes the server show primary keys that it has generated, which the log has,
// where it hides them from its clients (MySQL from 8.0.30 on).
func (s *Source) showKeys(ctx context.Context) error {
	const name = "show_gipk_in_create_table_and_information_schema"
	hides := false
	err := eachRow(ctx, s.db, "SHOW VARIABLES LIKE '"+name+"'", func(v []sql.NullString) { hides = v[1].String == "OFF" })
	if err != nil || !hides {
		return mark(err)
	}
	cfg := s.cfg.Clone()
	cfg.Params[name] = "ON"
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return err
	}
	old := s.db
	s.db = sql.OpenDB(connector)
	s.limitConns()
	return old.Close()
}

// limitConns bounds the connections to what is needed.
func (s *Source) limitConns() {
	more := 0
	if s.snapshot != nil {
		more = s.snapshot.Readers
	}
	s.db.SetMaxOpenConns(4 + more)
	s.db.SetMaxIdleConns(1 + more)
	s.db.SetConnMaxIdleTime(time.Minute)
}

// newUUID returns a random UUID.
func newUUID() string {
	var u [16]byte
	rand.Read(u[:])
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	return string(appendUUID(nil, u[:]))
}

// Close ends all streams and disconnects from the server. Decode goes on to
// work.
func (s *Source) Close() error {
	s.mu.Lock()
	open := make([]*Stream, 0, len(s.streams))
	for st := range s.streams {
		open = append(open, st)
	}
	s.closed = true
	s.answerAll(errClosed)
	s.mu.Unlock()
	for _, st := range open {
		st.shut()
	}
	if s.db == nil {
		return nil
	}
	return errors.Join(s.db.Close(), s.replicas.close())
}

// forget drops a stream that has ended.
func (s *Source) forget(st *Stream) {
	s.mu.Lock()
	delete(s.streams, st)
	s.mu.Unlock()
}

// Open implements dfs.Source. It returns a *Stream. Of a server there is one at
// a time: when a newer one opens, the older one ends with an error. So a
// connection that only looks alive does not stand in the way of the next.
func (s *Source) Open(ctx context.Context, from dfs.Checkpoint) (dfs.Stream, error) {
	if s.db == nil {
		return s.openFiles(ctx, from)
	}
	if err := s.relearn(ctx); err != nil {
		return nil, err
	}
	at, state, before, err := s.begin(ctx, from)
	if err != nil {
		return nil, err
	}
	items, state, err := splitState(state)
	if err != nil {
		return nil, err
	}
	then, state, err := splitFollow(state)
	if err != nil {
		return nil, err
	}
	follow, change, err := s.resumeFollowing(ctx, then)
	if err != nil {
		return nil, err
	}
	if err := change.mayBegin(at); err != nil {
		return nil, err
	}
	s.follow.Store(follow)
	word := at.copy
	if word != "" && (from.State == "" || from.State[0] != stateCopy) {
		return nil, errors.New("cdc: the checkpoint's position is of a copy of tables, and its State does not name them: put the checkpoint back from a copy, or make a new copy of the data")
	}
	if from.Pos == "" && s.snapshot != nil {
		if items, err = s.copyItems(ctx); err != nil {
			return nil, err
		}
		word = "-"
	}
	if from.Pos == "" {
		s.warnOfPrepared(ctx)
	}
	for _, name := range change.Gone {
		endCopies(items, nameOf(name))
	}
	begin := s.copiesOf(change.New)
	for _, item := range begin {
		if err := s.checkWhere(ctx, item); err != nil {
			return nil, err
		}
	}
	if len(begin) > 0 {
		items, word = append(items, begin...), cmp.Or(word, "-")
	}
	if word == "" && from.Pos != "" && s.snapshot != nil {
		s.begun.Do(func() {
			s.opts.Logger.Info("the pipeline has begun already, so no rows are copied by Options.Snapshot: ask for tables by Resnapshot", "at", at.String())
		})
	}
	changed := len(change.New) > 0 || len(change.Gone) > 0
	st, err := s.newStream(at, from.Pos == "" || changed, state)
	if err != nil {
		return nil, err
	}
	st.begun = from.Pos == ""
	st.asm.follow, st.asm.followDue = follow, then == nil || !slices.Equal(then.patterns(), follow.patterns())
	for _, name := range change.New {
		st.asm.forget(nameOf(name))
	}
	change.tell(s, len(begin) > 0)
	if c := st.asm.catalog; c.kept && state == "" {
		if err := s.guessSchemas(ctx, c); err != nil {
			return nil, err
		}
	}
	s.replace()
	if !s.opts.AcceptErrant {
		if err := s.checkErrant(ctx, st, before, at); err != nil {
			return nil, err
		}
	}
	conn, err := s.connectLog(ctx)
	if err != nil {
		return nil, mark(err)
	}
	in := s.newRemote(conn, st, s.opts.Buffer)
	st.in = in
	d := dump{serverID: s.streamID(), uuid: s.uuid, maria: s.maria, at: at, checksum: s.known().checksum, beat: s.opts.Heartbeat, semiSync: s.opts.SemiSync}
	if s.known().sparse {
		d.flags |= dumpAnnotate
	}
	if at.kind == byFile && (s.known().gtid || at.pos > s.farthest) {
		// Read the file from its beginning, where it says what was before, or since the
		// server could not find the place.
		if s.known().gtid {
			st.asm.at.kind, st.asm.at.set = byGTID, nil
		}
		st.asm.skipTo = at.pos
		st.fix = false
		d.at = &position{kind: byFile, file: at.file, pos: 4}
	}
	st.server, err = s.identity(conn)
	if err == nil && st.server != s.known().server {
		err = dfs.Transient(fmt.Errorf("cdc: %s led to server %s for questions and to %s for the log", s.cfg.Addr, s.known().server, st.server))
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	if err := in.ask(ctx, &d); err != nil {
		return nil, err
	}
	if s.opts.SemiSync {
		st.acks = &acks{conn: conn, server: at.server}
		st.acks.asked = s.answerable(ctx, from.Pos, at.server)
		s.acks.Store(st.acks)
	}
	st.open = func(ctx context.Context, from *position) (events, error) { return s.openAgain(ctx, st, from) }
	st.asm.ahead.open, st.asm.ahead.done = st.openAhead, st.closeAhead
	if word != "" {
		if st.copier, err = s.newCopier(ctx, st, items, word, nil); err != nil {
			st.in.Close()
			return nil, err
		}
		st.copier.stateDue = from.Pos == "" || changed
		st.copier.start()
	}
	s.register(st)
	s.opts.Logger.Info("reading the log", "server", s.cfg.Addr, "from", at.String())
	return st, nil
}

// newStream returns a stream without events that stands at a place, where the
// source's State is this. If fix is set, both are to be handed on.
func (s *Source) newStream(at *position, fix bool, state string) (*Stream, error) {
	c, err := s.openCatalog(state)
	if err != nil {
		return nil, err
	}
	c.changed = c.changed || fix && state != ""
	st := &Stream{src: s, sent: time.Now(), fix: fix, begun: fix}
	st.asm = assembler{
		src: s, at: *at, file: at.file, off: at.pos, version: s.known().version, catalog: c,
		maps: make(map[uint64]*tableMap), out: st.emit,
	}
	return st, nil
}

// streamID returns the id for the connection of a stream. MariaDB ends an older
// connection with the same id before it begins a new one, and waits until it has
// ended. If the older one's host is gone while the server has something to send,
// that takes until TCP or net_write_timeout gives it up (seen with 10.11: minutes
// in which the new connection hangs). So there each connection has its own id, but
// for one that the user chose.
func (s *Source) streamID() uint32 {
	if s.maria && s.opts.ServerID == 0 {
		return s.freeID()
	}
	return s.serverID
}

// replace ends the streams that are open, as a newer one takes their place. The
// server would do so too, but not always at once: see streamID.
func (s *Source) replace() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for st := range s.streams {
		st.replaced.Store(true)
		st.shut()
	}
}

// register notes a stream that has opened.
func (s *Source) register(st *Stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams[st] = struct{}{}
	s.opened++
	s.askAgain()
	if st.copier != nil {
		s.copier = st.copier
	}
}

// begin returns the place to read from, the State there, and the server that was read
// before.
func (s *Source) begin(ctx context.Context, from dfs.Checkpoint) (at *position, state, before string, err error) {
	if from.Pos == "" {
		at, state, err = s.started(ctx)
		return at, state, s.known().server, err
	}
	s.mu.Lock()
	s.began.State = "" // it has been stored, and can be large
	s.mu.Unlock()
	if at, err = parsePosition(from.Pos); err != nil {
		return nil, "", "", err
	}
	switch {
	case s.maria != (at.kind == byMaria):
		return nil, "", "", fmt.Errorf("cdc: the checkpoint's position %q was made on another kind of server: make a new copy of the data", from.Pos)
	case at.kind == byGTID && !s.known().gtid:
		return nil, "", "", fmt.Errorf("cdc: the checkpoint's position %q is by GTID, but gtid_mode is not ON on the source: set it to ON", from.Pos)
	case at.kind == byFile && at.server != s.known().server:
		return nil, "", "", fmt.Errorf("%w: the checkpoint's position is in the files of server %s, and this is %s: read from that one, or make a new copy of the data",
			ErrDiverged, at.server, s.known().server)
	case at.kind == byMaria && at.server != s.known().server && slices.ContainsFunc(at.xa, func(p preparedXA) bool { return p.at != "" }):
		return nil, "", "", fmt.Errorf("%w: the XA transactions %s are prepared in the files of server %s, and this is %s: read from that one until they have ended, or make a new copy of the data",
			ErrDiverged, appendPrepared(nil, at.xa), at.server, s.known().server)
	}
	before, at.server = at.server, s.known().server
	if before != at.server {
		// A place in the files of the server before is none in those of this one, which
		// sameLog and acks would take it for. What this one sends tells its own.
		at.file, at.pos = "", 0
	}
	err = s.reachable(ctx, at)
	switch {
	case err != nil:
	case at.kind == byFile && at.pos > s.farthest:
		err = s.pastFile(ctx, at)
	case before == at.server:
		err = s.sameLog(ctx, at)
	}
	return at, from.State, before, err
}

// leastGroup is less than any transaction or statement takes in a log, with the heads
// of its events. What ends a file, such as a rotate event, may be shorter.
const leastGroup = 64

// pastFile moves a place behind which its file has nothing to the next file. A file has
// more than max_binlog_size if its last transaction is large, and so a place that is too
// far in it to be asked for is mostly where it ends.
func (s *Source) pastFile(ctx context.Context, at *position) error {
	logs, err := s.logs(ctx)
	i := slices.IndexFunc(logs, func(l logFile) bool { return l.name == at.file })
	if err == nil && i >= 0 && i+1 < len(logs) && logs[i].size-at.pos < leastGroup {
		at.file, at.pos = logs[i+1].name, 4
	}
	return err
}

// reachable checks that the server still has what follows at, and all that is
// before it.
func (s *Source) reachable(ctx context.Context, at *position) error {
	ctx, cancel := answerWithin(ctx)
	defer cancel()
	return unanswered(ctx, s.reach(ctx, at))
}

func (s *Source) reach(ctx context.Context, at *position) error {
	switch at.kind {
	case byGTID:
		var purged, ahead string
		set := at.set.String()
		err := s.db.QueryRowContext(ctx, "SELECT GTID_SUBTRACT(@@global.gtid_purged, ?), GTID_SUBTRACT(?, @@global.gtid_executed)", set, set).
			Scan(&purged, &ahead)
		if err != nil {
			return mark(fmt.Errorf("cdc: compare GTIDs with the source's: %w", err))
		}
		if purged != "" {
			return fmt.Errorf("%w: transactions %s are missing, which a replica is told as error 1236: make a new copy of the data, and keep the log longer (binlog_expire_logs_seconds)",
				ErrPurged, oneLine(purged))
		}
		if ahead, err = s.notWritten(ctx, ahead); err != nil {
			return err
		}
		if ahead != "" {
			return fmt.Errorf("%w: transactions %s are not there: read from the server that has them, or make a new copy of the data",
				ErrDiverged, oneLine(ahead))
		}
	case byMaria:
		// The server itself does not mind a domain that it knows nothing of: it
		// waits until one comes.
		var text sql.NullString
		if err := s.db.QueryRowContext(ctx, "SELECT @@global.gtid_binlog_state").Scan(&text); err != nil {
			return mark(fmt.Errorf("cdc: compare GTIDs with the source's: %w", err))
		}
		last := make(map[uint32]uint64)
		for part := range strings.SplitSeq(text.String, ",") {
			state, err := parseGTIDList(part)
			if err != nil {
				return fmt.Errorf("cdc: read gtid_binlog_state: %w", err)
			}
			for _, g := range state.gtids {
				last[g.domain] = max(last[g.domain], g.seq)
			}
		}
		for _, g := range at.list.gtids {
			if last[g.domain] < g.seq {
				return fmt.Errorf("%w: transaction %s is not there: read from the server that has it, or make a new copy of the data",
					ErrDiverged, g.append(nil))
			}
		}
	case byFile:
		logs, err := s.logs(ctx)
		if err != nil {
			return err
		}
		for _, l := range logs {
			if l.name != at.file {
				continue
			}
			if at.pos > l.size {
				return fmt.Errorf("%w: %s has only %d bytes, and position %d was read: read from the server that has it, or make a new copy of the data",
					ErrDiverged, at.file, l.size, at.pos)
			}
			return nil
		}
		first := "no file"
		if len(logs) > 0 {
			first = logs[0].name
		}
		if len(logs) > 0 && at.file > logs[len(logs)-1].name {
			return fmt.Errorf("%w: it has no file %s, and its last is %s: read from the server that has it, or make a new copy of the data",
				ErrDiverged, at.file, logs[len(logs)-1].name)
		}
		return fmt.Errorf("%w: file %s is missing, and the first left is %s: make a new copy of the data, and keep the log longer",
			ErrPurged, at.file, first)
	}
	return nil
}

// notWritten returns what of a set of GTIDs the server has neither committed nor
// in its log. A transaction is sent as soon as it is in the log, but it enters
// gtid_executed when it commits: after the others of its group, or after a
// replica has acknowledged it (rpl_semi_sync_source_wait_point=AFTER_SYNC). Until
// then a session owns its GTID. The server itself counts these too when it
// compares a replica's set with its own (Binlog_sender::check_start_file).
func (s *Source) notWritten(ctx context.Context, set string) (string, error) {
	if set == "" {
		return "", nil
	}
	// What is owned no more when it is asked for has been committed by then, and
	// so it must be asked for first.
	var owned string
	err := s.db.QueryRowContext(ctx, "SELECT @@global.gtid_owned").Scan(&owned)
	if err == nil {
		err = s.db.QueryRowContext(ctx, "SELECT GTID_SUBTRACT(GTID_SUBTRACT(?, @@global.gtid_executed), ?)", set, ownedGTIDs(owned)).
			Scan(&set)
	}
	if err != nil {
		return "", mark(fmt.Errorf("cdc: compare GTIDs with the source's: %w", err))
	}
	return set, nil
}

// oneLine takes out the line feeds that MySQL prints a GTID set with.
func oneLine(set string) string { return strings.Join(strings.Fields(set), "") }

// A logFile is one file of a server's binary log.
type logFile struct {
	name string
	size uint64
}

// logs returns the files of the binary log, oldest first. It needs REPLICATION
// CLIENT, or MariaDB's BINLOG MONITOR.
func (s *Source) logs(ctx context.Context) ([]logFile, error) {
	var list []logFile
	var bad error
	err := eachRow(ctx, s.db, "SHOW BINARY LOGS", func(v []sql.NullString) {
		size, e := strconv.ParseUint(v[1].String, 10, 64)
		if e != nil {
			bad = fmt.Errorf("cdc: SHOW BINARY LOGS: size of %s: %w", v[0].String, e)
		}
		list = append(list, logFile{v[0].String, size})
	})
	return list, errors.Join(mark(err), bad)
}

// logEnd sets p to where the log ends.
func (s *Source) logEnd(ctx context.Context, p *position) error { return s.logEndOn(ctx, s.db, p) }

// logEndOn is logEnd over a connection.
func (s *Source) logEndOn(ctx context.Context, db queryer, p *position) error {
	query := "SHOW MASTER STATUS"
	if !s.maria && atLeast(s.known().version, 8, 2) {
		query = "SHOW BINARY LOG STATUS"
	}
	var bad error
	err := eachRow(ctx, db, query, func(v []sql.NullString) {
		p.file = v[0].String
		p.pos, bad = strconv.ParseUint(v[1].String, 10, 64)
	})
	if err == nil && bad == nil && p.file == "" {
		bad = errors.New("no log")
	}
	if bad != nil {
		bad = fmt.Errorf("cdc: %s: %w", query, bad)
	}
	return errors.Join(mark(err), bad)
}

// errMalformed says that a server's answer was not to be read to its end.
var errMalformed = errors.New("the server's answer is malformed")

// A queryer is a *sql.DB, or one connection of it.
type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// eachRow runs a query and calls f with the columns of each row, as text.
func eachRow(ctx context.Context, db queryer, query string, f func([]sql.NullString)) (err error) {
	// The driver takes for granted that a row has all of its columns. That of
	// SHOW SLAVE HOSTS in MySQL 5.6 has not, if a replica gave no @slave_uuid or
	// is just going (seen with 5.6.24).
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("cdc: %s: %w: %v", brief(query), errMalformed, p)
		}
	}()
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return fmt.Errorf("cdc: %s: %w", brief(query), err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return fmt.Errorf("cdc: %s: %w", brief(query), err)
	}
	values := make([]sql.NullString, len(columns))
	to := make([]any, len(columns))
	for i := range values {
		to[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(to...); err != nil {
			return fmt.Errorf("cdc: %s: %w", brief(query), err)
		}
		f(values)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("cdc: %s: %w", brief(query), err)
	}
	return nil
}

// brief returns a query in a line, as errors have it.
func brief(query string) string {
	const most = 80
	line := []rune(strings.Join(strings.Fields(query), " "))
	if len(line) > most {
		return string(line[:most]) + "…"
	}
	return string(line)
}

// atLeast reports whether a server's version is major.minor or later.
func atLeast(version string, major, minor int) bool {
	var a, b int
	fmt.Sscanf(version, "%d.%d", &a, &b)
	return a > major || a == major && b >= minor
}

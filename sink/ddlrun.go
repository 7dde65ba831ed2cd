package sink

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/ddl"
	"github.com/dataflowsync/dfs/internal/failpoint"
)

// A statement that alters tables commits by itself, so it cannot share a
// transaction with the checkpoint. That it is applied exactly once all the same
// rests on an intent, a row of the table dfs_ddl:
//
//  1. All that came before is committed, with its checkpoint.
//  2. The intent is committed: which statement is next, and the footprints of
//     its tables before it. That transaction locks the checkpoint's row and
//     looks whether it is still this sink's, as any other does.
//  3. The statement runs, in the session that holds the owner's lock.
//  4. The checkpoint moves, and the intent ends in the same transaction.
//
// A sink that starts and finds an intent first makes sure that the statement
// does not run any more and never will: it waits for the lock of the intent's
// owner, and ends the session that holds it if that is idle. From then on only
// this sink can alter the tables, and the footprints now and before tell whether
// the statement was done. It is run if it was not.
//
// Invariant I1: the checkpoint moves only after the statement has been seen to
// be done, in the transaction that ends its intent.

const ddlTable = "dfs_ddl"

func (m *MySQL) createIntentsSQL() string {
	return "CREATE TABLE IF NOT EXISTS " + m.ddlTable + " (\n" +
		"  name varchar(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL PRIMARY KEY,\n" +
		"  seq bigint unsigned NOT NULL COMMENT 'number of the transaction; 0 if the statement is done',\n" +
		"  part int unsigned NOT NULL COMMENT 'which statement of the transaction',\n" +
		"  id varchar(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'name of the transaction',\n" +
		"  owner varchar(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'who runs it',\n" +
		"  hash char(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'of the statement',\n" +
		"  query longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'the statement, as the target runs it',\n" +
		"  was longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'the tables before it',\n" +
		"  started datetime(6) NOT NULL COMMENT 'UTC'\n" +
		") ENGINE=InnoDB"
}

// An intent is a statement that may have been run.
type intent struct {
	seq   uint64
	part  int
	id    string
	hash  string
	owner string
	was   []footprint
}

func hashOf(query string) string {
	sum := sha256.Sum256([]byte(query))
	return hex.EncodeToString(sum[:])
}

// setUpIntents makes sure of the table of intents.
func (m *MySQL) setUpIntents(ctx context.Context, s *session) error {
	if !m.appliesDDL() {
		return nil
	}
	_, err := s.query(ctx, "SELECT seq FROM "+m.ddlTable+" LIMIT 1")
	if serverError(err) == erNoSuchTable {
		_, err = s.exec(ctx, []byte(m.createIntentsSQL()))
	}
	switch serverError(err) {
	case erDBAccess, erTableAccess, erColumnAccess, erSpecificAccess, erNoSuchTable:
		return fmt.Errorf("preparing the table of statements under way: %w; as an administrator of the target run: "+
			"%s; GRANT SELECT, INSERT, UPDATE ON %s TO the account of the DSN", err, m.createIntentsSQL(), m.ddlTable)
	}
	if err != nil {
		return fmt.Errorf("preparing the table of statements under way: %w", classify(err))
	}
	return nil
}

// readIntent returns the pipeline's intent, or nil if there is none. One may have
// been left by a start with other policies, whose statement may still run.
func (m *MySQL) readIntent(ctx context.Context, s *session) (*intent, error) {
	rows, err := s.query(ctx, string(appendQuoted([]byte("SELECT seq,part,id,hash,owner,was FROM "+m.ddlTable+" WHERE seq<>0 AND name="), m.name)))
	switch serverError(err) {
	case erNoSuchTable, erDBAccess, erTableAccess, erColumnAccess:
		// An account that may not read the table cannot have written an intent.
		if !m.appliesDDL() {
			return nil, nil
		}
	}
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	r := rows[0]
	in := &intent{seq: r[0].uint(), part: int(r[1].uint()), id: r[2].text, hash: r[3].text, owner: r[4].text}
	if err := json.Unmarshal([]byte(r[5].text), &in.was); err != nil {
		return nil, fmt.Errorf("reading the row of %q in %s: %w", m.name, m.ddlTable, err)
	}
	return in, nil
}

// await waits until the session that holds the owner's lock has ended, and with
// it the statement that it may be running, which can take hours and must not be
// lost by a restart. If the session is idle it is ended.
func (m *MySQL) await(ctx context.Context, s *session, owner string) error {
	var told time.Time
	for {
		rows, err := s.query(ctx, string(appendQuoted([]byte("SELECT IS_USED_LOCK("), "dfs."+owner))+")")
		if err != nil {
			return err
		}
		if rows[0][0].null || rows[0][0].uint() == s.id {
			return nil
		}
		holder := rows[0][0].uint()
		list, err := s.query(ctx, "SHOW PROCESSLIST")
		if err != nil {
			return err
		}
		// Those of other accounts are shown only to who has the right PROCESS.
		since, state := "unknown", "unknown"
		for _, r := range list {
			if r[0].uint() != holder {
				continue
			}
			if since, state = r[5].text+"s", r[6].text; r[4].text == "Sleep" {
				_, _ = s.exec(ctx, fmt.Appendf(nil, "KILL %d", holder))
			}
		}
		if time.Since(told) > time.Minute {
			told = time.Now()
			m.log.Info("waiting for the end of a statement that was begun before this start", "connection", holder, "for", since, "state", state)
		}
		// Getting the lock is to be told of the end at once.
		name := string(appendQuoted(nil, "dfs."+owner))
		rows, err = s.query(ctx, "SELECT GET_LOCK("+name+",1)")
		if err != nil {
			return err
		}
		if rows[0][0].text == "1" {
			_, err = s.query(ctx, "SELECT RELEASE_LOCK("+name+")")
			return err
		}
	}
}

var errBehindRows = errors.New("rows of the same transaction stand before it, which it would commit without the rest")

// statementOf returns the first statement of a transaction.
func statementOf(tx *dfs.Transaction) string {
	for i := range tx.Changes {
		if tx.Changes[i].Op == dfs.DDL {
			return tx.Changes[i].Query
		}
	}
	return ""
}

// statements runs the statements of a transaction that are to be applied. They
// stand at its head. Nothing of the target is open.
func (m *MySQL) statements(ctx context.Context, tx *dfs.Transaction) error {
	rows := false
	for i := range tx.Changes {
		c := &tx.Changes[i]
		if c.Op != dfs.DDL {
			rows = true
			continue
		}
		v := m.judge(tx, c)
		if v.policy == PolicyIgnore {
			continue
		}
		err := v.err
		switch {
		case v.policy == PolicyError:
			return &DDLError{tx.Seq, tx.ID, c.Query, nil}
		case err != nil:
		case rows:
			err = errBehindRows
		default:
			err = m.statement(ctx, tx, c, i, v.stmt)
		}
		if err == nil {
			continue
		}
		if errors.Is(err, dfs.ErrTransient) || errors.Is(err, dfs.ErrConflict) || ctx.Err() != nil {
			return fmt.Errorf("applying the statement of transaction %s: %w", txName(tx.Seq, tx.ID), err)
		}
		if v.policy != PolicyTry {
			return &DDLError{tx.Seq, tx.ID, c.Query, err}
		}
		m.failed[c] = true
		m.log.Warn("statement failed and is passed over", "seq", tx.Seq, "id", tx.ID, "query", limit(c.Query, 400), "error", err)
	}
	return nil
}

// statement runs one statement, if it has not been run already.
func (m *MySQL) statement(ctx context.Context, tx *dfs.Transaction, c *dfs.Change, part int, stmt *ddl.Statement) error {
	if err := m.translate(ctx, c); err != nil {
		return err
	}
	r, err := m.route(c, stmt)
	if err != nil {
		return err
	}
	if len(r.tables) == 0 {
		return nil // nothing of it is left
	}
	if m.sess == nil {
		return dfs.Transient(errors.New("the connection to the target is lost"))
	}
	r.mariadb = m.sess.srv.mariadb
	if err := m.addBefore(ctx, r.tables); err != nil {
		return err
	}
	now, err := m.sess.footprints(ctx, r.tables)
	if err != nil {
		return classify(err)
	}
	was := now
	if in := m.intent; in != nil && in.seq == tx.Seq && in.id == limit(tx.ID, 255) {
		if in.part > part {
			return nil // a later one was begun
		}
		if in.part == part && in.hash == hashOf(c.Query) {
			was = in.was
			state, err := r.settle(was, now)
			if err != nil {
				return err
			}
			switch state {
			case done:
				m.log.Info("a statement was done before this start", "seq", tx.Seq, "id", tx.ID, "query", limit(r.text, 400))
				m.forget()
				return nil
			case halfway:
				r.text = r.remaining(now)
			}
		}
	}
	if err := m.fills(ctx, r); err != nil {
		return err
	}
	failpoint.Hit("sink.ddl.intent")
	if err := m.intend(ctx, &intent{seq: tx.Seq, part: part, id: limit(tx.ID, 255), hash: hashOf(c.Query), owner: m.owner, was: was}, r.text); err != nil {
		return err
	}
	failpoint.Hit("sink.ddl.intended")
	m.log.Info("applying a statement", "seq", tx.Seq, "id", tx.ID, "query", limit(r.text, 400))
	start := time.Now()
	m.stats.running.Store(&Running{Query: r.text, Since: start})
	err = m.inSession(ctx, c, r)
	failpoint.Hit("sink.ddl.done")
	m.stats.running.Store(nil)
	m.forget()
	if err != nil && m.sess != nil && m.reached(ctx, r, err) {
		m.log.Warn("a statement found its work done", "seq", tx.Seq, "id", tx.ID, "query", limit(r.text, 400), "answer", err)
		err = nil
	}
	if err != nil {
		if m.sess != nil && serverError(err) != 0 && r.kind != ddl.DropTable && r.kind != ddl.DropView {
			// The server says that it has not done it. If this is lost, the next
			// start looks for itself.
			own := appendQuoted([]byte(m.endIntent()+" AND owner="), m.owner)
			if _, e := m.exec(ctx, own); e == nil {
				m.intent = nil
			}
		}
		return withDDLGrant(err, r)
	}
	m.log.Info("applied a statement", "seq", tx.Seq, "id", tx.ID, "took", time.Since(start).Round(time.Millisecond))
	return nil
}

// intend commits the intent. Like any transaction of the sink it begins with a
// look at the checkpoint's row.
func (m *MySQL) intend(ctx context.Context, in *intent, query string) error {
	// Without the lock a later start could not tell when the statement ends.
	rows, err := m.sess.query(ctx, string(appendQuoted([]byte("SELECT IS_USED_LOCK("), "dfs."+m.owner))+")=CONNECTION_ID()")
	if err != nil {
		return classify(err)
	}
	if rows[0][0].text != "1" {
		return errors.New("the target gives no lock by GET_LOCK, without which a statement cannot be applied exactly once")
	}
	n, err := m.exec(ctx, m.appendMove([]byte("BEGIN; "), nil))
	if err != nil {
		return err
	}
	if n[1] != 1 {
		m.drop()
		return m.conflict("another pipeline of this name has moved the checkpoint, or taken it over")
	}
	was, err := json.Marshal(in.was)
	if err != nil {
		return err
	}
	b := append([]byte("INSERT INTO "), m.ddlTable...)
	b = appendQuoted(append(b, " (name,seq,part,id,owner,hash,query,was,started) VALUES ("...), m.name)
	b = fmt.Appendf(b, ",%d,%d,", in.seq, in.part)
	for _, text := range []string{in.id, in.owner, in.hash, strings.ToValidUTF8(query, "?"), string(was)} {
		b = append(appendQuoted(b, text), ',')
	}
	b = append(b, "UTC_TIMESTAMP(6)) ON DUPLICATE KEY UPDATE seq=VALUES(seq),part=VALUES(part),id=VALUES(id),owner=VALUES(owner),"+
		"hash=VALUES(hash),query=VALUES(query),was=VALUES(was),started=VALUES(started); COMMIT"...)
	if _, err := m.exec(ctx, b); err != nil {
		m.drop() // the transaction may be open, and may be committed
		return fmt.Errorf("noting it in %s: %w", m.ddlTable, err)
	}
	m.intent = in
	return nil
}

// endIntent is what ends the intent in the transaction that moves the
// checkpoint.
func (m *MySQL) endIntent() string {
	return string(appendQuoted([]byte("UPDATE "+m.ddlTable+" SET seq=0 WHERE name="), m.name))
}

// remaining returns a DROP of those of the tables that are there.
func (r *routed) remaining(now []footprint) string {
	var list []ddl.Table
	for _, f := range now {
		if f.Exists {
			list = append(list, ddl.Table{Schema: f.Schema, Name: f.Name})
		}
	}
	switch r.kind {
	case ddl.DropSchema:
		return r.text
	case ddl.DropView:
		return "DROP VIEW " + joinNames(list, ", ")
	}
	return "DROP TABLE " + joinNames(list, ", ")
}

// reached reports whether the target is where the statement leads, though it
// answered with an error: what a DROP names is gone.
func (m *MySQL) reached(ctx context.Context, r *routed, err error) bool {
	switch n := serverError(err); {
	case r.kind == ddl.DropTable && (n == erBadTable || n == erNoSuchTable), r.kind == ddl.DropView && n == erBadTable,
		r.kind == ddl.DropSchema && n == erDropMissing:
	default:
		return false
	}
	now, e := m.sess.footprints(ctx, r.tables)
	return e == nil && !slices.ContainsFunc(now, func(f footprint) bool { return f.Exists })
}

// withDDLGrant adds the cure to an error about the account's rights.
func withDDLGrant(err error, r *routed) error {
	switch serverError(err) {
	case erDBAccess, erTableAccess, erColumnAccess, erDropDenied:
		return fmt.Errorf("%w: GRANT CREATE, ALTER, DROP, INDEX, REFERENCES, CREATE VIEW, SHOW VIEW ON %s.* TO the account of the DSN",
			err, appendIdent(nil, r.tables[0].Schema))
	case erSpecificAccess:
		if strings.Contains(strings.ToUpper(r.text), "DEFINER") {
			return fmt.Errorf("%w, which it takes to keep its DEFINER", err)
		}
	}
	return err
}

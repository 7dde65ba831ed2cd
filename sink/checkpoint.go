package sink

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/failpoint"
)

// The table of checkpoints has a row for each pipeline that writes to the
// server. A transaction of the sink begins with a compare-and-set of this row:
//
//	UPDATE ... SET seq = new, pos = ... WHERE name = ? AND seq = old AND owner = me
//
// The source's State (dfs.Checkpoint) is set by the same statement, when it has
// changed.
//
// Invariant I1: the checkpoint moves only in the atomic write that applies its
// transaction. That it comes first keeps a writer that lost its place from
// writing at all, and makes two writers wait for each other at one row only.
//
// Owner is a token that each start of a pipeline makes anew. A start writes it
// into the row, for which it waits until no transaction holds the row. So after
// the start, no transaction begun before it can commit: its compare-and-set
// finds another owner, or it has ended.
//
// In the row a "+" follows the token from before the first rows are loaded by several
// connections (load.go) until the copy has ended. So a start knows whether it must be
// able to read dfs_load, and each start hands that on to the next.

const checkpointTable = "dfs_checkpoint"

const loadsMark = "+"

// stateColumn came later than the table, and is added to one that lacks it.
const stateColumn = "state longblob NULL COMMENT 'what else the source must know to go on'"

func (m *MySQL) createTableSQL() string {
	return "CREATE TABLE IF NOT EXISTS " + m.cpTable + " (\n" +
		"  name varchar(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL PRIMARY KEY,\n" +
		"  seq bigint unsigned NOT NULL COMMENT 'number of the last transaction applied',\n" +
		"  pos mediumtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'where the source goes on',\n" +
		"  id varchar(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'name of that transaction',\n" +
		"  committed datetime(6) NULL COMMENT 'when the source committed it, UTC',\n" +
		"  owner varchar(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'who may write',\n" +
		"  updated datetime(6) NOT NULL COMMENT 'when this row was written, UTC',\n" +
		"  " + stateColumn + "\n" +
		") ENGINE=InnoDB"
}

// setUp makes sure of the checkpoint table and of the pipeline's row in it.
func (m *MySQL) setUp(ctx context.Context, s *session) error {
	where := string(appendQuoted([]byte(" WHERE name="), m.name))
	rows, err := s.query(ctx, "SELECT seq, state IS NULL FROM "+m.cpTable+where)
	if serverError(err) == erBadField {
		return m.addState(ctx, s)
	}
	cure := func(err error) error {
		switch serverError(err) {
		case erDBAccess, erTableAccess, erColumnAccess, erSpecificAccess, erBadDB, erNoSuchTable:
		default:
			return fmt.Errorf("preparing the checkpoint table: %w", classify(err))
		}
		return fmt.Errorf("preparing the checkpoint table: %w; as an administrator of the target run: "+
			"CREATE DATABASE IF NOT EXISTS `%s`; %s; GRANT SELECT, INSERT, UPDATE ON %s TO the account of the DSN",
			err, m.schema, m.createTableSQL(), m.cpTable)
	}
	switch serverError(err) {
	case erNoSuchTable, erBadDB:
		// The schema is created only if missing, so that an account needs no
		// right to do so where it is there.
		if _, err = s.exec(ctx, []byte(m.createTableSQL())); serverError(err) == erBadDB {
			schema := appendIdent([]byte("CREATE DATABASE IF NOT EXISTS "), m.schema)
			_, err = s.exec(ctx, append(append(schema, ';'), m.createTableSQL()...))
		}
	}
	if err != nil {
		return cure(err)
	}
	if len(rows) > 0 {
		return nil
	}
	b := append([]byte("INSERT IGNORE INTO "), m.cpTable...)
	b = appendQuoted(append(b, " (name,seq,pos,id,owner,updated) VALUES ("...), m.name)
	n, err := s.exec(ctx, append(b, ",0,'','','',UTC_TIMESTAMP(6))"...))
	if err != nil {
		return cure(err)
	}
	if n[0] > 0 {
		return m.forgetMarkers(ctx, s)
	}
	return nil
}

// addState adds the column of the State to a table that an older program made.
func (m *MySQL) addState(ctx context.Context, s *session) error {
	alter := "ALTER TABLE " + m.cpTable + " ADD COLUMN " + stateColumn
	_, err := s.exec(ctx, []byte(alter))
	if err == nil || serverError(err) == erDupField { // another sink may have been first
		return m.setUp(ctx, s)
	}
	switch serverError(err) {
	case erDBAccess, erTableAccess, erSpecificAccess:
		return fmt.Errorf("preparing the checkpoint table: %w; as an administrator of the target run: %s", err, alter)
	}
	return fmt.Errorf("preparing the checkpoint table: %w", classify(err))
}

// claim makes this sink the owner of the checkpoint and returns it. The first
// claim of a sink takes it from whoever has it. A later one does so only if
// nobody else has taken it since, so that two pipelines do not take it from
// each other for ever.
func (m *MySQL) claim(ctx context.Context, s *session) (dfs.Checkpoint, error) {
	where := string(appendQuoted([]byte(" WHERE name="), m.name))
	under, err := m.readIntent(ctx, s)
	if err != nil {
		return dfs.Checkpoint{}, err
	}
	for try := 0; ; try++ {
		rows, err := s.query(ctx, "SELECT owner FROM "+m.cpTable+where)
		if err != nil {
			return dfs.Checkpoint{}, err
		}
		if len(rows) == 0 {
			return dfs.Checkpoint{}, m.conflict("the row is gone") // which lost tells better
		}
		row := rows[0][0].text
		old, loads := strings.CutSuffix(row, loadsMark)
		mine := strings.HasPrefix(old, m.instance)
		if m.claimed && !mine {
			return dfs.Checkpoint{}, m.conflict("another pipeline of this name has taken the checkpoint over")
		}
		// What a lost connection of our own has left need not be waited for, but
		// for a statement that alters tables: it holds no lock of the row.
		if mine && (under == nil || under.owner != old) || try > 0 {
			s.killHolder(ctx, old)
		}
		// Those that load rows hold a shared lock of the row. One of our own that is
		// still connected is between two pieces.
		// The start before may have had more of them.
		pieces := max(len(m.loader.helpers), defaultLoaders)
		if try > 0 {
			pieces = maxLoaders
		}
		for i := range pieces {
			lost := i >= len(m.loader.helpers) || m.loader.helpers[i].sess == nil
			if mine && lost || try > 0 {
				s.killHolder(ctx, pieceOwner(old, i))
			}
		}
		owner := m.instance + token(4)
		b := append([]byte("UPDATE "), m.cpTable...)
		b = appendQuoted(append(b, " SET owner="...), inRow(owner, loads))
		b = append(b, where...)
		b = appendQuoted(append(b, " AND owner="...), row)
		n, err := s.exec(ctx, fmt.Appendf(nil, "SET innodb_lock_wait_timeout=%d; %s", m.patience, b))
		if serverError(err) == erLockWait && try < 10 {
			continue
		}
		if err != nil {
			return dfs.Checkpoint{}, err
		}
		if n[1] != 1 {
			continue // someone else came in between
		}
		failpoint.Hit("sink.claim")
		m.owner, m.loads, m.claimed = owner, loads, true
		m.dismiss(ctx, s, old)
		break
	}
	if _, err := s.exec(ctx, fmt.Appendf(nil, "SET innodb_lock_wait_timeout=%d", lockWait)); err != nil {
		return dfs.Checkpoint{}, err
	}
	// Invariant I1: an intent is read after the row was taken, so that none can
	// follow, and it is known before anything is applied how its statement ended.
	if m.intent, err = m.readIntent(ctx, s); err != nil {
		return dfs.Checkpoint{}, err
	}
	if m.intent != nil {
		if err := m.await(ctx, s, m.intent.owner); err != nil {
			return dfs.Checkpoint{}, err
		}
	}
	s.hold(ctx, m.owner)
	rows, err := s.query(ctx, "SELECT seq,pos,owner,state FROM "+m.cpTable+where)
	if err != nil {
		return dfs.Checkpoint{}, err
	}
	if len(rows) == 0 || rows[0][2].text != inRow(m.owner, m.loads) {
		return dfs.Checkpoint{}, m.conflict("another pipeline of this name has taken the checkpoint over")
	}
	return dfs.Checkpoint{Seq: rows[0][0].uint(), Pos: dfs.Position(rows[0][1].text), State: rows[0][3].text}, nil
}

func (m *MySQL) conflict(why string) error {
	return fmt.Errorf("%w: %s (row %q of %s): give each pipeline a Name of its own", dfs.ErrConflict, why, m.name, m.cpTable)
}

// hold takes a lock by the owner's name, by which killHolder finds the session,
// and gives up the one of the owner before: since MySQL 5.7 and MariaDB 10.0 a
// session can have many.
// Where such locks are not to be had, as under PXC's strict mode, a start after
// a lost connection waits until the server notices the loss.
func (s *session) hold(ctx context.Context, owner string) {
	sql := "SELECT GET_LOCK('dfs." + owner + "',0)"
	if s.held != "" {
		sql += ", RELEASE_LOCK('dfs." + s.held + "')"
	}
	s.held = owner
	_, _ = s.query(ctx, sql)
}

// killHolder ends the session that holds the owner's lock, if it is not this
// one. A connection whose network died keeps its transaction, and with it the
// lock of the checkpoint's row, until the server notices, which can take hours.
// Everyone may kill sessions of his own account. Failing is no harm: then the
// claim waits.
func (s *session) killHolder(ctx context.Context, owner string) {
	if owner == "" {
		return
	}
	rows, err := s.query(ctx, string(appendQuoted([]byte("SELECT IS_USED_LOCK("), "dfs."+owner))+")")
	if err != nil || rows[0][0].null || rows[0][0].uint() == s.id {
		return
	}
	_, _ = s.exec(ctx, fmt.Appendf(nil, "KILL %d", rows[0][0].uint()))
}

// move returns the transaction that a run moves the checkpoint to: its last one,
// with the latest State of the run.
func (m *MySQL) move(run []*dfs.Transaction) (*dfs.Transaction, error) {
	last := run[len(run)-1]
	i := len(run) - 1
	for i > 0 && run[i].State == "" {
		i--
	}
	n := len(run[i].State)
	if n == 0 {
		return last, nil
	}
	for _, c := range []byte(run[i].State) {
		if escapes[c] != 0 {
			n++
		}
	}
	const rest = 2048 // what else is in the statement, but for the position
	if n += len(last.Pos) + rest; m.sess != nil && n > m.sess.srv.maxPacket {
		return nil, &stopError{run[i].Seq, fmt.Errorf("transaction %s: %w",
			txName(run[i].Seq, run[i].ID), &tooLargeError{"the source's state", n, m.sess.srv.maxPacket})}
	}
	c := *last
	c.State = run[i].State
	return &c, nil
}

// appendMove appends the compare-and-set from the checkpoint of the last commit
// to tx. If tx is nil, it changes nothing, and only locks the row.
func (m *MySQL) appendMove(b []byte, tx *dfs.Transaction) []byte {
	return m.appendMoveFrom(b, tx, m.stands.at.Seq)
}

// appendMoveFrom is appendMove from the number base.
func (m *MySQL) appendMoveFrom(b []byte, tx *dfs.Transaction, base uint64) []byte {
	b = append(append(b, "UPDATE "...), m.cpTable...)
	if tx == nil {
		b = append(b, " SET seq=seq"...)
	} else {
		b = fmt.Appendf(b, " SET seq=%d,pos=", tx.Seq)
		b = appendQuoted(append(b, "_utf8mb4"...), string(tx.Pos))
		b = appendQuoted(append(b, ",id=_utf8mb4"...), limit(tx.ID, 255))
		b = append(b, ",committed="...)
		if tx.Committed.IsZero() {
			b = append(b, "NULL"...)
		} else {
			b = appendQuoted(b, tx.Committed.UTC().Format("2006-01-02 15:04:05.000000"))
		}
		if tx.State != "" {
			b = appendQuoted(append(b, ",state=_binary"...), tx.State)
		}
		b = append(b, ",updated=UTC_TIMESTAMP(6)"...)
		if m.copied && m.loads {
			b = appendQuoted(append(b, ",owner="...), m.owner) // commit follows
		}
	}
	return m.appendFenceAt(append(b, " WHERE"...), base)
}

// appendFence appends the condition for the checkpoint's row, if it is this sink's and
// stands where the last commit has left it.
func (m *MySQL) appendFence(b []byte) []byte { return m.appendFenceAt(b, m.stands.at.Seq) }

// appendFenceAt is appendFence for a number that the row is to have.
func (m *MySQL) appendFenceAt(b []byte, base uint64) []byte {
	b = appendQuoted(append(b, " name="...), m.name)
	b = fmt.Appendf(b, " AND seq=%d AND owner=", base)
	return appendQuoted(b, inRow(m.owner, m.loads))
}

// inRow returns what the checkpoint's row has for an owner.
func inRow(owner string, loads bool) string {
	if loads {
		return owner + loadsMark
	}
	return owner
}

func limit(s string, n int) string {
	if len(s) > n {
		return strings.ToValidUTF8(s[:n], "")
	}
	return s
}

// token returns n random bytes in hexadecimal.
func token(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// Stored returns the checkpoint as the target has it, which is zero before the first
// start. Unlike Checkpoint it takes nothing over, and does not disturb a pipeline
// that runs.
func (m *MySQL) Stored(ctx context.Context) (dfs.Checkpoint, error) {
	if err := m.connected(ctx); err != nil {
		return dfs.Checkpoint{}, err
	}
	return m.stored(ctx)
}

func (m *MySQL) stored(ctx context.Context) (at dfs.Checkpoint, err error) {
	where := string(appendQuoted([]byte(" FROM "+m.cpTable+" WHERE name="), m.name))
	rows, err := m.sess.query(ctx, "SELECT seq,pos,state"+where)
	if serverError(err) == erBadField { // a table of an older program
		rows, err = m.sess.query(ctx, "SELECT seq,pos,NULL"+where)
	}
	switch serverError(err) {
	case erNoSuchTable, erBadDB:
		return at, nil
	case erDBAccess, erTableAccess, erColumnAccess:
		// That is also the answer about what does not exist.
		return at, fmt.Errorf("reading the checkpoint: %w: GRANT SELECT ON `%s`.* TO the account of the DSN", err, m.schema)
	}
	if err != nil {
		return at, fmt.Errorf("reading the checkpoint: %w", classify(err))
	}
	if len(rows) == 1 {
		at = dfs.Checkpoint{Seq: rows[0][0].uint(), Pos: dfs.Position(rows[0][1].text), State: rows[0][2].text}
	}
	return at, nil
}

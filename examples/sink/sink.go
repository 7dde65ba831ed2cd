// Package sink is a sink of one's own, in 60 lines of code: an outbox, a table of
// SQLite that has each change as a message of JSON. What makes it exact is that
// messages and checkpoint are one transaction of the database; sink_test.go proves it
// by the suite that all sinks of DFS pass.
package sink

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/sink/stream"
)

const schema = `CREATE TABLE IF NOT EXISTS outbox (n INTEGER PRIMARY KEY, topic TEXT, message TEXT);
CREATE TABLE IF NOT EXISTS checkpoint (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER, pos TEXT, state BLOB, owner TEXT);
INSERT OR IGNORE INTO checkpoint VALUES (1, 0, '', '', '')`

// A Sink is a dfs.Sink.
type Sink struct {
	DB      *sql.DB
	Encoder *stream.Encoder // as stream.NewEncoder makes it
	owner   string
	seq     uint64             // the last transaction, or part of one, that was given
	waiting []*dfs.Transaction // parts whose end has not come
}

// Checkpoint takes the database from any other writer, and says where it stands.
func (s *Sink) Checkpoint(ctx context.Context) (at dfs.Checkpoint, err error) {
	s.owner, s.waiting = rand.Text(), nil
	s.Encoder.Reset()
	if _, err = s.DB.ExecContext(ctx, schema); err == nil {
		err = s.DB.QueryRowContext(ctx, "UPDATE checkpoint SET owner = ? RETURNING seq, pos, state", s.owner).Scan(&at.Seq, &at.Pos, &at.State)
	}
	s.seq = at.Seq
	return at, dfs.Transient(err)
}

// Apply stores what is whole, together with its checkpoint.
func (s *Sink) Apply(ctx context.Context, batch []*dfs.Transaction) error {
	if len(batch) > 0 && batch[0].Seq != s.seq+1 {
		return fmt.Errorf("%w: transaction %d was given after %d", dfs.ErrConflict, batch[0].Seq, s.seq)
	}
	s.waiting = append(s.waiting, batch...)
	n := len(s.waiting)
	s.seq += uint64(len(batch))
	for n > 0 && s.waiting[n-1].More {
		n--
	}
	if n == 0 {
		return nil
	}
	db, err := s.DB.BeginTx(ctx, nil)
	if err != nil {
		return dfs.Transient(err)
	}
	defer db.Rollback() // does nothing after Commit
	var at dfs.Checkpoint
	for _, tx := range s.waiting[:n] {
		at.Seq, at.Pos = tx.Seq, tx.Pos
		if tx.State != "" {
			at.State = tx.State
		}
		if err := s.Encoder.Encode(tx, func(m stream.Message) error {
			_, err := db.ExecContext(ctx, "INSERT INTO outbox (topic, message) VALUES (?, ?)", m.Topic, string(m.Value))
			return err
		}); err != nil {
			return err
		}
	}
	s.waiting = s.waiting[n:]
	r, err := db.ExecContext(ctx, "UPDATE checkpoint SET seq = ?, pos = ?, state = iif(length(?3), ?3, state) WHERE owner = ?4", at.Seq, at.Pos, []byte(at.State), s.owner)
	if err != nil {
		return dfs.Transient(err)
	}
	if n, err := r.RowsAffected(); err != nil || n == 0 {
		return fmt.Errorf("%w: another process writes to this database (%v)", dfs.ErrConflict, err)
	}
	return dfs.Transient(db.Commit())
}

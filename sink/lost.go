package sink

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/dataflowsync/dfs"
)

// A checkpoint that is gone from a target, while the rows are there, cannot be found out
// from these: a new start would take the target for new, and begin elsewhere. Who knows it
// is the process that has moved it last. So it keeps it, and the error says how to put it
// back.

// A stand is where the target stands: the last transaction committed, by what this sink
// has read and committed.
type stand struct {
	at  dfs.Checkpoint // with the latest State
	id  string         // empty: not known
	any bool           // it is known

	// open is set while a COMMIT whose answer was lost may have moved it further.
	open bool
}

// read notes the checkpoint that the target has.
func (p *stand) read(at dfs.Checkpoint) {
	if at.Seq != p.at.Seq {
		p.id = ""
	}
	p.at, p.any, p.open = at, true, false
}

// note notes that a run, which has ended, was committed.
func (p *stand) note(run []*dfs.Transaction) {
	last := run[len(run)-1]
	p.at.Seq, p.at.Pos, p.id = last.Seq, last.Pos, last.ID
	for i := len(run) - 1; i >= 0; i-- {
		if run[i].State != "" {
			p.at.State = run[i].State
			break
		}
	}
}

// tried notes how Apply has ended.
func (p *stand) tried(err error) error {
	p.open = p.open || errors.Is(err, dfs.ErrTransient)
	return err
}

// longCure is how long statements may be that an error names; of longer ones only the log
// is told, as errors are shown on pages again and again.
const longCure = 4096

// lost returns the error of a sink whose checkpoint is gone. What says what is, and sql
// puts it back.
func (p *stand) lost(log *slog.Logger, what, sql string) error {
	if !p.any {
		return fmt.Errorf("%w: %s: put it back from a backup that is as new as the target's rows, or copy the tables anew; "+
			"what begins without it does not know where the rows stand", dfs.ErrLost, what)
	}
	log.Error("the checkpoint is gone from the target; these statements put it back", "what", what, "sql", sql)
	if len(sql) > longCure {
		sql = "the statements that the log of this moment has"
	}
	rows := fmt.Sprintf("the target's rows stand at transaction %s", txName(p.at.Seq, p.id))
	if p.open {
		rows += ", or a little further, since the answer to a COMMIT was lost: what then comes again is refused as a conflict, and nothing is left out"
	}
	return fmt.Errorf("%w: %s. What begins without it does not know where the rows stand; %s. Put it back before anything else, by: %s; then start again",
		dfs.ErrLost, what, rows, sql)
}

// lost looks whether err came of a checkpoint that is gone, and then returns one that says
// so.
func (m *MySQL) lost(ctx context.Context, err error) error {
	switch n := serverError(err); {
	case err == nil, errors.Is(err, dfs.ErrLost):
		return err
	case m.sess == nil, errors.Is(err, dfs.ErrTransient), !errors.Is(err, dfs.ErrConflict) && n != erNoSuchTable && n != erBadDB:
		return err
	}
	where := string(appendQuoted([]byte(" WHERE name="), m.name))
	rows, e := m.sess.query(ctx, "SELECT 1 FROM "+m.cpTable+where)
	var what, sql string
	switch n := serverError(e); {
	case n == erNoSuchTable, n == erBadDB:
		what = fmt.Sprintf("the table %s is gone from the target", m.cpTable)
		sql = fmt.Sprintf("%s; %s; ", appendIdent([]byte("CREATE DATABASE IF NOT EXISTS "), m.schema), m.createTableSQL())
	case e == nil && len(rows) == 0:
		what = fmt.Sprintf("the row of %q is gone from the target's table %s", m.name, m.cpTable)
	default:
		return err
	}
	return m.stands.lost(m.log, what, sql+m.restoreRowSQL())
}

// restoreRowSQL puts the checkpoint's row back, also over one that a new start has made. It
// has the owner, so that this sink may go on from it.
func (m *MySQL) restoreRowSQL() string {
	p := &m.stands
	b := append([]byte("REPLACE INTO "), m.cpTable...)
	b = appendQuoted(append(b, " (name,seq,pos,id,owner,updated,state) VALUES ("...), m.name)
	b = fmt.Appendf(b, ",%d,", p.at.Seq)
	for _, text := range []string{string(p.at.Pos), limit(p.id, 255), inRow(m.owner, m.loads)} {
		b = append(appendQuoted(b, text), ',')
	}
	b = append(b, "UTC_TIMESTAMP(6),"...)
	if p.at.State == "" {
		return string(append(b, "NULL)"...))
	}
	return string(append(append(append(b, "X'"...), hex.EncodeToString([]byte(p.at.State))...), "')"...))
}

// lost is MySQL.lost of the other sinks.
func (c *core) lost(ctx context.Context, err error) error {
	switch {
	case err == nil, errors.Is(err, dfs.ErrLost):
		return err
	case !c.db.connected(), errors.Is(err, dfs.ErrTransient), !errors.Is(err, dfs.ErrConflict) && !c.db.serverError(err):
		return err
	}
	rows, e := c.db.query(ctx, "SELECT 1 FROM "+c.db.checkpointTable()+" WHERE name="+c.db.place(1), c.name)
	var what, sql string
	switch {
	case e != nil && c.db.noTable(e):
		what = fmt.Sprintf("the table %s is gone from the target", c.db.checkpointTable())
		sql = c.db.createCheckpointSQL() + "; "
	case e == nil && len(rows) == 0:
		what = fmt.Sprintf("the row of %q is gone from the target's table %s", c.name, c.db.checkpointTable())
	default:
		return err
	}
	p := &c.stands
	state := "NULL"
	if p.at.State != "" {
		state = c.db.bytesLiteral(p.at.State)
	}
	text := func(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
	return p.lost(c.log, what, fmt.Sprintf("%sINSERT INTO %s (name,seq,pos,id,owner,updated,state) VALUES (%s,%d,%s,%s,%s,%s,%s) "+
		"ON CONFLICT (name) DO UPDATE SET seq=excluded.seq,pos=excluded.pos,id=excluded.id,owner=excluded.owner,updated=excluded.updated,state=excluded.state", sql, c.db.checkpointTable(),
		text(c.name), p.at.Seq, text(string(p.at.Pos)), text(limit(p.id, 255)), text(c.owner), text(now()), state))
}

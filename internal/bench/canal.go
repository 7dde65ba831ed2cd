//go:build linux

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/canal"
	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/go-mysql-org/go-mysql/schema"

	"github.com/dataflowsync/dfs/internal/childproc"
)

// replayCanal measures the job "canal", from before the start of its process until
// the last row can be seen.
func replayCanal(ctx context.Context, x *trial) (s sample, err error) {
	cmd, err := childCommand(&job{Do: "canal", Addr: x.source.Addr(), Target: x.target.DSN(""), File: x.file, Pos: x.pos, Tables: []string{x.schema}})
	if err != nil {
		return s, err
	}
	m := startMeter(x.source.PID(), x.target.PID())
	p, err := start(cmd, x.path("canal.log"))
	if err != nil {
		return s, err
	}
	if err := x.await(ctx, p.gone); err != nil {
		p.kill()
		return s, err
	}
	s = m.stop()
	s.Self, s.RSS = p.cpu(), childproc.PeakRSS(p.cmd.Process.Pid)
	p.kill() // it has no end of its own
	return s, nil
}

// canal applies the backlog as programs do that are made with go-mysql's canal: each
// row by a prepared statement, each transaction in one of the target. It does not
// store where it is, which costs such programs one more statement or file.
func (j *job) canal(ctx context.Context) error {
	cfg := canal.NewDefaultConfig()
	cfg.Addr, cfg.User, cfg.Password = j.Addr, "root", ""
	cfg.ServerID = 1
	cfg.Dump.ExecutionPath = "" // only the log
	cfg.IncludeTableRegex = []string{"^" + regexp.QuoteMeta(j.Tables[0]) + `\.`}
	cfg.TimestampStringLocation = time.UTC
	cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	c, err := canal.NewCanal(cfg)
	if err != nil {
		return err
	}
	db, err := sql.Open("mysql", j.Target+"?maxAllowedPacket=0&time_zone=%27%2B00%3A00%27")
	if err != nil {
		return err
	}
	defer db.Close()
	h := &rowByRow{ctx: ctx, stmts: make(map[string]*sql.Stmt)}
	if h.conn, err = db.Conn(ctx); err != nil {
		return err
	}
	c.SetEventHandler(h)
	return c.RunFrom(mysql.Position{Name: j.File, Pos: j.Pos})
}

// rowByRow applies what canal hands it.
type rowByRow struct {
	canal.DummyEventHandler
	ctx   context.Context // canal's methods are given none
	conn  *sql.Conn
	tx    *sql.Tx // nil between transactions
	stmts map[string]*sql.Stmt
}

// OnRow applies the rows of an event, one by one.
func (h *rowByRow) OnRow(e *canal.RowsEvent) error {
	if len(e.Table.PKColumns) == 0 {
		return fmt.Errorf("table %s has no primary key", e.Table)
	}
	if h.tx == nil {
		var err error
		if h.tx, err = h.conn.BeginTx(h.ctx, nil); err != nil {
			return err
		}
	}
	step := 1
	if e.Action == canal.UpdateAction {
		step = 2
	}
	for i := 0; i < len(e.Rows); i += step {
		row := e.Rows[i+step-1]
		var args []any
		if e.Action != canal.DeleteAction {
			args = append(args, values(row)...)
		}
		if e.Action != canal.InsertAction {
			for _, k := range e.Table.PKColumns {
				args = append(args, values(e.Rows[i][k:k+1])...)
			}
		}
		stmt, err := h.statement(e.Action, e.Table)
		if err != nil {
			return err
		}
		res, err := h.tx.StmtContext(h.ctx, stmt).ExecContext(h.ctx, args...)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n != 1 {
			return errors.Join(err, fmt.Errorf("%s of a row of %s changed %d rows", e.Action, e.Table, n))
		}
	}
	return nil
}

// OnXID commits.
func (h *rowByRow) OnXID(*replication.EventHeader, mysql.Position) error {
	if h.tx == nil {
		return nil
	}
	err := h.tx.Commit()
	h.tx = nil
	return err
}

// statement returns the statement for one row of a table, prepared once.
func (h *rowByRow) statement(action string, t *schema.Table) (*sql.Stmt, error) {
	key := action + " " + t.String()
	if s := h.stmts[key]; s != nil {
		return s, nil
	}
	name := fmt.Sprintf("`%s`.`%s`", t.Schema, t.Name)
	var columns, keys []string
	for _, c := range t.Columns {
		columns = append(columns, "`"+c.Name+"` = ?")
	}
	for _, k := range t.PKColumns {
		keys = append(keys, "`"+t.Columns[k].Name+"` = ?")
	}
	var text string
	switch action {
	case canal.InsertAction:
		text = "INSERT INTO " + name + " SET " + strings.Join(columns, ", ")
	case canal.UpdateAction:
		text = "UPDATE " + name + " SET " + strings.Join(columns, ", ") + " WHERE " + strings.Join(keys, " AND ")
	default:
		text = "DELETE FROM " + name + " WHERE " + strings.Join(keys, " AND ")
	}
	s, err := h.conn.PrepareContext(h.ctx, text)
	if err == nil {
		h.stmts[key] = s
	}
	return s, err
}

// values returns cells as the driver takes them. Text of a TEXT or JSON column comes
// as bytes, which the server would take for binary.
func values(row []any) []any {
	out := make([]any, len(row))
	for i, v := range row {
		if b, ok := v.([]byte); ok {
			v = string(b)
		}
		out[i] = v
	}
	return out
}

package sink

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/jackc/pgx/v5/pgconn"
)

// A Status is where a pipeline stands on a target. Seq is 0 if it was never started.
type Status struct {
	dfs.Checkpoint           // without State
	ID             string    // the source's name for the last transaction
	Committed      time.Time // when the source committed it; zero if not known
	Updated        time.Time // when the target did
	Product        string    // "PostgreSQL 15.10"
}

// PostgresStatus reads where a pipeline stands on PostgreSQL, and changes nothing
// there. Empty schema and name stand for the defaults of PostgresOptions.
func PostgresStatus(ctx context.Context, dsn, schema, name string) (Status, error) {
	cfg, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return Status{}, fmt.Errorf("the target's DSN cannot be read: write postgres://user:password@host:5432/database")
	}
	c := &core{rules: rules{name: name, schema: schema}}
	c.set(nil, nil, nil, nil)
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 10 * time.Second
	}
	p := &pgBackend{core: c, cfg: cfg}
	c.db = p
	if err := p.connect(ctx); err != nil {
		return Status{}, err
	}
	defer p.drop()
	version, _, _ := strings.Cut(p.conn.ParameterStatus("server_version"), " ")
	product := "PostgreSQL " + version
	rows, err := p.query(ctx, "SELECT to_regclass($1) IS NOT NULL", p.checkpointTable())
	if err != nil || rows[0][0].text != "t" {
		return Status{Product: product}, err
	}
	s, err := c.status(ctx)
	s.Product = product
	return s, err
}

// SQLiteStatus reads where a pipeline stands in a file, which must be there, and
// changes nothing in it. An empty name stands for the default of SQLiteOptions.
func SQLiteStatus(ctx context.Context, path, name string) (Status, error) {
	c := &core{rules: rules{name: name}}
	c.set(nil, nil, nil, nil)
	l := &liteBackend{core: c, path: path, reads: true}
	if abs, err := filepath.Abs(path); err == nil {
		l.path = abs
	}
	c.db = l
	if err := l.connect(ctx); err != nil {
		return Status{}, err
	}
	defer l.drop()
	rows, err := l.query(ctx, "SELECT sqlite_version()")
	if err != nil {
		return Status{}, err
	}
	product := "SQLite " + rows[0][0].text
	if there, err := l.there(ctx, "", checkpointTable); err != nil || !there {
		return Status{Product: product}, err
	}
	s, err := c.status(ctx)
	s.Product = product
	return s, err
}

func (c *core) status(ctx context.Context) (s Status, err error) {
	rows, err := c.db.query(ctx, "SELECT seq,pos,id,committed,updated FROM "+c.db.checkpointTable()+" WHERE name="+c.db.place(1), c.name)
	if err != nil || len(rows) == 0 {
		return s, err
	}
	r := rows[0]
	s.Seq, s.Pos, s.ID = r[0].uint(), dfs.Position(r[1].text), r[2].text
	const form = "2006-01-02 15:04:05.999999"
	s.Committed, _ = time.Parse(form, r[3].text) // NULL stays zero
	s.Updated, err = time.Parse(form, r[4].text)
	return s, err
}

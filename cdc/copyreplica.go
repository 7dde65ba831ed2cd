package cdc

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/dataflowsync/dfs/internal/tcp"
)

// A replicaWatch knows how far replicas of the source are behind. It is safe for
// concurrent use.
type replicaWatch struct {
	most     time.Duration
	replicas []*replica
	src      *Source

	mu    sync.Mutex
	asked time.Time
	kind  string // what keeps rows from being read; empty if they may be
}

// A replica is a server that follows the source.
type replica struct {
	name string // its address; the DSN has a password
	db   *sql.DB
}

// maxReplicaLag is the default of Snapshot.MaxReplicaLag.
const maxReplicaLag = 10 * time.Second

// newReplicaWatch makes one of the options. It connects to no server.
func newReplicaWatch(o *Snapshot, s *Source) (*replicaWatch, []Fault) {
	w := &replicaWatch{most: o.MaxReplicaLag, src: s}
	var faults []Fault
	for i, dsn := range o.Replicas {
		fault := Fault{What: fmt.Sprintf("Snapshot.Replicas[%d] cannot be read", i), // the text may hold a password
			Cure: "write user:password@tcp(host:3306)/"}
		cfg, err := mysql.ParseDSN(dsn)
		if err != nil {
			faults = append(faults, fault)
			continue
		}
		cfg.Logger = &mysql.NopLogger{}
		if cfg.Timeout == 0 {
			cfg.Timeout = connectTimeout
		}
		tcp.Use(cfg)
		connector, err := mysql.NewConnector(cfg)
		if err != nil {
			faults = append(faults, fault)
			continue
		}
		db := sql.OpenDB(connector)
		db.SetMaxOpenConns(1)
		w.replicas = append(w.replicas, &replica{cfg.Addr, db})
	}
	return w, faults
}

func (w *replicaWatch) close() error {
	if w == nil {
		return nil
	}
	var errs []error
	for _, r := range w.replicas {
		errs = append(errs, r.db.Close())
	}
	return errors.Join(errs...)
}

// behind reports whether a replica is further behind than it may be. One that does
// not tell how far it is, as it cannot be reached or does not replicate, is taken for
// one that is: what rows that are read do to it is not known.
func (w *replicaWatch) behind(ctx context.Context) bool {
	if w == nil || len(w.replicas) == 0 {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Since(w.asked) < loadEvery {
		return w.kind != ""
	}
	why, kind := "", ""
	for _, r := range w.replicas {
		asking, cancel := context.WithTimeout(ctx, w.src.opts.ReadTimeout)
		lag, err := r.lag(asking)
		cancel()
		switch {
		case ctx.Err() != nil:
			return true
		case err != nil:
			why = fmt.Sprintf("how far replica %s is behind is not known: %v", r.name, err)
			kind = why
		case lag > w.most:
			why = fmt.Sprintf("replica %s is %v behind, and may be %v", r.name, lag, w.most)
			kind = r.name
		}
		if why != "" {
			break
		}
	}
	switch log := w.src.opts.Logger; {
	case kind != w.kind && why != "":
		log.Warn("the copy of rows waits", "why", why)
	case why == "" && w.kind != "":
		log.Info("the copy of rows goes on")
	}
	w.kind, w.asked = kind, time.Now()
	return kind != ""
}

// lag asks the replica how far it is behind, in whole seconds as it says.
func (r *replica) lag(ctx context.Context) (time.Duration, error) {
	var most time.Duration
	n := 0
	var bad error
	read := func(columns []string) func([]sql.NullString) {
		at := slices.IndexFunc(columns, func(c string) bool { return c == "Seconds_Behind_Source" || c == "Seconds_Behind_Master" })
		return func(v []sql.NullString) {
			n++
			if at < 0 || !v[at].Valid {
				bad = errors.New("it does not replicate now: look at SHOW REPLICA STATUS there")
				return
			}
			seconds, err := strconv.Atoi(v[at].String)
			if err != nil {
				bad = err
			}
			most = max(most, time.Duration(seconds)*time.Second)
		}
	}
	err := eachRowNamed(ctx, r.db, "SHOW REPLICA STATUS", read)
	if code, _ := errorCode(err); code == 1064 { // MySQL before 8.0.22 and MariaDB before 10.5.1
		err = eachRowNamed(ctx, r.db, "SHOW SLAVE STATUS", read)
	}
	switch {
	case err != nil:
		return 0, err
	case n == 0:
		return 0, errors.New("it is no replica: take it out of Snapshot.Replicas")
	}
	return most, bad
}

// eachRowNamed is eachRow for a result of which the columns have to be found.
func eachRowNamed(ctx context.Context, db queryer, query string, f func(columns []string) func([]sql.NullString)) error {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	row := f(columns)
	values := make([]sql.NullString, len(columns))
	to := make([]any, len(columns))
	for i := range values {
		to[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(to...); err != nil {
			return err
		}
		row(values)
	}
	return rows.Err()
}

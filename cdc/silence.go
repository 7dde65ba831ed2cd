package cdc

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-sql-driver/mysql"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/tcp"
)

const (
	// silentFor is how long a server may say nothing before it is asked, over another
	// connection, whether it still looks for the place from which to send. Until it has
	// found that, for which it may have to read many files, it sends no heartbeats, so
	// that a connection of which the other half is gone looks the same.
	silentFor = 10 * time.Second

	// searchTime is how long the search may take if the server does not tell, as behind a
	// proxy that shares connections out.
	searchTime = 3 * time.Minute

	// mostDoubts is how many answers in a row, or questions without any, end the wait.
	mostDoubts = 2
)

// silence is how long nothing may come before the server is asked.
func (s *Source) silence() time.Duration { return min(silentFor, s.opts.ReadTimeout) }

// newRemote returns the events of a log that is yet to be asked for.
func (s *Source) newRemote(conn *client.Conn, st *Stream, buffer int) *remote {
	r := &remote{
		conn: conn, of: st, began: time.Now(),
		in:  eventPackets(conn, buffer, s.silence()),
		sum: s.known().checksum == "CRC32",
	}
	if st != nil {
		r.in.since = &s.waits
	}
	return r
}

// ask begins a dump, and closes the connection if it fails.
func (r *remote) ask(ctx context.Context, d *dump) error {
	stop := context.AfterFunc(ctx, func() { r.conn.Conn.SetDeadline(time.Unix(1, 0)) })
	var err error
	if r.server, err = serverOf(r.conn); err == nil {
		err = d.begin(r.conn)
	}
	if !stop() || err != nil {
		r.conn.Close()
		return mark(errors.Join(ctx.Err(), err))
	}
	if err := r.conn.Conn.SetDeadline(time.Time{}); err != nil {
		r.conn.Close()
		return dfs.Transient(fmt.Errorf("cdc: ask for the log: %w", err))
	}
	return nil
}

// serverOf returns what tcp.ServerQuery gives over a connection.
func serverOf(conn *client.Conn) (string, error) { return askName(conn, "SELECT "+tcp.ServerQuery) }

// silent is called while nothing has come of a log that was asked for. It asks the
// server about that, over a connection of its own, and returns nil if the wait is to go
// on: the next time after a part of silentFor if the answer leaves doubt, as what was
// sent may be on its way. The end of ctx is an error of it.
func (r *remote) silent(ctx context.Context) error {
	wait := r.of.src.silence()
	v, text, err := r.look(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	took := time.Since(r.began).Round(100 * time.Millisecond)
	if r.in.timeout = wait; r.doubt(v, text, err) {
		r.in.timeout = wait / 4
		if r.doubts++; r.doubts < mostDoubts && v != tcp.Gone {
			return nil
		}
		if err != nil {
			text = fmt.Sprintf("the server does not answer another connection either: %v", err)
		}
		return fmt.Errorf("the connection is lost: nothing came for %v, and %s", took, text)
	}
	if r.doubts = 0; v != tcp.Busy && took >= searchTime {
		return fmt.Errorf("nothing came for %v, and the server does not tell what it does", took)
	}
	if err != nil {
		text = err.Error()
	}
	r.of.src.opts.Logger.Warn("the source takes long to find the place in its log", "server", r.of.src.cfg.Addr, "for", took, "it says", text)
	return nil
}

// doubt reports whether an answer to the question about a silent session says that
// something should have come.
func (r *remote) doubt(v tcp.Verdict, state string, err error) bool {
	var server *mysql.MySQLError
	if err != nil {
		return !errors.As(err, &server)
	}
	switch v {
	case tcp.Gone, tcp.Idle: // it did not get, or not begin, what it was asked
		return true
	case tcp.Busy:
		// By the states of the thread that sends a log: "Master [or Source] has sent all
		// binlog to slave [replica]; waiting for more updates", "Sending binlog event to
		// slave [replica]", "Finished reading one binlog; switching to next binlog" (MySQL's
		// manual, 10.14.4; MariaDB's, Master Thread States). What it sends first, it sends
		// before each of these.
		for _, sent := range []string{"has sent all binlog", "Sending binlog event", "Finished reading one binlog"} {
			if strings.Contains(state, sent) {
				return true
			}
		}
	}
	return false
}

// look asks the server what it does for the session over which the log is to come.
func (r *remote) look(ctx context.Context) (tcp.Verdict, string, error) {
	cfg := r.of.src.cfg.Clone()
	wait := r.of.src.silence()
	cfg.Timeout = min(cfg.Timeout, wait)
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return tcp.Unknown, "", err
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	db := sql.OpenDB(connector)
	defer db.Close()
	return tcp.Look(ctx, db, tcp.Session{ID: uint64(r.conn.GetConnectionID()), Server: r.server, Opened: r.began})
}

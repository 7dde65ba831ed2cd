package sink

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/tcp"
	"github.com/go-sql-driver/mysql"
)

// aliveAfter is how long the answer to a statement may take before the server is
// asked, over another connection, whether it still works on it. A connection of
// which the other half is gone looks like a statement that takes long, and where a
// middlebox acknowledges what is sent, TCP does not notice either.
const aliveAfter = 10 * time.Second

// mostUnanswered is how often in a row that question may go unanswered.
const mostUnanswered = 2

// lostError is why a statement was given up. What became of it is not known.
type lostError struct {
	after time.Duration
	why   string
}

func (e *lostError) Error() string {
	return fmt.Sprintf("the connection is lost: no answer to a statement for %v, and %s", e.after.Round(time.Second), e.why)
}

// watched returns a context for a statement, which ends when the server is known
// not to work on it. The other result is to be given the statement's error, once it
// has returned, and returns the one to hand on.
func (s *session) watched(ctx context.Context) (context.Context, func(error) error) {
	if s.guard == nil {
		return ctx, func(err error) error { return err }
	}
	ctx, cancel := context.WithCancelCause(ctx)
	t := time.AfterFunc(s.guard.after, func() { s.watch(ctx, cancel) })
	return ctx, func(err error) error {
		t.Stop()
		var lost *lostError
		if err != nil && errors.As(context.Cause(ctx), &lost) {
			err = dfs.Transient(lost)
		}
		cancel(nil)
		return err
	}
}

// A looker asks about sessions.
type looker struct {
	connector driver.Connector
	after     time.Duration // before the first question
	login     time.Duration // the most that an answer may take
	log       *slog.Logger
}

// watch asks about a statement that takes long, again and again until ctx ends, and
// gives it up if it is lost. It asks less often as time goes by.
func (s *session) watch(ctx context.Context, giveUp context.CancelCauseFunc) {
	began := time.Now().Add(-s.guard.after)
	unanswered, idle := 0, false
	for wait := s.guard.after; ; {
		v, text, err := s.guard.at(ctx, s)
		if ctx.Err() != nil {
			return
		}
		took := time.Since(began)
		again := wait
		var server *mysql.MySQLError
		switch {
		case err != nil && !errors.As(err, &server):
			if unanswered++; unanswered >= mostUnanswered {
				giveUp(&lostError{took, fmt.Sprintf("the server does not answer another connection either: %v", err)})
				return
			}
			again = s.guard.after / 4
		case v == tcp.Gone:
			giveUp(&lostError{took, text})
			return
		case v == tcp.Idle && idle:
			giveUp(&lostError{took, text})
			return
		case v == tcp.Idle:
			// Its answer may be on the way.
			idle, again = true, s.guard.after/4
		default:
			unanswered, idle = 0, false
			if err != nil {
				text = err.Error()
			}
			s.guard.log.Warn("the target takes long for a statement", "for", took.Round(time.Second), "session", s.id, "it says", text)
			wait = min(2*wait, max(time.Minute, s.guard.after))
		}
		t := time.NewTimer(again)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// at asks the server over a connection of its own.
func (l *looker) at(ctx context.Context, s *session) (tcp.Verdict, string, error) {
	ctx, cancel := context.WithTimeout(ctx, l.login)
	defer cancel()
	db := sql.OpenDB(l.connector)
	defer db.Close()
	return tcp.Look(ctx, db, tcp.Session{ID: s.id, Server: s.server, Opened: s.opened})
}

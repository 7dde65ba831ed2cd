//go:build unix

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/dataflowsync/dfs/internal/testenv"
)

// promotions need a standby, a replica of the source.
var promotions = []fault{
	{"promote", 6, "the standby takes over from the source, which becomes its replica; in half of the cases the source has died", (*soak).promote},
}

// standbyArgs are options that a source with a standby needs.
func standbyArgs(k testenv.Kind) []string {
	if k == testenv.MySQL97 {
		return []string{"--skip-replica-start", "--log-replica-updates"}
	}
	return []string{"--skip-slave-start", "--log-slave-updates"}
}

// follow makes a server a replica of another.
func follow(ctx context.Context, server, of *testenv.Server) error {
	db := open(server)
	defer db.Close()
	var host, port string
	if _, err := fmt.Sscanf(of.Addr(), "127.0.0.1:%s", &port); err != nil {
		return err
	}
	host = "127.0.0.1"
	var stmts []string
	switch server.Kind() {
	case testenv.MySQL97:
		stmts = []string{
			"CHANGE REPLICATION SOURCE TO SOURCE_HOST='" + host + "', SOURCE_PORT=" + port + ", SOURCE_USER='root', SOURCE_AUTO_POSITION=1, SOURCE_CONNECT_RETRY=1, GET_SOURCE_PUBLIC_KEY=1",
			"START REPLICA",
		}
	case testenv.MySQL56:
		stmts = []string{
			"CHANGE MASTER TO MASTER_HOST='" + host + "', MASTER_PORT=" + port + ", MASTER_USER='root', MASTER_AUTO_POSITION=1, MASTER_CONNECT_RETRY=1",
			"START SLAVE",
		}
	default:
		stmts = []string{
			"SET GLOBAL gtid_slave_pos = @@GLOBAL.gtid_binlog_pos",
			"CHANGE MASTER TO MASTER_HOST='" + host + "', MASTER_PORT=" + port + ", MASTER_USER='root', MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1",
			"START SLAVE",
		}
	}
	for _, stmt := range stmts {
		if _, err := db.ExecContext(ctx, stmt); err != nil {
			return fmt.Errorf("make a replica: %.40s: %w", stmt, err)
		}
	}
	return nil
}

// lead makes a server stop being a replica.
func lead(ctx context.Context, server *testenv.Server) error {
	db := open(server)
	defer db.Close()
	stop, reset := "STOP SLAVE", "RESET SLAVE ALL"
	if server.Kind() == testenv.MySQL97 {
		stop, reset = "STOP REPLICA", "RESET REPLICA ALL"
	}
	for _, stmt := range []string{stop, reset} {
		if _, err := db.ExecContext(ctx, stmt); err != nil {
			return fmt.Errorf("%s: %w", stmt, err)
		}
	}
	return nil
}

// caughtUp waits until a replica has all that its source has.
func (s *soak) caughtUp(ctx context.Context, server *testenv.Server) error {
	want, err := executed(ctx, s.source.Kind(), s.src)
	if err != nil {
		return err
	}
	db := open(server)
	defer db.Close()
	query := "SELECT GTID_SUBSET(?, @@GLOBAL.gtid_executed)"
	if server.Kind() == testenv.MariaDB {
		query = "SELECT MASTER_GTID_WAIT(?, 0) = 0"
	}
	for end := time.Now().Add(2 * time.Minute); ; {
		var done sql.NullBool
		if err := db.QueryRowContext(ctx, query, want).Scan(&done); err != nil {
			return fmt.Errorf("ask the standby how far it is: %w", err)
		}
		if done.Bool {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("the standby has not caught up: it has to have %s", want)
		}
		if !sleep(ctx, 10*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// promote makes the standby the source. The workload pauses for it, as the clients of
// a source do whose failover loses nothing; DFS is in the midst of its work, or even
// halted, and is told nothing.
func (s *soak) promote(ctx context.Context) error {
	old, next := s.source, s.standby
	dead, halted := s.rnd.IntN(2) == 0, s.rnd.IntN(2) == 0
	if halted {
		if err := s.dfs.signal(syscall.SIGSTOP); err != nil {
			return err
		}
		sleep(ctx, time.Duration(s.rnd.Int64N(int64(time.Second))))
	}
	err := errors.Join(s.work.halt(), s.switchOver(ctx, old, next, dead))
	if halted {
		err = errors.Join(err, s.dfs.signal(syscall.SIGCONT))
	}
	if err != nil {
		return err
	}
	s.work.start(ctx)
	since := time.Now()
	how := "promotion"
	if dead {
		how = "promotion after a kill"
	}
	if err := s.goesOn(ctx, "source", how, since); err != nil {
		return err
	}
	if dead {
		if err := old.Restart(ctx); err != nil {
			return err
		}
	}
	return follow(ctx, old, next)
}

func (s *soak) switchOver(ctx context.Context, old, next *testenv.Server, dead bool) error {
	if err := s.caughtUp(ctx, next); err != nil {
		return err
	}
	if dead {
		if err := old.Kill(); err != nil {
			return err
		}
	}
	if err := lead(ctx, next); err != nil {
		return err
	}
	s.source, s.standby = next, old
	s.front.Lead(next.Addr())
	s.front.Reset()
	s.near.Lead(next.Addr())
	s.near.Reset()
	return nil
}

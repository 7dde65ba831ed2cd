package cdc

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dataflowsync/dfs"
)

// facts are what is known of the server. They are found out when the Source opens
// and each time a Stream does, since an address may lead to another server by then,
// or the server be started with other settings.
type facts struct {
	version  string
	server   string // server_uuid, or MariaDB's server_id
	gtid     bool   // gtid_mode is ON
	checksum string
	sparse   bool          // MariaDB, whose rows may lack columns
	named    bool          // the log names columns now
	fold     bool          // letter case does not count in names of tables
	ackWait  time.Duration // how long a commit may wait for a replica
}

// known returns the latest facts, which are never changed.
func (s *Source) known() *facts {
	if f := s.facts.Load(); f != nil {
		return f
	}
	return &facts{}
}

// settings asks the server for what facts are made of.
func (s *Source) settings(ctx context.Context) (map[string]string, error) {
	vars := make(map[string]string)
	err := eachRow(ctx, s.db, `SHOW GLOBAL VARIABLES WHERE Variable_name IN (
		'version', 'log_bin', 'server_id', 'server_uuid', 'binlog_format', 'binlog_row_image',
		'binlog_annotate_row_events', 'binlog_row_metadata', 'binlog_checksum', 'gtid_mode',
		'lower_case_table_names', 'rpl_semi_sync_master_enabled', 'rpl_semi_sync_master_timeout',
		'rpl_semi_sync_source_enabled', 'rpl_semi_sync_source_timeout',
		'have_compress', 'protocol_compression_algorithms')`,
		func(v []sql.NullString) { vars[strings.ToLower(v[0].String)] = v[1].String })
	return vars, err
}

func isMaria(version string) bool { return strings.Contains(strings.ToLower(version), "mariadb") }

func newFacts(vars map[string]string) *facts {
	f := &facts{
		version:  vars["version"],
		server:   vars["server_uuid"],
		gtid:     strings.EqualFold(vars["gtid_mode"], "ON"),
		checksum: vars["binlog_checksum"],
		named:    vars["binlog_row_metadata"] == "FULL",
		fold:     vars["lower_case_table_names"] != "0",
	}
	maria := isMaria(f.version)
	if maria || f.server == "" {
		f.server = vars["server_id"]
	}
	if v := vars["binlog_row_image"]; maria && v != "" && v != "FULL" {
		f.sparse = true
	}
	if vars["rpl_semi_sync_master_enabled"] == "ON" || vars["rpl_semi_sync_source_enabled"] == "ON" {
		ms, _ := strconv.Atoi(cmp.Or(vars["rpl_semi_sync_source_timeout"], vars["rpl_semi_sync_master_timeout"]))
		f.ackWait = time.Duration(ms) * time.Millisecond
	}
	return f
}

// relearnWait bounds how long a server may take to tell what it is.
const relearnWait = 30 * time.Second

// relearn finds out what the address leads to now. Connections that are at rest are
// closed before: they may be dead, or lead to the server that it led to before.
func (s *Source) relearn(ctx context.Context) error {
	s.db.SetMaxIdleConns(0)
	s.limitConns()
	ctx, cancel := answerWithin(ctx)
	defer cancel()
	if err := s.db.PingContext(ctx); err != nil {
		return mark(unanswered(ctx, s.unreachable(err)))
	}
	vars, err := s.settings(ctx)
	if err != nil {
		return mark(unanswered(ctx, err))
	}
	f, before := newFacts(vars), s.known()
	switch {
	case isMaria(f.version) != s.maria:
		return fmt.Errorf("%w: %s leads to another kind of server now, %s: make a new copy of the data", ErrDiverged, s.cfg.Addr, f.version)
	case vars["log_bin"] != "ON":
		return fmt.Errorf("cdc: %s writes no binary log now: start it with --log-bin", s.cfg.Addr)
	}
	if f.server != before.server {
		s.opts.Logger.Warn("the address of the source leads to another server now", "address", s.cfg.Addr, "before", before.server, "now", f.server)
	}
	s.facts.Store(f)
	return nil
}

// errUnanswered is the cause of the end of a context of answerWithin.
var errUnanswered = fmt.Errorf("no answer within %v", relearnWait)

// answerWithin returns a context for questions that a server answers at once.
func answerWithin(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, relearnWait, errUnanswered)
}

// unanswered makes an error that the end of an answerWithin has caused one that may
// pass.
func unanswered(ctx context.Context, err error) error {
	if err != nil && context.Cause(ctx) == errUnanswered {
		return dfs.Transient(fmt.Errorf("cdc: the server does not answer: %w: %v", errUnanswered, err))
	}
	return err
}

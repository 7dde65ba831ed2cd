package cli

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/go-sql-driver/mysql"
)

// A server is a connection to one side, to ask it about itself.
type server struct {
	*sql.DB
	vars map[string]string // its global variables
}

// askServer connects and reads the variables.
func askServer(ctx context.Context, dsn string) (*server, error) {
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, fmt.Errorf("its dsn cannot be read") // the driver's words may quote it
	}
	cfg.DBName, cfg.Logger, cfg.ParseTime, cfg.Loc = "", &mysql.NopLogger{}, false, time.UTC
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	s := &server{DB: sql.OpenDB(connector), vars: make(map[string]string)}
	rows, err := s.QueryContext(ctx, "SHOW GLOBAL VARIABLES")
	if err != nil {
		s.Close()
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var name, value string
		if err := rows.Scan(&name, &value); err != nil {
			s.Close()
			return nil, err
		}
		s.vars[strings.ToLower(name)] = value
	}
	if err := rows.Err(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// product returns "MySQL 9.7.4" or "MariaDB 10.11.14".
func (s *server) product() string {
	version, maria := s.vars["version"], s.isMaria()
	version, _, _ = strings.Cut(version, "-")
	if maria {
		return "MariaDB " + version
	}
	return "MySQL " + version
}

func (s *server) isMaria() bool {
	return strings.Contains(strings.ToLower(s.vars["version"]), "mariadb")
}

// A distance is how much of the source's log lies after a position.
type distance struct {
	Transactions uint64 `json:"transactions"`
	Bytes        uint64 `json:"bytes,omitempty"` // for a source without GTIDs, instead
	Files        int    `json:"files,omitempty"` // whole files besides
}

func (d distance) String() string {
	switch {
	case d == distance{}:
		return "nothing"
	case d.Files > 0:
		return fmt.Sprintf("%d files of the log", d.Files)
	case d.Bytes > 0:
		return fmt.Sprintf("%s bytes of the log", count(d.Bytes))
	}
	return plural(d.Transactions, "transaction")
}

// after asks the source how much it has after the position.
func (s *server) after(ctx context.Context, pos dfs.Position) (distance, error) {
	at, err := cdc.ParsePosition(pos)
	if err != nil {
		return distance{}, err
	}
	switch at.Kind {
	case "gtid":
		var missing string
		err := s.QueryRowContext(ctx, "SELECT GTID_SUBTRACT(@@GLOBAL.gtid_executed, ?)", at.GTIDs).Scan(&missing)
		if err != nil {
			return distance{}, fmt.Errorf("compare GTIDs: %w", err)
		}
		n, err := countGTIDs(missing)
		return distance{Transactions: n}, err
	case "mariadb":
		var has string
		if err := s.QueryRowContext(ctx, "SELECT @@GLOBAL.gtid_binlog_pos").Scan(&has); err != nil {
			return distance{}, fmt.Errorf("compare GTIDs: %w", err)
		}
		n, err := domainsBetween(at.GTIDs, has)
		return distance{Transactions: n}, err
	}
	return s.bytesAfter(ctx, at)
}

// bytesAfter compares places in the files of the log.
func (s *server) bytesAfter(ctx context.Context, at cdc.Position) (distance, error) {
	rows, err := s.QueryContext(ctx, "SHOW BINARY LOGS")
	if err != nil {
		return distance{}, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return distance{}, err
	}
	var d distance
	var name string
	var size uint64
	dest := []any{&name, &size}
	for range columns[min(2, len(columns)):] {
		dest = append(dest, new(sql.RawBytes)) // "Encrypted", since MySQL 8
	}
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return distance{}, err
		}
		switch {
		case name == at.File:
			d = distance{Bytes: max(size, at.Offset) - at.Offset}
		case name > at.File:
			d.Files++
		}
	}
	return d, rows.Err()
}

// countGTIDs counts the members of a set such as "uuid:1-5:7:tag:1-3,uuid:9".
func countGTIDs(set string) (n uint64, err error) {
	for member := range strings.SplitSeq(strings.Join(strings.Fields(set), ""), ",") {
		_, spans, _ := strings.Cut(member, ":")
		for span := range strings.SplitSeq(spans, ":") {
			if span == "" || span[0] < '0' || span[0] > '9' {
				continue // a tag, or no member at all
			}
			from, to, ranged := strings.Cut(span, "-")
			if !ranged {
				to = from
			}
			a, err1 := strconv.ParseUint(from, 10, 64)
			b, err2 := strconv.ParseUint(to, 10, 64)
			if err1 != nil || err2 != nil || b < a {
				return 0, fmt.Errorf("the source's GTID set has %q", span)
			}
			n += b - a + 1
		}
	}
	return n, nil
}

// domainsBetween counts how far the MariaDB position to, such as "0-1-25,1-1-3",
// is ahead of from. In each domain the last number counts.
func domainsBetween(from, to string) (n uint64, err error) {
	last := make(map[string]uint64)
	for i, list := range []string{from, to} {
		for gtid := range strings.SplitSeq(list, ",") {
			f := strings.Split(gtid, "-")
			if gtid == "" {
				continue
			}
			if len(f) != 3 {
				return 0, fmt.Errorf("%q is no GTID of MariaDB", gtid)
			}
			seq, err := strconv.ParseUint(f[2], 10, 64)
			if err != nil {
				return 0, fmt.Errorf("%q is no GTID of MariaDB", gtid)
			}
			if i == 0 {
				last[f[0]] = seq
			} else if seq > last[f[0]] {
				n += seq - last[f[0]]
			}
		}
	}
	return n, nil
}

func plural(n uint64, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return count(n) + " " + thing
}

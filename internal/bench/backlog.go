//go:build linux

package main

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dataflowsync/dfs/internal/testenv"
)

// A backlog is a workload that the source's log holds, at its end.
type backlog struct {
	*workload
	site      *site
	rows, txs int
	bytes     int64
	file      string // of the log, where it begins
	pos       uint32
	from      string // what the source had executed before, as a set of GTIDs, or MariaDB's last of each domain
	last      string // GTID of the last transaction
	sums      map[string]string
}

// generate writes w into the source's log.
func (l *lab) generate(ctx context.Context, w *workload) (*backlog, error) {
	begun := time.Now()
	s, err := l.site(ctx, w.kind)
	if err != nil {
		return nil, err
	}
	own := *w
	own.tables = append(slices.Clip(w.tables), "end_of_log")
	b := &backlog{workload: &own, site: s}
	// A file of its own, so that no contender has to search for the beginning.
	if err := s.source.exec(ctx, "FLUSH BINARY LOGS"); err != nil {
		return nil, err
	}
	if b.from, err = s.source.gtids(ctx); err != nil {
		return nil, err
	}
	if b.file, b.pos, err = s.logEnd(ctx); err != nil {
		return nil, err
	}
	g := &generator{source: s.source, schema: w.schema, scale: l.opts.scale}
	if b.txs, b.rows, err = w.write(ctx, g); err != nil {
		return nil, fmt.Errorf("write to the source: %w", err)
	}
	if err := s.source.exec(ctx, "INSERT INTO "+w.schema+".end_of_log VALUES (1)"); err != nil {
		return nil, err
	}
	b.txs, b.rows = b.txs+1, b.rows+1
	if b.bytes, err = s.logSize(ctx, b.file, b.pos); err != nil {
		return nil, err
	}
	to, err := s.source.gtids(ctx)
	if err != nil {
		return nil, err
	}
	b.last = lastGTID(to)
	if b.sums, err = s.source.checksums(ctx, w.schema, b.tables); err != nil {
		return nil, err
	}
	say("%s: backlog of %s transactions, %s rows, %d MB, written in %.0f s",
		w.name, count(float64(b.txs)), count(float64(b.rows)), b.bytes>>20, time.Since(begun).Seconds())
	return b, nil
}

// lastGTID returns the last of a set "uuid:1-9" of one server without tags,
// or of MariaDB's last one.
func lastGTID(set string) string {
	uuid, numbers, ok := strings.Cut(set, ":")
	if !ok {
		return set // MariaDB's, of one domain
	}
	return uuid + ":" + numbers[strings.LastIndexAny(numbers, "-:")+1:]
}

// logEnd returns where the source's log ends.
func (s *site) logEnd(ctx context.Context) (file string, pos uint32, err error) {
	var rest [3]any
	if s.kind == testenv.MariaDB {
		err = s.source.QueryRowContext(ctx, "SHOW MASTER STATUS").Scan(&file, &pos, &rest[0], &rest[1])
	} else {
		err = s.source.QueryRowContext(ctx, "SHOW BINARY LOG STATUS").Scan(&file, &pos, &rest[0], &rest[1], &rest[2])
	}
	return file, pos, err
}

// logSize returns the bytes of the source's log from the given place on.
func (s *site) logSize(ctx context.Context, file string, pos uint32) (int64, error) {
	rows, err := s.source.QueryContext(ctx, "SHOW BINARY LOGS")
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return 0, err
	}
	size := -int64(pos)
	for rows.Next() {
		var name string
		var n int64
		var encrypted sql.RawBytes
		if err := rows.Scan([]any{&name, &n, &encrypted}[:len(columns)]...); err != nil {
			return 0, err
		}
		if name >= file {
			size += n
		}
	}
	return size, rows.Err()
}

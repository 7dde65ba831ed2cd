package cdc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/dataflowsync/dfs"
)

// A Snapshot says how to copy the rows that tables have before the log that is
// read begins. Nothing is locked and nothing written on the source: rows are read
// in chunks beside the log, and each chunk is brought to the place up to which the
// log has been read before it is handed on. So what a Stream gives is an exact
// history: each row is inserted once, by a Transaction with Snapshot set, and then
// come its later changes. Changes of rows whose chunk is yet to come are left out,
// as the chunk has them.
//
// How far the copy is stands in each position, so that it goes on after a restart
// and reads no more than the chunks again that were on their way.
//
// Tables are copied parents first, by their foreign keys, and each in the order of
// its primary key or of a unique key without NULL and prefix. A table without such
// a key is read in one go, and the log waits until it is handed on, as one
// transaction.
//
// The rows that the log has must be whole (binlog_row_image=FULL) while they are
// copied.
//
// On MySQL without GTIDs no server tells which transactions of its log others can see
// already: it writes them there before it commits them. A copy then counts on a commit
// that takes no longer than a second from the log to where others see it, and as long
// again as it may wait for a semi-synchronous replica (rpl_semi_sync_source_timeout).
// With gtid_mode=ON, and on MariaDB, nothing is counted on. Without GTIDs a table
// without a key can be read only once it has been left alone for as long.
//
// A table whose copy fails, for one of the reasons that CopyError has, does not stop
// the others. Its changes are left out from then on: Progress, the log and a monitor
// tell of it until it is copied anew.
type Snapshot struct {
	// Tables names the tables to copy, as Options.Tables does, of those that are
	// followed. Default: all that are followed.
	Tables []string

	// Where has a condition in SQL for each table, by "schema.table", that rows
	// must meet to be copied. Later changes come of all rows, so use it with a
	// unit or stage that drops the others. Default: all rows.
	Where map[string]string

	// Readers is how many connections read at once, in one table or several.
	// Default: one for each CPU of this host, at least 2 and at most 4.
	Readers int

	// ChunkTime is about how long one statement reads. Default: 300 ms.
	ChunkTime time.Duration

	// ChunkRows is the most rows that one statement reads. Default: 100,000.
	ChunkRows int

	// MaxRows and MaxBytes bound how many rows and how many bytes are read per
	// second. Default: no bound.
	MaxRows, MaxBytes int

	// MaxThreadsRunning makes readers wait while the source's Threads_running is
	// more than that. Default: no bound.
	MaxThreadsRunning int

	// Replicas are data source names of replicas of the source, as Open takes them.
	// While one of them is further behind than MaxReplicaLag, or does not tell how far
	// it is, no more rows are read. The accounts need REPLICATION CLIENT, or on MariaDB
	// REPLICA MONITOR. Default: none.
	Replicas []string

	// MaxReplicaLag is how far Replicas may be behind. They tell it in whole seconds.
	// Default: 10 seconds.
	MaxReplicaLag time.Duration

	// Hold, if set, is asked before each statement that reads rows, from several
	// goroutines. While it reports true no more rows are read: a replica lags, or
	// it is the wrong time of the day.
	Hold func() bool

	// Only ends the Stream with io.EOF when all rows are handed on. The target is
	// then what the source was at one place of its log.
	Only bool
}

const (
	chunkTime = 300 * time.Millisecond
	chunkRows = 100_000
	// pieceSize is about how many bytes of rows one Transaction has.
	pieceSize = 1 << 20
	// pendingSize bounds the bytes of rows that were read and are yet to be handed
	// on, but for one piece of each reader.
	pendingSize = 8 << 20
	// windowSize is how many bytes of changes are kept for chunks on their way
	// before the log waits for them.
	windowSize = 16 << 20
)

// withDefaults returns o with its zero fields set, and all faults in it.
func (o *Snapshot) withDefaults() (*Snapshot, *filter, []Fault) {
	v := *o
	f, faults := newFilter(v.Tables)
	if v.Readers < 0 || v.ChunkTime < 0 || v.ChunkRows < 0 || v.MaxRows < 0 || v.MaxBytes < 0 || v.MaxThreadsRunning < 0 || v.MaxReplicaLag < 0 {
		faults = append(faults, Fault{What: "a number in Snapshot is negative", Cure: "leave it zero for its default"})
	}
	if v.Readers == 0 {
		v.Readers = min(max(runtime.NumCPU(), 2), 4)
	}
	if v.MaxReplicaLag == 0 {
		v.MaxReplicaLag = maxReplicaLag
	}
	if v.ChunkTime == 0 {
		v.ChunkTime = chunkTime
	}
	if v.ChunkRows == 0 {
		v.ChunkRows = chunkRows
	}
	return &v, f, faults
}

// copyItems returns the tables to copy, as they are now: sorted by name.
func (s *Source) copyItems(ctx context.Context) ([]copyItem, error) {
	where, args := s.followed().condition()
	rows, err := s.db.QueryContext(ctx, "SELECT table_schema, table_name FROM information_schema.tables WHERE table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') AND "+
		where+" ORDER BY table_schema, table_name", args...)
	if err != nil {
		return nil, mark(fmt.Errorf("cdc: list the tables to copy: %w", err))
	}
	defer rows.Close()
	var list []copyItem
	for rows.Next() {
		var n tableName
		if err := rows.Scan(&n.schema, &n.name); err != nil {
			return nil, mark(fmt.Errorf("cdc: list the tables to copy: %w", err))
		}
		if s.followed().follows(n.schema, n.name) && s.copies.follows(n.schema, n.name) {
			list = append(list, copyItem{tableName: n, where: s.snapshot.Where[n.String()]})
		}
	}
	if err := rows.Err(); err != nil {
		return nil, mark(fmt.Errorf("cdc: list the tables to copy: %w", err))
	}
	rows.Close()
	return list, s.checkWheres(ctx, list)
}

// checkWheres checks the conditions of the copy that begins. One that no table has
// would copy all rows of what it was meant for.
func (s *Source) checkWheres(ctx context.Context, list []copyItem) error {
	var errs []error
	for name := range s.snapshot.Where {
		if !slices.ContainsFunc(list, func(i copyItem) bool { return i.String() == name }) {
			errs = append(errs, fmt.Errorf("cdc: Snapshot.Where has a condition for %s, which is none of the tables to copy: write it as the server does, schema.table, or take it out", name))
		}
	}
	for _, item := range list {
		errs = append(errs, s.checkWhere(ctx, item))
	}
	return errors.Join(errs...)
}

// Copies implements dfs.Copier.
func (s *Source) Copies(ctx context.Context) ([]*dfs.Table, error) {
	if s.snapshot == nil || s.db == nil {
		return nil, nil
	}
	items, err := s.copyItems(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]*dfs.Table, len(items))
	for i, item := range items {
		list[i] = &dfs.Table{Schema: item.schema, Name: item.name}
	}
	return list, nil
}

// A copyItem is one table of a copy, as the State names it.
type copyItem struct {
	tableName
	where string
	again bool // its rows are on the target already
	anew  bool // some of them may be, from a copy that has failed, and are written over
	gone  bool // it is followed no more, and nothing of it is left to do
}

// stateCopy is the first byte of a State that has the tables of a copy in front of
// a catalog's State: the number of tables, and for each its two names, its
// condition, and a byte that is 1 if its rows were copied before, and 2 if a copy of
// them has failed. Texts have their
// lengths in front.
const stateCopy = 2

// joinState returns a State that names the tables of a copy.
func joinState(list []copyItem, catalog string) string {
	b := binary.AppendUvarint([]byte{stateCopy}, uint64(len(list)))
	text := func(s string) { b = append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	for _, t := range list {
		text(t.schema)
		text(t.name)
		text(t.where)
		switch {
		case t.again:
			b = append(b, 1)
		case t.anew:
			b = append(b, 2)
		default:
			b = append(b, 0)
		}
	}
	return alias(append(b, catalog...))
}

// splitState reads what joinState wrote, and leaves any other State as it is.
func splitState(state string) (list []copyItem, catalog string, err error) {
	if state == "" || state[0] != stateCopy {
		return nil, state, nil
	}
	r := reader{b: []byte(state[1:])}
	text := func() string {
		n := r.uvarint()
		if n > uint64(len(r.b)) {
			r.fail()
		}
		return alias(r.bytes(int(n)))
	}
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		var t copyItem
		t.schema, t.name, t.where = text(), text(), text()
		how := r.byte()
		t.again, t.anew = how == 1, how == 2
		list = append(list, t)
	}
	if r.bad {
		return nil, "", errDamagedState
	}
	return list, string(r.b), nil
}

// A CopyError says why the copy of a table has ended, while those of others go on.
// Until the table is copied anew its changes are left out.
type CopyError struct {
	Table string // "schema.table"
	Err   error
	Cure  string
}

func (e *CopyError) Error() string {
	return fmt.Sprintf("cdc: copy table %s: %v: %s", e.Table, e.Err, e.Cure)
}

// Unwrap returns the cause.
func (e *CopyError) Unwrap() error { return e.Err }

var (
	_ dfs.Progresser = (*Source)(nil)
	_ dfs.Copier     = (*Source)(nil)
	_ dfs.Holder     = (*Source)(nil)
)

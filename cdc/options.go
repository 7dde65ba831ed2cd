package cdc

import (
	"fmt"
	"log/slog"
	"time"
)

// Options refine a Source. The zero Options, and nil, follow every table from
// now on.
type Options struct {
	// Tables names the tables to follow: "shop.orders", "shop.*", "shop?.*".
	// On each side of the dot * stands for any text and ? for one character, and
	// letter case does not matter. A pattern that begins with ! leaves out what
	// it matches: "!shop.tmp_*". An order between patterns does not exist.
	// Default: all tables but those of mysql, sys, information_schema and
	// performance_schema, which no pattern with a wildcard before the dot
	// matches.
	Tables []string

	// Start says where to begin when there is no checkpoint yet: "now",
	// "earliest" (all that the server still has), "gtid:SET" (after the
	// transactions of a set as @@gtid_executed or @@gtid_binlog_pos shows it), or
	// "file:NAME:POSITION" (as SHOW BINARY LOG STATUS shows it, a place between
	// two transactions). What "now" and "earliest" are is found out once, when the
	// first Stream without a checkpoint opens, so that nothing is lost when it has
	// to be opened again before its first position was stored. Default: "now", or
	// "earliest" for files.
	Start string

	// ServerID is the number by which the server knows this replica. No two
	// replicas of a server may share one. Default: one chosen at random from
	// those that the server does not know of.
	ServerID uint32

	// Heartbeat is how often an idle server is to say that it is there, and how
	// often the position of transactions without followed tables is handed on.
	// Default: 1 second.
	Heartbeat time.Duration

	// ReadTimeout is how long nothing may come from the server before the
	// connection counts as lost. It must be more than Heartbeat. Default: 10
	// seconds, or 3 heartbeats if that is more.
	ReadTimeout time.Duration

	// MaxPart is about how many bytes of a transaction are handed on in one
	// piece. A larger transaction comes as several, so that it needs not be held
	// in memory. Default: 1 MiB.
	MaxPart int

	// Buffer is how many bytes are read ahead from the server. An event larger
	// than that takes as much memory as it has bytes, while it is read.
	// Default: 1 MiB.
	Buffer int

	// Compress is how the server is to compress what it sends of its log: "zlib", or
	// "zstd" (MySQL 8.0.18 and later). It saves the network and costs both sides
	// processor time. Default: not.
	Compress string

	// SemiSync makes a server whose commits wait for replicas (MySQL 5.7 and MariaDB
	// 10.3 or later, with rpl_semi_sync_source_enabled, formerly ..._master_...) wait
	// until what follows this Source has stored a transaction: its queue or, without
	// one, its target. So what a client was told to be committed survives the loss of
	// the server. Other replicas count as well, up to
	// rpl_semi_sync_source_wait_for_replica_count. While a queue is full, or this
	// program stands still, each commit takes rpl_semi_sync_source_timeout, after which
	// the server goes on without waiting, until this program has caught up.
	// Transactions without anything followed are told to be stored as well, and so are
	// XA transactions when they are prepared, whose rows are stored at their XA COMMIT.
	// It needs a reader that calls Trim, as a Pipeline does. Default: no commit waits.
	SemiSync bool

	// AcceptErrant matters when another server has taken over from the one that was
	// read, by GTID on MySQL. By default reading does not go on (ErrErrant) if the new
	// one has transactions of its own in its log before the last one that was read: it
	// wrote them while it was a replica. Set this to have them handed on, later than
	// they were committed there.
	AcceptErrant bool

	// Schema matters where the log does not name columns: on MySQL before 8.0.1
	// and MariaDB before 10.5, and without binlog_row_metadata=FULL. It has CREATE
	// TABLE statements as mysqldump --no-data --databases writes them: what tables
	// looked like at the place where reading begins. Say it where that cannot be
	// found out otherwise: to begin at a place in the past, to read files without
	// a server, or if an error asks for it. With a checkpoint it counts for the
	// place of that, once; from there on the statements of the log count, and it
	// means nothing until it is another text. Default: empty.
	Schema string

	// TrustColumnNames matters where the log does not name columns. Of a table
	// that neither the log's statements nor Schema have described, the server is
	// asked, and what it says is refused if the log has a statement that creates,
	// alters, renames or drops the table after the place that is read. Set this to
	// take it nevertheless, if no column got another name or place since.
	TrustColumnNames bool

	// Follow makes a stream of files wait for more at the end of the last one, and
	// for new files. By default it ends there. It needs a folder or an index file
	// to find new files in. It means nothing for a server.
	Follow bool

	// Snapshot says how to copy the rows that tables have when reading begins. It
	// counts when there is no checkpoint yet, and while a copy is under way.
	// Default: they are not copied.
	Snapshot *Snapshot

	// Logger gets what a person may want to know. Default: slog.Default().
	Logger *slog.Logger
}

// withDefaults returns o with its zero fields set, and all faults in it.
func (o *Options) withDefaults() (Options, []Fault) {
	var v Options
	if o != nil {
		v = *o
	}
	var faults []Fault
	if v.Heartbeat == 0 {
		v.Heartbeat = time.Second
	}
	if v.ReadTimeout == 0 {
		v.ReadTimeout = max(10*time.Second, 3*v.Heartbeat)
	}
	if v.Heartbeat < time.Millisecond || v.ReadTimeout <= v.Heartbeat {
		faults = append(faults, Fault{
			What: "Heartbeat must be at least a millisecond, and ReadTimeout more than it",
			Cure: "leave both zero, or raise ReadTimeout to 3 times Heartbeat",
		})
	}
	if v.MaxPart == 0 {
		v.MaxPart = 1 << 20
	}
	if v.Buffer == 0 {
		v.Buffer = 1 << 20
	}
	if v.Compress != "" && capabilityOf(v.Compress) == 0 {
		faults = append(faults, Fault{
			What: fmt.Sprintf("Compress is %q", v.Compress),
			Cure: "write zlib or zstd, or leave it out",
		})
	}
	if v.MaxPart < 0 || v.Buffer < 0 {
		faults = append(faults, Fault{
			What: "MaxPart and Buffer must not be negative",
			Cure: "leave them zero for their defaults",
		})
	}
	v.MaxPart = max(v.MaxPart, 4<<10)
	v.Buffer = max(v.Buffer, 4<<10)
	if v.Logger == nil {
		v.Logger = slog.Default()
	}
	return v, faults
}

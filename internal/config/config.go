// Package config reads the YAML file of the examples' binary.
//
// A file is decoded strictly. Every mistake in it is found in one pass and
// reported with its line: keys that do not exist, with the one that was likely
// meant; values of the wrong kind; environment variables that are not set.
// Values that may hold a password are never part of a message.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
)

// A Config is what a file says. Fields left out of the file are zero, and zero
// means the default of the Go option that the field stands for.
type Config struct {
	// Name is the pipeline's name: the key of its checkpoint on the target, and
	// the name in logs. Default: "dfs".
	Name string `yaml:"name"`

	Source   Source   `yaml:"source"`
	Queue    Queue    `yaml:"queue"`
	Target   Target   `yaml:"target"`
	Targets  []Line   `yaml:"targets"` // instead of target, units and relmgr: several, by one queue
	Pipeline Pipeline `yaml:"pipeline"`

	RelMgr RelMgr `yaml:"relmgr"`

	Units     []Unit `yaml:"units"`
	OnlyUnits bool   `yaml:"only_units"` // drop the rows of tables that no unit takes
	HashKey   Secret `yaml:"hash_key"`

	Letters Letters `yaml:"dead_letters"`

	Monitor Monitor `yaml:"monitor"`
	Journal Journal `yaml:"journal"`
	Log     Log     `yaml:"log"`

	// Reader is the name under which this target reads the queue. It is empty unless
	// the Config is one of Lines.
	Reader string

	own   []string  // tables, of one of Lines that does not get all
	fan   []*Config // one for each of Targets
	file  string
	lines map[string]int // of each value, by its path: "source.tables[1]"
	funcs *Funcs         // of the program, never nil
}

// A Server says how to reach a MySQL or MariaDB server: by a DSN, or by the
// fields after it. A password given by itself may hold any character.
type Server struct {
	DSN      Secret `yaml:"dsn"`
	Host     string `yaml:"host"`   // default: 127.0.0.1
	Port     uint16 `yaml:"port"`   // default: 3306
	Socket   string `yaml:"socket"` // instead of host and port
	User     string `yaml:"user"`
	Password Secret `yaml:"password"`
	TLS      TLS    `yaml:"tls"`

	info *serverInfo // a pointer, so that fmt does not print what it holds
}

// TLS says how a connection is encrypted: by a mode alone, or by files.
type TLS struct {
	// Mode is "false", "preferred", "skip-verify" or "true". Default: "false",
	// or "true" if one of the files is given.
	Mode string `yaml:",scalar"`

	CA         string `yaml:"ca"`          // file of certificates to trust; default: the system's
	Cert       string `yaml:"cert"`        // file of our own certificate
	Key        string `yaml:"key"`         // file of its key
	ServerName string `yaml:"server_name"` // default: the host
}

// Source is where transactions come from.
type Source struct {
	Server      `yaml:",inline"`
	Files       []string      `yaml:"files"`   // instead of a server
	Archive     Archive       `yaml:"archive"` // instead of a server: its transactions are restored
	Follow      bool          `yaml:"follow"`  // wait for more of them
	Tables      []string      `yaml:"tables"`
	Start       string        `yaml:"start"`
	ServerID    uint32        `yaml:"server_id"`
	Heartbeat   time.Duration `yaml:"heartbeat"`
	ReadTimeout time.Duration `yaml:"read_timeout"`
	MaxPart     Size          `yaml:"max_part"`
	Buffer      Size          `yaml:"buffer"`
	Compress    string        `yaml:"compress"`  // zlib or zstd
	SemiSync    bool          `yaml:"semi_sync"` // commits wait for the queue

	Snapshot Snapshot `yaml:"snapshot"` // of the rows that are there already

	SchemaFile       string `yaml:"schema_file"` // CREATE TABLE statements, as mysqldump --no-data --databases writes them
	TrustColumnNames bool   `yaml:"trust_column_names"`
	AcceptErrant     bool   `yaml:"accept_errant"`
}

// Snapshot says how rows are copied that are there before the log: by a mode
// alone, or by these keys.
type Snapshot struct {
	// Mode is "false", "true", or "only", which ends the run when all is copied.
	// Default: "false", or "true" if there is another key.
	Mode string `yaml:",scalar"`

	Tables            []string      `yaml:"tables"` // default: all that are followed
	Where             []Condition   `yaml:"where"`
	Only              bool          `yaml:"only"`
	Readers           int           `yaml:"readers"`
	ChunkTime         time.Duration `yaml:"chunk_time"`
	ChunkRows         int           `yaml:"chunk_rows"`
	MaxRows           int           `yaml:"max_rows"`            // per second
	MaxBytes          Size          `yaml:"max_bytes"`           // per second
	MaxThreadsRunning int           `yaml:"max_threads_running"` // of the source
	Replicas          []Secret      `yaml:"replicas"`            // DSNs of replicas of the source
	MaxReplicaLag     time.Duration `yaml:"max_replica_lag"`
}

// A Condition is what the rows of a table must meet to be copied.
type Condition struct {
	Table string `yaml:"table"`
	Where string `yaml:"where"`
}

// On reports whether rows are to be copied.
func (s *Snapshot) On() bool {
	return s.Mode == "true" || s.Mode == "only" || s.Only || s.Mode == "" && (len(s.Tables) > 0 || len(s.Where) > 0 || s.Readers != 0 ||
		s.ChunkTime != 0 || s.ChunkRows != 0 || s.MaxRows != 0 || s.MaxBytes != 0 || s.MaxThreadsRunning != 0 || len(s.Replicas) > 0 || s.MaxReplicaLag != 0)
}

// Queue is the file between source and target.
type Queue struct {
	Path     string        `yaml:"path"`
	MaxBytes Size          `yaml:"max_bytes"`
	Keep     Size          `yaml:"keep"`
	KeepFor  time.Duration `yaml:"keep_for"`

	// Of targets: how much may wait for one until the log is warned, and until it is
	// given up, so that the others go on.
	Warn      Size `yaml:"warn"`
	MaxTarget Size `yaml:"max_target"`
}

// Target is where transactions go to.
type Target struct {
	Server    `yaml:",inline"`
	Archive   Archive          `yaml:"archive"` // instead of a server
	Schema    string           `yaml:"checkpoint_schema"`
	Routes    []Route          `yaml:"routes"`
	Conflicts []ConflictPolicy `yaml:"conflicts"`
	DDL       []DDLRule        `yaml:"ddl"`
	DDLDone   []string         `yaml:"ddl_done"`
	MaxRows   int              `yaml:"max_rows"`
	MaxBytes  Size             `yaml:"max_bytes"`
	SQLOnly   bool             `yaml:"sql_only"`

	CreateTables bool   `yaml:"create_tables"`
	Existing     string `yaml:"existing"` // "error", "append" or "replace"; default: error
	Loaders      int    `yaml:"loaders"`  // connections; negative: none
	Writers      int    `yaml:"writers"`  // connections that take turns; negative: one for all

	File  string `yaml:"file"` // of SQLite, instead of a server
	Unfit Unfit  `yaml:"unfit"`

	Stream Stream `yaml:"stream"` // instead of a server or a file

	Word Secret `yaml:",scalar"` // a DSN or a file, if it stands alone; Load moves it to DSN or File
}

// A Route sends the tables that match From to To.
type Route struct {
	From string `yaml:"from"`
	To   string `yaml:"to"`
}

// A ConflictPolicy says what happens to rows that are not as the source had
// them.
type ConflictPolicy struct {
	Tables string `yaml:"tables"`
	Policy string `yaml:"policy"` // "error", "overwrite" or "ignore"
}

// A DDLRule says what happens to statements that alter tables: to those of some
// kinds about some tables or, if it is a policy alone, to all.
type DDLRule struct {
	Tables string   `yaml:"tables"` // default: all
	Kinds  []string `yaml:"kinds"`  // such as "alter table" and "drop *"; default: all
	Policy string   `yaml:"policy"` // "apply", "try", "ignore" or "error"

	Word string `yaml:",scalar"` // the policy, if it stands alone; Load moves it to Policy
}

// Letters is the file of refused transactions.
type Letters struct {
	Path       string        `yaml:"path"`
	MaxLetters int           `yaml:"max_letters"` // negative: no limit
	MaxBytes   Size          `yaml:"max_bytes"`
	KeepFor    time.Duration `yaml:"keep_for"` // negative: for ever
}

// Pipeline holds the engine's limits.
type Pipeline struct {
	MaxBatch    int           `yaml:"max_batch"`
	ReadAhead   Size          `yaml:"read_ahead"`
	StopTimeout time.Duration `yaml:"stop_timeout"`
	RetryWait   time.Duration `yaml:"retry_wait"`
}

// Log says what is told on standard error.
type Log struct {
	Format string        `yaml:"format"` // "text" or "json"; default: text
	Level  string        `yaml:"level"`  // "debug", "info", "warn" or "error"; default: info
	Every  time.Duration `yaml:"every"`  // between two summaries; default: 10s; negative: none
}

// A Fault is one mistake in a file.
type Fault struct {
	File string
	Line int // 0 if the mistake is no line's
	Text string
}

// String returns "file:line: text".
func (f Fault) String() string {
	if f.Line == 0 {
		return f.File + ": " + f.Text
	}
	return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Text)
}

// An Error holds all the mistakes in a file, in the order of their lines.
type Error struct{ Faults []Fault }

// Error returns the mistakes, one a line.
func (e *Error) Error() string {
	lines := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

// Load reads and checks the file. If anything is wrong with what it says, the
// error is an *Error.
func Load(file string) (*Config, error) { return LoadWith(file, nil) }

// LoadWith is Load for a program that has functions for the file to name.
func LoadWith(file string, funcs *Funcs) (*Config, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read configuration: %w; the command config prints an example to begin with, and -c names another file", err)
		}
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return ParseWith(file, b, os.LookupEnv, funcs)
}

// Line returns the line of the value with the given path, such as
// "source.tables[1]", or 0 if the file does not hold it.
func (c *Config) Line(path string) int { return c.lines[path] }

// Where returns "file:line" for the nearest value at or above the path that the
// file holds.
func (c *Config) Where(path string) string {
	for path != "" {
		if n := c.lines[path]; n > 0 {
			return fmt.Sprintf("%s:%d", c.file, n)
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return c.file
}

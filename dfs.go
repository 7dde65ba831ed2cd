// Package dfs keeps one database in step with another.
//
// A [Pipeline] carries committed transactions from a [Source], through any
// number of [Stage]s, to a [Sink]. Each transaction arrives whole, in commit
// order and exactly once, however often the process, the network or either
// database fails. A [Queue] between Source and Stages lets each side run at its
// own pace.
//
// The guarantee rests on two rules. The pipeline numbers transactions densely:
// 1, 2, 3. A Sink stores the number of the last transaction it applied in the
// same atomic write as the transaction itself. To start, or to recover from any
// failure, the pipeline asks the Sink where it stands and reads on from there.
// There are no acknowledgements, and there is no second recovery path.
//
// This package holds the vocabulary and the engine, and imports only the
// standard library. The parts live in packages of their own, which import dfs and
// never each other:
//
//   - [github.com/dataflowsync/dfs/cdc], a Source, reads the binary log of MySQL and
//     MariaDB, and copies the rows that were there before.
//   - [github.com/dataflowsync/dfs/queue] is a Queue in a file.
//   - [github.com/dataflowsync/dfs/relmgr], a Stage, gives rows new ids and keeps
//     references between them true, where several sources become one target.
//   - [github.com/dataflowsync/dfs/dpu], a Stage, reshapes rows.
//   - [github.com/dataflowsync/dfs/sink] has Sinks that apply transactions to MySQL,
//     MariaDB, PostgreSQL and SQLite, or keep them in an archive that restores. Those
//     that send messages are packages below it: stream, kafka, nats and webhook.
//   - [github.com/dataflowsync/dfs/monitor] shows and steers pipelines, and
//     [github.com/dataflowsync/dfs/verify] proves that a target holds what it should.
//   - [github.com/dataflowsync/dfs/dfstest] tests Stages and Pipelines in memory.
//
// Package [github.com/dataflowsync/dfs/cli] is all of that as a program, on a YAML file.
package dfs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// A Position is a place between two transactions in a source's log. Only the
// source that made it can read it; everyone else stores and returns it. It is
// text, and fit to be shown to people.
type Position string

// A Checkpoint says how far a sink has come. The zero Checkpoint is the start.
type Checkpoint struct {
	Seq uint64   // number of the last transaction applied
	Pos Position // where the source goes on from

	// State is what a source must know besides Pos to go on from there, such as
	// the columns that tables had at that place of its log. Only the source can
	// read it. In a Transaction it is empty unless it has changed; a sink keeps
	// the latest, stores it in the same atomic write as Pos, and returns it from
	// Checkpoint. Of the parts of a large transaction only the last may have it.
	// It may have megabytes and changes seldom.
	State string
}

// A Transaction is what one commit did. It belongs to whoever holds it: a Stage
// may rewrite it in place, and nobody may keep it after handing it on. The bytes
// that its strings and slices point to are never written again, so these may be
// kept, at the price of the block of memory that they are part of.
//
// A transaction too large to be held in memory travels as several parts, each a
// Transaction with a Seq of its own. All but the last have More set. A pipeline
// never starts, and a sink never commits, between two parts.
type Transaction struct {
	Checkpoint           // where a sink stands once it has applied this
	ID         string    // the source's own name for it, such as a GTID; may be empty
	Committed  time.Time // when the source committed it; zero if unknown
	Snapshot   bool      // rows that were there already, not a commit
	More       bool      // the transaction goes on in the next one

	// Copied says that with this transaction all rows that were there already
	// have come. A sink may then do what was better left until the end, such as
	// to add indexes. It may be set again, when other tables have been copied.
	Copied bool

	// Encoded holds the changes in the form in which the source logged them.
	// Only the source that made it can read it: see Decoder. While it is not
	// nil, Changes is empty.
	Encoded []byte

	Changes []Change
}

// Size returns roughly how many bytes of memory the transaction holds.
func (tx *Transaction) Size() int {
	n := 176 + len(tx.Pos) + len(tx.State) + len(tx.ID) + len(tx.Encoded)
	for i := range tx.Changes {
		c := &tx.Changes[i]
		n += 120 + len(c.Query)
		if c.Session != nil {
			n += c.Session.size()
		}
		for _, r := range [2]Row{c.Before, c.After} {
			n += valueSize * len(r)
			for j := range r {
				n += len(r[j].str)
			}
		}
	}
	return n
}

// Op is what a Change did.
type Op uint8

const (
	Insert Op = iota + 1
	Update
	Delete
	DDL // a statement that alters tables, in Change.Query
)

var opNames = [...]string{"none", "insert", "update", "delete", "ddl"}

// String returns the name of the operation in lower case.
func (o Op) String() string {
	if int(o) < len(opNames) {
		return opNames[o]
	}
	return fmt.Sprintf("op(%d)", uint8(o))
}

// A Change is one row inserted, updated or deleted, or one statement that
// alters tables.
type Change struct {
	Op     Op
	Table  *Table // for DDL, Columns may be empty, and Name if it is not known
	Before Row    // nil for Insert
	After  Row    // nil for Delete; both may have Absent values, see Row

	// Query is the statement, for DDL, in the character set that the source's
	// session had for it. It means the same to every server: what the source ran
	// of comments such as /*!80016 ... */ is code, and what it did not is left out.
	Query   string
	Session *Session // what the meaning of Query depends on; nil if not known

	// NoForeignKeys says that foreign keys must neither be checked nor acted
	// upon when the row is applied: the source did not check them for this row,
	// or it logs by itself what its foreign keys do to other rows.
	NoForeignKeys bool

	// Part says that other changes, in any order, write other columns of the
	// same row of the target, which Table's primary key finds. An Insert or
	// Update sets Table's columns there, those that are not Absent, and inserts
	// the row if it is missing. A Delete sets to NULL those that are not of the
	// key, and then deletes the row if none of its columns that may be NULL has
	// a value; if there is no such row, it does nothing. An Update that changes
	// the key is a Delete and an Insert.
	Part bool

	// Overwrite says of an Insert that the target may have a row with the same
	// primary key, whatever it holds, and that After takes its place. Rows are
	// found by no other key, and a row that another unique key would forbid is a
	// conflict as ever. Rows that are copied a second time have it.
	Overwrite bool
}

// A Session is what the meaning of a statement depends on besides its text. It
// is shared and must not be changed.
type Session struct {
	Schema string // the default schema; may be empty
	Vars   []Var  // system variables, in the order in which they are to be set
}

// A Var is a system variable of the session that ran a statement.
type Var struct {
	Name  string
	Value string // an SQL literal: '+00:00' with its quotes, 1, utf8mb4
}

// size returns roughly how many bytes of memory the session holds.
func (s *Session) size() int {
	n := 40 + len(s.Schema)
	for _, v := range s.Vars {
		n += 32 + len(v.Name) + len(v.Value)
	}
	return n
}

// A Source reads transactions from a log.
type Source interface {
	// Open returns the transactions that follow from, oldest first. For the
	// zero Checkpoint it begins where its own options say; a first transaction
	// without changes may then do no more than to fix that place.
	Open(ctx context.Context, from Checkpoint) (Stream, error)
}

// A Stream is an open Source. It is not safe for concurrent use.
type Stream interface {
	// Next waits until a transaction is ready, fills batch with those that are,
	// and reports how many. So a reader that falls behind gets larger batches.
	// A batch ends early once its Size passes about a megabyte. The transactions
	// belong to the caller. A source may leave Seq zero, and the pipeline will
	// number the transaction; a queue must return the Seq it was given.
	// After the last transaction Next returns 0 and io.EOF; most logs have no
	// last. When ctx ends, Next returns its error soon.
	Next(ctx context.Context, batch []*Transaction) (int, error)
	Close() error
}

// A Decoder is a Source whose transactions travel encoded. Decode reads Encoded
// into Changes and sets Encoded to nil, for each transaction of the batch that
// has it set. The pipeline calls it after the queue, from several goroutines
// with a different batch each. It needs no open Stream.
type Decoder interface {
	Source
	Decode(ctx context.Context, batch []*Transaction) error
}

// A Stage rewrites transactions. It may add, change and remove their Changes,
// but not reorder or drop a Transaction: one left empty still moves the
// checkpoint. The same input must give the same output, since recovery may
// repeat it. Process is called by one goroutine at a time.
type Stage interface {
	Process(ctx context.Context, batch []*Transaction) error
}

// A Passer is a Stage that remembers how far it has come. Of a transaction that may
// be stepped over, as Reject or Skip want it, or of a part of one, it is told by Pass
// in place of Process. An error ends Run, or is retried if it is transient.
type Passer interface {
	Stage
	Pass(ctx context.Context, at Checkpoint) error
}

// A Stepper is a Passer that is also told what is stepped over, by Step in place of
// Pass, and why: ErrSkipped if somebody has asked for it, a *ParkedError if it depends on
// dead letters, else the error with which it was refused. The transaction is as it was
// before the Stages, and without changes if it could not be decoded. It is not changed, and
// not kept, by Step. One that came whole and is parked by a *ParkedError comes to Process
// next, in its place among others, with its changes taken out of it.
type Stepper interface {
	Passer
	Step(ctx context.Context, tx *Transaction, why error) error
}

// StageFunc makes a Stage of a function.
type StageFunc func(ctx context.Context, batch []*Transaction) error

// Process calls f.
func (f StageFunc) Process(ctx context.Context, batch []*Transaction) error { return f(ctx, batch) }

// A Sink applies transactions. Its methods are called by one goroutine at a
// time, except that two pipelines may fight for the same target.
type Sink interface {
	// Checkpoint reports the last transaction applied. It first drops the parts
	// of a transaction that Apply was given without its end.
	Checkpoint(ctx context.Context) (Checkpoint, error)

	// Apply applies the batch in order, each transaction whole and together with
	// its checkpoint; several may share one atomic write. If what it has applied
	// does not end at batch[0].Seq-1, it applies nothing and returns ErrConflict.
	// If it fails midway, what it has applied is a prefix of the batch, and
	// Checkpoint tells how long.
	//
	// If the batch ends with a part (More), those parts stay unseen and without
	// a checkpoint until a later Apply brings the last one.
	Apply(ctx context.Context, batch []*Transaction) error
}

// An Overlapper is a Sink that can begin with a batch before it is done with those that come
// before it. A pipeline uses ApplyEach in place of Apply for transactions that are whole, and
// that are neither rows of a copy nor alone under suspicion. So a type that embeds an
// Overlapper, such as sink.MySQL, and has an Apply of its own needs an ApplyEach as well.
type Overlapper interface {
	Sink

	// ApplyEach applies batches, each of which follows the one before, as Apply does. It
	// calls next for them, from the goroutine that called ApplyEach; the batches are then its
	// own. If next returns nil there is none now, and it may be called again later. ApplyEach
	// returns nil once next has returned nil with nothing on its way.
	//
	// It calls done, from that goroutine too, whenever more is applied: all transactions up to
	// that Seq are, together with their checkpoints. An error of done ends ApplyEach, which
	// may still call done for what was on its way.
	//
	// If it fails, what it has applied is a prefix of what it was given, and Checkpoint tells
	// how long. Nothing is under way any more when it returns.
	ApplyEach(ctx context.Context, next func() []*Transaction, done func(seq uint64) error) error
}

// A Progresser is a Source, or a part of one, that copies rows which were there
// before its log begins. Progress is cheap and safe at any time.
type Progresser interface {
	// Progress returns how far the copy of each table is, in the order in which
	// they are copied. It is empty if nothing is copied, and keeps what has been
	// copied until the Source is closed.
	Progress() []TableProgress
}

// A Copier is a Source that brings rows which were there before its log begins, if
// it was opened so.
type Copier interface {
	// Copies returns the tables whose rows a Stream from the beginning would bring, by
	// Schema and Name; none if none are copied.
	Copies(ctx context.Context) ([]*Table, error)
}

// A CopyChecker is a Sink that can tell whether rows of the source's may be copied
// into it. A pipeline whose Source is a Copier and that has no Stages asks it before
// anything is applied, and again at each start until something has been.
type CopyChecker interface {
	// CheckCopy returns why rows of these tables must not be copied, such as that the
	// target has rows of its own, with which they would be mixed. Run returns that
	// error, unless it is transient.
	CheckCopy(ctx context.Context, tables []*Table) error
}

// A Holder is a Source that can wait with rows that were there before, while what its
// log has goes on. A pipeline asks for that where rows come faster than the sink takes
// them: else a commit of the source would wait behind all that have piled up. It is a
// wish; a Source may give rows where its log could not go on otherwise.
type Holder interface {
	// Hold says whether to wait from now on. It may be called at any time, from any
	// goroutine, and returns at once.
	Hold(on bool)
}

// A CopyState is what has become of the copy of a table.
type CopyState uint8

const (
	CopyWaiting CopyState = iota // it is not begun
	Copying
	Copied
	CopyFailed // for good: Err says why, and what cures it
)

var copyStateNames = [...]string{"waiting", "copying", "copied", "failed"}

// String returns the state's name in lower case.
func (s CopyState) String() string {
	if int(s) < len(copyStateNames) {
		return copyStateNames[s]
	}
	return fmt.Sprintf("copystate(%d)", uint8(s))
}

// MarshalText returns the state's name.
func (s CopyState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// A TableProgress says how far the copy of one table is. Counters begin with the
// process, so that after a restart they lack what was copied before.
type TableProgress struct {
	Schema, Name string
	State        CopyState
	Rows, Bytes  uint64        // handed on; bytes as in memory
	Total        uint64        // how many rows the table has, as the source estimates it; 0 if not known
	Rate         float64       // rows per second, lately
	Left         time.Duration // how long the rest may take; 0 if not known
	Err          error         // of CopyFailed
}

// A Trimmer is a Source that can forget what its reader no longer needs. The
// pipeline calls Trim after each batch with the sink's checkpoint; Trim should
// not wait for a disk.
type Trimmer interface {
	Trim(ctx context.Context, upTo Checkpoint) error
}

// A Queue is a Sink whose transactions can be read back. While one goroutine
// applies, others may read.
type Queue interface {
	Sink
	Source

	// Reset makes the queue forget all it holds and stand at the given
	// checkpoint, as if the transactions up to it had been applied and trimmed.
	// The pipeline calls it when the sink is further than the queue: the queue
	// was lost, or put back from an older copy.
	Reset(ctx context.Context, at Checkpoint) error
}

var (
	// ErrTransient marks an error that may pass. The pipeline waits and goes on
	// from the sink's checkpoint. Any other error stops it.
	ErrTransient = errors.New("dfs: transient")

	// ErrStanding marks an error that is not about what a transaction does, but
	// about a table or the target as a whole: a table or column that is missing, a
	// right that the account lacks. Most of what follows would meet it too, so no
	// dead letter is made of it: Run stops, and goes on at the same transaction
	// once the cause is mended. Reject may ask for it by errors.Is.
	ErrStanding = errors.New("dfs: standing fault")

	// ErrConflict means that another pipeline moved the sink's checkpoint.
	ErrConflict = errors.New("dfs: sink has another writer")

	// ErrLost means that a sink which had a checkpoint has none any more, though what
	// it has applied is there: somebody has dropped its table, or deleted its row. Run
	// stops, for without the checkpoint nobody knows where the sink stands.
	ErrLost = errors.New("dfs: the sink's checkpoint is lost")

	// ErrGap means that a source skipped or repeated a transaction, or that a
	// queue no longer holds what its reader needs.
	ErrGap = errors.New("dfs: gap in source")
)

// Transient marks err as one that may pass: errors.Is(err, ErrTransient) holds
// for the result, which says and unwraps to the same as err. Only who knows the
// cause of an error should mark it. Transient(nil) is nil.
func Transient(err error) error {
	if err == nil || errors.Is(err, ErrTransient) {
		return err
	}
	return transientError{err}
}

// Standing marks err as one of a table or target as a whole: errors.Is(err,
// ErrStanding) holds for the result, which says and unwraps to the same as err. An
// error that may pass, and nil, are returned as they are.
func Standing(err error) error {
	if err == nil || errors.Is(err, ErrTransient) || errors.Is(err, ErrStanding) {
		return err
	}
	return standingError{err}
}

type standingError struct{ error }

func (e standingError) Unwrap() error        { return e.error }
func (e standingError) Is(target error) bool { return target == ErrStanding }

type transientError struct{ error }

func (e transientError) Unwrap() error        { return e.error }
func (e transientError) Is(target error) bool { return target == ErrTransient }

// An Error says where in a pipeline something failed.
type Error struct {
	Part string     // "source", "decode", "stage 2", "queue", "sink", "reject"
	At   Checkpoint // the last transaction known to be good
	ID   string     // the source's name for the transaction to blame, if one is
	Err  error
}

func (e *Error) Error() string {
	if e.ID != "" {
		name, text := fmt.Sprintf("transaction %d (%s)", e.At.Seq+1, e.ID), fmt.Sprint(e.Err)
		if strings.HasPrefix(text, name) {
			return e.Part + ", " + text // the cause names it already
		}
		return fmt.Sprintf("%s, %s: %s", e.Part, name, text)
	}
	if e.At.Seq == 0 {
		return fmt.Sprintf("%s: %v", e.Part, e.Err) // nothing was known yet of how far it is
	}
	return fmt.Sprintf("%s, after transaction %d: %v", e.Part, e.At.Seq, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

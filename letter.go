package dfs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Letter is a transaction that was refused for good, or that depends on one,
// and that waits in a LetterStore until a person settles it. The sink has stepped
// over it.
type Letter struct {
	Number   uint64 // its name; letters have the order in which they came
	Revision uint64 // how often it was written; 0 if it is not stored yet
	State    LetterState

	// Of the transaction: Checkpoint and Committed are those of its last part,
	// without State.
	Seq       uint64
	Pos       Position
	ID        string
	Committed time.Time
	Snapshot  bool

	Parts      int  // in which it came
	Whole      bool // the last of them has come
	Rows       int
	Statements int // that alter tables
	Bytes      int // roughly, as Transaction.Size
	Tables     []string

	Part      string // of the pipeline, that refused it, as in Error; empty if nothing has
	Err       string // why
	Statement string // that was refused, if the error has a method Statement() string, as those of package sink do
	After     []uint64
	Came      time.Time // when it was put here
	Tried     time.Time // when it was last tried again; zero if it was not
	Attempts  int       // how often it was tried, the first time too

	// At is the number of the transaction that it was applied with, or shall be.
	// The sink's checkpoint tells which of them it is.
	At uint64

	// Gone says that its changes were purged once it was applied. If it waits all the
	// same, the target was put back to before that, and lacks what it did.
	Gone bool

	Edits int    // how often its changes were edited
	Why   string // what the person who settled it has said

	// Changes are as they were before the Stages. They are set where it says so.
	Changes []Change

	// Edited are the changes to be applied instead, if Edits is not 0.
	Edited []Change
}

// Unsettled reports whether the letter waits for something, so that what depends
// on it has to wait too.
func (l *Letter) Unsettled() bool { return l.State == LetterParked || l.State == LetterWanted }

// String names the letter, for people.
func (l *Letter) String() string {
	if l.ID == "" {
		return fmt.Sprintf("letter %d (transaction %d)", l.Number, l.Seq)
	}
	return fmt.Sprintf("letter %d (transaction %d, %s)", l.Number, l.Seq, l.ID)
}

// A LetterState is what has become of a Letter.
type LetterState uint8

const (
	LetterParked  LetterState = iota + 1 // it waits for a person
	LetterWanted                         // it is to be applied as soon as can be
	LetterApplied                        // it has been, together with transaction At
	LetterSkipped                        // a person has said that it is not to be applied
	LetterVoid                           // the target was put back to before it, so it comes again by itself
	LetterPurged                         // it was applied, and its changes are deleted; At is kept, and lists leave it out
)

var letterStateNames = [...]string{"none", "parked", "retrying", "applied", "skipped", "void", "purged"}

// String returns the state's name in lower case.
func (s LetterState) String() string {
	if int(s) < len(letterStateNames) {
		return letterStateNames[s]
	}
	return fmt.Sprintf("letterstate(%d)", uint8(s))
}

// MarshalText returns the state's name.
func (s LetterState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a state's name.
func (s *LetterState) UnmarshalText(text []byte) error {
	i := slices.Index(letterStateNames[:], string(text))
	if i < 0 {
		return fmt.Errorf("dfs: a letter cannot be %q", text)
	}
	*s = LetterState(i)
	return nil
}

// A LetterStore keeps letters on a disk: package queue has one in a file. It
// decides nothing; the Pipeline does. Its methods may be called at the same time.
type LetterStore interface {
	// Book returns all letters, without their changes, and what else is kept.
	Book(ctx context.Context) (*LetterBook, error)

	// Letter returns one letter with Changes and Edited, as many of each as make
	// up limit bytes by Transaction.Size, and one at least. Zero is no limit. It
	// returns ErrNoLetter if there is none of that number.
	Letter(ctx context.Context, number uint64, limit int) (*Letter, error)

	// Write does all of w in one write that is on the disk when it returns, or
	// nothing of it. It returns ErrLetterChanged if a letter to be put has been
	// written since it was read, and ErrLettersFull if there would be too many.
	Write(ctx context.Context, w *LetterWrite) error
}

// A LetterBook is what a LetterStore holds.
type LetterBook struct {
	Letters []*Letter // by Number
	Next    uint64    // greater than the number of any letter there ever was
	Skip    []string  // names of transactions to be skipped when they come
	Reached uint64    // what the sink is known to have come to
	Keys    []byte    // of the source's tables, as the Pipeline last knew them
}

// A LetterWrite is what a LetterStore is to write.
type LetterWrite struct {
	// Put stores letters. One of Revision 0 is new. Write counts up the Revision
	// in the store and in the Letter. If Changes is not nil they are those of the
	// part with the number Parts, and parts after it are forgotten; if Edited is
	// not nil it takes the place of what was edited before.
	Put []*Letter

	Delete  []uint64 // letters
	Skip    []string // names to add
	Unskip  []string // names to take away
	Reached uint64   // 0: as before
	Keys    []byte   // nil: as before
}

var (
	// ErrNoLetter means that a LetterStore has no letter of a number.
	ErrNoLetter = errors.New("dfs: no such dead letter")

	// ErrLetterChanged means that a letter has been written by another meanwhile.
	ErrLetterChanged = errors.New("dfs: the dead letter has changed meanwhile")

	// ErrLettersFull means that a LetterStore takes no more letters before some are
	// settled.
	ErrLettersFull = errors.New("dfs: too many dead letters")

	// errDepends is why a transaction is parked that nothing has refused.
	errDepends = errors.New("it touches rows of transactions that are parked")
)

// A ParkedError says of a transaction that nothing has refused it: it has become a
// dead letter since it touches the same as others that wait.
type ParkedError struct {
	Letter uint64   // what it is now
	After  []uint64 // the letters that it waits for, as far as they are known
}

func (e *ParkedError) Error() string {
	text := fmt.Sprintf("parked as dead letter %d, since it touches the same as ", e.Letter)
	switch len(e.After) {
	case 0:
		return text + "others"
	case 1:
		return text + fmt.Sprintf("letter %d", e.After[0])
	}
	return text + "letters " + strings.Trim(strings.ReplaceAll(fmt.Sprint(e.After), " ", ", "), "[]")
}

// TableKeys are the keys of a table: what tells whether two transactions touch
// the same row.
type TableKeys struct {
	Schema, Name string

	// Unique are the columns of each unique key but the primary key. One that
	// cannot be told by whole values of columns, such as a prefix of a text, has
	// the columns of which it is made, and Vague set.
	Unique []UniqueKey

	References []KeyReference
}

// A UniqueKey is one unique key.
type UniqueKey struct {
	Columns []string
	Vague   bool
}

// A KeyReference is a foreign key: Columns refer to Parent's.
type KeyReference struct {
	Columns              []string
	ParentSchema, Parent string
	ParentColumns        []string
}

// A Keyer is a Source that knows the keys of its tables. Without one, a Pipeline
// knows their primary keys alone.
type Keyer interface {
	// Keys returns those of all tables of which transactions may tell, as they
	// are now.
	Keys(ctx context.Context) ([]TableKeys, error)
}

// Unnumbered is a Source all of whose transactions have Seq 0, so that the
// Pipeline numbers them. It may then put empty transactions between them, with the
// Position of the one before.
type Unnumbered interface {
	Unnumbered()
}

// LetterStats counts letters.
type LetterStats struct {
	Parked   int       // wait for a person
	Retrying int       // are about to be applied
	Oldest   time.Time // when the first of both came; zero if there is none
}

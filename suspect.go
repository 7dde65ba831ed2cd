package dfs

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
)

// A suspect tells how to go on after an error that stays. First the
// transactions that failed together go one by one, so that those before the one
// to blame are applied. Then that one is offered to Reject.
type suspect struct {
	until   uint64 // up to this Seq, transactions go one by one
	refused uint64 // Seq of the first part of the one to blame, or 0
	name    string // what it is known by; empty if that is its number only
	copied  bool   // it is rows of a copy
	err     error  // why it was refused
	met     bool   // it has come again
	missed  int    // how often rows of a copy were to blame since one of these has come again

	letter uint64 // the letter to blame instead, or 0
	rode   uint64 // Seq of the first part of what it rode on
}

// An accused letter is one that was parked again since what it rode on was refused.
// Which of both was at fault shows when that goes by itself.
type accused struct {
	letter *Letter // as it was parked; nil if there is none
	before Letter
	seq    uint64 // of what it rode on
	name   string
}

// untilMore is how many transactions beyond suspect.until go one by one too. Where
// the pipeline numbers them, those that moved the position only, such as what was
// filtered, need not be where they were when the log is read again.
const untilMore = 16

// mostMissed is how often rows of a copy may be refused that do not come again as they
// were. Then Run ends, as nobody can tell what to step over.
const mostMissed = 5

// blames reports whether tx is the first part of the transaction to blame. It is
// known by its name, since another may have its number now.
func (s *suspect) blames(tx *Transaction) bool {
	switch {
	case s.refused == 0 || tx.Snapshot != s.copied:
		return false
	case s.copied && s.met:
		return false // the same rows may be copied once more, when they are not refused
	case s.name == "":
		return s.refused == tx.Seq
	case s.copied:
		return copiedName(tx) == s.name
	}
	return tx.ID == s.name
}

// next is what to suspect in the next session.
func (s *suspect) next(now suspect) suspect {
	if !s.met {
		now.missed = s.missed
	}
	if now.copied && now.refused != 0 {
		now.missed++
	}
	return now
}

// ownName returns a name that no other transaction has, or "". Rows that are copied
// have that of their table.
func ownName(tx *Transaction) string {
	if tx.Snapshot {
		return ""
	}
	return tx.ID
}

// copiedName returns what rows of a copy are known by, as they were read. Where the log
// goes on beside the copy, they come at another number when they come again.
func copiedName(tx *Transaction) string {
	sum := sha256.New()
	sum.Write(AppendChanges(nil, tx.Changes))
	sum.Write(tx.Encoded)
	return string(sum.Sum([]byte(tx.ID + "\x00")))
}

// A blame is an error that ends a session, together with what to suspect.
type blame struct {
	error
	suspect suspect
}

// parks reports whether a transaction that is refused with err can become a letter.
// What cannot be read, or is not as its source encoded it, touches nobody knows what,
// and what follows a statement depends on it for the whole table.
func (l *leg) parks(c *chunk, err *Error) bool {
	if _, encodes := l.src.(Decoder); encodes && l.decoder == nil {
		return false
	}
	return l.pausable && err.Part != "decode" && err.Part != "letters" && !c.ddl
}

// blame decides what follows from an error in the transactions that begin with
// those of c and end with the number last.
func (l *leg) blame(ctx context.Context, c *chunk, last uint64, err *Error) error {
	switch {
	case errors.Is(err, ErrTransient), errors.Is(err, ErrConflict), errors.Is(err, ErrGap), errors.Is(err, ErrLost),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case c.ride != nil:
		// Whatever else the transaction holds, the letter is tried first for it.
		l.p.logger().Error("a dead letter could not be applied", "number", c.ride.Number, "id", c.ride.ID, "err", err)
		return &blame{err, suspect{letter: c.ride.Number, rode: c.first, name: c.name, err: err}}
	case !c.alone:
		return &blame{err, suspect{until: last}}
	case c.refused != nil:
		return err // even the step over it fails, so it was not to blame
	}
	l.acquit(ctx, c)
	switch {
	case l.p.Letters != nil && l.pausable && errors.Is(err, ErrStanding):
		err.Err = fmt.Errorf("%w (no dead letter is made of it, since this is no fault of the transaction: others would meet it too)", err.Err)
		return err
	case l.p.Reject != nil, l.p.Letters != nil && l.parks(c, err):
		return &blame{err, suspect{until: last, refused: c.first, name: c.name, copied: c.copied, err: err}}
	}
	return err
}

// acquit has a letter tried again that was parked because of c, which has now been
// refused without it. If that cannot be stored, the letter waits with the error that it
// got.
func (l *leg) acquit(ctx context.Context, c *chunk) {
	a := l.accused
	if a.letter == nil || a.name != c.name || a.name == "" && a.seq != c.first {
		return
	}
	l.accused = accused{}
	if a.letter.State != LetterParked {
		return
	}
	again := a.before
	again.Revision, again.At = a.letter.Revision, 0
	if err := l.p.Letters.Write(ctx, &LetterWrite{Put: []*Letter{&again}}); err != nil {
		l.p.logger().Warn("a dead letter could not be put back in line, and has to be retried", "number", again.Number, "err", err)
	}
}

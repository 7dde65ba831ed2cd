package cdc

import (
	"slices"
	"strings"

	"github.com/dataflowsync/dfs/internal/ddl"
)

// Rows that a transaction of the log takes back: by ROLLBACK TO SAVEPOINT, or at
// its end by ROLLBACK. A server writes such rows where it cannot leave them out,
// because the transaction has made a temporary table, say, or has changed a table
// without transactions meanwhile (MariaDB).
//
// Rows of tables without transactions stay when a transaction is undone. But these
// are never among them: where rows are logged and not statements, MySQL from 5.6
// and MariaDB write them to the log before the transaction, as one that is
// committed (use_trans_cache in sql/binlog.cc, MariaDB's sql/log.cc). Older
// servers do not, and are known by the older form of their rows.

// A savepoint is how much of a transaction there was when it was set.
type savepoint struct {
	name string
	part uint64 // number of the part
	size int    // its length
}

// savepointName returns the name in a statement, which servers log in backticks.
func savepointName(text string) string {
	for _, w := range [...]string{"ROLLBACK", "TO", "SAVEPOINT"} {
		text = strings.TrimLeft(text, " ")
		if len(text) > len(w) && strings.EqualFold(text[:len(w)], w) {
			text = text[len(w):]
		}
	}
	return strings.ToLower(strings.Trim(strings.TrimSpace(text), "`"))
}

// savepoint sets a savepoint, or goes back to one.
func (a *assembler) savepoint(e event, s *ddl.Statement) error {
	switch {
	case a.skipTo > 0:
		return nil
	case s.Kind == ddl.RollbackTo:
		return a.rollbackTo(e, s.Text)
	}
	a.setSavepoint(s.Text)
	return nil
}

// setSavepoint notes what there is of the transaction.
func (a *assembler) setSavepoint(text string) {
	t := &a.tx
	name := savepointName(text)
	t.saved = slices.DeleteFunc(t.saved, func(s savepoint) bool { return s.name == name })
	if len(t.saved) >= 1000 {
		t.saved = slices.Delete(t.saved, 0, 1) // to go back to it will be refused
	}
	t.saved = append(t.saved, savepoint{name, a.partNum, len(a.part)})
}

const (
	undoneParts = "a transaction takes back changes to followed tables that were handed on already, as it is so large"
	undoneOld   = "a transaction takes back changes to followed tables, and of the server that logged it is not known whether they are all taken back"
	undoneDDL   = "a transaction takes back changes to followed tables, after a statement that cannot be taken back"
	undoneCure  = "raise MaxPart to the size of the transaction, or make its changes on the target by hand"
	undoneHand  = "make its changes on the target by hand"
)

// rollbackTo drops the rows that came after a savepoint.
func (a *assembler) rollbackTo(e event, text string) error {
	t := &a.tx
	if t.refused != nil || t.spilled || len(a.part) == 0 && !t.parts {
		return nil
	}
	name := savepointName(text)
	i := slices.IndexFunc(t.saved, func(s savepoint) bool { return s.name == name })
	switch {
	case t.old || i < 0:
		return a.refuse(e, undoneOld, undoneHand)
	case t.ddl:
		return a.refuse(e, undoneDDL, undoneHand)
	case t.saved[i].part != a.partNum:
		return a.refuse(e, undoneParts, undoneCure)
	}
	a.part = a.part[:t.saved[i].size]
	t.saved = t.saved[:i+1]
	// Table maps may be gone, and are to be written anew.
	was := a.partNum
	a.partNum++
	for i := range t.saved {
		if t.saved[i].part == was {
			t.saved[i].part = a.partNum
		}
	}
	return nil
}

// nextPart begins a part behind one of the given size. Savepoints that stand at its
// end stand at the beginning of the next one as well.
func (a *assembler) nextPart(size int) {
	for i := range a.tx.saved {
		if s := &a.tx.saved[i]; s.part == a.partNum && s.size == size {
			s.part, s.size = a.partNum+1, 0
		}
	}
	a.partNum++
}

// rollback ends a transaction whose rows are all taken back.
func (a *assembler) rollback(e event) error {
	t := &a.tx
	if t.refused == nil && (len(a.part) > 0 || t.parts) {
		var err error
		switch {
		case t.old:
			err = a.refuse(e, undoneOld, undoneHand)
		case t.ddl:
			err = a.refuse(e, undoneDDL, undoneHand)
		case t.parts:
			err = a.refuse(e, undoneParts, undoneCure)
		}
		if err != nil {
			return err
		}
		a.part = a.part[:0]
	}
	return a.commit(e)
}

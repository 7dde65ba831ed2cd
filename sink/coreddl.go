package sink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/charset"
	"github.com/dataflowsync/dfs/internal/ddl"
	"github.com/dataflowsync/dfs/internal/failpoint"
)

// nextDDL returns the index of the first transaction with a statement that is not
// passed over, or len(batch).
func (c *core) nextDDL(batch []*dfs.Transaction) int {
	for i, tx := range batch {
		for j := range tx.Changes {
			ch := &tx.Changes[j]
			if ch.Op != dfs.DDL {
				continue
			}
			_ = readable(ch) // what cannot be read stays as it is, for the error
			if v := c.judged(tx, ch); v.policy != PolicyIgnore {
				return i
			}
			c.forget() // people alter the target at about this time
		}
	}
	return len(batch)
}

// readable makes UTF-8 of a statement in another character set.
func readable(c *dfs.Change) error {
	if c.Session == nil || !strings.ContainsFunc(c.Query, func(r rune) bool { return r >= 0x80 }) {
		return nil
	}
	for i, v := range c.Session.Vars {
		if !strings.EqualFold(v.Name, "character_set_client") {
			continue
		}
		set := strings.ToLower(strings.Trim(v.Value, "'"))
		switch set {
		case "utf8mb4", "utf8", "utf8mb3", "binary":
			return nil
		}
		if introduced.MatchString(c.Query) {
			return fmt.Errorf("it is written in %s and has text in a character set of its own, as in _latin1'...'", set)
		}
		text, ok := charset.Text(set, c.Query)
		if !ok {
			return fmt.Errorf("it is not valid in its character set, %s", set)
		}
		session := &dfs.Session{Schema: c.Session.Schema, Vars: append([]dfs.Var(nil), c.Session.Vars...)}
		session.Vars[i].Value = "utf8mb4"
		c.Query, c.Session = text, session
	}
	return nil
}

// countDDL counts a statement that is settled: see MySQL.countDDL.
func (c *core) countDDL(tx *dfs.Transaction, ch *dfs.Change) {
	v := c.judged(tx, ch)
	kind := "statement"
	if v.stmt != nil {
		kind = v.stmt.Kind.String()
	}
	outcome := Applied
	switch {
	case v.policy == PolicyIgnore:
		outcome = Ignored
		c.log.Warn("statement skipped", "seq", tx.Seq, "id", tx.ID, "query", limit(ch.Query, 400))
	case c.failed[ch]:
		outcome = Failed
	}
	delete(c.failed, ch)
	c.stats.countDDL(DDLCount{Kind: kind, Outcome: outcome})
}

// judged is judge, but that views are never made: what they select is MySQL's language.
func (c *core) judged(tx *dfs.Transaction, ch *dfs.Change) verdict {
	v := c.judge(tx, ch)
	if v.runs() && v.stmt != nil {
		switch v.stmt.Kind {
		case ddl.CreateView, ddl.AlterView, ddl.DropView, ddl.AlterSchema:
			v.policy, v.err = PolicyIgnore, nil
		}
	}
	return v
}

// statementChange returns the first statement of a transaction that has one.
func statementChange(tx *dfs.Transaction) *dfs.Change {
	return &tx.Changes[slices.IndexFunc(tx.Changes, func(c dfs.Change) bool { return c.Op == dfs.DDL })]
}

// errWithin says that a statement stands behind rows of its own transaction.
var errWithin = errors.New("it stands in the middle of a transaction that came in parts")

// statement applies a statement, within the transaction that moves the checkpoint past
// it: both databases undo what alters tables as they do rows.
//
// Invariant I1: so the statement is done if and only if the checkpoint has moved, and
// no crash leaves it open.
func (c *core) statement(ctx context.Context, tx *dfs.Transaction, ch *dfs.Change) error {
	v := c.judged(tx, ch)
	if !v.runs() {
		return nil // passed over, or takeAll had stopped
	}
	if v.policy == PolicyTry {
		if err := c.run(ctx, "SAVEPOINT dfs_statement"); err != nil {
			return err
		}
	}
	err := v.err
	if err == nil {
		err = c.alter(ctx, tx, ch, v.stmt)
		failpoint.Hit("core.ddl")
	}
	c.forget()
	c.db.altered()
	switch {
	case err != nil && (errors.Is(err, dfs.ErrTransient) || ctx.Err() != nil):
		return err
	case err != nil && v.policy != PolicyTry:
		return &DDLError{tx.Seq, tx.ID, ch.Query, err}
	case err != nil:
		c.failed[ch] = true
		c.log.Warn("statement failed and is passed over", "seq", tx.Seq, "id", tx.ID, "query", limit(ch.Query, 400), "error", err)
		if err := c.run(ctx, "ROLLBACK TO SAVEPOINT dfs_statement"); err != nil {
			return err
		}
	}
	if v.policy == PolicyTry {
		return c.run(ctx, "RELEASE SAVEPOINT dfs_statement")
	}
	return nil
}

package sink

import (
	"errors"
	"fmt"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/charset"
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
			if v := c.judge(tx, ch); v.policy != PolicyIgnore {
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
	v := c.judge(tx, ch)
	kind := "statement"
	if v.stmt != nil {
		kind = v.stmt.Kind.String()
	}
	outcome := Applied
	if v.policy == PolicyIgnore {
		outcome = Ignored
		c.log.Warn("statement skipped", "seq", tx.Seq, "id", tx.ID, "query", limit(ch.Query, 400))
	}
	c.stats.countDDL(DDLCount{Kind: kind, Outcome: outcome})
}

// errNotApplied says why a statement stops the pipeline.
var errNotApplied = errors.New("this sink applies no statements that alter tables")

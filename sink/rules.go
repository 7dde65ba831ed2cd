package sink

import (
	"fmt"
	"log/slog"
	"slices"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/match"
)

// rules are what the options of every sink say alike: whose checkpoint it is, where
// tables go, and what becomes of conflicts and of statements.
type rules struct {
	name       string
	schema     string
	routes     []match.Route
	conflicts  []conflictRule
	ddl        Policy
	ddlRules   []ddlRule
	ddlDone    []string
	followed   match.List
	followedBy func(state string) ([]string, error) // nil: it never changes
	log        *slog.Logger
}

type conflictRule struct {
	tables match.Pattern
	policy Policy
}

// set reads them, and returns all faults.
func (m *rules) set(routes []Route, conflicts []ConflictRule, ddlRules []DDLRule, tables []string) (errs []error) {
	if m.name == "" {
		m.name = "dfs"
	}
	if m.schema == "" {
		m.schema = "dfs"
	}
	if m.log == nil {
		m.log = slog.Default()
	}
	if len([]rune(m.name)) > 64 {
		errs = append(errs, fmt.Errorf("name %q: use at most 64 characters", m.name))
	}
	for _, route := range routes {
		parsed, err := match.ParseRoute(route.From, route.To)
		if err != nil {
			errs = append(errs, err)
		}
		m.routes = append(m.routes, parsed)
	}
	for _, c := range conflicts {
		p, err := match.Parse(c.Tables)
		if err != nil {
			errs = append(errs, fmt.Errorf("conflict policy: %w", err))
		}
		switch c.Policy {
		case PolicyError, PolicyOverwrite, PolicyIgnore:
		default:
			errs = append(errs, fmt.Errorf("conflict policy %q of %s: use error, overwrite or ignore", c.Policy, c.Tables))
		}
		m.conflicts = append(m.conflicts, conflictRule{p, c.Policy})
	}
	return append(errs, m.ddlOptions(ddlRules, tables)...)
}

// policy returns the policy for conflicts of a table of the target.
func (m *rules) policy(t *table) Policy {
	for _, c := range m.conflicts {
		if c.tables.Match(t.schema, t.name) {
			return c.policy
		}
	}
	return PolicyError
}

// follow takes over which tables the source follows from a place on.
func (m *rules) follow(state string) error {
	if m.followedBy == nil {
		return nil
	}
	list, err := m.followedBy(state)
	if err == nil {
		m.followed, err = match.ParseList(list)
	}
	if err != nil {
		return fmt.Errorf("finding which tables the source follows: %w", err)
	}
	return nil
}

// byState applies a batch piece by piece, and takes over what is followed behind each
// transaction that has State, by which the statements that follow are judged.
func (m *rules) byState(batch []*dfs.Transaction, apply func([]*dfs.Transaction) error) error {
	for m.followedBy != nil {
		i := slices.IndexFunc(batch, func(tx *dfs.Transaction) bool { return tx.State != "" })
		if i < 0 {
			break
		}
		if err := apply(batch[:i+1]); err != nil {
			return err
		}
		if err := m.follow(batch[i].State); err != nil {
			return err
		}
		batch = batch[i+1:]
	}
	return apply(batch)
}

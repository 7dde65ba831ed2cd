package sink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/ddl"
	"github.com/dataflowsync/dfs/internal/match"
)

// What is to become of statements that alter tables: by which rule, and why a
// statement may not be applied. The files ddlroute.go, ddlrun.go, ddlstate.go
// and ddlsession.go say how one is applied.

const (
	// PolicyApply runs a statement on the target, by the names that Routes give
	// to its tables, in the session that it had on the source, exactly once. It
	// is for DDL only.
	PolicyApply Policy = "apply"

	// PolicyTry is PolicyApply, but what the target refuses for good is counted,
	// logged and passed over. It is for DDL only.
	PolicyTry Policy = "try"
)

// A DDLRule sets the policy for some statements that alter tables.
type DDLRule struct {
	// Tables are tables of the source, as in Route.From, by the names with which
	// they reach the sink: those that units of package dpu gave them, and before
	// Routes. A statement about
	// several is applied if none of their policies is PolicyError, without those
	// that PolicyIgnore is for. A statement about a schema is one about all its
	// tables. Default: all tables.
	Tables string

	// Kinds are kinds of statement, where * stands for any text: "alter table",
	// "drop *". See DDLKinds. Default: all kinds.
	Kinds []string

	Policy Policy
}

// appliedKinds are the kinds of statement that can be applied. The others that
// may come define what acts on the source alone: what a trigger, a routine or an
// event does to rows is logged as rows, and so are the numbers of a sequence.
var appliedKinds = []ddl.Kind{
	ddl.CreateTable, ddl.AlterTable, ddl.DropTable, ddl.RenameTable, ddl.TruncateTable,
	ddl.CreateIndex, ddl.DropIndex, ddl.CreateView, ddl.AlterView, ddl.DropView,
	ddl.CreateSchema, ddl.AlterSchema, ddl.DropSchema,
}

// DDLKinds returns the kinds of statement that DDLRule.Kinds can name: "create
// table", "alter table", "drop table", "rename table", "truncate table" and so
// on.
func DDLKinds() []string {
	names := make([]string, len(appliedKinds))
	for i, k := range appliedKinds {
		names[i] = k.String()
	}
	return names
}

// ddlRule is a DDLRule that was read.
type ddlRule struct {
	tables *match.Pattern // nil: all
	kinds  []string
	policy Policy
}

func (r *ddlRule) covers(kind ddl.Kind) bool {
	return len(r.kinds) == 0 || slices.ContainsFunc(r.kinds, kind.Is)
}

// ddlOptions reads what the options say of DDL.
func (m *rules) ddlOptions(ddlRules []DDLRule, tables []string) (errs []error) {
	policy := func(p Policy, what string) {
		switch p {
		case PolicyError, PolicyIgnore, PolicyApply, PolicyTry:
		default:
			errs = append(errs, fmt.Errorf("%s %q: use apply, try, ignore or error", what, p))
		}
	}
	if m.ddl == "" {
		m.ddl = PolicyError
	}
	policy(m.ddl, "DDL policy")
	for _, r := range ddlRules {
		rule := ddlRule{kinds: r.Kinds, policy: r.Policy}
		policy(r.Policy, "DDL rule: policy")
		if r.Tables != "" {
			p, err := match.Parse(r.Tables)
			if err != nil {
				errs = append(errs, fmt.Errorf("DDL rule: %w", err))
			}
			rule.tables = &p
		}
		for _, k := range r.Kinds {
			if !slices.ContainsFunc(appliedKinds, func(kind ddl.Kind) bool { return kind.Is(k) }) {
				errs = append(errs, fmt.Errorf("DDL rule: there is no kind of statement %q: use %s", k, strings.Join(DDLKinds(), ", ")))
			}
		}
		m.ddlRules = append(m.ddlRules, rule)
	}
	var err error
	if m.followed, err = match.ParseList(tables); err != nil {
		errs = append(errs, err)
	}
	return errs
}

// appliesDDL reports whether there are statements that would be applied.
func (m *rules) appliesDDL() bool {
	runs := func(p Policy) bool { return p == PolicyApply || p == PolicyTry }
	return runs(m.ddl) || slices.ContainsFunc(m.ddlRules, func(r ddlRule) bool { return runs(r.policy) })
}

// aside reports whether a kind of statement changes nothing about rows, nor
// about what rows may come. PolicyError is for such only where it names them.
func aside(kind ddl.Kind) bool {
	switch kind {
	case ddl.CreateView, ddl.AlterView, ddl.DropView, ddl.CreateSchema, ddl.AlterSchema:
		return true
	}
	return false
}

// ddlPolicy returns the policy for a kind of statement about a table, or about
// all of a schema if table is empty.
func (m *rules) ddlPolicy(kind ddl.Kind, schema, table string) Policy {
	p, named := m.ddlRule(kind, schema, table)
	if p == PolicyError && !named && aside(kind) {
		return PolicyIgnore
	}
	return p
}

// ddlRule is ddlPolicy by the rules alone, and reports whether the rule names
// kinds.
func (m *rules) ddlRule(kind ddl.Kind, schema, table string) (p Policy, named bool) {
	for _, r := range m.ddlRules {
		if !r.covers(kind) {
			continue
		}
		switch {
		case r.tables == nil:
			return r.policy, len(r.kinds) > 0
		case table != "":
			if r.tables.Match(schema, table) {
				return r.policy, len(r.kinds) > 0
			}
		case match.Glob(r.tables.Schema, schema):
			if r.tables.Table == "*" {
				return r.policy, len(r.kinds) > 0
			}
			if r.policy == PolicyError {
				return r.policy, len(r.kinds) > 0 // it is about some of the schema's tables
			}
		}
	}
	return m.ddl, false
}

// DDLPolicies returns the policy for each of DDLKinds, as it is for a table of the
// source, or for a schema if name is empty.
func (m *MySQL) DDLPolicies(schema, name string) map[string]Policy {
	return m.ddlPolicies(schema, name)
}

func (m *rules) ddlPolicies(schema, name string) map[string]Policy {
	out := make(map[string]Policy)
	for _, k := range appliedKinds {
		out[k.String()] = m.ddlPolicy(k, schema, name)
	}
	return out
}

// A DDLError says why a statement that alters tables stops the pipeline. The
// cure for each is the same: to run by hand what the target needs of it, and to
// let it pass by MySQLOptions.DDLDone.
type DDLError struct {
	Seq   uint64 // the transaction's number
	ID    string // the source's name for the transaction
	Query string // the statement, as the source ran it
	Err   error  // why it is not applied; nil if the policy is PolicyError
}

func (e *DDLError) Error() string {
	what, cure := "alters a table", ""
	switch {
	case e.Err == nil:
		cure = "; or let the sink apply such statements, by the policy apply"
	default:
		what = "has a statement that was not applied"
	}
	text := fmt.Sprintf("transaction %s %s: %q", txName(e.Seq, e.ID), what, limit(e.Query, 400))
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return fmt.Sprintf("%s; run what the target needs of it there, then name it as done, %q in DDLDone or ddl_done, and start again%s", text, e.ID, cure)
}

// Unwrap returns the cause.
func (e *DDLError) Unwrap() error { return e.Err }

// A verdict says what is to become of a statement.
type verdict struct {
	policy Policy
	stmt   *ddl.Statement
	err    error // why it cannot be run, whatever the policy
}

func (v *verdict) runs() bool { return v.policy == PolicyApply || v.policy == PolicyTry }

// errUnsettled says that nobody knows what a statement is about.
var errUnsettled = errors.New("it is not understood well enough to tell which tables it alters")

// judge decides about a statement.
func (m *rules) judge(tx *dfs.Transaction, c *dfs.Change) verdict {
	if slices.Contains(m.ddlDone, tx.ID) {
		return verdict{policy: PolicyIgnore}
	}
	s := parse(c, c.Query)
	v := verdict{stmt: s}
	if !slices.Contains(appliedKinds, s.Kind) && s.Kind != ddl.Unknown || s.Temporary {
		v.policy = PolicyIgnore
		return v
	}
	// The strictest of the policies for its tables counts.
	strict := []Policy{PolicyIgnore, PolicyTry, PolicyApply, PolicyError}
	v.policy = PolicyIgnore
	for _, t := range altered(s) {
		if t.Name != "" && !m.followed.Follows(t.Schema, t.Name) {
			continue
		}
		if p := m.ddlPolicy(s.Kind, t.Schema, t.Name); slices.Index(strict, p) > slices.Index(strict, v.policy) {
			v.policy = p
		}
	}
	if !s.Settled || s.Kind == ddl.Unknown {
		if v.policy = m.ddlPolicy(s.Kind, schemaOf(c), ""); v.runs() {
			v.err = errUnsettled
		}
	}
	return v
}

// parse reads a statement as the source's session did.
func parse(c *dfs.Change, text string) *ddl.Statement {
	var mode ddl.Mode
	modes := sqlModes(c.Session)
	mode.ANSIQuotes = slices.Contains(modes, "ANSI_QUOTES")
	mode.NoBackslashEscapes = slices.Contains(modes, "NO_BACKSLASH_ESCAPES")
	s := ddl.Parse(text, schemaOf(c), mode)
	return &s
}

// schemaOf returns the schema of names without one.
func schemaOf(c *dfs.Change) string {
	switch {
	case c.Session != nil:
		return c.Session.Schema
	case c.Table != nil:
		return c.Table.Schema
	}
	return ""
}

// altered returns the tables that a statement creates, alters or drops.
func altered(s *ddl.Statement) []ddl.Table {
	var list []ddl.Table
	for _, r := range s.Refs {
		if r.Role == ddl.Target || r.Role == ddl.NewName || r.Role == ddl.Schema {
			list = append(list, r.Table)
		}
	}
	if list == nil {
		list = s.Tables
	}
	return list
}

// nextDDL returns the index of the first transaction with a statement that is
// not passed over, or len(batch).
func (m *MySQL) nextDDL(ctx context.Context, batch []*dfs.Transaction) int {
	for i, tx := range batch {
		for j := range tx.Changes {
			c := &tx.Changes[j]
			if c.Op != dfs.DDL {
				continue
			}
			_ = m.translate(ctx, c) // what cannot be read is told when it is to be applied
			if v := m.judge(tx, c); v.policy != PolicyIgnore {
				return i
			}
			m.forget() // people alter the target at about this time
		}
	}
	return len(batch)
}

// countDDL counts a statement that is settled: applied, passed over, or failed
// under PolicyTry.
func (m *MySQL) countDDL(tx *dfs.Transaction, c *dfs.Change) {
	v := m.judge(tx, c)
	kind := "statement"
	if v.stmt != nil {
		kind = v.stmt.Kind.String()
	}
	outcome := Applied
	switch {
	case v.policy == PolicyIgnore:
		outcome = Ignored
		m.log.Warn("statement skipped", "seq", tx.Seq, "id", tx.ID, "query", limit(c.Query, 400))
	case m.failed[c]:
		outcome = Failed
		delete(m.failed, c)
	}
	m.stats.countDDL(DDLCount{Kind: kind, Outcome: outcome})
}

package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/config"
	"github.com/dataflowsync/dfs/sink"
	"github.com/go-sql-driver/mysql"
)

// A right is one that statements need on a schema of the target.
type right struct {
	name  string
	kinds []string // of sink.DDLKinds
	try   string   // uses it on tables %[1]s and %[2]s, of which there are none; empty if that tells nothing
}

var rights = []right{
	{"CREATE", []string{"create table", "rename table", "create schema"}, "CREATE TABLE %[1]s LIKE %[2]s"},
	{"ALTER", []string{"alter table", "rename table"}, "ALTER TABLE %[1]s COMMENT = ''"},
	{"DROP", []string{"drop table", "truncate table", "rename table", "drop schema", "drop view"}, "DROP TABLE %[1]s"},
	{"INDEX", []string{"create index", "drop index"}, "CREATE INDEX i ON %[1]s (c)"},
	{"REFERENCES", []string{"create table", "alter table"}, ""},
	{"CREATE VIEW", []string{"create view", "alter view"}, "CREATE VIEW %[1]s AS SELECT 1 FROM %[2]s"},
}

// rights finds out whether the account may run the statements that are to be
// applied, schema by schema. It returns the verdict about the statements: "ok",
// or "note" where they may fail.
func (s *section) rights(ctx context.Context, c *config.Config, target target, tables []*dfs.Table) (verdict string) {
	if c.Target.Kind() != config.MySQLTarget {
		return "ok" // a right that is missing shows when a statement needs it
	}
	wanted := make(map[string]map[string]sink.Policy) // by schema of the target and name of the right
	var order []string
	for _, t := range tables {
		schema := c.RoutedSchema(t.Schema, t.Name)
		for kind, policy := range target.DDLPolicies(t.Schema, t.Name) {
			for _, r := range rights {
				if !slices.Contains(r.kinds, kind) || policy != sink.PolicyApply && policy != sink.PolicyTry {
					continue
				}
				if wanted[schema] == nil {
					wanted[schema] = make(map[string]sink.Policy)
					order = append(order, schema)
				}
				if wanted[schema][r.name] != sink.PolicyApply {
					wanted[schema][r.name] = policy
				}
			}
		}
	}
	if len(order) == 0 {
		return "ok"
	}
	server, err := askServer(ctx, c.TargetDSN())
	if err != nil {
		s.add("note", "rights", "", "whether the account may run statements is not known: "+err.Error())
		return "note"
	}
	defer server.Close()
	verdict = "ok"
	for _, schema := range order {
		f := server.rightsOn(ctx, schema, wanted[schema])
		if f.Verdict != "ok" {
			s.Findings = append(s.Findings, f)
			verdict = "note"
		}
	}
	return verdict
}

// rightsOn says which of the wanted rights the account lacks. A server asks for
// rights before it looks for a table, so it is tried with tables that do not
// exist: that covers roles, patterns and what is revoked in part, and changes
// nothing.
func (s *server) rightsOn(ctx context.Context, schema string, wanted map[string]sink.Policy) finding {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	quoted := "`" + strings.ReplaceAll(schema, "`", "``") + "`"
	name := func() string { return quoted + ".`dfs_check_" + strings.ToLower(rand.Text()) + "`" }
	f := finding{Verdict: "ok", Name: "rights on " + schema}
	account := "the account of the DSN"
	var user string
	if err := s.QueryRowContext(ctx, "SELECT CURRENT_USER()").Scan(&user); err == nil {
		if i := strings.LastIndexByte(user, '@'); i >= 0 {
			account = fmt.Sprintf("'%s'@'%s'", strings.ReplaceAll(user[:i], "'", "''"), user[i+1:])
		}
	}
	var lacks, unknown []string
	var why error
	for _, r := range rights {
		policy, ok := wanted[r.name]
		if !ok {
			continue
		}
		if r.try == "" {
			if !s.listed(ctx, account, schema, r.name) {
				unknown, why = append(unknown, r.name), errors.New("no GRANT to the account itself gives it")
			}
			continue
		}
		_, err := s.ExecContext(ctx, fmt.Sprintf(r.try, name(), name()))
		var e *mysql.MySQLError
		switch {
		case errors.As(err, &e) && (e.Number == 1146 || e.Number == 1051 || e.Number == 1049):
			// No such table, or no such schema yet: it may.
		case errors.As(err, &e) && (e.Number == 1044 || e.Number == 1142 && strings.HasPrefix(e.Message, r.name+" ")) &&
			!s.someTables(ctx, schema, r.name):
			// The message begins with the right that was missed, which may be
			// another one, such as SELECT.
			lacks = append(lacks, r.name)
			if policy == sink.PolicyApply {
				f.Verdict = "fault"
			}
		default:
			unknown, why = append(unknown, r.name), err
		}
	}
	if len(lacks)+len(unknown) == 0 {
		return f
	}
	if f.Verdict == "ok" {
		f.Verdict = "note"
	}
	var text []string
	if len(lacks) > 0 {
		text = append(text, "the account has no right to "+strings.Join(lacks, ", ")+": statements that need it fail on the target")
	}
	if len(unknown) > 0 {
		text = append(text, fmt.Sprintf("whether it has %s on all tables is not known: %v", strings.Join(unknown, ", "), why))
	}
	f.Text = strings.Join(text, "\n")
	f.Cure = "GRANT " + strings.Join(append(lacks, unknown...), ", ") + " ON " + quoted + ".* TO " + account
	return f
}

// listed reports whether the server lists the right on the schema among those that
// the account has itself. Those of roles are not listed.
func (s *server) listed(ctx context.Context, account, schema, right string) bool {
	var n int
	err := s.QueryRowContext(ctx, "SELECT (SELECT COUNT(*) FROM information_schema.user_privileges WHERE grantee = ? AND privilege_type = ?)"+
		" + (SELECT COUNT(*) FROM information_schema.schema_privileges WHERE grantee = ? AND privilege_type = ? AND ? LIKE table_schema)",
		account, right, account, right, schema).Scan(&n)
	return err == nil && n > 0
}

// someTables reports whether the account has the right on tables of the schema
// one by one, of which those that it is tried on are none.
func (s *server) someTables(ctx context.Context, schema, right string) bool {
	var n int
	err := s.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.table_privileges"+
		" WHERE table_schema = ? AND privilege_type = ?", schema, right).Scan(&n)
	return err == nil && n > 0
}

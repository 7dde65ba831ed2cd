package sink

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/ddl"
)

// defaultDDLWait is how many seconds a statement waits for readers and writers of its
// tables to go away. All who come after it wait as well, so it gives up with a
// transient error, and is tried again later.
const defaultDDLWait = 20

// sqlModes returns the names of the sql_mode, or nil if it is not known.
func sqlModes(s *dfs.Session) []string {
	if s == nil {
		return nil
	}
	for _, v := range s.Vars {
		if strings.EqualFold(v.Name, "sql_mode") {
			return strings.Split(strings.ToUpper(strings.Trim(v.Value, "'")), ",")
		}
	}
	return nil
}

// modesWithoutEffect are the sql_modes that some servers lack and that change
// nothing about a statement that alters tables, or that stand for others which
// are named too.
var modesWithoutEffect = []string{
	"", "NO_AUTO_CREATE_USER", "NO_FIELD_OPTIONS", "NO_KEY_OPTIONS", "NO_TABLE_OPTIONS", "SIMULTANEOUS_ASSIGNMENT",
	"TIME_ROUND_FRACTIONAL", "TIME_TRUNCATE_FRACTIONAL", "TRADITIONAL", "ANSI", "POSTGRESQL", "MSSQL", "DB2",
	"MYSQL323", "MYSQL40", "NOT_USED_9", "NOT_USED_29",
}

// inSession runs a statement as the source's session did, and puts the sink's
// own settings back. If these cannot be put back, the connection is dropped.
func (m *MySQL) inSession(ctx context.Context, c *dfs.Change, r *routed) error {
	d := &ddlSession{m: m, ctx: ctx, kind: r.kind, text: r.text}
	err := d.enter(c.Session, r.schema)
	if err == nil {
		_, err = m.exec(ctx, []byte(d.text))
	}
	if m.sess != nil {
		if e := d.leave(); e != nil {
			m.drop()
		}
	}
	return err
}

// ddlSession is what the session of a statement has other than the sink's own.
type ddlSession struct {
	m    *MySQL
	ctx  context.Context
	kind ddl.Kind
	text string
	set  []string // names of the variables set
}

func (d *ddlSession) exec(sql string) error {
	_, err := d.m.exec(d.ctx, []byte(sql))
	return err
}

func (d *ddlSession) setVar(name, value string) error {
	err := d.exec("SET SESSION " + name + "=" + value)
	if err == nil {
		d.set = append(d.set, name)
	}
	return err
}

// enter sets the session up.
func (d *ddlSession) enter(s *dfs.Session, schema string) error {
	if err := d.setVar("lock_wait_timeout", strconv.Itoa(d.m.ddlWait)); err != nil {
		return err
	}
	if schema != "" {
		if err := d.exec("USE " + string(appendIdent(nil, schema))); err != nil && serverError(err) != erBadDB {
			return err
		}
	}
	known := make(map[string]bool)
	if s != nil {
		for _, v := range s.Vars {
			name := strings.ToLower(v.Name)
			known[name] = true
			if err := d.variable(name, v.Value); err != nil {
				if errors.Is(err, dfs.ErrTransient) {
					return err
				}
				return fmt.Errorf("the target cannot have the source's %s=%s: %w", name, v.Value, err)
			}
		}
	}
	if d.kind != ddl.CreateTable && d.kind != ddl.AlterTable {
		return nil
	}
	// The source has written into the statement what it added by itself, and
	// was content with the keys.
	for _, name := range []string{"sql_generate_invisible_primary_key", "sql_require_primary_key"} {
		if !known[name] {
			if err := d.variable(name, "0"); err != nil {
				return fmt.Errorf("setting %s=0 on the target: %w", name, err)
			}
		}
	}
	return nil
}

var varName = regexp.MustCompile(`^[a-z0-9_]+$`)

// variable sets one variable of the source's session.
func (d *ddlSession) variable(name, value string) error {
	if !varName.MatchString(name) {
		return fmt.Errorf("%q is no name of a variable", name)
	}
	switch name {
	case "sql_mode":
		return d.sqlMode(value)
	case "character_set_client":
		if strings.Trim(value, "'") != "binary" {
			return nil // it is utf8mb4 by now: see translate
		}
	}
	err := d.setVar(name, value)
	switch n := serverError(err); n {
	case erUnknownVariable:
		return nil // what it turns on or off is not there either
	case erUnknownCollat, erUnknownCharset:
		return d.charset(name, value)
	case erReadOnlyVar, erSpecificAccess:
		// It may have the value already, or not matter to this statement.
		rows, e := d.m.sess.query(d.ctx, "SELECT @@SESSION."+name+"="+value)
		if e != nil {
			return classify(e)
		}
		if rows[0][0].text == "1" || !d.matters(name) {
			return nil
		}
		if n == erSpecificAccess {
			return fmt.Errorf("%w: GRANT SESSION_VARIABLES_ADMIN ON *.* TO the account of the DSN", err)
		}
	}
	return err
}

// matters reports whether a variable may change what the statement does.
func (d *ddlSession) matters(name string) bool {
	has := func(words ...string) bool {
		text := strings.ToUpper(d.text)
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(text, w) })
	}
	switch name {
	case "timestamp":
		return has("CURRENT_", "NOW", "LOCALTIME", "UTC_", "CURDATE", "CURTIME", "SYSDATE", "UNIX_TIMESTAMP")
	case "explicit_defaults_for_timestamp":
		return has("TIMESTAMP")
	}
	return true
}

// sqlMode sets the modes that the target knows. One that it does not know, and
// that could change the statement's meaning, is an error.
func (d *ddlSession) sqlMode(value string) error {
	err := d.setVar("sql_mode", value)
	if serverError(err) != erWrongValue {
		return err
	}
	var kept []string
	for _, mode := range strings.Split(strings.ToUpper(strings.Trim(value, "'")), ",") {
		err := d.setVar("sql_mode", string(appendQuoted(nil, mode)))
		switch {
		case err == nil:
			kept = append(kept, mode)
		case serverError(err) != erWrongValue || !slices.Contains(modesWithoutEffect, mode):
			return err
		}
	}
	return d.setVar("sql_mode", string(appendQuoted(nil, strings.Join(kept, ","))))
}

// charset sets a collation or character set that the target does not know by
// its name: as the character set's default, whose comparisons may differ.
func (d *ddlSession) charset(name, value string) error {
	set, _, _ := strings.Cut(strings.Trim(value, "'"), "_")
	for _, try := range []string{set, strings.Replace(set, "utf8mb3", "utf8", 1)} {
		err := d.setVar(strings.Replace(name, "collation_", "character_set_", 1), string(appendQuoted(nil, try)))
		if err == nil || serverError(err) != erUnknownCharset {
			return err
		}
	}
	return fmt.Errorf("it does not know the character set %q", set)
}

// leave puts the sink's own settings back.
func (d *ddlSession) leave() error {
	var b strings.Builder
	for i, name := range d.set {
		if !slices.Contains(d.set[:i], name) {
			b.WriteString("SET SESSION " + name + "=DEFAULT; ")
		}
	}
	return d.exec(b.String() + sessionSQL)
}

// introduced finds a literal that says in which character set its bytes are.
var introduced = regexp.MustCompile(`(?i)(^|[^a-z0-9_$])_[a-z0-9]+\s*['"]`)

// translate puts a statement into utf8mb4, in which the sink's session and the
// names of routes are. Statements are logged in the character set of the client
// that sent them; the target's server knows them all.
func (m *MySQL) translate(ctx context.Context, c *dfs.Change) error {
	at := -1
	if c.Session != nil {
		at = slices.IndexFunc(c.Session.Vars, func(v dfs.Var) bool { return strings.EqualFold(v.Name, "character_set_client") })
	}
	if at < 0 || !strings.ContainsFunc(c.Query, func(r rune) bool { return r >= 0x80 }) {
		return nil
	}
	set := strings.ToLower(strings.Trim(c.Session.Vars[at].Value, "'"))
	switch set {
	case "utf8mb4", "utf8", "utf8mb3", "binary":
		return nil
	}
	if !varName.MatchString(set) {
		return fmt.Errorf("%q is no character set", set)
	}
	if introduced.MatchString(c.Query) {
		return fmt.Errorf("it is written in %s and has text in a character set of its own, as in _latin1'...'", set)
	}
	if m.sess == nil {
		return dfs.Transient(errors.New("the connection to the target is lost"))
	}
	raw := hex.EncodeToString([]byte(c.Query))
	rows, err := m.sess.query(ctx, fmt.Sprintf("SELECT CONVERT(_%s 0x%s USING utf8mb4), HEX(CONVERT(CONVERT(_%[1]s 0x%[2]s USING utf8mb4) USING %[1]s))", set, raw))
	if err != nil {
		return fmt.Errorf("translating it from %s: %w", set, classify(err))
	}
	if !strings.EqualFold(rows[0][1].text, raw) {
		return fmt.Errorf("it is not valid in its character set, %s", set)
	}
	session := &dfs.Session{Schema: c.Session.Schema, Vars: slices.Clone(c.Session.Vars)}
	session.Vars[at].Value = "utf8mb4"
	c.Query, c.Session = rows[0][0].text, session
	return nil
}

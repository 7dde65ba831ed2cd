package sink

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/dataflowsync/dfs/internal/ddl"
)

// Forms of defaults that stand for the same whatever type of the source the column has.
var (
	wholeForm  = regexp.MustCompile(`^(0|-?[1-9][0-9]{0,17})$`)
	numberForm = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?$`)
	// bitsForm is a constant too, but what it stands for depends on the type.
	bitsForm = regexp.MustCompile(`^(?i)(b'[01]*'|x'[0-9a-f]*'|0x[0-9a-f]+|0b[01]+)$`)
	timeForm = regexp.MustCompile(`^[1-9][0-9]{3}-[0-9]{2}-[0-9]{2}( [0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?)?$`)
)

// setDefault changes a column's default. Row images may leave columns out, which means
// their constant default (binlog_row_image=MINIMAL), so it must be the source's.
func (a *alteration) setDefault(x *ddl.Action) error {
	j := a.t.column(x.Name)
	if j < 0 {
		if x.Lenient {
			return nil
		}
		return fmt.Errorf("the target's table %s has no column %s", a.db.ident(a.t), x.Name)
	}
	c := &a.t.columns[j]
	if bitsForm.MatchString(x.Def.Computed) {
		return fmt.Errorf("what the default %s of the column %s is on the target is not told by the statement: let the source give it as a plain number or text, "+
			"or set the target's default by hand and name this statement as done", x.Def.Computed, c.name)
	}
	if !x.Def.Literal {
		if x.Def.Computed != "" { // rows come with what it gives
			a.log.Warn("the default of a column is not followed", "table", a.db.ident(a.t), "column", x.Name)
		}
		return a.db.setDefault(a.ctx, a.t, c.name, "")
	}
	literal, err := a.meant(c, x.Def.Default)
	if err != nil {
		return err
	}
	return a.db.setDefault(a.ctx, a.t, c.name, literal)
}

// meant returns what a text stands for as the default of a column, of which the statement
// does not tell the source's type.
func (a *alteration) meant(c *targetColumn, text string) (literal string, err error) {
	quoted := quotedList([]string{text})
	name := quoteName(c.name)
	kind := c.base
	if kind == "" {
		kind = strings.ToUpper(c.typ)
	}
	same := false // what a row has already is in the form of the source's type
	literal = quoted
	switch kind {
	case "int2", "int4", "int8", "INTEGER", "":
		same, literal = wholeForm.MatchString(text), text
	case "numeric", "float4", "float8", "REAL":
		same, literal = numberForm.MatchString(text), text
	case "date", "timestamp":
		same = timeForm.MatchString(text)
	case "timestamptz":
		same, literal = timeForm.MatchString(text) && a.utc(), quotedList([]string{text + "+00"})
	case "varchar", "text", "TEXT":
		// A SET puts its members into order, an ENUM has its own letters, a CHAR has no
		// spaces at its end, and in a file a DECIMAL and a time are texts too.
		if same, err = a.anyRow(a.ctx, a.t, name+"="+quoted); err != nil {
			return "", err
		}
		like := false
		if !same {
			if like, err = a.anyRow(a.ctx, a.t, "lower("+name+")=lower("+quoted+")"); err != nil {
				return "", err
			}
		}
		same = same || !like && !strings.HasSuffix(text, " ") && (kind == "varchar" || !strings.Contains(text, ",")) &&
			(kind != "TEXT" || text == "" || !strings.ContainsAny(text[:1], "-+.0123456789"))
	}
	if !same {
		return "", fmt.Errorf("what the default %s of the column %s is on the target is not told by the statement: let the source define the whole column by ALTER TABLE ... MODIFY, "+
			"or set the target's default by hand and name this statement as done", quoted, c.name)
	}
	return literal, nil
}

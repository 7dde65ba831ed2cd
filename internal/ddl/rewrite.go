package ddl

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// An edit replaces bytes of a text.
type edit struct {
	span
	text string
}

// Rewrite returns the text with what each of Refs names replaced by what f
// returns for it, written as `schema`.`name`, or as `schema` where it names a
// schema. So the result depends on no default schema. f is not asked for
// Qualifiers, which follow the table that they stand for.
//
// A table of a SELECT that gets another name keeps the old one as its alias, so
// that the columns find it. Qualifiers in the definition of a table are left out,
// since its columns need none.
//
// It is an error if the statement is not Settled, or if Refs are not all that
// the text may name, as in the body of a trigger.
func (s *Statement) Rewrite(f func(Ref) Table) (string, error) {
	fail := func(err error) (string, error) { return "", fmt.Errorf("ddl: rewrite %s: %w", s.Kind, err) }
	if s.fault != "" {
		return fail(errors.New(s.fault))
	}
	var edits []edit
	for _, d := range s.drops {
		// Behind a dot, a keyword is a name.
		if d.column.kind == tokWord {
			edits = append(edits, edit{d.span, "`"}, edit{span{d.column.end, d.column.end}, "`"})
		} else {
			edits = append(edits, edit{d.span, ""})
		}
	}
	now := make([]Table, len(s.Refs))
	for i, r := range s.Refs {
		if r.Role == Qualifier {
			continue
		}
		now[i] = f(r)
		text := now[i].quoted()
		if r.From == r.To {
			text = " " + text
		}
		edits = append(edits, edit{span{r.From, r.To}, text})
		if r.alias == r.Table.Name && now[i].Name != r.Table.Name {
			if r.vague {
				return fail(fmt.Errorf("whether %s has an alias is not known", r.Table))
			}
			if r.aliasAt > 0 {
				edits = append(edits, edit{span{r.aliasAt, r.aliasAt}, " AS " + quote(r.alias)})
			}
		}
	}
	for _, r := range s.Refs {
		if r.Role != Qualifier {
			continue
		}
		schema, err := s.qualifier(r.Table, now)
		if err != nil {
			return fail(err)
		}
		edits = append(edits, edit{span{r.From, r.To}, Table{schema, r.Table.Name}.quoted()})
	}
	// An alias goes behind the name at whose end it stands.
	slices.SortStableFunc(edits, func(a, b edit) int { return a.from - b.from })
	var b strings.Builder
	done := 0
	for _, e := range edits {
		text, ok := s.mode.encode(e.text)
		if !ok {
			return fail(fmt.Errorf("%s has no place in a text in %s", e.text, s.mode.Charset))
		}
		if e.from < done {
			return fail(fmt.Errorf("names overlap at %q", s.Text[e.from:e.to]))
		}
		b.WriteString(s.Text[done:e.from])
		// Two quotes side by side would be one quote within a name.
		if text != "" && e.from > 0 && s.Text[e.from-1] == '`' {
			b.WriteByte(' ')
		}
		b.WriteString(text)
		if text != "" && e.to < len(s.Text) && s.Text[e.to] == '`' {
			b.WriteByte(' ')
		}
		done = e.to
	}
	b.WriteString(s.Text[done:])
	return b.String(), nil
}

// qualifier returns the schema that now belongs in front of what qualifies a
// column.
func (s *Statement) qualifier(q Table, now []Table) (schema string, err error) {
	found := false
	for i, r := range s.Refs {
		if r.alias == "" || !strings.EqualFold(r.alias, q.Name) || !strings.EqualFold(r.Table.Schema, q.Schema) {
			continue
		}
		if found && now[i].Schema != schema {
			return "", fmt.Errorf("%s stands for several tables", q)
		}
		found, schema = true, now[i].Schema
	}
	if !found {
		return "", fmt.Errorf("the table that %s stands for is not found", q)
	}
	return schema, nil
}

// quoted returns the name as statements write it.
func (t Table) quoted() string {
	switch {
	case t.Name == "":
		return quote(t.Schema)
	case t.Schema == "":
		return quote(t.Name)
	}
	return quote(t.Schema) + "." + quote(t.Name)
}

// quote returns a name in backquotes, which are names in any sql_mode.
func quote(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

package sink

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/dataflowsync/dfs"
)

// A refusedError adds the statement that a target has refused to the error. The
// error's text is as it was, since a statement is long; a dead letter asks for it
// by its method (dfs.Letter.Statement), as anybody may by errors.As.
type refusedError struct {
	err       error
	statement string
}

func (e *refusedError) Error() string { return e.err.Error() }
func (e *refusedError) Unwrap() error { return e.err }

// Statement returns the statement, for people: values of more than 200 bytes are
// cut, and the whole at 4000. It holds what was to be written, so what the stages
// mask is masked in it.
func (e *refusedError) Statement() string { return e.statement }

const (
	mostLiteral   = 200
	mostStatement = 4000
)

// refused adds to err the statements that apply one row. They are made anew, and
// only for an error that stays.
func refused(err error, statements func() string) error {
	if err == nil || errors.Is(err, dfs.ErrTransient) || errors.Is(err, errIgnored) {
		return err
	}
	if old := (*refusedError)(nil); errors.As(err, &old) {
		return err
	}
	return &refusedError{err, clipText(strings.ToValidUTF8(statements(), "\uFFFD"), mostStatement)}
}

// statementsFor returns the SQL that applies one row.
func (m *MySQL) statementsFor(g *group, r *rowOp) string {
	var packet []byte
	if g.part {
		for _, s := range g.m.partStatements(g, r) {
			packet = append(s.append(packet), ';')
		}
	} else {
		packet = g.m.appendSingle(nil, g, r)
	}
	return strings.Join(statementsOf(clipLiterals(packet)), ";\n")
}

// clipLiterals cuts the quoted texts in SQL that are long.
func clipLiterals(sql []byte) (out []byte) {
	for i := 0; i < len(sql); {
		c := sql[i]
		if c != '\'' && c != '"' && c != '`' {
			out = append(out, c)
			i++
			continue
		}
		n, text := quoted(sql[i:])
		if n <= mostLiteral || c == '`' {
			out = append(out, sql[i:i+n]...)
		} else {
			out = append(out, '\'')
			for _, b := range text[:wholeUntil(text, mostLiteral)] {
				if b == '\'' || b == '\\' {
					out = append(out, '\\')
				}
				out = append(out, b)
			}
			out = fmt.Appendf(out, "...' /* %d bytes */", len(text))
		}
		i += n
	}
	return out
}

// wholeUntil returns the end of the last whole character before most.
func wholeUntil(text []byte, most int) int {
	if len(text) <= most {
		return len(text)
	}
	for i := most; i > most-utf8.UTFMax; i-- {
		if utf8.RuneStart(text[i]) {
			return i
		}
	}
	return most // it is no UTF-8
}

func clipText(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return s[:wholeUntil([]byte(s), most)] + fmt.Sprintf("... (%d bytes)", len(s))
}

// statementsFor returns the SQL that applies one row, with what stands for its places
// below.
func (c *core) statementsFor(g *group, r *rowOp) string {
	list, err := c.statements(g, r)
	if err != nil {
		return "" // it is the value that cannot be written, and the error names it
	}
	var b strings.Builder
	for _, s := range list {
		if b.Len() > 0 {
			b.WriteString(";\n")
		}
		b.WriteString(s.sql)
		for i, a := range s.args {
			fmt.Fprintf(&b, "\n-- %s = %s", c.db.place(i+1), showArg(a))
		}
	}
	return b.String()
}

// showArg returns an argument of a statement on one line.
func showArg(a any) string {
	bytes := func(v []byte) string {
		if len(v) <= mostLiteral {
			return fmt.Sprintf("x'%x'", v)
		}
		return fmt.Sprintf("x'%x...' (%d bytes)", v[:mostLiteral], len(v))
	}
	switch v := a.(type) {
	case nil:
		return "NULL"
	case string:
		if text := []byte(v); !utf8.ValidString(v) {
			return bytes(text)
		}
		return strings.NewReplacer("\n", `\n`, "\r", `\r`).Replace(clipText(v, mostLiteral))
	case binaryArg:
		return bytes(v)
	case []byte:
		return bytes(v)
	}
	return fmt.Sprint(a)
}

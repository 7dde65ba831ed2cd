//go:build unix

package scenario

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A step is one statement of a script, or one directive.
type step struct {
	line int
	verb string   // "" for a statement; else the directive's first word
	args []string // of the directive
	sql  string   // the statement, without its delimiter
}

// directives are the words that may follow "--!" at the beginning of a line,
// with the number of their arguments.
var directives = map[string]int{
	"session": 1, // go on in the session of that name, which is opened if need be
	"close":   1, // close the session of that name
	"error":   1, // the next statement must fail with that number
	"sync":    0, // wait until the target has all of it
	"stop":    0, // stop the pipeline; it starts again at the next sync, or at the end
	"on":      -1,
	"all":     0,
}

// parseScript cuts a script into steps. What follows "--! on 9.7 maria" is left
// out on servers of other kinds, up to "--! all".
func parseScript(text, kind string) ([]step, error) {
	var steps []step
	delimiter, on := ";", true
	var b strings.Builder
	begun := 0
	flush := func() {
		if s := strings.TrimSpace(b.String()); s != "" {
			steps = append(steps, step{line: begun, sql: s})
		}
		b.Reset()
	}
	for i, line := range strings.Split(text, "\n") {
		trimmed := strings.TrimSpace(line)
		blank := strings.TrimSpace(b.String()) == ""
		if word, ok := strings.CutPrefix(trimmed, "--!"); ok {
			f := strings.Fields(word)
			if len(f) == 0 || !blank {
				return nil, fmt.Errorf("line %d: a directive without a name, or within a statement", i+1)
			}
			n, known := directives[f[0]]
			if !known || n >= 0 && len(f) != n+1 {
				return nil, fmt.Errorf("line %d: no directive %q of so many words", i+1, f[0])
			}
			switch f[0] {
			case "all":
				on = true
			case "on":
				on = false
				for _, k := range f[1:] {
					if k != "5.6" && k != "9.7" && k != "maria" {
						return nil, fmt.Errorf("line %d: no server %q", i+1, k)
					}
					on = on || k == kind
				}
			default:
				if on {
					steps = append(steps, step{line: i + 1, verb: f[0], args: f[1:]})
				}
			}
			continue
		}
		if !on || blank && (trimmed == "" || strings.HasPrefix(trimmed, "-- ") || trimmed == "--") {
			continue
		}
		if d, ok := strings.CutPrefix(trimmed, "DELIMITER "); ok && blank {
			delimiter = strings.TrimSpace(d)
			continue
		}
		if blank {
			begun = i + 1
		}
		if s, ok := strings.CutSuffix(strings.TrimRight(line, " \t\r"), delimiter); ok {
			b.WriteString(s)
			flush()
			continue
		}
		b.WriteString(line)
		b.WriteByte('\n')
	}
	if strings.TrimSpace(b.String()) != "" {
		return nil, fmt.Errorf("line %d: a statement without %q at the end of a line", begun, delimiter)
	}
	return steps, nil
}

func TestParseScript(t *testing.T) {
	const text = `-- A comment.
CREATE TABLE a (
  id INT -- a comment within
);
--! session b
INSERT INTO a VALUES (';');
DELIMITER //
CREATE TRIGGER x BEGIN
  SELECT 1;
END//
DELIMITER ;
--! on maria 5.6
SELECT 2;
--! error 1146
--! all
--! error 1062
SELECT 3;
`
	steps, err := parseScript(text, "9.7")
	require.NoError(t, err)
	require.Equal(t, []step{
		{line: 2, sql: "CREATE TABLE a (\n  id INT -- a comment within\n)"},
		{line: 5, verb: "session", args: []string{"b"}},
		{line: 6, sql: "INSERT INTO a VALUES (';')"},
		{line: 8, sql: "CREATE TRIGGER x BEGIN\n  SELECT 1;\nEND"},
		{line: 16, verb: "error", args: []string{"1062"}},
		{line: 17, sql: "SELECT 3"},
	}, steps)
	steps, err = parseScript("--! on maria\nSELECT 2;\n--! all\n", "maria")
	require.NoError(t, err)
	require.Len(t, steps, 1)
	for _, bad := range []string{"SELECT 1", "--! wait\n", "--! on 8.0\n", "SELECT\n--! sync\n1;", "--! error\n"} {
		_, err := parseScript(bad, "9.7")
		require.Error(t, err, bad)
	}
}

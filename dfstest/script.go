package dfstest

import (
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/convert"
)

var update = flag.Bool("dfstest.update", false, "rewrite what the golden files want by what comes out")

// A Script is tables and transactions, read from text:
//
//	table shop.users (id bigint, name varchar(40), mail varchar(60) null, key id)
//
//	insert shop.users 1, "Ann", "ann@x"
//	update shop.users 1, "Ann", "ann@x" -> 1, "Ann", NULL
//	commit
//	ddl shop.users ALTER TABLE users ADD x int
//	commit gtid:2
//
// Values stand in the order of the columns, as NULL, ABSENT, a number, text in
// double quotes as in Go, or bytes as 0x00ff. A transaction ends with commit,
// after which its ID may stand, or with more if it goes on. They are committed a
// second apart, the first on 2026-01-01 00:00:01 UTC. Lines that begin with #
// are left out.
type Script struct {
	Tables       []*dfs.Table
	Transactions []dfs.Transaction
}

// Parse reads a script.
func Parse(text string) (*Script, error) {
	s := new(Script)
	tables := make(map[string]*dfs.Table)
	var changes []dfs.Change
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		word, rest, _ := strings.Cut(line, " ")
		rest = strings.TrimSpace(rest)
		var err error
		switch word {
		case "":
		case "table":
			var t *dfs.Table
			if t, err = parseTable(rest); err == nil {
				s.Tables = append(s.Tables, t)
				tables[t.String()] = t
			}
		case "commit", "more":
			seq := len(s.Transactions) + 1
			s.Transactions = append(s.Transactions, dfs.Transaction{
				Checkpoint: dfs.Checkpoint{Seq: uint64(seq), Pos: dfs.Position(strconv.Itoa(seq))}, ID: rest, Changes: changes, More: word == "more",
				Committed: time.Date(2026, 1, 1, 0, 0, seq, 0, time.UTC),
			})
			changes = nil
		default:
			if strings.HasPrefix(line, "#") {
				continue
			}
			var c dfs.Change
			if c, err = parseChange(line, tables); err == nil {
				changes = append(changes, c)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n+1, err)
		}
	}
	if len(changes) > 0 {
		return nil, fmt.Errorf("the last transaction has no commit")
	}
	return s, nil
}

func parseChange(line string, tables map[string]*dfs.Table) (c dfs.Change, err error) {
	for {
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "part":
			c.Part = true
		case "nofk":
			c.NoForeignKeys = true
		case "insert", "update", "delete", "ddl":
			c.Op = map[string]dfs.Op{"insert": dfs.Insert, "update": dfs.Update, "delete": dfs.Delete, "ddl": dfs.DDL}[word]
			return c, fill(&c, rest, tables)
		default:
			return c, fmt.Errorf("%q: a line begins with table, insert, update, delete, ddl, commit, more or #", word)
		}
		line = rest
	}
}

// fill reads what follows the operation.
func fill(c *dfs.Change, text string, tables map[string]*dfs.Table) (err error) {
	name, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
	if c.Table = tables[name]; c.Table == nil {
		if c.Op != dfs.DDL {
			return fmt.Errorf("the table %q is not described before", name)
		}
		schema, table, _ := strings.Cut(name, ".")
		c.Table = &dfs.Table{Schema: schema, Name: table}
	}
	if c.Op == dfs.DDL {
		c.Query = rest
		return nil
	}
	before, after := rest, rest
	if c.Op == dfs.Update {
		var ok bool
		if before, after, ok = cutArrow(rest); !ok {
			return fmt.Errorf("an update has the values before, ->, and the values after")
		}
	}
	if c.Op != dfs.Insert {
		if c.Before, err = parseRow(before, c.Table); err != nil {
			return err
		}
	}
	if c.Op != dfs.Delete {
		c.After, err = parseRow(after, c.Table)
	}
	return err
}

// cutArrow cuts at an arrow that is in no quotes.
func cutArrow(s string) (before, after string, ok bool) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && quoted:
			i++
		case s[i] == '"':
			quoted = !quoted
		case !quoted && strings.HasPrefix(s[i:], "->"):
			return s[:i], s[i+2:], true
		}
	}
	return s, "", false
}

func parseRow(text string, t *dfs.Table) (dfs.Row, error) {
	values := splitTop(text)
	if len(values) != len(t.Columns) {
		return nil, fmt.Errorf("%d values for the %d columns of %s", len(values), len(t.Columns), t)
	}
	row := make(dfs.Row, len(values))
	for i, text := range values {
		c := &t.Columns[i]
		if rest, ok := strings.CutPrefix(text, c.Name+"="); ok {
			text = rest
		}
		v, err := parseValue(text, c)
		if err != nil {
			return nil, fmt.Errorf("column %s of %s: %w", c.Name, t, err)
		}
		row[i] = v
	}
	return row, nil
}

func parseValue(text string, c *dfs.Column) (dfs.Value, error) {
	switch {
	case text == "NULL":
		return dfs.NullValue(), nil
	case text == "ABSENT":
		return dfs.AbsentValue(), nil
	case strings.HasPrefix(text, "0x"):
		b, err := hex.DecodeString(text[2:])
		if convert.KindOf(c) == dfs.String {
			return dfs.StringValue(string(b)), err
		}
		return dfs.BytesValue(b), err
	case strings.HasPrefix(text, `"`):
		s, err := strconv.Unquote(text)
		if err != nil {
			return dfs.Value{}, fmt.Errorf("%s is no text in double quotes", text)
		}
		if convert.KindOf(c) == dfs.Bytes {
			return dfs.BytesValue([]byte(s)), nil
		}
		return convert.To(dfs.StringValue(s), c)
	}
	if _, err := strconv.ParseFloat(text, 64); err != nil {
		return dfs.Value{}, fmt.Errorf("%s is neither a number nor NULL, ABSENT, a text in double quotes or bytes as 0x00ff", text)
	}
	return convert.To(dfs.StringValue(text), c)
}

// Golden runs each file that the pattern matches, such as "testdata/*.txt", as a
// test of its own: the script before a line of three dashes goes through the
// stages that open returns, and what comes out, as Format writes it, is what the
// file says after that line. An error comes out as a last line "error: ...". With
// the flag -dfstest.update the files are rewritten by what comes out.
func Golden(t *testing.T, pattern string, open func(t *testing.T, s *Script) []dfs.Stage) {
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no file matches %q", pattern)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), filepath.Ext(file)), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			input, want, _ := strings.Cut(string(text), "\n---\n")
			s, err := Parse(input)
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			out, err := Run(t.Context(), open(t, s), s.Transactions...)
			got := Format(out...)
			if err != nil {
				got += "error: " + strings.ReplaceAll(err.Error(), "\n", "\n  ") + "\n"
			}
			switch {
			case *update:
				if err := os.WriteFile(file, []byte(strings.TrimRight(input, "\n")+"\n---\n"+got), 0o644); err != nil {
					t.Fatal(err)
				}
			case got != want:
				t.Errorf("%s: what came out differs from what it wants.\ngot:\n%s\nwant:\n%s", file, got, want)
			}
		})
	}
}

package relmgr

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dataflowsync/dfs"
)

// A step leads from a JSON value to one within it: the member name of an object,
// or element index of an array; all elements if index is -1.
type step struct {
	name  string
	array bool
	index int
}

// parsePath reads a path such as $.items[*].product or $."odd name"[0].
func parsePath(text string) (path []step, err error) {
	rest, ok := strings.CutPrefix(text, "$")
	if !ok {
		return nil, errors.New(`it begins with $, as "$.customer"`)
	}
	path = []step{} // "$" is the document itself
	for rest != "" {
		switch {
		case strings.HasPrefix(rest, `."`):
			quoted, err := strconv.QuotedPrefix(rest[1:])
			if err != nil {
				return nil, errors.New("a quote has no end")
			}
			var name string
			if err := json.Unmarshal([]byte(quoted), &name); err != nil {
				return nil, fmt.Errorf("%s is no name", quoted)
			}
			path, rest = append(path, step{name: name}), rest[1+len(quoted):]
		case rest[0] == '.':
			n := strings.IndexAny(rest[1:], ".[")
			if n < 0 {
				n = len(rest) - 1
			}
			name := rest[1 : 1+n]
			if name == "" || strings.ContainsAny(name, "*\"") {
				return nil, fmt.Errorf("%q is no name of a member; put odd ones in double quotes", name)
			}
			path, rest = append(path, step{name: name}), rest[1+n:]
		case rest[0] == '[':
			inside, after, ok := strings.Cut(rest[1:], "]")
			if !ok {
				return nil, errors.New("a [ has no ]")
			}
			s := step{array: true, index: -1}
			if inside != "*" {
				if s.index, err = strconv.Atoi(inside); err != nil || s.index < 0 {
					return nil, fmt.Errorf("[%s] is no element; use a number from 0 on, or *", inside)
				}
			}
			path, rest = append(path, s), after
		default:
			return nil, fmt.Errorf("after a step comes . or [, and not %q", rest[:1])
		}
	}
	return path, nil
}

// overlap reports whether two paths may lead to the same value.
func overlap(a, b []step) bool {
	return slices.EqualFunc(a, b, func(x, y step) bool {
		return x.array == y.array && x.name == y.name && (x.index == y.index || x.index < 0 || y.index < 0)
	})
}

func pathText(path []step) string {
	b := []byte("$")
	for _, s := range path {
		switch {
		case !s.array:
			b = append(append(b, '.'), notePart(s.name)...)
		case s.index < 0:
			b = append(b, "[*]"...)
		default:
			b = fmt.Appendf(b, "[%d]", s.index)
		}
	}
	return string(b)
}

// notePart writes a member's name as dfs.JSONNote has it.
func notePart(name string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(name) // a string always has a form
	return strings.TrimSuffix(b.String(), "\n")
}

// A found is a value in the text of a document.
type found struct {
	from, to int
	path     string // as in dfs.JSONNote
}

// documents rewrites the ids in a JSON document, and leaves every other byte of it.
func (m *Manager) documents(ctx context.Context, cl *cell, v dfs.Value) (dfs.Value, bool, error) {
	late, changed := false, false
	for i := range cl.docs {
		next, waits, err := m.document(ctx, &cl.docs[i], v)
		if err != nil {
			return v, false, err
		}
		if next.Kind() != dfs.Absent {
			v, changed = next, true
		}
		late = late || waits
	}
	if !changed {
		return dfs.AbsentValue(), late, nil
	}
	return v, late, nil
}

// document rewrites the ids that one path leads to; Absent if there are none.
func (m *Manager) document(ctx context.Context, d *document, v dfs.Value) (dfs.Value, bool, error) {
	text := v.Text()
	if v.Kind() == dfs.String && (strings.Trim(text, " \t\r\n") == "" || d.none[text]) {
		return dfs.AbsentValue(), false, nil
	}
	w := walker{s: text}
	err := w.value(d.path, "$")
	if v.Kind() == dfs.String && err == nil && !json.Valid([]byte(text)) {
		err = errJSON // of what is none, ids that are in it would stay in silence
	}
	if err != nil {
		if v.Kind() == dfs.String {
			err = fmt.Errorf("%w: %.60q; if such a text is to stay as it is, list it under None of %s, or leave that out, and rewrite the ids by a function of a unit", err, text, d.place)
		}
		return v, false, fmt.Errorf("reading the document: %w", err)
	}
	late := false
	var b []byte
	at := 0
	gone := make(map[string]bool)
	for _, f := range w.found {
		raw := text[f.from:f.to]
		var old dfs.Value
		quoted := raw[0] == '"'
		switch {
		case raw == "null":
			continue
		case quoted:
			var s string
			if err := json.Unmarshal([]byte(raw), &s); err != nil {
				return v, false, fmt.Errorf("reading the document at %s: %w", f.path, err)
			}
			old = dfs.StringValue(s)
		case raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9':
			if n, err := strconv.ParseInt(raw, 10, 64); err == nil {
				old = dfs.IntValue(n)
			} else if n, err := strconv.ParseUint(raw, 10, 64); err == nil {
				old = dfs.UintValue(n)
			} else {
				return v, false, fmt.Errorf("the document has the number %s at %s, which is no id", raw, f.path)
			}
		default:
			return v, false, fmt.Errorf("the document has %.20s at %s, where an id is to be: make the path lead to a number or a string", raw, f.path)
		}
		if d.none[old.String()] {
			continue
		}
		id, came, err := m.idText(ctx, d.space, old)
		if err != nil {
			return v, false, fmt.Errorf("at %s: %w", f.path, err)
		}
		late = late || d.late && !came
		b = append(b, text[at:f.from]...)
		if quoted || id.Kind() != dfs.Int64 {
			b = append(b, notePart(id.String())...)
		} else {
			b = id.Append(b)
		}
		at = f.to
		gone[f.path] = true
	}
	if len(gone) == 0 {
		return dfs.AbsentValue(), false, nil
	}
	b = append(b, text[at:]...)
	if v.Kind() == dfs.String {
		return dfs.StringValue(string(b)), late, nil
	}
	var notes []dfs.JSONNote
	for _, n := range v.JSONNotes() {
		if !gone[n.Path] { // it was about the old id
			notes = append(notes, n)
		}
	}
	return dfs.JSONNotedValue(string(b), notes), late, nil
}

// idText returns the new id of a key that stands in a document.
func (m *Manager) idText(ctx context.Context, sp *space, old dfs.Value) (id dfs.Value, came bool, err error) {
	if sp.linear {
		key, err := sp.keyOf(old)
		if err != nil {
			return dfs.Value{}, false, err
		}
		id, came, err := m.number(ctx, sp, key, false)
		return dfs.IntValue(id), came, err
	}
	text := dfs.Column{Charset: "utf8mb4"}
	if m.key, err = appendKey(m.key[:0], 0, old, &text, sp.keyColumn(0)); err != nil {
		return dfs.Value{}, false, err
	}
	e, err := m.single(ctx, sp, m.key, func() []dfs.Value { return []dfs.Value{old} }, false)
	if err != nil {
		return dfs.Value{}, false, err
	}
	if e.new.Kind() == dfs.Bytes {
		return dfs.Value{}, false, errors.New("the new id is bytes, which a document cannot hold")
	}
	return e.new, e.came, nil
}

// A walker finds the values in a document that a path leads to.
type walker struct {
	s     string
	at    int
	depth int
	found []found
}

var errJSON = errors.New("it is no JSON")

func (w *walker) space() {
	for w.at < len(w.s) && strings.IndexByte(" \t\r\n", w.s[w.at]) >= 0 {
		w.at++
	}
}

func (w *walker) eat(c byte) bool {
	w.space()
	if w.at < len(w.s) && w.s[w.at] == c {
		w.at++
		return true
	}
	return false
}

// value moves past a value. path leads from it to what is sought; nil means that
// nothing in it is. at is where the value is.
func (w *walker) value(path []step, at string) error {
	w.space()
	if w.at >= len(w.s) {
		return errJSON
	}
	if w.depth++; w.depth > 1000 {
		return errors.New("it is nested too deep")
	}
	defer func() { w.depth-- }()
	from := w.at
	switch w.s[w.at] {
	case '{':
		w.at++
		for first := true; !w.eat('}'); first = false {
			if !first && !w.eat(',') {
				return errJSON
			}
			w.space()
			raw, err := w.str()
			if err != nil {
				return err
			}
			if !w.eat(':') {
				return errJSON
			}
			var rest []step
			inner := ""
			if len(path) > 0 && !path[0].array {
				var name string
				if json.Unmarshal([]byte(raw), &name) == nil && name == path[0].name {
					rest, inner = path[1:], at+"."+notePart(name)
				}
			}
			if err := w.value(rest, inner); err != nil {
				return err
			}
		}
	case '[':
		w.at++
		for i := 0; !w.eat(']'); i++ {
			if i > 0 && !w.eat(',') {
				return errJSON
			}
			var rest []step
			inner := ""
			if len(path) > 0 && path[0].array && (path[0].index < 0 || path[0].index == i) {
				rest, inner = path[1:], at+"["+strconv.Itoa(i)+"]"
			}
			if err := w.value(rest, inner); err != nil {
				return err
			}
		}
	case '"':
		if _, err := w.str(); err != nil {
			return err
		}
	default:
		for w.at < len(w.s) && strings.IndexByte(" \t\r\n,]}:", w.s[w.at]) < 0 {
			w.at++
		}
		if w.at == from {
			return errJSON
		}
	}
	if path != nil && len(path) == 0 {
		w.found = append(w.found, found{from, w.at, at})
	}
	return nil
}

// str moves past a string and returns it with its quotes.
func (w *walker) str() (string, error) {
	from := w.at
	if w.at >= len(w.s) || w.s[w.at] != '"' {
		return "", errJSON
	}
	for w.at++; w.at < len(w.s); w.at++ {
		switch w.s[w.at] {
		case '\\':
			w.at++
		case '"':
			w.at++
			return w.s[from:w.at], nil
		}
	}
	return "", errJSON
}

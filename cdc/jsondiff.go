package cdc

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dataflowsync/dfs"
)

// With binlog_row_value_options=PARTIAL_JSON (MySQL 8.0.3) an UPDATE may log what
// it changed inside of a JSON document instead of the document. The document is
// then made of the one in the image before and of the changes. The format is that
// of unpack_row in MySQL's sql/rpl_record.cc and of Json_diff in sql/json_diff.cc.

// partialUpdate reads the images of one row of a partial update event: the image
// before, a number whose lowest bit says that a bit for each JSON column of the
// table follows, set if its value in the image after is a list of changes, and
// the image after.
func (d *decoder) partialUpdate(r *reader, im *images, c *dfs.Change) error {
	p := im.plan
	c.Op = dfs.Update
	docs := make([][]byte, len(p.columns)) // as they were; nil if it is not known
	var err error
	c.Before, err = d.sparseRow(r, p, im.before, func(i int, v *dfs.Value) (bool, error) {
		col := &p.columns[i]
		if col.typ != typJSON {
			return false, nil
		}
		b := r.bytes(int(r.uint(int(col.meta))))
		docs[i] = b
		return true, d.json(b, r, v)
	})
	if err != nil {
		return err
	}
	partial := make([]bool, len(p.columns))
	if r.packed()&1 != 0 {
		n := 0
		for i := range p.columns {
			if p.columns[i].typ == typJSON {
				n++
			}
		}
		bits := r.bytes((n + 7) / 8)
		if r.bad {
			return errShortEvent
		}
		n = 0
		for i := range p.columns {
			if p.columns[i].typ == typJSON {
				partial[i] = bits[n/8]&(1<<(n%8)) != 0
				n++
			}
		}
	}
	c.After, err = d.sparseRow(r, p, im.after, func(i int, v *dfs.Value) (bool, error) {
		if !partial[i] {
			return false, nil
		}
		diffs := r.bytes(int(r.uint32()))
		if r.bad {
			return true, errShortEvent
		}
		switch {
		case len(diffs) == 0:
			// Set to what it was.
			*v = c.Before[i]
			return true, nil
		case docs[i] == nil:
			return true, &EventError{
				What: fmt.Sprintf("an update of %s was logged as changes inside of the JSON column %s, without the document that they change",
					p.table, p.columns[i].name),
				Cure: "set binlog_row_image=FULL or binlog_row_value_options='' on the source, for running sessions too, and make a new copy of the table",
			}
		}
		return true, d.applyDiffs(docs[i], diffs, v)
	})
	return err
}

// The operations of a change to a document.
const (
	diffReplace = 0 // the value that is there
	diffInsert  = 1 // a member, or an element before the one that is there
	diffRemove  = 2
)

// applyDiffs makes the text of a document that was doc before the changes.
func (d *decoder) applyDiffs(doc, diffs []byte, v *dfs.Value) error {
	// As in jsonWriter.document, no value takes less than a byte, except that those of a
	// damaged document may lie over each other.
	t := jsonTree{left: len(doc) + len(diffs) + 1}
	root := &jsonNode{kind: jsonLiteral, raw: []byte{0}}
	if len(doc) > 0 {
		root = &jsonNode{kind: doc[0], raw: doc[1:]}
	}
	r := reader{b: diffs}
	for len(r.b) > 0 {
		op := r.byte()
		path := string(r.bytes(r.count(1)))
		var to *jsonNode
		if op != diffRemove {
			b := r.bytes(r.count(1))
			if r.bad || len(b) == 0 {
				return errJSON
			}
			to = &jsonNode{kind: b[0], raw: b[1:]}
		}
		if r.bad || op > diffRemove {
			return errJSON
		}
		if err := t.apply(&root, op, path, to); err != nil {
			return fmt.Errorf("cdc: change %s of a JSON document: %w", path, err)
		}
	}
	at := d.room(2*(len(doc)+len(diffs)) + 16)
	w := jsonWriter{to: d.text, from: at, left: len(doc) + len(diffs) + 1}
	if err := w.node(root, 0); err != nil {
		return err
	}
	d.text = w.to
	*v = w.result()
	return nil
}

// A jsonNode is a value of a document that is being changed: either as it is in
// binary or, where a path has led through it, a container opened up.
type jsonNode struct {
	kind byte
	raw  []byte // of a value that is not open
	open bool
	keys [][]byte // of an object that is open
	kids []*jsonNode
}

// A jsonTree applies changes to a document.
type jsonTree struct {
	left int // how many more values there can be
}

func isObject(kind byte) bool { return kind == jsonSmallObject || kind == jsonLargeObject }
func isArray(kind byte) bool  { return kind == jsonSmallArray || kind == jsonLargeArray }

// expand opens a container up.
func (t *jsonTree) expand(n *jsonNode) error {
	if n.open || !isObject(n.kind) && !isArray(n.kind) {
		return nil
	}
	m, err := openMembers(n.kind, n.raw)
	if err != nil {
		return err
	}
	if t.left -= m.count; t.left < 0 {
		return errJSON
	}
	n.kids = make([]*jsonNode, m.count)
	if m.object {
		n.keys = make([][]byte, m.count)
	}
	for i := range n.kids {
		if m.object {
			if n.keys[i], err = m.key(i); err != nil {
				return err
			}
		}
		kid := new(jsonNode)
		if kid.kind, kid.raw, err = m.value(i); err != nil {
			return err
		}
		n.kids[i] = kid
	}
	n.open, n.raw = true, nil
	return nil
}

// apply does one change to the document at root.
func (t *jsonTree) apply(root **jsonNode, op byte, path string, to *jsonNode) error {
	legs, err := parsePath(path)
	if err != nil {
		return err
	}
	if len(legs) == 0 {
		if op != diffReplace {
			return errJSON
		}
		*root = to
		return nil
	}
	at := *root
	for _, leg := range legs[:len(legs)-1] {
		i, found, err := t.find(at, leg)
		if err != nil {
			return err
		}
		if !found {
			return errNoPath
		}
		at = at.kids[i]
	}
	leg := legs[len(legs)-1]
	i, found, err := t.find(at, leg)
	switch {
	case err != nil:
		return err
	case op == diffInsert && !leg.cell && found, op != diffInsert && !found:
		return errNoPath
	case op == diffReplace:
		at.kids[i] = to
	case op == diffRemove:
		at.kids = slices.Delete(at.kids, i, i+1)
		if !leg.cell {
			at.keys = slices.Delete(at.keys, i, i+1)
		}
	default:
		at.kids = slices.Insert(at.kids, i, to)
		if !leg.cell {
			at.keys = slices.Insert(at.keys, i, []byte(leg.key))
		}
	}
	return nil
}

// find opens n up and looks for what leg leads to. If it is not there, i is where
// it would have its place.
func (t *jsonTree) find(n *jsonNode, leg jsonLeg) (i int, found bool, err error) {
	if err := t.expand(n); err != nil {
		return 0, false, err
	}
	switch {
	case leg.cell && isArray(n.kind):
		if leg.last {
			// The last is 0 from the end.
			if leg.index >= len(n.kids) {
				return 0, false, nil
			}
			return len(n.kids) - 1 - leg.index, true, nil
		}
		return min(leg.index, len(n.kids)), leg.index < len(n.kids), nil
	case !leg.cell && isObject(n.kind):
		i, found = slices.BinarySearchFunc(n.keys, []byte(leg.key), compareKeys)
		return i, found, nil
	}
	return 0, false, errNoPath
}

// compareKeys is the order of keys in a binary object: the shorter first.
func compareKeys(a, b []byte) int {
	if c := cmp.Compare(len(a), len(b)); c != 0 {
		return c
	}
	return bytes.Compare(a, b)
}

// node writes a value that changes were applied to.
func (w *jsonWriter) node(n *jsonNode, depth int) error {
	if !n.open {
		return w.value(n.kind, n.raw, depth)
	}
	if w.left--; w.left < 0 || depth >= jsonDepth {
		return errJSON
	}
	open, end := byte('['), byte(']')
	if isObject(n.kind) {
		open, end = '{', '}'
	}
	w.to = append(w.to, open)
	for i, kid := range n.kids {
		if i > 0 {
			w.to = append(w.to, ", "...)
		}
		if isObject(n.kind) {
			w.to = append(appendQuoted(w.to, n.keys[i]), ": "...)
		}
		if err := w.node(kid, depth+1); err != nil {
			return err
		}
	}
	w.to = append(w.to, end)
	return nil
}

// A jsonLeg is one step of a path: into an object by key, or into an array by
// index.
type jsonLeg struct {
	cell  bool
	key   string
	index int
	last  bool // index counts from the end
}

var (
	errNoPath  = fmt.Errorf("the path leads nowhere in the document before: %w", errJSON)
	errBadPath = fmt.Errorf("the path cannot be read: %w", errJSON)
)

// parsePath reads a path as the server prints it: $, and then .name or ."name"
// with the escapes of JSON for a member, and [n], [last] or [last-n] for an
// element.
func parsePath(s string) (legs []jsonLeg, err error) {
	if !strings.HasPrefix(s, "$") {
		return nil, errBadPath
	}
	for s = s[1:]; s != ""; {
		switch {
		case strings.HasPrefix(s, `."`):
			end := 2
			for end < len(s) && s[end] != '"' {
				if s[end] == '\\' {
					end++
				}
				end++
			}
			if end >= len(s) {
				return nil, errBadPath
			}
			var key string
			if err := json.Unmarshal([]byte(s[1:end+1]), &key); err != nil {
				return nil, errBadPath
			}
			legs, s = append(legs, jsonLeg{key: key}), s[end+1:]
		case s[0] == '.':
			n := strings.IndexAny(s[1:], ".[")
			if n < 0 {
				n = len(s) - 1
			}
			if n == 0 {
				return nil, errBadPath
			}
			legs, s = append(legs, jsonLeg{key: s[1 : 1+n]}), s[1+n:]
		case s[0] == '[':
			n := strings.IndexByte(s, ']')
			if n < 0 {
				return nil, errBadPath
			}
			leg := jsonLeg{cell: true}
			text := strings.ReplaceAll(s[1:n], " ", "")
			if rest, ok := strings.CutPrefix(text, "last"); ok {
				leg.last, text = true, strings.TrimPrefix(rest, "-")
				if rest == "" {
					text = "0"
				}
			}
			index, err := strconv.ParseUint(text, 10, 31)
			if err != nil {
				return nil, errBadPath
			}
			leg.index = int(index)
			legs, s = append(legs, leg), s[n+1:]
		default:
			return nil, errBadPath
		}
	}
	return legs, nil
}

package ddl

import "strings"

// A ForeignKey is one that a statement adds to its table.
type ForeignKey struct {
	Name          string // of the constraint, if it has one
	Columns       []string
	Parent        Table    // as written: Schema may be empty, for the schema of the statement's table
	ParentColumns []string // nil for the primary key, which MySQL from 9.0 on lets be left out

	OnDelete, OnUpdate string // "CASCADE", "SET NULL" and so on; empty if it is not written
}

// ForeignKeys returns the foreign keys that a CREATE TABLE or ALTER TABLE declares
// by FOREIGN KEY. A REFERENCES behind a column counts only where the server's
// version makes it one, which MySQL does from 9.0 on and MariaDB from 10.5 on: it
// is returned too, since one that means nothing does no harm to who only wants to
// know what a column holds.
func ForeignKeys(text string, m Mode) (list []ForeignKey) {
	l := lexer{s: text, mode: &m}
	name, column := "", ""
	depth := 0
	fresh := true   // a definition begins
	change := false // with the column's old name
	for t := l.next(); t.kind != tokEnd; t = l.next() {
		switch {
		case t.punct('('):
			depth++
			fresh = depth == 1
			continue
		case t.punct(')'):
			depth--
		case t.punct(','):
			if depth <= 1 {
				fresh, name, column = true, "", ""
			}
			continue
		case t.is("CONSTRAINT"):
			name = ""
			if n := l.next(); n.named() && !n.is("FOREIGN") {
				name = n.text
			} else if n.is("FOREIGN") {
				list = l.foreignKey(list, "")
			}
			fresh = false
			continue
		case t.is("FOREIGN"):
			list = l.foreignKey(list, name)
			name, fresh = "", false
			continue
		case t.is("ADD") || t.is("COLUMN") || t.is("MODIFY") || t.is("CHANGE"):
			fresh = true // the column's name follows
			change = t.is("CHANGE") || change && t.is("COLUMN")
			continue
		case fresh && (t.is("IF") || t.is("NOT") || t.is("EXISTS")):
			continue
		case fresh && change && t.named():
			change = false
			continue
		case t.is("REFERENCES") && column != "":
			k := ForeignKey{Name: name, Columns: []string{column}}
			if l.parent(&k) {
				list = append(list, k)
			}
		case fresh && t.named():
			column = t.text
		}
		fresh = false
	}
	return list
}

// foreignKey reads what follows FOREIGN.
func (l *lexer) foreignKey(list []ForeignKey, name string) []ForeignKey {
	if !l.next().is("KEY") {
		return list
	}
	t := l.next()
	for t.kind != tokEnd && !t.punct('(') { // IF NOT EXISTS, the name of an index
		t = l.next()
	}
	k := ForeignKey{Name: name, Columns: l.names()}
	if !l.next().is("REFERENCES") {
		return list
	}
	if l.parent(&k) && len(k.Columns) > 0 {
		list = append(list, k)
	}
	return list
}

// parent reads what follows REFERENCES.
func (l *lexer) parent(k *ForeignKey) bool {
	first := l.next()
	if !first.named() {
		return false
	}
	k.Parent.Name = first.text
	if l.punct('.') {
		k.Parent.Schema, k.Parent.Name = first.text, l.next().text
	}
	if l.punct('(') {
		if k.ParentColumns = l.names(); len(k.ParentColumns) == 0 {
			return false
		}
	}
	for {
		before := *l
		word := l.next()
		event := l.next()
		switch {
		case word.is("MATCH"):
			continue
		case word.is("ON") && (event.is("DELETE") || event.is("UPDATE")):
			action := strings.ToUpper(l.next().text)
			if action == "SET" || action == "NO" {
				action += " " + strings.ToUpper(l.next().text)
			}
			if event.is("DELETE") {
				k.OnDelete = action
			} else {
				k.OnUpdate = action
			}
		default:
			*l = before
			return true
		}
	}
}

// punct moves past the character c if it is next.
func (l *lexer) punct(c byte) bool {
	before := *l
	if l.next().punct(c) {
		return true
	}
	*l = before
	return false
}

// names reads names up to the closing parenthesis.
func (l *lexer) names() (list []string) {
	for t := l.next(); t.kind != tokEnd && !t.punct(')'); t = l.next() {
		if t.named() {
			list = append(list, t.text)
		}
	}
	return list
}

// RenamedColumns returns the names of columns that an ALTER TABLE gives another
// name, by CHANGE or RENAME COLUMN.
func RenamedColumns(text string, m Mode) (list []string) {
	l := lexer{s: text, mode: &m}
	var last token
	for t := l.next(); t.kind != tokEnd; last, t = t, l.next() {
		change := t.is("CHANGE")
		if !change && !(t.is("COLUMN") && last.is("RENAME")) {
			continue
		}
		from := l.next()
		for change && from.is("COLUMN") || from.is("IF") || from.is("EXISTS") {
			from = l.next()
		}
		to := l.next()
		if to.is("TO") {
			to = l.next()
		}
		if from.named() && to.named() && !strings.EqualFold(from.text, to.text) {
			list = append(list, from.text)
		}
	}
	return list
}

package ddl

import (
	"errors"
	"fmt"
	"strings"
)

// actions reads the clauses of an ALTER TABLE.
func (p *definer) actions() (list []Action, err error) {
	p.wait()
	for p.tok.kind != tokEnd && !p.tok.punct(';') {
		from := p.tok.at
		more, err := p.action(from)
		if err != nil {
			return nil, err
		}
		list = append(list, more...)
		if !p.skipPunct(',') && p.tok.kind != tokEnd && !p.tok.punct(';') {
			return nil, p.strange(from)
		}
	}
	if p.s.obscure {
		return nil, errNoAction
	}
	return list, nil
}

// errPartition says why a clause is not one about what a table is.
var errPartition = errors.New("what it does to partitions takes rows away, or brings others, which no log shows")

// action reads one clause.
func (p *definer) action(from int) ([]Action, error) {
	next := p.peek()
	switch {
	case p.skip("ADD"):
		return p.addAction(from)
	case p.skip("DROP"):
		return p.dropAction(from)
	case p.skip("CHANGE"), p.tok.is("MODIFY"):
		return p.changeAction(from)
	case p.skip("RENAME"):
		return p.renameAction(from)
	case p.skip("ALTER"):
		return p.defaultAction(from)
	case p.skip("CONVERT", "TO"):
		o := p.options(true)
		if o.strange || !o.set || charsetOf(o.collation) == "binary" {
			return nil, p.strange(from)
		}
		return []Action{{Do: ConvertText}}, nil
	case p.tok.is("CONVERT"), p.tok.is("EXCHANGE"), p.tok.is("TRUNCATE"), p.tok.is("DISCARD"), p.tok.is("IMPORT"):
		return nil, errPartition
	case p.skip("ORDER", "BY"):
		if !p.orderBy() {
			return nil, p.strange(from)
		}
		return nil, nil
	case p.tok.is("PARTITION"), p.tok.is("REMOVE"), p.tok.is("COALESCE"), p.tok.is("REORGANIZE"),
		p.tok.is("REBUILD"), p.tok.is("OPTIMIZE"), p.tok.is("ANALYZE"), p.tok.is("CHECK"), p.tok.is("REPAIR"), p.tok.is("UPGRADE"):
		p.toEnd()
		return nil, nil
	case p.tok.is("DISABLE"), p.tok.is("ENABLE"), p.tok.is("FORCE"), p.tok.is("WITH") && !next.is("SYSTEM"), p.tok.is("WITHOUT") && !next.is("SYSTEM"):
		p.rest()
		return nil, nil
	case p.tok.kind == tokWord:
		if o := p.options(true); !o.strange {
			return nil, nil
		}
	}
	return nil, p.strange(from)
}

// addAction reads what follows ADD.
func (p *definer) addAction(from int) (list []Action, err error) {
	if p.tok.is("PARTITION") {
		p.toEnd()
		return nil, nil
	}
	if p.tok.is("SYSTEM") && p.peek().is("VERSIONING") {
		return nil, p.strange(from)
	}
	p.skip("COLUMN")
	lenient := p.skip("IF", "NOT", "EXISTS")
	group := p.skipPunct('(')
	for {
		more, err := p.item(from)
		if err != nil {
			return nil, err
		}
		if lenient && len(more) > 1 {
			// MariaDB adds the key though the column is there, or the column but no key.
			return nil, p.strange(from)
		}
		for i := range more {
			more[i].Lenient = more[i].Lenient || lenient
		}
		list = append(list, more...)
		if !group || p.skipPunct(')') {
			return list, nil
		}
		if !p.skipPunct(',') {
			return nil, p.strange(from)
		}
	}
}

// dropAction reads what follows DROP.
func (p *definer) dropAction(from int) ([]Action, error) {
	switch {
	case p.tok.is("PARTITION"):
		return nil, errPartition
	case p.skip("PRIMARY", "KEY"):
		return []Action{dropKey("PRIMARY", false)}, nil
	case p.tok.is("PERIOD") && p.peek().is("FOR"), p.tok.is("SYSTEM") && p.peek().is("VERSIONING"):
		return nil, p.strange(from)
	case p.skip("FOREIGN", "KEY"), p.skip("CHECK"):
		p.rest()
		return nil, nil
	case p.tok.is("INDEX"), p.tok.is("KEY"), p.tok.is("CONSTRAINT"):
		lenient := p.tok.is("CONSTRAINT")
		p.advance()
		lenient = p.skip("IF", "EXISTS") || lenient
		if !p.tok.named() {
			return nil, p.strange(from)
		}
		name := p.text()
		p.rest()
		return []Action{dropKey(name, lenient)}, nil
	}
	p.skip("COLUMN")
	lenient := p.skip("IF", "EXISTS")
	name, ok := p.columnName()
	if !ok {
		return nil, p.strange(from)
	}
	p.skipAny("RESTRICT", "CASCADE")
	if p.tok.is("PARTITION") || p.tok.is("REMOVE") {
		p.toEnd()
	}
	return []Action{{Do: DropColumn, Name: name, Lenient: lenient}}, nil
}

// changeAction reads CHANGE, behind that word, and MODIFY.
func (p *definer) changeAction(from int) (list []Action, err error) {
	change := !p.skip("MODIFY")
	p.skip("COLUMN")
	lenient := p.skip("IF", "EXISTS")
	old := ""
	if change {
		var ok bool
		if old, ok = p.columnName(); !ok {
			return nil, p.strange(from)
		}
	}
	def, ok := p.column()
	if !ok {
		return nil, p.strange(from)
	}
	if lenient {
		return nil, fmt.Errorf("whether it changes a column is not told: %w", p.strange(from))
	}
	c, err := p.finished(&def)
	if err != nil {
		return nil, err
	}
	if change && old != def.Name {
		list = append(list, Action{Do: RenameColumn, Name: old, To: def.Name})
	}
	list = append(list, Action{Do: ChangeColumn, Name: def.Name, Def: c})
	return append(list, keysOf(&def)...), nil
}

// renameAction reads what follows RENAME.
func (p *definer) renameAction(from int) ([]Action, error) {
	a := Action{Do: RenameColumn}
	switch {
	case p.skip("INDEX"), p.skip("KEY"):
		a.Do = RenameKey
	case p.skip("COLUMN"):
	default:
		_ = p.skip("TO") || p.skip("AS") || p.skipPunct('=')
		r, ok := p.name()
		if !ok {
			return nil, p.strange(from)
		}
		return []Action{{Do: MoveTable, Table: r.Table}}, nil
	}
	a.Lenient = p.skip("IF", "EXISTS")
	var ok1, ok2, to bool
	a.Name, ok1 = p.columnName()
	to = p.skip("TO")
	a.To, ok2 = p.columnName()
	if !ok1 || !ok2 || !to {
		return nil, p.strange(from)
	}
	return []Action{a}, nil
}

// defaultAction reads what follows ALTER: of a column its default, and else what does
// not matter, such as whether an index is visible.
func (p *definer) defaultAction(from int) ([]Action, error) {
	if next := p.peek(); (p.tok.is("INDEX") || p.tok.is("KEY") || p.tok.is("CHECK") || p.tok.is("CONSTRAINT")) && !next.is("SET") && !next.is("DROP") {
		p.rest()
		return nil, nil
	}
	p.skip("COLUMN")
	lenient := p.skip("IF", "EXISTS")
	name, ok := p.columnName()
	if !ok {
		return nil, p.strange(from)
	}
	a := Action{Do: SetDefault, Name: name, Lenient: lenient}
	switch {
	case p.skip("SET", "DEFAULT"):
		at := p.tok.at
		if !p.defaultValue() {
			return nil, p.strange(from)
		}
		a.Def.setDefault(strings.TrimSpace(p.lex.s[at:max(at, p.last)]), p.lex.mode)
	case p.skip("DROP", "DEFAULT"):
	case p.skip("SET", "VISIBLE"), p.skip("SET", "INVISIBLE"):
		return nil, nil
	default:
		return nil, p.strange(from)
	}
	return []Action{a}, nil
}

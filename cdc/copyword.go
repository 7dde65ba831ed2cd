package cdc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dataflowsync/dfs"
)

// word returns how far the copy is, for a position: items with a semicolon
// between, which are
//
//	3-7      the tables with these numbers are copied
//	9!       its copy has failed
//	8=HASH:LO..HI+LO..HI
//	         of this one ranges of keys are left; HASH names the key
//
// and the others are not begun.
func (c *copier) word() string {
	var b []byte
	for i := 0; i < len(c.tables); i++ {
		t := c.tables[i]
		switch {
		case t.state == dfs.Copied:
			to := i
			for to+1 < len(c.tables) && c.tables[to+1].state == dfs.Copied {
				to++
			}
			b = strconv.AppendInt(b, int64(i), 10)
			if to > i {
				b = strconv.AppendInt(append(b, '-'), int64(to), 10)
			}
			i = to
		case t.state == dfs.CopyFailed:
			b = append(strconv.AppendInt(b, int64(i), 10), '!')
		case t.hash != "":
			b = append(append(append(strconv.AppendInt(b, int64(i), 10), '='), t.hash...), ':')
			for j, r := range t.left {
				if j > 0 {
					b = append(b, '+')
				}
				b = append(append(append(b, r.lo.text()...), ".."...), r.hi.text()...)
			}
		default:
			continue
		}
		b = append(b, ';')
	}
	if len(b) == 0 {
		return "-"
	}
	return string(b[:len(b)-1])
}

// parse reads what word wrote, and asks the server for the order of keys.
func (c *copier) parse(ctx context.Context, word string) error {
	bad := func(why string) error {
		return fmt.Errorf("cdc: the checkpoint's position does not fit its State, which names %d tables of a copy: %s; put the checkpoint back from a copy, or make a new copy of the data", len(c.tables), why)
	}
	if word == "-" {
		return nil
	}
	for item := range strings.SplitSeq(word, ";") {
		end := strings.IndexAny(item, "-!=")
		if end < 0 {
			end = len(item)
		}
		n, err := strconv.Atoi(item[:end])
		if err != nil || n < 0 || n >= len(c.tables) {
			return bad(fmt.Sprintf("%q", item))
		}
		t := c.tables[n]
		switch rest := item[end:]; {
		case rest == "":
			t.state = dfs.Copied
		case rest[0] == '-':
			to, err := strconv.Atoi(rest[1:])
			if err != nil || to < n || to >= len(c.tables) {
				return bad(fmt.Sprintf("%q", item))
			}
			for _, t := range c.tables[n : to+1] {
				t.state = dfs.Copied
			}
		case rest == "!":
			t.state = dfs.CopyFailed
			t.err = &CopyError{Table: t.String(), Err: errors.New("it has failed before"), Cure: cureCopyAgain}
		case rest[0] == '=':
			hash, ranges, _ := strings.Cut(rest[1:], ":")
			t.hash, t.state = hash, dfs.Copying
			for part := range strings.SplitSeq(ranges, "+") {
				lo, hi, ok := strings.Cut(part, "..")
				from, err1 := parseBound(lo)
				to, err2 := parseBound(hi)
				if !ok || err1 != nil || err2 != nil {
					return bad(fmt.Sprintf("%q", part))
				}
				t.left = append(t.left, keyRange{from, to})
			}
			if err := c.resume(ctx, t); err != nil {
				return err
			}
		default:
			return bad(fmt.Sprintf("%q", item))
		}
	}
	return nil
}

const cureCopyAgain = "empty it on the target, and have it copied again"

// resume makes ready a table of which ranges were handed on before.
func (c *copier) resume(ctx context.Context, t *copyTable) error {
	sh, err := c.src.readShape(ctx, t.tableName)
	if err != nil {
		return err
	}
	if sh == nil || sh.key == nil || sh.key.hash() != t.hash {
		// The log may say more of that, but the ranges can be compared no more.
		c.fail(t, errors.New("it was dropped or renamed, or its key altered, while it was copied"), cureCopyAgain)
		return nil
	}
	var rows []dfs.Row
	var to []*bound
	for _, r := range t.left {
		for _, b := range []*bound{r.lo, r.hi} {
			if b != nil {
				rows, to = append(rows, b.row), append(to, b)
			}
		}
	}
	orders, err := c.src.orders(ctx, sh.key, rows)
	if err != nil {
		return err
	}
	for i, b := range to {
		b.order = orders[i]
	}
	t.shape, t.key, t.total = sh, sh.key, sh.total
	t.free = slices.Clone(t.left)
	return nil
}

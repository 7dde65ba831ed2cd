package dpu

import (
	"math"
	"strconv"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/convert"
	"github.com/expr-lang/expr/ast"
)

// The library runs an expression on a machine of its own, for which each value is
// put into an interface: 300-380 ns and 2-3 allocations for two integers, and
// 2.2 us and 28 for a DECIMAL, of which there is none it knows. So what most
// expressions are made of is compiled to functions over Values here as well:
// integers, floating numbers, decimals of at most 18 digits, text, conditions.
//
// What the library gives is what an expression means. A quick function gives the
// same, or says that it does not know, as it does for a NULL that no test
// expects, an overflow, a division by zero and a value of another kind than the
// column's; the library then decides, and makes the error if there is one. An
// expression that has anything else in it has no quick form.

// A quick is an expression in its quick form. One of its functions is set. The
// second result says whether the first is known.
type quick struct {
	ints   func(v []dfs.Value) (int64, bool)
	floats func(v []dfs.Value) (float64, bool)
	decs   func(v []dfs.Value) (convert.Small, bool)
	texts  func(v []dfs.Value) (string, bool)
	bools  func(v []dfs.Value) (bool, bool)

	literal ast.Node // it is this number, and the same whatever the row
}

// quickly returns the quick form of the expression, or nil if it has none.
func (e *expression) quickly(n ast.Node) *quick {
	q := e.quick(n)
	if q == nil || strconv.IntSize < 64 { // the machine's integers are int
		return nil
	}
	// The machine is given all columns, and fails at one that it cannot read even
	// where the outcome does not depend on it.
	var fits []func(v dfs.Value) bool
	for _, i := range e.deps {
		f := readsQuickly(&e.cols[i])
		if f == nil {
			return nil
		}
		fits = append(fits, f)
	}
	check := func(v []dfs.Value) bool {
		for k, f := range fits {
			if !f(v[k]) {
				return false
			}
		}
		return true
	}
	return &quick{
		ints: checked(check, q.ints), floats: checked(check, q.floats), decs: checked(check, q.decs),
		texts: checked(check, q.texts), bools: checked(check, q.bools),
	}
}

func checked[T any](check func(v []dfs.Value) bool, f func(v []dfs.Value) (T, bool)) func(v []dfs.Value) (T, bool) {
	if f == nil {
		return nil
	}
	return func(v []dfs.Value) (out T, ok bool) {
		if !check(v) {
			return out, false
		}
		return f(v)
	}
}

// readsQuickly returns what tells whether a value of the column is of the kind
// that quick forms read, or nil if none is.
func readsQuickly(c *dfs.Column) func(v dfs.Value) bool {
	if len(c.Members) > 0 {
		return func(v dfs.Value) bool { return v.Kind() == dfs.Uint64 || v.Kind() == dfs.Null }
	}
	switch convert.KindOf(c) {
	case dfs.Int64, dfs.Uint64:
		return func(v dfs.Value) bool {
			k := v.Kind()
			return k == dfs.Int64 || k == dfs.Uint64 && v.Int() >= 0 || k == dfs.Null
		}
	case dfs.Float32, dfs.Float64:
		return func(v dfs.Value) bool {
			k := v.Kind()
			return k == dfs.Float64 || k == dfs.Float32 || k == dfs.Null
		}
	case dfs.Decimal:
		return func(v dfs.Value) bool { return v.Kind() == dfs.Decimal || v.Kind() == dfs.Null }
	case dfs.String, dfs.Bytes:
		return func(v dfs.Value) bool {
			k := v.Kind()
			return k == dfs.String || k == dfs.Bytes || k == dfs.Null
		}
	}
	return nil
}

// quick returns the quick form of a part of the expression.
func (e *expression) quick(n ast.Node) *quick {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		return e.quickColumn(n)
	case *ast.IntegerNode:
		x := int64(n.Value)
		return &quick{literal: n, ints: func([]dfs.Value) (int64, bool) { return x, true }}
	case *ast.FloatNode:
		x := n.Value
		return &quick{literal: n, floats: func([]dfs.Value) (float64, bool) { return x, true }}
	case *ast.StringNode:
		x := n.Value
		return &quick{texts: func([]dfs.Value) (string, bool) { return x, true }}
	case *ast.BoolNode:
		x := n.Value
		return &quick{bools: func([]dfs.Value) (bool, bool) { return x, true }}
	case *ast.UnaryNode:
		return e.quickUnary(n)
	case *ast.BinaryNode:
		return e.quickBinary(n)
	case *ast.ConditionalNode:
		cond, a, b := e.quick(n.Cond), e.quick(n.Exp1), e.quick(n.Exp2)
		if cond == nil || cond.bools == nil || a == nil || b == nil {
			return nil
		}
		return either(a, b, cond.bools)
	}
	return nil
}

// either is a where which says so, and b elsewhere; nil if they are of different
// kinds.
func either(a, b *quick, which func(v []dfs.Value) (bool, bool)) *quick {
	switch {
	case a.ints != nil && b.ints != nil:
		return &quick{ints: choose(a.ints, b.ints, which)}
	case a.floats != nil && b.floats != nil:
		return &quick{floats: choose(a.floats, b.floats, which)}
	case a.decs != nil && b.decs != nil:
		return &quick{decs: choose(a.decs, b.decs, which)}
	case a.texts != nil && b.texts != nil:
		return &quick{texts: choose(a.texts, b.texts, which)}
	case a.bools != nil && b.bools != nil:
		return &quick{bools: choose(a.bools, b.bools, which)}
	}
	return nil
}

func choose[T any](a, b func(v []dfs.Value) (T, bool), which func(v []dfs.Value) (bool, bool)) func(v []dfs.Value) (T, bool) {
	return func(v []dfs.Value) (out T, ok bool) {
		first, ok := which(v)
		switch {
		case !ok:
			return out, false
		case first:
			return a(v)
		}
		return b(v)
	}
}

// place returns where the values that run is given have the named column, or -1.
func (e *expression) place(name string) int {
	i := e.column(name)
	for k, dep := range e.deps {
		if dep == i {
			return k
		}
	}
	return -1
}

func (e *expression) quickColumn(n *ast.IdentifierNode) *quick {
	k := e.place(n.Value)
	if k < 0 {
		return nil
	}
	c := &e.cols[e.deps[k]]
	if len(c.Members) > 0 {
		members, set := c.Members, strings.HasPrefix(c.Type, "set")
		return &quick{texts: func(v []dfs.Value) (string, bool) {
			if v[k].IsNull() {
				return "", false
			}
			return convert.Member(v[k].Uint(), members, set), true
		}}
	}
	switch convert.KindOf(c) {
	case dfs.Int64, dfs.Uint64:
		return &quick{ints: func(v []dfs.Value) (int64, bool) { return v[k].Int(), !v[k].IsNull() }}
	case dfs.Float32, dfs.Float64:
		return &quick{floats: func(v []dfs.Value) (float64, bool) { return v[k].Float(), !v[k].IsNull() }}
	case dfs.Decimal:
		return &quick{decs: func(v []dfs.Value) (convert.Small, bool) {
			if v[k].IsNull() {
				return convert.Small{}, false
			}
			return convert.ParseSmall(v[k].Text())
		}}
	case dfs.String, dfs.Bytes:
		return &quick{texts: func(v []dfs.Value) (string, bool) { return v[k].Text(), !v[k].IsNull() }}
	}
	return nil
}

func (e *expression) quickUnary(n *ast.UnaryNode) *quick {
	x := e.quick(n.Node)
	if x == nil {
		return nil
	}
	switch {
	case (n.Operator == "not" || n.Operator == "!") && x.bools != nil:
		return &quick{bools: func(v []dfs.Value) (bool, bool) {
			is, ok := x.bools(v)
			return !is, ok
		}}
	case n.Operator == "-" && x.ints != nil:
		return &quick{ints: func(v []dfs.Value) (int64, bool) {
			i, ok := x.ints(v)
			return -i, ok && i != math.MinInt64
		}}
	case n.Operator == "-" && x.floats != nil:
		return &quick{floats: func(v []dfs.Value) (float64, bool) {
			f, ok := x.floats(v)
			return -f, ok
		}}
	}
	return nil
}

func (e *expression) quickBinary(n *ast.BinaryNode) *quick {
	switch n.Operator {
	case "==", "!=":
		if q := e.quickNil(n); q != nil {
			return q
		}
	case "??":
		id, ok := n.Left.(*ast.IdentifierNode)
		if !ok {
			return nil
		}
		k, left, right := e.place(id.Value), e.quick(n.Left), e.quick(n.Right)
		if left == nil || right == nil {
			return nil
		}
		return either(left, right, func(v []dfs.Value) (bool, bool) { return !v[k].IsNull(), true })
	}
	a, b := e.quick(n.Left), e.quick(n.Right)
	if a == nil || b == nil {
		return nil
	}
	switch {
	case a.bools != nil && b.bools != nil:
		return quickLogic(n.Operator, a.bools, b.bools)
	case a.texts != nil && b.texts != nil:
		return quickText(n.Operator, a.texts, b.texts)
	case a.decs != nil || b.decs != nil:
		x, y := a.decimals(), b.decimals()
		if x == nil || y == nil {
			return nil
		}
		return quickDecimal(n.Operator, x, y)
	case a.ints != nil && b.ints != nil:
		return quickInt(n.Operator, a.ints, b.ints)
	case a.floats != nil && b.floats != nil:
		return quickFloat(n.Operator, a.floats, b.floats)
	}
	return nil // an integer and a floating number, and what does not go together
}

// quickNil is the comparison of a column with nil.
func (e *expression) quickNil(n *ast.BinaryNode) *quick {
	id, other := n.Left, n.Right
	if _, null := id.(*ast.NilNode); null {
		id, other = other, id
	}
	name, ok := id.(*ast.IdentifierNode)
	if _, null := other.(*ast.NilNode); !null || !ok {
		return nil
	}
	k, equal := e.place(name.Value), n.Operator == "=="
	if k < 0 || e.quickColumn(name) == nil {
		return nil
	}
	return &quick{bools: func(v []dfs.Value) (bool, bool) { return v[k].IsNull() == equal, true }}
}

// decimals returns the number as a decimal, or nil. A floating number is one only
// as a literal, whose digits it has.
func (q *quick) decimals() func(v []dfs.Value) (convert.Small, bool) {
	switch {
	case q.decs != nil:
		return q.decs
	case q.ints != nil:
		return func(v []dfs.Value) (convert.Small, bool) {
			i, ok := q.ints(v)
			d, fits := convert.SmallOf(i)
			return d, ok && fits
		}
	}
	if f, ok := q.literal.(*ast.FloatNode); ok {
		d, ok := convert.ParseSmall(strconv.FormatFloat(f.Value, 'f', -1, 64))
		return func([]dfs.Value) (convert.Small, bool) { return d, ok }
	}
	return nil
}

func quickLogic(operator string, a, b func(v []dfs.Value) (bool, bool)) *quick {
	and := operator == "and" || operator == "&&"
	if !and && operator != "or" && operator != "||" {
		return nil
	}
	return &quick{bools: func(v []dfs.Value) (bool, bool) {
		if x, ok := a(v); !ok || x != and {
			return x, ok
		}
		return b(v)
	}}
}

// compare makes a condition of a comparison, nil if the operator is none.
func compare[T any](operator string, a, b func(v []dfs.Value) (T, bool), cmp func(x, y T) (int, bool)) *quick {
	var is func(c int) bool
	switch operator {
	case "==":
		is = func(c int) bool { return c == 0 }
	case "!=":
		is = func(c int) bool { return c != 0 }
	case "<":
		is = func(c int) bool { return c < 0 }
	case "<=":
		is = func(c int) bool { return c <= 0 }
	case ">":
		is = func(c int) bool { return c > 0 }
	case ">=":
		is = func(c int) bool { return c >= 0 }
	default:
		return nil
	}
	return &quick{bools: func(v []dfs.Value) (bool, bool) {
		x, ok := a(v)
		if !ok {
			return false, false
		}
		y, ok := b(v)
		if !ok {
			return false, false
		}
		c, ok := cmp(x, y)
		return is(c), ok
	}}
}

// operate makes a function of two others and of an operation that may not know.
func operate[T, R any](a, b func(v []dfs.Value) (T, bool), op func(x, y T) (R, bool)) func(v []dfs.Value) (R, bool) {
	return func(v []dfs.Value) (out R, ok bool) {
		x, ok := a(v)
		if !ok {
			return out, false
		}
		y, ok := b(v)
		if !ok {
			return out, false
		}
		return op(x, y)
	}
}

func quickText(operator string, a, b func(v []dfs.Value) (string, bool)) *quick {
	test := func(f func(s, t string) bool) *quick {
		return &quick{bools: operate(a, b, func(s, t string) (bool, bool) { return f(s, t), true })}
	}
	switch operator {
	case "+":
		return &quick{texts: operate(a, b, func(s, t string) (string, bool) { return s + t, true })}
	case "contains":
		return test(strings.Contains)
	case "startsWith":
		return test(strings.HasPrefix)
	case "endsWith":
		return test(strings.HasSuffix)
	}
	return compare(operator, a, b, func(s, t string) (int, bool) { return strings.Compare(s, t), true })
}

func quickDecimal(operator string, a, b func(v []dfs.Value) (convert.Small, bool)) *quick {
	switch operator {
	case "+":
		return &quick{decs: operate(a, b, convert.Small.Add)}
	case "-":
		return &quick{decs: operate(a, b, func(x, y convert.Small) (convert.Small, bool) { return x.Add(y.Neg()) })}
	case "*":
		return &quick{decs: operate(a, b, convert.Small.Mul)}
	}
	return compare(operator, a, b, convert.Small.Cmp)
}

func quickInt(operator string, a, b func(v []dfs.Value) (int64, bool)) *quick {
	exact := func(f func(a, b int) (int, bool)) *quick {
		return &quick{ints: operate(a, b, func(x, y int64) (int64, bool) {
			n, ok := f(int(x), int(y))
			return int64(n), ok
		})}
	}
	switch operator {
	case "+":
		return exact(addInts)
	case "-":
		return exact(subInts)
	case "*":
		return exact(mulInts)
	case "%":
		return &quick{ints: operate(a, b, func(x, y int64) (int64, bool) {
			if y == 0 {
				return 0, false
			}
			return x % y, true
		})}
	case "/":
		return &quick{floats: operate(a, b, func(x, y int64) (float64, bool) {
			if y == 0 {
				return 0, false
			}
			return float64(x) / float64(y), true
		})}
	}
	return compare(operator, a, b, func(x, y int64) (int, bool) {
		switch {
		case x < y:
			return -1, true
		case x > y:
			return 1, true
		}
		return 0, true
	})
}

func quickFloat(operator string, a, b func(v []dfs.Value) (float64, bool)) *quick {
	calculate := func(f func(x, y float64) float64) *quick {
		return &quick{floats: operate(a, b, func(x, y float64) (float64, bool) {
			z := f(x, y)
			return z, !math.IsInf(z, 0) && !math.IsNaN(z)
		})}
	}
	switch operator {
	case "+":
		return calculate(func(x, y float64) float64 { return x + y })
	case "-":
		return calculate(func(x, y float64) float64 { return x - y })
	case "*":
		return calculate(func(x, y float64) float64 { return x * y })
	case "/":
		return calculate(func(x, y float64) float64 { return x / y })
	}
	return compare(operator, a, b, func(x, y float64) (int, bool) {
		switch {
		case x < y:
			return -1, true
		case x > y:
			return 1, true
		}
		return 0, true
	})
}

// value gives what the expression gives as a Value, or is not ok. A decimal is
// written for a column decimal(precision, scale), or as it comes if precision is 0.
func (q *quick) value(v []dfs.Value, precision, scale int) (dfs.Value, bool) {
	switch {
	case q == nil:
	case q.ints != nil:
		n, ok := q.ints(v)
		return dfs.IntValue(n), ok
	case q.decs != nil:
		if d, ok := q.decs(v); ok {
			if precision == 0 {
				precision, scale = 65, d.Scale
			}
			return convert.SmallDecimal(d, precision, scale)
		}
	case q.texts != nil:
		s, ok := q.texts(v)
		return dfs.StringValue(s), ok
	case q.floats != nil:
		f, ok := q.floats(v)
		return dfs.FloatValue(f), ok
	case q.bools != nil:
		is, ok := q.bools(v)
		if is {
			return dfs.IntValue(1), ok
		}
		return dfs.IntValue(0), ok
	}
	return dfs.Value{}, false
}

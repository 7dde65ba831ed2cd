package dpu

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"reflect"
	"strconv"

	"github.com/dataflowsync/dfs/internal/convert"
	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/vm/runtime"
)

// intOperators and intFunctions are the arithmetic of integers. Functions of the
// environment with these types are called without an allocation.
var (
	intOperators = map[string]string{"+": "dfs_add_int", "-": "dfs_subtract_int", "*": "dfs_multiply_int"}
	intFunctions = map[string]func(a, b int) int{
		"dfs_add_int":      exact("+", addInts),
		"dfs_subtract_int": exact("-", subInts),
		"dfs_multiply_int": exact("*", mulInts),
	}
)

// exactInts makes calls of the arithmetic of integers. The library's own option
// for operators leaves the function's type out, and then calls by reflection.
type exactInts struct{}

func (exactInts) Visit(node *ast.Node) {
	b, ok := (*node).(*ast.BinaryNode)
	if !ok || b.Left.Type() != intType || b.Right.Type() != intType {
		return
	}
	name, ok := intOperators[b.Operator]
	if !ok {
		return
	}
	f := &ast.IdentifierNode{Value: name}
	f.SetType(reflect.TypeOf(intFunctions[name]))
	ast.Patch(node, &ast.CallNode{Callee: f, Arguments: []ast.Node{b.Left, b.Right}})
	(*node).SetType(intType)
}

var intType = reflect.TypeFor[int]()

// exact panics where the result is too large; the library makes an error of it.
func exact(operator string, f func(a, b int) (int, bool)) func(a, b int) int {
	return func(a, b int) int {
		n, ok := f(a, b)
		if !ok {
			panic(fmt.Errorf("%d %s %d is more than a bigint holds", a, operator, b))
		}
		return n
	}
}

// operators makes the arithmetic of expressions exact: that of integers fails
// where it would overflow, and that of DECIMALs has no limit.
func operators() []expr.Option {
	var options []expr.Option
	add := func(operator, name string, f func(params ...any) (any, error), types ...any) {
		options = append(options, expr.Operator(operator, name), expr.Function(name, f, types...))
	}
	for operator, op := range map[string]struct {
		name string
		decs func(a, b convert.Decimal) (convert.Decimal, error)
	}{
		"+": {"dfs_add", func(a, b convert.Decimal) (convert.Decimal, error) { return a.Add(b), nil }},
		"-": {"dfs_subtract", func(a, b convert.Decimal) (convert.Decimal, error) { return a.Sub(b), nil }},
		"*": {"dfs_multiply", func(a, b convert.Decimal) (convert.Decimal, error) { return a.Mul(b), nil }},
		"/": {"dfs_divide", func(a, b convert.Decimal) (convert.Decimal, error) {
			q, ok := a.Div(b)
			if !ok {
				return q, errors.New("division by zero")
			}
			return q, nil
		}},
	} {
		add(operator, op.name, func(params ...any) (any, error) {
			a, err := decimal(params[0])
			if err != nil {
				return nil, err
			}
			b, err := decimal(params[1])
			if err != nil {
				return nil, err
			}
			return op.decs(a, b)
		}, decimals[convert.Decimal]()...)
	}
	for operator, op := range map[string]struct {
		name string
		is   func(cmp int) bool
	}{
		"<": {"dfs_less", func(c int) bool { return c < 0 }}, "<=": {"dfs_less_equal", func(c int) bool { return c <= 0 }},
		">": {"dfs_more", func(c int) bool { return c > 0 }}, ">=": {"dfs_more_equal", func(c int) bool { return c >= 0 }},
		"==": {"dfs_same", func(c int) bool { return c == 0 }}, "!=": {"dfs_other", func(c int) bool { return c != 0 }},
	} {
		add(operator, op.name, func(params ...any) (any, error) {
			a, err := decimal(params[0])
			if err != nil {
				return nil, err
			}
			b, err := decimal(params[1])
			return err == nil && op.is(a.Cmp(b)), err
		}, decimals[bool]()...)
	}
	return append(options, expr.Patch(exactInts{}),
		expr.Function("dfs_equal", func(params ...any) (any, error) { return equal(params[0], params[1]), nil }, new(func(any, any) bool)),
		expr.Function("dfs_differ", func(params ...any) (any, error) { return !equal(params[0], params[1]), nil }, new(func(any, any) bool)))
}

// decimals lists the operands that make an operation one of DECIMALs.
func decimals[R any]() []any {
	return []any{
		new(func(convert.Decimal, convert.Decimal) R), new(func(convert.Decimal, int) R), new(func(int, convert.Decimal) R),
		new(func(convert.Decimal, float64) R), new(func(float64, convert.Decimal) R),
	}
}

// decimal takes a floating number as its shortest text, so that 1.2 in an
// expression is exactly that.
func decimal(x any) (convert.Decimal, error) {
	switch x := x.(type) {
	case convert.Decimal:
		return x, nil
	case int:
		return convert.DecimalOf(int64(x)), nil
	case float64:
		return convert.ParseDecimal(strconv.FormatFloat(x, 'f', -1, 64))
	}
	return convert.Decimal{}, fmt.Errorf("a %T is no number", x)
}

func equal(a, b any) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	_, x := a.(convert.Decimal)
	_, y := b.(convert.Decimal)
	if x || y {
		m, err1 := decimal(a)
		n, err2 := decimal(b)
		return err1 == nil && err2 == nil && m.Cmp(n) == 0
	}
	return runtime.Equal(a, b)
}

func addInts(a, b int) (int, bool) {
	n := a + b
	return n, (n > a) == (b > 0)
}

func subInts(a, b int) (int, bool) {
	n := a - b
	return n, (n < a) == (b > 0)
}

func mulInts(a, b int) (int, bool) {
	hi, lo := bits.Mul64(magnitude(a), magnitude(b))
	if negative := a < 0 != (b < 0); hi != 0 || !negative && lo > math.MaxInt64 || negative && lo > 1<<63 {
		return 0, false
	}
	return a * b, true
}

func magnitude(a int) uint64 {
	if a < 0 {
		return -uint64(a)
	}
	return uint64(a)
}

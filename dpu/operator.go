package dpu

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"reflect"
	"strconv"
	"strings"

	"github.com/dataflowsync/dfs/internal/convert"
	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/vm/runtime"
)

// intFunctions are the arithmetic of integers. Functions of the environment with
// these types are called without an allocation.
var intFunctions = map[string]func(a, b int) int{
	"dfs_add_int":      exact("+", addInts),
	"dfs_subtract_int": exact("-", subInts),
	"dfs_multiply_int": exact("*", mulInts),
}

// operatorNames are what operators are called in the names of functions.
var operatorNames = map[string]string{"+": "add", "-": "subtract", "*": "multiply", "/": "divide",
	"<": "less", "<=": "less_equal", ">": "more", ">=": "more_equal", "==": "equal", "!=": "differ"}

var (
	intType     = reflect.TypeFor[int]()
	floatType   = reflect.TypeFor[float64]()
	decimalType = reflect.TypeFor[convert.Decimal]()
	boolType    = reflect.TypeFor[bool]()
	anyType     = reflect.TypeFor[any]()
)

// typed makes calls of the operations whose operands are integers, or DECIMALs,
// as the checker knows. It is run until it finds nothing more, as an operand's
// type may only show once its own operations are calls. (The library's option for
// operators leaves a function's type out, and then calls by reflection.)
type typed struct{ applied bool }

// Reset and ShouldRepeat make the library repeat it.
func (t *typed) Reset()             { t.applied = false }
func (t *typed) ShouldRepeat() bool { return t.applied }

func (t *typed) call(node *ast.Node, name string, of, result reflect.Type, arguments ...ast.Node) {
	f := &ast.IdentifierNode{Value: name}
	if of != nil {
		f.SetType(of)
	}
	ast.Patch(node, &ast.CallNode{Callee: f, Arguments: arguments})
	(*node).SetType(result)
	t.applied = true
}

func (t *typed) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.UnaryNode:
		if n.Operator == "-" && n.Node.Type() == decimalType {
			t.call(node, "dfs_negate", nil, decimalType, n.Node)
		}
	case *ast.BinaryNode:
		l, r := n.Left.Type(), n.Right.Type()
		name := operatorNames[n.Operator]
		if l == intType && r == intType {
			if f := intFunctions["dfs_"+name+"_int"]; f != nil {
				t.call(node, "dfs_"+name+"_int", reflect.TypeOf(f), intType, n.Left, n.Right)
			}
			return
		}
		number := func(t reflect.Type) bool { return t == decimalType || t == intType || t == floatType }
		switch {
		case l != decimalType && r != decimalType || !number(l) || !number(r):
		case n.Operator == "??":
			t.call(node, "dfs_or_decimal", nil, decimalType, n.Left, n.Right)
		case name != "":
			result := boolType
			if strings.Contains("+-*/", n.Operator) {
				result = decimalType
			}
			t.call(node, "dfs_"+name+"_decimal", nil, result, n.Left, n.Right)
		}
	}
}

// untyped makes calls of the operations with an operand whose type only the row
// tells, such as a number in JSON, so that these are exact too. It waits until
// typed has found all it can.
type untyped struct {
	after   *typed
	applied bool
}

// Reset and ShouldRepeat make the library repeat it.
func (u *untyped) Reset()             { u.applied = false }
func (u *untyped) ShouldRepeat() bool { return u.applied }

func (u *untyped) Visit(node *ast.Node) {
	unknown := func(n ast.Node) bool {
		_, null := n.(*ast.NilNode)
		return !null && (n.Type() == nil || n.Type() == anyType)
	}
	if u.after.applied {
		return
	}
	call := func(name string, result reflect.Type, arguments ...ast.Node) {
		ast.Patch(node, &ast.CallNode{Callee: &ast.IdentifierNode{Value: name}, Arguments: arguments})
		(*node).SetType(result)
		u.applied = true
	}
	switch n := (*node).(type) {
	case *ast.UnaryNode:
		if n.Operator == "-" && unknown(n.Node) {
			call("dfs_negate_any", anyType, n.Node)
		}
	case *ast.BinaryNode:
		name := operatorNames[n.Operator]
		switch {
		case name == "" || !unknown(n.Left) && !unknown(n.Right):
		case strings.Contains("+-*/", n.Operator):
			call("dfs_"+name+"_any", anyType, n.Left, n.Right)
		default:
			call("dfs_"+name+"_any", boolType, n.Left, n.Right)
		}
	}
}

// recheck comes last. The checker takes the type of a call as it is, once it has
// one, and does not look at its arguments again, whose faults would only show at
// the first row.
type recheck struct{}

// Reset and ShouldRepeat make the library run it with the others that repeat.
func (recheck) Reset()             {}
func (recheck) ShouldRepeat() bool { return false }

func (recheck) Visit(node *ast.Node) {
	if c, ok := (*node).(*ast.CallNode); ok {
		c.SetType(anyType)
	}
}

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
	function := func(name string, f func(a, b any) (any, error), types ...any) {
		options = append(options, expr.Function("dfs_"+name, func(params ...any) (any, error) { return f(params[0], params[1]) }, types...))
	}
	for operator, name := range operatorNames {
		types := decimals[bool]()
		untyped := any(new(func(any, any) bool))
		if strings.Contains("+-*/", operator) {
			types, untyped = decimals[convert.Decimal](), any(new(func(any, any) any))
		}
		function(name+"_decimal", func(a, b any) (any, error) { return ofDecimals(operator, a, b) }, types...)
		function(name+"_any", func(a, b any) (any, error) { return ofAny(operator, a, b) }, untyped)
	}
	function("or_decimal", func(a, b any) (any, error) {
		if a == nil {
			a = b
		}
		return decimal(a)
	}, decimals[convert.Decimal]()...)
	first := new(typed)
	return append(options,
		expr.Function("dfs_negate", func(params ...any) (any, error) { return negate(params[0]) }, new(func(convert.Decimal) convert.Decimal)),
		expr.Function("dfs_negate_any", func(params ...any) (any, error) { return negate(params[0]) }, new(func(any) any)),
		expr.Patch(first), expr.Patch(&untyped{after: first}), expr.Patch(recheck{}))
}

func negate(x any) (any, error) {
	switch x := x.(type) {
	case convert.Decimal:
		return x.Neg(), nil
	case int:
		n, ok := subInts(0, x)
		if !ok {
			return nil, fmt.Errorf("-(%d) is more than a bigint holds", x)
		}
		return n, nil
	case nil:
		return nil, errors.New("NULL has no negative")
	}
	return runtime.Negate(x), nil
}

// ofDecimals computes with numbers of which one is a DECIMAL.
func ofDecimals(operator string, x, y any) (any, error) {
	a, err := decimal(x)
	if err != nil {
		return nil, err
	}
	b, err := decimal(y)
	if err != nil {
		return nil, err
	}
	switch operator {
	case "+":
		return a.Add(b), nil
	case "-":
		return a.Sub(b), nil
	case "*":
		return a.Mul(b), nil
	case "/":
		q, ok := a.Div(b)
		if !ok {
			return q, errors.New("division by zero")
		}
		return q, nil
	}
	return holds(operator, a.Cmp(b)), nil
}

// holds reports whether a comparison holds of two values that compare as cmp says.
func holds(operator string, cmp int) bool {
	switch operator {
	case "<":
		return cmp < 0
	case "<=":
		return cmp <= 0
	case ">":
		return cmp > 0
	case ">=":
		return cmp >= 0
	case "!=":
		return cmp != 0
	}
	return cmp == 0
}

// ofAny computes with what a row has, as the library would but for exact numbers.
func ofAny(operator string, a, b any) (any, error) {
	switch operator {
	case "==":
		return equal(a, b), nil
	case "!=":
		return !equal(a, b), nil
	}
	if a == nil || b == nil {
		return nil, fmt.Errorf("%v %s %v: there is nothing to compute with where a value is NULL or missing", null(a), operator, null(b))
	}
	_, x := a.(convert.Decimal)
	_, y := b.(convert.Decimal)
	if x || y {
		return ofDecimals(operator, a, b)
	}
	i, x := a.(int)
	j, y := b.(int)
	if f := intFunctions["dfs_"+operatorNames[operator]+"_int"]; f != nil && x && y {
		return f(i, j), nil
	}
	switch operator {
	case "+":
		return runtime.Add(a, b), nil
	case "-":
		return runtime.Subtract(a, b), nil
	case "*":
		return runtime.Multiply(a, b), nil
	case "/":
		return runtime.Divide(a, b), nil
	case "<":
		return runtime.Less(a, b), nil
	case "<=":
		return runtime.LessOrEqual(a, b), nil
	case ">":
		return runtime.More(a, b), nil
	}
	return runtime.MoreOrEqual(a, b), nil
}

func null(x any) any {
	if x == nil {
		return "NULL"
	}
	return x
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

package dpu

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/convert"
	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/types"
	"github.com/expr-lang/expr/vm"
)

// An expression is compiled for the columns of one table. It sees an integer as
// int, a DECIMAL as an exact number, a FLOAT or DOUBLE as float64, text and bytes
// and ENUM and SET as string, a DATE, DATETIME or TIMESTAMP as time.Time in UTC,
// a TIME as time.Duration, and JSON as what it holds.
type expression struct {
	text string
	prog *vm.Program
	deps []int // the columns it reads
	typ  string
	fast *quick // nil if the machine must run it
	vm   vm.VM
	env  map[string]any
	cols []dfs.Column
}

// parseExpr finds the faults of an expression that need no table.
func parseExpr(text string) error {
	_, err := parser.Parse(text)
	return exprError(err)
}

// exprError makes one line of the library's errors, which draw a pointer.
func exprError(err error) error {
	var at *file.Error
	if errors.As(err, &at) {
		return fmt.Errorf("%s, at character %d", at.Message, at.Column+1)
	}
	return err
}

// compileExpr compiles an expression over the columns; a condition must be a
// bool.
func compileExpr(text string, cols []dfs.Column, condition bool) (*expression, error) {
	e := &expression{text: text, env: make(map[string]any), cols: cols}
	tree, err := parser.Parse(text)
	if err != nil {
		return nil, exprError(err)
	}
	ast.Walk(&tree.Node, byName{})
	r := &reads{e: e}
	ast.Walk(&tree.Node, r)
	if len(r.errs) > 0 {
		return nil, errors.Join(r.errs...)
	}
	if err := r.guarded(tree.Node, condition, nil); err != nil {
		return nil, err
	}
	env := make(types.Map)
	for name, f := range intFunctions {
		env[name], e.env[name] = types.TypeOf(f), f
	}
	for i := range cols {
		v, err := typeIn(&cols[i])
		if err != nil && slices.Contains(e.deps, i) {
			return nil, err
		}
		env[cols[i].Name] = v
	}
	options := append([]expr.Option{expr.Env(env), expr.Patch(byName{}), expr.Patch(spelling{e})}, operators()...)
	options = append(options, sorted()...)
	options = append(options, expr.DisableBuiltin("now")) // the same input must give the same output
	if condition {
		options = append(options, expr.AsBool())
	}
	plain, err := expr.Compile(text, options...)
	if err != nil {
		return nil, exprError(err)
	}
	e.typ = typeFor(plain.Node().Type())
	if e.prog, err = expr.Compile(text, append(options, expr.Patch(equality{e}))...); err != nil {
		return nil, exprError(err)
	}
	e.fast = e.quickly(tree.Node)
	return e, nil
}

// reads collects the columns that an expression reads.
type reads struct {
	e    *expression
	errs []error
}

func (r *reads) Visit(node *ast.Node) {
	id, ok := (*node).(*ast.IdentifierNode)
	if !ok || strings.HasPrefix(id.Value, "#") {
		return
	}
	if id.Value == "$env" {
		r.errs = append(r.errs, errors.New(`$env stands alone; write a column's name after it, as in $env["unit price"]`))
	}
	if i := r.e.column(id.Value); i >= 0 && !slices.Contains(r.e.deps, i) {
		r.e.deps = append(r.e.deps, i)
	}
}

func (e *expression) column(name string) int {
	t := dfs.Table{Columns: e.cols}
	return t.Column(name)
}

// byName makes of $env["unit price"] what a name is that needs no quotes.
type byName struct{}

func (byName) Visit(node *ast.Node) {
	m, ok := (*node).(*ast.MemberNode)
	if !ok {
		return
	}
	id, ok1 := m.Node.(*ast.IdentifierNode)
	name, ok2 := m.Property.(*ast.StringNode)
	if ok1 && ok2 && id.Value == "$env" {
		ast.Patch(node, &ast.IdentifierNode{Value: name.Value})
	}
}

// sorted puts functions of one order in the place of those that give what a
// document holds in another order each time.
func sorted() []expr.Option {
	keys := func(x any) ([]string, map[string]any, error) {
		m, ok := x.(map[string]any)
		if !ok {
			return nil, nil, fmt.Errorf("a %T has no keys", x)
		}
		return slices.Sorted(maps.Keys(m)), m, nil
	}
	function := func(name string, of func(key string, value any) any) expr.Option {
		return expr.Function(name, func(params ...any) (any, error) {
			names, m, err := keys(params[0])
			list := make([]any, len(names))
			for i, name := range names {
				list[i] = of(name, m[name])
			}
			return list, err
		}, new(func(any) []any))
	}
	return []expr.Option{
		expr.DisableBuiltin("keys"), expr.DisableBuiltin("values"), expr.DisableBuiltin("toPairs"),
		function("keys", func(key string, _ any) any { return key }),
		function("values", func(_ string, value any) any { return value }),
		function("toPairs", func(key string, value any) any { return []any{key, value} }),
	}
}

// spelling gives columns the letter case that the table has.
type spelling struct{ e *expression }

func (s spelling) Visit(node *ast.Node) {
	if id, ok := (*node).(*ast.IdentifierNode); ok {
		if i := s.e.column(id.Value); i >= 0 {
			id.Value = s.e.cols[i].Name
		}
	}
}

// equality makes == and != of a column that may be NULL bear it: the library
// compares two ints as ints, and would fail.
type equality struct{ e *expression }

func (q equality) Visit(node *ast.Node) {
	b, ok := (*node).(*ast.BinaryNode)
	if !ok || b.Operator != "==" && b.Operator != "!=" {
		return
	}
	if q.e.nullable(b.Left) || q.e.nullable(b.Right) {
		name := "dfs_equal_any"
		if b.Operator == "!=" {
			name = "dfs_differ_any"
		}
		ast.Patch(node, &ast.CallNode{Callee: &ast.IdentifierNode{Value: name}, Arguments: []ast.Node{b.Left, b.Right}})
		(*node).SetType(reflect.TypeFor[bool]())
	}
}

// nullable reports whether the node is a column that may be NULL.
func (e *expression) nullable(n ast.Node) bool {
	id, ok := n.(*ast.IdentifierNode)
	if !ok {
		return false
	}
	i := e.column(id.Value)
	return i >= 0 && e.cols[i].Nullable && convert.KindOf(&e.cols[i]) != dfs.JSON
}

// guarded makes sure that no column is computed with that may be NULL there, so
// that this shows at the start and not at the first NULL. needed says that the
// node's value may not be NULL; known are columns that a condition has tested.
func (r *reads) guarded(n ast.Node, needed bool, known []string) error {
	all := func(needed bool, nodes ...ast.Node) error {
		for _, n := range nodes {
			if err := r.guarded(n, needed, known); err != nil {
				return err
			}
		}
		return nil
	}
	switch n := n.(type) {
	case *ast.IdentifierNode:
		if needed && r.e.nullable(n) && !slices.Contains(known, strings.ToLower(n.Value)) {
			return fmt.Errorf("the column %s may be NULL here: write (%s ?? 0), with a value that stands for NULL, or test %s != nil before",
				n.Value, n.Value, n.Value)
		}
	case *ast.BinaryNode:
		switch n.Operator {
		case "==", "!=":
			return all(false, n.Left, n.Right)
		case "??":
			if err := r.guarded(n.Left, false, known); err != nil {
				return err
			}
			return r.guarded(n.Right, needed, known)
		case "and", "&&", "or", "||":
			if err := r.guarded(n.Left, true, known); err != nil {
				return err
			}
			or := n.Operator == "or" || n.Operator == "||"
			return r.guarded(n.Right, true, append(slices.Clone(known), tested(n.Left, !or)...))
		}
		return all(true, n.Left, n.Right)
	case *ast.UnaryNode:
		return all(true, n.Node)
	case *ast.ConditionalNode:
		if err := r.guarded(n.Cond, true, known); err != nil {
			return err
		}
		if err := r.guarded(n.Exp1, needed, append(slices.Clone(known), tested(n.Cond, true)...)); err != nil {
			return err
		}
		return r.guarded(n.Exp2, needed, append(slices.Clone(known), tested(n.Cond, false)...))
	case *ast.BuiltinNode:
		return all(true, n.Arguments...)
	case *ast.CallNode:
		return all(true, n.Arguments...)
	case *ast.PredicateNode:
		return all(true, n.Node)
	case *ast.ArrayNode:
		return all(false, n.Nodes...)
	case *ast.MapNode:
		return all(false, n.Pairs...)
	case *ast.PairNode:
		return all(false, n.Key, n.Value)
	case *ast.MemberNode:
		return all(true, n.Node, n.Property)
	case *ast.ChainNode:
		return all(needed, n.Node)
	case *ast.SliceNode:
		nodes := []ast.Node{n.Node}
		for _, m := range [2]ast.Node{n.From, n.To} {
			if m != nil {
				nodes = append(nodes, m)
			}
		}
		return all(true, nodes...)
	case *ast.VariableDeclaratorNode:
		return errors.Join(all(true, n.Value), all(needed, n.Expr))
	case *ast.SequenceNode:
		return all(needed, n.Nodes...)
	}
	return nil
}

// tested returns the columns that are not NULL if the condition came out as it
// says.
func tested(cond ast.Node, outcome bool) []string {
	switch n := cond.(type) {
	case *ast.UnaryNode:
		if n.Operator == "not" || n.Operator == "!" {
			return tested(n.Node, !outcome)
		}
	case *ast.BinaryNode:
		switch {
		case outcome && (n.Operator == "and" || n.Operator == "&&"), !outcome && (n.Operator == "or" || n.Operator == "||"):
			return append(tested(n.Left, outcome), tested(n.Right, outcome)...)
		case n.Operator == "!=" && outcome, n.Operator == "==" && !outcome:
			id, ok := n.Left.(*ast.IdentifierNode)
			if _, null := n.Right.(*ast.NilNode); ok && null {
				return []string{strings.ToLower(id.Value)}
			}
		}
	}
	return nil
}

// typeIn returns the type that an expression sees a column as.
func typeIn(c *dfs.Column) (types.Type, error) {
	if len(c.Members) > 0 {
		return types.String, nil
	}
	switch convert.KindOf(c) {
	case dfs.Int64, dfs.Uint64:
		return types.Int, nil
	case dfs.Float32, dfs.Float64:
		return types.Float64, nil
	case dfs.Decimal:
		return types.TypeOf(convert.Decimal{}), nil
	case dfs.String:
		if !convert.IsUTF8(c.Charset) {
			return types.String, fmt.Errorf("the column %s is text in %s, which expressions do not read; use a function", c.Name, c.Charset)
		}
		return types.String, nil
	case dfs.Bytes:
		return types.String, nil
	case dfs.Date, dfs.DateTime, dfs.Timestamp:
		return types.TypeOf(time.Time{}), nil
	case dfs.Time:
		return types.TypeOf(time.Duration(0)), nil
	case dfs.JSON:
		return types.Any, nil
	}
	return types.Any, fmt.Errorf("the column %s has the type %s, which expressions do not read", c.Name, c.Type)
}

// typeFor returns the type of a column that holds what an expression gives, or
// "" if that is not known.
func typeFor(t reflect.Type) string {
	switch t {
	case nil:
		return ""
	case reflect.TypeFor[convert.Decimal]():
		return "decimal(65,30)"
	case reflect.TypeFor[time.Time]():
		return "datetime(6)"
	case reflect.TypeFor[time.Duration]():
		return "time(6)"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "tinyint(1)"
	case reflect.Int, reflect.Int64, reflect.Int32:
		return "bigint"
	case reflect.Float64:
		return "double"
	case reflect.String:
		return "text"
	case reflect.Slice, reflect.Map:
		return "json"
	}
	return ""
}

// test decides as the condition says about the values of deps.
func (e *expression) test(v []dfs.Value) (bool, error) {
	if e.fast != nil && e.fast.bools != nil {
		if is, ok := e.fast.bools(v); ok {
			return is, nil
		}
	}
	x, err := e.run(v)
	is, _ := x.(bool)
	return is, err
}

// value makes a value of those of deps. A decimal may be written for a column
// decimal(precision, scale), or as it comes if precision is 0.
func (e *expression) value(v []dfs.Value, precision, scale int) (dfs.Value, error) {
	if x, ok := e.fast.value(v, precision, scale); ok {
		return x, nil
	}
	x, err := e.run(v)
	if err != nil {
		return dfs.Value{}, err
	}
	return convert.Of(x)
}

// run gives the expression its columns' values, which are those of deps.
func (e *expression) run(v []dfs.Value) (any, error) {
	for k, i := range e.deps {
		x, err := fromValue(v[k], &e.cols[i])
		if err != nil {
			return nil, fmt.Errorf("reading column %s: %w", e.cols[i].Name, err)
		}
		e.env[e.cols[i].Name] = x
	}
	out, err := e.vm.Run(e.prog, e.env)
	if err != nil {
		return nil, exprError(err)
	}
	return out, nil
}

// fromValue returns a value as expressions see it.
func fromValue(v dfs.Value, c *dfs.Column) (any, error) {
	switch v.Kind() {
	case dfs.Null:
		return nil, nil
	case dfs.Int64, dfs.Uint64:
		if len(c.Members) > 0 {
			return convert.Member(v.Uint(), c.Members, strings.HasPrefix(c.Type, "set")), nil
		}
		n := int(v.Int())
		if int64(n) != v.Int() || v.Kind() == dfs.Uint64 && n < 0 {
			return nil, fmt.Errorf("%v is more than the integers of expressions; use a function", v)
		}
		return n, nil
	case dfs.Float32, dfs.Float64:
		return v.Float(), nil
	case dfs.Decimal:
		return convert.ParseDecimal(v.Text())
	case dfs.String, dfs.Bytes:
		return v.Text(), nil
	case dfs.JSON:
		return readJSON(v.Text())
	case dfs.Date, dfs.DateTime, dfs.Timestamp:
		t := v.Time()
		if t.IsZero() {
			return nil, fmt.Errorf("%v is no time; use a function", v)
		}
		return t, nil
	case dfs.Time:
		return v.Duration(), nil
	}
	return nil, fmt.Errorf("a %s is no value", v.Kind())
}

// readJSON keeps whole numbers exact.
func readJSON(text string) (any, error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	return plainNumbers(v), nil
}

func plainNumbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return int(n)
		}
		f, _ := v.Float64()
		return f
	case []any:
		for i := range v {
			v[i] = plainNumbers(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = plainNumbers(v[k])
		}
	}
	return v
}

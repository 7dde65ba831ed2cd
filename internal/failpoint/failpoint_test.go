package failpoint_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs/internal/failpoint"
)

// The table and the code have the same points.
func TestEachPointIsInTheCodeAndEachInTheCodeIsListed(t *testing.T) {
	listed := make(map[string]bool)
	for _, p := range failpoint.Points {
		require.False(t, listed[p.Name], "%s is listed twice", p.Name)
		require.NotEmpty(t, p.What, p.Name)
		listed[p.Name] = true
	}
	found := make(map[string]bool)
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && path != root) {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			f, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || f.Sel.Name != "Hit" {
				return true
			}
			if pkg, ok := f.X.(*ast.Ident); !ok || pkg.Name != "failpoint" {
				return true
			}
			lit, ok := call.Args[0].(*ast.BasicLit)
			require.True(t, ok, "%s: the name of a failpoint must stand there, so that it can be found", path)
			name, err := strconv.Unquote(lit.Value)
			require.NoError(t, err)
			require.True(t, listed[name], "%s: failpoint %q is not in the table of package failpoint", path, name)
			found[name] = true
			return true
		})
		return nil
	})
	require.NoError(t, err)
	for name := range listed {
		require.True(t, found[name], "failpoint %q is listed, and nowhere in the code", name)
	}
}

// What programs have in place of failpoints costs nothing.
func TestProgramsHaveNoFailpoints(t *testing.T) {
	require.False(t, failpoint.On)
	require.Zero(t, testing.AllocsPerRun(100, func() { failpoint.Hit("queue.commit") }))
}

func BenchmarkHit(b *testing.B) {
	for b.Loop() {
		failpoint.Hit("queue.commit")
	}
}

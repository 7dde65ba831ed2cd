package dfs_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/dataflowsync/dfs/internal/config"
	"github.com/stretchr/testify/require"
)

// block returns a file's first fenced block of a language that holds what.
func block(t *testing.T, file, language, what string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	for _, part := range strings.Split(string(text), "```"+language+"\n")[1:] {
		if code, _, ok := strings.Cut(part, "```"); ok && strings.Contains(code, what) {
			return code
		}
	}
	t.Fatalf("%s has no %s block with %q", file, language, what)
	return ""
}

func TestTheReadmesProgramIsTheExample(t *testing.T) {
	example, err := os.ReadFile("examples/embed/main.go")
	require.NoError(t, err)
	require.Contains(t, string(example), block(t, "README.md", "go", "cdc.Open"))
}

func TestTheGuidesMonitorIsTheExample(t *testing.T) {
	example, err := os.ReadFile("monitor/example_test.go")
	require.NoError(t, err)
	require.Contains(t, strings.Replace(string(example), "127.0.0.1:0", "127.0.0.1:8080", 1), block(t, "docs/GUIDE.md", "go", "monitor.Open"))
}

func TestTheReadmesConfigurationIsValid(t *testing.T) {
	env := func(string) (string, bool) { return "x", true }
	_, err := config.Parse("README.md", []byte(block(t, "README.md", "yaml", "source:")), env)
	require.NoError(t, err)
}

// What documents name is there: files that they link to, packages, files and tests of
// docs/DESIGN.md. And no package is left out of that.
func TestDocumentsNameWhatIsThere(t *testing.T) {
	files := make(map[string]bool) // by path, and by base name
	packages := make(map[string]bool)
	tests := make(map[string]bool)
	name := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)`)
	require.NoError(t, filepath.WalkDir(".", func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a file of another test, which runs meanwhile
		}
		if err != nil {
			return err
		}
		if e.IsDir() {
			if path != "." && strings.HasPrefix(e.Name(), ".") {
				return fs.SkipDir
			}
			return nil
		}
		path = filepath.ToSlash(path)
		files[path], files[filepath.Base(path)] = true, true
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		packages[filepath.ToSlash(filepath.Dir(path))] = true
		b, err := os.ReadFile(path)
		for _, m := range name.FindAllStringSubmatch(string(b), -1) {
			tests[m[1]] = true
		}
		return err
	}))
	link := regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	named := regexp.MustCompile("`([\\w./-]+\\.(?:go|sh))`")
	test := regexp.MustCompile(`\b((?:Test|Fuzz|Benchmark)[A-Z]\w+)(\.\.\.)?`)
	for _, file := range []string{"README.md", "CHANGELOG.md", "docs/GUIDE.md", "docs/DESIGN.md", "docs/RELIABILITY.md", "docs/BENCHMARKS.md", "docs/TYPES.md", "examples/basic/README.md"} {
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, m := range link.FindAllStringSubmatch(string(b), -1) {
			_, err := os.Stat(filepath.Join(filepath.Dir(file), m[1]))
			require.NoError(t, err, "%s links to it", file)
		}
		if file == "CHANGELOG.md" {
			continue // it may name what was there once
		}
		for _, m := range named.FindAllStringSubmatch(string(b), -1) {
			require.True(t, files[m[1]] || files[filepath.Base(m[1])], "%s names the file %s, which is not there", file, m[1])
		}
		for _, m := range test.FindAllStringSubmatch(string(b), -1) {
			there := tests[m[1]]
			for other := range tests {
				there = there || m[2] != "" && strings.HasPrefix(other, m[1])
			}
			require.True(t, there, "%s names the test %s, which is not there", file, m[1])
		}
	}
	design, err := os.ReadFile("docs/DESIGN.md")
	require.NoError(t, err)
	for dir := range packages {
		require.True(t, dir == "." || strings.Contains(string(design), dir), "docs/DESIGN.md, section 5, does not have the package %s", dir)
	}
}

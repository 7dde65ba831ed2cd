package dfs_test

import (
	"os"
	"strings"
	"testing"

	"github.com/dataflowsync/dfs/internal/config"
	"github.com/stretchr/testify/require"
)

// block returns the README's first fenced block of a language that holds what.
func block(t *testing.T, language, what string) string {
	t.Helper()
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	for _, part := range strings.Split(string(readme), "```"+language+"\n")[1:] {
		if code, _, ok := strings.Cut(part, "```"); ok && strings.Contains(code, what) {
			return code
		}
	}
	t.Fatalf("README.md has no %s block with %q", language, what)
	return ""
}

func TestTheReadmesProgramIsTheExample(t *testing.T) {
	example, err := os.ReadFile("examples/embed/main.go")
	require.NoError(t, err)
	require.Contains(t, string(example), block(t, "go", "cdc.Open"))
}

func TestTheReadmesMonitorIsTheExample(t *testing.T) {
	example, err := os.ReadFile("monitor/example_test.go")
	require.NoError(t, err)
	require.Contains(t, strings.Replace(string(example), "127.0.0.1:0", "127.0.0.1:8080", 1), block(t, "go", "monitor.Open"))
}

func TestTheReadmesConfigurationIsValid(t *testing.T) {
	env := func(string) (string, bool) { return "x", true }
	_, err := config.Parse("README.md", []byte(block(t, "yaml", "source:")), env)
	require.NoError(t, err)
}

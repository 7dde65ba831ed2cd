package testenv

import (
	"os"
	"path/filepath"
	"testing"
)

// Browser returns the path of Chromium, which scripts/servers.sh has fetched. A
// test that needs it fails without it.
func Browser(t testing.TB) string {
	t.Helper()
	path := filepath.Join(Kind("chromium").folder(), "bin", "chromium")
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("there is no browser: %v; run scripts/servers.sh chromium", err)
	}
	return path
}

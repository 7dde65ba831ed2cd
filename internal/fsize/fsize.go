//go:build unix

// Package fsize lets tests see what happens when files cannot grow.
package fsize

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

const inChild = "DFS_FSIZE_TEST"

// Alone returns true in a process that does nothing but this test. Elsewhere it runs
// the test in such a process, as a limit of the size of files is one for all of a
// process's files, also for the log in which `go test` notes what the tests have
// opened; fails if that fails; and returns false.
func Alone(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inChild) == t.Name() {
		return true
	}
	args := []string{"-test.run=^" + strings.ReplaceAll(t.Name(), "/", "$/^") + "$", "-test.v"}
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), inChild+"="+t.Name())
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()+" ") {
		t.Fatalf("%v\n%s", err, out)
	}
	return false
}

// Limit calls f while files can grow no further than n bytes: a write beyond that is
// done up to there, and fails. The process must be that of Alone.
func Limit(t *testing.T, n int64, f func()) {
	t.Helper()
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	set := func(l syscall.Rlimit) {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &l); err != nil {
			t.Fatal(err)
		}
	}
	low := old
	low.Cur = uint64(n)
	set(low)
	defer set(old)
	f()
}

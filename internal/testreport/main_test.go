package main

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func run(lines ...string) (string, bool) {
	var out strings.Builder
	ok := report(strings.NewReader(strings.Join(lines, "\n")), &out)
	return out.String(), ok
}

const (
	pass    = `{"Action":"pass","Package":"a","Test":"TestA","Elapsed":0.1}`
	done    = `{"Action":"pass","Package":"a","Elapsed":0.2}`
	noFiles = `{"Action":"skip","Package":"b","Elapsed":0}`
)

func TestAllPassed(t *testing.T) {
	out, ok := run(pass, done, noFiles)
	require.True(t, ok)
	require.Contains(t, out, "tests: 1 passed, 0 failed, 0 skipped\n")
}

func TestASkippedTestFails(t *testing.T) {
	out, ok := run(pass,
		`{"Action":"output","Package":"a","Test":"TestB","Output":"no server here\n"}`,
		`{"Action":"skip","Package":"a","Test":"TestB"}`, done)
	require.False(t, ok)
	require.Contains(t, out, "skipped: a TestB\nno server here\n")
}

func TestNoTestFails(t *testing.T) {
	out, ok := run(noFiles)
	require.False(t, ok)
	require.Contains(t, out, "no test ran")
}

func TestAFailedTestIsShown(t *testing.T) {
	out, ok := run(pass,
		`{"Action":"output","Package":"a","Test":"TestB","Output":"want 1, got 2\n"}`,
		`{"Action":"fail","Package":"a","Test":"TestB"}`,
		`{"Action":"fail","Package":"a"}`)
	require.False(t, ok)
	require.Contains(t, out, "a TestB\nwant 1, got 2\n")
}

func TestAPackageThatDoesNotBuildFails(t *testing.T) {
	out, ok := run(pass, done,
		`{"ImportPath":"c","Action":"build-output","Output":"c.go:1: syntax error\n"}`,
		`{"ImportPath":"c","Action":"build-fail"}`)
	require.False(t, ok)
	require.Contains(t, out, "syntax error")
}

func TestAPanicOutsideOfTestsFails(t *testing.T) {
	_, ok := run(pass, `{"Action":"output","Package":"a","Output":"panic: out of luck\n"}`,
		`{"Action":"fail","Package":"a","Elapsed":0.2}`)
	require.False(t, ok)
}

// A time-out is told at the cost of the test that ran last, and that has no end. Nothing
// of it was shown.
func TestATimeOutIsShown(t *testing.T) {
	out, ok := run(pass, `{"Action":"run","Package":"a","Test":"TestB"}`,
		`{"Action":"output","Package":"a","Test":"TestB","Output":"panic: test timed out after 20m0s\n"}`,
		`{"Action":"run","Package":"ab","Test":"TestC"}`,
		`{"Action":"output","Package":"ab","Test":"TestC","Output":"still at it\n"}`,
		`{"Action":"output","Package":"a","Output":"FAIL a 1200.1s\n"}`,
		`{"Action":"fail","Package":"a","Elapsed":1200.1}`)
	require.False(t, ok)
	require.Contains(t, out, "has not ended: a TestB\npanic: test timed out after 20m0s\nFAIL a 1200.1s\n")
	require.NotContains(t, out, "still at it")
}

func Example() {
	report(strings.NewReader(pass+"\n"+done+"\n"), os.Stdout)
	// Output:
	// pass  a                                                      0.2s
	// tests: 1 passed, 0 failed, 0 skipped
}

func TestTheLongestTestsAreListedInOrder(t *testing.T) {
	out, _ := run(pass,
		`{"Action":"pass","Package":"a","Test":"TestC","Elapsed":2}`,
		`{"Action":"pass","Package":"a","Test":"TestB/part","Elapsed":9}`,
		`{"Action":"pass","Package":"a","Test":"TestB","Elapsed":10}`, done)
	require.Regexp(t, `(?s)longest.*10\.0s  a TestB\n +2\.0s  a TestC\ntests: 4 passed`, out)
	require.NotContains(t, out, "TestA")
}

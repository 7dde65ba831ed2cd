// Command testreport reads the output of "go test -json" from standard input
// and prints what a person wants to know of it: a line for each package, all that a
// failing test has said, and which tests took longest.
//
// It exits with 1 if a test has failed, and also if one was skipped or none has
// run: a test that needs a server must find it, and a suite that tests nothing
// must not pass.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

func main() {
	if !report(os.Stdin, os.Stdout) {
		os.Exit(1)
	}
}

// An event is what cmd/test2json writes. ImportPath is set in place of Package
// where a package does not build.
type event struct {
	Action, Package, ImportPath, Test, Output string
	Elapsed                                   float64
}

// showLongest is how many of the longest tests are listed.
const showLongest = 25

// report copies r to w, condensed, and reports whether tests ran and all passed.
func report(r io.Reader, w io.Writer) bool {
	var passed, failed, skipped, broken int
	output := make(map[string]*strings.Builder) // by package and test, of those that have not ended
	var longest []event
	in := bufio.NewScanner(r)
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		var e event
		if json.Unmarshal(in.Bytes(), &e) != nil {
			fmt.Fprintln(w, in.Text()) // the go command's own words
			continue
		}
		name := e.Package + " " + e.Test
		said := output[name]
		if said == nil {
			said = new(strings.Builder)
			output[name] = said
		}
		switch e.Action {
		case "output":
			said.WriteString(e.Output)
			continue
		case "build-output":
			fmt.Fprint(w, e.Output)
			continue
		case "build-fail":
			broken++
			continue
		case "pass", "fail", "skip":
		default:
			continue
		}
		delete(output, name)
		if e.Test != "" && !strings.Contains(e.Test, "/") && e.Elapsed >= 1 {
			longest = append(longest, e)
		}
		switch {
		case e.Test == "" && e.Action == "skip": // no test files
		case e.Test == "":
			fmt.Fprintf(w, "%-4s  %-50s %7.1fs\n", e.Action, e.Package, e.Elapsed)
			if e.Action == "fail" {
				// Tests that have no end, and among them the one at whose cost a time-out is told.
				for _, test := range slices.Sorted(maps.Keys(output)) {
					if strings.HasPrefix(test, name) {
						fmt.Fprintf(w, "has not ended: %s\n%s", test, output[test])
						delete(output, test)
					}
				}
				fmt.Fprint(w, said) // what belongs to no test
				broken++
			}
		case e.Action == "pass":
			passed++
		case e.Action == "fail":
			failed++
			fmt.Fprintf(w, "%s %s\n%s", e.Package, e.Test, said)
		case e.Action == "skip":
			skipped++
			fmt.Fprintf(w, "skipped: %s %s\n%s", e.Package, e.Test, said)
		}
	}
	if err := in.Err(); err != nil {
		fmt.Fprintln(w, "read test output:", err)
		broken++
	}
	slices.SortStableFunc(longest, func(a, b event) int { return cmp.Compare(b.Elapsed, a.Elapsed) })
	for i, e := range longest[:min(len(longest), showLongest)] {
		if i == 0 {
			fmt.Fprintln(w, "the tests that took longest, with what they waited for:")
		}
		fmt.Fprintf(w, "%7.1fs  %s %s\n", e.Elapsed, e.Package, e.Test)
	}
	fmt.Fprintf(w, "tests: %d passed, %d failed, %d skipped\n", passed, failed, skipped)
	switch {
	case skipped > 0:
		fmt.Fprintln(w, "a skipped test counts as failed: it has not shown what it is there to show")
	case passed == 0:
		fmt.Fprintln(w, "no test ran")
	}
	return passed > 0 && failed+broken+skipped == 0
}

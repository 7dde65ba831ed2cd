//go:build unix

package scenario

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/dataflowsync/dfs/internal/same"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write want.txt anew where there is one")

func TestMain(m *testing.M) { testenv.Main(m) }

// A pair is a source and a target.
type pair struct {
	name           string
	source, target testenv.Kind
}

var pairs = []pair{
	{"5.6-9.7", testenv.MySQL56, testenv.MySQL97},
	{"9.7-9.7", testenv.MySQL97, testenv.MySQL97},
	{"maria-maria", testenv.MariaDB, testenv.MariaDB},
	{"9.7-maria", testenv.MySQL97, testenv.MariaDB},
	{"maria-9.7", testenv.MariaDB, testenv.MySQL97},
}

// kindNames are the servers' names in scripts.
var kindNames = map[testenv.Kind]string{testenv.MySQL56: "5.6", testenv.MySQL97: "9.7", testenv.MariaDB: "maria"}

// TestScenarios runs each folder on each pair that has what it is about, and
// prints which that were.
func TestScenarios(t *testing.T) {
	folders, err := loadFolders()
	require.NoError(t, err)
	var mu sync.Mutex
	ran := make(map[string]map[string]string)
	for _, f := range folders {
		ran[f.name] = make(map[string]string)
	}
	came := func(f *folder, p pair, to string) {
		mu.Lock()
		defer mu.Unlock()
		ran[f.name][p.name] = to
	}
	// Servers that make and drop schemas wait for their disks most of the time, so
	// pairs run beside each other, each with servers of its own.
	t.Run("pairs", func(t *testing.T) {
		for i, p := range pairs {
			t.Run(p.name, func(t *testing.T) {
				t.Parallel()
				source, target := newSide(t, p.source), newSide(t, p.target)
				for k, f := range folders {
					if !f.runsOn(p) {
						continue
					}
					t.Run(f.name, func(t *testing.T) {
						came(f, p, "failed")
						r := &run{t: t, f: f, p: p, source: source, target: target,
							queue: (i+k)%2 == 0, sqlOnly: i%2 == k/2%2}
						r.all()
						if !t.Failed() {
							came(f, p, "equal")
						}
					})
				}
			})
		}
	})
	t.Log("\n" + matrix(folders, ran))
	if flag.Lookup("test.run").Value.String() == "" {
		for _, f := range folders {
			require.NotEmpty(t, ran[f.name], "no pair runs the scenario %s", f.name)
		}
	}
}

// matrix is a table of what ran where.
func matrix(folders []*folder, ran map[string]map[string]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-28s", "")
	for _, p := range pairs {
		fmt.Fprintf(&b, " %-11s", p.name)
	}
	b.WriteByte('\n')
	for _, f := range folders {
		fmt.Fprintf(&b, "%-28s", f.name)
		for _, p := range pairs {
			what := ran[f.name][p.name]
			if what == "" {
				what = "-"
			}
			fmt.Fprintf(&b, " %-11s", what)
		}
		if f.Why != "" {
			b.WriteString(" " + f.Why)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// all runs the scenario from the first statement to the comparison.
func (r *run) all() {
	r.prepare()
	r.script(r.f.source)
	r.finish()
	if r.f.failure == nil {
		r.compare()
	}
	r.wants()
}

// compare compares all tables.
func (r *run) compare() {
	res, err := same.Compare(r.t.Context(), r.source.db, r.target.db, same.Options{
		Schemas: r.f.Schemas, To: r.f.To, Ignore: r.f.Ignore,
		Structure: r.f.Structure && r.p.source == r.p.target,
	})
	require.NoError(r.t, err)
	for _, d := range res.Differences {
		r.t.Error(d)
	}
	require.NotZero(r.t, res.Tables, "there is nothing to compare")
}

// wants runs the queries of want.sql, which must print the same on both sides,
// and what want.txt has if it is there. Where the pipeline was to fail they are
// asked of the target alone.
func (r *run) wants() {
	if r.f.want == "" {
		return
	}
	got := r.target.answers(r.t, r.f, r.f.want, r.to(r.f.Schemas[0]))
	if r.f.failure == nil {
		require.Equal(r.t, r.source.answers(r.t, r.f, r.f.want, r.f.Schemas[0]), got, "source, and target")
	}
	if r.f.text == "" {
		return
	}
	if *update {
		require.NoError(r.t, os.WriteFile(filepath.Join("testdata", r.f.name, "want.txt"), []byte(got), 0o644))
		return
	}
	require.Equal(r.t, r.f.text, got, "want.txt, and target")
}

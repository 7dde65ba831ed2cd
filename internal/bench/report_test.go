//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// runs returns samples that took the given milliseconds.
func runs(ms ...int) []sample {
	var s []sample
	for _, n := range ms {
		s = append(s, sample{Wall: time.Duration(n) * time.Millisecond, Self: 500 * time.Millisecond,
			Target: time.Second, Machine: 4 * time.Second, Idle: 2 * time.Second, RSS: 40 << 20})
	}
	return s
}

func sampleReport() *report {
	return &report{
		Machine: "some processor", Cores: 2, Kernel: "6.0", Go: "go1.26", Server: "9.7.4", opts: &options{},
		Runs: []*runInfo{{Date: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Version: "abc", Command: "make bench", Scale: 0.5, Rounds: 3, Load: "0.1 0.2 0.3"}},
		Backlogs: []*result{{
			Name: "single", Title: "single-row transactions", Server: "9.7.4", Durability: strict, Txs: 10_000, Rows: 10_000, Bytes: 5 << 20,
			Lines: []*line{
				{Name: "dfs", Title: "DFS, end to end", Samples: runs(500, 400, 1000)},
				{Name: "native", Title: "replica | other", Samples: runs(5000, 2000, 4000)},
				{Name: "best", Title: "replica, 8 workers (its best)", Samples: runs(400, 400, 400), Workers: 8, Tried: []tried{{4, 2000}, {8, 25000}, {1, 0}}},
			},
		}, {
			Name: "long", Title: "a long backlog", Server: "9.7.4", Durability: strict, Txs: 10_000, Rows: 10_000, Bytes: 5 << 20,
			Lines: []*line{
				{Name: "capture", Title: "capture", Samples: []sample{{Wall: 20 * time.Millisecond}}},
				{Name: "gomysql", Title: "go-mysql", Samples: []sample{{Wall: 60 * time.Millisecond}}},
			},
		}},
		Latencies: []*latencyResult{{
			Name: "dfs", Rate: 499, Transactions: 3,
			P50: spread{2, 1, 3}, P95: spread{60, 60, 60}, P99: spread{60, 20, 70}, Max: spread{60, 60, 80}, Last: runs(1)[0],
		}},
	}
}

func TestReport(t *testing.T) {
	require.Equal(t, `single: single-row transactions
(10,000 transactions, 10,000 rows, 5 MB of log; durability 1/1; 9.7.4)
                                                  rows/s   x 4 workers       x its best   CPU s   µs/row   CPU s target   µs/row, all   idle %   peak MiB
  DFS, end to end                 20,000 (10,000–25,000)      5 (4–10)      0.8 (0.4–1)    0.50       50           1.00           150       50         40
  replica | other                    2,500 (2,000–5,000)             1   0.1 (0.08–0.2)    0.50       50           1.00           150       50         40
  replica, 8 workers (its best)   25,000 (25,000–25,000)   10 (5–12.5)                1    0.50       50           1.00           150       50         40
  counts of workers tried, rows/s: 1: less; 4: 2,000; 8: 25,000

long: a long backlog
(10,000 transactions, 10,000 rows, 5 MB of log; durability 1/1; 9.7.4)
              rows/s   x go-mysql
  capture    500,000            3
  go-mysql   166,667            1

latency: from commit to visible, single-row transactions, 500 a second
(ms)
                        p50          p95          p99   max   transactions
  DFS, end to end   2 (1–3)   60 (60–60)   60 (20–70)    80              3

goals
(median of the rounds; memory is that of the worst round; measured at SCALE=0.5)
                                                                           wanted          reached
  single, end to end against the native replica with 4 workers              ≥ 20x        5x (4–10)   not met
  capture to durable queue, single-row transactions              ≥ 600,000 rows/s   500,000 rows/s   not met
  capture to durable queue against go-mysql's decode                         ≥ 5x               3x   not met
  commit to visible at 500 transactions/s, p50                             ≤ 2 ms       2 ms (1–3)       met
  commit to visible at 500 transactions/s, p99                            ≤ 10 ms    60 ms (20–70)   not met
  pace of the source while latency was measured                           ≥ 475/s            499/s       met
  single, end to end against the native replica with 4 workers: contender 12 %, target 25 %, source 0 %, rest of the machine 12 %, idle 50 %
  commit to visible at 500 transactions/s, p99: contender 12 %, target 25 %, source 0 %, rest of the machine 12 %, idle 50 %

where DFS is slower than the replica
                                                     DFS, rows/s          replica, rows/s             x
  single, replica, 8 workers (its best)   20,000 (10,000–25,000)   25,000 (25,000–25,000)   0.8 (0.4–1)
  single, DFS: contender 12 %, target 25 %, source 0 %, rest of the machine 12 %, idle 50 %

2 cores (some processor), Linux 6.0, go1.26, MySQL 9.7.4; all processes on these cores
2026-01-02 03:04: make bench, SCALE=0.5, 3 rounds, in turn, load before it 0.1 0.2 0.3, DFS at abc
figures are the median, with the least and the greatest round; the targets have a binary log and 512 MB of buffer pool; durability is the target's sync_binlog/innodb_flush_log_at_trx_commit; after each replay its rows equal the source's
`, string(sampleReport().text()))
}

func TestReportAsMarkdownAndJSON(t *testing.T) {
	r := sampleReport()
	r.opts = &options{json: true, md: filepath.Join(t.TempDir(), "report.md")}
	out, err := os.Create(filepath.Join(t.TempDir(), "report.json"))
	require.NoError(t, err)
	defer out.Close()
	require.NoError(t, r.print(out))

	md, err := os.ReadFile(r.opts.md)
	require.NoError(t, err)
	require.Contains(t, string(md), "|  | rows/s | x 4 workers | x its best | CPU s | µs/row | CPU s target | µs/row, all | idle % | peak MiB |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n")
	require.Contains(t, string(md), "\n    make bench\n")
	require.Contains(t, string(md), `| replica \| other | 2,500 (2,000–5,000) |`)

	b, err := os.ReadFile(out.Name())
	require.NoError(t, err)
	var got struct {
		Runs     []runInfo
		Backlogs []result
		Goals    []goal
	}
	require.NoError(t, json.Unmarshal(b, &got))
	require.Equal(t, *r.Runs[0], got.Runs[0])
	require.Equal(t, *r.Backlogs[0].Lines[0], *got.Backlogs[0].Lines[0])
	require.Equal(t, r.goals(), got.Goals)
}

// What is read from a file of -save is all that was measured.
func TestAReportCanBeReadAgain(t *testing.T) {
	r := sampleReport()
	r.Copy = &copyResult{Writes: 500, Beats: 7, P50: 1, P99: 2500, Max: 3000}
	r.Verify = &verifyResult{Rows: 10, Checksum: spread{1}, Verify: spread{2}, Ratio: spread{2}, Found: 3}
	r.Archive = []*archiveResult{{Name: "long", Rows: 10, Log: 100, Bytes: 20, Rate: spread{250_000}, CPU: spread{1}}}
	r.Maps = &mapsResult{Few: mapLine{Keys: 10, Open: spread{1}, Rate: spread{2}, Fill: spread{1}, First: spread{1}, RSS: spread{1}},
		Many: mapLine{Keys: 100, Open: spread{1}, Rate: spread{1}, Fill: spread{1}, First: spread{1}, RSS: spread{1}}}
	dir := t.TempDir()
	first, second := filepath.Join(dir, "first.json"), filepath.Join(dir, "second.json")
	r.opts = &options{save: first}
	require.NoError(t, r.print(io.Discard))
	got, err := readReport(&options{from: []string{first}})
	require.NoError(t, err)
	require.Equal(t, string(r.text()), string(got.text()))

	// Of several files the last that has a part counts, and other parts are added.
	more := sampleReport()
	more.MariaDB, more.Latencies = "10.11", nil
	more.Backlogs[0].Lines[0].Samples = runs(100, 100, 100)
	more.Backlogs[1].Name = "hot"
	more.opts = &options{save: second}
	require.NoError(t, more.print(io.Discard))
	got, err = readReport(&options{from: []string{first, second}})
	require.NoError(t, err)
	require.Equal(t, "10.11", got.MariaDB)
	require.Len(t, got.Runs, 2)
	require.Len(t, got.Latencies, 1)
	var names []string
	for _, res := range got.Backlogs {
		names = append(names, res.Name)
	}
	require.Equal(t, []string{"single", "hot", "long"}, names)
	require.Equal(t, 100*time.Millisecond, got.Backlogs[0].line("dfs").Samples[0].Wall)

	// What does not belong together is refused.
	more.Kernel = "7.0"
	require.NoError(t, more.print(io.Discard))
	_, err = readReport(&options{from: []string{first, second}})
	require.ErrorContains(t, err, "second.json: it is of another machine")
	require.NoError(t, os.WriteFile(second, []byte("{}"), 0o644))
	_, err = readReport(&options{from: []string{second}})
	require.ErrorContains(t, err, "not written by -save")
}

// Where a peer is quicker the report says so, whether that was a goal or not.
func TestTheReportSaysWhereDFSIsSlower(t *testing.T) {
	r := sampleReport()
	r.Latencies = append(r.Latencies, &latencyResult{Name: "native", Rate: 499, P50: spread{1}, P95: spread{1}, P99: spread{70}, Max: spread{80}})
	require.Equal(t, [][]string{
		{"single, replica, 8 workers (its best)", "20,000 (10,000–25,000)", "25,000 (25,000–25,000)", "0.8 (0.4–1)"},
		{"commit to visible, p50", "2 ms (1–3)", "1 ms", "0.5"},
	}, r.behind().rows)
	require.Contains(t, string(r.short()), "| single-row transactions | 1/1 | 20,000 (10,000–25,000) | 2,500 (2,000–5,000) | **5x** (4–10) | 25,000 (25,000–25,000) [8] | **0.8x** (0.4–1) |")
}

func TestTheMarkedPartOfAFileIsReplaced(t *testing.T) {
	got, err := replaceBlock([]byte("a\n"+blockBegin+"\nold\n"+blockEnd+"\nb\n"), []byte("new\n"))
	require.NoError(t, err)
	require.Equal(t, "a\n"+blockBegin+"\n\nnew\n\n"+blockEnd+"\nb\n", string(got))
	for _, bad := range []string{"", blockBegin, blockEnd + blockBegin, blockBegin + blockEnd + blockBegin} {
		_, err := replaceBlock([]byte(bad), nil)
		require.ErrorContains(t, err, "between which the figures go")
	}
}

// The documents have the figures of docs/benchmarks.json, and no others.
func TestDocumentsAreMadeOfTheResults(t *testing.T) {
	t.Chdir("../..")
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	if _, err := os.Stat("docs/benchmarks.json"); errors.Is(err, fs.ErrNotExist) {
		// Then there are no documents of it either, but there is a place for them.
		require.NoFileExists(t, "docs/BENCHMARKS.md")
		_, err := replaceBlock(readme, nil)
		require.NoError(t, err)
		return
	}
	r, err := readReport(&options{from: []string{"docs/benchmarks.json"}})
	require.NoError(t, err)
	r.opts = &options{md: "docs/BENCHMARKS.md", svg: "docs/img/benchmarks.svg", readme: "README.md"}
	block, err := replaceBlock(readme, r.short())
	require.NoError(t, err)
	for file, want := range map[string][]byte{"README.md": block, r.opts.md: r.markdown(), r.opts.svg: r.chart()} {
		got, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, string(want), string(got), "%s is not what make benchdocs writes", file)
	}
}

// What is written by hand about goals is about goals that there are, and said while they are not met.
func TestLimitsAreThoseOfGoalsThatAreNotMet(t *testing.T) {
	r, err := readReport(&options{from: []string{"../../docs/benchmarks.json"}})
	require.NoError(t, err)
	sections := strings.Split(limitsText, "\n### ")[1:]
	require.NotEmpty(t, sections)
	for _, section := range sections {
		name, _, _ := strings.Cut(section, "\n")
		require.True(t, slices.ContainsFunc(r.goals(), func(g goal) bool { return strings.HasPrefix(g.What, name) }), "no goal begins with %q", name)
	}

	got := sampleReport().limits()
	require.Contains(t, got, "\n### capture to durable queue against go-mysql's decode\n\n")
	require.NotContains(t, got, "archive of fifty")
	require.Empty(t, (&report{}).limits())
}

// A peer that is slow has one round only, with which all of DFS's are compared.
func TestRoundsThatAPeerDoesNotHaveAreComparedWithItsLast(t *testing.T) {
	dfs, slow := &line{Samples: []sample{{Wall: time.Second}, {Wall: 2 * time.Second}}}, &line{Samples: []sample{{Wall: 30 * time.Second}}}
	require.Equal(t, spread{30, 15}, dfs.ratios(slow))
	require.True(t, slow.lasts(longRound))
	require.False(t, dfs.lasts(longRound))
}

func TestMemoryGoalsGoByTheWorstRound(t *testing.T) {
	s := runs(1, 1)
	s[0].RSS = 200 << 20
	r := &report{Backlogs: []*result{
		{Name: "drain", Bytes: 1 << 30, Lines: []*line{{Name: "dfs", Samples: s}}},
		{Name: "large", Rows: 1_000_001, Lines: []*line{{Name: "dfs", Samples: s}}},
	}}
	goals := r.goals()
	require.Len(t, goals, 2)
	require.Equal(t, "memory while draining 1,024 MB of log", goals[0].What)
	require.False(t, goals[0].OK)
	require.Equal(t, "memory for a transaction of 1,000,000 rows", goals[1].What)
	require.True(t, goals[1].OK)
}

func TestQuantile(t *testing.T) {
	var v []time.Duration
	for i := range 1000 {
		v = append(v, time.Duration(i+1))
	}
	require.Equal(t, time.Duration(500), quantile(v, 0.5))
	require.Equal(t, time.Duration(990), quantile(v, 0.99))
	require.Equal(t, time.Duration(1000), quantile(v, 1))
	require.Equal(t, time.Duration(1), quantile(v, 0))
	require.Zero(t, quantile(nil, 0.5))
}

func TestFigures(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.5: "0.5", 9.999: "10", 12.34: "12.3", 100: "100", 1234567: "1,234,567"} {
		require.Equal(t, want, figure(v))
	}
	require.Equal(t, "999", count(999))
	require.Equal(t, "1,000", count(1000))
}

func TestLastGTID(t *testing.T) {
	require.Equal(t, "u:9", lastGTID("u:1-9"))
	require.Equal(t, "u:9", lastGTID("u:1-3:5-9"))
	require.Equal(t, "u:9", lastGTID("u:1-3:9"))
	require.Equal(t, "0-1-9", lastGTID("0-1-9"))
	require.Equal(t, 9, number("u:1-3:5-9"))
	require.Equal(t, 9, number("0-1-9"))
}

func TestFlags(t *testing.T) {
	t.Setenv("SCALE", "0.5")
	o, err := parseFlags([]string{"-only", "single,dfs"})
	require.NoError(t, err)
	require.Equal(t, 0.5, o.scale)
	require.True(t, o.wants("single", partNames()))
	require.False(t, o.wants("batch", partNames()))
	require.True(t, o.wants("dfs", contenderNames()))
	require.False(t, o.wants("native", contenderNames()))

	// Parts that have none of the contenders that are named are left out.
	parts := func(only string) []string {
		o, err := parseFlags([]string{"-only", only})
		require.NoError(t, err)
		return o.parts()
	}
	require.Equal(t, []string{"sinks"}, parts("postgres,sqlite"))
	require.Equal(t, []string{"single", "single-relaxed"}, parts("canal"))
	require.Equal(t, []string{"single"}, parts("single,capture")) // named, though not by default
	require.Equal(t, []string{"batch", "hot"}, parts("batch,hot"))
	require.Equal(t, []string{"archive"}, parts("archive"))
	require.NotContains(t, parts("dfs"), "batch") // only by its name
	require.Contains(t, parts("dfs"), "mariadb")
	_, err = parseFlags([]string{"-only", "mariadb,postgres"})
	require.ErrorContains(t, err, "leaves nothing")
	require.False(t, func() bool { o, _ := parseFlags([]string{"-only", "mariadb"}); return o.needsMySQL() }())

	o, err = parseFlags(nil)
	require.NoError(t, err)
	require.Equal(t, []int{4, 8, 16, 2, 1}, o.workerCounts())

	o, err = parseFlags([]string{"-scale", "1", "-only", "native"})
	require.NoError(t, err)
	require.Equal(t, 1.0, o.scale)
	require.True(t, o.wants("batch", partNames()))

	_, err = parseFlags([]string{"-scale", "0", "-rounds", "0", "-only", "singel", "-workers", "4,0", "more"})
	for _, fault := range []string{"scale is 0", "rounds is 0", `"singel"`, `"more"`, `-workers has "0"`} {
		require.ErrorContains(t, err, fault)
	}

	// The command that is told leaves out where the results went.
	o, err = parseFlags([]string{"-save", "/somewhere/x.json", "-only", "single", "-rounds", "2"})
	require.NoError(t, err)
	require.Equal(t, `SCALE=0.5 make bench ARGS="-only single -rounds 2"`, o.command)
	_, err = parseFlags([]string{"-from", "x.json", "-rounds", "2"})
	require.ErrorContains(t, err, "-rounds would do nothing")
	t.Setenv("SCALE", "half")
	_, err = parseFlags(nil)
	require.ErrorContains(t, err, `SCALE is "half"`)
}

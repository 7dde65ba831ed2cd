package monitor

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/queue"
	"github.com/dataflowsync/dfs/sink"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// metricNames returns the names of all metrics of a pipeline from a server to a
// server: those of the engine, and those of its parts and a journal.
func metricNames(t *testing.T) (engine, all []string) {
	descs := make(chan *prometheus.Desc, 100)
	engineMetrics{}.Describe(descs)
	close(descs)
	name := regexp.MustCompile(`fqName: "([^"]+)"`)
	for d := range descs {
		engine = append(engine, name.FindStringSubmatch(d.String())[1])
	}
	all = slices.Clone(engine)
	q, err := queue.Open(filepath.Join(t.TempDir(), "q"), nil)
	require.NoError(t, err)
	defer q.Close()
	for part, m := range map[string]dfs.Measurer{"source": new(cdc.Source), "queue": q, "sink": new(sink.MySQL), "journal": openJournal(t, "", nil)} {
		for _, v := range m.Measures() {
			n := "dfs_" + part + "_" + v.Name
			if v.Counter {
				n += "_total"
			}
			all = append(all, n)
		}
	}
	return engine, all
}

// The dashboard and the alert rules speak of metrics that are there, and of all that
// the engine has.
func TestDashboardAndAlertsKnowTheMetrics(t *testing.T) {
	engine, all := metricNames(t)
	token := regexp.MustCompile(`\bdfs_[a-z_]+\b`)
	used := map[string]bool{}
	check := func(where, text string) {
		t.Helper()
		require.Equal(t, strings.Count(text, "("), strings.Count(text, ")"), where)
		require.Equal(t, strings.Count(text, "{"), strings.Count(text, "}"), where)
		names := token.FindAllString(text, -1)
		for _, n := range names {
			require.Contains(t, all, n, "%s: %s", where, text)
			used[n] = true
		}
		require.True(t, len(names) > 0 || strings.Contains(text, "process_") || strings.Contains(text, "go_"), "%s: %s", where, text)
	}

	b, err := os.ReadFile("../docs/alerts.yaml")
	require.NoError(t, err)
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	d := yaml.NewDecoder(strings.NewReader(string(b)))
	d.KnownFields(true)
	var strict struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	require.NoError(t, d.Decode(&strict))
	require.NoError(t, yaml.Unmarshal(b, &rules))
	var names []string
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			check(r.Alert, r.Expr)
			require.Contains(t, []string{"page", "ticket"}, r.Labels["severity"], r.Alert)
			require.NotEmpty(t, r.Annotations["summary"], r.Alert)
			require.NotEmpty(t, r.Annotations["description"], r.Alert)
			names = append(names, r.Alert)
		}
	}
	// What an alarm is about must be in one.
	for _, n := range []string{"dfs_health", "dfs_ready", "dfs_lag_seconds", "dfs_source_silent_seconds", "dfs_catch_up_seconds", "dfs_source_purge_seconds",
		"dfs_source_purged", "dfs_retries_total", "dfs_rejected_transactions_total", "dfs_warnings", "dfs_queue_full", "dfs_sink_conflicts_total",
		"dfs_journal_failing", "dfs_journal_dropped_transactions_total", "dfs_source_clock_offset_seconds"} {
		require.True(t, used[n], "no alert is about %s", n)
	}
	// Rules that point to others name those that there are.
	for _, n := range regexp.MustCompile(`\bDFS[A-Z][A-Za-z]+`).FindAllString(string(b), -1) {
		require.Contains(t, names, n)
	}

	b, err = os.ReadFile("../docs/grafana.json")
	require.NoError(t, err)
	var dash struct {
		Panels []struct {
			ID      int
			Type    string
			Title   string
			Desc    string `json:"description"`
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr string }
		}
	}
	require.NoError(t, json.Unmarshal(b, &dash))
	ids := map[int]bool{}
	for i, p := range dash.Panels {
		require.False(t, ids[p.ID], "two panels have the id %d", p.ID)
		ids[p.ID] = true
		require.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, p.Title)
		for _, o := range dash.Panels[:i] {
			a, b := p.GridPos, o.GridPos
			require.False(t, a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H, "%s lies over %s", p.Title, o.Title)
		}
		if p.Type == "row" {
			continue
		}
		require.NotEmpty(t, p.Desc, p.Title)
		require.NotEmpty(t, p.Targets, p.Title)
		for _, target := range p.Targets {
			check(p.Title, target.Expr)
		}
	}
	for _, n := range engine {
		require.True(t, used[n], "neither dashboard nor alerts show %s", n)
	}
}

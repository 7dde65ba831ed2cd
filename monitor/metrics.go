package monitor

import (
	"maps"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// register adds the metrics to the registry.
func (h *Handler) register() error {
	h.metrics = []prometheus.Collector{engineMetrics{h}, partMetrics{h}}
	if h.opts.Registry == nil {
		h.opts.Registry = prometheus.NewRegistry()
		h.metrics = append(h.metrics, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	}
	for i, c := range h.metrics {
		if err := h.opts.Registry.Register(c); err != nil {
			for _, c := range h.metrics[:i] {
				h.opts.Registry.Unregister(c)
			}
			return err
		}
	}
	return nil
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("dfs_"+name, help, append([]string{"pipeline"}, labels...), nil)
}

var (
	healthDesc   = desc("health", "1 for the health that the pipeline is in: good, behind, waiting, held or failed.", "health")
	readyDesc    = desc("ready", "1 while the pipeline runs and keeps up.")
	lagDesc      = desc("lag_seconds", "How far the target is behind the source, by the time of commits; not less than the time since the source was last heard.")
	heardDesc    = desc("source_silent_seconds", "Time since the source was last known to be there.")
	waitingDesc  = desc("waiting_transactions", "Transactions read and not yet applied.")
	catchUpDesc  = desc("catch_up_seconds", "Time that the target needs for what waits, at the pace of the last minute; +Inf if it does not come nearer.")
	seqDesc      = desc("seq", "Number of the last transaction stored or applied.", "leg")
	committedAt  = desc("committed_timestamp_seconds", "When the last transaction stored or applied was committed at the source.", "leg")
	latencyDesc  = desc("latency_seconds", "From the commit of the last transaction at the source until it was stored or applied.", "leg")
	runningDesc  = desc("running", "1 while the leg carries transactions.", "leg")
	txDesc       = desc("transactions_total", "Transactions stored or applied, parts of large ones counted one by one, since Run began.", "leg")
	bytesDesc    = desc("bytes_total", "Bytes of transactions stored or applied, since Run began.", "leg")
	retriesDesc  = desc("retries_total", "Waits after errors that may pass, since Run began.", "leg")
	rowsDesc     = desc("rows_total", "Rows by table, since Run began; \"(others)\" are the tables beyond the limit.", "table", "what")
	rejectedDesc = desc("rejected_transactions_total", "Transactions that were stepped over, since Run began.")
)

// engineMetrics are what the engine counts.
type engineMetrics struct{ h *Handler }

// Describe names all metrics.
func (m engineMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{healthDesc, readyDesc, lagDesc, heardDesc, waitingDesc, catchUpDesc, seqDesc, committedAt,
		latencyDesc, runningDesc, txDesc, bytesDesc, retriesDesc, rowsDesc, rejectedDesc} {
		out <- d
	}
}

// Collect looks at the pipelines.
func (m engineMetrics) Collect(out chan<- prometheus.Metric) {
	for _, name := range m.h.names {
		m.h.lines[name].collect(out)
	}
}

func (w *watched) collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{w.name}, labels...)...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), append([]string{w.name}, labels...)...)
	}
	stats := w.p.Stats()
	w.mu.Lock()
	st, heard, at := w.state, w.heard, w.last.at
	w.mu.Unlock()
	for _, hl := range []Health{Good, Behind, Waiting, Held, Failed} {
		gauge(healthDesc, is(hl == st.Health), string(hl))
	}
	gauge(readyDesc, is(st.ready()))
	gauge(lagDesc, st.LagSeconds)
	gauge(heardDesc, at.Sub(heard).Seconds())
	gauge(waitingDesc, float64(waiting(stats)))
	catchUp := inf
	if st.CatchUpSeconds != nil {
		catchUp = *st.CatchUpSeconds
	}
	gauge(catchUpDesc, catchUp)
	counter(rejectedDesc, stats.Apply.RejectedTransactions)
	legs := map[string]dfs.Leg{"apply": stats.Apply}
	if w.p.Queue != nil {
		legs["capture"] = stats.Capture
	}
	for name, l := range legs {
		gauge(seqDesc, float64(l.At.Seq), name)
		if !l.Committed.IsZero() {
			gauge(committedAt, float64(l.Committed.UnixMicro())/1e6, name)
			gauge(latencyDesc, l.Latency.Seconds(), name)
		}
		gauge(runningDesc, is(l.State == dfs.Running), name)
		counter(txDesc, l.Transactions, name)
		counter(bytesDesc, l.Bytes, name)
		counter(retriesDesc, l.Retries, name)
	}
	var others dfs.TableStats
	tables := slices.Sorted(maps.Keys(stats.Tables))
	for i, table := range tables {
		t := stats.Tables[table]
		if i >= w.h.opts.MaxTables {
			others.Received, others.Applied, others.Rejected = others.Received+t.Received, others.Applied+t.Applied, others.Rejected+t.Rejected
			continue
		}
		table = strings.ToValidUTF8(table, "�")
		counter(rowsDesc, t.Received, table, "received")
		counter(rowsDesc, t.Applied, table, "applied")
		counter(rowsDesc, t.Rejected, table, "rejected")
	}
	if len(tables) > w.h.opts.MaxTables {
		counter(rowsDesc, others.Received, "(others)", "received")
		counter(rowsDesc, others.Applied, "(others)", "applied")
		counter(rowsDesc, others.Rejected, "(others)", "rejected")
	}
}

// partMetrics are what the parts measure by themselves. Which they are is not
// known before.
type partMetrics struct{ h *Handler }

// Describe names nothing, so that a registry takes whatever comes.
func (partMetrics) Describe(chan<- *prometheus.Desc) {}

// Collect asks the parts.
func (m partMetrics) Collect(out chan<- prometheus.Metric) {
	for _, name := range m.h.names {
		for _, p := range m.h.lines[name].parts() {
			kind, number, _ := strings.Cut(p.Name, " ")
			for _, v := range p.Measures {
				d, t := desc(kind+"_"+v.Name, v.Help+".", "number"), prometheus.GaugeValue
				if v.Counter {
					d, t = desc(kind+"_"+v.Name+"_total", v.Help+".", "number"), prometheus.CounterValue
				}
				out <- prometheus.MustNewConstMetric(d, t, v.Value, name, number)
			}
		}
	}
}

func is(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

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
	if h.opts.Journal != nil {
		h.metrics = append(h.metrics, journalMetrics{h.opts.Journal})
	}
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
	warningsDesc = desc("warnings", "What people should look at although the pipeline runs.")
	purgeDesc    = desc("source_purge_seconds", "Time until the source may delete what has not been read; negative if it may at any moment, +Inf if never.")
	keepsDesc    = desc("source_keeps_seconds", "How long the source keeps a file of its log that has ended; +Inf if for ever.")
	purgedDesc   = desc("source_purged", "1 if the source has deleted a part of its log that was not read.")
	unreadDesc   = desc("source_unread_transactions", "Transactions of the source's log that have not been read, followed or not.")
	unreadBytes  = desc("source_unread_bytes", "Bytes of the source's log that have not been read.")
	clockDesc    = desc("source_clock_offset_seconds", "How far the source's clock is ahead of this host's.")
	clockError   = desc("source_clock_error_seconds", "How far the offset of the clock may be off.")
	probedDesc   = desc("source_probe_timestamp_seconds", "When the source last told about itself.")
	rejectedDesc = desc("rejected_transactions_total", "Transactions that were stepped over, since Run began.")
	lettersDesc  = desc("dead_letters", "Dead letters that are parked, or about to be applied.", "state")
	letterAge    = desc("dead_letters_oldest_timestamp_seconds", "When the oldest dead letter that waits came.")
)

// engineMetrics are what the engine counts.
type engineMetrics struct{ h *Handler }

// Describe names all metrics.
func (m engineMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{healthDesc, readyDesc, lagDesc, heardDesc, waitingDesc, catchUpDesc, seqDesc, committedAt,
		latencyDesc, runningDesc, txDesc, bytesDesc, retriesDesc, rowsDesc, rejectedDesc, lettersDesc, letterAge, warningsDesc, purgeDesc, keepsDesc, purgedDesc, unreadDesc,
		unreadBytes, clockDesc, clockError, probedDesc} {
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
	for _, hl := range []Health{Good, Warned, Behind, Waiting, Held, Failed} {
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
	if w.p.Letters != nil {
		gauge(lettersDesc, float64(stats.Letters.Parked), "parked")
		gauge(lettersDesc, float64(stats.Letters.Retrying), "retrying")
		if !stats.Letters.Oldest.IsZero() {
			gauge(letterAge, float64(stats.Letters.Oldest.UnixMicro())/1e6)
		}
	}
	gauge(warningsDesc, float64(len(st.Warnings)))
	if s := st.Source; s != nil && !s.At.IsZero() {
		gauge(probedDesc, float64(s.At.UnixMicro())/1e6)
		gauge(clockDesc, s.ClockOffset)
		gauge(clockError, s.ClockError)
		gauge(purgedDesc, is(s.Purged))
		switch {
		case s.PurgeIn != nil:
			gauge(purgeDesc, *s.PurgeIn)
			if s.Keeps != nil {
				gauge(keepsDesc, *s.Keeps)
			}
		case s.PurgeKnown:
			gauge(purgeDesc, inf)
			gauge(keepsDesc, inf)
		}
		if s.Unread != nil {
			gauge(unreadDesc, float64(*s.Unread))
		}
		if s.UnreadBytes != nil {
			gauge(unreadBytes, float64(*s.UnreadBytes))
		}
	}
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
	// Names that are no UTF-8 may become the same.
	counts := make(map[string]dfs.TableStats, len(stats.Tables))
	for table, t := range stats.Tables {
		table = strings.ToValidUTF8(table, "�")
		c := counts[table]
		counts[table] = dfs.TableStats{Received: c.Received + t.Received, Applied: c.Applied + t.Applied, Rejected: c.Rejected + t.Rejected}
	}
	tables := slices.Sorted(maps.Keys(counts))
	for i, table := range tables {
		t := counts[table]
		if i >= w.h.opts.MaxTables {
			others.Received, others.Applied, others.Rejected = others.Received+t.Received, others.Applied+t.Applied, others.Rejected+t.Rejected
			continue
		}
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

// Collect asks the parts. Two kinds of sink may tell of one thing in other words, which
// Prometheus does not take: the first that comes is right for all.
func (m partMetrics) Collect(out chan<- prometheus.Metric) {
	helps := make(map[string]string)
	for _, name := range m.h.names {
		for _, p := range m.h.lines[name].parts() {
			kind, number, _ := strings.Cut(p.Name, " ")
			for _, v := range p.Measures {
				full, t := kind+"_"+v.Name, prometheus.GaugeValue
				if v.Counter {
					full, t = full+"_total", prometheus.CounterValue
				}
				if _, ok := helps[full]; !ok {
					helps[full] = v.Help + "."
				}
				d := desc(full, helps[full], "number")
				metric, err := prometheus.NewConstMetric(d, t, v.Value, name, number)
				if err != nil { // such as a name with a space
					metric = prometheus.NewInvalidMetric(d, err)
				}
				out <- metric
			}
		}
	}
}

// journalMetrics are what a journal counts. It may be that of several pipelines.
type journalMetrics struct{ j *Journal }

// Describe names nothing, as partMetrics does.
func (journalMetrics) Describe(chan<- *prometheus.Desc) {}

// Collect asks the journal.
func (m journalMetrics) Collect(out chan<- prometheus.Metric) {
	for _, v := range m.j.Measures() {
		name, t := "dfs_journal_"+v.Name, prometheus.GaugeValue
		if v.Counter {
			name, t = name+"_total", prometheus.CounterValue
		}
		out <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, v.Help+".", nil, nil), t, v.Value)
	}
}

func is(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

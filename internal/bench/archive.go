//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/sink"
)

// archivePart names the measurement of an archive.
const archivePart = "archive"

// archived are the backlogs that are kept in an archive.
var archived = []string{"long", "fifty"}

// An archiveResult is what it took to keep a backlog in an archive.
type archiveResult struct {
	Name  string `json:"name"`
	Rows  int    `json:"rows"`
	Log   int64  `json:"log_bytes"` // of the source's binary log
	Bytes int64  `json:"bytes"`     // of the archive
	Rate  spread `json:"rows_per_second"`
	CPU   spread `json:"cpu_s"`
}

func (a *archiveResult) share() float64 { return 100 * float64(a.Bytes) / float64(a.Log) }

// measureArchive lets DFS keep the backlog in an archive, on the disk.
func (l *lab) measureArchive(ctx context.Context, b *backlog, r *report) error {
	res := &archiveResult{Name: b.name, Rows: b.rows, Log: b.bytes}
	for round := range l.opts.rounds {
		dir := filepath.Join(l.dir, fmt.Sprintf("archive-%s-%d", b.name, round))
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		x := &trial{lab: l, source: b.site.source, workers: nativeWorkers, backlog: b, dir: dir}
		if l.opts.profile != "" {
			x.profile = filepath.Join(l.opts.profile, fmt.Sprintf("%s-archive-%d.cpu", b.name, round+1))
		}
		s, err := replayChild("archive")(ctx, x)
		if err != nil {
			return err
		}
		segments, err := filepath.Glob(filepath.Join(x.path("queue"), "segment-*"))
		if err != nil {
			return err
		}
		res.Bytes = 0
		for _, name := range segments {
			info, err := os.Stat(name)
			if err != nil {
				return err
			}
			res.Bytes += info.Size()
		}
		res.Rate, res.CPU = append(res.Rate, s.rate(b.rows)), append(res.CPU, s.Self.Seconds())
		say("%s: archive: %s rows/s, %s bytes, %.1f %% of the log's %s", b.name, count(s.rate(b.rows)), count(float64(res.Bytes)), res.share(), count(float64(b.bytes)))
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	r.Archive = append(r.Archive, res)
	return nil
}

// archive stores the backlog in an archive, and then reads it back to count its rows.
func (j *job) archive(ctx context.Context) error {
	src, err := cdc.Open(ctx, j.Source, &cdc.Options{Tables: j.Tables, Start: "gtid:" + j.From})
	if err != nil {
		return err
	}
	a, err := sink.OpenArchive(j.Queue, nil)
	if err != nil {
		return err
	}
	stored, cancel := context.WithCancel(ctx)
	defer cancel()
	w := &watchedArchive{Archive: a, last: j.Last, stored: cancel}
	p := &dfs.Pipeline{Source: src, Sink: w}
	if err := begin(); err != nil {
		return err
	}
	stop, err := j.startProfile()
	if err != nil {
		return err
	}
	w.meter = startMeter(j.PID, 0)
	if err := p.Run(stored); err != nil {
		return err
	}
	if w.at == nil {
		return errors.New("the run stopped before the end of the backlog")
	}
	if err := stop(); err != nil {
		return err
	}
	return end(*w.at, func() (rows int, err error) {
		err = a.Each(ctx, dfs.StopPoint{}, dfs.StopPoint{}, src.Decode, func(tx *dfs.Transaction) error {
			rows += len(tx.Changes)
			return nil
		})
		return rows, errors.Join(err, a.Close(), src.Close())
	})
}

// A watchedArchive tells when it has stored a transaction.
type watchedArchive struct {
	*sink.Archive
	last   string
	meter  *meter
	at     *sample // what was measured until then; stopping does not count
	stored func()
}

func (w *watchedArchive) Apply(ctx context.Context, batch []*dfs.Transaction) error {
	last := slices.ContainsFunc(batch, func(tx *dfs.Transaction) bool { return tx.ID == w.last && !tx.More })
	err := w.Archive.Apply(ctx, batch)
	if last && err == nil {
		s := w.meter.stop()
		w.at = &s
		w.stored()
	}
	return err
}

// archiveTable returns what was measured.
func archiveTable(list []*archiveResult) table {
	t := table{title: "archive: the source's log into sealed and compressed segments, each commit on the disk",
		head: []string{"", "rows/s", "CPU s", "log MB", "archive MB", "% of the log"}}
	mb := func(n int64) string { return fmt.Sprintf("%.1f", float64(n)/1e6) }
	for _, a := range list {
		t.rows = append(t.rows, []string{a.Name, a.Rate.text(count), fmt.Sprintf("%.2f", a.CPU.median()), mb(a.Log), mb(a.Bytes), fmt.Sprintf("%.1f", a.share())})
	}
	return t
}

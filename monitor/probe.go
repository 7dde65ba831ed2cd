package monitor

import (
	"context"
	"fmt"
	"time"

	"github.com/dataflowsync/dfs"
)

// probeTime bounds what one question to a source's server may take.
const probeTime = 20 * time.Second

// A Source is what the source's server told about itself when it was asked last.
type Source struct {
	At    time.Time `json:"at"`
	Error string    `json:"error"` // why it could not be asked since; the rest is then of At

	// ClockOffset is how far its clock is ahead of this host's, and ClockError how
	// far that may be off.
	ClockOffset float64 `json:"clock_offset_seconds"`
	ClockError  float64 `json:"clock_error_seconds"`

	Unread      *int64 `json:"unread"`       // transactions of its log that have not been read; null: not known
	UnreadBytes *int64 `json:"unread_bytes"` // null: not known

	Purged     bool     `json:"purged"`           // a part of that is gone
	PurgeKnown bool     `json:"purge_known"`      // until when it is kept could be found out
	PurgeIn    *float64 `json:"purge_in_seconds"` // until it may be deleted; null: never, or not known
	Keeps      *float64 `json:"keeps_seconds"`    // how long files of the log are kept; null: for ever, or not known
	Active     bool     `json:"active"`           // it is all in the file that is being written
}

// A probed is the latest answer of a source. It is guarded by watched.mu.
type probed struct {
	dfs.Probe
	some bool
	err  error
}

// probe asks the source about itself now and then, until the Handler is closed.
func (w *watched) probe(source dfs.Prober, stop <-chan struct{}) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	tick := time.NewTicker(w.h.opts.probeEvery)
	defer tick.Stop()
	for {
		w.askSource(ctx, source)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (w *watched) askSource(ctx context.Context, source dfs.Prober) {
	s := w.p.Stats()
	at := s.Apply.At.Pos
	if w.p.Queue != nil && s.Capture.At.Pos != "" {
		at = s.Capture.At.Pos
	}
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	p, err := source.Probe(ctx, at)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.probed.err = err; err == nil {
		w.probed.Probe, w.probed.some = p, true
	}
}

// source returns what is known of the source, or nil. w.mu is held.
func (w *watched) source() *Source {
	p := &w.probed
	if !p.some && p.err == nil {
		return nil
	}
	s := &Source{At: p.At.UTC(), ClockOffset: p.ClockOffset.Seconds(), ClockError: p.ClockError.Seconds(), Purged: p.Purged, PurgeKnown: p.PurgeKnown, Active: p.Active}
	if p.err != nil {
		s.Error = w.h.redact(p.err.Error())
	}
	if !p.some {
		return s
	}
	if n := p.Unread; n >= 0 {
		s.Unread = &n
	}
	if n := p.UnreadBytes; n >= 0 {
		s.UnreadBytes = &n
	}
	seconds := func(d time.Duration) *float64 { v := d.Seconds(); return &v }
	if p.PurgeKnown && p.PurgeIn != dfs.Never {
		s.PurgeIn = seconds(p.PurgeIn)
	}
	if p.Keeps > 0 && p.Keeps != dfs.Never {
		s.Keeps = seconds(p.Keeps)
	}
	return s
}

// longPurge is what of the time that the source keeps its log must be left.
const longPurge = 4 // a fourth

// warnings returns what people should look at although the pipeline runs. w.mu is
// held.
func (w *watched) warnings(catchUp *float64) []string {
	list := []string{}
	p := &w.probed
	switch until := p.PurgeIn; {
	case !p.some:
	case p.Purged:
		list = append(list, "The source has deleted a part of its log that was not read. What was in it is lost to this pipeline: copy the tables anew.")
	case !p.PurgeKnown || p.Active || until == dfs.Never:
	case until <= 0:
		list = append(list, "The source may delete what has not been read at any moment. Let it keep its log longer (binlog_expire_logs_seconds) until this has caught up.")
	case until < p.Keeps/longPurge || catchUp != nil && until.Seconds() < *catchUp:
		list = append(list, fmt.Sprintf("The source may delete what has not been read in %s. Let it keep its log longer (binlog_expire_logs_seconds), or see why reading is so far behind.", about(until)))
	}
	if off := p.ClockOffset; p.some && off.Abs() > 5*time.Second+p.ClockError {
		how := "ahead of"
		if off < 0 {
			how = "behind"
		}
		list = append(list, fmt.Sprintf("The source's clock is %s %s this host's. The lag is corrected by that; times of commits are the source's.", about(off.Abs()), how))
	}
	if j := w.h.opts.Journal; j != nil {
		s := j.Stats()
		if s.Gone {
			list = append(list, "The journal's file is not at its path any more: it was deleted, moved or replaced. What becomes of rows is still told, but ends with the program. "+
				"The pipelines go on. Start the program anew, which makes another file, or put the file back before.")
		}
		if s.Err != nil {
			list = append(list, w.h.redact(fmt.Sprintf("The journal cannot be written, so what becomes of rows is not kept: %v. The pipeline goes on. Make room on its disk.", s.Err)))
		}
	}
	return list
}

// about writes a span as people say it.
func about(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%.0f days", d.Hours()/24)
	case d >= 2*time.Hour:
		return fmt.Sprintf("%.0f hours", d.Hours())
	case d >= 2*time.Minute:
		return fmt.Sprintf("%.0f minutes", d.Minutes())
	}
	return fmt.Sprintf("%.0f seconds", d.Seconds())
}

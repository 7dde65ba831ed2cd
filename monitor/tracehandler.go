package monitor

import (
	"context"
	"net/http"
	"strconv"
	"time"
)

// traceTime bounds how long the journal is read for one request.
const traceTime = 30 * time.Second

// getTrace asks the journal: for a row by table and key, for a transaction by seq
// or id, or for what was refused.
func (h *Handler) getTrace(w http.ResponseWriter, r *http.Request, _ visitor) {
	l := h.named(w, r)
	if l == nil {
		return
	}
	if h.opts.Journal == nil {
		fail(w, http.StatusNotFound, "There is no journal. Open one and give it as Options.Journal, or add the section journal to the file.")
		return
	}
	if err := r.ParseForm(); err != nil {
		fail(w, http.StatusBadRequest, "The query cannot be read.")
		return
	}
	q := TraceQuery{Pipeline: l.name, Table: r.Form.Get("table"), Key: r.Form["key"], ID: r.Form.Get("id"), Failed: r.Form.Get("failed") == "true"}
	var err error
	if text := r.Form.Get("seq"); text != "" {
		if q.Seq, err = strconv.ParseUint(text, 10, 64); err != nil || q.Seq == 0 {
			fail(w, http.StatusBadRequest, "seq is the number of a transaction.")
			return
		}
	}
	if text := r.Form.Get("limit"); text != "" {
		if q.Limit, err = strconv.Atoi(text); err != nil || q.Limit < 1 || q.Limit > mostFound {
			fail(w, http.StatusBadRequest, "limit is a number from 1 to 1000.")
			return
		}
	}
	// One at a time: each may read all of the file.
	select {
	case h.tracing <- struct{}{}:
		defer func() { <-h.tracing }()
	case <-r.Context().Done():
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), traceTime)
	defer cancel()
	t, err := h.opts.Journal.Trace(ctx, q)
	switch {
	case ctx.Err() != nil:
		fail(w, http.StatusServiceUnavailable, "Reading the journal took too long. Ask for less: a key, or a smaller limit.")
	case err != nil:
		fail(w, http.StatusBadRequest, h.redact(clip(err.Error(), 1000)))
	default:
		h.redactTrace(t)
		answer(w, t)
	}
}

// redactTrace puts dots in the place of secrets, which errors and statements may
// have.
func (h *Handler) redactTrace(t *Trace) {
	for i := range t.Transactions {
		tx := &t.Transactions[i]
		tx.Error = h.redact(tx.Error)
		for k := range tx.Statements {
			tx.Statements[k] = h.redact(tx.Statements[k])
		}
		for _, s := range tx.Steps {
			for k := range s.Changes {
				s.Changes[k].Query = h.redact(s.Changes[k].Query)
			}
		}
	}
}

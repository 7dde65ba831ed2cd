package monitor

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/dataflowsync/dfs"
)

// A Copy is how far the copy of one table is: see dfs.TableProgress.
type Copy struct {
	Name          string   `json:"name"`
	State         string   `json:"state"`
	Rows          uint64   `json:"rows"`
	Bytes         uint64   `json:"bytes"`
	Total         uint64   `json:"total"` // 0: not known
	RowsPerSecond float64  `json:"rows_per_second"`
	LeftSeconds   *float64 `json:"left_seconds"` // null: not known
	Error         string   `json:"error"`        // why it has failed, and what cures it
}

func (h *Handler) getCopies(w http.ResponseWriter, r *http.Request, _ visitor) {
	l := h.named(w, r)
	if l == nil {
		return
	}
	list := []Copy{}
	for _, t := range l.p.Stats().Copies {
		c := Copy{Name: t.Schema + "." + t.Name, State: t.State.String(), Rows: t.Rows, Bytes: t.Bytes, Total: t.Total, RowsPerSecond: t.Rate}
		if t.Left > 0 {
			left := t.Left.Seconds()
			c.LeftSeconds = &left
		}
		if t.Err != nil {
			c.Error = h.redact(t.Err.Error())
		}
		list = append(list, c)
	}
	answer(w, map[string]any{"copies": list})
}

// copies counts the tables whose rows are yet to come, and those whose copy has failed.
func copies(list []dfs.TableProgress) (left, failed int) {
	for _, t := range list {
		switch t.State {
		case dfs.CopyWaiting, dfs.Copying:
			left++
		case dfs.CopyFailed:
			failed++
		}
	}
	return left, failed
}

// changeWait is how long a request waits for a change of tables to be stored.
const changeWait = 25 * time.Second

// actOnTables does what is asked about tables of the pipeline. ok is false for any
// other action.
func (w *watched) actOnTables(ctx context.Context, action string, in order) (status int, ok bool, err error) {
	var do func(ctx context.Context) error
	switch action {
	case "follow":
		do = func(ctx context.Context) error { return w.p.Follow(ctx, []string{in.Table}, !in.WithoutRows) }
	case "unfollow":
		do = func(ctx context.Context) error { return w.p.Unfollow(ctx, []string{in.Table}) }
	case "copy":
		do = func(ctx context.Context) error { return w.p.Resnapshot(ctx, in.Table, in.Where) }
	default:
		return 0, false, nil
	}
	if in.Table == "" {
		return http.StatusBadRequest, true, fmt.Errorf("%s: no table is named; write schema.table", action)
	}
	ctx, cancel := context.WithTimeout(ctx, changeWait)
	defer cancel()
	switch err := do(ctx); {
	case err == nil:
		return http.StatusOK, true, nil
	case errors.Is(err, dfs.ErrNoChange), errors.Is(err, context.DeadlineExceeded), errors.Is(err, dfs.ErrTransient), w.p.Stats().State == dfs.Stopped:
		return http.StatusConflict, true, err
	default:
		return http.StatusBadRequest, true, err
	}
}

// tableActions returns those actions about tables that the source knows.
func (w *watched) tableActions() (can []string) {
	if _, ok := w.p.Source.(dfs.Follower); ok {
		can = append(can, "follow", "unfollow")
	}
	if _, ok := w.p.Source.(dfs.Recopier); ok {
		can = append(can, "copy")
	}
	return can
}

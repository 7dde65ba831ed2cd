package monitor

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/convert"
)

// A Letter is a dfs.Letter as people should see it.
type Letter struct {
	Number     uint64     `json:"number"`
	State      string     `json:"state"` // parked, retrying, applied, skipped, void
	Seq        uint64     `json:"seq"`
	ID         string     `json:"id"`
	Committed  *time.Time `json:"committed"`
	Snapshot   bool       `json:"snapshot"`
	Rows       int        `json:"rows"`
	Statements int        `json:"statements"`
	Bytes      int        `json:"bytes"`
	Tables     []string   `json:"tables"`
	Part       string     `json:"part"`
	Error      string     `json:"error"`
	Statement  string     `json:"statement"` // that was refused, if it is known
	After      []uint64   `json:"after"`     // letters that it has to wait for
	Came       time.Time  `json:"came"`
	Tried      *time.Time `json:"tried"`
	Attempts   int        `json:"attempts"`
	At         uint64     `json:"at"` // the transaction that it was applied with
	Edits      int        `json:"edits"`
	Why        string     `json:"why"`

	Changes []LetterChange `json:"changes,omitempty"` // of one letter only
	Cut     bool           `json:"cut,omitempty"`     // there are more changes
}

// A LetterChange is one change of a letter, as it is to be applied.
type LetterChange struct {
	Op      string         `json:"op"`
	Table   string         `json:"table"`
	Query   string         `json:"query,omitempty"`
	Columns []LetterColumn `json:"columns,omitempty"`
}

// A LetterColumn is one column of a change. A value is a text, or null for NULL, and
// is left out where the row has none.
type LetterColumn struct {
	Name    string  `json:"name"`
	Type    string  `json:"type"`
	Key     bool    `json:"key,omitempty"`
	Changed bool    `json:"changed,omitempty"`
	Before  *string `json:"before,omitempty"`
	After   *string `json:"after,omitempty"`
	Nulls   string  `json:"nulls,omitempty"` // "before", "after" or "both": it is NULL there
}

// An Edit changes one value of a letter, or leaves one change out.
type Edit struct {
	Change int     `json:"change"` // which, from 0
	Drop   bool    `json:"drop,omitempty"`
	Column string  `json:"column,omitempty"`
	Image  string  `json:"image,omitempty"` // "before" or "after"; default: after
	Value  *string `json:"value"`           // null is NULL
}

const (
	mostLetters = 1000    // of a list
	letterBytes = 1 << 20 // of the changes that are shown of one
	valueBytes  = 2000    // of a value that is shown
)

func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// ShowLetter returns a letter as people should see it, with as many changes as it
// has been read with.
func ShowLetter(l *dfs.Letter) Letter {
	out := Letter{
		Number: l.Number, State: l.State.String(), Seq: l.Seq, ID: l.ID, Committed: moment(l.Committed), Snapshot: l.Snapshot,
		Rows: l.Rows, Statements: l.Statements, Bytes: l.Bytes, Tables: append([]string{}, l.Tables...), Part: l.Part, Error: l.Err,
		Statement: l.Statement, After: append([]uint64{}, l.After...), Came: l.Came, Tried: moment(l.Tried), Attempts: l.Attempts,
		At: l.At, Edits: l.Edits, Why: l.Why,
	}
	changes := l.Changes
	if l.Edits > 0 && l.Edited != nil {
		changes = l.Edited
	}
	for i := range changes {
		out.Changes = append(out.Changes, showChange(&changes[i]))
	}
	out.Cut = l.Changes != nil && l.Edits == 0 && len(l.Changes) < l.Rows+l.Statements
	return out
}

func showChange(c *dfs.Change) LetterChange {
	out := LetterChange{Op: c.Op.String(), Table: c.Table.String(), Query: clip(c.Query, 10_000)}
	if c.Op == dfs.DDL || c.Table == nil {
		return out
	}
	show := func(r dfs.Row, i int, image string, col *LetterColumn) *string {
		if i >= len(r) || r[i].Kind() == dfs.Absent {
			return nil
		}
		if r[i].IsNull() {
			if col.Nulls = image; image == "after" && i < len(c.Before) && c.Before[i].IsNull() {
				col.Nulls = "both"
			}
			return nil
		}
		text := valueText(r[i], &c.Table.Columns[i])
		return &text
	}
	for i := range c.Table.Columns {
		t := &c.Table.Columns[i]
		col := LetterColumn{Name: t.Name, Type: convert.TypeText(t), Key: slices.Contains(c.Table.Key, i)}
		col.Before = show(c.Before, i, "before", &col)
		col.After = show(c.After, i, "after", &col)
		col.Changed = i < len(c.Before) && i < len(c.After) && c.After[i].Kind() != dfs.Absent && c.Before[i] != c.After[i]
		out.Columns = append(out.Columns, col)
	}
	return out
}

// valueText writes a value so that it can be read, and so that parseValue reads it
// if it is whole.
func valueText(v dfs.Value, c *dfs.Column) string {
	switch {
	case len(c.Members) > 0 && v.Kind() == dfs.Uint64:
		return convert.Member(v.Uint(), c.Members, c.Type == "set")
	case v.Kind() == dfs.Bytes, v.Kind() == dfs.String && !convert.IsUTF8(c.Charset) && !ascii(v.Text()), v.Kind() == dfs.String && !utf8.ValidString(v.Text()):
		text := v.Text()
		if len(text) > valueBytes/2 {
			return "0x" + hex.EncodeToString([]byte(text[:valueBytes/2])) + "…"
		}
		return "0x" + hex.EncodeToString([]byte(text))
	}
	return clip(v.String(), valueBytes)
}

func ascii(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}

// parseValue reads what a person has written into a column.
func parseValue(text *string, c *dfs.Column, old dfs.Value) (dfs.Value, error) {
	if text == nil {
		if !c.Nullable {
			return old, errors.New("it must not be NULL")
		}
		return dfs.NullValue(), nil
	}
	kind := convert.KindOf(c)
	if hexed, ok := strings.CutPrefix(*text, "0x"); ok && (kind == dfs.Bytes || kind == dfs.String) {
		b, err := hex.DecodeString(hexed)
		if err != nil {
			return old, fmt.Errorf("after 0x there must be pairs of hexadecimal digits: %w", err)
		}
		if kind == dfs.Bytes {
			return dfs.BytesValue(b), nil
		}
		return dfs.StringValue(string(b)), nil
	}
	if kind == dfs.String && !convert.IsUTF8(c.Charset) && c.Charset != "" && !ascii(*text) {
		return old, fmt.Errorf("the column's character set is %s; write its bytes as 0x and hexadecimal digits", c.Charset)
	}
	return convert.To(dfs.StringValue(*text), c)
}

// EditLetter makes the edits in a letter that is parked.
func EditLetter(ctx context.Context, p *dfs.Pipeline, number uint64, edits []Edit) error {
	if len(edits) == 0 {
		return errors.New("no edit is given; name a change, a column and its value, or a change to drop")
	}
	return p.EditLetter(ctx, number, func(changes []dfs.Change) ([]dfs.Change, error) {
		var errs []error
		drop := make(map[int]bool)
		for _, e := range edits {
			if e.Change < 0 || e.Change >= len(changes) {
				errs = append(errs, fmt.Errorf("there is no change %d; the letter has %d, from 0", e.Change, len(changes)))
				continue
			}
			c := &changes[e.Change]
			if e.Drop {
				drop[e.Change] = true
				continue
			}
			at := -1
			if c.Op != dfs.DDL {
				at = c.Table.Column(e.Column)
			}
			if at < 0 {
				errs = append(errs, fmt.Errorf("change %d has no column %q", e.Change, clip(e.Column, 100)))
				continue
			}
			row := &c.After
			switch e.Image {
			case "", "after":
			case "before":
				row = &c.Before
			default:
				errs = append(errs, fmt.Errorf("image is %q; want before or after", clip(e.Image, 100)))
				continue
			}
			if *row == nil {
				errs = append(errs, fmt.Errorf("change %d, the %v of %v, has no such row", e.Change, c.Op, c.Table))
				continue
			}
			v, err := parseValue(e.Value, &c.Table.Columns[at], (*row)[at])
			if err != nil {
				errs = append(errs, fmt.Errorf("change %d, column %s: %w", e.Change, c.Table.Columns[at].Name, err))
				continue
			}
			*row = slices.Clone(*row)
			(*row)[at] = v
		}
		if len(errs) > 0 {
			return nil, errors.Join(errs...)
		}
		kept := []dfs.Change{}
		for i := range changes {
			if !drop[i] {
				kept = append(kept, changes[i])
			}
		}
		return kept, nil
	})
}

// letters returns the pipeline's store, or answers that it has none.
func (h *Handler) letters(w http.ResponseWriter, r *http.Request) (*watched, dfs.LetterStore) {
	l := h.named(w, r)
	if l == nil {
		return nil, nil
	}
	if l.p.Letters == nil {
		fail(w, http.StatusNotFound, "The pipeline has no store of dead letters; set Pipeline.Letters, or dead_letters in the file.")
		return nil, nil
	}
	return l, l.p.Letters
}

// getLetters returns the list, the newest of those that are settled last.
func (h *Handler) getLetters(w http.ResponseWriter, r *http.Request, _ visitor) {
	_, store := h.letters(w, r)
	if store == nil {
		return
	}
	b, err := store.Book(r.Context())
	if err != nil {
		fail(w, http.StatusInternalServerError, h.redact(err.Error()))
		return
	}
	waiting, settled := []Letter{}, []Letter{}
	for _, l := range b.Letters {
		switch {
		case l.State == dfs.LetterPurged: // its head is kept, for the pipeline only
		case l.Unsettled():
			waiting = append(waiting, h.showLetter(l))
		default:
			settled = append(settled, h.showLetter(l))
		}
	}
	slices.Reverse(settled)
	list := append(waiting, settled...)
	answer(w, map[string]any{"letters": list[:min(len(list), mostLetters)], "waiting": len(waiting), "settled": len(settled)})
}

func (h *Handler) showLetter(l *dfs.Letter) Letter {
	out := ShowLetter(l)
	out.Error, out.Statement, out.Why = h.redact(clip(out.Error, 4000)), h.redact(clip(out.Statement, 4000)), h.redact(out.Why)
	return out
}

func (h *Handler) getLetter(w http.ResponseWriter, r *http.Request, _ visitor) {
	_, store := h.letters(w, r)
	if store == nil {
		return
	}
	n, err := strconv.ParseUint(r.PathValue("number"), 10, 63)
	if err != nil {
		fail(w, http.StatusBadRequest, "A letter is named by its number.")
		return
	}
	l, err := store.Letter(r.Context(), n, letterBytes)
	switch {
	case errors.Is(err, dfs.ErrNoLetter):
		fail(w, http.StatusNotFound, fmt.Sprintf("There is no letter %d.", n))
	case err != nil:
		fail(w, http.StatusInternalServerError, h.redact(err.Error()))
	default:
		answer(w, h.showLetter(l))
	}
}

// A LetterOrder is what is to be done with letters.
type LetterOrder struct {
	Action  string   `json:"action"`  // retry, park, skip, purge, edit
	Letters []uint64 `json:"letters"` // their numbers
	All     bool     `json:"all"`     // all of which it can be done, instead
	Edits   []Edit   `json:"edits"`
	Why     string   `json:"why"`
}

// Do does what is asked, and returns how many letters it was about.
func (o *LetterOrder) Do(ctx context.Context, p *dfs.Pipeline) (n int, err error) {
	if p.Letters == nil {
		return 0, errors.New("the pipeline has no store of dead letters")
	}
	if o.All && o.Action != "edit" {
		b, err := p.Letters.Book(ctx)
		if err != nil {
			return 0, err
		}
		o.Letters = nil
		for _, l := range b.Letters {
			is := map[string]bool{"retry": l.State == dfs.LetterParked, "park": l.State == dfs.LetterWanted, "skip": l.Unsettled(), "purge": !l.Unsettled() && l.State != dfs.LetterPurged}
			if is[o.Action] {
				o.Letters = append(o.Letters, l.Number)
			}
		}
		if len(o.Letters) == 0 {
			return 0, fmt.Errorf("there is no letter to %s", clip(o.Action, 100))
		}
	}
	for _, n := range o.Letters {
		if n > math.MaxInt64 {
			return 0, fmt.Errorf("%w: %d", dfs.ErrNoLetter, n)
		}
	}
	switch o.Action {
	case "retry":
		err = p.RetryLetters(ctx, o.Letters...)
	case "park":
		err = p.ParkLetters(ctx, o.Letters...)
	case "skip":
		err = p.SkipLetters(ctx, o.Why, o.Letters...)
	case "purge":
		err = p.PurgeLetters(ctx, o.Letters...)
	case "edit":
		if len(o.Letters) != 1 {
			return 0, errors.New("edit is for one letter; name it")
		}
		err = EditLetter(ctx, p, o.Letters[0], o.Edits)
	default:
		err = fmt.Errorf("there is no action %q; want retry, park, skip, purge or edit", clip(o.Action, 100))
	}
	return len(o.Letters), err
}

func (h *Handler) postLetters(w http.ResponseWriter, r *http.Request, v visitor) {
	l, store := h.letters(w, r)
	if store == nil {
		return
	}
	var in LetterOrder
	if !body(w, r, &in) {
		return
	}
	n, err := in.Do(r.Context(), l.p)
	a := Action{Time: time.Now().UTC(), By: v.name, From: r.RemoteAddr, Pipeline: l.name, Action: "letters " + clip(in.Action, 20),
		Argument: clip(strings.Trim(fmt.Sprint(in.Letters), "[]"), 1000), Why: h.redact(clip(in.Why, 1000))}
	if err != nil {
		a.Error = h.redact(err.Error())
	}
	h.note(a)
	if err != nil {
		status := http.StatusConflict
		if errors.Is(err, dfs.ErrNoLetter) {
			status = http.StatusNotFound
		}
		fail(w, status, h.redact(err.Error()))
		return
	}
	h.look()
	answer(w, map[string]any{"letters": n})
}

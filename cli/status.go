package cli

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/config"
	"github.com/dataflowsync/dfs/queue"
	"github.com/go-sql-driver/mysql"
)

// A state is what "basic status -json" prints. Each part has either what was
// found or an error.
type state struct {
	Name   string      `json:"name"`
	Source sourceState `json:"source"`
	Queue  *queueState `json:"queue,omitempty"`
	Target targetState `json:"target"`

	// Uncaptured is what the source has and the queue has not, or the target
	// where there is no queue. It is nil if it cannot be told.
	Uncaptured *distance `json:"uncaptured"`

	// Waiting counts the transactions in the queue that the target has not.
	Waiting uint64 `json:"waiting"`

	// Letters are the dead letters that wait; nil without dead_letters in the file.
	Letters *letterState `json:"dead_letters,omitempty"`

	// InStep says that the target has all that the source has.
	InStep bool `json:"in_step"`

	// Units and IDs are what the running process tells through its monitor; empty
	// if there is none.
	Units []unitState `json:"units,omitempty"`
	IDs   *idState    `json:"relmgr,omitempty"`
}

// A unitState counts the rows of a unit, since the process began.
type unitState struct {
	Name string `json:"name"`
	In   uint64 `json:"in"`
	Out  uint64 `json:"out"`
}

// An idState counts the ids of the map.
type idState struct {
	Keys     uint64 `json:"keys"`
	Promised uint64 `json:"promised"` // whose row has not come
}

// A letterState counts the dead letters that the target lacks.
type letterState struct {
	Path    string     `json:"path"`
	Waiting int        `json:"waiting"`
	Oldest  *time.Time `json:"oldest,omitempty"`
	Error   string     `json:"error,omitempty"`
}

type sourceState struct {
	Address string `json:"address"`
	Product string `json:"product,omitempty"`
	Error   string `json:"error,omitempty"`

	// PurgeIn is until the source may delete what has not been read, in seconds:
	// negative if it may at any moment, and nil if never or if that is not known.
	PurgeIn *float64 `json:"purge_in_seconds,omitempty"`
	Kept    string   `json:"kept,omitempty"` // the same in words

	// ClockOffset is how far its clock is ahead of this host's, in seconds.
	ClockOffset *float64 `json:"clock_offset_seconds,omitempty"`
}

type queueState struct {
	Path  string `json:"path"`
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
	Bytes int64  `json:"bytes"`
	File  int64  `json:"file_bytes"`
	Error string `json:"error,omitempty"`

	// Of one of several targets: what the queue holds for it.
	Reader *readerState `json:"reader,omitempty"`

	at dfs.Checkpoint
}

// A readerState says what the queue holds for a target.
type readerState struct {
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
	Lost  bool   `json:"lost"` // more than queue.max_target waited for it
}

type targetState struct {
	Address   string     `json:"address"`
	Product   string     `json:"product,omitempty"`
	Seq       uint64     `json:"seq"` // 0: nothing has been applied
	ID        string     `json:"id,omitempty"`
	Position  string     `json:"position,omitempty"`
	Committed *time.Time `json:"committed,omitempty"` // at the source
	Updated   *time.Time `json:"updated,omitempty"`   // on the target
	Age       string     `json:"age,omitempty"`       // since Updated, by the target's clock
	Error     string     `json:"error,omitempty"`
}

// status prints where all parts stand. It only reads: it neither takes part in
// the pipeline nor disturbs one that runs.
func status(ctx context.Context, c *config.Config, f flags, stdout, stderr io.Writer) int {
	var list []state
	code := exitOK
	for _, l := range c.Lines() {
		s := stateOf(ctx, l)
		s.ask(ctx, l)
		if s.Source.Error != "" || s.Target.Error != "" || s.Queue != nil && s.Queue.Error != "" || s.Letters != nil && s.Letters.Error != "" {
			code = exitRun
		}
		list = append(list, s)
	}
	if !f.json {
		for i := range list {
			list[i].print(stdout)
		}
		return code
	}
	out := json.NewEncoder(stdout)
	out.SetIndent("", "  ")
	var err error
	if c.Several() {
		err = out.Encode(list)
	} else {
		err = out.Encode(list[0])
	}
	if err != nil {
		report(stderr, "status", err)
		return exitRun
	}
	return code
}

// ask asks the process that runs with this file, if it has a monitor that answers.
func (s *state) ask(ctx context.Context, c *config.Config) {
	if !c.Monitor.On() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	running, err := callMonitor(ctx, c, http.MethodGet, c.Name, "", nil)
	if err != nil {
		return // it does not run; all else is told without it
	}
	for _, p := range running.Parts {
		switch p.Kind {
		case "dpu.Units":
			for i, m := range p.Measures {
				if name, ok := strings.CutPrefix(m.Help, "rows given to unit "); ok && i+1 < len(p.Measures) {
					s.Units = append(s.Units, unitState{name, uint64(m.Value), uint64(p.Measures[i+1].Value)})
				}
			}
		case "relmgr.Manager":
			s.IDs = &idState{}
			for _, m := range p.Measures {
				switch m.Name {
				case "keys":
					s.IDs.Keys = uint64(m.Value)
				case "promised":
					s.IDs.Promised = uint64(m.Value)
				}
			}
		}
	}
}

func stateOf(ctx context.Context, c *config.Config) state {
	s := state{Name: c.Name}
	s.Target = readTarget(ctx, c)
	captured := dfs.Checkpoint{Seq: s.Target.Seq, Pos: dfs.Position(s.Target.Position)}
	if c.Queue.Path != "" {
		q := readQueue(ctx, c.Queue.Path, c.Reader)
		s.Queue = &q
		if q.at.Seq > captured.Seq {
			s.Waiting = q.at.Seq - captured.Seq
			captured = q.at
		}
	}
	if c.Letters.Path != "" {
		l := readLetters(ctx, c)
		s.Letters = &l
	}
	s.Source.Address = c.Source.Address()
	if len(c.Source.Files) > 0 {
		s.Source.Product = "files"
		return s // how much they hold is not known before they are read
	}
	source, err := askServer(ctx, c.SourceDSN())
	if err != nil {
		s.Source.Error = err.Error()
		return s
	}
	defer source.Close()
	s.Source.Product = source.product()
	if captured.Pos == "" {
		return s // nothing has been read yet
	}
	d, err := source.after(ctx, captured.Pos)
	if err != nil {
		s.Source.Error = err.Error()
		return s
	}
	s.Uncaptured = &d
	s.Source.probe(ctx, c, captured.Pos)
	s.InStep = d == distance{} && s.Waiting == 0 && s.Target.Error == "" && (s.Letters == nil || s.Letters.Waiting == 0 && s.Letters.Error == "")
	return s
}

// probe asks the source until when it keeps what follows the position, and what
// time it is. What it does not tell is left out.
func (s *sourceState) probe(ctx context.Context, c *config.Config, at dfs.Position) {
	// Another connection with the number of the process that runs would end it.
	o := sourceOptions(c, slog.New(slog.DiscardHandler))
	o.ServerID, o.Snapshot, o.SemiSync = 0, nil, false
	source, err := openSource(ctx, c, o)
	if err != nil {
		return // "check" tells what is amiss
	}
	defer source.Close()
	p, err := source.Probe(ctx, at)
	if err != nil {
		return
	}
	seconds := p.ClockOffset.Seconds()
	s.ClockOffset = &seconds
	switch {
	case p.Purged:
		s.Kept = "a part of what has not been read is deleted already"
	case !p.PurgeKnown:
	case p.PurgeIn == dfs.Never:
		s.Kept = "what has not been read is kept for ever"
	case p.PurgeIn <= 0:
		s.Kept = "what has not been read may be deleted at any moment"
	default:
		s.Kept = "what has not been read is kept for " + days(p.PurgeIn)
	}
	if p.PurgeKnown && p.PurgeIn != dfs.Never {
		left := p.PurgeIn.Seconds()
		s.PurgeIn = &left
	}
}

// days writes a long span as people say it.
func days(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%.0f days", d.Hours()/24)
	case d >= 2*time.Hour:
		return fmt.Sprintf("%.0f hours", d.Hours())
	}
	return ago(d)
}

// readTarget reads the row that package sink keeps for this pipeline.
func readTarget(ctx context.Context, c *config.Config) targetState {
	t := targetState{Address: c.Target.Address()}
	if c.Target.Kind() != config.MySQLTarget {
		readOther(ctx, c, &t)
		return t
	}
	target, err := askServer(ctx, c.TargetDSN())
	if err != nil {
		t.Error = err.Error()
		return t
	}
	defer target.Close()
	t.Product = target.product()
	table := "`" + strings.ReplaceAll(cmp.Or(c.Target.Schema, "dfs"), "`", "``") + "`.dfs_checkpoint"
	var committed, updated sql.NullString
	var age float64
	err = target.QueryRowContext(ctx, "SELECT seq, pos, id, committed, updated,"+
		" TIMESTAMPDIFF(MICROSECOND, updated, UTC_TIMESTAMP(6)) / 1e6 FROM "+table+" WHERE name = ?", c.Name).
		Scan(&t.Seq, &t.Position, &t.ID, &committed, &updated, &age)
	var e *mysql.MySQLError
	switch {
	case errors.Is(err, sql.ErrNoRows), errors.As(err, &e) && (e.Number == 1146 || e.Number == 1049):
		return t // not started yet
	case err != nil:
		t.Error = fmt.Sprintf("read %s: %v", table, err)
		return t
	}
	t.Committed, t.Updated = utc(committed), utc(updated)
	if t.Seq > 0 {
		t.Age = ago(time.Duration(max(age, 0) * float64(time.Second)))
	}
	return t
}

func utc(s sql.NullString) *time.Time {
	t, err := time.Parse("2006-01-02 15:04:05.999999", s.String)
	if err != nil {
		return nil // NULL
	}
	return &t
}

// readQueue looks at the queue, and at what it holds for the reader, if that is
// not empty.
func readQueue(ctx context.Context, path, reader string) queueState {
	s := queueState{Path: path}
	if _, err := os.Stat(path); path == "" || errors.Is(err, os.ErrNotExist) {
		return s // none, or not started yet
	}
	q, err := queue.Open(path, &queue.Options{ReadOnly: true})
	if err != nil {
		s.Error = err.Error()
		return s
	}
	defer q.Close()
	if s.at, err = q.Checkpoint(ctx); err != nil {
		s.Error = err.Error()
		return s
	}
	st := q.Stats()
	s.First, s.Last, s.Bytes, s.File = st.First, st.Last, st.Bytes, st.FileBytes
	for _, r := range st.Readers {
		if r.Name == reader {
			s.Reader = &readerState{r.Name, r.Bytes, r.Lost}
		}
	}
	return s
}

func (s *state) print(w io.Writer) {
	line := func(label, format string, args ...any) {
		fmt.Fprintf(w, "%-9s %s\n", label, fmt.Sprintf(format, args...))
	}
	line("pipeline", "%s", s.Name)

	about := s.Source.Product
	if s.Source.Error != "" {
		about = "cannot be read: " + s.Source.Error
	}
	line("source", "%s · %s", s.Source.Address, about)
	if s.Source.Kept != "" {
		line("", "%s", s.Source.Kept)
	}
	if off := s.Source.ClockOffset; off != nil && math.Abs(*off) >= 1 {
		line("", "its clock is %+.1f s from this host's", *off)
	}

	if q := s.Queue; q != nil {
		switch {
		case q.Error != "":
			line("queue", "%s · cannot be read: %s", q.Path, q.Error)
		case q.Last == 0:
			line("queue", "%s · not started", q.Path)
		default:
			line("queue", "%s · up to transaction %s · %s waiting · file %s",
				q.Path, count(q.Last), count(s.Waiting), config.Size(q.File))
			switch r := q.Reader; {
			case r == nil:
			case r.Lost:
				line("", "reader %s was given up: more than queue.max_target waited for it", r.Name)
			default:
				line("", "reader %s · %s held for it", r.Name, config.Size(r.Bytes))
			}
		}
	}

	if s.IDs != nil {
		line("ids", "%s · %s of rows that have not come", plural(s.IDs.Keys, "key"), count(s.IDs.Promised))
	}
	for i, u := range s.Units {
		line([]string{"units", ""}[min(i, 1)], "%s · %s in · %s out", u.Name, plural(u.In, "row"), count(u.Out))
	}

	t := &s.Target
	written := ""
	if t.Age != "" { // else it is not known
		written = " · written " + t.Age + " ago"
	}
	switch {
	case t.Error != "":
		line("target", "%s · cannot be read: %s", t.Address, t.Error)
	case t.Seq == 0:
		line("target", "%s · %s · not started", t.Address, t.Product)
	default:
		line("target", "%s · %s · up to transaction %s%s", t.Address, t.Product, count(t.Seq), written)
		if t.ID != "" {
			line("", "%s", t.ID)
		}
		if t.Committed != nil {
			line("", "committed %s", t.Committed.Format(time.RFC3339Nano))
		}
		line("", "%s", t.Position)
	}

	if l := s.Letters; l != nil && l.Error != "" {
		line("letters", "%s · cannot be read: %s", l.Path, l.Error)
	} else if l != nil && l.Waiting > 0 {
		line("letters", "%s wait, the first for %s: the target lacks what they did; see basic letters", plural(uint64(l.Waiting), "dead letter"), ago(time.Since(*l.Oldest)))
	}

	switch {
	case s.Uncaptured == nil:
		line("behind", "unknown")
	case *s.Uncaptured == distance{} && s.Waiting == 0 && !s.InStep && s.Target.Error == "":
		line("behind", "nothing but dead letters")
	case s.InStep:
		line("behind", "nothing: the target has all that the source has")
	default:
		line("behind", "%s not read yet, %s in the queue", s.Uncaptured, plural(s.Waiting, "transaction"))
	}
}

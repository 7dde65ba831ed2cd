package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/dpu"
	"github.com/dataflowsync/dfs/internal/config"
	"github.com/dataflowsync/dfs/queue"
	"github.com/dataflowsync/dfs/sink"
)

// A finding is one line of the check's report.
type finding struct {
	Verdict string `json:"verdict"` // "ok", "note" or "fault"
	Name    string `json:"name"`
	Value   string `json:"value,omitempty"`
	Text    string `json:"text"`
	Cure    string `json:"cure,omitempty"`
}

// A section is what was found of one part.
type section struct {
	Part     string    `json:"part"`
	About    string    `json:"about"`
	Findings []finding `json:"findings"`
}

func (s *section) add(verdict, name, value, text string) {
	s.Findings = append(s.Findings, finding{Verdict: verdict, Name: name, Value: value, Text: text})
}

// faults adds the faults of err. One that names a setting takes the place of
// what was said of the setting.
func (s *section) faults(err error) {
	for _, f := range faultsOf(err) {
		i := slices.IndexFunc(s.Findings, func(g finding) bool {
			return g.Verdict != "fault" && g.Value != "" && strings.Contains(" "+f.What+" ", " "+g.Name+" ")
		})
		if i < 0 {
			s.Findings = append(s.Findings, finding{Verdict: "fault", Text: f.What, Cure: f.Cure})
			continue
		}
		s.Findings[i].Verdict, s.Findings[i].Text, s.Findings[i].Cure = "fault", f.What, f.Cure
	}
}

// check looks at all parts, and explains what matters about each. The checkpoint
// table is made if it is missing, as its absence could be a missing right; else
// nothing is changed.
func check(ctx context.Context, c *config.Config, f flags, stdout, stderr io.Writer) int {
	var p parts
	defer func() { p.close() }()
	source := checkSource(ctx, c, &p)
	var rest []section
	for _, l := range c.Lines() {
		t := &p
		if c.Several() {
			t = &parts{source: p.source}
		}
		p.lines = append(p.lines, t)
		target := checkTarget(ctx, l, t)
		if c.Several() {
			target.Part += " " + l.Reader
		}
		rest = append(rest, target)
		if t.source != nil && t.target != nil {
			more := checkTables(ctx, l, t)
			for i := range more {
				if c.Several() {
					more[i].Part += " " + l.Reader
				}
			}
			rest = append(rest, more...)
		}
	}
	if p.source != nil && !slices.ContainsFunc(p.lines, func(l *parts) bool { return l.target == nil }) {
		source.position(ctx, c, &p)
	}
	sections := []section{source}
	if c.Queue.Path != "" {
		sections = append(sections, checkQueue(c))
	}
	return conclude(append(sections, rest...), f, stdout, stderr)
}

// conclude prints what was found, and returns the exit code.
func conclude(sections []section, f flags, stdout, stderr io.Writer) int {
	faults, notes := 0, 0
	for _, s := range sections {
		for _, f := range s.Findings {
			switch f.Verdict {
			case "fault":
				faults++
			case "note":
				notes++
			}
		}
	}
	if f.json {
		out := json.NewEncoder(stdout)
		out.SetIndent("", "  ")
		if err := out.Encode(map[string]any{"ready": faults == 0, "sections": sections}); err != nil {
			report(stderr, "check", err)
			return exitRun
		}
	} else {
		for _, s := range sections {
			s.print(stdout)
		}
		switch {
		case faults > 0:
			fmt.Fprintf(stdout, "not ready: %s to mend\n", plural(uint64(faults), "fault"))
		case notes > 0:
			fmt.Fprintf(stdout, "ready, with %s\n", plural(uint64(notes), "note"))
		default:
			fmt.Fprintln(stdout, "ready")
		}
	}
	if faults > 0 {
		return exitSetup
	}
	return exitOK
}

func (s *section) print(w io.Writer) {
	fmt.Fprintf(w, "%s  %s\n", s.Part, s.About)
	width := 0
	for _, f := range s.Findings {
		width = max(width, utf8.RuneCountInString(f.Name))
	}
	for _, f := range s.Findings {
		verdict := f.Verdict
		if verdict == "fault" {
			verdict = "FAULT"
		}
		if f.Name == "" {
			fmt.Fprintf(w, "  %-5s  %s\n", verdict, indent(f.Text, "         "))
		} else {
			head := fmt.Sprintf("%-*s  %s", width, f.Name, f.Value)
			if f.Value != "" {
				head += ": "
			}
			fmt.Fprintf(w, "  %-5s  %s%s\n", verdict, head, indent(f.Text, "         "))
		}
		if f.Cure != "" {
			fmt.Fprintf(w, "         cure: %s\n", indent(f.Cure, "         "))
		}
	}
	fmt.Fprintln(w)
}

func checkSource(ctx context.Context, c *config.Config, p *parts) section {
	s := section{Part: "source", About: c.Source.String()}
	if len(c.Source.Files) > 0 {
		var err error
		p.source, err = openSource(ctx, c, sourceOptions(c, slog.New(slog.DiscardHandler)))
		s.faults(err)
		if err == nil {
			s.add("ok", "files", "", "can be read")
		}
		return s
	}
	if server, err := askServer(ctx, c.SourceDSN()); err == nil {
		s.About += ", " + server.product()
		s.settings(server, sourceSettings)
		server.Close()
	}
	o := sourceOptions(c, slog.New(slog.DiscardHandler))
	var err error
	p.source, err = openSource(ctx, c, o)
	s.faults(err)
	if err == nil {
		s.add("ok", "account", "", "may read the log and the tables")
		return s
	}
	// Without the patterns that are wrong, the other tables can be looked at, so
	// that all faults come at once.
	wrong := func(pattern string) bool { return strings.Contains(err.Error(), strconv.Quote(pattern)) }
	o.Tables = slices.DeleteFunc(slices.Clone(o.Tables), wrong)
	if n := len(o.Tables); n > 0 && n < len(c.Source.Tables) {
		if again, err := openSource(ctx, c, o); err == nil {
			p.source = again
		}
	}
	return s
}

func checkTarget(ctx context.Context, c *config.Config, p *parts) section {
	s := section{Part: "target", About: c.Target.String()}
	if c.Target.Kind() == config.ArchiveTarget {
		s.Findings = checkArchive(ctx, c).Findings
		a, err := storedArchive(ctx, &c.Target.Archive)
		if err == nil { // else it has been told
			p.target = &archived{a}
		}
		return s
	}
	if c.Target.Kind() != config.MySQLTarget {
		if t := readTarget(ctx, c); t.Product != "" {
			s.About += ", " + t.Product
		}
	} else if server, err := askServer(ctx, c.TargetDSN()); err == nil {
		s.About += ", " + server.product()
		s.settings(server, targetSettings)
		server.Close()
	}
	var err error
	p.target, err = openSink(ctx, c, slog.New(slog.DiscardHandler))
	s.faults(err)
	if err == nil {
		t := readTarget(ctx, c)
		text := "nothing applied yet; begins at source.start"
		if t.Seq > 0 {
			text = fmt.Sprintf("goes on after transaction %s", count(t.Seq))
		}
		s.add("ok", "checkpoint", "", text)
		if lane, why, sql := strings.Cut(p.target.Stats().Lane, ": "); sql {
			s.add("note", "rows go as", lane, why)
		} else {
			s.add("ok", "rows go as", lane, "the fastest way to apply them")
		}
	}
	return s
}

// statements tells what will happen to statements that alter the tables. Tables
// for which it is the same share a line for each policy.
func (s *section) statements(target target, tables []*dfs.Table, verdict string) {
	what := []struct {
		policy sink.Policy
		text   string
	}{
		{sink.PolicyApply, "run on the target, exactly once"},
		{sink.PolicyTry, "run on the target, and are passed over if they fail there"},
		{sink.PolicyIgnore, "are passed over, and counted"},
		{sink.PolicyError, "stop the pipeline until they are named in target.ddl_done"},
	}
	said := make(map[string][]string) // tables by what is said of them
	var order []string
	for _, t := range tables {
		policies := target.DDLPolicies(t.Schema, t.Name)
		var lines []string
		for _, w := range what {
			var kinds []string
			for _, k := range sink.DDLKinds() {
				if policies[k] == w.policy {
					kinds = append(kinds, k)
				}
			}
			if kinds != nil {
				lines = append(lines, strings.Join(kinds, ", ")+" "+w.text)
			}
		}
		text := strings.Join(lines, "\n")
		if said[text] == nil {
			order = append(order, text)
		}
		said[text] = append(said[text], t.String())
	}
	for _, text := range order {
		name := "statements"
		if len(order) > 1 {
			name += " about " + strings.Join(said[text], ", ")
		}
		s.add(verdict, name, "", text)
	}
}

// position finds out whether the source still has what comes next. With a fixed
// server_id it does not ask for the log, as that would end the connection of a
// process that runs with the same number.
func (s *section) position(ctx context.Context, c *config.Config, p *parts) {
	if c.Source.ServerID != 0 && len(c.Source.Files) == 0 {
		return
	}
	var from dfs.Checkpoint
	for _, l := range p.lines {
		at, err := l.target.Stored(ctx)
		if err != nil {
			s.faults(err)
			return
		}
		if at.Seq > from.Seq {
			from = at
		}
	}
	if q := readQueue(ctx, c.Queue.Path, ""); q.at.Seq > from.Seq {
		from = q.at
	}
	stream, err := p.source.Open(ctx, from)
	if err != nil {
		s.faults(err)
		return
	}
	stream.Close()
	where := "from source.start on"
	if from.Seq > 0 {
		where = "that follows transaction " + count(from.Seq)
	}
	s.add("ok", "position", "", "the log has all "+where)
}

// checkQueue opens an existing file to read it, as another process may be
// writing it, and tries for a new one whether its folder can be written.
func checkQueue(c *config.Config) section {
	path := c.Queue.Path
	s := section{Part: "queue", About: path}
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		f, err := os.CreateTemp(filepath.Dir(path), ".dfs-check-*")
		if err != nil {
			s.Findings = append(s.Findings, finding{Verdict: "fault", Text: "no file can be made there: " + err.Error(),
				Cure: fmt.Sprintf("make the folder, and give this user the right to write in it, or change queue.path (%s)", c.Where("queue.path"))})
			return s
		}
		f.Close()
		os.Remove(f.Name())
		s.add("ok", "file", "", "is made at the first start")
		return s
	}
	if f, err := os.OpenFile(path, os.O_RDWR, 0); err != nil {
		s.Findings = append(s.Findings, finding{Verdict: "fault", Text: err.Error(), Cure: "give this user the right to read and write the file"})
		return s
	} else {
		f.Close()
	}
	q, err := queue.Open(path, &queue.Options{ReadOnly: true})
	if err != nil {
		s.faults(err)
		return s
	}
	defer q.Close()
	st := q.Stats()
	s.add("ok", "file", config.Size(st.FileBytes).String(), fmt.Sprintf("holds up to transaction %s", count(st.Last)))
	for _, r := range st.Readers {
		if c.Several() {
			f := finding{Verdict: "ok", Name: "reader " + r.Name, Value: config.Size(r.Bytes).String(), Text: fmt.Sprintf("waits for it, %s", plural(r.Lag, "transaction"))}
			if r.Lost {
				f = finding{Verdict: "note", Name: "reader " + r.Name, Text: fmt.Sprintf("was given up after transaction %s, as more than queue.max_target waited for it; "+
					"run its target with a file of its own, without this queue, which reads on from the source's log", count(r.Seq))}
			}
			s.Findings = append(s.Findings, f)
		}
	}
	for _, r := range strangers(c, st.Readers) {
		s.Findings = append(s.Findings, finding{Verdict: "note", Name: "reader " + r.Name, Value: config.Size(r.Bytes).String(),
			Text: "is held back for a reader that is none of the targets", Cure: "if it is not to come back, stop, and: basic forget " + r.Name})
	}
	return s
}

// checkTables gives a verdict on each followed table, and on its ids if they change.
func checkTables(ctx context.Context, c *config.Config, p *parts) []section {
	var before []section
	s := section{Part: "tables", About: "followed, and where they go"}
	change, err := p.resume(ctx)
	s.faults(err)
	for _, n := range []struct {
		names []string
		text  string
	}{
		{change.New, "is new in source.tables: its changes come from the checkpoint on"},
		{change.Gone, "is in source.tables no more: none of its changes comes from the checkpoint on"},
		{change.Added, "was added by follow while the pipeline ran, and stays; write it into source.tables"},
		{change.Dropped, "was left out by unfollow while the pipeline ran, and stays so; take it out of source.tables"},
	} {
		for _, name := range n.names {
			s.add("note", name, "", n.text)
		}
	}
	tables, err := p.source.Tables(ctx)
	s.faults(err)
	_, tables, err = onlyTables(c, tables)
	s.faults(err)
	known, err := openIDs(ctx, c, p.source, tables, tryIDs, slog.New(slog.DiscardHandler))
	if s.faults(err); err != nil {
		return []section{s}
	}
	defer known.close()
	if known != nil {
		before = append(before, checkIDs(known, c, tables))
		tables, err = known.retyped(tables)
		s.faults(err)
	}
	p.finds.c = c
	units, err := openUnits(ctx, c, &p.finds, tables, slog.New(slog.DiscardHandler))
	if s.faults(err); err != nil {
		return append(before, s) // where rows would go is not known
	}
	var made []dpu.Target
	for _, t := range tables {
		if units == nil {
			made = append(made, asItIs(t))
			continue
		}
		list, err := units.Targets(t)
		s.faults(err)
		made = append(made, list...)
	}
	arrive := s.targets(ctx, c, p, made, change.New)
	p.units = units
	s.faults(p.begins(ctx, c, readQueue(ctx, c.Queue.Path, "").at.Pos != "", tables, slog.New(slog.DiscardHandler)))
	notes, err := p.foreignKeys(ctx)
	s.faults(err)
	for _, n := range notes {
		s.add("note", "", "", n)
	}
	if kind := c.Target.Kind(); kind != config.StreamTarget && kind != config.ArchiveTarget {
		s.statements(p.target, arrive, s.rights(ctx, c, p.target, arrive))
	}
	s.About = plural(uint64(len(tables)), "table") + " " + s.About
	return append(before, s)
}

func keyOf(t *dfs.Table) string {
	if t.Key == nil {
		return "no primary key: updates and deletes look at every column, and are slow"
	}
	var names []string
	for _, i := range t.Key {
		names = append(names, t.Columns[i].Name)
	}
	return "key " + strings.Join(names, ", ")
}

// A setting is a server variable that is worth knowing about. What makes it a
// fault is for the packages to say; judge tells what is merely worth a note.
type setting struct {
	name  string
	text  string
	judge func(value string) (note string)
	since string // the variable that has taken its place, where there is one
}

func (s *section) settings(server *server, list []setting) {
	for _, v := range list {
		value, ok := server.vars[v.name]
		if _, newer := server.vars[v.since]; !ok || newer {
			continue // this product, or this version, has no such variable
		}
		verdict, text := "ok", v.text
		if v.judge != nil {
			if note := v.judge(value); note != "" {
				verdict, text = "note", note
			}
		}
		if value == "" {
			value = "(empty)"
		}
		if short := []rune(value); len(short) > 24 {
			value = string(short[:23]) + "…"
		}
		s.add(verdict, v.name, value, text)
	}
}

// unless returns a judge who notes every value but the wanted one.
func unless(want, note string) func(string) string {
	return func(value string) string {
		if strings.EqualFold(value, want) {
			return ""
		}
		return note
	}
}

// atLeast returns a judge who notes values below least; zero means for ever.
func atLeast(least float64, note string) func(string) string {
	return func(value string) string {
		if n, err := strconv.ParseFloat(value, 64); err != nil || n == 0 || n >= least {
			return ""
		}
		return note
	}
}

var sourceSettings = []setting{
	{name: "log_bin", text: "commits are written to the binary log"},
	{name: "server_id", text: "tells this server's transactions from others'"},
	{name: "binlog_format", text: "rows are logged, not statements"},
	{name: "binlog_row_image", text: "each row is logged with all its columns"},
	{name: "binlog_row_metadata", text: "the log names its columns and keys", judge: unless("FULL",
		"the log does not name its columns, so they are looked up as they are at the time; SET GLOBAL binlog_row_metadata = FULL makes the log tell")},
	{name: "binlog_row_value_options", text: "JSON documents are logged whole"},
	{name: "binlog_transaction_compression", text: "how transactions travel"},
	{name: "binlog_checksum", text: "what is read is checked for damage", judge: unless("CRC32",
		"damage on the way is not noticed; SET GLOBAL binlog_checksum = CRC32")},
	{name: "gtid_mode", text: "positions are good on every replica of this server", judge: unless("ON",
		"positions are files and offsets, and good on this server only")},
	{name: "log_replica_updates", text: "what this server itself replicates is logged", judge: unless("ON",
		"what this server itself replicates is not in its log, and so not followed")},
	{name: "log_slave_updates", since: "log_replica_updates", text: "what this server itself replicates is logged", judge: unless("ON",
		"what this server itself replicates is not in its log, and so not followed")},
	{name: "binlog_expire_logs_seconds", text: "seconds that the log is kept, and reading may pause", judge: atLeast(86400,
		"seconds that the log is kept: after a pause longer than that, changes are lost; a day at least is better")},
	{name: "expire_logs_days", since: "binlog_expire_logs_seconds", text: "days that the log is kept, and reading may pause; 0 is for ever"},
}

var targetSettings = []setting{
	{name: "read_only", text: "rows can be written", judge: unless("OFF", "rows can be written only by accounts with a right to pass this")},
	{name: "super_read_only", text: "rows can be written", judge: unless("OFF", "no row can be written: SET GLOBAL super_read_only = OFF")},
	{name: "max_allowed_packet", text: "bytes that one row may take, as SQL", judge: atLeast(16<<20,
		"bytes that one row may take, as SQL; rows of the source may be larger")},
	{name: "innodb_flush_log_at_trx_commit", text: "what is committed survives a power failure", judge: unless("1",
		"what is committed may be lost by a power failure, with its checkpoint, and is then applied again")},
	{name: "sync_binlog", text: "what is committed is in the target's own log", judge: unless("1",
		"the target's own log may lack what is committed, after a power failure")},
	{name: "sql_mode", text: "does not matter here: the session sets its own"},
	{name: "time_zone", text: "does not matter here: the session sets its own"},
	{name: "foreign_key_checks", text: "does not matter here: each change says whether to check"},
	{name: "lower_case_table_names", text: "whether names of tables are stored in lower case"},
}

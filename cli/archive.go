package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/config"
	"github.com/dataflowsync/dfs/internal/match"
	"github.com/dataflowsync/dfs/sink"
	"github.com/dataflowsync/dfs/sink/s3"
)

const archiveUsage = `basic archive looks into an archive, and restores from it.

usage: basic archive COMMAND [flags] [tables]

commands:
  list      the segments, and the copies of rows from which a restore can begin
  verify    read each byte, and name what is damaged, missing or foreign
  show      the transactions from one place to another, with -rows their rows
  restore   restore into the target of a file that has the archive as its source:
            all tables of source.tables, or those named behind the flags
  undo      the reverse of the transactions from one place to another as SQL, or
            with -apply in the target of the file, which must still have their rows
            as they left them

flags:
  -c file        configuration file with the archive under target or source
                 (default: dfs.yaml)
  -target name   which of several targets, if more than one of them is an archive
  -dir folder    the archive, without a file: for list, verify, show and undo
  -store bucket  its bucket, s3://bucket/prefix?region=..., or that alone; credentials are
                 those of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY
  -key-file file its key, if it is encrypted, and -dir is given
  -to place      show, restore, undo: end with this transaction, or this time
  -from place    show, undo: begin with this transaction, or after this time;
                 undo without -to is about this transaction alone
  -before        restore: end before the transaction that -to names
  -log-only      restore: the log alone, without a copy of rows to begin with
  -incomplete    restore: also to where some tables were still being copied, which then
                 lack rows
  -rows          show: the rows of each transaction
  -key text      undo: only the row with this primary key, its columns by commas
  -apply         undo: in the target of the file, and not as SQL
  -json          list, verify: print JSON
  -log fmt       restore: log as text or json

places: 42 or seq:42, a number in the archive; id:NAME or a GTID; time:2006-01-02T15:04:05Z

exit codes: 0 done; 1 stopped by an error; 2 wrong command line or file; 3 archive or
target cannot be used as they are; 4 verify: something is damaged
`

// archiveFlags are what the command line says after "archive COMMAND".
type archiveFlags struct {
	flags
	dir, keyFile      string
	store             string
	from, to          dfs.StopPoint
	before, logOnly   bool
	incomplete        bool
	showRows, doApply bool
	key               string
}

// archiveCommand runs "archive COMMAND".
func archiveCommand(args []string, funcs *config.Funcs, stdout, stderr io.Writer) int {
	misuse := func(text string) int {
		fmt.Fprintf(stderr, "basic archive: %s\nbasic archive -h lists the commands and flags\n", text)
		return exitUsage
	}
	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "-help" || args[0] == "--help" {
		fmt.Fprint(stdout, archiveUsage)
		return exitOK
	}
	name := args[0]
	var f archiveFlags
	var from, to string
	set := flag.NewFlagSet("basic archive "+name, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.StringVar(&f.file, "c", "dfs.yaml", "")
	set.StringVar(&f.target, "target", "", "")
	set.StringVar(&f.dir, "dir", "", "")
	set.StringVar(&f.store, "store", "", "")
	set.StringVar(&f.keyFile, "key-file", "", "")
	set.StringVar(&from, "from", "", "")
	set.StringVar(&to, "to", "", "")
	set.BoolVar(&f.before, "before", false, "")
	set.BoolVar(&f.incomplete, "incomplete", false, "")
	set.BoolVar(&f.logOnly, "log-only", false, "")
	set.BoolVar(&f.showRows, "rows", false, "")
	set.StringVar(&f.key, "key", "", "")
	set.BoolVar(&f.doApply, "apply", false, "")
	set.BoolVar(&f.json, "json", false, "")
	set.StringVar(&f.format, "log", "", "")
	err := set.Parse(args[1:])
	f.tables = set.Args()
	var errFrom, errTo error
	f.from, errFrom = parsePlace(from)
	f.to, errTo = parsePlace(to)
	is := func(names ...string) bool {
		for _, n := range names {
			if n == name {
				return true
			}
		}
		return false
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, archiveUsage)
		return exitOK
	case !is("list", "verify", "show", "restore", "undo"):
		return misuse(fmt.Sprintf("unknown command %q", name))
	case err != nil:
		return misuse(err.Error())
	case errors.Join(errFrom, errTo) != nil:
		return misuse(errors.Join(errFrom, errTo).Error())
	case is("list", "verify") && len(f.tables) > 0:
		return misuse(fmt.Sprintf("unexpected argument %q", f.tables[0]))
	case is("list", "verify", "restore") && from != "", is("list", "verify") && to != "":
		return misuse("-from is for show and undo, -to for show, restore and undo")
	case !is("restore") && (f.before || f.logOnly || f.incomplete || f.format != ""):
		return misuse("-before, -log-only, -incomplete and -log are for restore")
	case is("restore") && f.bare():
		return misuse("restore takes the archive and the target from a file: write source: {archive: ...} and target: there")
	case f.target != "" && f.bare():
		return misuse("-target is for a file with several targets")
	case f.keyFile != "" && !f.bare():
		return misuse("-key-file is for -dir and -store; the file has target.archive.key_file")
	case !is("undo") && (f.doApply || f.key != ""), f.doApply && f.bare():
		return misuse("-apply and -key are for undo, and -apply for a target that a file names")
	case is("undo") && from == "":
		return misuse("undo needs -from: the transaction, or the first of those, to be taken back")
	case !is("show") && f.showRows, !is("list", "verify") && f.json:
		return misuse("-rows is for show, and -json for list and verify")
	}
	for _, table := range f.tables {
		if _, _, err := match.ParseFollowed(table); err != nil {
			return misuse(err.Error() + "; flags come before tables")
		}
	}

	var c *config.Config
	o := &sink.ArchiveOptions{}
	part := &config.Archive{Dir: f.dir, Store: f.store, KeyFile: f.keyFile}
	if !f.bare() {
		if c, err = config.LoadWith(f.file, funcs); err != nil {
			report(stderr, f.file+" cannot be used", err)
			return exitUsage
		}
		if c, err = archiveLine(c, f.target); err != nil {
			return misuse(err.Error())
		}
		part = &c.Source.Archive
		if c.Target.Archive.On() {
			part = &c.Target.Archive
		}
		if !part.On() {
			return misuse(f.file + " has no archive, neither as source nor as target")
		}
	}
	if o, err = part.Options(); err != nil {
		report(stderr, "the archive cannot be used", err)
		return exitSetup
	}
	ctx, stop := untilSignal(stderr)
	defer stop()
	if name == "verify" {
		if err = openStore(ctx, part, o, true); err != nil {
			report(stderr, "not verified", err)
			return exitSetup
		}
		return verifyArchive(ctx, part.Dir, o, f, stdout, stderr)
	}
	if name == "restore" {
		if !c.Source.Archive.On() {
			return misuse(f.file + " has the archive as its target: write a file for the restore, with source: {archive: ...} and the target")
		}
		return restore(ctx, c, f, stderr)
	}
	a, err := openToRead(ctx, part, o)
	if err != nil {
		report(stderr, "the archive cannot be used", err)
		return exitSetup
	}
	defer a.Close()
	switch name {
	case "list":
		err = listArchive(a, f, stdout)
	case "show":
		err = showArchive(ctx, a, f, stdout)
	case "undo":
		return undo(ctx, c, a, f, stdout, stderr)
	}
	if err != nil && ctx.Err() == nil {
		report(stderr, name, err)
		return exitRun
	}
	return exitOK
}

// bare reports whether the archive is named without a file.
func (f *archiveFlags) bare() bool { return f.dir != "" || f.store != "" }

// openStore opens the bucket of an archive, if it has one, and puts it into the options.
func openStore(ctx context.Context, part *config.Archive, o *sink.ArchiveOptions, readOnly bool) error {
	if part.Store == "" {
		return nil
	}
	store, err := s3.Open(ctx, part.Store, &s3.Options{AccessKey: string(part.AccessKey), SecretKey: string(part.SecretKey), ReadOnly: readOnly})
	if err != nil {
		return err
	}
	o.Store = store
	return nil
}

// openToRead opens an archive that another process may be writing.
func openToRead(ctx context.Context, part *config.Archive, o *sink.ArchiveOptions) (*sink.Archive, error) {
	if err := openStore(ctx, part, o, true); err != nil {
		return nil, err
	}
	return sink.OpenArchive(part.Dir, &sink.ArchiveOptions{Key: o.Key, Store: o.Store, ReadOnly: true})
}

// parsePlace reads what -from and -to say.
func parsePlace(text string) (at dfs.StopPoint, err error) {
	kind, rest, _ := strings.Cut(text, ":")
	switch n, bad := strconv.ParseUint(text, 10, 64); {
	case text == "":
		return at, nil
	case bad == nil:
		at.Seq = n
	case kind == "seq":
		at.Seq, err = strconv.ParseUint(rest, 10, 64)
	case kind == "id":
		at.ID = rest
	case kind == "time":
		at.Time, err = time.Parse(time.RFC3339Nano, rest)
	default:
		at.ID = text
	}
	if err != nil || at.IsZero() {
		return at, fmt.Errorf("the place %q is none: write 42 or seq:42, id:NAME or a GTID, or time:2006-01-02T15:04:05Z", text)
	}
	return at, nil
}

// listArchive prints what an archive is made of.
func listArchive(a *sink.Archive, f archiveFlags, stdout io.Writer) error {
	segments, bases := a.List()
	if f.json {
		out := json.NewEncoder(stdout)
		out.SetIndent("", "  ")
		return out.Encode(map[string]any{"segments": segments, "baselines": bases, "stats": a.Stats()})
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "segment\ttransactions\tcommitted from\tto\tlast\tsize\t")
	for _, s := range segments {
		note := ""
		if !s.Sealed {
			note = "being written"
		}
		if s.Encrypted {
			note = strings.TrimPrefix(note+", encrypted", ", ")
		}
		span := "none"
		if s.First <= s.Last {
			span = fmt.Sprintf("%d-%d", s.First, s.Last)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.File, span, timeText(s.From), timeText(s.To), cmp.Or(s.LastID, "-"), size(s.Bytes), note)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, b := range bases {
		if b.Failed {
			fmt.Fprintf(stdout, "copy of rows after transaction %d: ended without some of the tables; no restore begins there\n", b.After)
			continue
		}
		if b.Done == 0 {
			fmt.Fprintf(stdout, "copy of rows after transaction %d: not whole yet\n", b.After)
			continue
		}
		fmt.Fprintf(stdout, "copy of rows after transaction %d: restores to %d and later, since %s\n", b.After, b.Done, timeText(b.At))
	}
	if len(bases) == 0 {
		fmt.Fprintln(stdout, "no copy of rows: only the log can be restored (-log-only)")
	}
	return nil
}

func timeText(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02T15:04:05Z")
}

func size(n int64) string { return config.Size(n).String() }

// verifyArchive reads all of an archive.
func verifyArchive(ctx context.Context, dir string, o *sink.ArchiveOptions, f archiveFlags, stdout, stderr io.Writer) int {
	r, err := sink.VerifyArchive(ctx, dir, &sink.VerifyArchiveOptions{Key: o.Key, Store: o.Store, Decode: new(cdc.Source).Decode})
	if err != nil {
		report(stderr, "not verified", err)
		return exitSetup
	}
	if f.json {
		faults := []string{}
		for _, err := range r.Faults {
			faults = append(faults, err.Error())
		}
		err = json.NewEncoder(stdout).Encode(map[string]any{"segments": r.Segments, "transactions": r.Transactions, "rows": r.Rows, "bytes": r.Bytes, "faults": faults})
		if err != nil {
			report(stderr, "verify", err)
			return exitRun
		}
	} else {
		for _, err := range r.Faults {
			fmt.Fprintln(stdout, "fault:", err)
		}
		fmt.Fprintf(stdout, "%s, %s, %s read, %s\n", plural(uint64(r.Segments), "segment"), plural(r.Transactions, "transaction"),
			size(r.Bytes), plural(uint64(len(r.Faults)), "fault"))
	}
	if len(r.Faults) > 0 {
		return exitDifferent
	}
	return exitOK
}

// showArchive prints transactions.
func showArchive(ctx context.Context, a *sink.Archive, f archiveFlags, stdout io.Writer) error {
	tables, err := match.ParseList(f.tables)
	if err != nil {
		return err
	}
	return a.Each(ctx, f.from, f.to, new(cdc.Source).Decode, func(tx *dfs.Transaction) error {
		counts := make(map[string]int)
		var order []string
		for _, c := range tx.Changes {
			if c.Table != nil && c.Op != dfs.DDL && !tables.Follows(c.Table.Schema, c.Table.Name) {
				continue
			}
			name := c.Op.String() + " " + c.Table.String()
			if c.Op == dfs.DDL {
				name = c.Query
			}
			if counts[name]++; counts[name] == 1 {
				order = append(order, name)
			}
		}
		if len(order) == 0 {
			return nil
		}
		more := ""
		if tx.More {
			more = ", to be continued"
		}
		fmt.Fprintf(stdout, "%d %s %s%s\n", tx.Seq, cmp.Or(tx.ID, "-"), timeText(tx.Committed), more)
		if !f.showRows {
			for _, name := range order {
				fmt.Fprintf(stdout, "  %s: %d\n", name, counts[name])
			}
			return nil
		}
		for _, c := range tx.Changes {
			switch {
			case c.Op == dfs.DDL:
				fmt.Fprintf(stdout, "  %s\n", c.Query)
			case tables.Follows(c.Table.Schema, c.Table.Name):
				fmt.Fprintf(stdout, "  %s %s\n", c.Op, c.Table)
				for _, r := range []struct {
					sign string
					row  dfs.Row
				}{{"-", c.Before}, {"+", c.After}} {
					if r.row == nil {
						continue
					}
					fmt.Fprintf(stdout, "    %s", r.sign)
					for i, v := range r.row {
						fmt.Fprintf(stdout, " %s=%q", c.Table.Columns[i].Name, v.String())
					}
					fmt.Fprintln(stdout)
				}
			}
		}
		return nil
	})
}

// checkArchive looks at the archive of a file.
func checkArchive(ctx context.Context, c *config.Config) section {
	part := &c.Source.Archive
	s := section{Part: "archive"}
	if c.Target.Archive.On() {
		part = &c.Target.Archive
	}
	s.About = part.Address()
	o, err := part.Options()
	if err == nil {
		o.ReadOnly = true
		err = openStore(ctx, part, o, c.Source.Archive.On())
	}
	if err == nil {
		if _, bad := os.Stat(part.Dir); c.Target.Archive.On() && o.Store == nil && errors.Is(bad, os.ErrNotExist) {
			s.add("ok", "folder", "", "is not there yet, and will be made")
			return s
		}
		var a *sink.Archive
		if a, err = sink.OpenArchive(part.Dir, o); err == nil {
			defer a.Close()
			st := a.Stats()
			s.add("ok", "transactions", fmt.Sprintf("%d-%d", st.First, st.Last), plural(uint64(st.Segments), "segment")+", "+size(st.Bytes))
			if _, bases := a.List(); len(bases) == 0 || bases[0].Done == 0 {
				s.add("note", "copy of rows", "", "there is none that is whole yet, and nothing can be restored before")
			}
		} else if c.Target.Archive.On() && strings.Contains(err.Error(), "there is none") {
			s.add("ok", "folder", "", "is empty")
			return s
		}
	}
	if err != nil && ctx.Err() == nil {
		s.faults(err)
	}
	return s
}

// withArchive runs a command for a file that has an archive in it.
func withArchive(ctx context.Context, c *config.Config, f flags, name string, stdout, stderr io.Writer) int {
	switch {
	case name == "run" && f.dry:
		return misuse(stderr, "-dry-run is for a target that is a server, with a source that is one")
	case name == "run" && c.Target.Archive.On():
		return runArchive(ctx, c, f, stderr)
	case name == "run":
		return restore(ctx, c, archiveFlags{flags: f}, stderr)
	case name == "check":
		p := &parts{}
		defer p.close()
		var sections []section
		if c.Source.Archive.On() {
			sections = []section{checkArchive(ctx, c), checkTarget(ctx, c, p)}
		} else {
			sections = []section{checkSource(ctx, c, p), checkArchive(ctx, c)}
		}
		return conclude(sections, f, stdout, stderr)
	}
	return misuse(stderr, name+" is for servers; for an archive there are basic archive list, verify and show")
}

// undo takes transactions back, as SQL or in the target of the file.
func undo(ctx context.Context, c *config.Config, a *sink.Archive, f archiveFlags, stdout, stderr io.Writer) int {
	fail := func(err error) int {
		if ctx.Err() != nil {
			return exitOK
		}
		report(stderr, "undo", err)
		return exitRun
	}
	u, err := a.Undo(ctx, &sink.UndoOptions{From: f.from, To: f.to, Tables: f.tables, Key: f.key, Decode: new(cdc.Source).Decode})
	if err != nil {
		return fail(err)
	}
	if !f.doApply {
		if err := u.SQL(stdout); err != nil {
			return fail(err)
		}
		return exitOK
	}
	if c.Target.Archive.On() {
		return misuse(stderr, "undo -apply needs a file whose target is a server, and whose source is the archive")
	}
	for _, n := range u.Notes {
		fmt.Fprintln(stderr, "note:", n)
	}
	if kind := c.Target.Kind(); kind == config.StreamTarget {
		return misuse(stderr, fmt.Sprintf("undo -apply is for a target with rows, and this is %s", kind))
	}
	m, err := openSinkWith(ctx, c, targetOptions(c, slog.New(slog.DiscardHandler)))
	if err != nil {
		reportParts(stderr, &partError{targetName(c), err})
		return exitSetup
	}
	defer m.Close()
	if err := m.(interface {
		Undo(ctx context.Context, u *sink.Undo) error
	}).Undo(ctx, u); err != nil {
		return fail(err)
	}
	fmt.Fprintf(stdout, "took back %s of %s\n", plural(uint64(u.Rows), "row"), plural(uint64(u.Transactions), "transaction"))
	return exitOK
}

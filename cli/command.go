package cli

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/dataflowsync/dfs/internal/config"
	"github.com/dataflowsync/dfs/internal/match"
)

// Exit codes. A second SIGINT or SIGTERM ends the process at once, with 130 or
// 143 as the shell has it.
const (
	exitOK        = 0 // ended as asked; check: all is ready; status: shown; verify: all is equal
	exitRun       = 1 // stopped by an error while running; status: a part cannot be read
	exitUsage     = 2 // wrong command line or configuration file
	exitSetup     = 3 // source, queue or target cannot be used as they are
	exitDifferent = 4 // verify: source and target differ, or did before it was mended
	exitUnknown   = 5 // verify: nothing differs, but not all could be compared
)

const usage = `basic keeps a MySQL or MariaDB database in step with another.

usage: basic [command] [flags] [tables]

commands:
  run       carry changes from source to target until told to stop (the default)
  check     look at source, queue, target and tables, and say all that is amiss and
            how to mend it; changes nothing, but makes the checkpoint's table
  status    say where source, queue and target stand, also while they run
  verify    compare the rows of source and target, of all tables or of those named
            behind the flags ("shop.orders", "shop.*"), also while run is at work
  pause, resume, stop, drain, start, stop-at PLACE, skip ID, unskip ID
            ask it of the pipeline that runs, which needs the section monitor:
            pause the target; stop after the batch in hand; stop when the queue is
            empty; start after a stop or an error; stop at gtid:SET,
            file:NAME:POSITION, seq:N, id:NAME or time:2006-01-02T15:04:05Z; step
            over the transaction with this name, or do not
  forget READER  end what a target that was taken out of the file holds back in the
            queue, which must not be in use; check names such readers
  trace TABLE KEY...
            say what became of a row, from its place in the source's log to the target's
            statement, which needs the section journal: by its table, "shop.orders", and
            the values of its primary key; or, with -seq, -id or -failed, of transactions
  archive   list, verify, show, restore, undo: see "basic archive -h"
  follow TABLE, unfollow TABLE, copy TABLE
            ask it of the pipeline that runs, too: carry one more table and copy the
            rows that it has; leave a table out from now on; copy the rows of a table
            once more. It is answered when that is stored, and outlasts any restart
  letters   list the transactions that were refused, and those that wait for them;
            letters show N, letters retry N..., skip, park (do not retry after all),
            purge (forget what is settled), each also with "all" for numbers;
            letters edit N 0.mail=text 0.before.mail=NULL 1.drop, where 0 and 1 are
            changes as show has them. A pipeline that runs needs the section monitor
  audit     list what people have asked of the pipelines, who, when and why, and what came
            of it: from the file monitor.audit, else what the running monitor remembers
  config    print an example file in which every key is explained
  version   print the version

flags:
  -c file   configuration file (default: dfs.yaml)
  -log fmt  run: log as text or json, over what the file says
  -plain    run: no live line, even on a terminal
  -target name  verify, trace, run -dry-run, letters, audit, pause and so on: which of several targets; for
            pause and so on, "capture" is what fills the queue
  -json     check, status, verify, trace, letters, audit, run -dry-run, pause and so on: print JSON
  -why text letters, pause and so on: the reason, for the log
  -where c  copy: only the rows that meet this condition, in SQL
  -without-rows  follow: do not copy the rows that the table has
  -anyway   skip: also where the error is not that transaction's fault, so that it helps nothing
  -dry-run  run: print the statements that the target would get, a transaction
            after the other, and write nothing there nor anywhere else
            verify: with -repair, say which statements would mend what differs, and do nothing
  -count n  run -dry-run: end after so many transactions; trace, audit: show so many
  -seq n, -id text, -failed  trace: the transaction with this number, or with this name
            at the source; or those that were refused
  -for d    run -dry-run: end after so long, such as 30s
  -repair   verify: make each row of the target that differs what it must be, while run is at
            work: one that is missing is inserted, one too many deleted, one that differs updated,
            each in a transaction of the target's that keeps the pipeline from committing
  -lock-time d  verify: how long rows that go on to differ, or a table without a key, may be
            locked on the source meanwhile (default: 1s)
  -continuous  verify: again and again, until told to stop
  -rows n   verify: read at most so many rows a second

exit codes:
  0         ended as asked; check: all is ready; status: shown; verify: all is equal
  1         stopped by an error while running, or would stop (-dry-run); status: a part cannot be read
  2         wrong command line or configuration file
  3         source, queue or target cannot be used as they are
  4         verify: source and target differ, or did before it was mended
  5         verify: nothing differs, but not all could be compared
  130, 143  a second SIGINT or SIGTERM ended it at once

SIGINT and SIGTERM finish the work in hand, for as long as pipeline.stop_timeout
allows. Whatever ends it, even kill -9, nothing is lost and nothing comes twice.
`

// example is what "basic config" prints.
//
//go:embed dfs.yaml
var example string

// flags are what the command line says after the command.
type flags struct {
	file   string
	format string
	plain  bool
	json   bool
	dry    bool
	count  int
	period time.Duration
	why    string

	where       string
	withoutRows bool
	anyway      bool

	arg string // what the command is about

	repair     bool
	continuous bool
	rows       int
	lockTime   time.Duration
	tables     []string
	letters    []string
	target     string // one of several

	seq    uint64 // trace
	id     string
	failed bool
}

// command runs the command line and returns the exit code.
func command(args []string, funcs *config.Funcs, stdout, stderr io.Writer) int {
	name := "run"
	if len(args) > 0 && (args[0] == "" || args[0][0] != '-') {
		name, args = args[0], args[1:]
	}
	if name == "archive" {
		return archiveCommand(args, funcs, stdout, stderr)
	}
	var f flags
	needs := orders[name].arg // what the command is about
	if name == "forget" {
		needs = "the name of a reader of the queue"
	}
	if needs != "" && len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		f.arg, args = args[0], args[1:]
	}
	var words []string // of trace and letters, in front of the flags
	for (name == "trace" || name == "letters") && len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		words, args = append(words, args[0]), args[1:]
	}
	set := flag.NewFlagSet("basic "+name, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.StringVar(&f.file, "c", "dfs.yaml", "")
	set.StringVar(&f.format, "log", "", "")
	set.BoolVar(&f.plain, "plain", false, "")
	set.BoolVar(&f.json, "json", false, "")
	set.BoolVar(&f.dry, "dry-run", false, "")
	set.IntVar(&f.count, "count", 0, "")
	set.DurationVar(&f.period, "for", 0, "")
	set.BoolVar(&f.repair, "repair", false, "")
	set.BoolVar(&f.continuous, "continuous", false, "")
	set.IntVar(&f.rows, "rows", 0, "")
	set.DurationVar(&f.lockTime, "lock-time", 0, "")
	set.StringVar(&f.why, "why", "", "")
	set.StringVar(&f.target, "target", "", "")
	set.Uint64Var(&f.seq, "seq", 0, "")
	set.StringVar(&f.id, "id", "", "")
	set.BoolVar(&f.failed, "failed", false, "")
	set.StringVar(&f.where, "where", "", "")
	set.BoolVar(&f.withoutRows, "without-rows", false, "")
	set.BoolVar(&f.anyway, "anyway", false, "")
	switch err := set.Parse(args); {
	case errors.Is(err, flag.ErrHelp), name == "help":
		fmt.Fprint(stdout, usage)
		return exitOK
	case err != nil:
		return misuse(stderr, err.Error())
	case needs != "" && f.arg == "" && set.NArg() == 1:
		f.arg = set.Arg(0)
	case needs != "" && f.arg == "":
		return misuse(stderr, fmt.Sprintf("%s needs %s", name, needs))
	case set.NArg() > 0 && name != "verify" && name != "trace" && name != "letters":
		return misuse(stderr, fmt.Sprintf("unexpected argument %q", set.Arg(0)))
	case f.format != "" && f.format != "text" && f.format != "json":
		return misuse(stderr, fmt.Sprintf("-log is %q; want text or json", f.format))
	case f.dry && name != "run" && !(name == "verify" && f.repair):
		return misuse(stderr, "-dry-run is for run, and for verify -repair")
	case (name != "run" || !f.dry) && (f.count != 0 && name != "trace" && name != "audit" || f.period != 0):
		return misuse(stderr, "-count and -for are for run -dry-run")
	case (f.seq != 0 || f.id != "" || f.failed) && name != "trace":
		return misuse(stderr, "-seq, -id and -failed are for trace")
	case name == "trace" && len(words)+set.NArg() == 0 && f.seq == 0 && f.id == "" && !f.failed:
		return misuse(stderr, "trace needs a table and a key, or -seq, -id or -failed")
	case f.count < 0 || f.period < 0:
		return misuse(stderr, "-count and -for must not be negative")
	case (f.repair || f.continuous || f.rows != 0 || f.lockTime != 0) && name != "verify":
		return misuse(stderr, "-repair, -lock-time, -continuous and -rows are for verify")
	case f.lockTime < 0:
		return misuse(stderr, "-lock-time must not be negative")
	case f.target != "" && (name == "run" && !f.dry || name == "check" || name == "status" || name == "forget"):
		return misuse(stderr, "-target is for verify, run -dry-run, pause and so on")
	case f.where != "" && orders[name].more != "where":
		return misuse(stderr, "-where is for copy")
	case f.anyway && orders[name].more != "anyway":
		return misuse(stderr, "-anyway is for skip")
	case f.withoutRows && orders[name].more != "without-rows":
		return misuse(stderr, "-without-rows is for follow")
	case f.rows < 0:
		return misuse(stderr, "-rows must not be negative")
	}
	f.tables = append(words, set.Args()...)
	if name == "letters" {
		f.letters, f.tables = f.tables, nil
	}
	names := f.tables
	if name == "trace" {
		names = names[:min(len(names), 1)] // then comes the key
	}
	for _, table := range names {
		if _, _, err := match.ParseFollowed(table); err != nil {
			return misuse(stderr, err.Error()+"; flags come before tables")
		}
	}

	switch name {
	case "config":
		fmt.Fprint(stdout, example)
		return exitOK
	case "version":
		fmt.Fprintln(stdout, version())
		return exitOK
	case "run", "check", "status", "verify", "trace", "forget", "letters", "audit":
	default:
		if _, ok := orders[name]; ok {
			break
		}
		return misuse(stderr, fmt.Sprintf("unknown command %q", name))
	}

	cfg, err := config.LoadWith(f.file, funcs)
	if err != nil {
		report(stderr, f.file+" cannot be used", err)
		return exitUsage
	}
	ctx, stop := untilSignal(stderr)
	defer stop()
	if name == "audit" {
		return audit(ctx, cfg, f, stdout, stderr)
	}
	if cfg.Source.Archive.On() || cfg.Target.Archive.On() {
		return withArchive(ctx, cfg, f, name, stdout, stderr)
	}
	switch name {
	case "check":
		return check(ctx, cfg, f, stdout, stderr)
	case "status":
		return status(ctx, cfg, f, stdout, stderr)
	case "verify":
		return verifyEach(ctx, cfg, f, stdout, stderr)
	case "trace":
		return traceRow(ctx, cfg, f, stdout, stderr)
	case "letters":
		return letters(ctx, cfg, f, stdout, stderr)
	case "forget":
		return forget(ctx, cfg, f, stdout, stderr)
	}
	if _, ok := orders[name]; ok {
		return ask(ctx, cfg, f, name, stdout, stderr)
	}
	if f.dry {
		return dryRun(ctx, cfg, f, stdout, stderr)
	}
	return run(ctx, cfg, f, stderr)
}

func misuse(stderr io.Writer, text string) int {
	fmt.Fprintf(stderr, "basic: %s\nbasic -h lists the commands and flags\n", text)
	return exitUsage
}

// untilSignal returns a context that ends with the first SIGINT or SIGTERM. The
// second ends the process.
func untilSignal(stderr io.Writer) (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		if _, ok := <-signals; !ok {
			return
		}
		cancel()
		if s, ok := <-signals; ok {
			fmt.Fprintln(stderr, "\nbasic: ended at once by a second signal; the next start goes on from the target's checkpoint")
			os.Exit(128 + int(s.(syscall.Signal)))
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(signals)
		cancel()
	}
}

// version names the release and what it was built with.
func version() string {
	release := "(devel)"
	if info, ok := debug.ReadBuildInfo(); ok {
		release = info.Main.Version // with the commit's id, unless it is a release
	}
	return fmt.Sprintf("basic %s %s %s/%s", release, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

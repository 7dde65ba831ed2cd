package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/config"
	"github.com/dataflowsync/dfs/monitor"
	"github.com/dataflowsync/dfs/queue"
)

// openLetters opens the file of dead letters.
func openLetters(c *config.Config, readOnly bool) (*queue.Letters, error) {
	l := c.Letters
	return queue.OpenLetters(l.Path, &queue.LettersOptions{
		Pipeline: c.Name, MaxLetters: l.MaxLetters, MaxBytes: int64(l.MaxBytes), KeepFor: l.KeepFor, ReadOnly: readOnly,
	})
}

// letterCommand reads the arguments of the command letters: what to do, and numbers
// or "all", or for edit the number and changes such as 0.mail=text.
func letterCommand(args []string) (monitor.LetterOrder, error) {
	o := monitor.LetterOrder{Action: "list"}
	if len(args) > 0 {
		o.Action, args = args[0], args[1:]
	}
	switch o.Action {
	case "list":
		if len(args) > 0 {
			return o, fmt.Errorf("letters list has no arguments; letters show %s shows one", args[0])
		}
		return o, nil
	case "show", "retry", "park", "skip", "purge", "edit":
	default:
		return o, fmt.Errorf("letters %s: want list, show, retry, park, skip, purge or edit", o.Action)
	}
	for i, text := range args {
		if text == "all" && o.Action != "show" && o.Action != "edit" {
			o.All = true
			continue
		}
		if o.Action == "edit" && i > 0 {
			e, err := letterEdit(text)
			if err != nil {
				return o, err
			}
			o.Edits = append(o.Edits, e)
			continue
		}
		n, err := strconv.ParseUint(text, 10, 63)
		if err != nil {
			return o, fmt.Errorf("letters %s: %q is not the number of a letter; letters list shows them", o.Action, text)
		}
		o.Letters = append(o.Letters, n)
	}
	if len(o.Letters) == 0 && !o.All {
		return o, fmt.Errorf("letters %s needs the numbers of letters; letters list shows them", o.Action)
	}
	if o.Action == "edit" && len(o.Edits) == 0 {
		return o, errors.New("letters edit needs changes, such as 0.mail=text, 0.before.mail=NULL, or 0.drop")
	}
	return o, nil
}

// letterEdit reads "0.mail=text", "0.before.mail=NULL", "0.drop". A NULL in quotes is
// a text.
func letterEdit(text string) (e monitor.Edit, err error) {
	place, value, set := strings.Cut(text, "=")
	number, column, ok := strings.Cut(place, ".")
	if e.Change, err = strconv.Atoi(number); err != nil || !ok {
		return e, fmt.Errorf("%q: write the change's number, a dot and the column, such as 0.mail=text", text)
	}
	switch image, rest, ok := strings.Cut(column, "."); {
	case !set && column == "drop":
		e.Drop = true
		return e, nil
	case !set:
		return e, fmt.Errorf("%q: after the column write = and the value, or NULL", text)
	case ok && (image == "before" || image == "after"):
		e.Image, column = image, rest
	}
	e.Column = column
	if value != "NULL" {
		if value == `"NULL"` {
			value = "NULL"
		}
		e.Value = &value
	}
	return e, nil
}

// letters lists, shows or settles dead letters: those of a running pipeline through
// its monitor, else in the file.
func letters(ctx context.Context, c *config.Config, f flags, stdout, stderr io.Writer) int {
	order, err := letterCommand(f.letters)
	if err != nil {
		return misuse(stderr, err.Error())
	}
	order.Why = f.why
	l := c
	if c.Several() {
		if l, err = chosen(c, f); err != nil {
			report(stderr, "letters", err)
			return exitUsage
		}
	}
	if l.Letters.Path == "" {
		report(stderr, "letters", fmt.Errorf("%s has no section dead_letters; add it, and start run again", f.file))
		return exitUsage
	}
	switch order.Action {
	case "list", "show":
		err = showLetters(ctx, l, f, &order, stdout)
	default:
		err = settleLetters(ctx, c, l, f, &order, stdout)
	}
	if err != nil {
		report(stderr, "letters "+order.Action, err)
		return exitRun
	}
	return exitOK
}

func showLetters(ctx context.Context, c *config.Config, f flags, order *monitor.LetterOrder, stdout io.Writer) error {
	store, err := openLetters(c, true)
	if err != nil {
		return err
	}
	defer store.Close()
	list := []monitor.Letter{}
	if order.Action == "list" {
		b, err := store.Book(ctx)
		if err != nil {
			return err
		}
		for _, l := range b.Letters {
			if l.State != dfs.LetterPurged {
				list = append(list, monitor.ShowLetter(l))
			}
		}
	}
	for _, n := range order.Letters {
		l, err := store.Letter(ctx, n, 1<<20)
		if err != nil {
			return err
		}
		list = append(list, monitor.ShowLetter(l))
	}
	if f.json {
		out := json.NewEncoder(stdout)
		out.SetIndent("", "  ")
		return out.Encode(map[string]any{"letters": list})
	}
	if order.Action == "show" {
		for i := range list {
			printLetter(stdout, &list[i])
		}
		return nil
	}
	if len(list) == 0 {
		_, err := fmt.Fprintln(stdout, "There are no dead letters.")
		return err
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NUMBER\tSTATE\tTRANSACTION\tROWS\tTABLES\tCAME\tWHY")
	for _, l := range list {
		fmt.Fprintf(w, "%d\t%s\t%s\t%d\t%s\t%s\t%s\n", l.Number, l.State, transactionOf(&l), l.Rows, strings.Join(l.Tables, ","),
			l.Came.Local().Format("2006-01-02 15:04:05"), firstLine(reasonOf(&l), 120))
	}
	return w.Flush()
}

func transactionOf(l *monitor.Letter) string {
	if l.ID != "" {
		return l.ID
	}
	return fmt.Sprint(l.Seq)
}

// reasonOf says why a letter is where it is.
func reasonOf(l *monitor.Letter) string {
	switch {
	case l.State == "applied":
		return fmt.Sprintf("with transaction %d", l.At)
	case l.Why != "":
		return l.Why
	case l.Error != "":
		return strings.TrimPrefix(l.Part+": "+l.Error, ": ")
	case len(l.After) > 0:
		return "waits for " + strings.Trim(fmt.Sprint(l.After), "[]")
	}
	return ""
}

func firstLine(s string, most int) string {
	s, _, _ = strings.Cut(s, "\n")
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

func printLetter(w io.Writer, l *monitor.Letter) {
	fmt.Fprintf(w, "letter %d: %s, transaction %d %s\n", l.Number, l.State, l.Seq, l.ID)
	if reason := reasonOf(l); reason != "" {
		fmt.Fprintf(w, "  %s\n", reason)
	}
	if l.Statement != "" {
		fmt.Fprintf(w, "  statement: %s\n", l.Statement)
	}
	fmt.Fprintf(w, "  came %s, tried %d times, edited %d times, %d rows\n", l.Came.Local().Format(time.RFC3339), l.Attempts, l.Edits, l.Rows)
	for i, c := range l.Changes {
		fmt.Fprintf(w, "%d. %s %s\n", i, c.Op, c.Table)
		if c.Query != "" {
			fmt.Fprintf(w, "    %s\n", c.Query)
		}
		for _, col := range c.Columns {
			text := func(v *string, image string) string {
				switch {
				case v != nil:
					return strconv.Quote(*v)
				case col.Nulls == image || col.Nulls == "both":
					return "NULL"
				}
				return "-"
			}
			before, after := text(col.Before, "before"), text(col.After, "after")
			mark := " "
			if col.Key {
				mark = "*"
			}
			switch {
			case c.Op == "insert":
				fmt.Fprintf(w, "  %s %s = %s\n", mark, col.Name, after)
			case c.Op == "delete":
				fmt.Fprintf(w, "  %s %s = %s\n", mark, col.Name, before)
			case col.Changed:
				fmt.Fprintf(w, "  %s %s = %s -> %s\n", mark, col.Name, before, after)
			default:
				fmt.Fprintf(w, "  %s %s = %s\n", mark, col.Name, before)
			}
		}
	}
	if l.Cut {
		fmt.Fprintln(w, "  and more")
	}
}

// settleLetters asks the running pipeline or, if there is none, does it in the file.
func settleLetters(ctx context.Context, c, l *config.Config, f flags, order *monitor.LetterOrder, stdout io.Writer) error {
	n, err := 0, error(syscall.ECONNREFUSED)
	if c.Monitor.On() {
		var out struct {
			Letters int `json:"letters"`
		}
		err = post(ctx, c, "pipelines/"+url.PathEscape(l.Name)+"/letters", order, &out)
		n = out.Letters
	}
	where := ""
	if errors.Is(err, syscall.ECONNREFUSED) {
		var store *queue.Letters
		if store, err = openLetters(l, false); err != nil {
			return err
		}
		defer store.Close()
		n, err = order.Do(ctx, &dfs.Pipeline{Letters: store})
		where = "; the next run acts on it"
	}
	if err != nil {
		return err
	}
	if f.json {
		return json.NewEncoder(stdout).Encode(map[string]any{"letters": n})
	}
	_, err = fmt.Fprintf(stdout, "%s: %d letters%s\n", order.Action, n, where)
	return err
}

// post sends a request to the running monitor and reads its answer.
func post(ctx context.Context, c *config.Config, path string, in, out any) error {
	b, err := json.Marshal(in)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, monitorURL(c, c.Monitor.Listen)+"api/"+path, bytes.NewReader(b))
	if err != nil {
		return err
	}
	return call(c, r, out)
}

// readLetters counts those that wait.
func readLetters(ctx context.Context, c *config.Config) letterState {
	s := letterState{Path: c.Letters.Path}
	if _, err := os.Stat(s.Path); errors.Is(err, os.ErrNotExist) {
		return s // not started yet
	}
	store, err := openLetters(c, true)
	if err == nil {
		defer store.Close()
		var b *dfs.LetterBook
		if b, err = store.Book(ctx); err == nil {
			for _, l := range b.Letters {
				if !l.Unsettled() {
					continue
				}
				if s.Waiting++; s.Oldest == nil || l.Came.Before(*s.Oldest) {
					s.Oldest = &l.Came
				}
			}
		}
	}
	if err != nil {
		s.Error = err.Error()
	}
	return s
}

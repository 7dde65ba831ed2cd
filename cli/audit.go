package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/dataflowsync/dfs/internal/config"
	"github.com/dataflowsync/dfs/monitor"
)

// audit prints what people have asked of the pipelines: as the running monitor knows
// it or, if there is none, as the file of actions has it.
func audit(ctx context.Context, c *config.Config, f flags, stdout, stderr io.Writer) int {
	if !c.Monitor.On() {
		report(stderr, "audit", fmt.Errorf("%s has no section monitor, through which actions are asked for and noted; add it, and start run again", f.file))
		return exitUsage
	}
	name := ""
	switch {
	case f.target == "capture" && c.Several():
		name = captureName(c)
	case f.target != "":
		l, err := chosen(c, f)
		if err != nil {
			report(stderr, "audit", err)
			return exitUsage
		}
		name = l.Name
	}
	list, err := actions(ctx, c)
	if err != nil {
		report(stderr, "audit", err)
		return exitRun
	}
	list = slices.DeleteFunc(list, func(a monitor.Action) bool { return name != "" && a.Pipeline != name })
	if f.count > 0 {
		list = list[max(0, len(list)-f.count):]
	}
	if f.json {
		out := json.NewEncoder(stdout)
		out.SetIndent("", "  ")
		err = out.Encode(map[string]any{"actions": list})
	} else {
		err = printActions(stdout, list)
	}
	if err != nil {
		report(stderr, "audit", err)
		return exitRun
	}
	return exitOK
}

func actions(ctx context.Context, c *config.Config) ([]monitor.Action, error) {
	if c.Monitor.Audit != "" { // it has more than the monitor keeps in memory
		return monitor.ReadAudit(c.Monitor.Audit, 0)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, monitorURL(c, c.Monitor.Listen)+"api/audit", nil)
	if err != nil {
		return nil, err
	}
	var out struct {
		Actions []monitor.Action `json:"actions"`
	}
	err = call(c, r, &out)
	if errors.Is(err, syscall.ECONNREFUSED) {
		err = fmt.Errorf("%w; set monitor.audit, so that actions are kept in a file which outlives the process", err)
	}
	return out.Actions, err
}

func printActions(w io.Writer, list []monitor.Action) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "Nothing was asked of the pipelines.")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "TIME\tBY\tFROM\tPIPELINE\tACTION\tWHY\tRESULT")
	one := func(s string) string { return firstLine(strings.Map(printed, s), 120) }
	for _, a := range list {
		result := "done"
		if a.Error != "" {
			result = "refused: " + a.Error
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", a.Time.Local().Format("2006-01-02 15:04:05"), one(a.By), one(a.From), one(a.Pipeline),
			one(strings.TrimSpace(a.Action+" "+a.Argument)), one(a.Why), one(result))
	}
	return t.Flush()
}

// printed keeps what people have written from moving a terminal's cursor.
func printed(r rune) rune {
	if r != '\n' && unicode.IsControl(r) {
		return ' '
	}
	return r
}

package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/config"
	"github.com/dataflowsync/dfs/monitor"
)

// A page is a monitor that is being served.
type page struct {
	url  string
	run  func(ctx context.Context, name string) error // runs a pipeline, under the monitor
	stop func()
}

// remedy returns what to do about an error, or an empty text if the monitor knows that
// as well.
func remedy(err error) string {
	var cures []string
	for _, f := range faultsOf(err) {
		if f.Cure != "" {
			cures = append(cures, f.Cure)
		}
	}
	switch {
	case len(cures) > 0:
	case errors.Is(err, cdc.ErrPurged):
		return "It needs a snapshot: the source has deleted the part of its log that comes next, and no wait brings that back. " +
			"Empty the target's tables, give the pipeline another name, set source.snapshot to true, and start it."
	case errors.Is(err, cdc.ErrErrant):
		return "Compare the two servers by what the message names. If that may come later than it did there, set source.accept_errant to true; " +
			"else it needs a snapshot."
	case errors.Is(err, cdc.ErrDiverged):
		return "Lead the source's address to the server that has what the message names. If none has it any more, it needs a snapshot: the target has what the source has lost."
	}
	return strings.Join(cures, "\n")
}

// monitor serves the monitor that the file asks for.
func (p *parts) monitor(c *config.Config, lines map[string]*dfs.Pipeline, shown *monitor.Log, log *slog.Logger, stderr io.Writer) (*page, error) {
	o := &monitor.Options{
		Log: shown, Logger: log, Journal: p.journal.shown(), Announce: stderr,
		Listen: c.Monitor.Listen, TLS: c.Monitor.TLS.Config(), Hosts: c.Monitor.Hosts, MaxLag: c.Monitor.MaxLag, Audit: c.Monitor.Audit,
		Settings: make(map[string][]monitor.Setting),
		Secrets:  c.Secrets(),
		Remedy:   remedy,
	}
	for _, l := range c.Lines() {
		o.Settings[l.Name] = settings(l)
	}
	for _, u := range c.Monitor.Users {
		o.Users = append(o.Users, monitor.User{Name: u.Name, Password: string(u.Password), ReadOnly: u.ReadOnly})
	}
	h, err := monitor.Open(lines, o)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		err := h.Serve(ctx)
		if err != nil {
			log.Error("the monitor is not served any more; the pipeline goes on", "err", err)
		}
		served <- err
	}()
	out := &page{url: monitorURL(c, h.Addr().String())}
	out.run = func(ctx context.Context, name string) error { return lines[name].Run(ctx) }
	if !c.Monitor.ExitOnError {
		out.run = h.Run
	}
	out.stop = func() {
		cancel()
		<-served
		if err := h.Close(); err != nil {
			log.Error("close the monitor", "err", err)
		}
	}
	return out, nil
}

// settings are what the page shows of the file: nothing that could be a secret.
func settings(c *config.Config) (list []monitor.Setting) {
	add := func(name, value string) {
		if value != "" {
			list = append(list, monitor.Setting{Name: name, Value: value})
		}
	}
	add("source", c.Source.String())
	add("tables", cmp.Or(strings.Join(c.Source.Tables, ", "), "all"))
	add("start", cmp.Or(c.Source.Start, "now"))
	add("queue", cmp.Or(c.Queue.Path, "none"))
	if c.Queue.MaxBytes > 0 {
		add("queue holds at most", c.Queue.MaxBytes.String())
	}
	for _, u := range c.Units {
		add("unit", u.From+" → "+cmp.Or(u.Into, "the same name"))
	}
	add("target", c.Target.String())
	if c.Target.Kind() != config.ArchiveTarget {
		add("checkpoint's schema", cmp.Or(c.Target.Schema, "dfs"))
	}
	for _, r := range c.Target.Routes {
		add("route", r.From+" → "+r.To)
	}
	for _, r := range c.Target.Conflicts {
		add("conflicts of "+r.Tables, r.Policy)
	}
	for _, r := range c.Target.DDL {
		add("statements about "+cmp.Or(r.Tables, "all tables"), strings.TrimSpace(strings.Join(r.Kinds, ", ")+" "+r.Policy))
	}
	for _, u := range c.Monitor.Users {
		role := "may act"
		if u.ReadOnly {
			role = "may look"
		}
		add("user of the monitor", u.Name+", "+role)
	}
	return list
}

// monitorURL is where the page is, as this host calls it.
func monitorURL(c *config.Config, address string) string {
	host, port, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		address = net.JoinHostPort("127.0.0.1", port)
	}
	scheme := "http"
	if c.Monitor.TLS.Config() != nil {
		scheme = "https"
	}
	return scheme + "://" + address + "/"
}

// An order is a command that the running pipeline is given.
type order struct {
	key  string // of what it is about, in the request
	arg  string // what that is; empty if it is about nothing
	more string // the flag that is for it; empty if there is none
}

var orders = map[string]order{
	"pause": {}, "resume": {}, "stop": {}, "drain": {}, "start": {},
	"stop-at": {key: "at", arg: "a place"}, "skip": {key: "id", arg: "the name of a transaction", more: "anyway"}, "unskip": {key: "id", arg: "the name of a transaction"},
	"follow": {"table", "a table", "without-rows"}, "unfollow": {key: "table", arg: "a table"}, "copy": {"table", "a table", "where"},
}

// ask asks something of the pipeline that runs with this file.
func ask(ctx context.Context, c *config.Config, f flags, action string, stdout, stderr io.Writer) int {
	if !c.Monitor.On() {
		report(stderr, action, fmt.Errorf("%s has no section monitor, through which the running pipeline is reached; add it, and start run again", f.file))
		return exitUsage
	}
	name := c.Name
	if c.Several() {
		if name = captureName(c); f.target != "capture" {
			l, err := chosen(c, f)
			if err != nil {
				report(stderr, action, err)
				return exitUsage
			}
			name = l.Name
		}
	}
	s, err := send(ctx, c, f, name, action)
	if err != nil {
		report(stderr, action, err)
		return exitRun
	}
	if f.json {
		out := json.NewEncoder(stdout)
		out.SetIndent("", "  ")
		err = out.Encode(s)
	} else {
		_, err = fmt.Fprintf(stdout, "%s: %s\n", s.Name, s.Text)
	}
	if err != nil {
		report(stderr, action, err)
		return exitRun
	}
	return exitOK
}

func send(ctx context.Context, c *config.Config, f flags, name, action string) (*monitor.State, error) {
	in := map[string]any{"why": f.why}
	if f.where != "" {
		in["where"] = f.where
	}
	if f.anyway {
		in["anyway"] = true
	}
	if f.withoutRows {
		in["without_rows"] = true
	}
	if key := orders[action].key; key != "" {
		in[key] = f.arg
	}
	var s monitor.State
	return &s, post(ctx, c, "pipelines/"+url.PathEscape(name)+"/"+action, in, &s)
}

// callMonitor calls the monitor of the process that runs with this file.
func callMonitor(ctx context.Context, c *config.Config, method, name, action string, body []byte) (*monitor.State, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, monitorURL(c, c.Monitor.Listen)+"api/pipelines/"+url.PathEscape(name)+action, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	var s monitor.State
	return &s, call(c, r, &s)
}

// call sends a request to the monitor of the running pipeline.
func call(c *config.Config, r *http.Request, out any) error {
	r.Header.Set("Content-Type", "application/json")
	if i := slices.IndexFunc(c.Monitor.Users, func(u config.MonitorUser) bool { return !u.ReadOnly }); i >= 0 {
		r.SetBasicAuth(c.Monitor.Users[i].Name, string(c.Monitor.Users[i].Password))
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	if c.Monitor.TLS.Config() != nil {
		transport.TLSClientConfig = c.Monitor.TLS.Trust()
	}
	answer, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		return fmt.Errorf("%w; check that run is running with this file", err)
	}
	defer answer.Body.Close()
	var no struct {
		Refused string `json:"error"`
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, 10<<20))
	switch {
	case err != nil:
		return err
	case answer.StatusCode == http.StatusUnauthorized && len(c.Monitor.Users) == 0:
		return errors.New("the monitor asks for the password that it has made; set monitor.users, so that this command knows one")
	case answer.StatusCode != http.StatusOK:
		if json.Unmarshal(body, &no) != nil || no.Refused == "" {
			return fmt.Errorf("the monitor answered %s", answer.Status)
		}
		return errors.New(no.Refused)
	}
	return json.Unmarshal(body, out)
}

package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs/internal/match"
)

// A Line is one of several targets that one source feeds through one queue.
type Line struct {
	// Name tells it from the others: it is the name under which it reads the queue.
	Name string `yaml:"name"`

	// Checkpoint is the key of its checkpoint on the target. Default: the pipeline's
	// name, a dot, and Name.
	Checkpoint string `yaml:"checkpoint"`

	// Tables are those of the source that it gets. Default: all that are followed.
	Tables []string `yaml:"tables"`

	Target    `yaml:",inline"`
	RelMgr    RelMgr `yaml:"relmgr"`
	Units     []Unit `yaml:"units"`
	OnlyUnits bool   `yaml:"only_units"`
}

// Lines returns a Config for each target, as if it were the only one. All share
// Source and Queue. A file with one target is its own only line.
func (c *Config) Lines() []*Config {
	if c.fan == nil {
		return []*Config{c}
	}
	return c.fan
}

// Several reports whether the file has a list of targets.
func (c *Config) Several() bool { return c.fan != nil }

// Readers returns the names under which the queue is read; none for one target.
func (c *Config) Readers() (names []string) {
	for _, l := range c.fan {
		names = append(names, l.Reader)
	}
	return names
}

// Named returns the line of that name.
func (c *Config) Named(name string) (*Config, error) {
	i := slices.IndexFunc(c.fan, func(l *Config) bool { return l.Reader == name })
	if i >= 0 {
		return c.fan[i], nil
	}
	if c.fan == nil {
		return nil, fmt.Errorf("%s has one target and no list of targets, so none is called %q", c.file, name)
	}
	return nil, fmt.Errorf("no target is called %q; they are %s", name, strings.Join(c.Readers(), ", "))
}

// checkFan makes a Config of each of Targets, whose part of the file stands where
// that of the only target would, and checks each like any other.
func (c *Config) checkFan(d *decoder) {
	line := d.lines["targets"]
	for _, key := range []string{"target", "units", "only_units", "relmgr"} {
		if n := d.lines[key]; n > 0 {
			d.fault(n, "%s stands beside targets; put it under each of the targets that it is for", key)
		}
	}
	if d.lines["queue"] == 0 {
		d.fault(line, "targets need a queue, which all of them read; add the section queue with a path")
	}
	if len(c.Targets) == 0 && !d.faulty(line) {
		d.fault(line, "targets is empty; list at least one, with a name and what target takes")
	}
	for i, t := range c.Targets {
		path := fmt.Sprintf("targets[%d]", i)
		switch at := d.line(path); {
		case t.Name == "" && !d.faulty(at):
			d.fault(at, "%s has no name; give it one, under which it reads the queue", path)
		case slices.ContainsFunc(c.Targets[:i], func(o Line) bool { return o.Name == t.Name }):
			d.fault(d.line(path+".name"), "targets has the name %q twice; give each its own", d.texts[path+".name"])
		}
		for k, p := range t.Tables {
			_, _, err := match.ParseFollowed(p)
			d.pattern(fmt.Sprintf("%s.tables[%d]", path, k), err)
		}
	}
	var first *Config
	for i, t := range c.Targets {
		l := *c
		l.Name = cmp.Or(t.Checkpoint, cmp.Or(c.Name, "dfs")+"."+t.Name)
		l.Targets, l.Reader, l.Target = nil, t.Name, t.Target
		l.RelMgr, l.Units, l.OnlyUnits = t.RelMgr, t.Units, t.OnlyUnits
		if len(t.Tables) > 0 {
			l.Source.Tables, l.own = t.Tables, t.Tables
		}
		sub := &decoder{file: d.file, lookup: d.lookup, lines: d.alone(i), texts: asOnly(d.texts, i), faults: d.faults}
		l.lines = sub.lines
		l.check(sub)
		d.faults = uniqueFaults(sub.faults)
		if i == 0 {
			first = &l
		}
		if k := slices.IndexFunc(c.fan, func(o *Config) bool {
			return l.Target.Archive.Dir != "" && o.Target.Archive.Dir == l.Target.Archive.Dir
		}); k >= 0 {
			d.fault(d.line(fmt.Sprintf("targets[%d].archive", i)), "targets[%d] and targets[%d] are archives in one folder; give each its own", k, i)
		}
		c.fan = append(c.fan, &l)
	}
	if first != nil {
		// What is checked has defaults, and paths that are whole.
		tables := c.Source.Tables
		c.Source, c.Queue, c.Monitor, c.Journal = first.Source, first.Queue, first.Monitor, first.Journal
		c.Source.Tables = tables
	}
	c.Name = cmp.Or(c.Name, "dfs")
}

// alone returns the lines as the target of that index alone would have them.
func (d *decoder) alone(i int) map[string]int {
	m := asOnly(d.lines, i)
	if m["target"] == 0 {
		m["target"] = d.line(fmt.Sprintf("targets[%d]", i))
	}
	return m
}

// asOnly returns what stands under the target of that index where that of the only
// target would.
func asOnly[T any](all map[string]T, i int) map[string]T {
	prefix := fmt.Sprintf("targets[%d]", i)
	own := make(map[string]T)
	for path, v := range all {
		rest, ok := strings.CutPrefix(path, prefix)
		if !ok {
			continue
		}
		switch section(strings.TrimPrefix(rest, ".")) {
		case "units", "only_units", "relmgr":
			own[rest[1:]] = v
		case "tables":
			own["source"+rest] = v
		default:
			own["target"+rest] = v
		}
	}
	_, tables := own["source.tables"]
	for path, v := range all {
		switch section(path) {
		case "target", "units", "only_units", "relmgr":
			continue
		}
		if strings.HasPrefix(path, "targets[") || tables && strings.HasPrefix(path, "source.tables") {
			continue
		}
		own[path] = v
	}
	return own
}

// section returns the first key of a path.
func section(path string) string {
	return path[:len(path)-len(strings.TrimLeft(path, "abcdefghijklmnopqrstuvwxyz_"))]
}

// uniqueFaults leaves out what was found of a part that several targets share.
func uniqueFaults(faults []Fault) (list []Fault) {
	for _, f := range faults {
		if !slices.Contains(list, f) {
			list = append(list, f)
		}
	}
	return list
}

// checkReaders finds what is wrong with what the queue may hold for one target.
func (c *Config) checkReaders(d *decoder) {
	d.negative("queue.max_target", c.Queue.MaxTarget < 0)
	for _, key := range []string{"queue.warn", "queue.max_target"} {
		if n := d.lines[key]; n > 0 && d.lines["targets"] == 0 {
			d.fault(n, "%s is for several targets; leave it out, or list targets", key)
		}
	}
	if c.Queue.MaxTarget > 0 && c.Queue.MaxBytes > 0 && c.Queue.MaxTarget >= c.Queue.MaxBytes {
		d.fault(d.lines["queue.max_target"], "queue.max_target must be less than queue.max_bytes, or reading waits before a target is given up")
	}
}

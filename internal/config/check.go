package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"

	"github.com/dataflowsync/dfs/internal/ddl"
	"github.com/dataflowsync/dfs/internal/match"
)

// check finds what is wrong with values that are well-formed each by itself,
// and makes paths relative to the folder of the file.
func (c *Config) check(d *decoder) {
	dir := filepath.Dir(c.file)
	if c.Name == "" {
		c.Name = "dfs"
	}
	fromArchive, toArchive := c.checkArchives(d, dir)
	if d.lines["source"] == 0 {
		d.fault(0, "source is missing; say which server to read from")
	} else if !fromArchive {
		c.Source.check(d, dir)
	}
	if d.lines["target"] == 0 {
		d.fault(0, "target is missing; say which server to write to (a queue alone, without a target, cannot be run by this program)")
	} else if !toArchive && !c.checkStream(d, dir) {
		c.Target.check(d, "target", dir)
		c.checkKind(d)
	}

	for i, p := range c.Source.Tables {
		_, _, err := match.ParseFollowed(p)
		d.pattern(fmt.Sprintf("source.tables[%d]", i), err)
	}
	c.checkStart(d)
	c.Source.Snapshot.check(d)
	d.negative("source.max_part", c.Source.MaxPart < 0)
	d.negative("source.buffer", c.Source.Buffer < 0)

	if line := d.lines["queue"]; line > 0 && c.Queue.Path == "" && !d.faulty(line) && !d.faulty(d.lines["queue.path"]) {
		d.fault(line, "queue.path is missing; name the file, or leave the whole queue out")
	}
	c.Queue.Path = resolve(dir, c.Queue.Path)
	c.Source.SchemaFile = resolve(dir, c.Source.SchemaFile)
	if line := d.lines["dead_letters"]; line > 0 && c.Letters.Path == "" && !d.faulty(line) && !d.faulty(d.lines["dead_letters.path"]) {
		d.fault(line, "dead_letters.path is missing; name the file, or leave dead_letters out")
	}
	d.negative("dead_letters.max_bytes", c.Letters.MaxBytes < 0)
	switch c.Letters.Path = resolve(dir, c.Letters.Path); {
	case toArchive:
		c.Letters = Letters{} // it refuses no transaction
	case c.Letters.Path != "" && c.Reader != "":
		c.Letters.Path += "." + c.Reader // each target has its own
	}
	d.negative("queue.max_bytes", c.Queue.MaxBytes < 0)
	d.negative("queue.keep", c.Queue.Keep < 0)
	c.checkReaders(d)

	for i, r := range c.Target.Routes {
		path := fmt.Sprintf("target.routes[%d]", i)
		_, err := match.Parse(r.From)
		d.pattern(path+".from", err)
		if _, err = match.Parse(r.To); err != nil {
			d.pattern(path+".to", err)
		} else if _, err = match.ParseTo(r.To); err != nil && !d.faulty(d.line(path+".to")) {
			d.fault(d.line(path+".to"), "%s.to is %q; want schema.table, where a * stands alone, for the source's own name", path, d.texts[path+".to"])
		}
	}
	for i, p := range c.Target.Conflicts {
		path := fmt.Sprintf("target.conflicts[%d]", i)
		_, err := match.Parse(p.Tables)
		d.pattern(path+".tables", err)
		d.oneOf(path+".policy", p.Policy, "error", "overwrite", "ignore")
	}
	for i := range c.Target.DDL {
		c.Target.DDL[i].check(d, fmt.Sprintf("target.ddl[%d]", i))
	}
	d.oneOf("target.existing", c.Target.Existing, "", "error", "append", "replace")
	d.negative("target.max_rows", c.Target.MaxRows < 0)
	d.negative("target.max_bytes", c.Target.MaxBytes < 0)

	d.negative("pipeline.max_batch", c.Pipeline.MaxBatch < 0)
	d.negative("pipeline.read_ahead", c.Pipeline.ReadAhead < 0)
	d.negative("pipeline.retry_wait", c.Pipeline.RetryWait < 0)

	c.checkFuncs(d)
	c.checkRelMgr(d)
	c.checkUnits(d, dir)

	c.Monitor.check(d, dir)
	c.Journal.check(d, dir)

	d.oneOf("log.format", c.Log.Format, "", "text", "json")
	d.oneOf("log.level", c.Log.Level, "", "debug", "info", "warn", "error")
}

func (r *DDLRule) check(d *decoder, path string) {
	if r.Word != "" {
		r.Policy, r.Word = r.Word, ""
		d.oneOf(path, r.Policy, "apply", "try", "ignore", "error")
		return
	}
	d.oneOf(path+".policy", r.Policy, "apply", "try", "ignore", "error")
	if r.Tables != "" {
		_, err := match.Parse(r.Tables)
		d.pattern(path+".tables", err)
	}
	for i, k := range r.Kinds {
		path := fmt.Sprintf("%s.kinds[%d]", path, i)
		var names []string
		known := false
		for kind := ddl.CreateTable; kind <= ddl.DropSchema; kind++ {
			names = append(names, kind.String())
			known = known || kind.Is(k)
		}
		if line := d.line(path); !known && !d.faulty(line) {
			d.fault(line, "%s is %q; want one or several of %s, where * stands for any text", path, d.texts[path], strings.Join(names, ", "))
		}
	}
}

func (s *Snapshot) check(d *decoder) {
	d.oneOf("source.snapshot", s.Mode, "", "false", "true", "only")
	for i, p := range s.Tables {
		_, _, err := match.ParseFollowed(p)
		d.pattern(fmt.Sprintf("source.snapshot.tables[%d]", i), err)
	}
	for i, c := range s.Where {
		path := fmt.Sprintf("source.snapshot.where[%d]", i)
		if (c.Table == "" || c.Where == "") && !d.faulty(d.line(path)) {
			d.fault(d.line(path), "%s needs a table and a condition, such as {table: shop.orders, where: \"id > 100\"}", path)
		}
	}
	d.negative("source.snapshot.readers", s.Readers < 0)
	d.negative("source.snapshot.chunk_time", s.ChunkTime < 0)
	d.negative("source.snapshot.chunk_rows", s.ChunkRows < 0)
	d.negative("source.snapshot.max_rows", s.MaxRows < 0)
	d.negative("source.snapshot.max_bytes", s.MaxBytes < 0)
	d.negative("source.snapshot.max_threads_running", s.MaxThreadsRunning < 0)
	d.negative("source.snapshot.max_replica_lag", s.MaxReplicaLag < 0)
	for i, dsn := range s.Replicas {
		path := fmt.Sprintf("source.snapshot.replicas[%d]", i)
		if _, err := mysql.ParseDSN(string(dsn)); err != nil && !d.faulty(d.line(path)) {
			d.fault(d.line(path), "%s is not of the form user:password@tcp(host:port)/", path) // err may quote the password
		}
	}
	if len(s.Replicas) == 0 && s.MaxReplicaLag > 0 {
		d.fault(d.line("source.snapshot.max_replica_lag"), "source.snapshot.max_replica_lag is for source.snapshot.replicas; name them, or leave it out")
	}
}

func (c *Config) checkStart(d *decoder) {
	mode, rest, _ := strings.Cut(c.Source.Start, ":")
	switch {
	case c.Source.Start == "", c.Source.Start == "now", c.Source.Start == "earliest":
	case mode == "gtid" && rest != "":
	case mode == "file" && strings.Count(rest, ":") == 1:
	default:
		d.fault(d.lines["source.start"], "source.start is %q; want now, earliest, gtid:SET or file:NAME:POSITION", d.texts["source.start"])
	}
}

// pattern reports the pattern of tables at path if it has a fault. What err says
// may hold the value of an environment variable, so it is not shown.
func (d *decoder) pattern(path string, err error) {
	line := d.line(path)
	if err != nil && !d.faulty(line) {
		d.fault(line, "%s is %q; want schema.table, such as \"shop.orders\" or \"shop.*\"", path, d.texts[path])
	}
}

func (d *decoder) negative(path string, bad bool) {
	if bad {
		d.fault(d.lines[path], "%s is negative; leave it out for the default", path)
	}
}

func (d *decoder) oneOf(path, value string, allowed ...string) {
	line := d.line(path)
	if slices.Contains(allowed, value) || d.faulty(line) {
		return
	}
	named := slices.DeleteFunc(slices.Clone(allowed), func(s string) bool { return s == "" })
	d.fault(line, "%s is %q; want %s or %s", path, d.texts[path],
		strings.Join(named[:len(named)-1], ", "), named[len(named)-1])
}

// line returns the line of the value at path, or of what should hold it.
func (d *decoder) line(path string) int {
	for path != "" {
		if n := d.lines[path]; n > 0 {
			return n
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return 0
}

// faulty reports whether the line has been found wrong already, so that one
// mistake is not told twice.
func (d *decoder) faulty(line int) bool {
	return line > 0 && slices.ContainsFunc(d.faults, func(f Fault) bool { return f.Line == line })
}

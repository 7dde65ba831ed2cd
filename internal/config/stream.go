package config

import (
	"cmp"
	"net/url"
	"strings"
	"time"

	"github.com/dataflowsync/dfs/sink/stream"
)

// Stream is where messages go, instead of a server with tables: a file, standard
// output, a web server, NATS or Kafka.
type Stream struct {
	// To is a path or file:///path, stdout, https://host/path, nats://host:port, or
	// kafka://host:port,host:port. It may hold a secret.
	To Secret `yaml:"to"`

	Format          string `yaml:"format"` // "json" or "debezium"; default: json
	Name            string `yaml:"name"`   // with which topics begin; default: dfs
	Schemas         bool   `yaml:"schemas"`
	NoTransactions  bool   `yaml:"no_transactions"`
	NoTombstones    bool   `yaml:"no_tombstones"`
	BadText         string `yaml:"bad_text"` // "error" or "replace"; default: error
	PreciseUnsigned bool   `yaml:"precise_unsigned"`

	Checkpoint string        `yaml:"checkpoint"` // a file; not of Kafka
	MaxBytes   Size          `yaml:"max_bytes"`  // of files
	MaxAge     time.Duration `yaml:"max_age"`
	Keep       int           `yaml:"keep"`
	Secret     Secret        `yaml:"secret"` // of https, which signs
	Timeout    time.Duration `yaml:"timeout"`
	Partitions int           `yaml:"partitions"` // of Kafka
	Replicas   int           `yaml:"replicas"`   // of Kafka and NATS

	kind, place string
}

// The kinds of place that messages go to.
const (
	StreamFile    = "file"
	StreamStdout  = "stdout"
	StreamWebhook = "webhook"
	StreamKafka   = "kafka"
	StreamNATS    = "nats"
)

// On reports whether messages are to be sent.
func (s *Stream) On() bool { return s.kind != "" }

// Kind returns what To is, and Place the path, the URL or the brokers in it.
func (s *Stream) Kind() string  { return s.kind }
func (s *Stream) Place() string { return s.place }

// Options returns how messages are written.
func (s *Stream) Options() stream.Options {
	return stream.Options{Format: stream.Format(s.Format), Name: s.Name, Schemas: s.Schemas, NoTransactions: s.NoTransactions,
		NoTombstones: s.NoTombstones, BadText: s.BadText, PreciseUnsigned: s.PreciseUnsigned}
}

// Address names the place, without what may be secret.
func (s *Stream) Address() string {
	if s.kind == StreamWebhook || s.kind == StreamNATS {
		if u, err := url.Parse(s.place); err == nil {
			return u.Scheme + "://" + u.Host + u.Path
		}
	}
	if s.kind == StreamStdout {
		return "standard output"
	}
	return cmp.Or(map[string]string{StreamKafka: "kafka "}[s.kind], "") + s.place
}

// check finds what is wrong with the section, and reports whether there is one.
func (c *Config) checkStream(d *decoder, dir string) bool {
	s := &c.Target.Stream
	path := "target.stream"
	if word := string(c.Target.Word); isStream(word) { // it stands alone
		s.To, c.Target.Word = c.Target.Word, ""
		d.lines[path] = d.lines["target"]
	}
	if d.lines[path] == 0 {
		return false
	}
	to := string(s.To)
	at := d.line(path + ".to")
	switch scheme, rest, ok := strings.Cut(to, "://"); {
	case to == "":
		if !d.faulty(at) {
			d.fault(at, "%s.to is missing; want a path, stdout, https://host/path, nats://host:port or kafka://host:port", path)
		}
	case to == "stdout":
		s.kind = StreamStdout
	case ok && (scheme == "http" || scheme == "https"):
		if u, err := url.Parse(to); err != nil || u.Host == "" {
			d.fault(at, "%s.to is not of the form https://host/path", path)
		}
		s.kind, s.place = StreamWebhook, to
	case ok && (scheme == "nats" || scheme == "tls"):
		if u, err := url.Parse(to); err != nil || u.Host == "" {
			d.fault(at, "%s.to is not of the form nats://host:port", path)
		}
		s.kind, s.place = StreamNATS, to
	case ok && scheme == "kafka":
		if rest == "" || strings.ContainsAny(rest, "/@?") {
			d.fault(at, "%s.to is not of the form kafka://host:port,host:port", path)
		}
		s.kind, s.place = StreamKafka, rest
	case ok && scheme == "file":
		s.kind, s.place = StreamFile, resolve(dir, rest)
	case ok:
		d.fault(at, "%s.to has a scheme that is not known; want a path, stdout, https://host/path, nats://host:port or kafka://host:port", path)
	default:
		s.kind, s.place = StreamFile, resolve(dir, to)
	}
	if s.kind == "" {
		s.kind = StreamFile // it is refused; the rest is looked at
	}
	s.Checkpoint = resolve(dir, s.Checkpoint)
	if s.kind == StreamWebhook && s.Checkpoint == "" && !d.faulty(d.line(path)) {
		d.fault(d.line(path), "%s.checkpoint is missing; name a file that says how far the receiver is", path)
	}
	only := func(kind string, keys ...string) {
		for _, key := range keys {
			if n := d.lines[path+"."+key]; n > 0 && s.kind != kind {
				d.fault(n, "%s.%s is for %s; leave it out", path, key, kind)
			}
		}
	}
	only(StreamFile, "max_bytes", "max_age", "keep")
	only(StreamWebhook, "secret")
	only(StreamKafka, "partitions")
	own := s.kind == StreamKafka || s.kind == StreamNATS // they keep the checkpoint
	if n := d.lines[path+".timeout"]; n > 0 && !own && s.kind != StreamWebhook {
		d.fault(n, "%s.timeout is for kafka, nats and webhook; leave it out", path)
	}
	if n := d.lines[path+".replicas"]; n > 0 && !own {
		d.fault(n, "%s.replicas is for kafka and nats; leave it out", path)
	}
	if n := d.lines[path+".checkpoint"]; n > 0 && own {
		d.fault(n, "%s.checkpoint is a file, and %s keeps its own; leave it out", path, s.kind)
	}
	d.oneOf(path+".format", s.Format, "", "json", "debezium")
	d.oneOf(path+".bad_text", s.BadText, "", "error", "replace")
	if s.Format != "debezium" {
		for _, key := range []string{"schemas", "no_tombstones", "precise_unsigned"} {
			if n := d.lines[path+"."+key]; n > 0 {
				d.fault(n, "%s.%s is for the format debezium; leave it out", path, key)
			}
		}
	}
	d.negative(path+".max_bytes", s.MaxBytes < 0)
	d.negative(path+".max_age", s.MaxAge < 0)
	d.negative(path+".keep", s.Keep < 0)
	d.negative(path+".timeout", s.Timeout < 0)
	d.negative(path+".partitions", s.Partitions < 0)
	d.negative(path+".replicas", s.Replicas < 0)
	if s.Keep > 0 && s.MaxBytes == 0 && s.MaxAge == 0 {
		d.fault(d.lines[path+".keep"], "%s.keep needs max_bytes or max_age: without them there is one file", path)
	}
	for _, key := range []string{"dsn", "host", "port", "socket", "user", "password", "tls", "file", "archive", "routes", "conflicts", "ddl", "ddl_done",
		"create_tables", "existing", "loaders", "writers", "max_rows", "max_bytes", "sql_only", "checkpoint_schema", "unfit"} {
		if n := d.lines["target."+key]; n > 0 {
			d.fault(n, "target has both stream and %s, which is for a database; leave one out", key)
		}
	}
	if n := d.lines["relmgr"]; n > 0 && !c.RelMgr.Alone {
		d.fault(n, "relmgr reserves ids on a MySQL or MariaDB target, and this is a stream; say alone: true")
	}
	c.Target.info = &serverInfo{address: s.Address()}
	return true
}

// isStream reports whether a target that stands alone is a stream.
func isStream(word string) bool {
	scheme, _, ok := strings.Cut(word, "://")
	switch scheme {
	case "file", "http", "https", "kafka", "nats", "tls":
		return ok
	}
	return word == "stdout"
}

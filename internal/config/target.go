package config

import (
	"cmp"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// A TargetKind is what a target is.
type TargetKind string

const (
	MySQLTarget    TargetKind = "mysql" // or MariaDB
	PostgresTarget TargetKind = "postgres"
	SQLiteTarget   TargetKind = "sqlite"
	StreamTarget   TargetKind = "a stream of messages"
	ArchiveTarget  TargetKind = "an archive"
)

// Unfit says what becomes of values that the target cannot hold.
type Unfit struct {
	ZeroDates   string `yaml:"zero_dates"`   // "error", "null" or "infinity"
	NULs        string `yaml:"nuls"`         // "error", "replace" or "remove"
	InvalidText string `yaml:"invalid_text"` // "error" or "replace"
	Times       string `yaml:"times"`        // "error" or "null"
}

// Kind returns what the target is.
func (t *Target) Kind() TargetKind {
	switch {
	case t.Archive.On():
		return ArchiveTarget
	case t.Stream.On():
		return StreamTarget
	case t.File != "":
		return SQLiteTarget
	case isPostgres(string(t.DSN)):
		return PostgresTarget
	}
	return MySQLTarget
}

func isPostgres(dsn string) bool {
	return strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://")
}

// isAddress reports whether a word looks like a server's URL, like libpq's key=value, or
// like a host and its port.
func isAddress(word string) bool {
	_, port, err := net.SplitHostPort(word)
	number, _ := strconv.Atoi(port)
	return strings.Contains(word, "://") || strings.Contains(word, "=") || strings.HasPrefix(word, "postgres") && strings.Contains(word, ":") || err == nil && number > 0
}

// String returns what Server.String does, or the archive, or the file.
func (t *Target) String() string {
	switch {
	case t.Archive.On():
		return "archive " + t.Archive.Address()
	case t.Stream.On():
		return t.Stream.Address()
	case t.File != "":
		return t.File
	}
	return t.Server.String()
}

// Address returns what Server.Address does, or the file.
func (t *Target) Address() string {
	if t.File != "" {
		return t.File
	}
	return t.Server.Address()
}

// check finds what is wrong with the target, which is a server or a file.
func (t *Target) check(d *decoder, path, dir string) {
	dsn := path + ".dsn"
	if t.Word != "" {
		// It stands alone: a DSN, or the name of a file.
		switch word := string(t.Word); {
		case isPostgres(word) || strings.ContainsAny(word, "@("):
			t.DSN, dsn = t.Word, path
		case isAddress(word):
			// It may have a password, which is not to become the name of a file.
			d.fault(d.line(path), "%s is neither postgres://user:password@host:port/database nor user:password@tcp(host:port)/, "+
				"and looks like a server; write %s.file if it is the name of a file of SQLite", path, path)
			t.Word, t.info = "", &serverInfo{}
			return
		default:
			t.File = word
		}
		t.Word = ""
		t.CreateTables = t.Kind() != MySQLTarget // what stands alone is mostly empty
	}
	kind := t.Kind()
	if kind != MySQLTarget {
		for _, key := range []string{"host", "port", "socket", "user", "password", "tls", "sql_only", "loaders", "writers"} {
			if line := d.lines[path+"."+key]; line > 0 {
				d.fault(line, "%s.%s is for a MySQL or MariaDB target; leave it out for %s", path, key, kind)
			}
		}
	}
	switch kind {
	case SQLiteTarget:
		if t.DSN != "" {
			d.fault(d.lines[path+".file"], "%s has both dsn and file; use one of them", path)
		}
		t.File = resolve(dir, t.File)
		t.info = &serverInfo{address: t.File}
	case PostgresTarget:
		// What the parser says of a mistake may quote the password.
		cfg, err := pgconn.ParseConfig(string(t.DSN))
		if err != nil {
			d.fault(d.line(dsn), "%s is not of the form postgres://user:password@host:port/database", dsn)
			t.info = &serverInfo{}
			break
		}
		u, _ := url.Parse(string(t.DSN))
		t.info = &serverInfo{string(t.DSN), cmp.Or(u.Host, cfg.Host) + "/" + cfg.Database, cfg.User}
	default:
		if dsn == path {
			d.lines[path+".dsn"] = d.lines[path]
		}
		t.Server.check(d, path, dir)
	}
	if kind == MySQLTarget && t.Unfit != (Unfit{}) {
		d.fault(d.line(path+".unfit"), "%s.unfit is for PostgreSQL and SQLite; MySQL holds all of it", path)
	}
	d.oneOf(path+".unfit.zero_dates", t.Unfit.ZeroDates, "", "error", "null", "infinity")
	d.oneOf(path+".unfit.nuls", t.Unfit.NULs, "", "error", "replace", "remove")
	d.oneOf(path+".unfit.invalid_text", t.Unfit.InvalidText, "", "error", "replace")
	d.oneOf(path+".unfit.times", t.Unfit.Times, "", "error", "null")
}

// checkKind finds what the rest of the file asks of the target that it cannot do.
func (c *Config) checkKind(d *decoder) {
	kind := c.Target.Kind()
	if kind == MySQLTarget {
		return
	}
	if line := d.lines["relmgr"]; line > 0 && !c.RelMgr.Alone {
		d.fault(line, "relmgr reserves ids on a MySQL or MariaDB target, and this is %s; say alone: true if nobody else writes to it", kind)
	}
}

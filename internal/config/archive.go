package config

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/dataflowsync/dfs/sink"
)

// Archive is a folder that transactions are kept in, instead of a server: the folder
// alone, or these keys.
type Archive struct {
	Folder string `yaml:",scalar"` // if it stands alone; Load moves it to Dir

	Dir string `yaml:"dir"`
	// Store is a bucket that gets the sealed segments, and AccessKey and SecretKey are
	// its credentials. Where an archive is read it can do without a folder.
	Store     string `yaml:"store"` // s3://bucket/prefix?region=...
	AccessKey Secret `yaml:"access_key"`
	SecretKey Secret `yaml:"secret_key"`

	Key     Secret `yaml:"key"`      // encrypts it; 64 hexadecimal digits
	KeyFile string `yaml:"key_file"` // which holds that

	SegmentBytes Size          `yaml:"segment_bytes"`
	SegmentAge   time.Duration `yaml:"segment_age"`
	KeepFor      time.Duration `yaml:"keep_for"`
	KeepBytes    Size          `yaml:"keep_bytes"`
	Baseline     time.Duration `yaml:"baseline"` // between two copies of all rows; default: only the first
}

// On reports whether there is an archive.
func (a *Archive) On() bool { return a.Dir != "" || a.Store != "" }

// Address says where it is.
func (a *Archive) Address() string {
	if a.Dir == "" {
		store, _, _ := strings.Cut(a.Store, "?")
		return store
	}
	return a.Dir
}

// Options returns what the file says as the options of an archive. The error is about
// the key, and holds nothing of it.
func (a *Archive) Options() (*sink.ArchiveOptions, error) {
	o := &sink.ArchiveOptions{SegmentBytes: int64(a.SegmentBytes), SegmentAge: a.SegmentAge, KeepFor: a.KeepFor, KeepBytes: int64(a.KeepBytes)}
	text := string(a.Key)
	if a.KeyFile != "" {
		b, err := os.ReadFile(a.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("read the archive's key: %w", err)
		}
		text = string(b)
	}
	if text == "" {
		return o, nil
	}
	var err error
	o.Key, err = sink.ParseArchiveKey(text)
	return o, err
}

// serverKeys are the keys of a server.
var serverKeys = []string{"dsn", "host", "port", "socket", "user", "password", "tls"}

// check finds what is wrong with the archive at path, which stands where a server
// could. Writing says that it is a target.
func (a *Archive) check(d *decoder, path, dir string, writing bool) {
	if a.Folder != "" {
		a.Dir, a.Folder = a.Folder, ""
	}
	line := d.lines[path]
	if a.Dir == "" && (writing || a.Store == "") && !d.faulty(line) {
		why := ""
		if a.Store != "" {
			why = ", for the segment that is being written"
		}
		d.fault(line, "%s names no folder; write dir: and the folder%s", path, why)
	}
	if a.Store != "" && !strings.HasPrefix(a.Store, "s3://") {
		d.fault(d.lines[path+".store"], "%s.store is no bucket; write s3://bucket/prefix?region=..., and endpoint=https://... if it is not one of AWS", path)
	}
	if (a.AccessKey == "") != (a.SecretKey == "") {
		d.fault(line, "%s has one of access_key and secret_key; write both, or none for those of the environment (AWS_ACCESS_KEY_ID)", path)
	}
	if a.Store == "" && a.AccessKey != "" {
		d.fault(line, "%s has an access_key and no store; name the bucket", path)
	}
	if a.KeyFile = resolve(dir, a.KeyFile); a.Dir != "" {
		a.Dir = resolve(dir, a.Dir)
	}
	if a.Key != "" && a.KeyFile != "" {
		d.fault(d.lines[path+".key"], "%s has both key and key_file; use one of them", path)
	}
	if a.Key != "" {
		if _, err := sink.ParseArchiveKey(string(a.Key)); err != nil {
			d.fault(d.lines[path+".key"], "%s.key: %v", path, err)
		}
	}
	d.negative(path+".segment_bytes", a.SegmentBytes < 0)
	d.negative(path+".keep_for", a.KeepFor < 0)
	d.negative(path+".keep_bytes", a.KeepBytes < 0)
	d.negative(path+".baseline", a.Baseline < 0)
	if writing {
		if (a.KeepFor > 0 || a.KeepBytes > 0) && a.Baseline == 0 {
			d.fault(line, "%s has keep_for or keep_bytes but no baseline, and nothing is deleted before a later copy of all rows; "+
				"say how often they are copied, such as baseline: 7d", path)
		}
		return
	}
	for _, key := range []string{"segment_bytes", "segment_age", "keep_for", "keep_bytes", "baseline"} {
		if n := d.lines[path+"."+key]; n > 0 {
			d.fault(n, "%s.%s is for an archive that is written; leave it out where one is restored", path, key)
		}
	}
}

// only reports the keys under path that stand beside an archive and mean nothing
// there.
func (d *decoder) only(path string, keys []string, why string) {
	for _, key := range keys {
		if n := d.lines[path+"."+key]; n > 0 && !d.faulty(n) {
			d.fault(n, "%s has both archive and %s; %s", path, key, why)
		}
	}
}

// checkArchives finds what is wrong with the archives, and reports whether the source
// and the target are one.
func (c *Config) checkArchives(d *decoder, dir string) (source, target bool) {
	if source = d.lines["source.archive"] > 0; source {
		c.Source.Archive.check(d, "source.archive", dir, false)
		c.Source.info = &serverInfo{address: c.Source.Archive.Address()}
		d.only("source", slices.Concat(serverKeys, []string{"files", "follow", "start", "server_id", "heartbeat", "read_timeout", "compress", "semi_sync", "snapshot", "schema_file", "trust_column_names", "accept_errant"}),
			"use one of them")
		if d.lines["queue"] > 0 {
			d.fault(d.lines["queue"], "a restore from an archive needs no queue; leave it out")
		}
		if d.lines["relmgr"] > 0 {
			d.fault(d.lines["relmgr"], "relmgr cannot be used with an archive as the source: it asks the source's server for its foreign keys")
		}
	}
	if target = d.lines["target.archive"] > 0; target {
		c.Target.Archive.check(d, "target.archive", dir, true)
		c.Target.info = &serverInfo{address: c.Target.Archive.Address()}
		d.only("target", slices.Concat(serverKeys, []string{"checkpoint_schema", "routes", "conflicts", "ddl", "ddl_done", "max_rows", "max_bytes", "sql_only", "create_tables", "existing", "loaders", "writers"}),
			"an archive keeps all as the source has it, and the other is for the target of a restore")
		for _, key := range []string{"units", "only_units", "relmgr"} {
			if n := d.lines[key]; n > 0 {
				d.fault(n, "%s: an archive keeps rows as the source has them; reshape them when they are restored", key)
			}
		}
		if n := d.lines["target"]; c.Source.Snapshot.Mode == "" && !c.Source.Snapshot.On() && !source && !d.faulty(n) {
			d.fault(n, "an archive begins with a copy of the rows that are there: write source.snapshot: true, or false if a log alone is wanted, from which no table can be restored as a whole")
		}
	}
	if n := d.lines["source.tables"]; target && c.Reader != "" && len(c.own) > 0 && !d.faulty(n) {
		d.fault(n, "tables: an archive keeps all tables of the source; leave it out, and name tables when they are restored")
	}
	if n := d.lines["target.checkpoint"]; target && n > 0 && !d.faulty(n) {
		d.fault(n, "checkpoint: an archive keeps its own; leave it out")
	}
	if source && target {
		d.fault(d.lines["target.archive"], "source and target are both archives; to copy one, copy its folder")
	}
	return source, target
}

package config

import (
	"fmt"
	"strings"
	"time"

	"github.com/dataflowsync/dfs/internal/match"
)

// Journal is the file that tells what became of rows. Without the section there is
// none.
type Journal struct {
	Path    string        `yaml:"path"`
	Level   string        `yaml:"level"`    // "errors", "sampled" or "all"; default: errors
	Sample  int           `yaml:"sample"`   // of sampled, else without a meaning: one in so many; default: 100
	Keep    Size          `yaml:"keep"`     // default: 1GiB
	KeepFor time.Duration `yaml:"keep_for"` // default: 7d
	Mask    []string      `yaml:"mask"`     // "schema.table.column"
}

// On reports whether there is to be a journal.
func (j *Journal) On() bool { return j.Path != "" }

func (j *Journal) check(d *decoder, dir string) {
	line := d.lines["journal"]
	if line == 0 {
		return
	}
	if j.Path == "" && !d.faulty(line) && !d.faulty(d.lines["journal.path"]) {
		d.fault(line, "journal.path is missing; name the file, or leave the whole journal out")
	}
	j.Path = resolve(dir, j.Path)
	d.oneOf("journal.level", j.Level, "", "errors", "sampled", "all")
	d.negative("journal.sample", j.Sample < 0)
	d.negative("journal.keep", j.Keep < 0)
	for i, text := range j.Mask {
		path := fmt.Sprintf("journal.mask[%d]", i)
		at := strings.LastIndexByte(text, '.')
		if _, err := match.Parse(text[:max(at, 0)]); (err != nil || text[at+1:] == "") && !d.faulty(d.line(path)) {
			d.fault(d.line(path), "%s is %q; want schema.table.column, such as shop.users.phone or \"*.*.password\"", path, d.texts[path])
		}
	}
}

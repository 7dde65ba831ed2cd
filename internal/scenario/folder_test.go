//go:build unix

package scenario

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"
	"go.yaml.in/yaml/v3"
)

// A folder is one scenario, as testdata/README.md describes it.
type folder struct {
	name string
	config
	schema, source, target, want string // scripts; target is schema unless there is one
	text                         string // want.txt: what the queries of want must print
	failure                      *regexp.Regexp
}

// A config is config.yaml; all of it is optional.
type config struct {
	Pairs     []string          // where it runs; default: everywhere
	Why       string            // why not on the other pairs
	Schemas   []string          // default: the folder's name
	Tables    []string          // cdc.Options.Tables; default: all of the schemas
	Routes    []route           // of the sink
	To        map[string]string // target's schema by that of the source, where they differ
	DDL       string            // the sink's policy; default: error
	Global    map[string]string // of the source, while the scenario runs
	TargetSet map[string]string `yaml:"target_global"`
	Error     string            // the pipeline must stop with an error that matches
	Structure bool              // on pairs of one kind, SHOW CREATE TABLE must be equal
	Ignore    []string          // tables that may differ
	Trust     bool              `yaml:"trust_column_names"`
	Queue     *bool             // with or without; default: every second scenario
	SQLOnly   *bool             `yaml:"sql_only"` // default: every second pair
}

type route struct{ From, To string }

// loadFolders reads all of testdata.
func loadFolders() ([]*folder, error) {
	entries, err := os.ReadDir("testdata")
	if err != nil {
		return nil, err
	}
	var folders []*folder
	var errs []error
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		f, err := loadFolder(e.Name())
		if err != nil {
			errs = append(errs, fmt.Errorf("scenario %s: %w", e.Name(), err))
		}
		folders = append(folders, f)
	}
	return folders, errors.Join(errs...)
}

func loadFolder(name string) (*folder, error) {
	f := &folder{name: name}
	dir := filepath.Join("testdata", name)
	to := map[string]*string{"schema.sql": &f.schema, "source.sql": &f.source, "target.sql": &f.target,
		"want.sql": &f.want, "want.txt": &f.text}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		b, err := os.ReadFile(filepath.Join(dir, file.Name()))
		if err != nil {
			return nil, err
		}
		switch field := to[file.Name()]; {
		case field != nil:
			*field = string(b)
		case filepath.Ext(file.Name()) == ".csv":
			rows := bytes.Clone(b)
			mysql.RegisterReaderHandler(strings.TrimSuffix(file.Name(), ".csv"), func() io.Reader { return bytes.NewReader(rows) })
		case file.Name() == "config.yaml":
			d := yaml.NewDecoder(bytes.NewReader(b))
			d.KnownFields(true)
			if err := d.Decode(&f.config); err != nil {
				return nil, fmt.Errorf("config.yaml: %w", err)
			}
		default:
			return nil, fmt.Errorf("%s: %w", file.Name(), fs.ErrInvalid)
		}
	}
	if f.target == "" {
		f.target = f.schema
	}
	if len(f.Schemas) == 0 {
		f.Schemas = []string{name}
	}
	if len(f.Tables) == 0 {
		for _, s := range f.Schemas {
			f.Tables = append(f.Tables, s+".*")
		}
	}
	if f.Error != "" {
		if f.failure, err = regexp.Compile(f.Error); err != nil {
			return nil, err
		}
	}
	switch {
	case f.source == "":
		err = errors.New("source.sql is missing or empty")
	case f.Pairs != nil && f.Why == "":
		err = errors.New("config.yaml has pairs, and does not say why the others are left out")
	case f.text != "" && f.want == "":
		err = errors.New("want.txt without want.sql")
	case f.Error != "" && f.text == "":
		err = errors.New("an error is expected, and want.txt does not say what the target has then")
	}
	for _, p := range f.Pairs {
		if !slices.ContainsFunc(pairs, func(q pair) bool { return q.name == p }) {
			err = fmt.Errorf("config.yaml: no pair %q", p)
		}
	}
	return f, err
}

// runsOn reports whether the scenario is for the pair.
func (f *folder) runsOn(p pair) bool { return f.Pairs == nil || slices.Contains(f.Pairs, p.name) }

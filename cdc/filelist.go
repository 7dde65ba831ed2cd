package cdc

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A logPath is one file of a log.
type logPath struct {
	path string
	name string // without its folder
	base string // what is before the number; empty if the name has none
	num  uint64

	// packed says that the file is there in compressed form only. It takes its
	// place in the list, so that who needs it is told why it cannot be read.
	packed bool
}

// newLogPath takes the name apart: "binlog.000012".
func newLogPath(path string) logPath {
	p := logPath{path: path, name: filepath.Base(path)}
	if i := strings.LastIndexByte(p.name, '.'); i > 0 && len(p.name)-i > 6 {
		if n, err := strconv.ParseUint(p.name[i+1:], 10, 64); err == nil {
			p.base, p.num = p.name[:i], n
		}
	}
	return p
}

// follows reports whether the names say that p comes right after o. Names without
// numbers do not say.
func (p logPath) follows(o logPath) bool {
	return p.base == "" || p.base != o.base || p.num == o.num+1
}

// listLogs returns the files that paths name, in the order in which they were
// written: by their numbers, if all are of one log, or else as they are given.
func listLogs(paths []string) ([]logPath, error) {
	var list []logPath
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		var add []logPath
		switch {
		case info.IsDir():
			add, err = listFolder(path)
		case !info.Mode().IsRegular():
			return nil, errIrregular(path)
		case strings.HasSuffix(path, ".index"):
			add, err = listIndex(path)
		default:
			add = []logPath{newLogPath(path)}
		}
		if err != nil {
			return nil, err
		}
		list = append(list, add...)
	}
	if len(list) == 0 {
		return nil, errors.New("there is no binary log file")
	}
	if one := list[0].base; one != "" && !slices.ContainsFunc(list, func(p logPath) bool { return p.base != one }) {
		slices.SortStableFunc(list, func(a, b logPath) int { return cmp.Compare(a.num, b.num) })
	}
	names := make(map[string]string, len(list))
	for _, p := range list {
		if other, twice := names[p.name]; twice {
			return nil, fmt.Errorf("%s and %s have the same name, and so a position could mean either", other, p.path)
		}
		names[p.name] = p.path
	}
	if !slices.ContainsFunc(list, func(p logPath) bool { return !p.packed }) {
		return nil, errPacked(list[0])
	}
	return list, nil
}

// errIrregular says that path is a pipe, a device or a socket. To open a pipe can
// take for ever.
func errIrregular(path string) error {
	return fmt.Errorf("%s is no regular file: copy what it has to one", path)
}

// errPacked says that a file that is needed is compressed.
func errPacked(p logPath) error {
	return &EventError{At: p.name + ":0", What: filepath.Base(p.path) + " is compressed", Cure: cureUnpack}
}

const cureUnpack = "unpack it, and put the result in its place"

// packers are the programs that people compress logs with: how the names of their
// files end, and the first bytes of the files, four at most.
var packers = []struct{ name, suffix, magic string }{
	{"gzip", ".gz", "\x1f\x8b"},
	{"zstd", ".zst", "\x28\xb5\x2f\xfd"},
	{"bzip2", ".bz2", "BZh"},
	{"xz", ".xz", "\xfd7zX"},
}

// newPackedPath is newLogPath for the name of a compressed log file. It is false
// for other names.
func newPackedPath(path string) (logPath, bool) {
	for _, k := range packers {
		if plain, ok := strings.CutSuffix(path, k.suffix); ok {
			p := newLogPath(plain)
			p.path, p.packed = path, true
			return p, p.base != ""
		}
	}
	return logPath{}, false
}

// listFolder returns the files of a folder whose names end with a number, as
// those of a log do, and which begin like one. Symbolic links are followed. What
// is there in compressed form only is listed as packed.
func listFolder(dir string) ([]logPath, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var list, packed []logPath
	for _, e := range entries {
		p := newLogPath(filepath.Join(dir, e.Name()))
		compressed, ok := newPackedPath(p.path)
		if p.base == "" && !ok {
			continue
		}
		// Stat follows symbolic links. To open what is no regular file can hang.
		info, err := os.Stat(p.path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if err != nil || !info.Mode().IsRegular() {
			continue // purged meanwhile, or a link to nothing
		}
		if ok {
			packed = append(packed, compressed)
			continue
		}
		switch magic, err := fileMagic(p.path); {
		case errors.Is(err, fs.ErrNotExist):
			continue // purged meanwhile
		case err != nil:
			return nil, err
		case magic == logMagic || magic == logMagicCipher || magic == "":
			list = append(list, p)
		}
	}
	for _, p := range packed {
		same := func(o logPath) bool { return o.name == p.name }
		if (len(list) == 0 || p.base == list[0].base) && !slices.ContainsFunc(list, same) {
			list = append(list, p)
		}
	}
	for _, p := range list {
		if p.base != list[0].base {
			return nil, fmt.Errorf("%s has files of two logs, %s and %s: name the files, or the .index file of one log", dir, list[0].name, p.name)
		}
	}
	return list, nil
}

// fileMagic returns the first bytes of a file.
func fileMagic(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b := make([]byte, len(logMagic))
	n, err := f.Read(b)
	if n == 0 {
		return "", nil // empty, or soon to be written
	}
	return string(b[:n]), err
}

// listIndex returns the files that a server's index file names. They are looked
// for in its own folder too: the server may have had another one.
func listIndex(path string) ([]logPath, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	var list []logPath
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		file := line
		if !filepath.IsAbs(file) {
			file = filepath.Join(dir, file)
		}
		if here := filepath.Join(dir, filepath.Base(file)); here != file {
			if _, err := os.Stat(file); err != nil {
				file = here
			}
		}
		if info, err := os.Stat(file); err == nil && !info.Mode().IsRegular() {
			return nil, errIrregular(file)
		}
		list = append(list, newLogPath(file))
	}
	return list, nil
}

package config

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Parse reads and checks b, the content of the named file, with environment
// variables from lookup. The error is an *Error.
func Parse(file string, b []byte, lookup func(string) (string, bool)) (*Config, error) {
	return ParseWith(file, b, lookup, nil)
}

// ParseWith is Parse for a program that has functions for the file to name.
func ParseWith(file string, b []byte, lookup func(string) (string, bool), funcs *Funcs) (*Config, error) {
	if funcs == nil {
		funcs = &Funcs{}
	}
	c := &Config{file: file, lines: make(map[string]int), funcs: funcs}
	d := &decoder{file: file, lookup: lookup, lines: c.lines, texts: make(map[string]string)}
	r := yaml.NewDecoder(strings.NewReader(string(b)))
	var doc, more yaml.Node
	switch err := r.Decode(&doc); {
	case errors.Is(err, io.EOF):
		d.fault(0, "is empty; \"basic config\" prints an example")
	case err != nil:
		d.syntax(err)
	default:
		d.value(doc.Content[0], reflect.ValueOf(c).Elem(), "")
		if r.Decode(&more) == nil {
			d.fault(more.Line, "a second document begins here; a file describes one pipeline")
		}
		if d.lines["targets"] > 0 {
			c.checkFan(d)
		} else {
			c.check(d)
		}
	}
	if len(d.faults) > 0 {
		slices.SortStableFunc(d.faults, func(a, b Fault) int { return a.Line - b.Line })
		return nil, &Error{d.faults}
	}
	return c, nil
}

// A decoder fills Go values from YAML nodes and collects what is wrong. It works
// on nodes, since yaml.Decoder stops at the first mistake of some kinds, knows
// no lines afterwards, and reads a password of digits as a number.
type decoder struct {
	file   string
	lookup func(string) (string, bool)
	lines  map[string]int
	texts  map[string]string // of each single value, as the file has it
	faults []Fault
}

func (d *decoder) fault(line int, format string, args ...any) {
	d.faults = append(d.faults, Fault{d.file, line, fmt.Sprintf(format, args...)})
}

var yamlLine = regexp.MustCompile(`^line (\d+): `)

// syntax reports an error of the YAML parser, which stops at the first. Its
// messages hold no values but the names of anchors.
func (d *decoder) syntax(err error) {
	text, line := strings.TrimPrefix(err.Error(), "yaml: "), 0
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(m[1])
		text = text[len(m[0]):]
	}
	switch {
	case strings.Contains(text, "unknown anchor"),
		strings.Contains(text, "alphabetic or numeric character"):
		text = "a value that begins with * or & must be quoted: \"*.*\""
	case strings.Contains(text, "did not find expected"):
		text += "; if a value begins with ! * or &, quote it: \"!shop.tmp_*\""
	case strings.Contains(text, "cannot start any token"):
		text += "; indent with spaces, and quote values that begin with % @ or `"
	}
	d.fault(line, "%s", text)
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	sizeType     = reflect.TypeFor[Size]()
	secretType   = reflect.TypeFor[Secret]()
)

// value fills v, which the file calls path, from n.
func (d *decoder) value(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if path != "" {
		d.lines[path] = n.Line
	}
	if strings.HasPrefix(n.Tag, "!") && !strings.HasPrefix(n.Tag, "!!") {
		d.fault(n.Line, "%s: a value that begins with ! must be quoted", path)
		return
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return // as if the key were not there
	}
	switch v.Kind() {
	case reflect.Struct:
		if n.Kind == yaml.ScalarNode {
			if i := scalarField(v.Type()); i >= 0 {
				d.scalar(n, v.Field(i), path)
				return
			}
		}
		d.mapping(n, v, path)
	case reflect.Map:
		d.names(n, v, path)
	case reflect.Slice:
		items := []*yaml.Node{n} // one value may stand for a list of one
		if n.Kind == yaml.SequenceNode {
			items = n.Content
		}
		v.Set(reflect.MakeSlice(v.Type(), len(items), len(items)))
		for i, item := range items {
			d.value(item, v.Index(i), path+"["+strconv.Itoa(i)+"]")
		}
	default:
		d.scalar(n, v, path)
	}
}

// mapping fills the struct v from n.
func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string) {
	fields := fieldsOf(v)
	if n.Kind != yaml.MappingNode {
		where := path
		if where == "" {
			where = "the file"
		}
		d.fault(n.Line, "%s holds keys (%s), not %s", where, strings.Join(keys(fields), ", "), kindOf(n))
		return
	}
	seen := make(map[string]int)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		full := strings.TrimPrefix(path+"."+key.Value, ".")
		field, ok := fields[key.Value]
		if line := seen[key.Value]; line > 0 {
			d.fault(key.Line, "%s is there twice, first on line %d", full, line)
			continue
		}
		seen[key.Value] = key.Line
		if !ok {
			d.fault(key.Line, "unknown key %q%s%s", key.Value, under(path), suggest(key.Value, path, fields))
			continue
		}
		d.value(n.Content[i+1], field, full)
		d.lines[full] = key.Line
	}
}

// names fills v, a map of texts whose keys are names that the user chose.
func (d *decoder) names(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.fault(n.Line, "%s holds names with a value each, not %s", path, kindOf(n))
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], reflect.New(v.Type().Elem()).Elem()
		full := path + "." + key.Value
		if v.MapIndex(reflect.ValueOf(key.Value)).IsValid() {
			d.fault(key.Line, "%s is there twice, first on line %d", full, d.lines[full])
			continue
		}
		d.value(n.Content[i+1], value, full)
		d.lines[full] = key.Line
		v.SetMapIndex(reflect.ValueOf(key.Value), value)
	}
}

// scalar fills v from one value.
func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.ScalarNode {
		d.fault(n.Line, "%s takes one value, not %s", path, kindOf(n))
		return
	}
	d.texts[path] = n.Value
	s, missing, err := expand(n.Value, d.lookup)
	for _, name := range missing {
		d.fault(n.Line, "%s: environment variable %s is not set; set it, or write ${%s:-default}", path, name, name)
	}
	if err != nil {
		d.fault(n.Line, "%s: %v", path, err)
	}
	if err != nil || len(missing) > 0 {
		return
	}
	switch v.Type() {
	case secretType:
		v.SetString(s)
		return
	case durationType:
		var t time.Duration
		t, err = parseDuration(s)
		v.SetInt(int64(t))
	case sizeType:
		var size Size
		size, err = parseSize(s)
		v.SetInt(int64(size))
	default:
		err = setBasic(v, s)
	}
	if err != nil {
		// The text is shown as the file has it: what the environment put in its
		// place may be secret.
		d.fault(n.Line, "%s is %q; want %v", path, n.Value, err)
	}
}

func setBasic(v reflect.Value, s string) error {
	switch v.Kind() {
	case reflect.String:
		v.SetString(s)
	case reflect.Bool:
		if s != "true" && s != "false" {
			return errors.New("true or false")
		}
		v.SetBool(s == "true")
	case reflect.Int:
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return errors.New("a whole number")
		}
		v.SetInt(n)
	case reflect.Uint16, reflect.Uint32:
		n, err := strconv.ParseUint(s, 10, v.Type().Bits())
		if err != nil {
			return fmt.Errorf("a whole number from 0 to %d", uint64(1)<<v.Type().Bits()-1)
		}
		v.SetUint(n)
	default:
		panic("config: field of kind " + v.Kind().String())
	}
	return nil
}

func scalarField(t reflect.Type) int {
	for i := range t.NumField() {
		if t.Field(i).Tag.Get("yaml") == ",scalar" {
			return i
		}
	}
	return -1
}

// fieldsOf returns the fields of the struct v by their keys.
func fieldsOf(v reflect.Value) map[string]reflect.Value {
	fields := make(map[string]reflect.Value)
	for i := range v.NumField() {
		switch tag := v.Type().Field(i).Tag.Get("yaml"); tag {
		case "", ",scalar":
		case ",inline":
			for k, f := range fieldsOf(v.Field(i)) {
				fields[k] = f
			}
		default:
			fields[tag] = v.Field(i)
		}
	}
	return fields
}

func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "keys of its own"
	case yaml.SequenceNode:
		return "a list"
	}
	return "one value"
}

func under(path string) string {
	if path == "" {
		return ""
	}
	return " under " + path
}

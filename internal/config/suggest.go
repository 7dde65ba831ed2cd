package config

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs/internal/match"
)

func keys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// suggest says what may have been meant by an unknown key: a key of the same
// mapping that is spelled much like it, or the same key in another place, or
// else which keys there are.
func suggest(key, path string, fields map[string]reflect.Value) string {
	best, distance := "", 1+max(1, min(len(key)/3, 3))
	for _, k := range keys(fields) {
		if n := match.Distance(normal(key), normal(k)); n < distance {
			best, distance = k, n
		}
	}
	if best != "" {
		return "; did you mean " + best + "?"
	}
	var elsewhere []string
	for section, v := range fieldsOf(reflect.ValueOf(&Config{}).Elem()) {
		if section == key {
			elsewhere = append(elsewhere, section+" at the left margin")
		} else if v.Kind() == reflect.Struct && section != path {
			if _, ok := fieldsOf(v)[key]; ok {
				elsewhere = append(elsewhere, section+"."+key)
			}
		}
	}
	if len(elsewhere) > 0 {
		slices.Sort(elsewhere)
		return "; did you mean " + strings.Join(elsewhere, " or ") + "?"
	}
	return "; the keys here are " + strings.Join(keys(fields), ", ")
}

// Keys returns the paths of all keys that a file may hold, such as
// "source.tables" and "target.routes.from", sorted.
func Keys() []string {
	var list []string
	var walk func(v reflect.Value, path string)
	walk = func(v reflect.Value, path string) {
		if v.Kind() == reflect.Slice {
			v = reflect.New(v.Type().Elem()).Elem()
		}
		if v.Kind() != reflect.Struct {
			return
		}
		for key, field := range fieldsOf(v) {
			list = append(list, path+key)
			walk(field, path+key+".")
		}
	}
	walk(reflect.ValueOf(&Config{}).Elem(), "")
	slices.Sort(list)
	return list
}

// normal makes maxBytes, max-bytes and max_bytes the same.
func normal(key string) string {
	return strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(key))
}

package config

import (
	"fmt"
	"strings"
)

// expand replaces ${NAME} in s by the environment's NAME, ${NAME:-text} by text
// where NAME is not set or empty, and $$ by $. Any other $ stands for itself.
// What comes out of the environment is not expanded again. For each variable
// that has no value the result holds one missing name.
func expand(s string, lookup func(string) (string, bool)) (out string, missing []string, err error) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(s, "$")
		b.WriteString(before)
		if !found {
			return b.String(), missing, nil
		}
		switch {
		case strings.HasPrefix(rest, "$"):
			b.WriteByte('$')
			s = rest[1:]
		case strings.HasPrefix(rest, "{"):
			inner, after, closed := strings.Cut(rest[1:], "}")
			name, preset, optional := strings.Cut(inner, ":-")
			if !closed || !isName(name) {
				return "", nil, fmt.Errorf("write ${NAME} or ${NAME:-default} for an environment variable, and $$ for a dollar sign")
			}
			v, ok := lookup(name)
			switch {
			case optional && v == "":
				v = preset
			case !ok:
				missing = append(missing, name)
			}
			b.WriteString(v)
			s = after
		default:
			b.WriteByte('$')
			s = rest
		}
	}
}

func isName(s string) bool {
	for i, r := range s {
		letter := r == '_' || 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return s != ""
}

package match

// Capture returns what each wildcard of the pattern stands for in the names of a
// table, and whether the pattern matches it. Of several ways each * takes as
// little as it can.
func (p Pattern) Capture(schema, table string) (parts []string, ok bool) {
	a, ok1 := capture([]rune(p.Schema), []rune(schema))
	b, ok2 := capture([]rune(p.Table), []rune(table))
	if !ok1 || !ok2 || !p.Match(schema, table) {
		return nil, false
	}
	return append(a, b...), true
}

// Wildcards returns how many parts Capture returns for the pattern.
func (p Pattern) Wildcards() (n int) {
	for _, r := range p.Schema + p.Table {
		if r == '*' || r == '?' {
			n++
		}
	}
	return n
}

func capture(p, s []rune) ([]string, bool) {
	for i, r := range p {
		switch {
		case r == '*':
			for n := range len(s) - i + 1 {
				if !Glob(string(p[i+1:]), string(s[i+n:])) {
					continue
				}
				rest, ok := capture(p[i+1:], s[i+n:])
				return append([]string{string(s[i : i+n])}, rest...), ok
			}
			return nil, false
		case i >= len(s):
			return nil, false
		case r == '?':
			rest, ok := capture(p[i+1:], s[i+1:])
			return append([]string{string(s[i])}, rest...), ok
		}
	}
	return nil, Glob(string(p), string(s))
}

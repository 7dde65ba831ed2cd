package sink

import (
	"fmt"
	"strconv"
	"strings"
)

// changesValues tells how values of the source's type can change in silence when a
// column of the target's type takes them, or returns "". What the server
// refuses under the session's strict mode, such as a number out of range or a
// text too long, is not silent.
func changesValues(from, to string) string {
	a, aArgs := typeParts(from)
	b, bArgs := typeParts(to)
	switch {
	case isClock(a) && isClock(b):
		switch {
		case a == "timestamp" && b == "datetime":
			return "moments arrive as UTC"
		case a == "datetime" && b == "timestamp":
			return "times without a zone are taken as UTC"
		case fsp(aArgs) > fsp(bArgs):
			return fmt.Sprintf("times are rounded to %d digits after the second", fsp(bArgs))
		}
	case a == "decimal" && b == "decimal" && scale(aArgs) > scale(bArgs):
		return fmt.Sprintf("numbers are rounded to %d digits after the point", scale(bArgs))
	case a == "double" && b == "float", a == "decimal" && (b == "float" || b == "double"), isInteger(a) && b == "float":
		return "numbers lose digits in a " + b
	case (a == "float" || a == "double") && b == "decimal":
		return fmt.Sprintf("numbers are rounded to %d digits after the point", scale(bArgs))
	case (a == "decimal" && scale(aArgs) > 0 || a == "float" || a == "double") && isInteger(b):
		return "numbers are rounded to whole ones"
	}
	return ""
}

// typeParts splits "decimal(10,2) unsigned" into its name and its numbers.
func typeParts(typ string) (name string, args []int) {
	name, rest, _ := strings.Cut(strings.ToLower(typ), "(")
	name, _, _ = strings.Cut(name, " ")
	rest, _, _ = strings.Cut(rest, ")")
	for _, s := range strings.Split(rest, ",") {
		if n, err := strconv.Atoi(strings.TrimSpace(s)); err == nil {
			args = append(args, n)
		}
	}
	return name, args
}

func isClock(name string) bool { return name == "time" || name == "datetime" || name == "timestamp" }

func isInteger(name string) bool { return strings.HasSuffix(name, "int") || name == "integer" }

func fsp(args []int) int {
	if len(args) == 0 {
		return 0
	}
	return args[0]
}

func scale(args []int) int {
	if len(args) < 2 {
		return 0
	}
	return args[1]
}

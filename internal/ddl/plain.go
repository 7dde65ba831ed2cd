package ddl

import "strings"

// Plain returns a statement in a form that means the same to every server.
// Servers differ in which comments such as /*!80016 ... */ and /*M! ... */ they
// run as code. Those that the server of m runs are opened, so that what is in
// them is code to all, and those that it does not run are left out. Other
// comments stay, and so does what looks like a comment in a string or a name.
func Plain(text string, m Mode) string {
	if !strings.Contains(text, "/*!") && !strings.Contains(text, "/*M!") && !strings.Contains(text, "/* ") {
		return text
	}
	l := lexer{s: text, mode: &m, versions: make([]span, 0, 4)}
	for l.next().kind != tokEnd {
	}
	if len(l.versions) == 0 {
		return text
	}
	var b strings.Builder
	at := 0
	for _, v := range l.versions {
		b.WriteString(text[at:v.from])
		b.WriteByte(' ') // what is on both sides are words of their own
		at = v.to
	}
	b.WriteString(text[at:])
	return strings.Trim(b.String(), " \t\r\n")
}

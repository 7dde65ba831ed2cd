//go:build unix

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// A screen prints the demo's story. On a terminal the last line is live; else
// it is printed every few seconds.
type screen struct {
	out   io.Writer
	fd    int
	live  bool
	last  time.Time // when a live line was last printed where there is no terminal
	drawn bool      // a live line stands on the terminal
}

func newScreen(f *os.File) *screen {
	fd := int(f.Fd())
	return &screen{out: f, fd: fd, live: term.IsTerminal(fd) && os.Getenv("TERM") != "dumb"}
}

const eraseLine = "\r\x1b[K"

func (s *screen) erase() {
	if s.drawn {
		fmt.Fprint(s.out, eraseLine)
		s.drawn = false
	}
}

// line prints a line that stays.
func (s *screen) line(format string, args ...any) {
	s.erase()
	fmt.Fprintln(s.out, strings.TrimRight(fmt.Sprintf(format, args...), " "))
}

// step prints what is being done; done completes it with how long it took.
func (s *screen) step(label, format string, args ...any) (done func()) {
	began, text := time.Now(), fmt.Sprintf(format, args...)
	if s.live {
		s.status("  %-9s %s ...", label, text)
	}
	return func() { s.line("  %-9s %-60s %6.1f s", label, text, time.Since(began).Seconds()) }
}

// status prints the live line.
func (s *screen) status(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !s.live {
		if now := time.Now(); now.Sub(s.last) >= 5*time.Second {
			s.last = now
			fmt.Fprintln(s.out, text)
		}
		return
	}
	if width, _, err := term.GetSize(s.fd); err == nil && width > 0 {
		r := []rune(text)
		text = string(r[:min(len(r), width-1)])
	}
	fmt.Fprint(s.out, eraseLine+text)
	s.drawn = true
}

// bold makes text stand out on a terminal.
func (s *screen) bold(text string) string {
	if !s.live || os.Getenv("NO_COLOR") != "" {
		return text
	}
	return "\x1b[1m" + text + "\x1b[0m"
}

// number writes n with commas.
func number[N int | uint64 | float64](n N) string {
	text := fmt.Sprintf("%d", uint64(n))
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// span writes a duration with about two digits.
func span(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", d.Seconds()*1000)
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

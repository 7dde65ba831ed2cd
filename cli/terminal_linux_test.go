package cli

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// openTerminal returns both ends of a terminal that is width columns wide.
func openTerminal(t *testing.T, width uint16) (ours, theirs *os.File) {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	require.NoError(t, err)
	t.Cleanup(func() { ours.Close() })
	fd := int(ours.Fd())
	require.NoError(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: width}))
	theirs, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	return ours, theirs
}

func TestLiveLineOnANarrowTerminal(t *testing.T) {
	const width = 60
	e := newEnv(t)
	e.both(t, "CREATE DATABASE shop_t", fmt.Sprintf(people, "shop_t"))
	ours, theirs := openTerminal(t, width)
	p := &program{cmd: exec.Command(binary, "run", "-c", e.config(t, "shop_t")), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = theirs, theirs
	e.begin(t, p)
	theirs.Close()
	go io.Copy(p, ours) // ends with an error, EIO, once the program has

	e.source.Exec(t, "INSERT INTO shop_t.people VALUES (1, 'Åsa', 1), (2, 'Bo', 1)")
	eventually(t, p, e.target.DB(t), "SELECT COUNT(*) FROM shop_t.people", "2")
	waitFor(t, func() bool { return strings.Contains(p.printed(), "2 tx · ") })
	p.signal(t, syscall.SIGTERM)
	code, _ := p.wait(t)
	require.Zero(t, code)
	waitFor(t, func() bool { return strings.Contains(p.printed(), "msg=stopped") })
	out := p.printed()
	require.Regexp(t, `shop_t · running · [0-9,]+ tx · [0-9,]+ rows/s · lag `, out)
	for drawn := range strings.SplitSeq(out, eraseLine) {
		if !strings.Contains(drawn, "\n") {
			require.Less(t, utf8.RuneCountInString(drawn), width, "a line must not wrap: %q", drawn)
		}
	}
	require.Greater(t, strings.Count(out, eraseLine), 1)
	require.NotContains(t, out[strings.LastIndex(out, eraseLine):], "rows/s ·", "the line is gone in the end")
}

func TestWidthFollowsTheTerminal(t *testing.T) {
	ours, theirs := openTerminal(t, 40)
	defer theirs.Close()
	l := terminal(theirs)
	require.NotNil(t, l)
	require.Equal(t, 39, l.width())
	require.NoError(t, unix.IoctlSetWinsize(int(ours.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 120}))
	require.Equal(t, 119, l.width())
	file, err := os.Create(t.TempDir() + "/log")
	require.NoError(t, err)
	defer file.Close()
	require.Nil(t, terminal(file))
	require.Nil(t, terminal(new(strings.Builder)))
}

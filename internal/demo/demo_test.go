//go:build unix

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestDemo tells the story in short, and then makes source and target differ: a
// verdict that nothing can spoil would be worth nothing.
func TestDemo(t *testing.T) {
	out := new(bytes.Buffer)
	d := &demo{duration: 6 * time.Second, down: time.Second, pace: 200, screen: &screen{out: out}, folder: t.TempDir()}
	defer d.close()
	require.NoError(t, d.setUp(t.Context()))
	require.NoError(t, d.load(t.Context()))
	require.NoError(t, d.settle(t.Context()))
	require.NoError(t, d.verdict(t.Context()), out.String())
	require.Contains(t, out.String(), "verdict   EQUAL: 9 tables, ")
	require.Contains(t, out.String(), "kill -9 at transaction ")
	require.NotContains(t, out.String(), d.password)

	for _, spoil := range []string{
		"UPDATE shop.customers SET seen = seen + INTERVAL 1 SECOND WHERE seen IS NOT NULL LIMIT 1",
		"UPDATE shop.customers SET seen = NULL WHERE seen IS NOT NULL LIMIT 1",
		"UPDATE shop.products SET name = CONCAT(name, ' ') LIMIT 1",
		"DELETE FROM shop.order_items LIMIT 1",
		"INSERT INTO shop.addresses (customer_id, uses, street, city, country) VALUES (1, 'billing', 's', 'c', 'IS')",
	} {
		tx, err := d.targetDB.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		_, err = tx.Exec(spoil)
		require.NoError(t, err)
		require.NoError(t, tx.Commit())
		out.Reset()
		require.ErrorIs(t, d.verdict(t.Context()), errNotEqual, spoil)
		require.Contains(t, out.String(), "DIFFERS in ", spoil)
		require.Contains(t, out.String(), "verdict   NOT EQUAL")
	}
}

// TestInterruptLeavesNothingRunning interrupts the program demo at work, once as
// Ctrl-C does and once with kill -9.
func TestInterruptLeavesNothingRunning(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "demo")
	out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput()
	require.NoError(t, err, string(out))
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		temp := t.TempDir()
		said, err := os.Create(filepath.Join(temp, "said"))
		require.NoError(t, err)
		cmd := exec.Command(binary)
		cmd.Stdout, cmd.Stderr = said, said
		cmd.Env = append(os.Environ(), "TMPDIR="+temp)
		require.NoError(t, cmd.Start())
		text := func() string {
			b, err := os.ReadFile(said.Name())
			require.NoError(t, err)
			return string(b)
		}
		require.Eventually(t, func() bool { return strings.Contains(text(), "rows/s") }, 3*time.Minute, 10*time.Millisecond, "%s", text())
		require.NotEmpty(t, running(t, temp))
		require.NoError(t, cmd.Process.Signal(sig))
		cmd.Wait()
		require.Eventually(t, func() bool { return len(running(t, temp)) == 0 }, time.Minute, 10*time.Millisecond, "%v", running(t, temp))
		if sig == syscall.SIGINT {
			require.Equal(t, 130, cmd.ProcessState.ExitCode(), text())
			require.Contains(t, text(), "interrupted; nothing is left running")
			left, err := filepath.Glob(filepath.Join(temp, "dfs-demo-*"))
			require.NoError(t, err)
			require.Empty(t, left)
		}
	}
}

// running returns the command lines of all processes that name the folder.
func running(t *testing.T, folder string) (list []string) {
	out, err := exec.Command("ps", "-eo", "args").Output()
	require.NoError(t, err)
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, folder) {
			list = append(list, line)
		}
	}
	return list
}

func TestQuantile(t *testing.T) {
	require.Zero(t, quantile(nil, 0.5))
	list := []time.Duration{1, 2, 3, 4}
	require.Equal(t, time.Duration(3), quantile(list, 0.5))
	require.Equal(t, time.Duration(4), quantile(list, 0.99))
}

func TestSteadyLeavesOutTheCrash(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	p := &probe{samples: []sample{{at(1), 3}, {at(9), 2 * time.Second}, {at(12), 1}, {at(21), 2}}}
	require.Equal(t, []time.Duration{2, 3}, p.steady(at(10), at(20)))
}

func Example_number() {
	s := &screen{out: os.Stdout}
	s.line("%s rows in %s, then %s", number(1234567), span(1500*time.Microsecond), span(12*time.Second))
	// Output: 1,234,567 rows in 1.5 ms, then 12.0 s
}

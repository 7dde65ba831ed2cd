package childproc_test

import (
	"bufio"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dataflowsync/dfs/internal/childproc"
	"github.com/stretchr/testify/require"
)

// The test program is its own parent of a child: it starts "sleep" and waits.
func TestMain(m *testing.M) {
	if os.Getenv("CHILDPROC_PARENT") == "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("sleep", "600")
	if err := childproc.Start(cmd, func(error) {}); err != nil {
		panic(err)
	}
	os.Stdout.WriteString(strconv.Itoa(cmd.Process.Pid) + "\n")
	select {}
}

func TestAChildEndsWithItsParent(t *testing.T) {
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), "CHILDPROC_PARENT=1")
	out, err := parent.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, parent.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(pid, 0))
	require.NoError(t, parent.Process.Kill())
	parent.Wait()
	require.Eventually(t, func() bool { return syscall.Kill(pid, 0) == syscall.ESRCH || zombie(pid) }, time.Minute, time.Millisecond)
}

// zombie reports whether the process has ended and waits to be collected.
func zombie(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && strings.Contains(string(b), ") Z ")
}

func TestTheEndIsTold(t *testing.T) {
	ended := make(chan error, 1)
	require.NoError(t, childproc.Start(exec.Command("false"), func(err error) { ended <- err }))
	require.ErrorContains(t, <-ended, "exit status 1")
	require.Error(t, childproc.Start(exec.Command("/no/such/program"), func(error) { t.Error("it never began") }))
}

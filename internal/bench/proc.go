//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/dataflowsync/dfs/internal/childproc"
)

// A process is a child that does not outlive this program.
type process struct {
	cmd  *exec.Cmd
	log  string        // file of what it wrote to standard error
	done chan struct{} // closed at its end
	err  error         // how it ended; valid once done is closed
}

// start starts cmd, with its standard error in the given file.
func start(cmd *exec.Cmd, log string) (*process, error) {
	f, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer f.Close() // the child has its own
	cmd.Stderr = f
	p := &process{cmd: cmd, log: log, done: make(chan struct{})}
	return p, childproc.Start(cmd, func(err error) {
		p.err = err
		close(p.done)
	})
}

// wait waits for the end of the process, and kills it if ctx ends first.
func (p *process) wait(ctx context.Context) error {
	select {
	case <-p.done:
	case <-ctx.Done():
		p.kill()
		return ctx.Err()
	}
	return p.failure()
}

// failure says how the process ended, with the last it wrote, or is nil if it
// runs or ended well.
func (p *process) failure() error {
	select {
	case <-p.done:
	default:
		return nil
	}
	if p.err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w; it wrote\n%s", p.cmd.Path, p.err, tail(p.log))
}

// kill ends the process, and waits for its end.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// stop asks the process to end, and waits until it has.
func (p *process) stop(ctx context.Context) error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return p.wait(ctx)
}

// cpu returns the processor time that the process has taken so far.
func (p *process) cpu() time.Duration {
	select {
	case <-p.done:
		return p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
	default:
		return childproc.CPUTime(p.cmd.Process.Pid)
	}
}

// tail returns the end of a file, or why it cannot be read.
func tail(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	b = bytes.TrimSpace(b)
	return string(b[max(0, len(b)-2000):])
}

// treeTime is CPUTime of a process and of all that it has started: PostgreSQL has a
// process for each connection.
func treeTime(pid int) time.Duration {
	if pid == 0 {
		return 0
	}
	sum := childproc.CPUTime(pid)
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	if err != nil {
		return sum
	}
	for _, f := range strings.Fields(string(b)) {
		if child, err := strconv.Atoi(f); err == nil {
			sum += treeTime(child)
		}
	}
	return sum
}

// loopback returns how many bytes have gone through the loopback device, over which
// the servers and their clients talk, or 0 if the system does not tell.
func loopback() int64 {
	b, err := os.ReadFile("/proc/net/dev")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), " lo:") // received; the same is sent
	var n int64
	fmt.Sscan(rest, &n)
	return n
}

// machineTime returns the time that all processors were idle, and the sum of
// what they were anything.
func machineTime() (idle, all time.Duration) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0
	}
	line, _, _ := strings.Cut(string(b), "\n")
	for i, s := range strings.Fields(line)[1:9] { // user nice system idle iowait irq softirq steal
		n, _ := strconv.ParseInt(s, 10, 64)
		d := time.Duration(n) * childproc.Tick
		if i == 3 || i == 4 {
			idle += d
		}
		all += d
	}
	return idle, all
}

// A meter tells where processor time went between two moments.
type meter struct {
	begun        time.Time
	idle, all    time.Duration
	net          int64
	source, dest time.Duration
	sourcePID    int
	targetPID    int // 0 if there is no target
}

func startMeter(source, target int) *meter {
	m := &meter{sourcePID: source, targetPID: target}
	m.idle, m.all = machineTime()
	m.source, m.dest = childproc.CPUTime(source), treeTime(target)
	m.net = loopback()
	m.begun = time.Now()
	return m
}

// stop returns a sample with all that the meter knows.
func (m *meter) stop() sample {
	s := sample{Wall: time.Since(m.begun)}
	idle, all := machineTime()
	s.Idle, s.Machine = idle-m.idle, all-m.all
	s.Source = childproc.CPUTime(m.sourcePID) - m.source
	s.Net = loopback() - m.net
	if m.targetPID > 0 {
		s.Target = treeTime(m.targetPID) - m.dest
	}
	return s
}

// A sample is one measured run.
type sample struct {
	Wall    time.Duration `json:"wall"`
	Self    time.Duration `json:"self"`    // processor time of the contender
	Source  time.Duration `json:"source"`  // of the source's server
	Target  time.Duration `json:"target"`  // of the target's server
	Idle    time.Duration `json:"idle"`    // of all processors
	Machine time.Duration `json:"machine"` // idle and busy
	RSS     int64         `json:"rss"`     // the contender's most resident bytes; 0 if not a process of its own
	Net     int64         `json:"net"`     // bytes through the loopback device: all connections, also of others
	Queue   int64         `json:"queue"`   // bytes of DFS's queue at the end
}

// rate returns rows per second.
func (s sample) rate(rows int) float64 { return float64(rows) / s.Wall.Seconds() }

// shares says in words where the processors' time went.
func (s sample) shares() string {
	of := func(d time.Duration) float64 { return 100 * float64(d) / float64(max(s.Machine, 1)) }
	rest := s.Machine - s.Self - s.Source - s.Target - s.Idle
	return fmt.Sprintf("contender %.0f %%, target %.0f %%, source %.0f %%, rest of the machine %.0f %%, idle %.0f %%",
		of(s.Self), of(s.Target), of(s.Source), max(of(rest), 0), of(s.Idle))
}

// copyFolder copies a folder that a stopped server has left. Unlike os.CopyFS,
// cp keeps holes, which are most of it.
func copyFolder(ctx context.Context, from, to string) error {
	out, err := exec.CommandContext(ctx, "cp", "-R", from, to).CombinedOutput()
	if err != nil {
		return fmt.Errorf("copy %s: %w\n%s", from, err, out)
	}
	return nil
}

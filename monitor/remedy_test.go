package monitor

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/queue"
)

// What to do is said by what is wrong, not only by where.
func TestRemediesNameWhatIsWrong(t *testing.T) {
	dial := &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	for _, c := range []struct {
		err     error
		passing bool
		want    string
	}{
		{dfs.Transient(fmt.Errorf("connecting to the target: %w", dial)), true, "No server answers at that address."},
		{dfs.Transient(&net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}), true, "Nothing to do at once"},
		{dfs.Transient(fmt.Errorf("write shop.queue: %w", syscall.ENOSPC)), true, "A disk is full. Make room on it, and it goes on by itself"},
		{errors.New("Error 1114 (HY000): The table 'orders' is full"), false, "A disk is full. Make room on it, then start again"},
		{errors.New(`ERROR: could not extend file "base/5/1259": No space left on device (SQLSTATE 53100)`), true, "A disk is full."},
		{dfs.Transient(errors.New("queue shop.queue: the disk is full: it has 0 MB left, and the queue leaves 32 for its own work")), true, "A disk is full. Make room on it, and it goes on by itself"},
		{dfs.Transient(errors.New("connecting to the target: Error 1045 (28000): Access denied for user 'dfs'@'localhost' (using password: YES) (check the user and the password)")), true, "The server refuses the account"},
		{errors.New(`FATAL: password authentication failed for user "dfs" (SQLSTATE 28P01)`), true, "The server refuses the account"},
		{dfs.Transient(errors.New("cdc: register as a replica: ERROR 1045 (28000): Access denied for user 'dfs'@'%' (using password: YES) (GRANT REPLICATION SLAVE ON *.* TO the account)")), true, "The account lacks a right. Grant what the message names, and it goes on by itself."},
		{&dfs.Error{Part: "sink", ID: "a:1", Err: errors.New("Error 1142 (42000): INSERT command denied to user 'dfs'@'localhost' for table 'orders': GRANT SELECT ON orders")}, false, "The account lacks a right. Grant what the message names, then start again."},
		{errors.New("ERROR: permission denied for table orders (SQLSTATE 42501)"), false, "The account lacks a right."},
		{dfs.Transient(errors.New("Error 1290 (HY000): The MySQL server is running with the --read-only option so it cannot execute this statement")), true, "read-only now"},
		{errors.New("the table 'orders' has a full name"), false, "Mend what the message names"},
		{&dfs.Error{Part: "sink", ID: "a:1", Err: errors.New("the target's table has no column")}, false, "Or skip this one transaction"},
		{fmt.Errorf("sink: %w", dfs.ErrConflict), true, "Another process writes"},
		{&dfs.Error{Part: "sink", ID: "a:1", Err: dfs.Standing(errors.New("Error 1146 (42S02): Table 'shop.orders' doesn't exist"))}, false, "to skip this transaction would not help"},
		{&dfs.Error{Part: "sink", ID: "a:1", Err: fmt.Errorf("%w: the table is gone", dfs.ErrLost)}, false, "Put the checkpoint back as the message says"},
	} {
		var e *dfs.Error
		errors.As(c.err, &e)
		text, skippable := remedy(c.err, e, c.passing)
		require.Contains(t, text, c.want, "%v", c.err)
		require.Equal(t, strings.Contains(text, "skip this one"), skippable)
	}
}

// What stands still without an error is told of within seconds, also while nobody has said
// how large a lag is too large.
func TestWhatStandsStillIsToldOf(t *testing.T) {
	l := newLab(t, nil)
	l.src.add(3)
	waitFor(t, func() bool { return l.dst.count() == 3 })
	soon := func() State { return l.h.lines["shop"].look(time.Now().Add(5 * time.Second)) }
	require.Equal(t, Good, l.state().Health)

	l.dst.mu.Lock() // as a target that does not answer
	l.src.add(5)
	waitFor(t, func() bool { return l.state().Waiting == 5 })
	s := soon()
	l.dst.mu.Unlock()
	require.Equal(t, Waiting, s.Health)
	require.Regexp(t, "^The target has not moved for [0-9]+s, and 5 transactions wait.$", s.Text)
	require.Contains(t, s.Warnings[0], "a lock that another session holds")
	require.Equal(t, []string{"running", "running", "waiting"}, states(s), "the card says so too")
	require.True(t, s.ready(), "it may be a large transaction")
	waitFor(t, func() bool { return l.dst.count() == 8 && soon().Health == Good })

	l.src.mu.Lock()
	l.src.silent = 4
	l.src.mu.Unlock()
	s = l.h.lines["shop"].look(time.Now())
	require.Equal(t, Waiting, s.Health)
	require.Equal(t, "Nothing has come from the source for 4s, not even a sign of life.", s.Text)
	require.InDelta(t, 4, s.LagSeconds, 0.001)
	require.Equal(t, []string{"waiting", "running", "running"}, states(s))
}

// states are those of the parts.
func states(s State) (list []string) {
	for _, p := range s.Parts {
		list = append(list, p.State)
	}
	return list
}

// To skip a transaction is offered where that would help, and refused where it would not.
func TestASkipThatWouldNotHelpIsRefused(t *testing.T) {
	l := newLab(t, nil)
	fail := func(err error) {
		l.dst.set(func() { l.dst.err = err })
		l.src.add(1)
		waitFor(t, func() bool {
			return l.state().Health == Failed && l.state().Error != nil && l.state().Error.Transaction == "t1"
		})
	}
	fail(dfs.Standing(errors.New("Error 1146 (42S02): Table 'shop.orders' doesn't exist")))
	require.False(t, l.state().Error.Skippable)
	status, body := l.call(t, "POST", "/api/pipelines/shop/skip", `{"id": "t1"}`)
	require.Equal(t, http.StatusConflict, status)
	require.Contains(t, body, "to skip t1 would not help")
	require.Empty(t, l.state().Skip)
	status, body = l.call(t, "POST", "/api/pipelines/shop/skip", `{"id": "t2"}`)
	require.Equal(t, http.StatusOK, status, body)
	status, body = l.call(t, "POST", "/api/pipelines/shop/skip", `{"id": "t1", "anyway": true}`)
	require.Equal(t, http.StatusOK, status, body)
	require.Equal(t, []string{"t1", "t2"}, l.state().Skip)

	// The fault of a transaction.
	l2 := newLab(t, nil)
	l2.dst.set(func() { l2.dst.bad = "t1" })
	l2.src.add(1)
	waitFor(t, func() bool { return l2.state().Health == Failed })
	require.True(t, l2.state().Error.Skippable)
	status, body = l2.call(t, "POST", "/api/pipelines/shop/skip", `{"id": "t1"}`)
	require.Equal(t, http.StatusOK, status, body)
}

// A queue that cannot be written to is what is shown to be at fault.
func TestTheQueueThatIsFullIsShownSo(t *testing.T) {
	full := &dfs.Error{Part: "queue", Err: dfs.Transient(errors.New("the disk is full"))}
	parts := []Part{{Name: "source"}, {Name: "queue"}, {Name: "sink"}}
	partStates(parts, dfs.Stats{Capture: dfs.Leg{State: dfs.Retrying, Err: full}, Apply: dfs.Leg{State: dfs.Running}}, true)
	require.Equal(t, "running retrying running", fmt.Sprint(parts[0].State, " ", parts[1].State, " ", parts[2].State))
	partStates(parts, dfs.Stats{Capture: dfs.Leg{State: dfs.Stopped, Err: full}, Apply: dfs.Leg{State: dfs.Running}}, true)
	require.Equal(t, "stopped failed running", fmt.Sprint(parts[0].State, " ", parts[1].State, " ", parts[2].State))
}

// A queue whose file was deleted works until the program ends, so people must know before.
func TestAQueueWhoseFileIsGoneIsWarnedOf(t *testing.T) {
	l := newLab(t, nil)
	require.Empty(t, l.state().Warnings)
	tank := l.p.Queue.(*tank)
	tank.mu.Lock()
	tank.gone = 1
	tank.mu.Unlock()
	waitFor(t, func() bool { return len(l.state().Warnings) == 1 })
	require.Contains(t, l.state().Warnings[0], "The queue's file is not at its path any more")
	require.Equal(t, Warned, l.state().Health, "the pill says so")
	s := l.state()
	require.True(t, s.ready())
}

// So do those of dead letters and of the journal.
func TestLettersAndAJournalWhoseFilesAreGoneAreWarnedOf(t *testing.T) {
	dir := t.TempDir()
	letters, err := queue.OpenLetters(filepath.Join(dir, "letters"), nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, letters.Close()) })
	j := openJournal(t, filepath.Join(dir, "journal"), nil)
	l := newLab(t, &Options{Journal: j}, func(p *dfs.Pipeline) { p.Letters = letters })
	require.Empty(t, l.state().Warnings)
	for _, name := range []string{"letters", "journal"} {
		require.NoError(t, os.Rename(filepath.Join(dir, name), filepath.Join(dir, name+".away")))
	}
	waitFor(t, func() bool { return len(l.state().Warnings) == 2 })
	require.Contains(t, l.state().Warnings[0], "The journal's file is not at its path any more")
	require.Contains(t, l.state().Warnings[1], "The file of dead letters is not at its path any more")
	require.True(t, j.Stats().Gone)
	for _, name := range []string{"letters", "journal"} {
		require.NoError(t, os.Rename(filepath.Join(dir, name+".away"), filepath.Join(dir, name)))
	}
	waitFor(t, func() bool { return len(l.state().Warnings) == 0 && l.state().Health == Good })
}

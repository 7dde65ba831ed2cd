package monitor

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/stretchr/testify/require"
)

func TestTheSourceTellsUntilWhenItKeepsWhatIsNeeded(t *testing.T) {
	l := newLab(t, nil)
	tell := func(p dfs.Probe, err error) {
		l.src.mu.Lock()
		defer l.src.mu.Unlock()
		l.src.told, l.src.tells = p, err
	}
	waitFor(t, func() bool { s := l.state().Source; return s != nil && s.Unread == nil && !s.PurgeKnown })
	metrics := func() string {
		status, body := l.call(t, "GET", "/metrics", "")
		require.Equal(t, http.StatusOK, status)
		return body
	}
	require.NotContains(t, metrics(), "dfs_source_purge_seconds{")
	require.Contains(t, metrics(), "dfs_source_clock_offset_seconds{pipeline=\"shop\"} 0\n")

	warns := func(want string) {
		t.Helper()
		waitFor(t, func() bool { return strings.Contains(strings.Join(l.state().Warnings, "\n"), want) })
	}
	still := func() {
		t.Helper()
		waitFor(t, func() bool {
			s := l.state()
			return len(s.Warnings) == 0 && s.Source.Unread != nil && *s.Source.Unread == 7
		})
	}
	day := 24 * time.Hour
	tell(dfs.Probe{Unread: 7, UnreadBytes: 700, PurgeKnown: true, PurgeIn: 3 * day, Keeps: 4 * day}, nil)
	still()
	require.Contains(t, metrics(), "dfs_source_purge_seconds{pipeline=\"shop\"} 259200\n")
	require.Contains(t, metrics(), "dfs_source_unread_bytes{pipeline=\"shop\"} 700\n")
	tell(dfs.Probe{Unread: 7, PurgeKnown: true, PurgeIn: 20 * time.Hour, Keeps: 4 * day}, nil)
	warns("may delete what has not been read in 20 hours")
	tell(dfs.Probe{Unread: 7, PurgeKnown: true, PurgeIn: time.Hour, Keeps: time.Hour, Active: true}, nil)
	still()
	tell(dfs.Probe{Unread: 8, PurgeKnown: true, PurgeIn: -time.Hour, Keeps: time.Hour}, nil)
	warns("at any moment")
	require.Contains(t, metrics(), "dfs_warnings{pipeline=\"shop\"} 1\n")
	tell(dfs.Probe{Unread: 8, Purged: true, PurgeKnown: true, PurgeIn: -time.Hour}, nil)
	warns("copy the tables anew")
	tell(dfs.Probe{Unread: 7, PurgeKnown: true, PurgeIn: dfs.Never, Keeps: dfs.Never}, nil)
	still()
	require.Contains(t, metrics(), "dfs_source_purge_seconds{pipeline=\"shop\"} +Inf\n")
	require.Nil(t, l.state().Source.PurgeIn)
	tell(dfs.Probe{Unread: 8, ClockOffset: -time.Minute}, nil)
	warns("The source's clock is 60 seconds behind this host's.")

	// What was known stays, with why there is nothing newer.
	tell(dfs.Probe{}, errors.New("no route to host, "+secret))
	waitFor(t, func() bool { return l.state().Source.Error == "no route to host, •••" })
	require.EqualValues(t, 8, *l.state().Source.Unread)
	s := newSpec(t)
	status, body := l.call(t, "GET", "/api/pipelines/shop", "")
	s.check(t, "GET", "/api/pipelines/{name}", status, body)
}

package cdc_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
)

func TestProbeTellsUntilWhenTheServerKeepsWhatIsNeeded(t *testing.T) {
	for _, s := range []setup{setups[0], setups[2], setups[4]} {
		t.Run(s.name, func(t *testing.T) { testProbe(t, s, testenv.Start(t, s.kind, s.args...)) })
	}
}

func testProbe(t *testing.T, s setup, srv *testenv.Server) {
	srv.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.a (id int PRIMARY KEY)")
	keep, days := "SET GLOBAL binlog_expire_logs_seconds = ", 1
	if s.kind != testenv.MySQL97 {
		keep, days = "SET GLOBAL expire_logs_days = ", 86400
	}
	never := func() { srv.Exec(t, keep+"0") }
	two := func() { srv.Exec(t, fmt.Sprint(keep, 2*86400/days)) }
	src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{"shop.*"}, Start: "now"})
	st, at := begin(t, src)
	srv.Exec(t, "INSERT INTO shop.a VALUES (0)")
	at = readN(t, src, st, 1)[0].Pos
	require.NoError(t, st.Close())
	_, known := src.ClockOffset()
	require.False(t, known)
	probe := func() dfs.Probe {
		t.Helper()
		p, err := src.Probe(limit(t), at)
		require.NoError(t, err)
		return p
	}

	two()
	p := probe()
	require.True(t, p.Active)
	require.True(t, p.PurgeKnown)
	require.Equal(t, 48*time.Hour, p.Keeps)
	require.Equal(t, p.Keeps, p.PurgeIn)
	require.Zero(t, p.UnreadBytes)
	require.Less(t, p.ClockOffset.Abs(), time.Minute)
	require.Positive(t, p.ClockError)
	_, known = src.ClockOffset()
	require.True(t, known)

	// Transactions are counted where they have names, followed or not.
	srv.Exec(t, "CREATE DATABASE other", "CREATE TABLE other.b (id int)", "INSERT INTO shop.a VALUES (1)", "INSERT INTO other.b VALUES (1)")
	p = probe()
	if s.word == "file" {
		require.EqualValues(t, -1, p.Unread)
	} else {
		require.EqualValues(t, 4, p.Unread)
	}
	require.Greater(t, p.UnreadBytes, int64(400))
	require.Less(t, p.UnreadBytes, int64(4000))

	// Once the file has ended, its time runs.
	srv.Exec(t, "FLUSH LOGS", "INSERT INTO shop.a VALUES (2)")
	before := p.UnreadBytes
	p = probe()
	require.False(t, p.Active)
	require.Less(t, p.PurgeIn, 48*time.Hour)
	require.Greater(t, p.PurgeIn, 47*time.Hour)
	require.Greater(t, p.UnreadBytes, before)
	never()
	p = probe()
	require.True(t, p.PurgeKnown)
	require.Equal(t, dfs.Never, p.PurgeIn)

	// And what is gone is gone.
	_, last := logNames(t, srv)
	srv.Exec(t, "PURGE BINARY LOGS TO '"+last+"'")
	p = probe()
	if s.kind != testenv.MariaDB { // which tells when it is to send it
		require.True(t, p.Purged)
	}
	_, err := src.Probe(limit(t), "nonsense")
	require.Error(t, err)
}

// A DSN may set the session's own time, which stands for a clock that is wrong.
func TestAClockThatIsAheadIsFoundOut(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	for _, ahead := range []time.Duration{time.Hour, -time.Hour} {
		now := time.Now().Add(ahead)
		src := open(t, srv.DSN("")+fmt.Sprintf("?timestamp=%d.%06d", now.Unix(), now.Nanosecond()/1000), nil)
		p, err := src.Probe(limit(t), "")
		require.NoError(t, err)
		took := time.Since(now.Add(-ahead)) // its time stands still meanwhile
		require.InDelta(t, ahead.Seconds(), p.ClockOffset.Seconds(), took.Seconds()+0.001)
		got, known := src.ClockOffset()
		require.True(t, known)
		require.Equal(t, p.ClockOffset, got)
	}
}

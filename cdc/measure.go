package cdc

import "github.com/dataflowsync/dfs"

var _ dfs.Measurer = (*Source)(nil)

// Measures returns the numbers of Stats.
func (s *Source) Measures() []dfs.Measure {
	st := s.Stats()
	connected := 0.0
	if st.Connected {
		connected = 1
	}
	return []dfs.Measure{
		{Name: "connected", Help: "1 while a stream of the log is open", Value: connected},
		{Name: "unheard_seconds", Help: "seconds for which the server has sent nothing although it is waited for; 0 up to two heartbeats", Value: st.Silent.Seconds()},
		{Name: "connections", Help: "streams opened; all but the first are reconnects", Value: float64(st.Connections), Counter: true},
		{Name: "received_bytes", Help: "bytes of the log received", Value: float64(st.Bytes), Counter: true},
		{Name: "events", Help: "events read from the log", Value: float64(st.Events), Counter: true},
		{Name: "transactions", Help: "transactions handed on", Value: float64(st.Transactions), Counter: true},
		{Name: "filtered_transactions", Help: "transactions without anything followed", Value: float64(st.Filtered), Counter: true},
		{Name: "row_events", Help: "row events read, each of which holds one row or more", Value: float64(st.RowEvents), Counter: true},
		{Name: "filtered_row_events", Help: "row events of tables that are not followed", Value: float64(st.RowEventsFiltered), Counter: true},
		{Name: "statements", Help: "statements that alter tables, handed on", Value: float64(st.Statements), Counter: true},
		{Name: "filtered_statements", Help: "statements about what is not followed", Value: float64(st.StatementsFiltered), Counter: true},
	}
}

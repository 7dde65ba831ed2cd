package sink

import "github.com/dataflowsync/dfs"

var (
	_ dfs.Measurer   = (*MySQL)(nil)
	_ dfs.Overlapper = (*MySQL)(nil)
)

// Measures returns the numbers of Stats.
func (m *MySQL) Measures() []dfs.Measure {
	st := m.Stats()
	var conflicts, statements uint64
	for _, c := range st.Conflicts {
		conflicts += c.Count
	}
	for _, c := range st.DDL {
		statements += c.Count
	}
	running := 0.0
	if st.Running != nil {
		running = 1
	}
	return []dfs.Measure{
		{Name: "commits", Help: "transactions of the target", Value: float64(st.Commits), Counter: true},
		{Name: "transactions", Help: "transactions of the source, applied", Value: float64(st.Transactions), Counter: true},
		{Name: "statements", Help: "statements sent for merged runs of rows", Value: float64(st.Statements), Counter: true},
		{Name: "inserts", Help: "rows inserted at the source, applied", Value: float64(st.Inserts), Counter: true},
		{Name: "updates", Help: "rows updated at the source, applied", Value: float64(st.Updates), Counter: true},
		{Name: "deletes", Help: "rows deleted at the source, applied", Value: float64(st.Deletes), Counter: true},
		{Name: "event_rows", Help: "rows sent as row events, after merging", Value: float64(st.EventRows), Counter: true},
		{Name: "sql_tables", Help: "tables whose rows go by SQL although the server takes row events", Value: float64(len(st.BySQL))},
		{Name: "turns", Help: "of commits, those of runs that went by several connections", Value: float64(st.Turns), Counter: true},
		{Name: "fallbacks", Help: "runs of rows that the target refused when merged", Value: float64(st.Fallbacks), Counter: true},
		{Name: "serial_changes", Help: "changes applied one by one because of that", Value: float64(st.Serial), Counter: true},
		{Name: "conflicts", Help: "rows that were not as the source had them, settled by a policy", Value: float64(conflicts), Counter: true},
		{Name: "altering_statements", Help: "statements that alter tables, whatever became of them", Value: float64(statements), Counter: true},
		{Name: "altering", Help: "1 while a statement that alters tables runs", Value: running},
	}
}

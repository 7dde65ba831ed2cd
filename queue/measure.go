package queue

import "github.com/dataflowsync/dfs"

var _ dfs.Measurer = (*Queue)(nil)

// Measures returns the numbers of Stats.
func (q *Queue) Measures() []dfs.Measure {
	st := q.Stats()
	full := 0.0
	if st.Waiting {
		full = 1
	}
	gone := 0.0
	if st.Gone {
		gone = 1
	}
	return []dfs.Measure{
		{Name: "bytes", Help: "bytes held, as compressed", Value: float64(st.Bytes)},
		{Name: "file_bytes", Help: "size of the file and its write-ahead log", Value: float64(st.FileBytes)},
		{Name: "gone", Help: "1 while the file is not at its path any more: what it holds ends with the program", Value: gone},
		{Name: "blocks", Help: "blocks held", Value: float64(st.Blocks)},
		{Name: "full", Help: "1 while capture waits because the queue holds all that it may", Value: full},
		{Name: "transactions", Help: "transactions stored", Value: float64(st.Transactions), Counter: true},
		{Name: "commits", Help: "commits of the file, each of which stores what has come meanwhile", Value: float64(st.Commits), Counter: true},
		{Name: "raw_bytes", Help: "bytes stored, before compression", Value: float64(st.RawBytes), Counter: true},
		{Name: "stored_bytes", Help: "bytes stored, as compressed", Value: float64(st.StoredBytes), Counter: true},
	}
}

package sink

import (
	"io"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/stretchr/testify/require"
)

// A driver that still reads when COPY has returned must not meet rows that are gone.
func TestRowsOfCopyAreNotReadLate(t *testing.T) {
	started, goOn := make(chan bool), make(chan bool)
	m := &mapping{text: []func([]byte, dfs.Value) ([]byte, error){func(b []byte, v dfs.Value) ([]byte, error) {
		started <- true
		<-goOn
		return v.Append(b), nil
	}}}
	r := &copyReader{m: m, cols: []int{0}, rows: []rowOp{{after: dfs.Row{dfs.IntValue(1)}}}}
	read := make(chan error)
	go func() {
		_, err := r.Read(make([]byte, 10))
		read <- err
	}()
	<-started
	ended := make(chan bool)
	go func() { r.end(); close(ended) }()
	close(goOn)
	require.NoError(t, <-read)
	<-ended
	require.Equal(t, "1\n", string(r.buf))
	r.rows = []rowOp{{}}
	_, err := r.Read(make([]byte, 10))
	require.ErrorIs(t, err, io.ErrClosedPipe)
}

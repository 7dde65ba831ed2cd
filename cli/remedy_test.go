package cli

import (
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/stretchr/testify/require"
)

func TestErrorsThatNeedASnapshotSaySo(t *testing.T) {
	for _, cause := range []error{cdc.ErrPurged, cdc.ErrDiverged, cdc.ErrErrant} {
		err := &dfs.Error{Part: "source", Err: fmt.Errorf("%w: some of it", cause)}
		require.Contains(t, remedy(err), "needs a snapshot")
	}
	require.Equal(t, "do it", remedy(&cdc.SetupError{Faults: []cdc.Fault{{What: "x", Cure: "do it"}}}))
	require.Empty(t, remedy(errors.New("x")))
}

func TestAnAddressThatIsTakenHasOneCure(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	_, err = net.Listen("tcp", l.Addr().String())
	require.Error(t, err)
	require.Empty(t, cureOf(err)) // who listens says it
}

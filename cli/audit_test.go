package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs/monitor"
)

// What somebody gives as a reason moves no cursor, and makes no line or column of its own.
func TestReasonsInTheAuditAreText(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, printActions(&out, []monitor.Action{{By: "eve", Pipeline: "shop", Action: "pause", Why: "x\x1b[1A\x1b[2K\rnobody\tdid\u009b2J\nsecond line"}}))
	require.Equal(t, 2, strings.Count(out.String(), "\n"))
	require.NotContains(t, out.String(), "second")
	for _, bad := range []string{"\x1b", "\r", "\t", "\u009b"} {
		require.NotContains(t, out.String(), bad)
	}
}

package testseed

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSeedsAreRepeatedAndFixedInCI(t *testing.T) {
	t.Setenv("DFS_SEED", "")
	t.Setenv("CI", "")
	require.NotEqual(t, New(t), New(t))
	t.Setenv("CI", "true")
	one := New(t)
	require.Equal(t, one, New(t))
	t.Run("other", func(t *testing.T) { require.NotEqual(t, one, New(t)) })
	t.Setenv("DFS_SEED", "7")
	require.EqualValues(t, 7, New(t))
}

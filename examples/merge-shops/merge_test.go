//go:build unix

package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTwoShopsBecomeOne(t *testing.T) {
	var out strings.Builder
	require.NoError(t, show(t.Context(), &out))
	require.Equal(t, `customer | invited by | ordered | notes
  Ann | - | - | calls on Mondays
  Bob | Ann | pot,tea | gift wrap
  Cem | - | - | -
  Dee | Cem | ink,pen | pays late
  Dee | Cem | pen | pays late

cart of | what is in it
  Ann | pot x1
  Dee | ink x4,pen x1

`, out.String())
}

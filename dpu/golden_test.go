package dpu_test

import (
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/dfstest"
	"github.com/dataflowsync/dfs/dpu"
	"github.com/stretchr/testify/require"
)

// To write what the files want: go test ./dpu -run Golden -dfstest.update
func TestGolden(t *testing.T) {
	dfstest.Golden(t, "testdata/*.txt", func(t *testing.T, s *dfstest.Script) []dfs.Stage {
		units, err := dpu.New([]dpu.Unit{
			{From: "shop.users", Drop: []string{"password"}, Rename: map[string]string{"mail": "email"}, Into: "crm.people",
				Columns: []dpu.Column{{Name: "country", Expr: "upper(country)", Type: "char(2)"}}},
			{From: "shop.orders", Where: dpu.Where{Expr: `status != "draft"`}, Drop: []string{"price", "quantity", "status"}, Into: "crm.{table}",
				Columns: []dpu.Column{{Name: "total", Expr: "price * quantity", Type: "decimal(12,2)"}}, SoftDelete: "deleted"},
		}, nil)
		require.NoError(t, err)
		return []dfs.Stage{units}
	})
}

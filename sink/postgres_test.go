package sink_test

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/sink"
	"github.com/dataflowsync/dfs/sink/sinktest"
	"github.com/stretchr/testify/require"
)

func openPostgres(tb testing.TB, srv *testenv.Postgres, schema string, opts *sink.PostgresOptions) *sink.Postgres {
	o := sink.PostgresOptions{}
	if opts != nil {
		o = *opts
	}
	o.Name, o.Schema = schema, schema
	o.Routes = []sink.Route{{From: "source.*", To: schema + ".*"}}
	p, err := sink.OpenPostgres(tb.Context(), srv.DSN(), &o)
	require.NoError(tb, err)
	return p
}

// Pipelines that begin at the same moment with nothing there do not hinder each other.
func TestPostgresIsSetUpByManyAtOnce(t *testing.T) {
	srv := testenv.SharedPostgres(t)
	var schemas []string
	t.Cleanup(func() {
		for _, schema := range schemas {
			srv.Exec(t, "DROP SCHEMA IF EXISTS "+schema+" CASCADE")
		}
	})
	for round := range 20 {
		schema := fmt.Sprintf("%s_many_%d", srv.Schema(t), round)
		schemas = append(schemas, schema)
		var wg sync.WaitGroup
		errs := make([]error, 6)
		for i := range errs {
			wg.Go(func() {
				p, err := sink.OpenPostgres(t.Context(), srv.DSN(), &sink.PostgresOptions{Name: fmt.Sprint("pipeline ", i), Schema: schema})
				if errs[i] = err; err != nil {
					return
				}
				defer p.Close()
				_, errs[i] = p.Checkpoint(t.Context())
			})
		}
		wg.Wait()
		require.NoError(t, errors.Join(errs...))
	}
}

func TestPostgresKeepsTheContractOfASink(t *testing.T) {
	srv := testenv.SharedPostgres(t)
	sinktest.Run(t, "source", func(t *testing.T) sinktest.Target {
		schema := srv.Schema(t)
		srv.Exec(t, "CREATE TABLE "+schema+"."+sinktest.SQL)
		return sinktest.Target{
			Open: func(tb testing.TB) dfs.Sink { return openPostgres(tb, srv, schema, nil) },
			Rows: func(tb testing.TB) (out []sinktest.Row) {
				for _, r := range srv.Query(tb, "SELECT id, name, n FROM "+schema+".items ORDER BY id") {
					id, err1 := strconv.ParseInt(r[0], 10, 64)
					n, err2 := strconv.ParseInt(r[2], 10, 64)
					require.NoError(tb, err1)
					require.NoError(tb, err2)
					out = append(out, sinktest.Row{ID: id, Name: r[1], N: n})
				}
				return out
			},
		}
	})
}

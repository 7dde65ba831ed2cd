package cdc_test

import (
	"cmp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
)

// A server without GTIDs is asked for its log by 4 bytes, so that it cannot be asked to go
// on behind 4 GiB of a file. A transaction that ends there stopped the pipeline for good.
func TestAPlaceThatAServerCannotBeAskedForLeadsToTheRest(t *testing.T) {
	for _, s := range setups {
		if s.word != "file" {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			o := &cdc.Options{Tables: []string{"shop.*"}}
			// Without names of columns, what the tables are like comes from State.
			srv := testenv.Start(t, s.kind, append(s.args, map[testenv.Kind]string{testenv.MySQL97: "--binlog-row-metadata=MINIMAL", testenv.MySQL56: "--sync-binlog=0"}[s.kind])...)
			srv.Exec(t, "CREATE DATABASE IF NOT EXISTS shop")
			src := open(t, srv.DSN(""), o)
			st := stream(t, src, "")
			start := read(t, st, func(*dfs.Transaction) bool { return true })[0].Checkpoint
			srv.Exec(t, "DROP DATABASE shop")
			want := append([]string{"DROP DATABASE shop"}, live(t, srv, src, st)...)

			cdc.AskNoFurther(src, 4)
			at := func(c dfs.Checkpoint) dfs.Stream {
				st, err := src.Open(limit(t), c)
				require.NoError(t, err)
				t.Cleanup(func() { st.Close() })
				return st
			}
			txs := readN(t, src, at(start), len(want))
			require.Equal(t, want, says(txs))
			state, last := start.State, ""
			for i, tx := range txs[:len(txs)-1] {
				state = cmp.Or(tx.State, state)
				from := at(dfs.Checkpoint{Pos: tx.Pos, State: state})
				require.Equal(t, want[i+1:], says(readN(t, src, from, len(want)-i-1)), "after %s", tx.Pos)
				from.Close()
				p, err := cdc.ParsePosition(tx.Pos)
				require.NoError(t, err)
				if last == "" {
					last = p.File
				}
				if p.File != last {
					break // two files are enough
				}
			}

			// Behind the last transaction of a file that was ended, nothing of it is read again.
			srv.Exec(t, "FLUSH LOGS", "INSERT INTO shop.b VALUES (10, 100, NULL)")
			end := txs[len(txs)-1]
			from := at(dfs.Checkpoint{Pos: end.Pos, State: state})
			next := readN(t, src, from, 1)
			require.Equal(t, "insert b 10 100 NULL", said(next[0]))
			events := src.Stats().Events
			again := at(dfs.Checkpoint{Pos: end.Pos, State: state})
			readN(t, src, again, 1)
			require.Less(t, src.Stats().Events-events, uint64(12))

			// A place that is none is refused as ever.
			p, err := cdc.ParsePosition(txs[1].Pos)
			require.NoError(t, err)
			p.Offset -= 3
			within, err := src.Open(limit(t), dfs.Checkpoint{Pos: dfs.Position(p.String()), State: state})
			require.NoError(t, err)
			defer within.Close()
			require.ErrorContains(t, ended(t, within), "no transaction ends at "+p.File)
		})
	}
}

package values_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
)

// What a snapshot reads is what the log has, table by table and value by value.
func TestSnapshotReadsWhatTheLogHas(t *testing.T) {
	for _, kind := range []testenv.Kind{my97, my56, maria} {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			b := &bench{t: t, src: srv, from: conn(t, srv), schema: srv.Schema(t)}
			b.exec(b.from, "USE "+b.schema)
			b.exec(b.from, "SET NAMES utf8mb4")
			src, err := cdc.Open(t.Context(), srv.DSN(""), &cdc.Options{Tables: []string{b.schema + ".*"}})
			require.NoError(t, err)
			defer src.Close()
			log, err := src.Open(t.Context(), dfs.Checkpoint{})
			require.NoError(t, err)
			defer log.Close()
			batch := make([]*dfs.Transaction, 100)
			_, err = log.Next(t.Context(), batch) // the place to begin at
			require.NoError(t, err)

			tables := make(map[string]string)
			for i, c := range typedColumns() {
				if !c.has(kind) {
					continue
				}
				b.exec(b.from, "SET sql_mode='"+c.mode+"'")
				for _, form := range []string{"a%d (id int PRIMARY KEY, c %s)", "n%d (id int, c %s)", "k%d (id int, c %s NOT NULL, PRIMARY KEY (c))"} {
					typ := c.typ
					if form[0] == 'k' {
						if c.noKey || c.prefix != "" {
							continue
						}
						typ = strings.TrimSuffix(strings.TrimSuffix(typ, " NOT NULL"), " NULL")
						if strings.HasPrefix(typ, "timestamp") {
							typ += " DEFAULT '2000-01-01 00:00:00'"
						}
					}
					b.exec(b.from, "CREATE TABLE "+fmt.Sprintf(form, i, typ)+" CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci")
					name := fmt.Sprintf("%c%d", form[0], i)
					tables[name] = c.typ
					for j, v := range c.values {
						b.exec(b.from, fmt.Sprintf("INSERT IGNORE INTO %s VALUES (%d, %s)", name, j, v))
					}
				}
			}
			b.exec(b.from, "CREATE TABLE zz_end (id int PRIMARY KEY)")
			b.exec(b.from, "INSERT INTO zz_end VALUES (1)")
			want := b.described(src, log)

			copies, err := cdc.Open(t.Context(), srv.DSN(""), &cdc.Options{Tables: []string{b.schema + ".*"}, Snapshot: &cdc.Snapshot{Only: true, ChunkRows: 3}})
			require.NoError(t, err)
			defer copies.Close()
			st, err := copies.Open(t.Context(), dfs.Checkpoint{})
			require.NoError(t, err)
			defer st.Close()
			got := b.described(copies, st)
			for name, typ := range tables {
				if !slices.Equal(want[name], got[name]) {
					t.Errorf("%s (c %.80s):\nlog:      %s\nsnapshot: %s", name, typ, only(want[name], got[name]), only(got[name], want[name]))
				}
			}
		})
	}
}

func only(have, other []string) string {
	have = slices.DeleteFunc(slices.Clone(have), func(s string) bool { return slices.Contains(other, s) })
	return fmt.Sprintf("%.900s", strings.Join(have, "\n          "))
}

// described returns the tables and rows of all inserts up to that of zz_end, or to
// the end, in words that tell all of them, in order.
func (b *bench) described(src *cdc.Source, st dfs.Stream) map[string][]string {
	lines := make(map[string][]string)
	batch := make([]*dfs.Transaction, 100)
	for ended := false; !ended; {
		n, err := st.Next(b.t.Context(), batch)
		if err == io.EOF {
			break
		}
		var failed *cdc.CopyError
		if errors.As(err, &failed) {
			b.t.Error(err)
			break
		}
		require.NoError(b.t, err)
		require.NoError(b.t, src.Decode(b.t.Context(), batch[:n]))
		for _, tx := range batch[:n] {
			for _, c := range tx.Changes {
				if c.Op != dfs.Insert {
					continue
				}
				if c.Table.Name == "zz_end" {
					ended = !tx.Snapshot
					continue
				}
				table := fmt.Sprintf("%+v", *c.Table)
				if !slices.Contains(lines[c.Table.Name], table) {
					lines[c.Table.Name] = append(lines[c.Table.Name], table)
				}
				line := ""
				for _, v := range c.After {
					line += fmt.Sprintf("%v(%d) %q %v | ", v.Kind(), v.FSP(), v, v.JSONNotes())
				}
				lines[c.Table.Name] = append(lines[c.Table.Name], line)
			}
		}
	}
	for _, l := range lines {
		slices.Sort(l)
	}
	return lines
}

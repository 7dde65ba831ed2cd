package sink

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/dfstest"
	"github.com/dataflowsync/dfs/sink/sinktest"
	"github.com/dataflowsync/dfs/sink/stream"
)

func open(path string) (*sql.DB, error) {
	return sql.Open("sqlite", "file:"+path+"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)")
}

// closing gives the suite a sink that it can close.
type closing struct{ *Sink }

func (c closing) Close() error { return c.DB.Close() }

func TestTheSinkKeepsTheContract(t *testing.T) {
	sinktest.Run(t, "shop", func(t *testing.T) sinktest.Target {
		path := filepath.Join(t.TempDir(), "docs.db")
		return sinktest.Target{
			Open: func(tb testing.TB) dfs.Sink {
				db, err := open(path)
				require.NoError(tb, err)
				return closing{newSink(tb, db)}
			},
			Rows: func(tb testing.TB) (list []sinktest.Row) {
				db, err := open(path)
				require.NoError(tb, err)
				defer db.Close()
				rows, err := db.Query("SELECT message FROM outbox WHERE topic = 'dfs.shop.items' ORDER BY n")
				require.NoError(tb, err)
				defer rows.Close()
				table := make(map[int64]sinktest.Row)
				for rows.Next() {
					var text []byte
					require.NoError(tb, rows.Scan(&text))
					var m struct {
						Before, After *struct {
							ID   int64  `json:"id"`
							Name string `json:"name"`
							N    int64  `json:"n"`
						}
					}
					require.NoError(tb, json.Unmarshal(text, &m))
					if m.Before != nil {
						require.Equal(tb, sinktest.Row(*m.Before), table[m.Before.ID])
						delete(table, m.Before.ID)
					}
					if m.After != nil {
						require.NotContains(tb, table, m.After.ID)
						table[m.After.ID] = sinktest.Row(*m.After)
					}
				}
				for _, id := range slices.Sorted(maps.Keys(table)) {
					list = append(list, table[id])
				}
				require.NoError(tb, rows.Err())
				return list
			},
		}
	})
}

func newSink(tb testing.TB, db *sql.DB) *Sink {
	enc, err := stream.NewEncoder(nil)
	require.NoError(tb, err)
	return &Sink{DB: db, Encoder: enc}
}

// The sink is used like any other.
func Example() {
	dir, err := os.MkdirTemp("", "docs")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	db, err := open(filepath.Join(dir, "docs.db"))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	script, err := dfstest.Parse(`
		table shop.users (id bigint, name varchar(40), key id)
		insert shop.users 1, "Ada"
		commit`)
	if err != nil {
		log.Fatal(err)
	}
	enc, err := stream.NewEncoder(&stream.Options{NoTransactions: true})
	if err != nil {
		log.Fatal(err)
	}
	p := &dfs.Pipeline{Source: &dfstest.Source{Transactions: script.Transactions}, Sink: &Sink{DB: db, Encoder: enc}}
	if err := p.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
	var message string
	if err := db.QueryRow("SELECT message FROM outbox").Scan(&message); err != nil {
		log.Fatal(err)
	}
	fmt.Println(message)
	// Output: {"op":"insert","seq":1,"n":1,"table":"shop.users","after":{"id":1,"name":"Ada"}}
}

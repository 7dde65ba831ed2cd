package cdc_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
)

// What comes is an exact history too if all changes are those of XA transactions in two
// phases, whose rows the log has long before others can see them; and a table that is
// followed meanwhile begins with none of them prepared.
func TestCopyBesideXATransactions(t *testing.T) {
	for _, kind := range []testenv.Kind{testenv.MySQL97, testenv.MariaDB} {
		t.Run(string(kind), func(t *testing.T) {
			const keys = 60
			srv := testenv.Shared(t, kind)
			schema := srv.Schema(t)
			cases := copyCases[:3]
			fill(t, srv, schema, cases, keys)
			srv.Exec(t, "CREATE TABLE "+schema+".done (id int)")
			src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".ints", schema + ".sparse", schema + ".done"},
				Heartbeat: 10 * time.Millisecond, ReadTimeout: 20 * time.Second, Snapshot: &cdc.Snapshot{Readers: 2, ChunkRows: 5}})
			db := srv.DB(t)
			stop := make(chan struct{})
			var wg sync.WaitGroup
			work := func(w int) error {
				conn, err := db.Conn(context.Background())
				if err != nil {
					return err
				}
				defer conn.Close()
				rnd := rand.New(rand.NewPCG(7, uint64(w)))
				for n := 0; ; n++ {
					select {
					case <-stop:
						return nil
					default:
					}
					// Each worker has its own keys, so that none waits for another.
					cc := cases[rnd.IntN(len(cases))]
					key := cc.key(rnd.IntN(keys/2)*2 + w)
					change := fmt.Sprintf("UPDATE %s.%s SET v = v + 1 WHERE %s = %s", schema, cc.name, cc.keys[0], key)
					switch rnd.IntN(4) {
					case 0:
						change = fmt.Sprintf("DELETE FROM %s.%s WHERE %s = %s", schema, cc.name, cc.keys[0], key)
					case 1:
						change = fmt.Sprintf("INSERT IGNORE INTO %s.%s VALUES (%s, %d, 'xa')", schema, cc.name, key, n)
					}
					x := fmt.Sprintf("'%s%d', '%d'", schema, w, n) // of this test alone
					end := []string{"XA PREPARE " + x, "XA COMMIT " + x}
					if rnd.IntN(5) == 0 {
						end[1] = "XA ROLLBACK " + x
					}
					for _, q := range append([]string{"XA START " + x, change, "XA END " + x}, end...) {
						_, err := conn.ExecContext(context.Background(), q)
						if e := (*mysql.MySQLError)(nil); errors.As(err, &e) && e.Number == 1213 {
							// A gap between keys can be waited for all the same. Such a
							// transaction can only be ended and rolled back; END may
							// say again that it was a deadlock.
							_, _ = conn.ExecContext(context.Background(), "XA END "+x)
							if _, err := conn.ExecContext(context.Background(), "XA ROLLBACK "+x); err != nil {
								return fmt.Errorf("after a deadlock: %w", err)
							}
							break
						}
						if err != nil {
							return fmt.Errorf("%s: %w", q, err)
						}
					}
					if n%8 == 7 {
						time.Sleep(2 * time.Millisecond) // at times nothing is prepared
					}
				}
			}
			// Reading begins where nothing is prepared: a COMMIT of what was prepared before ends
			// a stream.
			m := newMirror(t)
			k := &keeper{t: t, src: src, see: m.apply}
			k.next(nil)
			for w := range 2 {
				wg.Go(func() {
					if err := work(w); err != nil {
						t.Error(err)
					}
				})
			}
			rnd := rand.New(rand.NewPCG(8, 8))
			read := func(enough func(*dfs.Transaction) bool) {
				for !k.next(enough) {
					if rnd.IntN(60) == 0 {
						k.leave()
					}
				}
			}
			read(func(tx *dfs.Transaction) bool { return tx.Copied })
			k.until(func() error { return src.Follow(t.Context(), []string{schema + ".texts"}, true) })
			read(func(tx *dfs.Transaction) bool { return tx.Copied })
			close(stop)
			wg.Wait()
			srv.Exec(t, "INSERT INTO "+schema+".done VALUES (1)")
			read(func(tx *dfs.Transaction) bool {
				return slices.ContainsFunc(tx.Changes, func(c dfs.Change) bool { return c.Op == dfs.Insert && c.Table.Name == "done" })
			})
			require.NoError(t, src.Progress()[0].Err)
			m.equals(db, schema, cases)
			k.leave()
		})
	}
}

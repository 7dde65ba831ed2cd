package main

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs/internal/same"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/sink"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func TestTry(t *testing.T) {
	var out strings.Builder
	require.NoError(t, try(t.Context(), &out))
	require.Equal(t, `now
  4|Dee|1.00
before transaction gtid:9
  1|Ann|10.00
  2|Bob|15.50
  3|Cem|99.00
`, out.String())
}

// A shop on a real server is kept, loses all its orders, and is restored to the
// transaction before that: it is what a copy is that was made then.
func TestAccident(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	shop, copied, restored, again := srv.Schema(t), srv.Schema(t), srv.Schema(t), srv.Schema(t)
	db := srv.DB(t)
	exec := func(q string) {
		t.Helper()
		_, err := db.Exec(strings.ReplaceAll(q, "shop.", shop+"."))
		require.NoError(t, err, q)
	}
	exec("CREATE TABLE shop.users (id int PRIMARY KEY AUTO_INCREMENT, name varchar(40) NOT NULL, KEY (name))")
	exec("CREATE TABLE shop.orders (id int PRIMARY KEY AUTO_INCREMENT, user int, total decimal(10,2), at timestamp DEFAULT CURRENT_TIMESTAMP, FOREIGN KEY (user) REFERENCES users (id))")
	exec("INSERT INTO shop.users (name) VALUES ('Ann'), ('Bob'), ('Cem')")
	exec("INSERT INTO shop.orders (user, total) VALUES (1, 10), (2, 12.50)")

	dir := filepath.Join(t.TempDir(), "backup")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan error, 1)
	go func() { done <- keep(ctx, srv.DSN(""), shop+".*", dir) }()
	// Another process looks at it meanwhile.
	await := func(ok func(*sink.Archive) bool) {
		t.Helper()
		require.Eventually(t, func() bool {
			a, err := sink.OpenArchive(dir, &sink.ArchiveOptions{ReadOnly: true})
			if err != nil {
				return false
			}
			defer a.Close()
			return ok(a)
		}, time.Minute, 10*time.Millisecond)
	}
	await(func(a *sink.Archive) bool {
		_, bases := a.List()
		return len(bases) == 1 && bases[0].Done > 0
	})

	exec("INSERT INTO shop.orders (user, total) VALUES (3, 99), (1, 7)")
	exec("ALTER TABLE shop.orders ADD COLUMN paid bool NOT NULL DEFAULT false")
	exec("UPDATE shop.orders SET paid = true WHERE total > 9")
	for _, table := range []string{"users", "orders"} {
		exec("CREATE TABLE " + copied + "." + table + " LIKE shop." + table)
		exec("INSERT INTO " + copied + "." + table + " SELECT * FROM shop." + table)
	}
	var before, accident string
	require.NoError(t, db.QueryRow("SELECT @@global.gtid_executed").Scan(&before))
	exec("DELETE FROM shop.orders")
	require.NoError(t, db.QueryRow("SELECT GTID_SUBTRACT(@@global.gtid_executed, ?)", before).Scan(&accident))
	exec("INSERT INTO shop.users (name) VALUES ('Dee')")
	await(func(a *sink.Archive) bool { return a.End().Pos != "" && holds(a, accident) })
	stop()
	require.NoError(t, <-done)

	require.NoError(t, restore(t.Context(), dir, srv.DSN(""), accident, []sink.Route{{From: shop + ".*", To: restored + ".*"}}))
	r, err := same.Compare(t.Context(), db, db, same.Options{Schemas: []string{copied}, To: map[string]string{copied: restored}})
	require.NoError(t, err)
	require.Empty(t, r.Differences)
	require.Equal(t, 7, r.Rows)

	// Tables with rows are not touched.
	exec("CREATE TABLE " + again + ".users (id int PRIMARY KEY, name varchar(40))")
	exec("INSERT INTO " + again + ".users VALUES (1, 'mine')")
	err = restore(t.Context(), dir, srv.DSN(""), accident+" ", []sink.Route{{From: shop + ".*", To: again + ".*"}})
	require.ErrorContains(t, err, "it has no transaction")
	exec("DELETE FROM dfs.dfs_checkpoint")
	err = restore(t.Context(), dir, srv.DSN(""), accident, []sink.Route{{From: shop + ".*", To: again + ".*"}})
	require.ErrorContains(t, err, again+".users has rows")
}

// holds reports whether an archive has a transaction.
func holds(a *sink.Archive, id string) bool {
	_, err := a.Find(context.Background(), id)
	return err == nil
}

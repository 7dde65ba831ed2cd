package cdc_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
)

// A server sends a transaction as soon as it is in the log. Where it waits for a
// replica before it commits, what was read is not in gtid_executed yet, and
// nothing has diverged.
func TestTransactionIsReadBeforeItIsCommitted(t *testing.T) {
	srv := testenv.Start(t, testenv.MySQL97)
	srv.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.a (id int PRIMARY KEY)",
		"INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'",
		"SET GLOBAL rpl_semi_sync_source_timeout = 600000")
	src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{"shop.*"}})
	st, _ := begin(t, src)
	// No replica will say that it has them.
	srv.Exec(t, "SET GLOBAL rpl_semi_sync_source_enabled = ON")
	next := []string{"AUTOMATIC", "AUTOMATIC", "AUTOMATIC:mine",
		"aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa:7", "1aaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa:foo:9"}
	committed := make(chan error, len(next))
	for i, gtid := range next {
		conn, err := srv.DB(t).Conn(t.Context())
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		_, err = conn.ExecContext(t.Context(), "SET gtid_next = '"+gtid+"'")
		require.NoError(t, err)
		go func() {
			_, err := conn.ExecContext(t.Context(), fmt.Sprintf("INSERT INTO shop.a VALUES (%d)", i))
			committed <- err
		}()
	}
	var pos dfs.Position
	for _, tx := range readN(t, src, st, len(next)) {
		pos = tx.Pos
	}
	var owned string
	require.NoError(t, srv.DB(t).QueryRow("SELECT @@global.gtid_owned").Scan(&owned))
	require.NotEmpty(t, owned, "the transactions have been committed too early to be of use here")

	st = stream(t, src, pos)
	srv.Exec(t, "SET GLOBAL rpl_semi_sync_source_enabled = OFF")
	for range next {
		require.NoError(t, <-committed)
	}
	srv.Exec(t, "INSERT INTO shop.a VALUES (100)")
	require.Equal(t, "insert a 100", said(readN(t, src, st, 1)[0]))
}

// semiSync says what a kind of server calls its semi-synchronous replication.
func semiSync(t *testing.T, kind testenv.Kind) (srv *testenv.Server, prefix string) {
	if kind == testenv.MariaDB {
		srv, prefix = testenv.Start(t, kind), "rpl_semi_sync_master"
	} else {
		srv, prefix = testenv.Start(t, kind), "rpl_semi_sync_source"
		srv.Exec(t, "INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'")
	}
	srv.Exec(t, "CREATE DATABASE shop", "CREATE DATABASE other", "CREATE TABLE shop.a (id int PRIMARY KEY)", "CREATE TABLE other.a (id int PRIMARY KEY)",
		"SET GLOBAL "+prefix+"_timeout = 600000", "SET GLOBAL "+prefix+"_enabled = ON")
	return srv, prefix
}

// status returns a status variable of the server.
func status(t *testing.T, srv *testenv.Server, name string) (value string) {
	t.Helper()
	err := srv.DB(t).QueryRow("SHOW GLOBAL STATUS LIKE '"+name+"'").Scan(new(sql.NullString), &value)
	require.NoError(t, err, name)
	return value
}

// until waits for what f says, and looks often.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	require.Eventually(t, f, time.Minute, 5*time.Millisecond, what)
}

// commit runs a statement that waits, and says how it ended.
func commit(t *testing.T, srv *testenv.Server, stmt string) <-chan error {
	done := make(chan error, 1)
	db := srv.DB(t)
	go func() {
		_, err := db.Exec(stmt)
		done <- err
	}()
	return done
}

// answered returns how a commit ended that is not to wait any more.
func answered(t *testing.T, done <-chan error) error {
	select {
	case err := <-done:
		return err
	case <-limit(t).Done():
		return errors.New("it still waits")
	}
}

func TestCommitWaitsUntilItIsStored(t *testing.T) {
	for _, kind := range []testenv.Kind{testenv.MySQL97, testenv.MariaDB} {
		for _, compress := range []string{"", "zlib", "zstd"} {
			if compress == "zstd" && kind == testenv.MariaDB {
				continue
			}
			t.Run(string(kind)+compress, func(t *testing.T) {
				t.Parallel()
				srv, prefix := semiSync(t, kind)
				src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{"shop.*"}, SemiSync: true, Compress: compress, Heartbeat: time.Hour, ReadTimeout: 2 * time.Hour})
				st, _ := begin(t, src)
				until(t, "the server knows us", func() bool { return status(t, srv, prefix+"_clients") == "1" })
				waiting := func() bool { return status(t, srv, prefix+"_wait_sessions") == "1" }

				first := commit(t, srv, "INSERT INTO shop.a VALUES (1)")
				tx := readN(t, src, st, 1)[0]
				require.Equal(t, "insert a 1", said(tx))
				until(t, "the commit waits", waiting)
				require.NoError(t, src.Trim(t.Context(), tx.Checkpoint))
				require.NoError(t, answered(t, first))

				// One that has nothing for us must not wait either, though positions
				// move seldom here.
				second := commit(t, srv, "INSERT INTO other.a VALUES (1)")
				batch := make([]*dfs.Transaction, 10)
				n, err := st.Next(t.Context(), batch)
				require.NoError(t, err)
				require.Equal(t, 1, n)
				require.Empty(t, batch[0].Encoded)
				until(t, "the commit waits", waiting)
				require.NoError(t, src.Trim(t.Context(), tx.Checkpoint), "of what was before it")
				require.True(t, waiting())
				require.NoError(t, src.Trim(t.Context(), batch[0].Checkpoint))
				require.NoError(t, answered(t, second))
				require.Equal(t, "2", status(t, srv, prefix+"_yes_tx"))
				require.Equal(t, "0", status(t, srv, prefix+"_no_tx"))

				// An answer that was lost comes with the next connection.
				third := commit(t, srv, "INSERT INTO shop.a VALUES (3)")
				tx = readN(t, src, st, 1)[0]
				until(t, "the commit waits", waiting)
				require.NoError(t, st.Close())
				st = stream(t, src, tx.Pos)
				ctx, stop := context.WithCancel(t.Context())
				reading := make(chan struct{})
				go func() {
					defer close(reading)
					st.Next(ctx, batch)
				}()
				defer func() { stop(); <-reading }()
				require.NoError(t, answered(t, third))
			})
		}
	}
}

// A place that the log has not come to is no answer: the server would take all up to there
// for stored, and wait for nothing.
func TestNothingIsToldToBeStoredThatIsNotThere(t *testing.T) {
	srv, prefix := semiSync(t, testenv.MySQL97)
	srv.Exec(t, "SET GLOBAL "+prefix+"_enabled = OFF")
	src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{"shop.*"}, SemiSync: true})
	st, _ := begin(t, src)
	for i := range 20 {
		srv.Exec(t, fmt.Sprintf("INSERT INTO shop.a VALUES (%d)", i))
	}
	txs := readN(t, src, st, 20)
	require.NoError(t, st.Close())
	var executed string
	require.NoError(t, srv.DB(t).QueryRow("SELECT @@global.gtid_executed").Scan(&executed))
	srv.Exec(t, "RESET BINARY LOGS AND GTIDS", "SET GLOBAL gtid_purged = '"+executed+"'", "SET GLOBAL "+prefix+"_enabled = ON")

	st = stream(t, src, txs[19].Pos)
	for id := 100; id < 103; id++ {
		done := commit(t, srv, fmt.Sprintf("INSERT INTO shop.a VALUES (%d)", id))
		tx := readN(t, src, st, 1)[0]
		until(t, "the commit waits, or has ended", func() bool { return status(t, srv, prefix+"_wait_sessions") == "1" || len(done) > 0 })
		require.Empty(t, done, "nothing was told of %d", id)
		require.NoError(t, src.Trim(t.Context(), tx.Checkpoint))
		require.NoError(t, answered(t, done))
	}
}

// An ackedSink is a sink in memory, whose Apply can be held up.
type ackedSink struct {
	mu   sync.Mutex
	at   dfs.Checkpoint
	ids  map[int64]bool
	hold sync.Mutex
}

func (k *ackedSink) Checkpoint(context.Context) (dfs.Checkpoint, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.at, nil
}

func (k *ackedSink) Apply(_ context.Context, batch []*dfs.Transaction) error {
	k.hold.Lock()
	defer k.hold.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, tx := range batch {
		for _, c := range tx.Changes {
			id := c.After[0].Int()
			k.ids[id] = true
		}
		state := k.at.State
		if k.at = tx.Checkpoint; tx.State == "" {
			k.at.State = state
		}
	}
	return nil
}

func (k *ackedSink) has(id int64) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ids[id]
}

func TestWhatIsCommittedIsStored(t *testing.T) {
	for _, kind := range []testenv.Kind{testenv.MySQL97, testenv.MariaDB} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			srv, prefix := semiSync(t, kind)
			src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{"shop.*"}, SemiSync: true})
			kept := &ackedSink{ids: make(map[int64]bool)}
			p := &dfs.Pipeline{Source: src, Sink: kept}
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- p.Run(ctx) }()
			until(t, "the server knows us", func() bool { return status(t, srv, prefix+"_clients") == "1" })

			var writers sync.WaitGroup
			db := srv.DB(t)
			for w := range 4 {
				writers.Go(func() {
					for i := range 50 {
						id := int64(w*1000 + i)
						if _, err := db.Exec(fmt.Sprintf("INSERT INTO shop.a VALUES (%d)", id)); err != nil {
							t.Error(err)
							return
						}
						if !kept.has(id) {
							t.Errorf("row %d is committed and not stored", id)
						}
						if i%10 == 0 {
							if _, err := db.Exec(fmt.Sprintf("INSERT INTO other.a VALUES (%d)", id)); err != nil {
								t.Error(err)
							}
						}
					}
				})
			}
			writers.Wait()
			require.NotEqual(t, "0", status(t, srv, prefix+"_yes_tx"))
			require.Equal(t, "0", status(t, srv, prefix+"_no_tx"))

			// What stands still holds a commit up for as long as the server says.
			kept.hold.Lock()
			srv.Exec(t, "SET GLOBAL "+prefix+"_timeout = 100")
			require.NoError(t, answered(t, commit(t, srv, "INSERT INTO shop.a VALUES (-1)")))
			require.False(t, kept.has(-1))
			require.Equal(t, "OFF", status(t, srv, prefix+"_status"))
			srv.Exec(t, "SET GLOBAL "+prefix+"_timeout = 600000")
			kept.hold.Unlock()
			until(t, "what the server did not wait for comes too", func() bool { return kept.has(-1) })
			for id := 9000; status(t, srv, prefix+"_status") == "OFF"; id++ {
				// It waits again once we have caught up.
				require.NoError(t, answered(t, commit(t, srv, fmt.Sprintf("INSERT INTO shop.a VALUES (%d)", id))))
			}
			require.NoError(t, answered(t, commit(t, srv, "INSERT INTO shop.a VALUES (-2)")))
			require.True(t, kept.has(-2))
			stop()
			require.NoError(t, <-ended)
		})
	}
}

func TestSemiSyncAndCompressAreChecked(t *testing.T) {
	for kind, want := range map[testenv.Kind][]string{
		testenv.MySQL97: {"SemiSync is set, and the server has no semi-synchronous replication", "INSTALL PLUGIN rpl_semi_sync_source", `Compress is "lz4"`},
		testenv.MySQL56: {"upgrade the server to MySQL 5.7", `Compress is "lz4"`},
		testenv.MariaDB: {`Compress is "lz4"`, "write zlib or zstd"},
	} {
		_, err := cdc.Open(t.Context(), testenv.Shared(t, kind).DSN(""), &cdc.Options{SemiSync: true, Compress: "lz4"})
		for _, text := range want {
			require.ErrorContains(t, err, text, kind)
		}
	}
	for _, kind := range []testenv.Kind{testenv.MySQL56, testenv.MariaDB} {
		_, err := cdc.Open(t.Context(), testenv.Shared(t, kind).DSN(""), &cdc.Options{Compress: "zstd"})
		require.ErrorContains(t, err, `Compress is "zstd", and the server does not compress so`)
		require.ErrorContains(t, err, "set Compress to zlib")
	}
}

func TestCompressedProtocol(t *testing.T) {
	for kind, algorithms := range map[testenv.Kind][]string{
		testenv.MySQL97: {"zlib", "zstd"}, testenv.MySQL56: {"zlib"}, testenv.MariaDB: {"zlib"},
	} {
		srv := testenv.Shared(t, kind)
		for _, compress := range algorithms {
			t.Run(string(kind)+"/"+compress, func(t *testing.T) {
				schema := srv.Schema(t)
				srv.Exec(t, "CREATE TABLE "+schema+".a (id int PRIMARY KEY, s longtext)")
				src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}, Compress: compress})
				st, _ := begin(t, src)
				session(t, srv, "USE "+schema, "INSERT INTO a VALUES (1, 'one')", "INSERT INTO a VALUES (2, REPEAT('xyz ', 50000))",
					"UPDATE a SET s = CONCAT(id, s)", "DELETE FROM a WHERE id = 1")
				txs := readN(t, src, st, 4)
				require.Equal(t, "insert a 1 one", said(txs[0]))
				require.Len(t, txs[1].Changes[0].After[1].Text(), 200000)
				require.Len(t, txs[2].Changes, 2)
				require.Equal(t, "delete a 1 1one", said(txs[3]))
				require.Equal(t, "delete a 1 1one", said(readN(t, src, stream(t, src, txs[2].Pos), 1)[0]))
			})
		}
	}
}

// No commit waits for a second reading of the log.
func TestASecondReadingIsNoReasonToWarn(t *testing.T) {
	srv, prefix := semiSync(t, testenv.MySQL97)
	srv.Exec(t, "SET GLOBAL "+prefix+"_enabled = OFF", "CREATE TABLE shop.b (id int PRIMARY KEY, b text)")
	var logged bytes.Buffer
	src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{"shop.*"}, SemiSync: true, MaxPart: 1000, Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	st, _ := begin(t, src)
	session(t, srv, "XA START 'x'", "INSERT INTO shop.b VALUES (1, REPEAT('x', 60000))", "XA END 'x'", "XA PREPARE 'x'", "XA COMMIT 'x'")
	require.Contains(t, said(readN(t, src, st, 1)[0]), "insert b 1")
	require.NoError(t, st.Close())
	require.NotContains(t, logged.String(), "plugin")
}

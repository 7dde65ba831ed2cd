package sink

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/stretchr/testify/require"
)

// turnSink opens a sink whose connections take turns with runs of about least changes.
func turnSink(t *testing.T, srv *testenv.Server, least int, opts *MySQLOptions) *MySQL {
	m := openSink(t, srv, opts)
	m.crew.least, m.crew.eager = least, true
	return m
}

func TestTurnsEndAsOneConnectionDoes(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			one, many := srv.Schema(t), srv.Schema(t)
			for _, s := range []string{one, many} {
				srv.Exec(t, fmt.Sprintf(legacy(kind, benchTable), s), "ALTER TABLE "+s+".t ADD UNIQUE (mail(40))")
			}
			log := &benchLog{t: benchSource("source"), rng: rand.New(rand.NewPCG(1, 2))}
			route := func(s string) []Route { return []Route{{From: "source.*", To: s + ".*"}} }
			a := openSink(t, srv, &MySQLOptions{Name: one, Writers: -1, Routes: route(one)})
			b := turnSink(t, srv, 50, &MySQLOptions{Name: many, Writers: 3, Routes: route(many)})
			b.crew.patient = lockWait // on a slow machine a turn may take long, and Fallbacks would tell
			for range 6 {
				batch := log.take(500)
				require.NoError(t, a.Apply(t.Context(), batch))
				require.NoError(t, b.Apply(t.Context(), batch))
			}
			all := "SELECT * FROM %s.t ORDER BY id"
			require.Equal(t, rows(t, srv, fmt.Sprintf(all, one)), rows(t, srv, fmt.Sprintf(all, many)))
			st := b.Stats()
			require.EqualValues(t, 36, st.Turns)
			require.Zero(t, st.Fallbacks)
			require.Equal(t, [4]uint64{a.Stats().Inserts, a.Stats().Updates, a.Stats().Deletes, 3000}, [4]uint64{st.Inserts, st.Updates, st.Deletes, st.Transactions})
		})
	}
}

// Batches that follow one another overlap: the next is asked for while rows of those before
// are on their way, and each is told to be done once it is committed.
func TestBatchesOverlap(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	one, many := srv.Schema(t), srv.Schema(t)
	srv.Exec(t, fmt.Sprintf(benchTable, one), fmt.Sprintf(benchTable, many))
	log := &benchLog{t: benchSource("source"), rng: rand.New(rand.NewPCG(1, 2))}
	route := func(s string) []Route { return []Route{{From: "source.*", To: s + ".*"}} }
	a := openSink(t, srv, &MySQLOptions{Name: one, Writers: -1, Routes: route(one)})
	b := turnSink(t, srv, 50, &MySQLOptions{Name: many, Writers: 3, Routes: route(many)})
	b.crew.patient = lockWait // on a slow machine a turn may take long, and Fallbacks would tell
	all := log.take(3000)
	require.NoError(t, a.Apply(t.Context(), all))

	given, at, early := 0, uint64(0), 0
	db, rng := srv.DB(t), rand.New(rand.NewPCG(3, 4))
	require.NoError(t, b.ApplyEach(t.Context(), func() []*dfs.Transaction {
		n := min(1+rng.IntN(200), len(all)-given)
		if given == 0 {
			n = 300
		}
		if at < uint64(given) {
			early++
		}
		given += n
		return all[given-n : given]
	}, func(seq uint64) error {
		require.Greater(t, seq, at)
		require.LessOrEqual(t, seq, uint64(given))
		at = seq
		var stored uint64
		require.NoError(t, db.QueryRow("SELECT seq FROM dfs.dfs_checkpoint WHERE name=?", many).Scan(&stored))
		require.GreaterOrEqual(t, stored, seq)
		return nil
	}))
	require.EqualValues(t, len(all), at)
	require.Greater(t, early, 5)
	require.Greater(t, b.Stats().Turns, uint64(10))
	require.Zero(t, b.Stats().Fallbacks)
	require.EqualValues(t, len(all), b.Stats().Transactions)
	rest := "SELECT * FROM %s.t ORDER BY id"
	require.Equal(t, rows(t, srv, fmt.Sprintf(rest, one)), rows(t, srv, fmt.Sprintf(rest, many)))

	// What must not go in turns waits for them, and what follows it goes on.
	more, tail := log.take(900), 0
	more[400].State = "state"
	require.NoError(t, a.Apply(t.Context(), more))
	require.NoError(t, b.ApplyEach(t.Context(), func() []*dfs.Transaction {
		n := min(300, len(more)-tail)
		tail += n
		return more[tail-n : tail]
	}, func(seq uint64) error { at = seq; return nil }))
	require.EqualValues(t, len(all)+len(more), at)
	require.Equal(t, rows(t, srv, fmt.Sprintf(rest, one)), rows(t, srv, fmt.Sprintf(rest, many)))

	// An error of the one who is told ends it, with nothing under way.
	last, stop := log.take(600), errors.New("enough")
	require.Same(t, stop, b.ApplyEach(t.Context(), func() []*dfs.Transaction { return last }, func(uint64) error { return stop }))
	c, err := b.Checkpoint(t.Context())
	require.NoError(t, err)
	require.Greater(t, c.Seq, at)
}

// Few rows are worth turns if they are large.
func TestLargeRowsTakeTurns(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	schema := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+schema+".t (id BIGINT PRIMARY KEY, body MEDIUMBLOB NOT NULL)")
	table := &dfs.Table{Schema: schema, Name: "t", Key: []int{0}, Columns: []dfs.Column{{Name: "id", Type: "bigint"}, {Name: "body", Type: "mediumblob"}}}
	m := openSink(t, srv, &MySQLOptions{Name: schema})
	seq := uint64(0)
	for _, c := range []struct{ size, rows, turns, work int }{{10, 1, 0, 1}, {4096, 20, 4, 83}, {4096, 1, 4, 4}} {
		batch := make([]*dfs.Transaction, 1000/c.rows)
		for i := range batch {
			seq++
			batch[i] = txn(seq)
			for k := range c.rows {
				batch[i].Changes = append(batch[i].Changes, ins(table, dfs.Row{dfs.IntValue(int64(seq)*100 + int64(k)), dfs.BytesValue(make([]byte, c.size))}))
			}
			require.Equal(t, c.work, workOf(batch[i]))
		}
		before := m.Stats().Turns
		require.NoError(t, m.Apply(t.Context(), batch))
		if turns := m.Stats().Turns - before; c.turns == 0 {
			require.Zero(t, turns)
		} else {
			require.Positive(t, turns)
		}
	}
	require.Equal(t, []string{"3000|8202000"}, rows(t, srv, "SELECT COUNT(*), SUM(LENGTH(body)) FROM "+schema+".t"))
}

// What is moved between rows is moved at once, in order, and once, whatever
// connections are lost meanwhile.
func TestTurnsSurviveLostConnections(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+s+".p (id int PRIMARY KEY, x int, y int)", "CREATE USER turns IDENTIFIED BY 'pw'", "GRANT ALL ON *.* TO turns")
	t.Cleanup(func() { srv.Exec(t, "DROP USER turns") })
	p := pairTable(s, "p")
	m, err := OpenMySQL(t.Context(), "turns:pw@tcp("+srv.Addr()+")/", &MySQLOptions{Name: s, Writers: 3})
	require.NoError(t, err)
	defer m.Close()
	m.crew.least, m.crew.eager = 20, true

	const accounts = 400
	rng := rand.New(rand.NewPCG(3, 4))
	balance := make([]int64, accounts)
	first := txn(1)
	for i := range balance {
		balance[i] = 100
		first.Changes = append(first.Changes, ins(p, dfs.Row{dfs.IntValue(int64(i)), dfs.IntValue(100), dfs.IntValue(0)}))
	}
	log := []*dfs.Transaction{first}
	for seq := uint64(2); seq <= 3000; seq++ {
		tx := txn(seq)
		from, to := rng.IntN(accounts), rng.IntN(accounts-1)
		if to >= from {
			to++
		}
		for i, by := range map[int]int64{from: -1, to: 1} {
			row := func(v int64) dfs.Row { return dfs.Row{dfs.IntValue(int64(i)), dfs.IntValue(v), dfs.IntValue(0)} }
			tx.Changes = append(tx.Changes, upd(p, row(balance[i]), row(balance[i]+by)))
			balance[i] += by
		}
		log = append(log, tx)
	}
	require.NoError(t, m.Apply(t.Context(), log[:1]))

	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	db := srv.DB(t)
	wg.Go(func() {
		for ctx.Err() == nil {
			var sum, at int64
			err := db.QueryRow("SELECT SUM(x), (SELECT seq FROM dfs.dfs_checkpoint WHERE name=?) FROM "+s+".p", s).Scan(&sum, &at)
			if err != nil || sum != 100*accounts {
				t.Errorf("at %d the sum is %d: %v", at, sum, err)
				return
			}
		}
	})
	kills := 0
	var stuck atomic.Int64 // how many batches were lost since the last that moved on: a slow machine needs more peace
	wg.Go(func() {
		rng := rand.New(rand.NewPCG(5, 6))
		for ctx.Err() == nil {
			var id int
			if db.QueryRow("SELECT id FROM information_schema.PROCESSLIST WHERE user='turns' ORDER BY RAND() LIMIT 1").Scan(&id) == nil {
				if _, err := db.Exec(fmt.Sprintf("KILL %d", id)); err == nil {
					kills++
				}
			}
			select {
			case <-time.After(time.Duration(rng.Int64N(60+50*stuck.Load())) * time.Millisecond):
			case <-ctx.Done():
			}
		}
	})
	at, lost := uint64(1), 0
	for at < uint64(len(log)) {
		given := at
		err := m.ApplyEach(t.Context(), func() []*dfs.Transaction {
			from := given
			given = min(given+uint64(100+rng.IntN(200)), uint64(len(log)))
			return log[from:given]
		}, func(seq uint64) error { at = seq; return nil })
		if err == nil {
			continue
		}
		require.ErrorIs(t, err, dfs.ErrTransient)
		lost++
		for {
			c, err := m.Checkpoint(t.Context())
			if err == nil {
				if stuck.Add(1); c.Seq > at {
					stuck.Store(0)
				}
				at = c.Seq
				break
			}
			require.ErrorIs(t, err, dfs.ErrTransient)
		}
	}
	cancel()
	wg.Wait()
	got := rows(t, srv, "SELECT x FROM "+s+".p ORDER BY id")
	for i := range balance {
		require.Equal(t, fmt.Sprint(balance[i]), got[i], "account %d", i)
	}
	t.Logf("%d kills, %d failed batches, %d turns, %d fallbacks", kills, lost, m.Stats().Turns, m.Stats().Fallbacks)
	require.NotZero(t, m.Stats().Turns)
}

// A run that was begun for an owner who has lost the checkpoint is not committed, and
// what it holds stands in nobody's way.
func TestTurnsOfAnEarlierOwnerAreEnded(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+s+".p (id int PRIMARY KEY, x int, y int)")
	p := pairTable(s, "p")
	old := turnSink(t, srv, 10, &MySQLOptions{Name: s})
	var log []*dfs.Transaction
	for i := range 40 {
		log = append(log, txn(uint64(i+1), pairs(dfs.Insert, p, i, 1)...))
	}
	require.NoError(t, old.Apply(t.Context(), log[:20]))
	require.NotZero(t, old.Stats().Turns)

	// It stands still before its end, with rows that it has written.
	w := old.crew.workers[0]
	require.NoError(t, w.merged(t.Context(), items(log[20:30]), func() { w.writer.statement("BEGIN", uncounted) }))

	m := turnSink(t, srv, 10, &MySQLOptions{Name: s})
	at, err := m.Checkpoint(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 20, at.Seq)
	begun := time.Now()
	require.NoError(t, m.Apply(t.Context(), log[20:]))
	require.Less(t, time.Since(begun), lockWait*time.Second, "it waited for the rows")
	require.Error(t, old.Apply(t.Context(), log[20:]))
	_, err = old.Checkpoint(t.Context())
	require.ErrorIs(t, err, dfs.ErrConflict)
	require.Equal(t, []string{"40"}, rows(t, srv, "SELECT COUNT(*) FROM "+s+".p"))
}

// Rows of two sources that find their rows by different keys.
func TestTurnsOfRowsFoundByDifferentKeys(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+s+".p (id int PRIMARY KEY AUTO_INCREMENT, x int NOT NULL UNIQUE, y int)")
	byID := pairTable("one", "p")
	byX := &dfs.Table{Schema: "two", Name: "p", Key: []int{0}, Columns: byID.Columns[1:]}
	m := turnSink(t, srv, 100, &MySQLOptions{Name: s, Routes: []Route{{From: "*.p", To: s + ".p"}}})
	row := func(v ...int64) (r dfs.Row) {
		for _, n := range v {
			r = append(r, dfs.IntValue(n))
		}
		return r
	}
	var log []*dfs.Transaction
	add := func(c dfs.Change) { log = append(log, txn(uint64(len(log)+1), c)) }
	for i := range int64(100) {
		add(ins(byID, row(i+1, i, 0)))
	}
	for y := range int64(10) {
		for i := range int64(100) {
			if y%2 == 0 {
				add(upd(byID, row(i+1, i, y), row(i+1, i, y+1)))
			} else {
				add(upd(byX, row(i, y), row(i, y+1)))
			}
		}
	}
	require.NoError(t, m.Apply(t.Context(), log[:100]))
	for at := 100; at < len(log); at += 200 {
		require.NoError(t, m.Apply(t.Context(), log[at:at+200]))
	}
	require.Equal(t, []string{"100"}, rows(t, srv, "SELECT COUNT(*) FROM "+s+".p WHERE y=10"))
	require.Zero(t, m.Stats().Turns, "one row may have two keys")
}

// Whoever may log in no longer goes on by the connection that there is.
func TestTurnsAreNotNeeded(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+s+".p (id int PRIMARY KEY, x int, y int)", "CREATE USER locked IDENTIFIED BY 'pw'", "GRANT ALL ON *.* TO locked")
	t.Cleanup(func() { srv.Exec(t, "DROP USER locked") })
	m, err := OpenMySQL(t.Context(), "locked:pw@tcp("+srv.Addr()+")/", &MySQLOptions{Name: s})
	require.NoError(t, err)
	defer m.Close()
	m.crew.least, m.crew.eager = 10, true
	srv.Exec(t, "ALTER USER locked ACCOUNT LOCK")
	p := pairTable(s, "p")
	var log []*dfs.Transaction
	for i := range 40 {
		log = append(log, txn(uint64(i+1), pairs(dfs.Insert, p, i, 1)...))
	}
	require.NoError(t, m.Apply(t.Context(), log))
	require.Zero(t, m.Stats().Turns)
	require.Equal(t, []string{"40"}, rows(t, srv, "SELECT COUNT(*) FROM "+s+".p"))
}

// What a run meets on its way is no error of the batch, if nobody is to try the ordinary way.
func TestTurnsEndWithTheirContext(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+s+".p (id int PRIMARY KEY, x int, y int)")
	p := pairTable(s, "p")
	m := turnSink(t, srv, 10, &MySQLOptions{Name: s})
	var log []*dfs.Transaction
	for i := range 40 {
		log = append(log, txn(uint64(i+1), pairs(dfs.Insert, p, i, 1)...))
	}
	require.NoError(t, m.Apply(t.Context(), log[:20]))
	for _, w := range m.crew.workers {
		_, err := w.exec(t.Context(), []byte("SET innodb_lock_wait_timeout=1000"))
		require.NoError(t, err)
	}
	// The first run meets a row that is there, and the second waits for one.
	srv.Exec(t, "INSERT INTO "+s+".p VALUES (25, 1, 1)")
	other, err := srv.DB(t).Begin()
	require.NoError(t, err)
	defer other.Rollback()
	_, err = other.Exec("INSERT INTO " + s + ".p VALUES (35, 1, 1)")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	db := srv.DB(t)
	wg.Go(func() {
		// INNODB_TRX gives its last answer again to who asks within 100 ms. Other tests' waits count too.
		for n := 0; ctx.Err() == nil; time.Sleep(200 * time.Millisecond) {
			err := db.QueryRow("SELECT COUNT(*) FROM information_schema.INNODB_TRX WHERE trx_state='LOCK WAIT'").Scan(&n)
			if err != nil || n > 0 {
				cancel()
			}
		}
	})
	require.ErrorIs(t, m.Apply(ctx, log[20:]), context.Canceled)
	require.NoError(t, other.Rollback())
	at, err := m.Checkpoint(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 20, at.Seq)
}

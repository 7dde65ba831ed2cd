package monitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/dfstest"
	"github.com/dataflowsync/dfs/dpu"
	"github.com/stretchr/testify/require"
)

// people is a table, and person a row of it.
func people(t testing.TB) *dfs.Table {
	return dfstest.Table(t, "shop.people (id bigint, name varchar(40), phone varchar(40) null, key id)")
}

// openJournal opens a journal that the test closes.
func openJournal(t testing.TB, path string, o *JournalOptions) *Journal {
	if path == "" {
		path = filepath.Join(t.TempDir(), "shop.journal")
	}
	if o != nil && o.Logger == nil {
		o.Logger = discardLog
	}
	j, err := OpenJournal(path, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, j.Close()) })
	return j
}

// trace asks the journal.
func trace(t testing.TB, j *Journal, q TraceQuery) *Trace {
	t.Helper()
	tr, err := j.Trace(t.Context(), q)
	require.NoError(t, err)
	return tr
}

// told is a step's changes in a line each.
func told(s TraceStep) (list []string) {
	for _, c := range s.Changes {
		line := c.Op + " " + c.Table
		for _, col := range c.Columns {
			say := func(v *TracedValue) string {
				if v == nil {
					return "-"
				}
				if v.Kind == "null" {
					return "NULL"
				}
				return v.Text
			}
			line += " " + col.Name + "=" + say(col.Before) + ">" + say(col.After)
		}
		list = append(list, line)
	}
	return list
}

func TestARowIsTracedFromItsPositionToItsStatement(t *testing.T) {
	tab := people(t)
	units, err := dpu.New([]dpu.Unit{{From: "shop.people", Into: "crm.person", Rename: map[string]string{"name": "full_name"}, Mask: map[string]dpu.Mask{"phone": "truncate 2"}}},
		&dpu.Options{Tables: []*dfs.Table{tab}, Logger: discardLog})
	require.NoError(t, err)
	src := &dfstest.Source{Transactions: []dfs.Transaction{
		{ID: "uuid:1", Committed: time.Unix(1_700_000_000, 0), Changes: []dfs.Change{dfstest.Insert(t, tab, 1, "Ann", "555-1111"), dfstest.Insert(t, tab, 2, "Bo", nil)}},
		{ID: "uuid:2", Changes: []dfs.Change{dfstest.Update(t, tab, 1, "Ann", "555-1111", 1, "Anna", "555-2222")}},
		{ID: "uuid:3", Changes: []dfs.Change{dfstest.Delete(t, tab, 2, "Bo", nil)}},
	}}
	path := filepath.Join(t.TempDir(), "shop.journal")
	var explained []string
	j := openJournal(t, path, &JournalOptions{Level: JournalAll, Explain: func(_ context.Context, name string, tx *dfs.Transaction) ([]string, error) {
		explained = append(explained, fmt.Sprint(name, " ", tx.Seq, " ", len(tx.Changes), " ", tx.Changes[0].Table))
		return []string{"INSERT ..."}, errors.New("and more")
	}})
	target := new(dfstest.Target)
	p := &dfs.Pipeline{Source: src, Stages: []dfs.Stage{units}, Sink: target.Open(), Logger: discardLog}
	require.NoError(t, j.Watch("shop", p))
	require.ErrorContains(t, j.Watch("shop", p), "already")
	require.NoError(t, p.Run(t.Context()))

	tr := trace(t, j, TraceQuery{Table: "SHOP.People", Key: []string{"1"}})
	require.Len(t, tr.Transactions, 2)
	require.Empty(t, tr.Gaps)
	require.False(t, tr.More)
	got := tr.Transactions[1]
	require.Equal(t, "uuid:1", got.ID)
	require.Equal(t, "1", got.Position)
	require.Equal(t, int64(1_700_000_000), got.Committed.Unix())
	require.Empty(t, got.Error)
	require.False(t, got.At.Before(got.Read))
	require.Equal(t, "received", got.Steps[0].Name)
	require.Equal(t, []string{"insert shop.people id=->1 name=->Ann phone=->•••"}, told(got.Steps[0]))
	require.Equal(t, 1, got.Steps[0].Others)
	require.Equal(t, "dpu.Units", got.Steps[1].Name)
	require.Equal(t, []string{"insert crm.person id=->1 full_name=->Ann phone=->55"}, told(got.Steps[1]))
	require.Equal(t, []string{"INSERT ...", "-- and more"}, got.Statements)
	require.Equal(t, []string{"shop 2 1 crm.person", "shop 1 1 crm.person"}, explained)
	require.Equal(t, []string{"update shop.people id=1>1 name=Ann>Anna phone=•••>•••"}, told(tr.Transactions[0].Steps[0]))

	// By the target's name, by number, by name, with a limit; and what is not there.
	require.Len(t, trace(t, j, TraceQuery{Table: "crm.person", Key: []string{"2"}}).Transactions, 2)
	require.Len(t, trace(t, j, TraceQuery{Table: "crm.person"}).Transactions, 3)
	require.Equal(t, "uuid:3", trace(t, j, TraceQuery{Seq: 3}).Transactions[0].ID)
	require.Equal(t, uint64(2), trace(t, j, TraceQuery{ID: "uuid:2"}).Transactions[0].Seq)
	tr = trace(t, j, TraceQuery{Table: "crm.person", Limit: 2})
	require.Len(t, tr.Transactions, 2)
	require.True(t, tr.More)
	for _, q := range []TraceQuery{{Table: "shop.people", Key: []string{"3"}}, {Table: "shop.people", Key: []string{"1", "1"}}, {Table: "x.y"}, {ID: "uuid:4"}, {Seq: 4},
		{Failed: true}, {Pipeline: "other", Seq: 1}} {
		require.Empty(t, trace(t, j, q).Transactions, "%+v", q)
	}
	for _, q := range []TraceQuery{{}, {Table: "people"}, {Key: []string{"1"}}, {Seq: 1, Limit: -1}} {
		_, err := j.Trace(t.Context(), q)
		require.Error(t, err, "%+v", q)
	}

	// Another process may read meanwhile and after; and nothing hidden is in the file.
	read := func() {
		ro, err := OpenJournal(path, &JournalOptions{ReadOnly: true})
		require.NoError(t, err)
		require.Len(t, trace(t, ro, TraceQuery{Table: "shop.people", Key: []string{"1"}}).Transactions, 2)
		require.ErrorContains(t, ro.Watch("shop", new(dfs.Pipeline)), "without ReadOnly")
		require.NoError(t, ro.Close())
	}
	read()
	require.NoError(t, j.Close())
	read()
	notInFiles(t, path, "555-", "5-1111", "5-2222")
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

// notInFiles checks that none of the texts is in the file, compressed or not, or in
// those beside it.
func notInFiles(t *testing.T, path string, texts ...string) {
	names, err := filepath.Glob(path + "*")
	require.NoError(t, err)
	all := ""
	for _, name := range names {
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		all += string(b)
	}
	j := openJournal(t, path, &JournalOptions{ReadOnly: true})
	rows, err := j.db.Query("SELECT pipeline, level, first, last, sum, keys, data FROM block")
	require.NoError(t, err)
	defer rows.Close()
	n := 0
	for rows.Next() {
		var s stored
		require.NoError(t, rows.Scan(&s.pipeline, &s.level, &s.first, &s.last, &s.sum, &s.filter, &s.data))
		list, err := s.entries()
		require.NoError(t, err)
		for _, e := range list {
			for _, st := range e.steps {
				all += string(st.data)
				n++
			}
			all += e.err
		}
	}
	require.NoError(t, rows.Err())
	require.Positive(t, n)
	for _, text := range texts {
		require.NotContains(t, all, text)
	}
}

// bad is a stage that refuses rows, and flaky one that fails at times.
func refuses(name string) dfs.Stage {
	return dfs.StageFunc(func(_ context.Context, batch []*dfs.Transaction) error {
		for _, tx := range batch {
			for i := range tx.Changes {
				if r := tx.Changes[i].After; r != nil && r[1].String() == name {
					return fmt.Errorf("transaction %d: %s may not pass, phone %s", tx.Seq, name, r[2])
				}
				tx.Changes[i].After[1] = dfs.StringValue(strings.ToUpper(tx.Changes[i].After[1].String())) // in place
			}
		}
		return nil
	})
}

// With errors only, nothing is kept but what was refused, whole, by a stage or by
// the sink, and what is masked is not in the error either.
func TestWhatIsRefusedIsKeptWhateverTheLevel(t *testing.T) {
	tab := people(t)
	src := new(dfstest.Source)
	for i := 1; i <= 900; i++ {
		name := fmt.Sprint("p", i)
		switch i {
		case 300:
			name = "bad"
		case 600:
			i = 1 // is there already
		}
		tx := dfs.Transaction{Changes: []dfs.Change{dfstest.Insert(t, tab, i, name, fmt.Sprint("555-", i))}}
		if name == "p600" {
			i = 600
		}
		src.Transactions = append(src.Transactions, tx)
	}
	for _, level := range []JournalLevel{"", JournalAll} {
		path := filepath.Join(t.TempDir(), "shop.journal")
		j := openJournal(t, path, &JournalOptions{Level: level, Mask: []string{"*.people.phone"}})
		target := new(dfstest.Target)
		p := &dfs.Pipeline{Source: src, Stages: []dfs.Stage{refuses("bad")}, Sink: target.Open(), Logger: discardLog,
			Reject: func(context.Context, *dfs.Transaction, error) error { return nil }}
		require.NoError(t, j.Watch("shop", p))
		require.NoError(t, p.Run(t.Context()))
		require.Len(t, target.Rows("shop.people", "id"), 898)

		tr := trace(t, j, TraceQuery{Failed: true})
		require.Len(t, tr.Transactions, 2)
		byStage, bySink := tr.Transactions[1], tr.Transactions[0]
		require.EqualValues(t, 300, byStage.Seq)
		require.Equal(t, "stage 1: transaction 300: bad may not pass, phone •••", byStage.Error)
		require.Len(t, byStage.Steps, 1)
		require.Equal(t, []string{"insert shop.people id=->300 name=->bad phone=->•••"}, told(byStage.Steps[0]))
		require.EqualValues(t, 600, bySink.Seq)
		require.NotEmpty(t, bySink.Error)
		require.Equal(t, []string{"insert shop.people id=->1 name=->p600 phone=->•••"}, told(bySink.Steps[0]))
		require.Equal(t, []string{"insert shop.people id=->1 name=->P600 phone=->•••"}, told(bySink.Steps[1]))

		tr = trace(t, j, TraceQuery{Table: "shop.people", Key: []string{"1"}})
		if level == JournalAll {
			require.Len(t, tr.Transactions, 2)
			require.Empty(t, tr.Transactions[1].Error)
			require.EqualValues(t, 900, j.Stats().Written)
		} else {
			require.Len(t, tr.Transactions, 1)
			require.EqualValues(t, 2, j.Stats().Written)
		}
		require.EqualValues(t, 2, j.Stats().Failed)
		require.NoError(t, j.Close())
		notInFiles(t, path, "555-1", "555-300")
	}
}

func TestShortValuesAreMaskedAsWords(t *testing.T) {
	require.Equal(t, "error 1062: '•••' for key 'a1', •••", maskText("error 1062: '1' for key 'a1', 1", "1"))
	require.Equal(t, "x•••y •••", maskText("x555-1y 555-1", "555-1"))
	require.Equal(t, "", maskText("", "1"))
	require.Equal(t, "a", maskText("a", ""))
}

func TestSamplesAreOneInSoMany(t *testing.T) {
	tab := people(t)
	src := new(dfstest.Source)
	for i := range 1000 {
		src.Transactions = append(src.Transactions, dfs.Transaction{Changes: []dfs.Change{dfstest.Insert(t, tab, i, "x", nil)}})
	}
	j := openJournal(t, "", &JournalOptions{Level: JournalSampled, Sample: 10})
	p := &dfs.Pipeline{Source: src, Sink: new(dfstest.Target).Open(), Logger: discardLog}
	require.NoError(t, j.Watch("shop", p))
	require.NoError(t, p.Run(t.Context()))
	tr := trace(t, j, TraceQuery{Table: "shop.people", Limit: 1000})
	require.Len(t, tr.Transactions, 100)
	require.Empty(t, tr.Gaps)
	for _, tx := range tr.Transactions {
		require.Zero(t, tx.Seq%10)
		require.Len(t, tx.Steps, 1, "there is no stage")
	}
}

// What the journal says has happened, under random faults with replies that are
// lost, prefixes that are applied, and parts of large transactions: each transaction
// once, with what the target has got.
func TestTheJournalIsRightUnderFaults(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) { journalUnderFaults(t, seed) })
	}
}

func journalUnderFaults(t *testing.T, seed uint64) {
	tab := people(t)
	fault := dfstest.Random(seed, 0.1)
	src := &dfstest.Source{Fault: fault}
	const n = 600
	for i := 1; i <= n; i++ {
		name := "ok"
		if i%97 == 0 && i%7 != 0 && i%7 != 1 {
			name = "bad"
		}
		src.Transactions = append(src.Transactions, dfs.Transaction{More: i%7 == 0, Changes: []dfs.Change{dfstest.Insert(t, tab, i, name, fmt.Sprint("f", i))}})
	}
	target := &dfstest.Target{Fault: fault}
	j := openJournal(t, "", &JournalOptions{Level: JournalAll})
	rejected := map[uint64]bool{}
	p := &dfs.Pipeline{Source: src, Stages: []dfs.Stage{refuses("bad")}, Sink: target.Open(), Logger: discardLog, MaxBatch: 50,
		Reject: func(_ context.Context, tx *dfs.Transaction, _ error) error { rejected[tx.Seq] = true; return nil }}
	require.NoError(t, j.Watch("shop", p))
	require.NoError(t, p.Run(t.Context()))
	require.NotEmpty(t, rejected)

	tr := trace(t, j, TraceQuery{Table: "shop.people", Limit: mostFound})
	require.False(t, tr.More)
	applied, refused := map[uint64]int{}, map[uint64]int{}
	for _, tx := range tr.Transactions {
		if tx.Error != "" {
			require.True(t, rejected[tx.Seq], "seed %d, %d", seed, tx.Seq)
			refused[tx.Seq]++
			continue
		}
		applied[tx.Seq]++
		require.Equal(t, []string{fmt.Sprintf("insert shop.people id=->%d name=->OK phone=->f%d", tx.Seq, tx.Seq)}, told(tx.Steps[1]))
	}
	for seq := uint64(1); seq <= n; seq++ {
		want := 1
		if rejected[seq] {
			want = 0
			require.Positive(t, refused[seq], "seed %d: %d was refused", seed, seq)
		}
		require.Equal(t, want, applied[seq], "seed %d: %d", seed, seq)
	}
	require.Zero(t, j.Stats().Dropped)
}

// A journal that cannot be written drops, says so, and goes on when it can; the
// pipeline never notices. What is missing is told.
func TestAJournalThatIsFullStopsNothing(t *testing.T) {
	tab := people(t)
	src := new(dfstest.Source)
	long := strings.Repeat("x", 20)
	for i := range 5000 {
		src.Transactions = append(src.Transactions, dfs.Transaction{Changes: []dfs.Change{dfstest.Insert(t, tab, i, fmt.Sprint(long, i*7919), fmt.Sprint(long, i*104729))}})
	}
	log := NewLog(slog.DiscardHandler, nil)
	j := openJournal(t, "", &JournalOptions{Level: JournalAll, pages: 6, Logger: slog.New(log), stall: 50 * time.Millisecond})
	var drops uint64
	run := func(src *dfstest.Source) {
		target := new(dfstest.Target)
		p := &dfs.Pipeline{Source: src, Sink: target.Open(), Logger: discardLog, MaxBatch: 100}
		require.NoError(t, j.Watch("shop", p))
		require.NoError(t, p.Run(t.Context()))
		require.Len(t, target.Transactions(), len(src.Transactions))
		j.flush()
	}
	run(src)
	s := j.Stats()
	drops = s.Dropped
	require.Positive(t, drops)
	require.EqualValues(t, 5000, s.Written+s.Dropped)
	lines, _, _ := log.ring.after(0, 100)
	require.NotEmpty(t, lines)
	require.Equal(t, "the journal drops what it should keep; the pipeline goes on", lines[0].Text)

	// Small ones go in again, in place of the oldest.
	run(&dfstest.Source{Transactions: src.Transactions[:3]})
	s = j.Stats()
	require.NoError(t, s.Err)
	require.Equal(t, drops, s.Dropped)
	require.Len(t, trace(t, j, TraceQuery{Table: "shop.people", Key: []string{"2"}}).Transactions, 1)
}

// journaled returns what carries the first n of some transactions, on from where the
// run before has ended, with the journal watching or as while a process runs without it.
func journaled(t *testing.T, j *Journal) func(n int, watch bool) {
	tab := people(t)
	src := new(dfstest.Source)
	for i := range 20000 {
		src.Transactions = append(src.Transactions, dfs.Transaction{Changes: []dfs.Change{dfstest.Insert(t, tab, i, fmt.Sprint("n", i*7919), fmt.Sprint("p", i*104729))}})
	}
	target := new(dfstest.Target)
	return func(n int, watch bool) {
		p := &dfs.Pipeline{Source: &dfstest.Source{Transactions: src.Transactions[:n]}, Sink: target.Open(), Logger: discardLog}
		if watch {
			require.NoError(t, j.Watch("shop", p))
		}
		require.NoError(t, p.Run(t.Context()))
		j.flush()
	}
}

// What somebody wanted to be skipped is in the journal as that, and no gap; at any level.
func TestASkippedTransactionIsTold(t *testing.T) {
	tab := people(t)
	for _, level := range []JournalLevel{JournalErrors, JournalAll} {
		src := &dfstest.Source{}
		for i := range 4 {
			src.Transactions = append(src.Transactions, dfs.Transaction{ID: fmt.Sprint("uuid:", i+1), Changes: []dfs.Change{dfstest.Insert(t, tab, i, "Ann", nil)}})
		}
		j := openJournal(t, "", &JournalOptions{Level: level})
		p := &dfs.Pipeline{Source: src, Sink: new(dfstest.Target).Open(), Logger: discardLog}
		require.NoError(t, j.Watch("shop", p))
		require.NoError(t, p.Skip("uuid:2"))
		require.NoError(t, p.Run(t.Context()))
		tr := trace(t, j, TraceQuery{Table: "shop.people", Key: []string{"1"}})
		require.Len(t, tr.Transactions, 1, level)
		require.Empty(t, tr.Gaps)
		got := tr.Transactions[0]
		require.True(t, got.Skipped)
		require.Equal(t, skippedText, got.Error)
		require.Equal(t, "uuid:2", got.ID)
		require.EqualValues(t, 2, got.Seq)
		require.Empty(t, got.Statements)
		require.Len(t, trace(t, j, TraceQuery{Failed: true}).Transactions, 1)
		if level == JournalAll {
			require.Len(t, trace(t, j, TraceQuery{Table: "shop.people"}).Transactions, 4)
		}
	}
}

func TestGapsAreTold(t *testing.T) {
	j := openJournal(t, "", &JournalOptions{Level: JournalAll})
	run := journaled(t, j)
	run(1500, true)
	require.Empty(t, trace(t, j, TraceQuery{Seq: 1500}).Gaps)
	run(2000, false)
	run(2500, true)
	require.Equal(t, []Gap{{"shop", 1501, 2000}}, trace(t, j, TraceQuery{Seq: 2500}).Gaps)
}

func TestTheOldestGoesFirst(t *testing.T) {
	j := openJournal(t, "", &JournalOptions{Level: JournalAll, Keep: 200 << 10})
	run := journaled(t, j)
	run(15000, true)
	require.LessOrEqual(t, j.Stats().Bytes, int64(200<<10))
	tr := trace(t, j, TraceQuery{Seq: 15000})
	require.Len(t, tr.Transactions, 1)
	require.Empty(t, tr.Gaps)
	require.Empty(t, trace(t, j, TraceQuery{Seq: 1}).Transactions)
	run(16000, true)
	var bytes int64
	require.NoError(t, j.db.QueryRow("SELECT SUM(size) FROM block").Scan(&bytes))
	require.Equal(t, bytes, j.Stats().Bytes)

	// And by age.
	_, err := j.db.Exec("UPDATE block SET at = at - 8 * 86400 * 1000000")
	require.NoError(t, err)
	run(16001, true)
	tr = trace(t, j, TraceQuery{Table: "shop.people", Limit: 1000})
	require.Len(t, tr.Transactions, 1)
	require.EqualValues(t, 16001, tr.Transactions[0].Seq)
}

func TestAFileThatIsNoJournalIsRefused(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	require.NoError(t, os.WriteFile(text, []byte(strings.Repeat("not a database ", 100)), 0o600))
	_, err := OpenJournal(text, nil)
	require.Error(t, err)
	_, err = OpenJournal(filepath.Join(dir, "missing"), &JournalOptions{ReadOnly: true})
	require.ErrorContains(t, err, "does not exist")
	_, err = OpenJournal(filepath.Join(dir, "no", "folder"), nil)
	require.Error(t, err)
	_, err = OpenJournal(filepath.Join(dir, "j"), &JournalOptions{Level: "some", Sample: -1, Buffer: -1, Mask: []string{"users"}})
	for _, want := range []string{`Level is "some"`, "Sample is -1", "Buffer is -1", `Mask has "users"`} {
		require.ErrorContains(t, err, want)
	}

	// A later version, and a block that was changed.
	path := filepath.Join(dir, "shop.journal")
	tab := people(t)
	j := openJournal(t, path, &JournalOptions{Level: JournalAll})
	p := &dfs.Pipeline{Source: &dfstest.Source{Transactions: []dfs.Transaction{{Changes: []dfs.Change{dfstest.Insert(t, tab, 1, "x", nil)}}}}, Sink: new(dfstest.Target).Open(), Logger: discardLog}
	require.NoError(t, j.Watch("shop", p))
	require.NoError(t, p.Run(t.Context()))
	j.flush()
	_, err = j.db.Exec("UPDATE block SET data = CAST(substr(data, 1, length(data) - 1) || x'a5' AS BLOB)")
	require.NoError(t, err)
	_, err = j.Trace(t.Context(), TraceQuery{Seq: 1})
	require.ErrorIs(t, err, errDamaged)
	_, err = j.db.Exec("PRAGMA user_version = 9")
	require.NoError(t, err)
	_, err = OpenJournal(path, nil)
	require.ErrorContains(t, err, "use a newer one")
	require.ErrorContains(t, j.Watch("", p), "name")
	require.ErrorContains(t, j.Watch("q", &dfs.Pipeline{Sink: newTank()}), "only fills a queue")
}

// Parts wait in memory until the last of them is applied. Of a transaction of any size
// all of them did.
func TestTheJournalHoldsNoMoreOfPartsThanItsBuffer(t *testing.T) {
	tab := dfstest.Table(t, "shop.notes (id bigint, text varchar(8000), key id)")
	const parts, buffer = 200, 64 << 10
	for _, refuse := range []bool{false, true} {
		var txs []dfs.Transaction
		for i := range parts {
			txs = append(txs, dfs.Transaction{ID: "uuid:1", More: i < parts-1, Changes: []dfs.Change{
				dfstest.Insert(t, tab, i, strings.Repeat("x", 4000))}})
		}
		txs = append(txs, dfs.Transaction{ID: "uuid:2", Changes: []dfs.Change{dfstest.Insert(t, tab, parts, "end")}})
		j := openJournal(t, "", &JournalOptions{Level: JournalAll, Buffer: buffer})
		w, most := new(tapped), 0
		look := dfs.StageFunc(func(_ context.Context, batch []*dfs.Transaction) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			sum := 0
			for _, e := range w.pending {
				sum += e.size()
			}
			most = max(most, sum)
			if refuse && batch[0].Seq <= parts && batch[len(batch)-1].Seq >= parts {
				return errors.New("not that one")
			}
			return nil
		})
		p := &dfs.Pipeline{Source: &dfstest.Source{Transactions: txs}, Stages: []dfs.Stage{look}, Sink: new(dfstest.Target).Open(), Logger: discardLog, MaxBatch: 8, ReadAhead: 32 << 10}
		require.NoError(t, j.Watch("shop", p))
		w = j.watched[0]
		err := p.Run(t.Context())
		require.Less(t, most, 2*buffer+16*5000)
		require.NotZero(t, j.Stats().Dropped)
		if refuse {
			require.ErrorContains(t, err, "not that one")
			require.Equal(t, uint64(parts), trace(t, j, TraceQuery{Failed: true}).Transactions[0].Seq)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, uint64(parts), trace(t, j, TraceQuery{ID: "uuid:1", Limit: 1}).Transactions[0].Seq)
		require.Len(t, trace(t, j, TraceQuery{ID: "uuid:2"}).Transactions, 1)
		require.Zero(t, w.held)
	}
}

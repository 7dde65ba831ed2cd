package sink

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
)

// One changed byte, anywhere in a sealed segment, is found, and the segment named.
func TestOneChangedByteOfASegmentIsFound(t *testing.T) {
	for name, key := range map[string][]byte{"plain": nil, "encrypted": []byte("01234567890123456789012345678901")} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			a := openArchive(t, dir, ArchiveOptions{SegmentBytes: 600, Key: key})
			rng := rand.New(rand.NewPCG(1, 2))
			for seq := uint64(1); seq < 60; seq += 4 {
				batch := loggedRun(seq, 4, 20)
				batch[3].State = "a state"
				for _, tx := range batch { // that does not compress to nothing
					for i := range tx.Encoded {
						tx.Encoded[i] = byte(rng.Uint32())
					}
				}
				require.NoError(t, a.Apply(t.Context(), batch))
			}
			require.NoError(t, a.sealSegment(t.Context()))
			require.NoError(t, a.Close())
			r, err := VerifyArchive(t.Context(), dir, &VerifyArchiveOptions{Key: key})
			require.NoError(t, err)
			require.Empty(t, r.Faults)
			c, err := newCodec() // which takes longer to make than a small archive to verify
			require.NoError(t, err)
			defer c.close()
			check := func() *ArchiveReport {
				a := &Archive{dir: dir, opts: ArchiveOptions{Key: key, ReadOnly: true}, codec: c}
				r, err := a.verify(t.Context(), &VerifyArchiveOptions{})
				if errors.Is(err, ErrArchiveKey) {
					return &ArchiveReport{Faults: []error{err}} // the byte was one of the head that tells about the key
				}
				require.NoError(t, err)
				return r
			}
			require.Equal(t, uint64(60), r.Transactions)
			names, err := filepath.Glob(filepath.Join(dir, "segment-*"))
			require.NoError(t, err)
			require.Greater(t, len(names), 2)
			file := names[1]
			whole, err := os.ReadFile(file)
			require.NoError(t, err)
			for i := range whole {
				flipped := append([]byte(nil), whole...)
				flipped[i] ^= 1 << rng.IntN(8)
				require.NoError(t, os.WriteFile(file, flipped, 0o600))
				faults := check().Faults
				require.NotEmpty(t, faults, "byte %d", i)
				require.ErrorContains(t, faults[0], filepath.Base(file), "byte %d", i)
			}
			require.NoError(t, os.WriteFile(file, whole[:len(whole)-1], 0o600))
			require.ErrorContains(t, check().Faults[0], "cut short")
			require.NoError(t, os.WriteFile(file, whole, 0o600))
			require.Empty(t, check().Faults)
		})
	}
}

// A restore across damage stops there, and says where.
func TestRestoreRefusesDamage(t *testing.T) {
	dir := t.TempDir()
	a := openArchive(t, dir, ArchiveOptions{SegmentBytes: 1})
	for seq := uint64(1); seq < 60; seq += 20 {
		batch := loggedRun(seq, 20, 100)
		batch[0].Copied = seq == 1
		require.NoError(t, a.Apply(t.Context(), batch))
	}
	require.NoError(t, a.Close())
	name := filepath.Join(dir, sealName(2))
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	b[a.segs[1].records[0].off+recordLen+3] ^= 1
	require.NoError(t, os.WriteFile(name, b, 0o600))
	a = openArchive(t, dir, ArchiveOptions{ReadOnly: true})
	r, err := a.Restore(t.Context(), nil)
	require.NoError(t, err)
	s, err := r.Open(t.Context(), dfs.Checkpoint{})
	require.NoError(t, err)
	defer s.Close()
	got, batch := 0, make([]*dfs.Transaction, 100)
	for err == nil {
		var n int
		n, err = s.Next(context.Background(), batch)
		got += n
	}
	require.Equal(t, 20, got)
	var damage *ArchiveError
	require.ErrorAs(t, err, &damage)
	require.Equal(t, filepath.Base(name), damage.File)
	require.Equal(t, uint64(21), damage.First)
}

// What is not to be kept is deleted, but never what the last whole copy of rows needs.
func TestArchiveKeepsWholeChains(t *testing.T) {
	day := 24 * time.Hour
	for name, c := range map[string]struct {
		o    ArchiveOptions
		want []uint64 // where the copies begin that are left, after 1, 3 and 5 days
	}{
		"all":                            {ArchiveOptions{}, []uint64{0, 20, 40}},
		"by age":                         {ArchiveOptions{KeepFor: 3 * day}, []uint64{20, 40}},
		"by size":                        {ArchiveOptions{KeepBytes: 1}, []uint64{40}},
		"by both, of which age lets go":  {ArchiveOptions{KeepFor: 3 * day, KeepBytes: 1 << 30}, []uint64{0, 20, 40}},
		"by both, of which size lets go": {ArchiveOptions{KeepFor: 30 * day, KeepBytes: 1}, []uint64{0, 20, 40}},
	} {
		t.Run(name, func(t *testing.T) {
			dir, now := t.TempDir(), time.Unix(1_800_000_000, 0)
			c.o.now, c.o.SegmentBytes = func() time.Time { return now }, 1
			a := openArchive(t, dir, c.o)
			for seq := uint64(1); seq < 60; seq += 10 {
				if seq%20 == 1 {
					require.NoError(t, a.Baseline(t.Context(), nil))
				}
				batch := loggedRun(seq, 10, 100)
				batch[4].Copied = seq%20 == 1
				require.NoError(t, a.Apply(t.Context(), batch))
				now = now.Add(day)
			}
			// A copy that is under way lets nothing go.
			require.NoError(t, a.Baseline(t.Context(), nil))
			require.NoError(t, a.Apply(t.Context(), loggedRun(61, 3, 100)))
			_, bases := a.List()
			var got []uint64
			for _, b := range bases[:len(bases)-1] {
				got = append(got, b.After)
			}
			require.Equal(t, c.want, got)
			require.NoError(t, a.Close())
			a = openArchive(t, dir, c.o)
			require.Equal(t, c.want[0]+1, a.Stats().First)
			r, err := a.Restore(t.Context(), &RestoreOptions{To: dfs.StopPoint{Seq: 58}})
			require.NoError(t, err)
			s, err := r.Open(t.Context(), dfs.Checkpoint{})
			require.NoError(t, err)
			defer s.Close()
			batch := make([]*dfs.Transaction, 100)
			n, err := s.Next(t.Context(), batch)
			require.NoError(t, err)
			require.Equal(t, 18, n) // from the last copy on
			require.Equal(t, uint64(1), batch[0].Seq)
			require.Equal(t, logged(41, 0).Pos, batch[0].Pos)
			// It goes on from where a target stands, also one of an earlier copy.
			at := dfs.Checkpoint{Seq: 7, Pos: logged(47, 0).Pos}
			s, err = r.Open(t.Context(), at)
			require.NoError(t, err)
			defer s.Close()
			n, err = s.Next(t.Context(), batch)
			require.NoError(t, err)
			require.Equal(t, 11, n)
			require.Equal(t, uint64(8), batch[0].Seq)
			_, err = r.Open(t.Context(), dfs.Checkpoint{Seq: 7, Pos: "elsewhere"})
			require.ErrorIs(t, err, dfs.ErrGap)
			_, err = r.Open(t.Context(), dfs.Checkpoint{Seq: 60, Pos: logged(60, 0).Pos})
			require.ErrorContains(t, err, "restore into an empty target")
		})
	}
}

func TestRestoreSaysWhatCanBeRestoredInstead(t *testing.T) {
	dir := t.TempDir()
	a := openArchive(t, dir, ArchiveOptions{})
	_, err := a.Restore(t.Context(), nil)
	require.ErrorContains(t, err, "it is empty")
	require.NoError(t, a.Apply(t.Context(), loggedRun(1, 10, 10)))
	_, err = a.Restore(t.Context(), &RestoreOptions{Before: true})
	require.ErrorContains(t, err, "Before needs a transaction")
	_, err = a.Restore(t.Context(), nil)
	require.ErrorContains(t, err, "restore with LogOnly")
	r, err := a.Restore(t.Context(), &RestoreOptions{LogOnly: true, To: dfs.StopPoint{Time: logged(4, 0).Committed}})
	require.NoError(t, err)
	end, err := r.End(t.Context())
	require.NoError(t, err)
	require.Equal(t, logged(4, 0).Checkpoint, end)
	batch := loggedRun(11, 10, 10)
	batch[5].Copied, batch[7].More = true, true
	require.NoError(t, a.Apply(t.Context(), batch))
	_, err = a.Restore(t.Context(), &RestoreOptions{To: dfs.StopPoint{Seq: 15}})
	require.ErrorContains(t, err, "whole with transaction 16 only")
	_, err = a.Restore(t.Context(), &RestoreOptions{To: dfs.StopPoint{Seq: 21}})
	require.ErrorContains(t, err, "holds transactions 1 to 20")
	_, err = a.Restore(t.Context(), &RestoreOptions{To: dfs.StopPoint{ID: "nobody"}, Tables: []string{"users"}})
	require.ErrorContains(t, err, `"users"`)
	// A place within a transaction is its end, or its beginning.
	for _, c := range []struct {
		to     dfs.StopPoint
		before bool
		want   uint64
	}{
		{dfs.StopPoint{Seq: 18}, false, 19}, {dfs.StopPoint{Seq: 19}, true, 17}, {dfs.StopPoint{Seq: 17}, false, 17},
		{dfs.StopPoint{ID: logged(19, 0).ID}, true, 17}, {dfs.StopPoint{ID: logged(20, 0).ID}, false, 20},
		{dfs.StopPoint{Time: logged(17, 0).Committed}, false, 17}, {dfs.StopPoint{Time: logged(99, 0).Committed}, false, 20},
	} {
		r, err := a.Restore(t.Context(), &RestoreOptions{To: c.to, Before: c.before})
		require.NoError(t, err)
		require.Equal(t, c.want, r.end, "%v %v", c.to, c.before)
	}
	require.ErrorContains(t, (&Restore{}).Decode(t.Context(), loggedRun(1, 1, 1)), "set Decode")
}

// The first copy of rows counts also where it goes on over several segments, also when
// they are read anew, and one that ended without some of the tables never does.
func TestTheFirstCopyOfRowsIsKnown(t *testing.T) {
	for name, failed := range map[string]bool{"whole": false, "without a table": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			a := openArchive(t, dir, ArchiveOptions{SegmentBytes: 1})
			for seq := uint64(1); seq < 60; seq += 20 {
				batch := loggedRun(seq, 20, 100)
				if seq == 41 {
					batch[2].Copied = true
				}
				if failed {
					batch[2].Pos = "gtid 3e11 copy:0;1! 3e11:1-5 binlog.1:4"
				}
				require.NoError(t, a.Apply(t.Context(), batch))
			}
			check := func(a *Archive) {
				t.Helper()
				_, bases := a.List()
				require.Len(t, bases, 1)
				require.Equal(t, failed, bases[0].Failed)
				_, err := a.Restore(t.Context(), nil)
				if failed {
					require.ErrorContains(t, err, "ended without some of the tables")
				} else {
					require.NoError(t, err)
					require.Equal(t, uint64(43), bases[0].Done)
				}
			}
			check(a)
			check(openArchive(t, dir, ArchiveOptions{ReadOnly: true}))
			require.NoError(t, a.sealSegment(t.Context()))
			check(openArchive(t, dir, ArchiveOptions{ReadOnly: true}))
			batch := loggedRun(61, 2, 10)
			batch[1].Copied = true // what a table that is copied alone ends with
			require.NoError(t, a.Apply(t.Context(), batch))
			check(a)
		})
	}
}

// Beside a later copy of rows a change finds its row, and foreign keys do what they did
// on the source, whose log need not tell that.
func TestChangesBesideALaterCopyOfRows(t *testing.T) {
	r := &Restore{}
	r.findReferenced([]Definition{{Table: users("shop"), SQL: "CREATE TABLE `orders` (\n  `user` varchar(40),\n  CONSTRAINT `f` FOREIGN KEY (`user`) REFERENCES `users` (`name`) ON UPDATE CASCADE\n)"}})
	table := users("shop")
	row := func(id int64, name string, n int64) dfs.Row {
		return dfs.Row{dfs.IntValue(id), dfs.StringValue(name), dfs.IntValue(n)}
	}
	put := func(row dfs.Row) dfs.Change {
		return dfs.Change{Op: dfs.Insert, Table: table, After: row, Overwrite: true, NoForeignKeys: true}
	}
	update := func(before, after dfs.Row, off bool) dfs.Change {
		return dfs.Change{Op: dfs.Update, Table: table, Before: before, After: after, NoForeignKeys: off}
	}
	a := row(1, "Ann", 1)
	for name, c := range map[string]struct{ of, want []dfs.Change }{
		"an insert": {[]dfs.Change{{Op: dfs.Insert, Table: table, After: a}}, []dfs.Change{put(a)}},
		"a delete": {[]dfs.Change{{Op: dfs.Delete, Table: table, Before: a}},
			[]dfs.Change{put(a), {Op: dfs.Delete, Table: table, Before: a}}},
		"an update that no other table sees":         {[]dfs.Change{update(a, row(1, "Ann", 2), false)}, []dfs.Change{put(a), update(a, row(1, "Ann", 2), true)}},
		"an update of a column that others refer to": {[]dfs.Change{update(a, row(1, "Eve", 1), false)}, []dfs.Change{put(a), update(a, row(1, "Eve", 1), false)}},
		"a new key": {[]dfs.Change{update(a, row(2, "Ann", 1), false)}, []dfs.Change{put(a), update(a, row(2, "Ann", 1), false)}},
		"a source that logs what its foreign keys did": {[]dfs.Change{update(a, row(2, "Ann", 1), true)}, []dfs.Change{put(a), update(a, row(2, "Ann", 1), true)}},
	} {
		tx := &dfs.Transaction{Changes: c.of}
		require.NoError(t, r.overlap(tx))
		require.Equal(t, c.want, tx.Changes, name)
	}
	err := r.overlap(&dfs.Transaction{Changes: []dfs.Change{update(a, dfs.Row{dfs.AbsentValue(), dfs.AbsentValue(), dfs.IntValue(2)}, false)}})
	require.ErrorContains(t, err, "has not all columns")
}

// A table that is added to a pipeline is copied after the first copy of rows. While that
// goes on a restore would give a part of it.
func TestRestoreToWhereATableWasBeingCopiedIsRefused(t *testing.T) {
	a := openArchive(t, t.TempDir(), ArchiveOptions{})
	batch := loggedRun(1, 40, 10)
	batch[9].Copied = true
	for _, tx := range batch[20:30] {
		tx.Pos = "gtid 3e11 copy:0=ab:1..2 3e11:1-5 " + tx.Pos
	}
	require.NoError(t, a.Apply(t.Context(), batch))
	for seq, refused := range map[uint64]bool{15: false, 21: true, 30: true, 31: false} {
		o := &RestoreOptions{To: dfs.StopPoint{Seq: seq}}
		_, err := a.Restore(t.Context(), o)
		if refused {
			require.ErrorContains(t, err, "were still being copied", seq)
			o.Incomplete = true
			_, err = a.Restore(t.Context(), o)
		}
		require.NoError(t, err, seq)
	}
	// Rows that are copied again for a later baseline were there before.
	require.NoError(t, a.Baseline(t.Context(), nil))
	batch = loggedRun(41, 20, 10)
	for _, tx := range batch[:10] {
		tx.Pos = "gtid 3e11 copy:0=ab:1..2 3e11:1-5 " + tx.Pos
	}
	require.NoError(t, a.Apply(t.Context(), batch[:5]))
	_, err := a.Restore(t.Context(), nil)
	require.NoError(t, err)
	batch[10].Copied = true
	require.NoError(t, a.Apply(t.Context(), batch[5:]))
	_, err = a.Restore(t.Context(), &RestoreOptions{To: dfs.StopPoint{Seq: 47}})
	require.NoError(t, err)
}

// The end of a copy of some tables does not make a baseline whole for which all rows are
// to be copied, so nothing is deleted or restored by it: also when it is read anew.
func TestTheCopyOfOneTableIsNoBaseline(t *testing.T) {
	dir := t.TempDir()
	o := ArchiveOptions{SegmentBytes: 1, KeepBytes: 1}
	a := openArchive(t, dir, o)
	tables := []Definition{{Table: users("shop")}, {Table: users("club")}}
	require.NoError(t, a.Baseline(t.Context(), tables))
	seq := uint64(0)
	// rows brings the rows of a table, and then the end of a copy.
	rows := func(table string, copying bool) {
		t.Helper()
		batch := loggedRun(seq+1, 2, 10)
		for i, id := range []string{"snapshot " + table, "snapshot"} {
			batch[i].ID, batch[i].Snapshot, batch[i].Copied = id, true, i == 1
		}
		if copying {
			batch = batch[:1]
			batch[0].Pos = "gtid 3e11 copy:0=ab:1..2 3e11:1-5 " + batch[0].Pos
		}
		require.NoError(t, a.Apply(t.Context(), batch))
		seq += uint64(len(batch))
	}
	done := func() (list []uint64) {
		t.Helper()
		_, bases := a.List()
		_, read := openArchive(t, dir, ArchiveOptions{ReadOnly: true}).List()
		require.Len(t, read, len(bases))
		for i, b := range bases {
			require.Equal(t, b.Done, read[i].Done)
			list = append(list, b.Done)
		}
		return list
	}
	rows("shop.users", false) // the first copy brings what there is
	require.Equal(t, []uint64{2}, done())
	require.NoError(t, a.Baseline(t.Context(), tables))
	rows("club.users", false) // as by Resnapshot or Follow of it
	require.Equal(t, []uint64{2, 0}, done())
	require.Equal(t, uint64(1), a.Stats().First)
	require.NoError(t, a.Close())
	a = openArchive(t, dir, o)
	_, err := a.Checkpoint(t.Context())
	require.NoError(t, err)
	rows("shop.users", false)
	require.Equal(t, []uint64{2, 6}, done())
	rows("shop.users", true)
	require.Equal(t, []uint64{6}, done(), "what is before it is not kept")
	// It begins while another copy is under way, which brings the rest of its tables.
	require.NoError(t, a.Baseline(t.Context(), tables))
	rows("shop.users", true)
	rows("club.users", false)
	require.Equal(t, []uint64{6, 0}, done())
	rows("shop.users", true)
	rows("club.users", false)
	require.Equal(t, []uint64{6, seq}, done())
}

// A restore that was cut off beside a copy of rows goes on as it began, also once a later
// copy is whole.
func TestRestoreGoesOnBesideTheCopyThatItBeganWith(t *testing.T) {
	a := openArchive(t, t.TempDir(), ArchiveOptions{})
	put := func(n int) {
		t.Helper()
		first := a.End().Seq + 1
		batch := loggedRun(first, n, 10)
		for _, tx := range batch {
			tx.Encoded = nil
			tx.Changes = []dfs.Change{{Op: dfs.Insert, Table: users("shop"), After: dfs.Row{dfs.IntValue(int64(tx.Seq)), dfs.StringValue("Ann"), dfs.IntValue(1)}}}
		}
		batch[n-1].Snapshot, batch[n-1].Copied = true, true
		require.NoError(t, a.Baseline(t.Context(), nil))
		require.NoError(t, a.Apply(t.Context(), batch))
	}
	put(10)
	put(20) // 11 to 30
	put(5)  // 31 to 35
	r, err := a.Restore(t.Context(), nil)
	require.NoError(t, err)
	// beside returns the transactions of the archive that are made fit for a target in
	// which rows may be missing.
	beside := func(seq, at uint64) (list []uint64) {
		t.Helper()
		from := dfs.Checkpoint{Seq: seq}
		if seq > 0 {
			from.Pos = logged(at, 0).Pos
		}
		s, err := r.Open(t.Context(), from)
		require.NoError(t, err)
		defer s.Close()
		batch := make([]*dfs.Transaction, 100)
		n, err := s.Next(t.Context(), batch)
		require.NoError(t, err)
		require.NoError(t, r.Decode(t.Context(), batch[:n]))
		for _, tx := range batch[:n] {
			if tx.Changes[0].Overwrite {
				list = append(list, at+tx.Seq-seq)
			}
		}
		return list
	}
	require.Equal(t, []uint64{31, 32, 33, 34}, beside(0, 30), "one that begins")
	require.Equal(t, []uint64{26, 27, 28, 29}, beside(15, 25), "one of the second copy")
	require.Empty(t, beside(2, 2), "one of the first copy")
	require.Empty(t, beside(777, 12), "a target that another pipeline has fed")
}

// A stream does not go on with what an archive was given after a Reset, which is another
// history, whatever its numbers are.
func TestAStreamOfAnArchiveEndsWithIt(t *testing.T) {
	a := openArchive(t, t.TempDir(), ArchiveOptions{})
	require.NoError(t, a.Apply(t.Context(), loggedRun(1, 5, 10)))
	s, err := a.Open(t.Context(), dfs.Checkpoint{})
	require.NoError(t, err)
	defer s.Close()
	batch := make([]*dfs.Transaction, 5)
	_, err = s.Next(t.Context(), batch)
	require.NoError(t, err)
	require.NoError(t, a.Reset(t.Context(), dfs.Checkpoint{}))
	require.NoError(t, a.Apply(t.Context(), loggedRun(1, 9, 10)))
	_, err = s.Next(t.Context(), batch)
	require.ErrorIs(t, err, dfs.ErrGap)
}

// A process may end between a baseline and the first row of its copy, and begin the
// baseline again.
func TestABaselineThatNothingFollowedIsReplaced(t *testing.T) {
	dir := t.TempDir()
	a := openArchive(t, dir, ArchiveOptions{})
	require.NoError(t, a.Baseline(t.Context(), []Definition{{Table: users("shop")}}))
	require.NoError(t, a.Close())
	a = openArchive(t, dir, ArchiveOptions{})
	require.NoError(t, a.Baseline(t.Context(), []Definition{{Table: users("shop")}}))
	batch := loggedRun(1, 2, 10)
	for i, id := range []string{"snapshot shop.users", "snapshot"} {
		batch[i].ID, batch[i].Snapshot, batch[i].Copied = id, true, i == 1
	}
	require.NoError(t, a.Apply(t.Context(), batch))
	_, bases := a.List()
	require.Len(t, bases, 1)
	require.NotZero(t, bases[0].Done)
	_, read := openArchive(t, dir, ArchiveOptions{ReadOnly: true}).List()
	require.Len(t, read, 1)
}

// Transactions that only move the position have no names.
func TestAnArchiveListsNamesThatThereAre(t *testing.T) {
	dir := t.TempDir()
	a := openArchive(t, dir, ArchiveOptions{})
	_, err := a.Checkpoint(t.Context())
	require.NoError(t, err)
	for seq := uint64(1); seq <= 9; seq += 3 { // blocks: named; none; the second one of three
		batch := loggedRun(seq, 3, 50)
		for i, tx := range batch {
			if seq == 4 || seq == 7 && i != 1 {
				tx.ID = ""
			}
		}
		require.NoError(t, a.Apply(t.Context(), batch))
		segs, _ := a.List()
		require.Len(t, segs, 1)
		require.Equal(t, logged(1, 50).ID, segs[0].FirstID)
		last := logged(map[uint64]uint64{1: 3, 4: 3, 7: 8}[seq], 50).ID
		require.Equal(t, last, segs[0].LastID)
		segs, _ = openArchive(t, dir, ArchiveOptions{ReadOnly: true}).List()
		require.Len(t, segs, 1)
		require.Equal(t, last, segs[0].LastID)
		require.Contains(t, []string{"", logged(1, 50).ID}, segs[0].FirstID, "no name of a later block")
	}
}

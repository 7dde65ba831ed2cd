package monitor

import (
	"errors"
	"math"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/dataflowsync/dfs/internal/failpoint"
)

const (
	flushEvery = 500 * time.Millisecond // how long an entry waits for others
	tellEvery  = time.Minute            // how often it is logged that entries are dropped
)

// add hands entries to the writer. With JournalAll it waits while the buffer is
// full, but only as long as the writer gets on; else, and with other levels, what
// does not fit is dropped.
func (j *Journal) add(list []*entry) {
	n, txs := 0, 0
	for _, e := range list {
		n += e.size()
		txs += len(e.txs)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	fits := func() bool { return j.size == 0 || j.size+n <= j.opts.Buffer }
	if !fits() && j.opts.Level == JournalAll && j.failing == nil {
		stuck, taken := false, j.taken
		var timer *time.Timer
		timer = time.AfterFunc(j.opts.stall, func() {
			j.mu.Lock()
			defer j.mu.Unlock()
			if stuck = taken == j.taken; !stuck {
				taken = j.taken
				timer.Reset(j.opts.stall)
			}
			j.cond.Broadcast()
		})
		for !fits() && !stuck && !j.closed && j.failing == nil {
			j.cond.Wait()
		}
		timer.Stop()
	}
	if j.closed || !fits() {
		j.drop(txs, nil)
		return
	}
	j.waiting = append(j.waiting, list...)
	j.size += n
	j.cond.Broadcast()
}

// drop counts transactions that are not written, and tells so now and then. j.mu is
// held.
func (j *Journal) drop(txs int, err error) {
	j.dropped.Add(uint64(txs))
	lost := j.lost.Add(uint64(txs))
	if time.Since(j.told) < tellEvery {
		return
	}
	j.told = time.Now()
	j.lost.Store(0)
	args := []any{"file", j.path, "transactions", lost}
	if err != nil {
		args = append(args, "err", err)
	}
	j.log.Warn("the journal drops what it should keep; the pipeline goes on", args...)
}

// write writes what comes until the journal is closed. It is the only one that does.
func (j *Journal) write() {
	defer close(j.stopped)
	blocks := make(map[string]*blockBuilder)
	var ready []*stored
	oldest := time.Time{} // since when the first entry in blocks waits; zero: there is none
	for {
		j.mu.Lock()
		for len(j.waiting) == 0 && !j.closed && j.flushes == j.flushed {
			if oldest.IsZero() {
				j.cond.Wait()
				continue
			}
			left := flushEvery - time.Since(oldest)
			if left <= 0 {
				break
			}
			timer := time.AfterFunc(left, func() { j.mu.Lock(); defer j.mu.Unlock(); j.cond.Broadcast() })
			j.cond.Wait()
			timer.Stop()
		}
		list, closed, flush := j.waiting, j.closed, j.flushes
		j.waiting = nil
		all := closed || flush != j.flushed
		j.mu.Unlock()

		if len(list) > 0 && oldest.IsZero() {
			oldest = time.Now()
		}
		for _, e := range list {
			b := blocks[e.pipeline]
			if b == nil || !b.takes(e) {
				if b != nil {
					ready = append(ready, b.seal())
				}
				b = new(blockBuilder)
				blocks[e.pipeline] = b
			}
			b.add(e)
		}
		if all || !oldest.IsZero() && time.Since(oldest) >= flushEvery {
			for name, b := range blocks {
				ready = append(ready, b.seal())
				delete(blocks, name)
			}
			oldest = time.Time{}
		}
		if len(ready) > 0 {
			j.store(ready)
			ready = ready[:0]
		}
		j.mu.Lock()
		j.taken++
		if all {
			j.flushed = flush
		}
		done := closed && len(j.waiting) == 0
		j.cond.Broadcast()
		j.mu.Unlock()
		if done {
			return
		}
	}
}

// flush waits until what is known now has been written.
func (j *Journal) flush() {
	j.settle()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.opts.ReadOnly || j.closed {
		return
	}
	j.flushes++
	want := j.flushes
	j.cond.Broadcast()
	for j.flushed < want && !j.closed {
		j.cond.Wait()
	}
}

// store writes blocks, and deletes what is too old or too much. A disk that is full
// is given a second chance, for which the oldest blocks go.
func (j *Journal) store(list []*stored) {
	grown, err := j.tryStore(list, 0)
	var e *sqlite.Error
	if errors.As(err, &e) && e.Code()&0xff == sqlite3.SQLITE_FULL {
		need := int64(0)
		for _, s := range list {
			need += s.size()
		}
		grown, err = j.tryStore(list, 4*need)
	}
	txs, failed, held := 0, 0, 0
	for _, s := range list {
		txs, failed, held = txs+s.txs, failed+s.failed, held+s.held
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.size -= held
	if err != nil {
		j.failing = err
		j.drop(txs, err)
		return
	}
	if j.failing != nil {
		j.log.Info("the journal is written again; what is missing shows as a gap", "file", j.path, "dropped", j.dropped.Load())
		j.failing, j.told = nil, time.Time{}
	}
	j.bytes += grown
	j.written.Add(uint64(txs))
	j.failed.Add(uint64(failed))
}

// tryStore writes blocks in one transaction, and returns by how much what is kept
// has grown. If free is not 0, it first deletes so many bytes of the oldest.
func (j *Journal) tryStore(list []*stored, free int64) (grown int64, err error) {
	j.mu.Lock()
	have := j.bytes
	j.mu.Unlock()
	if free > 0 { // by itself, as a transaction that grows the file would fail again
		freed, err := j.trim(have, have-free, time.Time{})
		if err != nil {
			return 0, err
		}
		grown = -freed
	}
	tx, err := j.db.Begin()
	if err != nil {
		return grown, err
	}
	defer tx.Rollback() // does nothing once it is committed
	for _, s := range list {
		_, err := tx.Exec("INSERT INTO block (pipeline, level, first, last, at, failed, size, raw, sum, keys, data) VALUES (?,?,?,?,?,?,?,?,?,?,?)",
			s.pipeline, string(s.level), int64(s.first), int64(s.last), s.at.UnixMicro(), s.failed, s.size(), len(s.raw), s.sum, s.filter, s.data)
		if err != nil {
			return grown, err
		}
	}
	failpoint.Hit("journal.commit")
	if err := tx.Commit(); err != nil {
		return grown, err
	}
	failpoint.Hit("journal.committed")
	for _, s := range list {
		grown += s.size()
	}
	keep, before := int64(math.MaxInt64), time.Time{}
	if j.opts.Keep > 0 {
		keep = j.opts.Keep
	}
	if j.opts.KeepFor > 0 {
		before = time.Now().Add(-j.opts.KeepFor)
	}
	freed, err := j.trim(have+grown, keep, before)
	if err != nil {
		j.log.Warn("the journal cannot delete what is too old", "file", j.path, "err", err)
	}
	return grown - freed, nil
}

// trim deletes the oldest blocks until at most keep of the bytes that there are
// remain, and none from before the given time. It returns how many bytes have gone.
func (j *Journal) trim(have, keep int64, before time.Time) (freed int64, err error) {
	rows, err := j.db.Query("SELECT id, size, at FROM block ORDER BY id")
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	last := int64(-1)
	for rows.Next() {
		var id, size, at int64
		if err := rows.Scan(&id, &size, &at); err != nil {
			return 0, err
		}
		if have-freed <= keep && (before.IsZero() || at >= before.UnixMicro()) {
			break
		}
		last, freed = id, freed+size
	}
	if err := errors.Join(rows.Close(), rows.Err()); err != nil || last < 0 {
		return 0, err
	}
	if _, err := j.db.Exec("DELETE FROM block WHERE id <= ?", last); err != nil {
		return 0, err
	}
	_, err = j.db.Exec("PRAGMA incremental_vacuum")
	return freed, err
}

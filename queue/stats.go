package queue

import (
	"context"
	"os"

	"github.com/dataflowsync/dfs/internal/files"
)

// Stats say how a queue is. They are a snapshot.
type Stats struct {
	First  uint64 // the oldest transaction that it holds, or part of one, if First <= Last
	Last   uint64 // the last transaction that is whole
	Blocks int64
	Bytes  int64 // held, as compressed: what MaxBytes limits

	// FileBytes is the size of the file and its write-ahead log.
	FileBytes int64

	// Gone is set if the file is not at its path any more: it was deleted, moved or replaced. The queue
	// goes on with the file that it has open, but where that has no other name it ends with Close, and
	// with it what no reader has taken yet.
	Gone bool

	Readers []ReaderInfo

	// Waiting is set while Apply waits because the queue holds MaxBytes.
	Waiting bool

	// Err is why the last write did not succeed, such as on a full disk, or nil
	// if it did. Of a read-only queue it is why it could not be read.
	Err error

	// What Apply has stored since Open, and in how many commits. RawBytes is
	// before compression.
	Transactions, Commits uint64
	RawBytes, StoredBytes uint64
}

// counters are the last lines of Stats.
type counters struct {
	Transactions, Commits uint64
	RawBytes, StoredBytes uint64
}

func (c *counters) add(d counters) {
	c.Transactions += d.Transactions
	c.Commits += d.Commits
	c.RawBytes += d.RawBytes
	c.StoredBytes += d.StoredBytes
}

// Stats returns the state of the queue. It reads the disk only if the queue is
// read-only.
func (q *Queue) Stats() Stats {
	var err error
	if q.opts.ReadOnly {
		err = q.refresh(context.Background())
	}
	q.mu.Lock()
	s := Stats{
		First: q.st.base.seq + 1, Last: q.st.whole.seq,
		Blocks: q.st.last.block - q.st.base.block, Bytes: q.st.bytes(),
		Readers: q.readerInfos(), Waiting: q.waiting, Err: q.fault,
		Transactions: q.count.Transactions, Commits: q.count.Commits,
		RawBytes: q.count.RawBytes, StoredBytes: q.count.StoredBytes,
	}
	q.mu.Unlock()
	if err != nil {
		s.Err = err
	}
	s.Gone = files.Gone(q.path, q.own)
	if info, err := os.Stat(q.path); err == nil {
		s.FileBytes = info.Size()
	}
	if info, err := os.Stat(q.path + "-wal"); err == nil {
		s.FileBytes += info.Size()
	}
	return s
}

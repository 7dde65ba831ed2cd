package dfstest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"

	"github.com/dataflowsync/dfs"
)

// A Fault decides whether something fails: it is told where, and returns the
// error to fail with, or nil. The places are
//
//	source open      before a stream is opened
//	source next      before transactions are read
//	sink checkpoint  before a sink says where it stands
//	sink apply       before anything is applied
//	sink part        after a part of the batch was applied, which stays
//	sink reply       after all of it was applied: the sink's answer is lost
type Fault func(place string) error

// Random fails with an error that may pass, at the given rate, at any place. The
// same seed gives the same faults, if the places come in the same order.
func Random(seed uint64, rate float64) Fault {
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(seed, 0))
	return func(place string) error {
		mu.Lock()
		defer mu.Unlock()
		if rng.Float64() >= rate {
			return nil
		}
		return dfs.Transient(errors.New("dfstest: fault at " + place))
	}
}

// Once fails with err at the nth time of a place, counted from 1, and at no other
// time.
func Once(place string, n int, err error) Fault {
	var mu sync.Mutex
	return func(at string) error {
		mu.Lock()
		defer mu.Unlock()
		if at != place {
			return nil
		}
		if n--; n != 0 {
			return nil
		}
		return err
	}
}

func (f Fault) at(place string) error {
	if f == nil {
		return nil
	}
	return f(place)
}

// A Source is a log in memory with an end. It is a dfs.Source, and may be opened
// several times at once.
type Source struct {
	// Transactions are those of the log. Their Seq and Pos are set as they are
	// read: the first has Seq 1 and Pos "1".
	Transactions []dfs.Transaction

	// Fault makes it fail. Default: never.
	Fault Fault
}

var _ dfs.Source = (*Source)(nil)

// Open returns the transactions that follow from.
func (s *Source) Open(ctx context.Context, from dfs.Checkpoint) (dfs.Stream, error) {
	if err := s.Fault.at("source open"); err != nil {
		return nil, err
	}
	if from.Seq > uint64(len(s.Transactions)) || from.Pos != position(from.Seq) {
		return nil, fmt.Errorf("%w: the log has no place %d, %q", dfs.ErrGap, from.Seq, from.Pos)
	}
	if from.Seq > 0 && s.Transactions[from.Seq-1].More {
		return nil, fmt.Errorf("%w: %d is a place within a transaction", dfs.ErrGap, from.Seq)
	}
	return &stream{s, int(from.Seq)}, nil
}

func position(seq uint64) dfs.Position {
	if seq == 0 {
		return ""
	}
	return dfs.Position(strconv.FormatUint(seq, 10))
}

type stream struct {
	s  *Source
	at int
}

func (r *stream) Next(ctx context.Context, batch []*dfs.Transaction) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if err := r.s.Fault.at("source next"); err != nil {
		return 0, err
	}
	n := 0
	for ; n < len(batch) && r.at < len(r.s.Transactions); n++ {
		tx := clone(r.s.Transactions[r.at])
		r.at++
		tx.Checkpoint = dfs.Checkpoint{Seq: uint64(r.at), Pos: position(uint64(r.at)), State: tx.State}
		batch[n] = tx
	}
	if n == 0 && len(batch) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (r *stream) Close() error { return nil }

// equalKeys reports whether two rows have the same key.
func equalKeys(a, b dfs.Row, key []int) bool {
	return !slices.ContainsFunc(key, func(k int) bool { return a[k] != b[k] })
}

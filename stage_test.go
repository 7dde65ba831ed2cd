package dfs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// remembers is a Stage that keeps in mind how far it is, and refuses some
// transactions.
type remembers struct {
	at      uint64
	passed  map[uint64]bool
	refused Stage
}

func (r *remembers) come(seq uint64) error {
	if seq > r.at+1 {
		return fmt.Errorf("transaction %d comes after %d", seq, r.at)
	}
	r.at = max(r.at, seq)
	return nil
}

func (r *remembers) Process(ctx context.Context, batch []*Transaction) error {
	if err := r.refused.Process(ctx, batch); err != nil {
		return err
	}
	for _, tx := range batch {
		if err := r.come(tx.Seq); err != nil {
			return err
		}
	}
	return nil
}

func (r *remembers) Pass(_ context.Context, at Checkpoint) error {
	r.passed[at.Seq] = true
	return r.come(at.Seq)
}

func TestAPasserIsToldOfWhatIsSteppedOver(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			src, dst := newLog(seed, 0), newLog(seed+1, 0)
			for i := 1; i <= 100; i++ {
				src.append(Transaction{ID: fmt.Sprint("t", i), More: i == 40 || i == 41, Changes: insert(int64(i))})
			}
			src.fail, dst.fail, src.closed, src.owner = 0.1, 0.1, true, true
			s := &remembers{passed: make(map[uint64]bool), refused: refuse("t1", "t41", "t77", "t100")}
			p := &Pipeline{Source: encoded{src}, Stages: []Stage{s}, Sink: dst, Logger: discard,
				Reject: func(context.Context, *Transaction, error) error { return nil }}
			require.NoError(t, p.Run(t.Context()))
			require.Equal(t, map[uint64]bool{1: true, 40: true, 41: true, 42: true, 77: true, 100: true}, s.passed)
			require.EqualValues(t, 100, s.at)
		})
	}
}

type failingPasser struct{ StageFunc }

func (failingPasser) Pass(context.Context, Checkpoint) error { return errors.New("disk") }

func TestAnErrorOfPassEndsRun(t *testing.T) {
	src, dst := filled(1, 100, 0), newLog(2, 0)
	src.txs[49].More, src.txs[48].More = false, false
	p := &Pipeline{Source: src, Stages: []Stage{failingPasser{refuse("t50").(StageFunc)}}, Sink: dst, Logger: discard,
		Reject: func(context.Context, *Transaction, error) error { return nil }}
	require.EqualError(t, p.Run(t.Context()), "stage 1, transaction 50 (t50): disk")
	require.Equal(t, 49, dst.len())
}

// A stage that takes long is given more at once.
func TestStagesAreGivenWhatIsReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, dst := newLog(1, 0), newLog(2, 0)
		for i := range 3000 {
			src.append(Transaction{ID: fmt.Sprint("t", i+1), Changes: insert(int64(i + 1))})
		}
		src.closed = true
		var sizes []int
		next := uint64(1)
		slow := StageFunc(func(_ context.Context, batch []*Transaction) error {
			sizes = append(sizes, len(batch))
			for i, tx := range batch {
				require.Equal(t, next, tx.Seq)
				next++
				own := *tx
				batch[i] = &own // a stage may do so, too
				own.Changes = insert(2 * tx.Changes[0].After[0].Int())
			}
			time.Sleep(time.Second) // until all else waits
			return nil
		})
		p := &Pipeline{Source: src, Stages: []Stage{slow}, Sink: dst, Logger: discard}
		require.NoError(t, p.Run(t.Context()))
		require.Greater(t, slices.Max(sizes), firstBatch)
		require.Less(t, len(sizes), 6, "%v", sizes)
		require.Equal(t, 3000, dst.len())
		for i, tx := range dst.txs {
			require.Equal(t, int64(2*(i+1)), tx.Changes[0].After[0].Int())
		}
	})
}

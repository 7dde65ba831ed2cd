package dfs

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

type copyingLog struct {
	*memLog
	asked int
}

func (l *copyingLog) Copies(context.Context) ([]*Table, error) {
	if l.asked++; l.asked == 1 {
		return nil, Transient(errors.New("no connection"))
	}
	return []*Table{numbers}, nil
}

type checkedLog struct {
	*memLog
	tables []*Table
	full   bool
}

func (l *checkedLog) CheckCopy(_ context.Context, tables []*Table) error {
	if l.tables = tables; l.full {
		return errors.New("it has rows")
	}
	return nil
}

func TestASinkIsAskedBeforeRowsAreCopiedIntoIt(t *testing.T) {
	for _, queue := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			src, dst := &copyingLog{memLog: filled(1, 10, 0)}, &checkedLog{memLog: newLog(2, 0), full: true}
			src.closed = true
			p := &Pipeline{Source: src, Sink: dst, Logger: discard}
			if queue {
				p.Queue = newLog(3, 0)
			}
			for range 2 { // it is not forgotten by a start that fails
				require.ErrorContains(t, p.Run(t.Context()), "it has rows")
				require.Zero(t, dst.len())
			}
			require.Equal(t, []*Table{numbers}, dst.tables)
			dst.full = false
			require.NoError(t, p.Run(t.Context()))
			require.Equal(t, 10, dst.len())

			// What there is now is the pipeline's own.
			dst.full = true
			src.closed = false
			src.append(Transaction{Changes: insert(11)})
			src.closed = true
			require.NoError(t, p.Run(t.Context()))

			// What stages make of tables is not known here.
			other := &checkedLog{memLog: newLog(2, 0), full: true}
			p = &Pipeline{Source: src, Stages: []Stage{double}, Sink: other, Logger: discard}
			require.NoError(t, p.Run(t.Context()))
			require.Nil(t, other.tables)
		})
	}
}

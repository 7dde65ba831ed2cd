package cdc

import (
	"time"

	"github.com/dataflowsync/dfs"
)

// Progress implements dfs.Progresser.
func (s *Source) Progress() []dfs.TableProgress {
	s.mu.Lock()
	c := s.copier
	s.mu.Unlock()
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]dfs.TableProgress, 0, len(c.tables))
	for _, t := range c.tables {
		if !t.gone {
			list = append(list, t.progress())
		}
	}
	return list
}

// progress returns how far the copy of a table is.
func (t *copyTable) progress() dfs.TableProgress {
	p := dfs.TableProgress{Schema: t.schema, Name: t.name, State: t.state, Rows: t.rows, Bytes: t.bytes, Total: t.total, Err: t.err}
	if t.started.IsZero() {
		return p
	}
	until := t.ended
	if t.state == dfs.Copying {
		until = time.Now()
	}
	if d := until.Sub(t.started).Seconds(); d > 0 {
		p.Rate = float64(p.Rows) / d
	}
	if t.state == dfs.Copying && p.Rate > 0 && p.Total > p.Rows {
		p.Left = time.Duration(float64(p.Total-p.Rows) / p.Rate * float64(time.Second))
	}
	return p
}

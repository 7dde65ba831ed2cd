package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/failpoint"
)

// errCount says that a statement did not match as many rows as it must.
var errCount = errors.New("a statement found other rows than the source had")

// stopError says at which transaction a run must stop.
type stopError struct {
	seq uint64
	err error
}

func (e *stopError) Error() string { return e.err.Error() }
func (e *stopError) Unwrap() error { return e.err }

// apply applies a run of transactions, and commits it unless it is a run of
// parts without an end.
func (m *MySQL) apply(ctx context.Context, run []*dfs.Transaction, commit bool) error {
	if len(run) == 0 {
		return nil
	}
	last := run[len(run)-1]
	parts := m.open // what the open transaction holds must not be undone
	var move *dfs.Transaction
	if commit {
		var err error
		if move, err = m.move(run); err != nil {
			return m.fail(ctx, run, parts, err)
		}
	}
	m.copied = commit && slices.ContainsFunc(run, func(tx *dfs.Transaction) bool { return tx.Copied })
	list := once(items(run))
	m.open = true
	small := move != nil && !parts && !m.copied && m.intent == nil && len(list) <= mostGuarded
	err := m.merged(ctx, list, func() {
		m.writer.guarded = small
		m.begin(move, parts)
	})
	ended := err == nil && m.writer.guarded // with a COMMIT
	if err != nil && mayRetry(err) {
		m.stats.fallbacks.Add(1)
		m.log.Debug("applying a run in pieces", "from", run[0].Seq, "to", last.Seq, "cause", err)
		if n := serverError(err); n == erBadField || n == erNoSuchTable {
			m.forget()
		}
		if err = m.again(ctx, move, parts); err == nil {
			err = m.pieces(ctx, list)
		}
	}
	if err == nil {
		m.at = last.Seq
		switch {
		case ended:
			m.committed(run)
		case commit:
			err = m.commit(ctx, run)
		}
	}
	if err != nil {
		return m.fail(ctx, run, parts, err)
	}
	m.count(run, list)
	return nil
}

// begin puts in front of a run what opens its transaction and moves the
// checkpoint, or what marks its place within the open one.
func (m *MySQL) begin(move *dfs.Transaction, parts bool) {
	w := &m.writer
	if parts {
		w.statement("SAVEPOINT dfs_part", uncounted)
		if move == nil {
			return
		}
	} else {
		w.statement("BEGIN", uncounted)
	}
	w.separate()
	w.b = m.appendMove(w.b, move)
	w.wants(fence, dfs.Update)
	if m.copied && m.adder.left.Load() > 0 {
		w.statement("UPDATE "+m.adder.table+" SET ready=1"+m.mine(), uncounted)
	}
	if move != nil && m.intent != nil {
		w.statement(m.endIntent(), uncounted)
	}
}

// again undoes a run and begins it anew.
func (m *MySQL) again(ctx context.Context, move *dfs.Transaction, parts bool) error {
	sql := restoreSQL + "; ROLLBACK"
	if parts {
		sql += " TO SAVEPOINT dfs_part"
	}
	if _, err := m.exec(ctx, []byte(sql)); err != nil {
		return err
	}
	return m.merged(ctx, nil, func() { m.begin(move, parts) })
}

// commit ends the open transaction, which ends with a run. If its reply is lost, the
// error is transient, and the checkpoint tells how it ended.
func (m *MySQL) commit(ctx context.Context, run []*dfs.Transaction) error {
	failpoint.Hit("sink.commit")
	if _, err := m.exec(ctx, []byte("COMMIT")); err != nil {
		return fmt.Errorf("committing up to transaction %d: %w", m.at, err)
	}
	m.committed(run)
	if m.copied {
		m.loads = false // by appendMove
		for _, h := range m.loader.helpers {
			h.drop() // until there is another copy
		}
		if m.adder.left.Load() > 0 {
			m.startAdding()
		}
	}
	return nil
}

// committed notes that a transaction was committed that ends with a run.
func (m *MySQL) committed(run []*dfs.Transaction) {
	failpoint.Hit("sink.committed")
	m.stands.note(run)
	m.open, m.intent = false, nil
	m.stats.commits.Add(1)
}

// fail undoes the open transaction and returns err as Apply's error. If err
// names a transaction at which to stop, the ones before it are applied first.
func (m *MySQL) fail(ctx context.Context, run []*dfs.Transaction, parts bool, err error) error {
	if m.sess != nil {
		if _, e := m.exec(ctx, []byte(restoreSQL+"; ROLLBACK")); e != nil {
			m.drop()
		}
	}
	m.open = false
	m.at = m.stands.at.Seq
	var stop *stopError
	if !errors.As(err, &stop) || errors.Is(err, dfs.ErrTransient) || ctx.Err() != nil {
		return err
	}
	k := int(stop.seq - run[0].Seq)
	for k > 0 && run[k-1].More {
		k--
	}
	if !parts && k > 0 {
		if e := m.apply(ctx, run[:k], true); e != nil {
			return e
		}
	}
	return stop.err
}

// count adds an applied run to the statistics, and logs what it skipped. That it
// does so at the end makes a run that is tried again count once.
func (m *MySQL) count(run []*dfs.Transaction, list []item) {
	var n [4]uint64
	for i := range list {
		n[list[i].c.Op]++
	}
	m.stats.inserts.Add(n[dfs.Insert])
	m.stats.updates.Add(n[dfs.Update])
	m.stats.deletes.Add(n[dfs.Delete])
	for _, tx := range run {
		if !tx.More {
			m.stats.transactions.Add(1)
		}
		for i := range tx.Changes {
			if c := &tx.Changes[i]; c.Op == dfs.DDL {
				m.countDDL(tx, c)
			}
		}
	}
}

// exec executes statements that are not counted.
func (m *MySQL) exec(ctx context.Context, sql []byte) ([]int64, error) {
	if m.sess == nil {
		return nil, dfs.Transient(errors.New("the connection to the target is lost"))
	}
	n, err := m.sess.exec(ctx, sql)
	if err != nil {
		return nil, classify(err)
	}
	return n, nil
}

// mostMerged is how many changes are merged before the first of them go to the server, unless
// merging makes much fewer of them.
const mostMerged = 4000

// merged merges the changes and executes them, after what begin writes. Of a long list the
// server works on the first while the next are merged.
func (m *MySQL) merged(ctx context.Context, list []item, begin func()) error {
	p := m.startWrite(ctx, begin)
	n := len(list)
	if n > 2*mostMerged {
		n = mostMerged
	}
	m.merger.reset()
	for {
		if err := m.merge(ctx, p, list[:n]); err != nil {
			return errors.Join(p.wait(), err)
		}
		if list = list[n:]; len(list) > 0 && m.merger.folds(n) {
			n = len(list)
			continue
		}
		if err := m.writeGroups(p, m.merger.finish()); err != nil {
			return err
		}
		if len(list) == 0 {
			return m.endWrite(p)
		}
		n = min(n, len(list))
		m.merger.reset()
	}
}

// merge adds changes to the merger, while p may be at work.
func (m *MySQL) merge(ctx context.Context, p *pipe, list []item) error {
	for i := range list {
		if m.maps[list[i].c.Table] == nil { // the server will be asked
			if err := p.wait(); err != nil {
				return err
			}
		}
		mp, err := m.mapping(ctx, list[i].c.Table)
		if err == nil {
			err = m.merger.add(list[i].c, mp)
		}
		if err != nil {
			if errors.Is(err, dfs.ErrTransient) {
				return err
			}
			return &stopError{list[i].tx.Seq, fmt.Errorf("transaction %s: %w", txName(list[i].tx.Seq, list[i].tx.ID), err)}
		}
	}
	return nil
}

// write executes groups, after what begin writes. If that made the writer guarded, and
// all fits into one packet, it ends with a COMMIT, and the writer still is afterwards.
func (m *MySQL) write(ctx context.Context, groups []group, begin func()) error {
	p := m.startWrite(ctx, begin)
	if err := m.writeGroups(p, groups); err != nil {
		return err
	}
	return m.endWrite(p)
}

// startWrite makes the writer ready for groups that come after what begin writes.
func (m *MySQL) startWrite(ctx context.Context, begin func()) *pipe {
	p := &pipe{m: m, ctx: ctx}
	w := &m.writer
	w.reset()
	w.send, w.showCreate, w.ask = p.send, p.showCreate, p.ask
	if begin != nil {
		begin()
	}
	return p
}

// writeGroups has the server execute groups; the last may not be done when it returns. After
// an error nothing is under way.
func (m *MySQL) writeGroups(p *pipe, groups []group) error {
	for i := range groups {
		if err := m.writer.group(&groups[i]); err != nil {
			err = errors.Join(p.wait(), err)
			if errors.Is(err, errAltered) {
				m.forget()
			}
			if errors.Is(err, errPassesOver) {
				m.closeEvents(errPassesOver)
			}
			return err
		}
	}
	return nil
}

// endWrite has the server execute the rest, and waits until it has.
func (m *MySQL) endWrite(p *pipe) error {
	w := &m.writer
	if w.fkOff || w.fkUnknown || w.loose {
		w.statement(restoreSQL, uncounted)
	}
	if err := p.wait(); err != nil {
		return err
	}
	w.send = p.do // nothing is left to be built meanwhile
	if w.guarded = w.guarded && !w.sent; w.guarded {
		failpoint.Hit("sink.commit")
		w.statement("COMMIT", uncounted)
	}
	return w.flush()
}

// pipe executes packets one after the other while the next is being built.
type pipe struct {
	m    *MySQL
	ctx  context.Context
	done chan error // nil if none is under way

	refused error // why the server takes no row events; written while one is under way
}

func (p *pipe) send(sql []byte, want []int64) error {
	if err := p.wait(); err != nil {
		return err
	}
	p.done = make(chan error, 1)
	go func() { p.done <- p.do(sql, want) }()
	return nil
}

// showCreate describes a table after the packet under way.
func (p *pipe) showCreate(t *table) (string, error) {
	if err := p.wait(); err != nil {
		return "", err
	}
	if p.m.sess == nil {
		return "", dfs.Transient(errors.New("the connection to the target is lost"))
	}
	text, err := p.m.sess.showCreate(p.ctx, t)
	return text, classify(err)
}

// ask reports whether a query finds a row, after the packet under way.
func (p *pipe) ask(sql string) (bool, error) {
	if err := p.wait(); err != nil {
		return false, err
	}
	if p.m.sess == nil {
		return false, dfs.Transient(errors.New("the connection to the target is lost"))
	}
	rows, err := p.m.sess.query(p.ctx, sql)
	return len(rows) > 0, classify(err)
}

// wait waits for the packet under way.
func (p *pipe) wait() error {
	if p.done == nil {
		return nil
	}
	err := <-p.done
	p.done = nil
	if p.refused != nil {
		p.m.closeEvents(p.refused)
	}
	return err
}

// do executes a packet and checks what each statement matched.
func (p *pipe) do(sql []byte, want []int64) error {
	failpoint.Hit("sink.packet")
	got, err := p.m.exec(p.ctx, sql)
	failpoint.Hit("sink.answered")
	p.m.stats.statements.Add(uint64(len(want)))
	if err != nil {
		if bytes.HasPrefix(sql, []byte("BINLOG ")) && refusesEvents(err) {
			p.refused = err
		}
		return err
	}
	if len(got) != len(want) {
		return fmt.Errorf("the target answered %d statements with %d results", len(want), len(got))
	}
	for i, n := range want {
		switch {
		case n == fence && got[i] != 1:
			return p.m.conflict("another pipeline of this name has moved the checkpoint, or taken it over")
		case n >= 0 && got[i] != n:
			return errCount
		}
	}
	return nil
}

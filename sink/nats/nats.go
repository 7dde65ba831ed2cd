// Package nats publishes transactions to a stream of NATS JetStream, each once: the
// checkpoint is a message of the same atomic batch as the others.
package nats

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/sink/stream"
)

// Options refine a Sink. The zero value of each field is the default.
type Options struct {
	// Options say how messages are written. Name, with which all subjects begin, is
	// "dfs" by default: a row of shop.users goes to dfs.shop.users. What NATS does not
	// allow in a subject (blanks, dots in names, * and >) becomes _.
	stream.Options

	// Stream is the JetStream stream. If it is missing it is made, for all subjects
	// that begin with Name. Default: Name in capitals.
	Stream string

	// ID is the pipeline's name, by which it finds its checkpoint. Default: Name.
	ID string

	// Replicas is of a stream that is made. Default: 1.
	Replicas int

	// MaxBatch is how many messages the server takes in one atomic batch: its limit
	// max_batch_size, 1000 by default. Default: 1000.
	MaxBatch int

	// Timeout limits each exchange with the server. Default: 30 seconds.
	Timeout time.Duration

	// Client are further options of the connection, such as nats.UserCredentials.
	Client []nats.Option
}

// A Sink publishes to a stream of a NATS server of version 2.12 or later, which takes
// several messages as one.
//
// Guarantee: exactly once. The messages of a batch of transactions and the checkpoint
// are stored together or not at all, and only if the last checkpoint is the one that
// this sink knows (Nats-Expected-Last-Subject-Sequence), which fences off a process
// that was thought dead. A transaction of more messages than MaxBatch takes several
// batches; after a crash it goes on behind those that are stored, if the source names
// its transactions, and else begins again (at least once). Each message has the header
// Dfs-Id, which is of no other.
//
// The checkpoint is the last message of the subject Name._checkpoint.ID. Limits of the
// stream that could delete it while the pipeline stands still (max_age, and max_msgs or
// max_bytes with other writers) lose it: that is noticed, and refused.
type Sink struct {
	opts    Options
	enc     *stream.Encoder
	nc      *nats.Conn
	last    uint64 // sequence of the last checkpoint in the stream; 0: there is none
	rec     record
	seq     uint64 // of the last part
	held    bool
	pend    []*nats.Msg // of parts whose end is to come, not yet stored
	skip    int         // messages of the transaction at hand that are stored already
	sent    int         // messages of it so far
	tx      string      // its name
	state   string
	payload int64 // the largest message

	messages, bytes atomic.Uint64
}

var _ dfs.Sink = (*Sink)(nil)

// A record is what a checkpoint holds.
type record struct {
	Owner string `json:"owner"`
	Seq   uint64 `json:"seq"`
	Pos   string `json:"pos"`
	ID    string `json:"id,omitempty"`
	State string `json:"state,omitempty"` // base64

	// Of a transaction that takes several batches: its name, and how many of its
	// messages are stored.
	Partial string `json:"partial,omitempty"`
	Stored  int    `json:"stored,omitempty"`
}

// Open connects to a server ("nats://host:port"), and makes the stream if it is
// missing.
func Open(ctx context.Context, url string, o *Options) (*Sink, error) {
	if o == nil {
		o = &Options{}
	}
	errs := []error{o.Options.Validate()}
	if o.Replicas < 0 || o.MaxBatch < 0 || o.Timeout < 0 {
		errs = append(errs, errors.New("nats: Replicas, MaxBatch and Timeout must not be negative: use 0 for the default"))
	}
	if o.MaxBatch == 1 {
		errs = append(errs, errors.New("nats: MaxBatch is 1: it must have room for a message and a checkpoint"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	s := &Sink{opts: *o}
	s.opts.Name = cmp.Or(o.Name, "dfs")
	s.opts.ID = cmp.Or(o.ID, s.opts.Name)
	s.opts.Stream = cmp.Or(o.Stream, strings.ToUpper(token(s.opts.Name)))
	s.opts.Replicas, s.opts.MaxBatch, s.opts.Timeout = cmp.Or(o.Replicas, 1), cmp.Or(o.MaxBatch, 1000), cmp.Or(o.Timeout, 30*time.Second)
	var err error
	if s.enc, err = stream.NewEncoder(&s.opts.Options); err != nil {
		return nil, err
	}
	list := append([]nats.Option{nats.Name("dfs"), nats.Timeout(s.opts.Timeout), nats.MaxReconnects(-1)}, o.Client...)
	if s.nc, err = nats.Connect(url, list...); err != nil {
		return nil, dfs.Transient(fmt.Errorf("nats: connect: %w", err))
	}
	s.payload = s.nc.MaxPayload()
	if err := s.create(ctx); err != nil {
		s.nc.Close()
		return nil, err
	}
	return s, nil
}

// Status reads where a pipeline stands, without taking part in it: see Open for the
// arguments.
func Status(ctx context.Context, url string, o *Options) (at dfs.Checkpoint, id string, err error) {
	s := &Sink{opts: *o}
	s.opts.Name = cmp.Or(o.Name, "dfs")
	s.opts.ID = cmp.Or(o.ID, s.opts.Name)
	s.opts.Stream = cmp.Or(o.Stream, strings.ToUpper(token(s.opts.Name)))
	s.opts.Timeout = cmp.Or(o.Timeout, 30*time.Second)
	if s.nc, err = nats.Connect(url, append([]nats.Option{nats.Name("dfs")}, o.Client...)...); err != nil {
		return at, "", fmt.Errorf("nats: connect: %w", err)
	}
	defer s.nc.Close()
	_, rec, err := s.latest(ctx)
	if err != nil {
		return at, "", err
	}
	state, err := base64.StdEncoding.DecodeString(rec.State)
	return dfs.Checkpoint{Seq: rec.Seq, Pos: dfs.Position(rec.Pos), State: string(state)}, rec.ID, err
}

// latest returns the last checkpoint, and its number in the stream; 0 if there is
// none.
func (s *Sink) latest(ctx context.Context) (last uint64, rec record, err error) {
	var found struct {
		Message struct {
			Seq  uint64 `json:"seq"`
			Data []byte `json:"data"`
		} `json:"message"`
	}
	var e *apiError
	err = s.api(ctx, "STREAM.MSG.GET", map[string]string{"last_by_subj": s.checkpoint()}, &found)
	switch {
	case errors.As(err, &e) && e.Code == 404:
		return 0, rec, nil
	case errors.As(err, &e):
		return 0, rec, fmt.Errorf("nats: read the checkpoint: %w", err)
	case err != nil:
		return 0, rec, err
	}
	if err := json.Unmarshal(found.Message.Data, &rec); err != nil {
		return 0, rec, fmt.Errorf("nats: the checkpoint in %s is damaged: %w", s.checkpoint(), err)
	}
	return found.Message.Seq, rec, nil
}

// Close ends the connection.
func (s *Sink) Close() error {
	s.nc.Close()
	return nil
}

// token makes a name fit for one token of a subject.
func token(name string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r == '.' || r == '*' || r == '>' || r == 0x7f {
			return '_'
		}
		return r
	}, name)
}

// subject is that of a message.
func (s *Sink) subject(m *stream.Message) string {
	rest := strings.TrimPrefix(m.Topic, s.opts.Name)
	switch {
	case m.Table != nil && rest != "":
		return s.prefix() + "." + token(m.Table.Schema) + "." + token(m.Table.Name)
	case rest == "":
		return s.prefix() + "._schema"
	}
	return s.prefix() + "._transaction"
}

func (s *Sink) prefix() string     { return token(s.opts.Name) }
func (s *Sink) checkpoint() string { return s.prefix() + "._checkpoint." + token(s.opts.ID) }

// An apiError is what JetStream answers when it refuses.
type apiError struct {
	Code        int    `json:"code"`
	ErrCode     int    `json:"err_code"`
	Description string `json:"description"`
}

func (e *apiError) Error() string { return fmt.Sprintf("%s (%d)", e.Description, e.ErrCode) }

// api asks something of JetStream.
func (s *Sink) api(ctx context.Context, what string, in, out any) error {
	b, err := json.Marshal(in)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	answer, err := s.nc.RequestWithContext(ctx, "$JS.API."+what+"."+s.opts.Stream, b)
	if err != nil {
		return s.judge(ctx, strings.ToLower(what), err)
	}
	var e struct{ Error *apiError }
	if err := json.Unmarshal(answer.Data, &e); err != nil {
		return fmt.Errorf("nats: %s: %w", what, err)
	}
	if e.Error != nil {
		return e.Error
	}
	return json.Unmarshal(answer.Data, out)
}

func (s *Sink) judge(ctx context.Context, doing string, err error) error {
	err = fmt.Errorf("nats: %s: %w", doing, err)
	if errors.Is(ctx.Err(), context.Canceled) {
		return err
	}
	if errors.Is(err, nats.ErrNoResponders) {
		return dfs.Transient(fmt.Errorf("%w: JetStream does not answer; the server runs without it, or it is not ready", err))
	}
	return dfs.Transient(err)
}

// create makes the stream, or looks whether that which is there will do.
func (s *Sink) create(ctx context.Context) error {
	type config struct {
		Name     string   `json:"name"`
		Subjects []string `json:"subjects"`
		Storage  string   `json:"storage"`
		Replicas int      `json:"num_replicas"`
		Atomic   bool     `json:"allow_atomic"`
		Keep     string   `json:"retention"`
	}
	var info struct{ Config config }
	var e *apiError
	err := s.api(ctx, "STREAM.INFO", struct{}{}, &info)
	if errors.As(err, &e) && e.Code == 404 {
		err = s.api(ctx, "STREAM.CREATE", config{Name: s.opts.Stream, Subjects: []string{s.prefix() + ".>"}, Storage: "file",
			Replicas: s.opts.Replicas, Atomic: true, Keep: "limits"}, &info)
		if errors.As(err, &e) {
			return fmt.Errorf("nats: make the stream %s: %w", s.opts.Stream, err)
		}
	}
	switch {
	case errors.As(err, &e):
		return fmt.Errorf("nats: look at the stream %s: %w", s.opts.Stream, err)
	case err != nil:
		return err
	case !info.Config.Atomic:
		return fmt.Errorf("nats: the stream %s does not take batches of messages as one; the server must be 2.12 or later, and the stream have allow_atomic "+
			"(nats stream edit %s --allow-batch)", s.opts.Stream, s.opts.Stream)
	case info.Config.Keep != "limits":
		return fmt.Errorf("nats: the stream %s has the retention %s, which deletes checkpoints; it must be limits", s.opts.Stream, info.Config.Keep)
	}
	return nil
}

// Checkpoint implements dfs.Sink. It writes the last checkpoint anew, under this
// sink's name, so that no other can go on from the one before.
func (s *Sink) Checkpoint(ctx context.Context) (at dfs.Checkpoint, err error) {
	if err := ctx.Err(); err != nil {
		return at, err
	}
	s.held, s.pend, s.skip, s.sent = false, nil, 0, 0
	s.enc.Reset()
	// What an Apply that was cut off has sent may be stored between the look and the
	// claim; behind the claim it is refused.
	var rec record
	for try := 0; ; try++ {
		if rec, err = s.claim(ctx); !errors.Is(err, dfs.ErrConflict) || try == 20 {
			break
		}
	}
	if err != nil {
		return at, err
	}
	at = dfs.Checkpoint{Seq: rec.Seq, Pos: dfs.Position(rec.Pos), State: s.state}
	s.seq, s.held = at.Seq, true
	return at, nil
}

// claim reads the last checkpoint and writes it anew under this sink's name. It
// returns dfs.ErrConflict if another came between.
func (s *Sink) claim(ctx context.Context) (rec record, err error) {
	last, rec, err := s.latest(ctx)
	if err == nil && last == 0 {
		err = s.fresh(ctx)
	}
	if err != nil {
		return rec, err
	}
	state, err := base64.StdEncoding.DecodeString(rec.State)
	if err != nil {
		return rec, fmt.Errorf("nats: the checkpoint in %s is damaged: %w", s.checkpoint(), err)
	}
	s.last, s.rec, s.state = last, rec, string(state)
	s.rec.Owner = nuid.Next()
	return rec, s.send(ctx, nil, s.rec)
}

// fresh refuses a stream that has had messages, and has no checkpoint.
func (s *Sink) fresh(ctx context.Context) error {
	var info struct {
		State struct {
			Last     uint64            `json:"last_seq"`
			Subjects map[string]uint64 `json:"subjects"`
		} `json:"state"`
	}
	if err := s.api(ctx, "STREAM.INFO", map[string]string{"subjects_filter": s.prefix() + "._checkpoint.>"}, &info); err != nil {
		return fmt.Errorf("nats: look at the stream %s: %w", s.opts.Stream, err)
	}
	if info.State.Last > 0 && len(info.State.Subjects) == 0 {
		return fmt.Errorf("nats: the stream %s has had messages, but has no checkpoint: its limits have deleted it, or these are another's; "+
			"choose another Name or Stream, or delete the stream to begin anew", s.opts.Stream)
	}
	return nil
}

// Apply implements dfs.Sink.
func (s *Sink) Apply(ctx context.Context, batch []*dfs.Transaction) (err error) {
	if err := ctx.Err(); err != nil || len(batch) == 0 {
		return err
	}
	if !s.held {
		return errors.New("nats: Checkpoint was not asked before Apply")
	}
	if batch[0].Seq != s.seq+1 {
		return fmt.Errorf("%w: transaction %d was published last, transaction %d was to follow", dfs.ErrConflict, s.seq, batch[0].Seq)
	}
	defer func() { s.held = s.held && err == nil }()
	msgs, rec := s.pend, s.rec // what waits, and the checkpoint that goes with it
	s.pend = nil
	whole := len(msgs) // of these, how many belong to parts: none is stored yet
	parts := whole > 0
	for i, tx := range batch {
		if tx.Seq != batch[0].Seq+uint64(i) {
			return fmt.Errorf("%w: transaction %d was given after %d", dfs.ErrGap, tx.Seq, batch[0].Seq+uint64(i)-1)
		}
		var own []*nats.Msg
		if err := s.enc.Encode(tx, func(m stream.Message) error {
			msg, err := s.message(&m, tx)
			own = append(own, msg)
			return err
		}); err != nil {
			return err
		}
		if s.sent == 0 && (len(own) > 0 || tx.More) {
			s.begin(tx)
		}
		before := s.sent
		s.sent += len(own)
		if s.skip > before { // stored before a crash
			own = own[min(s.skip-before, len(own)):]
		}
		if len(msgs) > 0 && !parts && len(msgs)+len(own)+1 > s.opts.MaxBatch {
			if err := s.send(ctx, msgs, rec); err != nil {
				return err
			}
			msgs = nil
		}
		parts = parts || tx.More
		msgs = append(msgs, own...)
		// What is too much for one batch is stored in several: the transaction is
		// then the only one in them.
		for len(msgs)+1 > s.opts.MaxBatch {
			n := s.opts.MaxBatch - 1
			rec.Partial, rec.Stored = s.tx, s.sent-(len(msgs)-n)
			if err := s.send(ctx, msgs[:n], rec); err != nil {
				return err
			}
			msgs = msgs[n:]
		}
		s.seq = tx.Seq
		if tx.More {
			continue
		}
		parts = false
		if tx.State != "" {
			s.state = tx.State
		}
		rec.Seq, rec.Pos, rec.ID, rec.State = tx.Seq, string(tx.Pos), tx.ID, base64.StdEncoding.EncodeToString([]byte(s.state))
		if s.sent > 0 {
			rec.Partial, rec.Stored = "", 0
		}
		s.sent, s.skip = 0, 0
	}
	if parts {
		// Whole transactions before them are stored, and the parts wait.
		return s.partsWait(ctx, batch, msgs, rec)
	}
	return s.send(ctx, msgs, rec)
}

// partsWait stores the transactions that are whole at the end of a batch, and keeps
// the messages of the parts behind them.
func (s *Sink) partsWait(ctx context.Context, batch []*dfs.Transaction, msgs []*nats.Msg, rec record) error {
	first := len(batch)
	for first > 0 && batch[first-1].More {
		first--
	}
	if first == 0 {
		s.pend = msgs
		return nil
	}
	n := len(msgs)
	for n > 0 && partOf(msgs[n-1]) > batch[first-1].Seq {
		n--
	}
	pend := msgs[n:]
	if err := s.send(ctx, msgs[:n], rec); err != nil {
		return err
	}
	s.pend = pend
	return nil
}

// partOf returns the number of the transaction or part that a message is of.
func partOf(m *nats.Msg) uint64 {
	seq, _, _ := strings.Cut(m.Header.Get("Dfs-Id"), ".")
	n, _ := strconv.ParseUint(seq, 10, 64)
	return n
}

// begin finds out whether some of a transaction is stored.
func (s *Sink) begin(tx *dfs.Transaction) {
	s.tx, s.skip = tx.ID, 0
	if tx.ID != "" && tx.ID == s.rec.Partial {
		s.skip = s.rec.Stored
	}
}

func (s *Sink) message(m *stream.Message, tx *dfs.Transaction) (*nats.Msg, error) {
	msg := nats.NewMsg(s.subject(m))
	msg.Data = m.Value
	msg.Header.Set("Dfs-Id", m.ID)
	if tx.ID != "" {
		msg.Header.Set("Dfs-Transaction", tx.ID)
	}
	if m.Key != nil {
		msg.Header.Set("Dfs-Key", string(m.Key))
	}
	for _, h := range m.Headers {
		msg.Header.Set(h[0], h[1])
	}
	return msg, s.fits(msg)
}

func (s *Sink) fits(m *nats.Msg) error {
	if n := int64(m.Size()) + 512; n > s.payload {
		return fmt.Errorf("nats: a message to %s has %d bytes, and the server takes %d: raise its max_payload, or leave columns out", m.Subject, n, s.payload)
	}
	return nil
}

// send stores messages and a checkpoint together.
func (s *Sink) send(ctx context.Context, msgs []*nats.Msg, rec record) error {
	b, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	last := nats.NewMsg(s.checkpoint())
	last.Data = b
	if err := s.fits(last); err != nil {
		return err
	}
	// Invariant I1: the batch is stored if the last checkpoint is still ours.
	last.Header.Set("Nats-Expected-Last-Subject-Sequence", strconv.FormatUint(s.last, 10))
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	id := nuid.Next()
	var size uint64
	for i, m := range append(msgs[:len(msgs):len(msgs)], last) {
		m.Header.Set("Nats-Batch-Id", id)
		m.Header.Set("Nats-Batch-Sequence", strconv.Itoa(i+1))
		size += uint64(len(m.Data))
		if i < len(msgs) {
			if i > 0 {
				if err := s.nc.PublishMsg(m); err != nil {
					return s.judge(ctx, "publish", err)
				}
				continue
			}
			// The first is answered, so that a refusal is known.
			answer, err := s.nc.RequestMsgWithContext(ctx, m)
			if err == nil {
				err = refused(answer.Data)
			}
			if err != nil {
				return s.answer(ctx, err)
			}
			continue
		}
		m.Header.Set("Nats-Batch-Commit", "1")
		answer, err := s.nc.RequestMsgWithContext(ctx, m)
		if err == nil {
			err = refused(answer.Data)
		}
		if err != nil {
			return s.answer(ctx, err)
		}
		var ack struct {
			Seq   uint64 `json:"seq"`
			Count int    `json:"count"`
		}
		if err := json.Unmarshal(answer.Data, &ack); err != nil || ack.Seq == 0 {
			return dfs.Transient(fmt.Errorf("nats: publish: the server answered %.200q", answer.Data))
		}
		s.last = ack.Seq
	}
	s.rec = rec
	s.messages.Add(uint64(len(msgs)))
	s.bytes.Add(size)
	return nil
}

func refused(data []byte) error {
	var e struct{ Error *apiError }
	if len(data) > 0 && json.Unmarshal(data, &e) == nil && e.Error != nil {
		return e.Error
	}
	return nil
}

// answer says what follows from a refusal.
func (s *Sink) answer(ctx context.Context, err error) error {
	var e *apiError
	if !errors.As(err, &e) {
		return s.judge(ctx, "publish", err)
	}
	err = fmt.Errorf("nats: publish to the stream %s: %w", s.opts.Stream, err)
	switch {
	case e.ErrCode == 10071 || e.ErrCode == 10164: // wrong last sequence
		return fmt.Errorf("%w: another process publishes as %q: %v", dfs.ErrConflict, s.opts.ID, e)
	case e.ErrCode == 10199:
		return fmt.Errorf("%w; set MaxBatch to that", err)
	case e.ErrCode == 10059, e.ErrCode == 10039: // the stream is gone; the account may not use JetStream
		return dfs.Standing(err)
	case e.Code >= 500, e.Code == 408, e.Code == 429, e.ErrCode == 10176: // 10176: part of the batch was lost on the way
		return dfs.Transient(err)
	}
	return err
}

// Stats returns what was published.
func (s *Sink) Stats() stream.Stats {
	return stream.Stats{Guarantee: stream.ExactlyOnce, Messages: s.messages.Load(), Bytes: s.bytes.Load()}
}

// Guarantee says in words what the target may be relied on for.
func (s *Sink) Guarantee() string {
	return "exactly once: messages and checkpoint are one atomic batch of the stream"
}

// Package kafka publishes transactions to Apache Kafka, each once: the checkpoint is
// a record of the same Kafka transaction as the messages.
package kafka

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/sink/stream"
)

// Options refine a Sink. The zero value of each field is the default.
type Options struct {
	// Options say how messages are written. Name, with which all topics begin, is
	// "dfs" by default: a row of shop.users goes to dfs.shop.users, the begin and end
	// of transactions to dfs.transaction, statements to dfs, and checkpoints to
	// dfs.checkpoint.
	stream.Options

	// ID is the pipeline's name: the transactional id of its producer, with "dfs-"
	// before it, and the key of its checkpoint. Two pipelines need two. Default:
	// Name.
	ID string

	// Partitions and Replicas are of topics that are made because they are missing;
	// the topics of transactions and checkpoints have one partition. Default: the
	// broker's.
	Partitions int32
	Replicas   int16

	// Timeout is how long a Kafka transaction may take before the broker aborts it,
	// and how long one Apply may wait for the broker. A transaction that travels in
	// parts must fit. It must not be more than the broker's
	// transaction.max.timeout.ms. Default: 1 minute.
	Timeout time.Duration

	// Client are further options of franz-go's client, such as for TLS and SASL.
	Client []kgo.Opt
}

// A Sink publishes to Kafka 2.5 or later.
//
// Guarantee: exactly once, for readers with isolation.level=read_committed. All
// messages of a batch of transactions, and the checkpoint, are one Kafka transaction.
// The producer's transactional id fences off a process that was thought dead. Others
// (read_uncommitted) also see what was aborted. Order is that of each partition:
// changes of one row, by its key, stay in order.
type Sink struct {
	brokers []string
	opts    Options
	enc     *stream.Encoder
	cl      *kgo.Client // of this session
	topics  map[string]bool
	open    bool   // a Kafka transaction is open, with parts
	at      uint64 // the last transaction that is committed
	seq     uint64 // of the last part
	state   string

	messages, bytes atomic.Uint64
}

var _ dfs.Sink = (*Sink)(nil)

// A record is what a checkpoint holds.
type record struct {
	Seq   uint64 `json:"seq"`
	Pos   string `json:"pos"`
	ID    string `json:"id,omitempty"`
	State string `json:"state,omitempty"` // base64
}

// Open returns a sink that publishes to the brokers ("host:port"). It looks for one
// of them, and makes the topic of checkpoints.
func Open(ctx context.Context, brokers []string, o *Options) (*Sink, error) {
	if o == nil {
		o = &Options{}
	}
	var errs []error
	if len(brokers) == 0 {
		errs = append(errs, errors.New("kafka: no broker: name at least one as host:port"))
	}
	if o.Timeout < 0 || o.Partitions < 0 || o.Replicas < 0 {
		errs = append(errs, errors.New("kafka: Timeout, Partitions and Replicas must not be negative: use 0 for the default"))
	}
	if err := errors.Join(append(errs, o.Options.Validate())...); err != nil {
		return nil, err
	}
	s := &Sink{brokers: brokers, opts: *o, topics: make(map[string]bool)}
	if s.opts.Name == "" {
		s.opts.Name = "dfs"
	}
	if s.opts.ID == "" {
		s.opts.ID = s.opts.Name
	}
	if s.opts.Timeout == 0 {
		s.opts.Timeout = time.Minute
	}
	var err error
	if s.enc, err = stream.NewEncoder(&s.opts.Options); err != nil {
		return nil, err
	}
	cl, err := s.client()
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	if err := cl.Ping(ctx); err != nil {
		return nil, s.judge("reach a broker of "+strings.Join(brokers, ", "), err)
	}
	return s, s.create(ctx, cl, s.checkpoints())
}

// Status reads where a pipeline stands, without taking part in it: see Open for the
// arguments.
func Status(ctx context.Context, brokers []string, o *Options) (at dfs.Checkpoint, id string, err error) {
	s := &Sink{brokers: brokers, opts: *o}
	s.opts.Name = cmp.Or(o.Name, "dfs")
	s.opts.ID = cmp.Or(o.ID, s.opts.Name)
	cl, err := s.client()
	if err != nil {
		return at, "", err
	}
	defer cl.Close()
	rec, _, err := s.last(ctx, cl)
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		return at, "", nil // not started yet
	}
	if err == nil {
		at, err = s.checkpoint(rec)
	}
	return at, rec.ID, err
}

func (s *Sink) checkpoints() string { return s.opts.Name + ".checkpoint" }

func (s *Sink) client(more ...kgo.Opt) (*kgo.Client, error) {
	list := append([]kgo.Opt{kgo.SeedBrokers(s.brokers...), kgo.ClientID("dfs")}, more...)
	cl, err := kgo.NewClient(append(list, s.opts.Client...)...)
	if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	return cl, nil
}

// create makes a topic that is missing.
func (s *Sink) create(ctx context.Context, cl *kgo.Client, name string) error {
	if s.topics[name] {
		return nil
	}
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = name, -1, -1
	if s.opts.Partitions > 0 {
		t.NumPartitions = s.opts.Partitions
	}
	if s.opts.Replicas > 0 {
		t.ReplicationFactor = s.opts.Replicas
	}
	if name == s.checkpoints() || name == s.opts.Name+".transaction" {
		t.NumPartitions = 1
	}
	if name == s.checkpoints() {
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		c.Name, c.Value = "cleanup.policy", kmsg.StringPtr("compact")
		t.Configs = append(t.Configs, c)
	}
	r := kmsg.NewPtrCreateTopicsRequest()
	r.Topics, r.TimeoutMillis = append(r.Topics, t), 15000
	answer, err := r.RequestWith(ctx, cl)
	if err != nil {
		return s.judge("make the topic "+name, err)
	}
	for _, t := range answer.Topics {
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			return s.judge("make the topic "+name+" (make it by hand if this account may not)", err)
		}
	}
	s.topics[name] = true
	return nil
}

// Close ends the producer. A Kafka transaction that is open is aborted by the next,
// or by the broker in time.
func (s *Sink) Close() error {
	if s.cl != nil {
		s.cl.Close()
		s.cl = nil
	}
	return nil
}

// Checkpoint implements dfs.Sink. It makes this the only producer of its
// transactional id, so that whatever another has begun is settled, and then reads
// the last checkpoint that is committed.
func (s *Sink) Checkpoint(ctx context.Context) (at dfs.Checkpoint, err error) {
	if err := ctx.Err(); err != nil {
		return at, err
	}
	s.Close()
	s.enc.Reset()
	s.open = false
	cl, err := s.client(kgo.TransactionalID("dfs-"+s.opts.ID), kgo.TransactionTimeout(s.opts.Timeout),
		kgo.RecordDeliveryTimeout(s.opts.Timeout), kgo.ProducerLinger(0), kgo.MaxBufferedRecords(100_000))
	if err != nil {
		return at, err
	}
	defer func() {
		if err != nil {
			cl.Close()
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	if _, _, err := cl.ProducerID(ctx); err != nil {
		return at, s.judge("begin as a transactional producer", err)
	}
	if err := s.settle(ctx, cl); err != nil {
		return at, err
	}
	rec, found, err := s.last(ctx, cl)
	if err != nil {
		return at, err
	}
	if !found {
		if rec, err = s.first(ctx, cl); err != nil {
			return at, err
		}
	}
	if at, err = s.checkpoint(rec); err != nil {
		return at, err
	}
	s.cl, s.at, s.seq, s.state = cl, at.Seq, at.Seq, at.State
	return at, nil
}

func (s *Sink) checkpoint(rec record) (dfs.Checkpoint, error) {
	state, err := base64.StdEncoding.DecodeString(rec.State)
	if err != nil {
		return dfs.Checkpoint{}, fmt.Errorf("kafka: the checkpoint in %s is damaged: %w", s.checkpoints(), err)
	}
	return dfs.Checkpoint{Seq: rec.Seq, Pos: dfs.Position(rec.Pos), State: string(state)}, nil
}

// offsets returns where a partition of a topic begins or ends, as far as
// transactions are settled.
func offsets(ctx context.Context, cl *kgo.Client, topic string, partition int32, at int64) (int64, error) {
	const readCommitted = 1
	return offsetsAs(ctx, cl, topic, partition, at, readCommitted)
}

func offsetsAs(ctx context.Context, cl *kgo.Client, topic string, partition int32, at int64, isolation int8) (int64, error) {
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.Partition, p.Timestamp = partition, at // -1: the end, -2: the beginning
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic, t.Partitions = topic, append(t.Partitions, p)
	r := kmsg.NewPtrListOffsetsRequest()
	r.ReplicaID, r.IsolationLevel, r.Topics = -1, isolation, append(r.Topics, t)
	answer, err := r.RequestWith(ctx, cl)
	if err != nil {
		return 0, err
	}
	for _, t := range answer.Topics {
		for _, p := range t.Partitions {
			return p.Offset, kerr.ErrorForCode(p.ErrorCode)
		}
	}
	return 0, errors.New("the broker did not say where it ends")
}

// settle waits until no transaction is open that has a checkpoint which is there now.
// Pipelines of one Name share the topic, and those who read what is committed see
// nothing behind the first record of an open transaction: while another pipeline's hangs,
// as its process was killed, our last checkpoint could not be seen, and what it
// covers would be published again.
func (s *Sink) settle(ctx context.Context, cl *kgo.Client) error {
	topic := s.checkpoints()
	const readUncommitted = 0
	high, err := offsetsAs(ctx, cl, topic, 0, -1, readUncommitted)
	for err == nil {
		var end int64
		if end, err = offsets(ctx, cl, topic, 0, -1); err == nil && end >= high {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return dfs.Transient(fmt.Errorf("kafka: another pipeline has a transaction open that holds %s from offset %d on; "+
				"it ends when that pipeline goes on, or by its timeout: %w", topic, end, ctx.Err()))
		}
	}
	return s.judge("look at "+topic, err)
}

// first returns the checkpoint to begin with where none was seen: that of nothing, if
// nothing was published, or that of a process which has published since, and by that
// made this one lose its place, as its Apply will tell. Messages without a checkpoint
// are an error.
func (s *Sink) first(ctx context.Context, cl *kgo.Client) (rec record, err error) {
	some, err := s.some(ctx, cl)
	if err != nil || !some {
		return rec, err
	}
	// A commit shows in one topic before it does in another. What has a message
	// that is committed has its checkpoint in the log, so it is seen once no
	// transaction is open there.
	if err := s.settle(ctx, cl); err != nil {
		return rec, err
	}
	rec, found, err := s.last(ctx, cl)
	if err == nil && !found {
		err = fmt.Errorf("kafka: the topic %s.transaction holds messages, and %s no checkpoint of %q: it was deleted, or these are another's; "+
			"choose another Name or ID, or delete both topics to begin anew", s.opts.Name, s.checkpoints(), s.opts.ID)
	}
	return rec, err
}

// some reports whether there are messages of transactions.
func (s *Sink) some(ctx context.Context, cl *kgo.Client) (bool, error) {
	topic := s.opts.Name + ".transaction"
	if s.opts.NoTransactions {
		return false, nil
	}
	if err := s.create(ctx, cl, topic); err != nil {
		return false, err
	}
	end, err := offsets(ctx, cl, topic, 0, -1)
	if err != nil {
		return false, s.judge("look at "+topic, err)
	}
	begin, err := offsets(ctx, cl, topic, 0, -2)
	if err != nil {
		return false, s.judge("look at "+topic, err)
	}
	if begin == end {
		return end > 0, nil
	}
	// What was aborted counts among the offsets.
	_, found, err := s.read(ctx, topic, begin, end, "")
	return found, err
}

// last returns the latest checkpoint. It looks at the end of the topic first.
func (s *Sink) last(ctx context.Context, cl *kgo.Client) (rec record, found bool, err error) {
	topic := s.checkpoints()
	end, err := offsets(ctx, cl, topic, 0, -1)
	if err == nil {
		var begin int64
		if begin, err = offsets(ctx, cl, topic, 0, -2); err == nil {
			for n := int64(100); ; n *= 20 {
				from := max(begin, end-n)
				var b []byte
				if b, found, err = s.read(ctx, topic, from, end, s.opts.ID); err != nil {
					return rec, false, err
				}
				if found {
					if err := json.Unmarshal(b, &rec); err != nil {
						return rec, false, fmt.Errorf("kafka: the checkpoint in %s is damaged: %w", topic, err)
					}
					return rec, true, nil
				}
				if from == begin {
					return rec, false, nil
				}
			}
		}
	}
	return rec, false, s.judge("read "+topic, err)
}

// read returns the last committed record of a key, or of any, between two offsets of
// a topic's only partition.
func (s *Sink) read(ctx context.Context, topic string, from, end int64, key string) (value []byte, found bool, err error) {
	if from >= end {
		return nil, false, nil
	}
	cl, err := s.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(from)}}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	if err != nil {
		return nil, false, err
	}
	defer cl.Close()
	for next := from; next < end; {
		fetches := cl.PollFetches(ctx)
		for _, e := range fetches.Errors() {
			return nil, false, s.judge("read "+topic, e.Err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			next = r.Offset + 1
			if r.Offset < end && !r.Attrs.IsControl() && (key == "" || string(r.Key) == key) {
				value, found = r.Value, true
			}
		})
		if err := ctx.Err(); err != nil {
			return nil, false, s.judge("read "+topic, err)
		}
	}
	return value, found, nil
}

// Apply implements dfs.Sink.
func (s *Sink) Apply(ctx context.Context, batch []*dfs.Transaction) (err error) {
	if err := ctx.Err(); err != nil || len(batch) == 0 {
		return err
	}
	if s.cl == nil {
		return errors.New("kafka: Checkpoint was not asked before Apply")
	}
	if batch[0].Seq != s.seq+1 {
		return fmt.Errorf("%w: transaction %d was published last, transaction %d was to follow", dfs.ErrConflict, s.seq, batch[0].Seq)
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	defer func() {
		if err != nil {
			// What was begun is aborted by the next Checkpoint, which also finds out
			// whether a commit whose answer was lost has succeeded.
			s.Close()
		}
	}()
	whole := 0
	for i, tx := range batch {
		if tx.Seq != batch[0].Seq+uint64(i) {
			return fmt.Errorf("%w: transaction %d was given after %d", dfs.ErrGap, tx.Seq, batch[0].Seq+uint64(i)-1)
		}
		if !tx.More {
			whole = i + 1
		}
	}
	if whole > 0 {
		if err := s.publish(ctx, batch[:whole], true); err != nil {
			return err
		}
	}
	if whole < len(batch) {
		return s.publish(ctx, batch[whole:], false)
	}
	return nil
}

// publish produces the messages of transactions, and commits unless they are parts
// whose end is to come.
func (s *Sink) publish(ctx context.Context, batch []*dfs.Transaction, commit bool) error {
	if !s.open {
		if err := s.cl.BeginTransaction(); err != nil {
			return s.judge("begin a transaction", err)
		}
		s.open = true
	}
	var first atomic.Pointer[error]
	promise := func(_ *kgo.Record, err error) {
		if err != nil {
			first.CompareAndSwap(nil, &err)
		}
	}
	var n, size uint64
	for _, tx := range batch {
		err := s.enc.Encode(tx, func(m stream.Message) error {
			if err := s.create(ctx, s.cl, m.Topic); err != nil {
				return err
			}
			r := &kgo.Record{Topic: m.Topic, Key: m.Key, Value: m.Value, Timestamp: tx.Committed,
				Headers: []kgo.RecordHeader{{Key: "dfs-id", Value: []byte(m.ID)}}}
			for _, h := range m.Headers {
				r.Headers = append(r.Headers, kgo.RecordHeader{Key: h[0], Value: []byte(h[1])})
			}
			n, size = n+1, size+uint64(len(m.Value))
			s.cl.Produce(ctx, r, promise)
			return nil
		})
		if err != nil {
			return err
		}
		if tx.State != "" {
			s.state = tx.State
		}
		s.seq = tx.Seq
	}
	if commit {
		last := batch[len(batch)-1]
		b, err := json.Marshal(record{Seq: last.Seq, Pos: string(last.Pos), ID: last.ID, State: base64.StdEncoding.EncodeToString([]byte(s.state))})
		if err != nil {
			return err
		}
		s.cl.Produce(ctx, &kgo.Record{Topic: s.checkpoints(), Partition: 0, Key: []byte(s.opts.ID), Value: b}, promise)
	}
	if err := s.cl.Flush(ctx); err != nil {
		return s.judge("publish", err)
	}
	if err := first.Load(); err != nil {
		return s.judge("publish", *err)
	}
	if commit {
		// Invariant I1: messages and checkpoint are one Kafka transaction.
		if err := s.cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
			return s.judge("commit", err)
		}
		s.open, s.at = false, batch[len(batch)-1].Seq
	}
	s.messages.Add(n)
	s.bytes.Add(size)
	return nil
}

// judge says what was being done, and whether an error may pass.
func (s *Sink) judge(doing string, err error) error {
	if err == nil {
		return nil
	}
	text := fmt.Errorf("kafka: %s: %w", doing, err)
	switch {
	case errors.Is(err, kerr.ProducerFenced), errors.Is(err, kerr.InvalidProducerEpoch), errors.Is(err, kerr.TransactionCoordinatorFenced):
		return fmt.Errorf("%w: another process publishes as %q: %v", dfs.ErrConflict, s.opts.ID, err)
	case errors.Is(err, kerr.MessageTooLarge):
		return fmt.Errorf("%w; raise max.message.bytes of the topic and the client's ProducerBatchMaxBytes", text)
	case errors.Is(err, context.Canceled):
		return text
	}
	if e := (*kerr.Error)(nil); errors.As(err, &e) && !e.Retriable {
		switch e {
		case kerr.InvalidTxnState, kerr.InvalidProducerIDMapping, kerr.UnknownProducerID, kerr.OutOfOrderSequenceNumber, kerr.TransactionAbortable:
			// The transaction has ended, by its timeout for example.
		case kerr.RecordListTooLarge, kerr.InvalidRecord, kerr.InvalidTimestamp:
			return text
		default:
			return dfs.Standing(text) // such as a right that is missing
		}
	}
	return dfs.Transient(text)
}

// Stats returns what was published.
func (s *Sink) Stats() stream.Stats {
	return stream.Stats{Guarantee: stream.ExactlyOnce, Messages: s.messages.Load(), Bytes: s.bytes.Load()}
}

// Guarantee says in words what the target may be relied on for.
func (s *Sink) Guarantee() string {
	return "exactly once, for readers with isolation.level=read_committed"
}

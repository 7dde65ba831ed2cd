package cli

import (
	"cmp"
	"context"
	"io"
	"os"
	"strings"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/checkfile"
	"github.com/dataflowsync/dfs/internal/config"
	"github.com/dataflowsync/dfs/sink"
	"github.com/dataflowsync/dfs/sink/kafka"
	"github.com/dataflowsync/dfs/sink/nats"
	"github.com/dataflowsync/dfs/sink/stream"
	"github.com/dataflowsync/dfs/sink/webhook"
)

// messages is a target that takes messages. It has no tables, so that there is
// nothing to look at before it runs.
type messages struct {
	messageSink
	c    *config.Config
	lane string
}

// A messageSink is any sink of messages.
type messageSink interface {
	dfs.Sink
	io.Closer
	Guarantee() string
}

// openMessages opens the stream that the file names.
func openMessages(ctx context.Context, c *config.Config) (*messages, error) {
	s := &c.Target.Stream
	var to messageSink
	var err error
	switch s.Kind() {
	case config.StreamStdout:
		to, err = stream.OpenWriter(os.Stdout, s.Checkpoint, ptr(s.Options()))
	case config.StreamWebhook:
		to, err = webhook.Open(s.Place(), &webhook.Options{Options: s.Options(), Checkpoint: s.Checkpoint, Secret: []byte(s.Secret), Timeout: s.Timeout})
	case config.StreamKafka:
		to, err = kafka.Open(ctx, strings.Split(s.Place(), ","), &kafka.Options{Options: s.Options(), ID: c.Name,
			Partitions: int32(s.Partitions), Replicas: int16(s.Replicas), Timeout: s.Timeout})
	case config.StreamNATS:
		to, err = nats.Open(ctx, s.Place(), &nats.Options{Options: s.Options(), ID: c.Name, Replicas: s.Replicas, Timeout: s.Timeout})
	default:
		to, err = stream.OpenFile(s.Place(), &stream.FileOptions{Options: s.Options(), Checkpoint: s.Checkpoint,
			MaxBytes: int64(s.MaxBytes), MaxAge: s.MaxAge, Keep: s.Keep})
	}
	if err != nil {
		return nil, err
	}
	return &messages{messageSink: to, c: c, lane: "messages, " + to.Guarantee()}, nil
}

func ptr[T any](v T) *T { return &v }

// Stats says how rows go.
func (m *messages) Stats() sink.Stats { return sink.Stats{Lane: m.lane} }

// Stored returns the checkpoint without taking anything over.
func (m *messages) Stored(ctx context.Context) (dfs.Checkpoint, error) {
	at, _, err := storedMessages(ctx, m.c)
	return at, err
}

// The rest is what a target with tables could tell.
func (m *messages) Fresh(context.Context) (bool, error)                         { return false, nil }
func (m *messages) Missing(context.Context, []*dfs.Table) ([]*dfs.Table, error) { return nil, nil }
func (m *messages) MissingColumns(*dfs.Table) []string                          { return nil }
func (m *messages) Notes(context.Context, *dfs.Table) ([]string, error)         { return nil, nil }
func (m *messages) CheckTables(context.Context, []*dfs.Table) error             { return nil }
func (m *messages) CheckEmpty(context.Context, []*dfs.Table) error              { return nil }
func (m *messages) AddIndexes(context.Context) error                            { return nil }
func (m *messages) DDLPolicies(string, string) map[string]sink.Policy           { return nil }
func (m *messages) CheckForeignKeys(context.Context, []sink.ForeignKey) ([]string, error) {
	return nil, nil
}
func (m *messages) CreateTables(context.Context, []sink.Definition, bool) (made, notes []string, err error) {
	return nil, nil, nil
}

// storedMessages reads how far messages have come, where that is kept, without
// disturbing a pipeline that runs.
func storedMessages(ctx context.Context, c *config.Config) (at dfs.Checkpoint, r checkfile.Record, err error) {
	s := &c.Target.Stream
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	mark := s.Checkpoint
	switch s.Kind() {
	case config.StreamKafka:
		at, r.ID, err = kafka.Status(ctx, strings.Split(s.Place(), ","), &kafka.Options{Options: s.Options(), ID: c.Name})
		return at, r, err
	case config.StreamNATS:
		at, r.ID, err = nats.Status(ctx, s.Place(), &nats.Options{Options: s.Options(), ID: c.Name})
		return at, r, err
	case config.StreamFile:
		mark = cmp.Or(mark, s.Place()+".checkpoint")
	}
	if mark == "" {
		return at, r, nil // standard output without one
	}
	r, state, err := checkfile.Read(mark)
	return dfs.Checkpoint{Seq: r.Seq, Pos: dfs.Position(r.Pos), State: state}, r, err
}

// readMessages is readTarget for messages.
func readMessages(ctx context.Context, c *config.Config, t *targetState) {
	t.Product = map[string]string{
		config.StreamKafka: "messages in Kafka, exactly once", config.StreamNATS: "messages in NATS, exactly once",
		config.StreamStdout: "messages, at least once", config.StreamWebhook: "messages by HTTP, at least once",
		config.StreamFile: "messages in files, exactly once",
	}[c.Target.Stream.Kind()]
	at, r, err := storedMessages(ctx, c)
	if err != nil {
		t.Error = err.Error()
		return
	}
	t.Seq, t.Position, t.ID = at.Seq, string(at.Pos), r.ID
	if !r.Committed.IsZero() {
		t.Committed = &r.Committed
	}
	if !r.Written.IsZero() {
		t.Updated, t.Age = &r.Written, ago(max(time.Since(r.Written), 0))
	}
}

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
	return &messages{messageSink: to, lane: "messages, " + to.Guarantee()}, nil
}

func ptr[T any](v T) *T { return &v }

// Stats says how rows go.
func (m *messages) Stats() sink.Stats { return sink.Stats{Lane: m.lane} }

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

// readMessages reads how far messages have come, where that is kept.
func readMessages(ctx context.Context, c *config.Config, t *targetState) {
	s := &c.Target.Stream
	var r checkfile.Record
	var err error
	switch s.Kind() {
	case config.StreamKafka:
		t.Product = "messages in Kafka, exactly once"
		var at dfs.Checkpoint
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		at, r.ID, err = kafka.Status(ctx, strings.Split(s.Place(), ","), &kafka.Options{Options: s.Options(), ID: c.Name})
		r.Seq, r.Pos = at.Seq, string(at.Pos)
	case config.StreamNATS:
		t.Product = "messages in NATS, exactly once"
		var at dfs.Checkpoint
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		at, r.ID, err = nats.Status(ctx, s.Place(), &nats.Options{Options: s.Options(), ID: c.Name})
		r.Seq, r.Pos = at.Seq, string(at.Pos)
	case config.StreamStdout:
		t.Product = "messages, at least once"
		r, _, err = checkfile.Read(s.Checkpoint)
	case config.StreamWebhook:
		t.Product = "messages by HTTP, at least once"
		r, _, err = checkfile.Read(s.Checkpoint)
	default:
		t.Product = "messages in files, exactly once"
		r, _, err = checkfile.Read(cmp.Or(s.Checkpoint, s.Place()+".checkpoint"))
	}
	if err != nil {
		t.Error = err.Error()
		return
	}
	t.Seq, t.Position, t.ID = r.Seq, r.Pos, r.ID
	if !r.Committed.IsZero() {
		t.Committed = &r.Committed
	}
	if !r.Written.IsZero() {
		t.Updated, t.Age = &r.Written, ago(max(time.Since(r.Written), 0))
	}
}

package config

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTargetsBecomeOneConfigEach(t *testing.T) {
	c, err := parse(`name: shop
source: {dsn: "dfs:${PW}@tcp(db1:3306)/", tables: ["shop.*"]}
queue: {path: shop.queue, max_target: 1GiB, warn: 10MiB}
monitor: {}
targets:
  - {name: copy, checkpoint: shop, host: db2, user: dfs, tls: {server_name: db2}}
  - name: reports
    tables: shop.orders
    dsn: dfs:x@tcp(db3:3306)/
    ddl: ignore
    units: [{from: shop.orders, drop: [note]}]
`)
	require.NoError(t, err)
	require.True(t, c.Several())
	require.Equal(t, []string{"copy", "reports"}, c.Readers())
	require.Equal(t, "127.0.0.1:8080", c.Monitor.Listen)
	lines := c.Lines()
	require.Equal(t, "shop", lines[0].Name)
	require.Equal(t, "db2:3306", lines[0].Target.Address())
	require.Equal(t, []string{"shop.*"}, lines[0].Source.Tables)
	require.Equal(t, "shop.reports", lines[1].Name)
	require.Equal(t, "db3:3306", lines[1].Target.Address())
	require.Equal(t, []string{"shop.orders"}, lines[1].Source.Tables)
	require.Equal(t, []DDLRule{{Policy: "ignore"}}, lines[1].Target.DDL)
	require.Len(t, lines[1].Units, 1)
	require.Equal(t, "/etc/dfs/dfs.yaml:11", lines[1].Where("units[0].from"))
	require.Equal(t, "/etc/dfs/dfs.yaml:8", lines[1].Where("source.tables[0]"))
	require.Equal(t, "/etc/dfs/shop.queue", lines[1].Queue.Path)
	require.Equal(t, c.Queue, lines[1].Queue)
	require.Contains(t, c.Secrets(), "x")
	one, err := c.Named("reports")
	require.NoError(t, err)
	require.Same(t, lines[1], one)
	_, err = c.Named("none")
	require.EqualError(t, err, `no target is called "none"; they are copy, reports`)
}

func TestMistakesInTargetsHaveTheirLines(t *testing.T) {
	_, err := parse(`source: {dsn: "dfs:x@tcp(db1:3306)/", start: never}
target: {dsn: "dfs:x@tcp(db1:3306)/"}
queue: {path: q, max_target: 2GiB, max_bytes: 1GiB}
units: [{from: a.b}]
targets:
  - {host: db2, user: dfs}
  - {name: a, dsn: "dfs:x@tcp(db3:3306)/", ddl: perhaps}
  - {name: a, dsn: "dfs:x@tcp(db3:3306)/", tables: [orders]}
  - {name: d, dsn: "dfs:x@tcp(db3:3306)/", units: [{from: orders}]}
`)
	require.EqualError(t, err, `/etc/dfs/dfs.yaml:1: source.start is "never"; want now, earliest, gtid:SET or file:NAME:POSITION
/etc/dfs/dfs.yaml:2: target stands beside targets; put it under each of the targets that it is for
/etc/dfs/dfs.yaml:3: queue.max_target must be less than queue.max_bytes, or reading waits before a target is given up
/etc/dfs/dfs.yaml:4: units stands beside targets; put it under each of the targets that it is for
/etc/dfs/dfs.yaml:6: targets[0] has no name; give it one, under which it reads the queue
/etc/dfs/dfs.yaml:7: target.ddl[0] is "perhaps"; want apply, try, ignore or error
/etc/dfs/dfs.yaml:8: targets has the name "a" twice; give each its own
/etc/dfs/dfs.yaml:9: units[0].from: "orders" names no table: write it as "schema.table", where either may hold * and ?, such as "shop.*"`)

	_, err = parse(`source: {dsn: "dfs:x@tcp(db1:3306)/"}
targets:
`)
	require.ErrorContains(t, err, "dfs.yaml:2: targets need a queue")
	_, err = parse(minimal + "queue: {path: q, warn: 1GiB}\n")
	require.ErrorContains(t, err, "queue.warn is for several targets")
}

func TestStreamsStandForTargets(t *testing.T) {
	const source = "source: {dsn: \"dfs:x@tcp(db1:3306)/\"}\n"
	for text, want := range map[string][3]string{
		"target: stdout":                     {StreamStdout, "", "standard output"},
		"target: file:///var/changes.ndjson": {StreamFile, "/var/changes.ndjson", "/var/changes.ndjson"},
		"target: {stream: {to: changes.ndjson, max_age: 1h, keep: 3}}":                     {StreamFile, "/etc/dfs/changes.ndjson", "/etc/dfs/changes.ndjson"},
		"target: kafka://a:9092,b:9092":                                                    {StreamKafka, "a:9092,b:9092", "kafka a:9092,b:9092"},
		"target: nats://u:pw1@host:4222":                                                   {StreamNATS, "nats://u:pw1@host:4222", "nats://host:4222"},
		"target: {stream: {to: \"https://u:pw1@host/p?token=tk\", checkpoint: hook.mark}}": {StreamWebhook, "https://u:pw1@host/p?token=tk", "https://host/p"},
	} {
		c, err := parse(source + text + "\n")
		require.NoError(t, err, text)
		require.Equal(t, StreamTarget, c.Target.Kind(), text)
		require.Equal(t, want, [3]string{c.Target.Stream.Kind(), c.Target.Stream.Place(), c.Target.String()}, text)
		require.NotContains(t, c.Target.String(), "pw1")
	}
	_, err := parse(source + `target:
  host: db2
  stream:
    to: ftp://x
    format: xml
    schemas: true
    secret: x
    partitions: 3
    keep: 1
`)
	require.EqualError(t, err, `/etc/dfs/dfs.yaml:3: target has both stream and host, which is for a database; leave one out
/etc/dfs/dfs.yaml:5: target.stream.to has a scheme that is not known; want a path, stdout, https://host/path, nats://host:port or kafka://host:port
/etc/dfs/dfs.yaml:6: target.stream.format is "xml"; want json or debezium
/etc/dfs/dfs.yaml:7: target.stream.schemas is for the format debezium; leave it out
/etc/dfs/dfs.yaml:8: target.stream.secret is for webhook; leave it out
/etc/dfs/dfs.yaml:9: target.stream.partitions is for kafka; leave it out
/etc/dfs/dfs.yaml:10: target.stream.keep needs max_bytes or max_age: without them there is one file`)
	_, err = parse(source + "target: {stream: {to: https://host/}}\n")
	require.ErrorContains(t, err, "target.stream.checkpoint is missing")
}

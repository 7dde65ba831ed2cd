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

package config

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dataflowsync/dfs/dpu"
	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"
)

var env = map[string]string{
	"PW":    "s3cret:@/?()#ü$",
	"EMPTY": "",
	"HOST":  "db.internal",
}

func lookup(name string) (string, bool) {
	v, ok := env[name]
	return v, ok
}

func parse(text string) (*Config, error) {
	return Parse("/etc/dfs/dfs.yaml", []byte(text), lookup)
}

const minimal = `source:
  dsn: dfs:pw@tcp(127.0.0.1:3306)/
target:
  dsn: dfs:pw@tcp(127.0.0.1:3307)/
`

func TestParseReadsEveryKindOfValue(t *testing.T) {
	c, err := parse(`
name: shop
source:
  host: ${HOST}
  port: 3310
  user: reader
  password: ${PW}
  tables: ["shop.*", crm.people]
  read_timeout: 30s
  start: gtid:3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5
  server_id: 4000000000
  heartbeat: 500ms
  max_part: 2MiB
queue:
  path: shop.queue
  max_bytes: 1.5GB
  keep_for: 7d
target:
  socket: /run/mysqld/mysqld.sock
  user: writer
  password: 007
  checkpoint_schema: ${EMPTY:-meta}
  routes:
    - {from: shop.users, to: crm.people}
    - {from: "*.*", to: "copy.*"}
  conflicts:
    - {tables: "shop.*", policy: overwrite}
  ddl:
    - {kinds: [drop *, truncate table], tables: "shop.*", policy: error}
    - {kinds: create database, policy: ignore}
    - apply
pipeline:
  stop_timeout: 1m
log: {format: json, level: debug, every: -1s}
`)
	require.NoError(t, err)
	require.Equal(t, "shop", c.Name)
	require.Equal(t, []string{"shop.*", "crm.people"}, c.Source.Tables)
	require.Equal(t, 30*time.Second, c.Source.ReadTimeout)
	require.Equal(t, uint32(4000000000), c.Source.ServerID)
	require.Equal(t, 500*time.Millisecond, c.Source.Heartbeat)
	require.Equal(t, Size(2<<20), c.Source.MaxPart)
	require.Equal(t, "/etc/dfs/shop.queue", c.Queue.Path)
	require.Equal(t, Size(1500000000), c.Queue.MaxBytes)
	require.Equal(t, 7*24*time.Hour, c.Queue.KeepFor)
	require.Equal(t, "meta", c.Target.Schema)
	require.Equal(t, Route{"*.*", "copy.*"}, c.Target.Routes[1])
	require.Equal(t, "overwrite", c.Target.Conflicts[0].Policy)
	require.Equal(t, []DDLRule{
		{Tables: "shop.*", Kinds: []string{"drop *", "truncate table"}, Policy: "error"},
		{Kinds: []string{"create database"}, Policy: "ignore"}, {Policy: "apply"},
	}, c.Target.DDL)
	require.Equal(t, time.Minute, c.Pipeline.StopTimeout)
	require.Equal(t, -time.Second, c.Log.Every)
	require.Equal(t, "/etc/dfs/dfs.yaml:8", c.Where("source.tables[0]"))

	source, err := mysql.ParseDSN(c.SourceDSN())
	require.NoError(t, err)
	require.Equal(t, env["PW"], source.Passwd)
	require.Equal(t, "db.internal:3310", source.Addr)
	target, err := mysql.ParseDSN(c.TargetDSN())
	require.NoError(t, err)
	require.Equal(t, "007", target.Passwd)
	require.Equal(t, "unix", target.Net)
}

func TestEachMistakeIsToldOnceWithItsLine(t *testing.T) {
	const head = "target:\n  dsn: u:p@tcp(h:1)/\nsource:\n  dsn: u:p@tcp(h:1)/\n"
	for _, test := range []struct{ name, text, want string }{
		{"a key that is misspelled", head + "  tabels: [a.b]\n",
			`5: unknown key "tabels" under source; did you mean tables?`},
		{"a key in camel case", head + "  serverId: 3\n",
			`5: unknown key "serverId" under source; did you mean server_id?`},
		{"a route to no certain name", "source:\n  dsn: u:p@tcp(h:1)/\ntarget:\n  dsn: u:p@tcp(h:1)/\n  routes:\n    - {from: a.b, to: c.d*}\n",
			`6: target.routes[0].to is "c.d*"; want schema.table, where a * stands alone, for the source's own name`},
		{"a conflict policy that leaves tables out", "source:\n  dsn: u:p@tcp(h:1)/\n  tables: [\"!a.b\"]\ntarget:\n  dsn: u:p@tcp(h:1)/\n  conflicts:\n    - {tables: \"!a.b\", policy: ignore}\n",
			`7: target.conflicts[0].tables is "!a.b"; want schema.table, such as "shop.orders" or "shop.*"`},
		{"a journal without a file", head + "journal: {level: all}\n",
			`5: journal.path is missing; name the file, or leave the whole journal out`},
		{"a journal of no level", head + "journal:\n  path: x\n  level: some\n",
			`7: journal.level is "some"; want errors, sampled or all`},
		{"a mask of no column", head + "journal:\n  path: x\n  mask: [\"*.password\"]\n",
			`7: journal.mask[0] is "*.password"; want schema.table.column, such as shop.users.phone or "*.*.password"`},
		{"a key of another place", head + "routes: []\n",
			`5: unknown key "routes"; did you mean target.routes?`},
		{"a section that is indented", head + "  queue: {path: x}\n",
			`5: unknown key "queue" under source; did you mean queue at the left margin?`},
		{"a key that is nowhere", head + "queue: {path: x, colour: red}\n",
			`5: unknown key "colour" under queue; the keys here are keep, keep_for, max_bytes, max_target, path, warn`},
		{"a key that is there twice", head + "name: a\nname: b\n",
			`6: name is there twice, first on line 5`},
		{"a list for a single value", head + "name: [a]\n",
			`5: name takes one value, not a list`},
		{"a value for a section", head + "queue: shop.queue\n",
			`5: queue holds keys (keep, keep_for, max_bytes, max_target, path, warn), not one value`},
		{"a duration without a unit", head + "  heartbeat: 10\n",
			`5: source.heartbeat is "10"; want a duration such as 500ms, 10s, 24h or 7d`},
		{"a size that is none", head + "queue: {path: x, keep: lots}\n",
			`5: queue.keep is "lots"; want a size such as 512MiB or 10GB`},
		{"a switch that is none", "source:\n  dsn: u:p@tcp(h:1)/\ntarget:\n  dsn: u:p@tcp(h:1)/\n  sql_only: yes\n",
			`5: target.sql_only is "yes"; want true or false`},
		{"a number out of range", head + "  server_id: 4294967296\n",
			`5: source.server_id is "4294967296"; want a whole number from 0 to 4294967295`},
		{"a variable that is not set", head + "name: ${NOPE}\n",
			`5: name: environment variable NOPE is not set; set it, or write ${NOPE:-default}`},
		{"a variable that is not closed", head + "name: ${NOPE\n",
			`5: name: write ${NAME} or ${NAME:-default} for an environment variable, and $$ for a dollar sign`},
		{"a star that is not quoted", head + "  tables: [*.*]\n",
			`5: a value that begins with * or & must be quoted: "*.*"`},
		{"an exclamation mark that is not quoted", head + "  tables: [!shop.x]\n",
			`4: did not find expected ',' or ']'; if a value begins with ! * or &, quote it: "!shop.tmp_*"`},
		{"an exclamation mark in a list of lines", head + "  tables:\n    - !shop.x\n",
			`6: source.tables[0]: a value that begins with ! must be quoted`},
		{"one value where a list may stand", head + "  tables: orders\n",
			`5: source.tables[0] is "orders"; want schema.table, such as "shop.orders" or "shop.*"`},
		{"a pattern without a schema", head + "  tables: [orders]\n",
			`5: source.tables[0] is "orders"; want schema.table, such as "shop.orders" or "shop.*"`},
		{"a start that is none", head + "  start: yesterday\n",
			`5: source.start is "yesterday"; want now, earliest, gtid:SET or file:NAME:POSITION`},
		{"a dsn beside a host", head + "  host: h\n",
			`5: source has both dsn and host; use one of them: the dsn can hold everything`},
		{"a log format that is none", head + "log: {format: xml}\n",
			`5: log.format is "xml"; want text or json`},
		{"a negative limit", head + "pipeline: {max_batch: -1}\n",
			`5: pipeline.max_batch is negative; leave it out for the default`},
		{"a queue without a file", head + "queue: {keep: 1GB}\n",
			`5: queue.path is missing; name the file, or leave the whole queue out`},
		{"a route without its end", "source:\n  dsn: u:p@tcp(h:1)/\ntarget:\n  dsn: u:p@tcp(h:1)/\n  routes:\n    - from: a.b\n",
			`6: target.routes[0].to is ""; want schema.table, such as "shop.orders" or "shop.*"`},
		{"a policy that is none", "source:\n  dsn: u:p@tcp(h:1)/\ntarget:\n  dsn: u:p@tcp(h:1)/\n  conflicts:\n    - {tables: a.b, policy: merge}\n",
			`6: target.conflicts[0].policy is "merge"; want error, overwrite or ignore`},
		{"a policy for statements that is none", "source:\n  dsn: u:p@tcp(h:1)/\ntarget:\n  dsn: u:p@tcp(h:1)/\n  ddl: overwrite\n",
			`5: target.ddl[0] is "overwrite"; want apply, try, ignore or error`},
		{"a rule for statements without a policy", "source:\n  dsn: u:p@tcp(h:1)/\ntarget:\n  dsn: u:p@tcp(h:1)/\n  ddl:\n    - {tables: a.b}\n",
			`6: target.ddl[0].policy is ""; want apply, try, ignore or error`},
		{"a kind of statement that is none", "source:\n  dsn: u:p@tcp(h:1)/\ntarget:\n  dsn: u:p@tcp(h:1)/\n  ddl:\n    - {kinds: [alter], policy: apply}\n",
			`6: target.ddl[0].kinds[0] is "alter"; want one or several of create table, alter table, drop table, rename table, ` +
				`truncate table, create index, drop index, create view, alter view, drop view, create schema, alter schema, drop schema, where * stands for any text`},
		{"a second document", head + "---\nname: b\n",
			`5: a second document begins here; a file describes one pipeline`},
		{"no target", "source:\n  dsn: u:p@tcp(h:1)/\n",
			` target is missing; say which server to write to (a queue alone, without a target, cannot be run by this program)`},
		{"no user", "target:\n  dsn: u:p@tcp(h:1)/\nsource:\n  host: h\n",
			`3: source.user is missing; name the account to log in with`},
		{"a server without anything", "target:\n  dsn: u:p@tcp(h:1)/\nsource: {}\n",
			`3: source needs a dsn, or host, user and password`},
		{"certificates that are not there", "target:\n  dsn: u:p@tcp(h:1)/\nsource:\n  user: u\n  tls: {ca: ca.pem}\n",
			`5: source.tls: read ca: open /etc/dfs/ca.pem: no such file or directory`},
		{"an empty file", "", ` is empty; "basic config" prints an example`},
		{"a tab", "source:\n\tdsn: x\n",
			`2: found character that cannot start any token; indent with spaces, and quote values that begin with % @ or ` + "`"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := parse(test.text)
			require.EqualError(t, err, "/etc/dfs/dfs.yaml:"+test.want)
		})
	}
}

func TestAllMistakesAreToldAtOnce(t *testing.T) {
	_, err := parse(`source:
  dsn: u:p@tcp(h:1)/
  tabels: [shop.*]
  heartbeat: soon
target:
  host: h
  user: u
  password: ${NOPE}
  routes: [{from: shop, to: crm.*}]
`)
	require.EqualError(t, err, strings.Join([]string{
		`/etc/dfs/dfs.yaml:3: unknown key "tabels" under source; did you mean tables?`,
		`/etc/dfs/dfs.yaml:4: source.heartbeat is "soon"; want a duration such as 500ms, 10s, 24h or 7d`,
		`/etc/dfs/dfs.yaml:8: target.password: environment variable NOPE is not set; set it, or write ${NOPE:-default}`,
		`/etc/dfs/dfs.yaml:9: target.routes[0].from is "shop"; want schema.table, such as "shop.orders" or "shop.*"`,
	}, "\n"))
}

// Invariant I9: secrets appear in no message and no print of the Config.
func TestSecretsAreNeverShown(t *testing.T) {
	const secret = "s3cret"
	for _, bad := range []string{
		"source: {dsn: \"u:" + secret + "/db\"}",        // no @: the parser takes the password for the network
		"source: {dsn: \"u:" + secret + "@tcp(h:1)\"}",  // no slash
		"source: {dsn: \"u:" + secret + "@xyz(h)/\"}",   // no such network
		"source: {dsn: {a: " + secret + "}}",            // not one value
		"source: {user: u, password: [" + secret + "]}", // nor here
		"source: {user: \"u:" + secret + "\"}",          // password in the wrong place
		"source: {user: u, password: ${" + secret + "}", // not closed
		"source: {host: h, user: u, port: \"${PW}\"}",
		"source: {start: \"${PW}\", dsn: \"u:p@/\"}",
		"source: {tables: \"${PW}\", dsn: \"u:p@/\"}",
		"log: {level: \"${PW}\"}",
		"queue: {path: x, keep: \"${PW}\"}",
		"source: {tls: \"${PW}\", user: u}",
	} {
		_, err := parse(bad + "\n")
		require.Error(t, err)
		require.NotContains(t, strings.ReplaceAll(err.Error(), "${"+secret, ""), secret, bad)
	}

	c, err := parse("source: {user: u, password: \"${PW}\"}\ntarget: {dsn: \"u:" + secret + "@tcp(h:1)/\"}\n")
	require.NoError(t, err)
	var out strings.Builder
	fmt.Fprintf(&out, "%v %+v %#v %s %v", c, *c, *c, &c.Source, c.Target)
	b, err := json.Marshal(c)
	require.NoError(t, err)
	out.Write(b)
	slog.New(slog.NewTextHandler(&out, nil)).Info("c", "config", c, "password", c.Source.Password)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("c", "config", c, "password", c.Source.Password)
	require.NotContains(t, out.String(), secret)
	require.Contains(t, out.String(), hidden)
	require.Equal(t, "127.0.0.1:3306 as user u", c.Source.String())
}

func TestExpand(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                   "plain",
		"a$b $5 $":                "a$b $5 $",
		"$${HOST}":                "${HOST}",
		"${HOST}:${NONE:-1}":      "db.internal:1",
		"${EMPTY}":                "",
		"${EMPTY:-x}":             "x",
		"${NONE:-}":               "",
		"${NONE:-u:p@tcp(h:1)/}x": "u:p@tcp(h:1)/x",
		"${PW}":                   env["PW"], // its own $ is not looked at again
	} {
		got, missing, err := expand(in, lookup)
		require.NoError(t, err, in)
		require.Empty(t, missing, in)
		require.Equal(t, want, got, in)
	}
}

func TestSizes(t *testing.T) {
	for in, want := range map[string]Size{
		"0": 0, "1048576": 1 << 20, "64 KiB": 64 << 10, "1.5gb": 1500000000, "-1": -1, "2TiB": 2 << 40, "7B": 7,
	} {
		got, err := parseSize(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got, in)
	}
	for _, in := range []string{"", "MiB", "1 PiB", "NaN", "1e30", "5 apples"} {
		_, err := parseSize(in)
		require.Error(t, err, in)
	}
	require.Equal(t, "1.4 GiB", Size(1500000000).String())
	require.Equal(t, "999 B", Size(999).String())
	require.Equal(t, "512 MiB", Size(512<<20).String())
}

func TestTLSByFilesIsRegisteredWithTheDriver(t *testing.T) {
	c, err := parse(strings.Replace(minimal, "dsn: dfs:pw@tcp(127.0.0.1:3306)/", "{user: u, host: h, tls: {server_name: db.example}}", 1))
	require.NoError(t, err)
	cfg, err := mysql.ParseDSN(c.SourceDSN())
	require.NoError(t, err)
	require.Equal(t, "db.example", cfg.TLS.ServerName)
	require.False(t, cfg.TLS.InsecureSkipVerify)
}

func TestLoadNamesTheFileThatCannotBeRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "none.yaml")
	_, err := Load(file)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, file)
}

// FuzzParse looks for files that make Parse panic, and for faults on lines that
// the file does not have.
func FuzzParse(f *testing.F) {
	f.Add(minimal)
	f.Add("a: &a [*a]\nsource: *a\n")
	f.Add("source: {<<: {dsn: x}}\n? [a]\n: b\n")
	f.Add(minimal + "queue: {path: q, max_bytes: ${PW}}\nunits:\n  - {from: shop.a, where: \"a > 1\", set: {b: upper(c)}, into: \"x.*\"}\n")
	f.Add("source: {host: ${HOST}, port: ${PW}, tables: &t [\"shop.*\", *t], snapshot: {tables: *t}}\ntargets:\n  a: {dsn: \"${PW}\"}\n  b: {archive: {dir: x}}\n")
	f.Fuzz(func(t *testing.T, text string) {
		_, err := parse(text)
		if err == nil {
			return
		}
		for _, fault := range err.(*Error).Faults {
			if fault.Line > strings.Count(text, "\n")+strings.Count(text, "\r")+2 || fault.Text == "" {
				t.Fatalf("%+v", fault)
			}
			// Invariant I9: what the environment has stays out of errors.
			if strings.Contains(fault.Text, env["PW"]) {
				t.Fatalf("a secret is in %q", fault.Text)
			}
		}
	})
}

func ExampleParse() {
	_, err := Parse("dfs.yaml", []byte(`
source:
  dsn: dfs:${SOURCE_PASSWORD}@tcp(db1:3306)/
  tabels: ["shop.*"]
target:
  dsn: dfs:secret@tcp(db2:3306)/
  max_bytes: plenty
`), func(string) (string, bool) { return "", false })
	fmt.Println(err)
	// Output:
	// dfs.yaml:3: source.dsn: environment variable SOURCE_PASSWORD is not set; set it, or write ${SOURCE_PASSWORD:-default}
	// dfs.yaml:4: unknown key "tabels" under source; did you mean tables?
	// dfs.yaml:7: target.max_bytes is "plenty"; want a size such as 512MiB or 10GB
}

func TestRoutedNamesTheTarget(t *testing.T) {
	c := &Config{}
	require.Equal(t, "shop.orders", c.Routed("shop", "orders"))
	c.Target.Routes = []Route{{"shop.users", "crm.people"}, {"shop.o*", "*.all"}, {"sh*.*", "copy.*"}}
	require.Equal(t, "crm.people", c.Routed("shop", "users"))
	require.Equal(t, "shop.all", c.Routed("shop", "orders"))
	require.Equal(t, "copy.x+y", c.Routed("shop", "x+y"))
	require.Equal(t, "other.users", c.Routed("other", "users"))
	// As the sink does.
	c.Target.Routes = []Route{{"Shop?.*", "crm.*"}, {"*", "crm.*"}}
	require.Equal(t, "crm.a.b", c.Routed("shop1", "a.b"))
	require.Equal(t, "shop.users", c.Routed("shop", "users"))
}

func TestUnitsAreReadAndTheirFaultsHaveLines(t *testing.T) {
	c, err := parse(minimal + `units:
  - from: shop.users
    into: crm.people
    drop: password
    rename: {mail: email, Id: id}
    mask: {phone: truncate 4}
    columns:
      - {name: total, type: "decimal(12,2)", expr: price * quantity}
      - {name: origin, value: web}
hash_key: ${HOST}${HOST}
`)
	require.NoError(t, err)
	units := c.DPU()
	require.Equal(t, map[string]string{"mail": "email", "Id": "id"}, units[0].Rename)
	require.Equal(t, "web", units[0].Columns[1].Value)
	require.Equal(t, "price * quantity", units[0].Columns[0].Expr)
	require.Equal(t, dpu.Mask("truncate 4"), units[0].Mask["phone"])
	require.Equal(t, "/etc/dfs/dfs.yaml:9", c.Where("units[0].rename.mail"))

	c, err = parse(minimal + `units:
  - from: shop.users
    lookups:
      - {in: target, table: geo.cities, on: city, find: [name], cache_for: 1m}
      - {file: vat.csv, on: [a, b], key: [c, d], find: rate, types: {rate: int}}
`)
	require.NoError(t, err)
	require.Equal(t, []string{"city"}, c.Units[0].Lookups[0].KeyColumns())
	require.Equal(t, []string{"c", "d"}, c.Units[0].Lookups[1].KeyColumns())
	require.Equal(t, "/etc/dfs/vat.csv", c.Units[0].Lookups[1].File)
	_, err = parse(minimal + `units:
  - from: shop.users
    lookups:
      - {in: queue, table: cities, on: city, key: [a, b], types: {x: int}}
      - {file: vat.csv, in: source, on: city, find: [rate], as: {Rate: x}}
      - {}
`)
	require.EqualError(t, err, `/etc/dfs/dfs.yaml:8: units[0].lookups[0].in must be source or target, the server that has the table; or name a file
/etc/dfs/dfs.yaml:9: units[0].lookups[1].file is set, and so is a table; a lookup is in one of them
/etc/dfs/dfs.yaml:10: units[0].lookups[2].in must be source or target, the server that has the table; or name a file`)

	_, err = parse(minimal + `units:
  - from: users
  - from: shop.users
    where: id >
    soft_delete: gone
    part: true
    columns:
      - name: x
        type: text(
  - from: a.b
    rename: {a: b, a: c}
    colums: []
  - {from: a.b, drop: [x], into: "${PW}"}
hash_key: short
`)
	require.Error(t, err)
	require.Equal(t, `/etc/dfs/dfs.yaml:6: units[0].from: "users" names no table: write it as "schema.table", where either may hold * and ?, such as "shop.*"
/etc/dfs/dfs.yaml:8: units[1].where: unexpected token EOF, at character 4
/etc/dfs/dfs.yaml:9: units[1].soft_delete: a part of a row cannot be kept when the row goes; use one of Part and SoftDelete
/etc/dfs/dfs.yaml:13: units[1].columns[0].type: the type "text(" lacks its closing parenthesis
/etc/dfs/dfs.yaml:15: units[2].rename.a is there twice, first on line 15
/etc/dfs/dfs.yaml:16: unknown key "colums" under units[2]; did you mean columns?
/etc/dfs/dfs.yaml:17: units[3].into: is wrong; how is not shown, since the unit holds environment variables
/etc/dfs/dfs.yaml:18: hash_key is too short; use 16 bytes or more`, err.Error())
}

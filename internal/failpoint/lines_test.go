//go:build unix

package failpoint_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs/internal/checkfile"
	"github.com/dataflowsync/dfs/internal/same"
	"github.com/dataflowsync/dfs/sink"
)

const (
	intoMySQL = "target: {host: 127.0.0.1, port: PORT, user: root"
	queued    = "queue: {path: DIR/queue}\n"
)

// The ledger is triggers on the target that note, in a schema of its own, what must
// not be: a row that is inserted twice, and one that goes back or is written again.
const ledger = `
CREATE DATABASE S_ledger;
CREATE TABLE S_ledger.seen (t varchar(20), k bigint, n int, PRIMARY KEY (t, k));
CREATE TABLE S_ledger.faults (t varchar(20), k bigint, was bigint, became bigint);
CREATE TRIGGER S.one_i AFTER INSERT ON S.one FOR EACH ROW INSERT INTO S_ledger.seen VALUES ('one', NEW.id, 1) ON DUPLICATE KEY UPDATE n = n + 1;
CREATE TRIGGER S.keyless_i AFTER INSERT ON S.keyless FOR EACH ROW INSERT INTO S_ledger.seen VALUES ('keyless', NEW.token, 1) ON DUPLICATE KEY UPDATE n = n + 1;
CREATE TRIGGER S.one_u AFTER UPDATE ON S.one FOR EACH ROW INSERT INTO S_ledger.faults SELECT 'one', NEW.id, OLD.v, NEW.v FROM DUAL WHERE NEW.v <= OLD.v`

// sqlStep is what a shop does: single rows, transactions of many, one that travels in
// parts, tables without a key, statements, and a new file of the log.
func sqlStep(w *world, n int) {
	w.do("INSERT INTO S.one VALUES (%d, 0, 'first')", n)
	w.do("UPDATE S.one SET v = v + 1 WHERE id > %d", n-3)
	w.do("INSERT INTO S.keyless VALUES (%d, 'a'), (%d, 'a'), (%d, 'b')", 3*n, 3*n+1, 3*n+2)
	w.do("DELETE FROM S.keyless WHERE token = %d", 3*(n-1)+1)
	w.do("INSERT INTO S.fifty SELECT %d * 50 + a.n + 10 * b.n, 0, 'x' FROM S.digits a, S.digits b WHERE b.n < 5", n)
	w.do("UPDATE S.fifty SET v = v + 1 WHERE id >= %d", n*50-25)
	w.do("ALTER TABLE S.altered ADD COLUMN c%d int DEFAULT %[1]d", n)
	w.do("INSERT INTO S.altered (id) VALUES (%d)", n)
	if n%3 == 1 {
		w.do("INSERT INTO S.big (s) SELECT HEX(RANDOM_BYTES(1000)) FROM S.digits a, S.digits b, S.digits c")
		w.do("DELETE FROM S.big WHERE id %% 2 = 0")
		w.do("FLUSH BINARY LOGS")
	}
	w.do("REPLACE INTO S.mark VALUES (%d)", n)
}

const sqlTables = `
CREATE TABLE one (id int PRIMARY KEY, v int, s varchar(20));
CREATE TABLE fifty (id int PRIMARY KEY, v int, s varchar(20));
CREATE TABLE keyless (token int, s varchar(5));
CREATE TABLE altered (id int PRIMARY KEY);
CREATE TABLE big (id int AUTO_INCREMENT PRIMARY KEY, s varchar(2000));
CREATE TABLE mark (n int PRIMARY KEY);
CREATE TABLE digits (n int PRIMARY KEY);
INSERT INTO digits VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)`

const copyTables = `CREATE TABLE rows_a (id int AUTO_INCREMENT PRIMARY KEY, s varchar(40), KEY (s)); CREATE TABLE digits (n int PRIMARY KEY);
	INSERT INTO digits VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9);
	INSERT INTO rows_a (s) SELECT CONCAT('row ', a.n, b.n, c.n, d.n) FROM digits a, digits b, digits c, digits d`

// copyStep changes rows while they are copied.
func copyStep(w *world, n int) {
	w.do("INSERT INTO S.rows_a (s) VALUES ('new %d')", n)
	w.do("UPDATE S.rows_a SET s = CONCAT('step %d of ', id) WHERE id %% 1000 = %[1]d", n)
}

// copied returns a position, or "" if rows are still to be copied.
func copied(pos string) string {
	if strings.Contains(pos, " copy:") {
		return ""
	}
	return pos
}

// mysqlPos returns the position on a server.
func mysqlPos(w *world) string {
	return w.one(w.dst, "SELECT pos FROM dfs.dfs_checkpoint WHERE name = 'S'")
}

// equal compares all tables of both servers.
func equal(w *world) {
	w.t.Helper()
	r, err := same.Compare(w.t.Context(), w.src, w.dst, same.Options{Schemas: []string{w.name}})
	require.NoError(w.t, err)
	require.Empty(w.t, r.Differences)
	require.Positive(w.t, r.Rows)
}

// lost removes the queue, as after the loss of a disk.
func lost(w *world) {
	for _, name := range []string{"queue", "queue-wal", "queue-shm", "queue.lock"} {
		os.Remove(filepath.Join(w.folder, name))
	}
}

// full makes a transaction that is more than the queue leaves in its log.
func full(w *world) {
	w.do("INSERT INTO S.big (s) SELECT HEX(RANDOM_BYTES(1000)) FROM S.digits a, S.digits b, S.digits c, S.digits d WHERE d.n < 6")
}

// cli runs a command of the program to its end.
func (w *world) cli(args ...string) string {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), w.binary, args...)
	cmd.Dir = w.folder
	out, err := cmd.CombinedOutput()
	require.NoError(w.t, err, "%v: %s", args, out)
	return string(out)
}

var lines = []line{
	{
		name: "sql", both: sqlTables, extra: ledger, ends: queued + intoMySQL + ", ddl: apply}\n",
		step: sqlStep, pos: mysqlPos,
		check: func(w *world) {
			equal(w)
			require.Equal(w.t, "0", w.one(w.dst, "SELECT COUNT(*) FROM S_ledger.faults"), "updates that were applied twice")
			require.Equal(w.t, "0", w.one(w.dst, "SELECT COUNT(*) FROM S_ledger.seen WHERE n > 1"), "rows that were inserted twice")
			require.Equal(w.t, fmt.Sprint(w.steps), w.one(w.dst, "SELECT COUNT(*) FROM S_ledger.seen WHERE t = 'one'"))
		},
		points: []string{"queue.state", "cdc.event", "cdc.next", "cdc.decode", "cdc.rotate", "queue.apply", "queue.insert", "queue.commit", "queue.committed",
			"queue.trim", "queue.read", "queue.reset", "queue.move", "queue.moved", "sink.claim", "sink.packet", "sink.answered", "sink.commit",
			"sink.commit.sent", "sink.committed", "sink.ddl.intent", "sink.ddl.intended", "sink.ddl.done"},
		before: map[string]func(*world){"queue.reset": lost, "queue.move": full, "queue.moved": full},
	},
	{
		// The same without a ledger, so that rows go as events of the log, and without a queue.
		name: "direct", both: sqlTables, ends: intoMySQL + ", ddl: apply}\n",
		step: sqlStep, pos: mysqlPos, check: equal,
		may: []string{"cdc.event", "cdc.next", "cdc.decode", "cdc.rotate", "sink.claim", "sink.packet", "sink.answered", "sink.commit",
			"sink.commit.sent", "sink.committed", "sink.ddl."},
	},
	{
		name: "ids", ends: queued + intoMySQL + "}\nrelmgr: {path: DIR/map}\nunits:\n  - {from: S.users, rename: {tag: label}, into: S.people}\n",
		both: `CREATE TABLE users (id int AUTO_INCREMENT PRIMARY KEY, tag varchar(20) UNIQUE, v int);
			CREATE TABLE orders (id int AUTO_INCREMENT PRIMARY KEY, user_id int, tag varchar(20) UNIQUE, FOREIGN KEY (user_id) REFERENCES users (id))`,
		extra: `DROP TABLE orders; RENAME TABLE users TO people; ALTER TABLE people RENAME COLUMN tag TO label; INSERT INTO people VALUES (500, 'was there', 0);
			CREATE TABLE orders (id int AUTO_INCREMENT PRIMARY KEY, user_id int, tag varchar(20) UNIQUE, FOREIGN KEY (user_id) REFERENCES people (id))`,
		step: func(w *world, n int) {
			w.do("INSERT INTO S.users (tag, v) VALUES ('a%d', 0), ('b%[1]d', 0)", n)
			w.do("INSERT INTO S.orders (user_id, tag) SELECT id, CONCAT('of ', tag) FROM S.users WHERE tag LIKE '_%d'", n)
			w.do("UPDATE S.users SET v = v + 1")
			w.do("UPDATE S.orders SET user_id = (SELECT MIN(id) FROM S.users) WHERE tag = 'of b%d'", n-1)
			w.do("DELETE FROM S.orders WHERE tag = 'of a%d'", n-1)
		},
		pos: mysqlPos,
		check: func(w *world) {
			const query = "SELECT GROUP_CONCAT(o.tag, '>', u.%s, u.v ORDER BY o.tag) FROM S.orders o JOIN S.%s u ON u.id = o.user_id"
			source := w.one(w.src, fmt.Sprintf(query, "tag", "users"))
			require.NotEmpty(w.t, source)
			require.Equal(w.t, source, w.one(w.dst, fmt.Sprintf(query, "label", "people")))
			require.Equal(w.t, w.one(w.src, "SELECT GROUP_CONCAT(tag, v ORDER BY tag) FROM S.users"),
				w.one(w.dst, "SELECT GROUP_CONCAT(label, v ORDER BY label) FROM S.people WHERE id <> 500"))
			require.Equal(w.t, "0", w.one(w.dst, "SELECT COUNT(*) FROM S.orders o LEFT JOIN S.people p ON p.id = o.user_id WHERE p.id IS NULL"))
		},
		points: []string{"relmgr.reserve", "relmgr.commit", "relmgr.committed", "dpu.process"},
		may:    []string{"cdc.event", "cdc.next", "cdc.decode", "queue.apply", "queue.commit", "queue.committed", "queue.read", "sink."},
	},
	{
		name: "copy", ends: queued + intoMySQL + ", create_tables: true}\n",
		copies: true, both: copyTables, extra: "DROP TABLE rows_a; DROP TABLE digits", step: copyStep,
		pos:    func(w *world) string { return copied(mysqlPos(w)) },
		check:  equal,
		points: []string{"cdc.chunk", "sink.load.piece", "sink.load.pieced", "sink.load.unload"},
		may:    []string{"cdc.", "queue.apply", "queue.commit", "queue.committed", "queue.read", "sink.claim", "sink.packet", "sink.answered", "sink.commit", "sink.commit.sent", "sink.committed"},
		before: map[string]func(*world){
			"cdc.chunk": again, "sink.load.piece": again, "sink.load.pieced": again,
			"sink.load.unload": func(w *world) {
				again(w)
				require.True(w.t, w.until("sink.load.pieced"))
			},
		},
	},
	{
		name: "letters", ends: queued + intoMySQL + "}\ndead_letters: {path: DIR/letters, max_letters: -1}\n" +
			"monitor: {listen: FREE}\njournal: {path: DIR/journal, level: all}\n",
		both: "CREATE TABLE t (id int PRIMARY KEY, u int)", extra: "ALTER TABLE t ADD UNIQUE (u); INSERT INTO t VALUES (1000000, -1)",
		step: func(w *world, n int) {
			w.do("INSERT INTO S.t VALUES (%d, %[1]d)", 2*n)
			w.do("INSERT INTO S.t VALUES (%d, -1)", 2*n+1)
			w.do("UPDATE S.t SET u = -id * 10 WHERE id = %d", 2*n)
		},
		pos: mysqlPos,
		check: func(w *world) {
			const query = "SELECT GROUP_CONCAT(id, ' ', u ORDER BY id) FROM S.t WHERE u <> -1"
			require.Equal(w.t, w.one(w.src, query), w.one(w.dst, query))
			var answer struct {
				Letters []struct {
					State string `json:"state"`
				} `json:"letters"`
			}
			require.NoError(w.t, json.Unmarshal([]byte(w.cli("letters", "list", "-json", "-c", w.file)), &answer))
			require.Len(w.t, answer.Letters, w.steps)
			for _, l := range answer.Letters {
				require.Equal(w.t, "parked", l.State)
			}
		},
		points: []string{"letters.commit", "letters.committed", "journal.commit", "journal.committed"},
		may:    []string{"queue.commit", "queue.committed", "sink.packet", "sink.answered", "sink.commit", "sink.commit.sent", "sink.committed"},
	},
	{
		name: "archive", both: sqlTables, ends: "target: {archive: {dir: DIR/archive, segment_bytes: 2KB}}\n", step: sqlStep,
		pos: func(w *world) string {
			a, err := sink.OpenArchive(filepath.Join(w.folder, "archive"), &sink.ArchiveOptions{ReadOnly: true})
			if err != nil {
				return "" // it is being made
			}
			defer a.Close()
			return string(a.End().Pos)
		},
		check: func(w *world) {
			require.Contains(w.t, w.cli("archive", "verify", "-c", w.file), ", 0 faults")
			back := filepath.Join(w.folder, "restore.yaml")
			require.NoError(w.t, os.WriteFile(back, []byte(w.fill("name: S\nsource: {archive: {dir: DIR/archive}, tables: S.*}\n"+intoMySQL+", ddl: apply}\n")), 0o600))
			w.cli("archive", "restore", "-log-only", "-c", back)
			equal(w)
		},
		points: []string{"archive.begin", "archive.begun", "archive.write", "archive.synced", "archive.seal", "archive.sealed"},
		may:    []string{"cdc.event", "cdc.next", "cdc.decode", "cdc.rotate"},
	},
	{
		name: "file", both: sqlTables, ends: "target: {stream: {to: DIR/out.ndjson, max_bytes: 4KiB}}\n", step: sqlStep,
		pos: func(w *world) string {
			r, _, err := checkfile.Read(filepath.Join(w.folder, "out.ndjson.checkpoint"))
			if err != nil {
				return ""
			}
			return r.Pos
		},
		check:  messages,
		points: []string{"file.write", "file.synced", "file.next", "checkfile.rename", "checkfile.renamed"},
		may:    []string{"cdc.event", "cdc.next", "cdc.decode", "cdc.rotate"},
	},
}

// again makes the pipeline begin anew, with nothing on the target.
func again(w *world) {
	lost(w)
	w.target.Exec(w.t, w.statements("DROP DATABASE S; CREATE DATABASE S; DELETE FROM dfs.dfs_checkpoint WHERE name = 'S'")...)
}

// messages checks that the files have each change once, and in order.
func messages(w *world) {
	files, err := filepath.Glob(filepath.Join(w.folder, "out-*.ndjson"))
	require.NoError(w.t, err)
	require.Greater(w.t, len(files), 1)
	ops := make(map[string]int)
	last := 0
	for _, name := range files {
		f, err := os.Open(name)
		require.NoError(w.t, err)
		defer f.Close()
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var m struct {
				Op, Table string
				Seq       int
				After     struct{ ID, N int }
			}
			require.NoError(w.t, json.Unmarshal(lines.Bytes(), &m), "%s", lines.Text())
			require.GreaterOrEqual(w.t, m.Seq, last)
			last = m.Seq
			if m.Table == w.name+".mark" && m.Op == "insert" {
				require.Equal(w.t, ops["mark"]+1, m.After.N)
				ops["mark"]++
			}
			if m.Table != "" {
				ops[m.Op+" "+strings.TrimPrefix(m.Table, w.name+".")]++
			}
		}
		require.NoError(w.t, lines.Err())
	}
	require.Equal(w.t, (w.steps+2)/3*1000, ops["insert big"])
	for table, query := range map[string]string{"one": "COUNT(*)", "fifty": "COUNT(*)", "keyless": "MAX(token)-2"} {
		require.Equal(w.t, w.one(w.src, "SELECT "+query+" FROM S."+table), fmt.Sprint(ops["insert "+table]), table)
	}
	require.Equal(w.t, w.one(w.src, "SELECT SUM(v) FROM S.fifty"), fmt.Sprint(ops["update fifty"]))
	require.Equal(w.t, w.one(w.src, "SELECT SUM(v) FROM S.one"), fmt.Sprint(ops["update one"]))
}

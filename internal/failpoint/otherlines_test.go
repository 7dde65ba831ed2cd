//go:build unix

package failpoint_test

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/dataflowsync/dfs/internal/testenv"
)

// The ledgers of PostgreSQL and SQLite, of which the tables are made by the program.
const (
	pgLedger = `
CREATE SCHEMA S_ledger;
CREATE TABLE S_ledger.seen (t text, k bigint, n int, PRIMARY KEY (t, k));
CREATE TABLE S_ledger.faults (t text, k bigint, was bigint, became bigint);
CREATE FUNCTION S_ledger.one_i() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO S_ledger.seen VALUES (''one'', NEW.id, 1) ON CONFLICT (t, k) DO UPDATE SET n = seen.n + 1; RETURN NULL; END';
CREATE FUNCTION S_ledger.keyless_i() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO S_ledger.seen VALUES (''keyless'', NEW.token, 1) ON CONFLICT (t, k) DO UPDATE SET n = seen.n + 1; RETURN NULL; END';
CREATE FUNCTION S_ledger.one_u() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO S_ledger.faults SELECT ''one'', NEW.id, OLD.v, NEW.v WHERE NEW.v <= OLD.v; RETURN NULL; END';
CREATE TRIGGER one_i AFTER INSERT ON S.one FOR EACH ROW EXECUTE FUNCTION S_ledger.one_i();
CREATE TRIGGER keyless_i AFTER INSERT ON S.keyless FOR EACH ROW EXECUTE FUNCTION S_ledger.keyless_i();
CREATE TRIGGER one_u AFTER UPDATE ON S.one FOR EACH ROW EXECUTE FUNCTION S_ledger.one_u()`

	liteLedger = `
CREATE TABLE ledger_seen (t TEXT, k INTEGER, n INTEGER, PRIMARY KEY (t, k));
CREATE TABLE ledger_faults (t TEXT, k INTEGER, was INTEGER, became INTEGER);
CREATE TRIGGER one_i AFTER INSERT ON one BEGIN INSERT INTO ledger_seen VALUES ('one', NEW.id, 1) ON CONFLICT (t, k) DO UPDATE SET n = n + 1; END;
CREATE TRIGGER keyless_i AFTER INSERT ON keyless BEGIN INSERT INTO ledger_seen VALUES ('keyless', NEW.token, 1) ON CONFLICT (t, k) DO UPDATE SET n = n + 1; END;
CREATE TRIGGER one_u AFTER UPDATE ON one WHEN NEW.v <= OLD.v BEGIN INSERT INTO ledger_faults VALUES ('one', NEW.id, OLD.v, NEW.v); END`
)

// little is what goes to a target at once: less than a transaction that travels in parts.
const little = "pipeline: {read_ahead: 512KiB}\n"

// sqlRows and copyRows read all rows of a workload, in an order that all databases have.
var (
	sqlRows = []string{"SELECT id, v, s FROM S.one ORDER BY id", "SELECT id, v, s FROM S.fifty ORDER BY id", "SELECT token, s FROM S.keyless ORDER BY token",
		"SELECT * FROM S.altered ORDER BY id", "SELECT id, s FROM S.big ORDER BY id", "SELECT n FROM S.mark ORDER BY n"}
	copyRows = []string{"SELECT id, s FROM S.rows_a ORDER BY id", "SELECT n FROM S.digits ORDER BY n"}
)

// otherLines are those into PostgreSQL and SQLite.
var otherLines = []line{
	{
		name: "post", other: true, both: sqlTables, ends: queued + little + "target: {dsn: 'POSTGRES', create_tables: true, ddl: apply}\n", ready: pgReady,
		step: sqlStep, pos: pgPos, check: func(w *world) {
			w.sameRows(sqlRows, w.postgres)
			w.noted("S_ledger.", w.postgres)
		},
		points: []string{"core.claim", "core.write", "core.part", "core.ddl", "core.commit", "core.commit.sent", "core.committed"},
		may:    []string{"cdc.event", "cdc.next", "cdc.decode", "cdc.rotate", "queue.apply", "queue.commit", "queue.committed", "queue.read", "queue.trim"},
		before: map[string]func(*world){"core.part": inParts},
	},
	{
		// The same without a ledger and without a queue.
		name: "postdirect", other: true, both: sqlTables, ends: little + "target: {dsn: 'POSTGRES', create_tables: true, ddl: apply}\n",
		step: sqlStep, pos: pgPos, check: func(w *world) { w.sameRows(sqlRows, w.postgres) },
		may:    []string{"cdc.event", "cdc.next", "cdc.decode", "cdc.rotate", "core.claim", "core.write", "core.part", "core.ddl", "core.commit", "core.commit.sent", "core.committed"},
		before: map[string]func(*world){"core.part": inParts},
	},
	{
		name: "postcopy", other: true, copies: true, both: copyTables, ends: queued + "target: {dsn: 'POSTGRES', create_tables: true}\n",
		step: copyStep, pos: func(w *world) string { return copied(pgPos(w)) }, check: func(w *world) { w.sameRows(copyRows, w.postgres) },
		points: []string{"core.create"},
		may:    []string{"cdc.chunk", "cdc.next", "queue.apply", "queue.commit", "queue.committed", "queue.read", "core.claim", "core.write", "core.commit", "core.commit.sent", "core.committed"},
		before: map[string]func(*world){"core.create": pgAgain, "cdc.chunk": pgAgain, "core.claim": pgAgain, "core.write": pgAgain, "core.commit": pgAgain,
			"core.commit.sent": pgAgain, "core.committed": pgAgain},
	},
	{
		name: "lite", other: true, both: sqlTables, ends: queued + little + "target: {file: DIR/shop.db, create_tables: true, ddl: apply}\n", ready: liteReady,
		step: sqlStep, pos: litePos, check: func(w *world) {
			w.sameRows(sqlRows, w.lite)
			w.noted("ledger_", w.lite)
		},
		points: []string{"core.claim", "core.write", "core.part", "core.ddl", "core.commit", "core.committed"},
		may:    []string{"cdc.event", "cdc.next", "cdc.decode", "cdc.rotate", "queue.apply", "queue.commit", "queue.committed", "queue.read", "queue.trim"},
		before: map[string]func(*world){"core.part": inParts},
	},
	{
		name: "litedirect", other: true, both: sqlTables, ends: little + "target: {file: DIR/shop.db, create_tables: true, ddl: apply}\n",
		step: sqlStep, pos: litePos, check: func(w *world) { w.sameRows(sqlRows, w.lite) },
		may:    []string{"cdc.event", "cdc.next", "cdc.decode", "cdc.rotate", "core.claim", "core.write", "core.part", "core.ddl", "core.commit", "core.committed"},
		before: map[string]func(*world){"core.part": inParts},
	},
	{
		name: "litecopy", other: true, copies: true, both: copyTables, ends: queued + "target: {file: DIR/shop.db, create_tables: true}\n",
		step: copyStep, pos: func(w *world) string { return copied(litePos(w)) }, check: func(w *world) { w.sameRows(copyRows, w.lite) },
		may: []string{"core.create", "cdc.chunk", "cdc.next", "queue.apply", "queue.commit", "queue.committed", "queue.read", "core.claim", "core.write", "core.commit", "core.committed"},
		before: map[string]func(*world){"core.create": liteAgain, "cdc.chunk": liteAgain, "core.claim": liteAgain, "core.write": liteAgain, "core.commit": liteAgain,
			"core.committed": liteAgain},
	},
}

// inParts makes a transaction whose parts are more than comes at once, also when all of
// them are in the queue.
func inParts(w *world) {
	w.do("INSERT INTO S.big (s) SELECT HEX(RANDOM_BYTES(1000)) FROM S.digits a, S.digits b, S.digits c, S.digits d WHERE d.n < 3")
}

// pg starts PostgreSQL, if no line has done so, and connects to it.
func (r *rig) pg() *pgconn.PgConn {
	if r.pgConn == nil {
		server := testenv.StartPostgres(r.t)
		var err error
		r.pgConn, err = pgconn.Connect(r.t.Context(), server.DSN())
		require.NoError(r.t, err)
		r.pgDSN = server.DSN()
	}
	return r.pgConn
}

// postgres runs statements on PostgreSQL, and returns the rows of the last.
func (w *world) postgres(text string) (rows [][]string, err error) {
	results, err := w.pg().Exec(w.t.Context(), named(text, w.name)).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%.200s: %w", text, err)
	}
	for _, raw := range results[len(results)-1].Rows {
		row := make([]string, len(raw))
		for i, v := range raw {
			row[i] = null
			if v != nil {
				row[i] = string(v)
			}
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// null is what rows have for NULL.
const null = "NULL"

// lite returns the rows of a query of the file that is the target. A file has no
// schemas.
func (w *world) lite(text string) ([][]string, error) {
	return w.liteIn("ro", strings.ReplaceAll(text, "S.", ""))
}

func (w *world) liteIn(mode, text string) ([][]string, error) {
	path := filepath.Join(w.folder, "shop.db")
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", "file:"+path+"?mode="+mode+"&_pragma=busy_timeout(5000)")
	if err != nil {
		return nil, err
	}
	defer db.Close()
	return w.query(db, text)
}

// query returns the rows of a query.
func (w *world) query(db *sql.DB, text string) (out [][]string, err error) {
	rows, err := db.QueryContext(w.t.Context(), named(text, w.name))
	if err != nil {
		return nil, fmt.Errorf("%.200s: %w", text, err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	for rows.Next() {
		values, into := make([]sql.NullString, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		row := make([]string, len(columns))
		for i, v := range values {
			row[i] = null
			if v.Valid {
				row[i] = v.String
			}
		}
		out = append(out, row)
	}
	return out, rows.Err()
}

// sameRows compares what queries give on the source and on the target.
func (w *world) sameRows(queries []string, target func(string) ([][]string, error)) {
	w.t.Helper()
	for _, q := range queries {
		want, err := w.query(w.src, q)
		require.NoError(w.t, err)
		require.NotEmpty(w.t, want, q)
		have, err := target(q)
		require.NoError(w.t, err)
		require.Equal(w.t, len(want), len(have), q)
		for i := range want {
			require.Equal(w.t, want[i], have[i], q)
		}
	}
}

// noted makes sure that the ledger has each row once, and nothing that went back.
func (w *world) noted(ledger string, target func(string) ([][]string, error)) {
	w.t.Helper()
	for query, want := range map[string]int{"SELECT COUNT(*) FROM " + ledger + "faults": 0, "SELECT COUNT(*) FROM " + ledger + "seen WHERE n > 1": 0,
		"SELECT COUNT(*) FROM " + ledger + "seen WHERE t = 'one'": w.steps, "SELECT COUNT(*) FROM " + ledger + "seen WHERE t = 'keyless'": 3 * w.steps} {
		rows, err := target(query)
		require.NoError(w.t, err)
		require.Equal(w.t, [][]string{{fmt.Sprint(want)}}, rows, query)
	}
}

func pgReady(w *world) {
	_, err := w.postgres(pgLedger)
	require.NoError(w.t, err)
}

func liteReady(w *world) {
	_, err := w.liteIn("rw", liteLedger)
	require.NoError(w.t, err)
}

func pgPos(w *world) string {
	return first(w.postgres("SELECT pos FROM dfs.dfs_checkpoint WHERE name = 'S'"))
}
func litePos(w *world) string { return first(w.lite("SELECT pos FROM dfs_checkpoint")) }

// first returns the one value of what was found, or "" if there is none yet.
func first(rows [][]string, err error) string {
	if err != nil || len(rows) == 0 {
		return ""
	}
	return rows[0][0]
}

// pgAgain and liteAgain make the pipeline begin anew, with nothing on the target.
func pgAgain(w *world) {
	lost(w)
	if pgPos(w) == "" {
		return // it has not begun
	}
	_, err := w.postgres("DROP SCHEMA IF EXISTS S CASCADE; DELETE FROM dfs.dfs_checkpoint WHERE name = 'S'")
	require.NoError(w.t, err)
}

func liteAgain(w *world) {
	lost(w)
	for _, end := range []string{"", "-wal", "-shm"} {
		os.Remove(filepath.Join(w.folder, "shop.db"+end))
	}
}

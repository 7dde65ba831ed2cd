package verify_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/sink"
	"github.com/dataflowsync/dfs/verify"
)

// An otherLab is a lab whose target is PostgreSQL or a file of SQLite.
type otherLab struct {
	*lab
	kind string // "postgres" or "sqlite"
	pg   *testenv.Postgres
	file string
	db   *sql.DB // of the file
}

func newOtherLab(t testing.TB, from testenv.Kind, kind string) *otherLab {
	l := &otherLab{lab: &lab{t: t, src: testenv.Shared(t, from)}, kind: kind}
	l.from, l.schema = l.src.DB(t), l.src.Schema(t)
	l.name = fmt.Sprintf("%s %.30s", kind, l.schema)
	l.routes = []sink.Route{{From: l.schema + ".*", To: l.target() + ".*"}}
	if kind == "postgres" {
		l.pg = testenv.SharedPostgres(t)
		l.pg.Exec(t, "CREATE SCHEMA "+l.target())
		t.Cleanup(func() { l.pg.Exec(t, "DROP SCHEMA "+l.target()+" CASCADE") })
		return l
	}
	l.file = filepath.Join(t.TempDir(), "target.db")
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: filepath.ToSlash(l.file)}).String()+"?_pragma=busy_timeout(10000)")
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	l.db = db
	return l
}

// change runs statements on the target, in which T. stands for the schema, if there are any.
func (l *otherLab) change(stmts ...string) {
	l.t.Helper()
	for _, s := range stmts {
		if l.pg != nil {
			l.pg.Exec(l.t, replace(s, "T.", l.target()+"."))
			continue
		}
		_, err := l.db.ExecContext(l.t.Context(), replace(s, "T.", ""))
		require.NoError(l.t, err, s)
	}
}

func (l *otherLab) count(q string) (n string) {
	l.t.Helper()
	if l.pg != nil {
		return l.pg.Query(l.t, replace(q, "T.", l.target()+"."))[0][0]
	}
	require.NoError(l.t, l.db.QueryRowContext(l.t.Context(), replace(q, "T.", "")).Scan(&n))
	return n
}

type otherSink interface {
	dfs.Sink
	CreateTables(ctx context.Context, tables []sink.Definition, later bool) (made, notes []string, err error)
	Close() error
}

func (l *otherLab) sink(unfit sink.Unfit) otherSink {
	l.t.Helper()
	if l.pg != nil {
		s, err := sink.OpenPostgres(l.t.Context(), l.pg.DSN(), &sink.PostgresOptions{Name: l.name, Schema: l.target(), Routes: l.routes, Unfit: unfit})
		require.NoError(l.t, err)
		return s
	}
	s, err := sink.OpenSQLite(l.t.Context(), l.file, &sink.SQLiteOptions{Name: l.name, Routes: l.routes, Unfit: unfit})
	require.NoError(l.t, err)
	return s
}

// start creates the tables of the source on the target, and runs a pipeline until the
// test ends or what is returned is called.
func (l *otherLab) start(unfit sink.Unfit, create bool) {
	l.t.Helper()
	src, err := cdc.Open(l.t.Context(), l.src.DSN(""), &cdc.Options{Tables: []string{l.schema + ".*"}, Heartbeat: 50 * time.Millisecond})
	require.NoError(l.t, err)
	dst := l.sink(unfit)
	if create {
		defs, err := src.Definitions(l.t.Context())
		require.NoError(l.t, err)
		var want []sink.Definition
		for _, d := range defs {
			want = append(want, sink.Definition(d))
		}
		_, _, err = dst.CreateTables(l.t.Context(), want, false)
		require.NoError(l.t, err)
	}
	started := make(chan struct{})
	var once sync.Once
	p := &dfs.Pipeline{Source: src, Sink: dst, Stages: l.stages, Observe: func(dfs.Batch) { once.Do(func() { close(started) }) }}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	l.ended = ended
	go func() { ended <- p.Run(ctx) }()
	select {
	case <-started:
	case err := <-ended:
		l.t.Fatal(err)
	}
	l.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			l.t.Errorf("the pipeline: %v", err)
		}
		src.Close()
		dst.Close()
	})
	l.t.Cleanup(l.stop)
}

func (l *otherLab) otherVerifier(unfit sink.Unfit) *verify.Verifier {
	l.t.Helper()
	var r *sink.RowReader
	var err error
	if l.pg != nil {
		r, err = sink.ReadPostgres(l.t.Context(), l.pg.DSN(), &sink.PostgresOptions{Name: l.name, Schema: l.target(), Unfit: unfit})
	} else {
		r, err = sink.ReadSQLite(l.t.Context(), l.file, &sink.SQLiteOptions{Name: l.name, Unfit: unfit})
	}
	require.NoError(l.t, err)
	l.t.Cleanup(func() { r.Close() })
	v := &verify.Verifier{Source: l.src.DSN(""), TargetRows: r, Tables: []string{l.schema + ".*"}, Patience: time.Minute, LockTime: 5 * time.Second}
	for _, r := range l.routes {
		v.Routes = append(v.Routes, verify.Route(r))
	}
	return v
}

// mender is a Verifier that repairs. Its lock of a table without a key is for as long as
// a slow machine needs.
func (l *otherLab) mender(unfit sink.Unfit) *verify.Verifier {
	l.t.Helper()
	v := l.otherVerifier(unfit)
	var r *sink.RowMender
	var err error
	if l.pg != nil {
		r, err = sink.MendPostgres(l.t.Context(), l.pg.DSN(), &sink.PostgresOptions{Name: l.name, Schema: l.target(), Unfit: unfit})
	} else {
		r, err = sink.MendSQLite(l.t.Context(), l.file, &sink.SQLiteOptions{Name: l.name, Unfit: unfit})
	}
	require.NoError(l.t, err)
	l.t.Cleanup(func() { r.Close() })
	v.TargetRows, v.Repair, v.LockTime, v.Patience = r, true, time.Minute, 2*time.Minute
	return v
}

// passed waits until the target has all that the source has.
func (l *otherLab) passed() {
	l.t.Helper()
	l.exec(l.from, "INSERT INTO S.zz_end VALUES (NULL)")
	var want string
	require.NoError(l.t, l.from.QueryRow("SELECT MAX(id) FROM "+l.schema+".zz_end").Scan(&want))
	require.Eventually(l.t, func() bool {
		select {
		case err := <-l.ended:
			l.ended <- err
			l.t.Fatalf("the pipeline ended: %v", err)
		default:
		}
		return l.count("SELECT COUNT(*) FROM T.zz_end WHERE id="+want) == "1"
	}, 2*time.Minute, 5*time.Millisecond)
}

// otherShapes have keys of each kind by which rows are read: in the source's order, and
// in one of the target's own.
var otherShapes = append([]struct{ name, create, insert string }{
	{"bits", "(id bit(40) PRIMARY KEY, a int, b varchar(40))", "(%[1]d,%[1]d,'b')"},
	{"latin", "(id varchar(40) CHARACTER SET latin1, a int, b varchar(40), PRIMARY KEY(id))", "(CONCAT('é',%[1]d),%[1]d,'b')"},
	{"spans", "(id time(2) PRIMARY KEY, a int, b varchar(40))", "(SEC_TO_TIME(100000-%[1]d*1000.25),%[1]d,'b')"},
	{"stamps", "(id timestamp(6) PRIMARY KEY DEFAULT CURRENT_TIMESTAMP(6), a int, b varchar(40))", "(FROM_UNIXTIME(1700000000+%[1]d/7),%[1]d,'b')"},
	{"dates", "(id date, n smallint unsigned, a int, b varchar(40), PRIMARY KEY(id,n))", "(DATE_ADD('1999-12-20', INTERVAL %[1]d DIV 3 DAY),%[1]d,%[1]d,'b')"},
}, shapes...)

func TestOtherTargetsAreEqualOrEachFaultIsFound(t *testing.T) {
	for _, kind := range []string{"postgres", "sqlite"} {
		for _, from := range []testenv.Kind{my97, maria} {
			t.Run(string(from)+" to "+kind, func(t *testing.T) {
				l := newOtherLab(t, from, kind)
				for _, s := range otherShapes {
					l.exec(l.from, "CREATE TABLE S."+s.name+" "+s.create+" CHARACTER SET utf8mb4")
				}
				l.exec(l.from, "CREATE TABLE S.bag (a int, b varchar(40)) CHARACTER SET utf8mb4", "CREATE TABLE S.zz_end (id int AUTO_INCREMENT PRIMARY KEY)", "CREATE TABLE S.empty (id int PRIMARY KEY)")
				l.start(sink.Unfit{}, true)
				const n = 300
				for _, s := range otherShapes {
					var rows []string
					for i := range n {
						rows = append(rows, fmt.Sprintf(s.insert, i))
					}
					l.exec(l.from, "INSERT INTO S."+s.name+" VALUES "+strings.Join(rows, ","))
				}
				l.exec(l.from, "INSERT INTO S.bag SELECT a%3, 'x' FROM S.ints")
				l.passed()
				v := l.otherVerifier(sink.Unfit{})
				r := l.verify(v)
				require.Equal(t, verify.Equal, r.Verdict(), r)
				for _, s := range otherShapes {
					x := table(t, r, l.schema+"."+s.name)
					require.EqualValues(t, n, x.Rows, s.name)
					require.EqualValues(t, n, x.TargetRows, s.name)
				}

				// Of each table the first and the last row, and some in between.
				for _, s := range otherShapes {
					l.change("UPDATE T."+s.name+" SET b='other' WHERE a IN (0,17)", "DELETE FROM T."+s.name+" WHERE a IN (33,34)",
						"UPDATE T."+s.name+" SET b=NULL WHERE a=299")
				}
				l.change("UPDATE T.ints SET id=-5 WHERE a=40", "UPDATE T.ints SET id=100000 WHERE a=41", "INSERT INTO T.empty VALUES (7)",
					"UPDATE T.bag SET b='y' WHERE a=1", "INSERT INTO T.texts VALUES ('a ö',1,'')", "INSERT INTO T.latin VALUES ('☺',1,'')")
				r = l.verify(v)
				require.Equal(t, verify.Different, r.Verdict(), r)
				for _, s := range otherShapes {
					x := table(t, r, l.schema+"."+s.name)
					extra, missing, different := 0, 2, 3
					switch s.name {
					case "ints":
						extra, missing = 2, 4
					case "texts", "latin":
						extra = 1
					case "unsigned":
						different = 2 // its last row has NULL as it is
					}
					require.Equal(t, []int{missing, extra, different}, []int{x.Missing, x.Extra, x.Different}, "%s\n%s", s.name, r)
					require.Empty(t, x.Untold)
				}
				x := table(t, r, l.schema+".ints")
				require.Contains(t, x.String(), "missing in "+l.target()+".ints: id=231\n")
				require.Contains(t, x.String(), "extra in "+l.target()+".ints: id=-5\n")
				require.Contains(t, x.String(), "different in "+l.target()+".ints: id=119; b is \"text 17\" on the source, \"other\" on the target\n")
				x = table(t, r, l.schema+".bag")
				require.Equal(t, []int{1, 1}, []int{x.Missing, x.Extra}, r)
				require.Equal(t, 100, x.Findings[0].Count)
				x = table(t, r, l.schema+".empty")
				require.Equal(t, 1, x.Extra, r)

				// A dry run says how each would be mended, and does nothing.
				all := 0
				for i := range r.Tables {
					all += len(r.Tables[i].Findings)
				}
				v.Repair, v.DryRun, v.LockTime = true, true, time.Minute
				mended := func(r *verify.Report) (done, would int) {
					for i := range r.Tables {
						done, would = done+r.Tables[i].Repaired, would+r.Tables[i].Repairable
					}
					return done, would
				}
				r = l.verify(v)
				done, would := mended(r)
				require.Equal(t, []int{0, all}, []int{done, would}, r)
				x = table(t, r, l.schema+".ints")
				require.Contains(t, x.String(), "would be mended by: INSERT INTO "+l.target()+".ints (id, a, b) VALUES (231, 33, \"text 33\")\n")
				require.Contains(t, x.String(), "would be mended by: DELETE FROM "+l.target()+".ints WHERE id=-5\n")
				require.Contains(t, x.String(), "would be mended by: UPDATE "+l.target()+".ints SET b=\"text 17\" WHERE id=119\n")

				v = l.mender(sink.Unfit{})
				r = l.verify(v)
				done, would = mended(r)
				require.Equal(t, []int{all, 0}, []int{done, would}, r)
				r = l.verify(v)
				require.Equal(t, verify.Equal, r.Verdict(), r)
				// What was mended does not stand in the way of the pipeline.
				l.exec(l.from, "DELETE FROM S.bag WHERE a=1", "UPDATE S.ints SET a=a+1", "UPDATE S.texts SET b='new'", "DELETE FROM S.enums WHERE a>20")
				l.passed()
				r = l.verify(v)
				require.Equal(t, verify.Equal, r.Verdict(), r)
			})
		}
	}
}

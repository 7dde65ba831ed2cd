//go:build unix

package verify_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs/internal/childproc"
	"github.com/dataflowsync/dfs/internal/testseed"
	"github.com/dataflowsync/dfs/sink"
	"github.com/dataflowsync/dfs/verify"
)

// A repair is what a child does.
type repair struct {
	Source, Postgres, File string
	Name, Schema           string
	Tables                 []string
	Routes                 []verify.Route
}

func init() { child = repairUntilKilled }

// repairUntilKilled repairs again and again, and prints a line for each row that is mended.
func repairUntilKilled(text string) int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var job repair
	if err := json.Unmarshal([]byte(text), &job); err != nil {
		return fail(err)
	}
	ctx := context.Background()
	var rows *sink.RowMender
	var err error
	if job.Postgres != "" {
		rows, err = sink.MendPostgres(ctx, job.Postgres, &sink.PostgresOptions{Name: job.Name, Schema: job.Schema})
	} else {
		rows, err = sink.MendSQLite(ctx, job.File, &sink.SQLiteOptions{Name: job.Name})
	}
	if err != nil {
		return fail(err)
	}
	v := &verify.Verifier{Source: job.Source, TargetRows: rows, Tables: job.Tables, Routes: job.Routes, Repair: true, LockTime: time.Minute,
		Logger: slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: slog.LevelInfo}))}
	for {
		if _, err := v.Run(ctx); err != nil {
			return fail(err)
		}
	}
}

// A repair is killed at any moment, over and over, while the source is written to: each row
// is as it was or as it must be, the pipeline goes on, and the next repair does the rest.
func TestARepairThatIsKilledLeavesEachRowWholeAndThePipelineRunning(t *testing.T) {
	for _, kind := range []string{"postgres", "sqlite"} {
		t.Run(kind, func(t *testing.T) {
			l := newOtherLab(t, my97, kind)
			l.exec(l.from, "CREATE TABLE S.hot (id int PRIMARY KEY, n int, a varchar(40), b varchar(40))", "CREATE TABLE S.bag (a int, b int)", "CREATE TABLE S.zz_end (id int AUTO_INCREMENT PRIMARY KEY)")
			l.start(sink.Unfit{}, true)
			l.exec(l.from, "INSERT INTO S.hot VALUES "+rows(0, 1000, "(#,0,'a#','b#')"), "INSERT INTO S.bag VALUES "+rows(0, 300, "(#%50,1)"))
			l.passed()
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan bool)
			go func() {
				defer close(done)
				for n := 0; ctx.Err() == nil; n++ {
					if _, err := l.from.ExecContext(ctx, l.sql(fmt.Sprintf("UPDATE S.hot SET n=n+1 WHERE id=%d", n%100))); err != nil && ctx.Err() == nil {
						t.Error(err)
						return
					}
					time.Sleep(time.Millisecond) // to leave the processor to others
				}
			}()
			job := repair{Source: l.src.DSN(""), File: l.file, Name: l.name, Schema: l.target(), Tables: []string{l.schema + ".hot", l.schema + ".bag"}}
			if l.pg != nil {
				job.Postgres = l.pg.DSN()
			}
			for _, r := range l.routes {
				job.Routes = append(job.Routes, verify.Route(r))
			}
			text, err := json.Marshal(job)
			require.NoError(t, err)
			rng := rand.New(rand.NewPCG(testseed.New(t), 0))
			for range 4 {
				l.change("UPDATE T.hot SET a='wrong', b='wrong' WHERE id BETWEEN 100 AND 199", "DELETE FROM T.hot WHERE id BETWEEN 300 AND 349",
					"DELETE FROM T.hot WHERE id>=5000", "INSERT INTO T.hot VALUES "+rows(5000, 5050, "(#,0,'x','x')"), "UPDATE T.bag SET b=2 WHERE a<10")
				cmd := exec.Command(os.Args[0], "-test.run=^$")
				cmd.Env = append(os.Environ(), "DFS_VERIFY_CHILD="+string(text))
				out, err := cmd.StdoutPipe()
				require.NoError(t, err)
				cmd.Stderr = os.Stderr
				ended := make(chan error, 1)
				require.NoError(t, childproc.Start(cmd, func(err error) { ended <- err }))
				lines := bufio.NewScanner(out)
				for left := 1 + rng.IntN(60); left > 0; {
					require.True(t, lines.Scan(), "the repair has ended")
					if strings.Contains(lines.Text(), "msg=\"mended") {
						left--
					}
				}
				// Into whatever it is doing.
				for range rng.IntN(2000) {
					time.Sleep(time.Microsecond)
				}
				require.NoError(t, cmd.Process.Kill())
				<-ended
				require.Equal(t, "0", l.count("SELECT COUNT(*) FROM T.hot WHERE (a='wrong')<>(b='wrong') OR n IS NULL"), "half of a row is mended")
				l.passed() // which waits for no lock of the one that was killed
			}
			m := l.mender(sink.Unfit{})
			m.Tables = job.Tables
			r := l.verify(m)
			for i := range r.Tables {
				require.Equal(t, len(r.Tables[i].Findings), r.Tables[i].Repaired, r)
			}
			m.Repair = false
			r = l.verify(m)
			require.Equal(t, verify.Equal, r.Verdict(), r)
			stop()
			<-done
			l.passed()
			r = l.verify(m)
			require.Equal(t, verify.Equal, r.Verdict(), r)
		})
	}
}

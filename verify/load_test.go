package verify_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs/verify"
)

// load writes to the source what deceives comparisons most: flags that go to and
// fro, rows that come and go under one key, keys that move, and rows at the end,
// until the returned function is called. Rows from 1000 to 1999 are left alone.
func (l *lab) load(writers int) (stop func() int) {
	ctx, cancel := context.WithCancel(l.t.Context())
	var all sync.WaitGroup
	var mu sync.Mutex
	done := 0
	for w := range writers {
		all.Go(func() {
			conn, err := l.from.Conn(l.t.Context())
			if err != nil {
				l.t.Error(err)
				return
			}
			defer conn.Close()
			r := rand.New(rand.NewPCG(uint64(w), 7))
			n := 0
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for ; ctx.Err() == nil; n++ {
				<-tick.C
				k := r.IntN(20)*writers + w
				for _, s := range [][]string{
					{"UPDATE S.hot SET flag=1-flag WHERE id=#"},
					{"BEGIN", "DELETE FROM S.hot WHERE id=#", "COMMIT"},
					{"INSERT IGNORE INTO S.hot VALUES (#,0,'x',0)"},
					{"UPDATE S.hot SET n=n+1, text=RAND() WHERE id<200"},
					{"INSERT INTO S.logs (a) VALUES (#)", "DELETE FROM S.logs WHERE id%97=0 ORDER BY id DESC LIMIT 3"},
					{"UPDATE IGNORE S.moves SET id='m#' WHERE id='M#'", "UPDATE IGNORE S.moves SET id='M#' WHERE n=#+1"},
					{"UPDATE S.bag SET a=1-a LIMIT 2"},
				}[r.IntN(7)] {
					s = replace(s, "#", fmt.Sprint(k))
					if _, err := conn.ExecContext(l.t.Context(), l.sql(s)); err != nil && !deadlock(err) {
						l.t.Errorf("%s: %v", s, err)
						return
					}
				}
			}
			mu.Lock()
			defer mu.Unlock()
			done += n
		})
	}
	return sync.OnceValue(func() int {
		cancel()
		all.Wait()
		return done
	})
}

func (l *lab) hot() {
	l.t.Helper()
	l.both("CREATE TABLE S.hot (id int PRIMARY KEY, flag int, text varchar(40), n int)",
		"CREATE TABLE S.logs (id int AUTO_INCREMENT PRIMARY KEY, a int)",
		"CREATE TABLE S.moves (id varchar(20) PRIMARY KEY, n int)",
		"CREATE TABLE S.bag (a int, b int)",
		"CREATE TABLE S.zz_end (id int AUTO_INCREMENT PRIMARY KEY)")
	l.run()
	for i := range 2000 {
		if i%500 == 0 {
			l.exec(l.from, "INSERT INTO S.hot VALUES "+list(i, i+500, "(%[1]d,0,'x',%[1]d)"))
		}
	}
	l.exec(l.from, "INSERT INTO S.moves VALUES "+list(0, 60, "('M%[1]d',%[1]d)"), "INSERT INTO S.bag VALUES (0,0),(1,1),(0,0)")
	l.passed()
}

func list(from, to int, format string) string {
	s := ""
	for i := from; i < to; i++ {
		if i > from {
			s += ","
		}
		s += fmt.Sprintf(format, i)
	}
	return s
}

func TestUnderLoadThereIsNoAlarmAndFaultsAreFoundAndMended(t *testing.T) {
	l := newLab(t, my97, my97)
	l.hot()
	v := l.verifier()
	stop := l.load(4)
	rounds, looked := 0, uint64(0)
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); rounds++ {
		r := l.verify(v)
		require.NotEqual(t, verify.Different, r.Verdict(), r)
		for _, x := range r.Tables {
			require.Empty(t, x.Untold, r)
			looked += x.Looked
		}
	}
	require.NotZero(t, looked, "the load disturbs no comparison")

	// Rows that the load leaves alone, or the pipeline would stop at them.
	l.exec(l.to, "UPDATE T.hot SET n=-1 WHERE id=1500", "DELETE FROM T.hot WHERE id=1600", "INSERT INTO T.hot VALUES (5000,1,'',1)")
	v.Repair = true
	x := table(t, l.verify(v), l.schema+".hot")
	require.Equal(t, []int{1, 1, 1, 3}, []int{x.Missing, x.Extra, x.Different, x.Repaired}, x.String())
	v.Repair = false
	r := l.verify(v)
	require.Equal(t, verify.Equal, r.Verdict(), r)
	t.Logf("%d rounds, %d transactions, %d rows looked at again", rounds, stop(), looked)
	l.passed()
	r = l.verify(v)
	require.Equal(t, verify.Equal, r.Verdict(), r)
}

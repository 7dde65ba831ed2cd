//go:build unix

package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dataflowsync/dfs/monitor"
	"github.com/stretchr/testify/require"
)

// testLetters has rows of the target refuse random transactions, kills the pipeline
// again and again, and then mends the target and applies all letters.
func (e *env) testLetters(t *testing.T) {
	e.both(t, "CREATE DATABASE shop_l",
		"CREATE TABLE shop_l.people (id int PRIMARY KEY, mail varchar(40) UNIQUE, n int)",
		"CREATE TABLE shop_l.orders (id int PRIMARY KEY, by_id int NOT NULL, n int, FOREIGN KEY (by_id) REFERENCES people (id))")
	address := freeAddress(t)
	section := "dead_letters: {path: shop_l.letters}\nmonitor: {listen: \"" + address + "\"}"
	file := e.config(t, "shop_l", [2]string{"", section})
	ask := func(want int, args ...string) string {
		t.Helper()
		code, out := e.basic(t, append(args, "-c", file)...)
		require.Equal(t, want, code, out)
		return out
	}
	list := func(state string) (numbers []string) {
		if _, err := os.Stat(filepath.Join(e.dir, "shop_l.letters")); err != nil {
			return nil // no run has made it yet
		}
		var answer struct {
			Letters []monitor.Letter `json:"letters"`
		}
		require.NoError(t, json.Unmarshal([]byte(ask(exitOK, "letters", "list", "-json")), &answer))
		for _, l := range answer.Letters {
			if l.State == state {
				numbers = append(numbers, fmt.Sprint(l.Number))
			}
		}
		return numbers
	}
	// What the target has, and the source has not.
	e.target.Exec(t, "INSERT INTO shop_l.people VALUES (3, 'other', 0), (900, 'm5', 0)")

	// A writer whose statements may fail, as the rows are random.
	ctx, stop := context.WithCancel(t.Context())
	written := make(chan struct{})
	go func() {
		defer close(written)
		db, rng := e.source.DB(t), rand.New(rand.NewPCG(7, 7))
		for ctx.Err() == nil {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				continue
			}
			for range 1 + rng.IntN(3) {
				id, order, mail := rng.IntN(12), rng.IntN(30), rng.IntN(12)
				_, _ = tx.ExecContext(ctx, []string{
					fmt.Sprintf("INSERT INTO shop_l.people VALUES (%d, 'm%d', 0)", id, mail),
					fmt.Sprintf("UPDATE shop_l.people SET n = n + 1, mail = 'm%d' WHERE id = %d", mail, id),
					fmt.Sprintf("UPDATE shop_l.people SET n = n + 1 WHERE id = %d", id),
					fmt.Sprintf("DELETE FROM shop_l.people WHERE id = %d", id),
					fmt.Sprintf("INSERT INTO shop_l.orders VALUES (%d, %d, 0)", order, id),
					fmt.Sprintf("UPDATE shop_l.orders SET by_id = %d, n = n + 1 WHERE id = %d", id, order),
					fmt.Sprintf("DELETE FROM shop_l.orders WHERE id = %d", order),
				}[rng.IntN(7)])
			}
			_ = tx.Commit()
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	rng := rand.New(rand.NewPCG(8, 8))
	for i := range 6 {
		if i > 2 && len(list("parked")) > 0 { // without a pipeline, in the file
			require.Contains(t, ask(exitOK, "letters", "retry", "all"), "the next run acts on it")
		}
		p := e.start(t, "run", "-c", file)
		waitFor(t, func() bool { return strings.Contains(p.printed(), "msg=running") })
		time.Sleep(time.Duration(100+rng.IntN(400)) * time.Millisecond) // a random moment
		p.signal(t, syscall.SIGKILL)
		<-p.done
	}
	stop()
	<-written

	p := e.start(t, "run", "-c", file)
	db := e.target.DB(t)
	end := "INSERT INTO shop_l.people VALUES (%d, 'end%[1]d', 0)"
	e.source.Exec(t, fmt.Sprintf(end, 1000))
	eventually(t, p, db, "SELECT COUNT(*) FROM shop_l.people WHERE id = 1000", "1")
	require.NotEmpty(t, list("parked"))
	ask(exitOK, "letters", "retry", "all") // they are refused again
	waitFor(t, func() bool { return len(list("parked")) > 0 && len(list("retrying")) == 0 })
	require.Regexp(t, `(?m)^letters   \d+ dead letters? wait, the first for `, ask(exitOK, "status"))
	require.Contains(t, ask(exitOK, "status", "-json"), `"in_step": false`)
	out := ask(exitOK, "letters", "show", list("parked")[0])
	require.Contains(t, out, "sink: conflict: ")
	require.Contains(t, out, "shop_l.people")
	require.Contains(t, ask(exitUsage, "letters", "retry", "x"), `"x" is not the number of a letter`)
	require.Contains(t, ask(exitRun, "letters", "retry", "999999"), "no such dead letter")

	// The cause is mended, and the letters come again, each once.
	e.target.Exec(t, "DELETE FROM shop_l.people WHERE id = 900 OR mail = 'other'")
	waitFor(t, func() bool {
		if len(list("parked")) > 0 {
			_, _ = e.basic(t, "letters", "retry", "all", "-c", file)
		}
		return len(list("parked"))+len(list("retrying")) == 0
	})
	for _, query := range []string{
		"SELECT COALESCE(GROUP_CONCAT(CONCAT_WS(':', id, mail, n) ORDER BY id), '') FROM shop_l.people",
		"SELECT COALESCE(GROUP_CONCAT(CONCAT_WS(':', id, by_id, n) ORDER BY id), '') FROM shop_l.orders",
	} {
		var want string
		require.NoError(t, e.source.DB(t).QueryRow(query).Scan(&want))
		eventually(t, p, db, query, want)
	}

	// One is edited, one is skipped.
	e.target.Exec(t, "INSERT INTO shop_l.people VALUES (2000, 'here', 0)")
	e.source.Exec(t, "INSERT INTO shop_l.people VALUES (2000, 'x', 0)", "UPDATE shop_l.people SET n = 5 WHERE id = 2000")
	waitFor(t, func() bool { return len(list("parked")) == 2 })
	two := list("parked")
	require.Contains(t, ask(exitRun, "letters", "retry", two[1]), "waits for letter "+two[0])
	ask(exitRun, "letters", "edit", two[0], "0.id=many")
	ask(exitOK, "letters", "edit", two[0], "0.id=2001", "0.mail=y")
	ask(exitOK, "letters", "skip", two[1], "-why", "a test")
	ask(exitOK, "letters", "retry", two[0])
	eventually(t, p, db, "SELECT mail FROM shop_l.people WHERE id = 2001", "y")
	waitFor(t, func() bool { return len(list("retrying")) == 0 }) // the target has it a moment before its letter says so
	ask(exitOK, "letters", "purge", "all")
	require.Contains(t, ask(exitOK, "letters"), "There are no dead letters.")
	require.NotContains(t, ask(exitOK, "status"), "dead letter")
	p.signal(t, syscall.SIGTERM)
	code, said := p.wait(t)
	require.Zero(t, code, said)
	require.Contains(t, said, `action="letters skip"`)
	file = e.config(t, "shop_l")
	require.Contains(t, ask(exitUsage, "letters"), "has no section dead_letters")
}

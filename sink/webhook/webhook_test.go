package webhook

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/checkfile"
	"github.com/dataflowsync/dfs/sink/sinktest"
	"github.com/dataflowsync/dfs/sink/stream"
)

// A receiver remembers keys, as one must that wants each transaction once.
type receiver struct {
	mu     sync.Mutex
	keys   map[string]bool
	rows   map[int64]sinktest.Row
	parts  []string               // of a transaction whose end has not come
	last   uint64                 // the last whole transaction
	before map[int64]sinktest.Row // what rows were before it
	refuse func(n int) int
	n      int
	secret []byte
	faults []string
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n++
	body, _ := io.ReadAll(q.Body)
	if err := Verify(r.secret, q.Header.Get("Dfs-Signature"), body, time.Now(), time.Minute); err != nil {
		r.faults = append(r.faults, err.Error())
	}
	if code := r.refuse(r.n); code != 0 && code < 1000 {
		http.Error(w, "not now", code)
		return
	}
	key := q.Header.Get("Idempotency-Key")
	if key == "" {
		r.faults = append(r.faults, "no key")
	}
	if !r.keys[key] {
		r.keys[key] = true
		r.take(string(body))
	}
	if r.refuse(r.n) == 1000 { // it has taken it, and the answer is lost
		http.Error(w, "gone", http.StatusBadGateway)
	}
}

func (r *receiver) take(body string) {
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, `{"op":"begin"`) {
			r.parts = nil
		}
		r.parts = append(r.parts, line)
		if !strings.HasPrefix(line, `{"op":"commit"`) {
			continue
		}
		r.before = maps.Clone(r.rows)
		for _, line := range r.parts {
			var m struct {
				Seq           uint64 `json:"seq"`
				Before, After *struct {
					ID   int64  `json:"id"`
					Name string `json:"name"`
					N    int64  `json:"n"`
				}
			}
			if err := json.Unmarshal([]byte(line), &m); err != nil {
				r.faults = append(r.faults, err.Error())
			}
			r.last = m.Seq
			if m.Before != nil {
				delete(r.rows, m.Before.ID)
			}
			if m.After != nil {
				r.rows[m.After.ID] = sinktest.Row(*m.After)
			}
		}
		r.parts = nil
	}
}

func TestWebhookKeepsTheContractWithAReceiverThatRemembersKeys(t *testing.T) {
	sinktest.Run(t, "shop", func(t *testing.T) sinktest.Target {
		r := &receiver{keys: make(map[string]bool), rows: make(map[int64]sinktest.Row), secret: []byte("s3cret"), refuse: func(int) int { return 0 }}
		server := httptest.NewServer(r)
		t.Cleanup(func() {
			server.Close()
			require.Empty(t, r.faults)
		})
		path := filepath.Join(t.TempDir(), "checkpoint")
		return sinktest.Target{
			Open: func(tb testing.TB) dfs.Sink {
				s, err := Open(server.URL, &Options{Checkpoint: path, Secret: r.secret})
				require.NoError(tb, err)
				return s
			},
			// The receiver may have had one transaction more than the sink knows of,
			// which comes again.
			Rows: func(tb testing.TB) (list []sinktest.Row) {
				at, _, err := checkfile.Read(path)
				require.NoError(tb, err)
				r.mu.Lock()
				defer r.mu.Unlock()
				rows := r.rows
				if r.last > at.Seq {
					rows = r.before
				}
				for _, row := range rows {
					list = append(list, row)
				}
				slices.SortFunc(list, func(a, b sinktest.Row) int { return int(a.ID - b.ID) })
				return list
			},
		}
	})
}

var items = sinktest.Table("shop")

func insert(seq uint64) *dfs.Transaction {
	return &dfs.Transaction{Checkpoint: dfs.Checkpoint{Seq: seq, Pos: dfs.Position(fmt.Sprint("at ", seq))}, ID: fmt.Sprint("t", seq),
		Changes: []dfs.Change{{Op: dfs.Insert, Table: items, After: dfs.Row{dfs.IntValue(int64(seq)), dfs.StringValue("x"), dfs.IntValue(1)}}}}
}

func TestAnswersDecideWhatIsTriedAgain(t *testing.T) {
	code := 0
	r := &receiver{keys: make(map[string]bool), rows: make(map[int64]sinktest.Row), refuse: func(int) int { return code }}
	server := httptest.NewServer(r)
	defer server.Close()
	s, err := Open(server.URL+"/?token=s3cret", &Options{Checkpoint: filepath.Join(t.TempDir(), "checkpoint")})
	require.NoError(t, err)
	defer s.Close()
	send := func(seqs ...uint64) error {
		at, err := s.Checkpoint(t.Context())
		require.NoError(t, err)
		require.Equal(t, seqs[0]-1, at.Seq)
		var batch []*dfs.Transaction
		for _, seq := range seqs {
			batch = append(batch, insert(seq))
		}
		return s.Apply(t.Context(), batch)
	}
	require.NoError(t, send(1, 2))
	for _, code = range []int{500, 503, 429, 408, 1000} {
		require.ErrorIs(t, send(3), dfs.ErrTransient, code)
	}
	code = 400
	err = send(3)
	require.NotErrorIs(t, err, dfs.ErrTransient)
	require.ErrorContains(t, err, `the receiver answered 400 Bad Request: "not now"`)
	code = 0
	require.NoError(t, send(3, 4))
	require.Len(t, r.rows, 4)
	require.Equal(t, stream.AtLeastOnce, s.Stats().Guarantee)
	server.Close()
	err = send(5)
	require.ErrorIs(t, err, dfs.ErrTransient)
	require.NotContains(t, err.Error(), "s3cret")

	// What was answered for is stored, though a later one fails.
	calls := 0
	r.refuse = func(int) int { calls++; return map[bool]int{true: 500}[calls > 1] }
	server = httptest.NewServer(r)
	defer server.Close()
	s.url = server.URL
	require.Error(t, send(5, 6))
	at, err := s.Checkpoint(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 5, at.Seq)
}

func TestSignatures(t *testing.T) {
	secret, body, now := []byte("k"), []byte("b"), time.Unix(1.8e9, 0)
	good := Sign(secret, now, body)
	require.NoError(t, Verify(secret, good, body, now.Add(time.Minute), 5*time.Minute))
	require.ErrorContains(t, Verify(secret, good, body, now.Add(time.Hour), 5*time.Minute), "further away")
	require.ErrorContains(t, Verify(secret, good, []byte("c"), now, time.Minute), "not of this secret")
	require.ErrorContains(t, Verify([]byte("l"), good, body, now, time.Minute), "not of this secret")
	require.ErrorContains(t, Verify(secret, "", body, now, time.Minute), "not of the form")
}

func TestOpenTellsAllThatIsWrong(t *testing.T) {
	_, err := Open("ftp://user:s3cret@host/", &Options{Timeout: -1, Options: stream.Options{Format: "xml"}})
	for _, want := range []string{"https://host/path", "Checkpoint is empty", "Timeout is -1ns", `Format is "xml"`} {
		require.ErrorContains(t, err, want)
	}
	require.NotContains(t, err.Error(), "s3cret")
}

// Without a queue a transaction that is read again may have another number. Its key had
// the number in it, so that a receiver which remembers keys took it twice.
func TestTheKeyOfATransactionIsNotItsNumber(t *testing.T) {
	var keys []string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		keys = append(keys, q.Header.Get("Idempotency-Key"))
	}))
	defer server.Close()
	table := sinktest.Table("shop")
	tx := func(seq uint64, id string, rows int, more bool) *dfs.Transaction {
		tx := &dfs.Transaction{Checkpoint: dfs.Checkpoint{Seq: seq, Pos: "there"}, ID: id, Committed: time.Unix(1.8e9, 0), More: more}
		for i := range rows {
			tx.Changes = append(tx.Changes, dfs.Change{Op: dfs.Insert, Table: table, After: dfs.Row{dfs.IntValue(int64(i)), dfs.StringValue("x"), dfs.IntValue(1)}})
		}
		return tx
	}
	send := func(batch ...*dfs.Transaction) []string {
		keys = nil
		s, err := Open(server.URL, &Options{Checkpoint: filepath.Join(t.TempDir(), "checkpoint")})
		require.NoError(t, err)
		defer s.Close()
		_, err = s.Checkpoint(t.Context())
		require.NoError(t, err)
		require.NoError(t, s.Apply(t.Context(), batch))
		return keys
	}
	was := send(tx(1, "a:1", 1, false), tx(2, "a:2", 2, true), tx(3, "a:2", 2, true), tx(4, "a:2", 2, false))
	require.Len(t, slices.Compact(slices.Sorted(slices.Values(was))), 4)
	require.Equal(t, was, send(tx(1, "", 0, false), tx(2, "a:1", 1, false), tx(3, "a:2", 2, true), tx(4, "a:2", 2, true), tx(5, "a:2", 2, false)))

	// What is cut otherwise, or was committed at another time, is something else.
	cut := send(tx(1, "a:1", 1, false), tx(2, "a:2", 1, true), tx(3, "a:2", 2, true), tx(4, "a:2", 3, false))
	require.Equal(t, was[0], cut[0])
	for _, key := range cut[1:] {
		require.NotContains(t, was, key)
	}
	later := tx(1, "a:1", 1, false)
	later.Committed = later.Committed.Add(time.Second)
	require.NotEqual(t, was[:1], send(later))
}

package monitor

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/queue"
)

var lettersTable = &dfs.Table{Schema: "shop", Name: "people<b>", Key: []int{0}, Columns: []dfs.Column{
	{Name: "id", Type: "bigint"}, {Name: "mail", Type: "varchar(40)", Charset: "utf8mb4", Collation: "utf8mb4_bin", Nullable: true},
	{Name: "photo", Type: "blob", Nullable: true}, {Name: "size", Type: "enum", Members: []string{"s", "m"}}, {Name: "born", Type: "date", Nullable: true}}}

// lettersOf returns a store with three letters: the second waits for the first.
func lettersOf(t *testing.T) *queue.Letters {
	store, err := queue.OpenLetters(filepath.Join(t.TempDir(), "letters"), nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	row := func(id int64, mail string) dfs.Row {
		return dfs.Row{dfs.IntValue(id), dfs.StringValue(mail), dfs.BytesValue([]byte{0, 255}), dfs.UintValue(2), dfs.NullValue()}
	}
	came := time.Now().UTC()
	letter := func(n uint64, c dfs.Change) *dfs.Letter {
		return &dfs.Letter{Number: n, State: dfs.LetterParked, ID: "src:7", Committed: came, Parts: 1, Whole: true, Rows: 1, Bytes: 300, Tables: []string{"shop.people<b>"},
			Came: came, Changes: []dfs.Change{c}}
	}
	one := letter(1, dfs.Change{Op: dfs.Update, Table: lettersTable, Before: row(5, "<img src=x>"), After: row(5, "é@x")})
	one.Part, one.Err, one.Attempts = "sink", "conflict: no such row; password is "+secret, 1
	two := letter(2, dfs.Change{Op: dfs.Delete, Table: lettersTable, Before: row(5, "é@x")})
	two.After = []uint64{1}
	three := letter(3, dfs.Change{Op: dfs.Insert, Table: lettersTable, After: row(9, "x")})
	require.NoError(t, store.Write(t.Context(), &dfs.LetterWrite{Put: []*dfs.Letter{one, two, three}}))
	return store
}

func TestLettersAreShownAndSettled(t *testing.T) {
	l := newLab(t, nil, func(p *dfs.Pipeline) { p.Letters = lettersOf(t) })
	waitFor(t, func() bool { return l.state().Letters.Parked == 3 })
	require.Contains(t, l.state().Warnings[0], "3 dead letters wait")
	require.Equal(t, "In step with the source, but for 3 dead letters.", l.state().Text)
	const base = "/api/pipelines/shop/letters"
	get := func(path string, v any) {
		t.Helper()
		status, body := l.call(t, "GET", path, "")
		require.Equal(t, http.StatusOK, status, body)
		require.NotContains(t, body, secret)
		require.NoError(t, json.Unmarshal([]byte(body), v))
	}
	post := func(want int, in string) string {
		t.Helper()
		status, body := l.call(t, "POST", base, in)
		require.Equal(t, want, status, body)
		require.NotContains(t, body, secret)
		return body
	}
	var one Letter
	get(base+"/1", &one)
	require.Equal(t, "update", one.Changes[0].Op)
	columns := one.Changes[0].Columns
	require.Equal(t, "id", columns[0].Name)
	require.True(t, columns[0].Key)
	require.True(t, columns[1].Changed)
	require.Equal(t, "<img src=x>", *columns[1].Before)
	require.Equal(t, "0x00ff", *columns[2].After)
	require.Equal(t, "m", *columns[3].After)
	require.Equal(t, "both", columns[4].Nulls)

	// What cannot be is refused, by name, and changes nothing.
	for in, want := range map[string]string{
		`{"action": "retry", "letters": [2]}`:                                                                         "letter 2 (transaction 0, src:7) waits for letter 1",
		`{"action": "purge", "letters": [1]}`:                                                                         "is not settled",
		`{"action": "retry"}`:                                                                                         "no letter is named",
		`{"action": "burn", "letters": [1]}`:                                                                          `there is no action \"burn\"`,
		`{"action": "edit", "letters": [1, 2]}`:                                                                       "edit is for one letter",
		`{"action": "edit", "letters": [1]}`:                                                                          "no edit is given",
		`{"action": "edit", "letters": [1], "edits": [{"change": 7, "drop": true}]}`:                                  "there is no change 7",
		`{"action": "edit", "letters": [1], "edits": [{"change": 0, "column": "nix", "value": "1"}]}`:                 `has no column \"nix\"`,
		`{"action": "edit", "letters": [1], "edits": [{"change": 0, "column": "id", "value": "many"}]}`:               "column id",
		`{"action": "edit", "letters": [1], "edits": [{"change": 0, "column": "id", "value": null}]}`:                 "must not be NULL",
		`{"action": "edit", "letters": [2], "edits": [{"change": 0, "column": "id", "image": "after", "value":"1"}]}`: "has no such row",
		`{"action": "edit", "letters": [1], "edits": [{"change": 0, "column": "photo", "value": "0xzz"}]}`:            "hexadecimal digits",
	} {
		require.Contains(t, post(http.StatusConflict, in), want, in)
	}
	require.Contains(t, post(http.StatusNotFound, `{"action": "skip", "letters": [77]}`), "no such dead letter: 77")
	require.Contains(t, post(http.StatusBadRequest, `{"action": "skip", "letter": 1}`), "openapi.json")
	status, _ := l.call(t, "GET", base+"/x", "")
	require.Equal(t, http.StatusBadRequest, status)
	status, _ = l.call(t, "GET", base+"/77", "")
	require.Equal(t, http.StatusNotFound, status)

	post(http.StatusOK, `{"action": "edit", "letters": [1], "edits": [{"change": 0, "column": "mail", "value": "new"}, {"change": 0, "column": "photo", "value": "0x01"},
		{"change": 0, "column": "born", "value": "2001-02-03"}, {"change": 0, "column": "size", "value": "s"}]}`)
	get(base+"/1", &one)
	require.Equal(t, 1, one.Edits)
	require.Equal(t, "new", *one.Changes[0].Columns[1].After)
	require.Equal(t, "0x01", *one.Changes[0].Columns[2].After)
	require.Equal(t, "s", *one.Changes[0].Columns[3].After)
	require.Equal(t, "2001-02-03", *one.Changes[0].Columns[4].After)

	post(http.StatusOK, `{"action": "skip", "letters": [3], "why": "it is there"}`)
	post(http.StatusOK, `{"action": "retry", "all": true}`)
	l.src.add(3) // on which they ride
	waitFor(t, func() bool { return l.state().Letters.Parked+l.state().Letters.Retrying == 0 })
	var list struct{ Letters []Letter }
	get(base, &list)
	require.Equal(t, []string{"skipped", "applied", "applied"}, []string{list.Letters[0].State, list.Letters[1].State, list.Letters[2].State})
	_, body := l.call(t, "GET", "/metrics", "")
	require.Contains(t, body, `dfs_dead_letters{pipeline="shop",state="parked"} 0`)
	_, body = l.call(t, "GET", "/api/audit", "")
	require.Contains(t, body, `"action":"letters skip","argument":"3","why":"it is there"`)
	require.Contains(t, post(http.StatusOK, `{"action": "purge", "all": true}`), `{"letters":3}`)
	require.Contains(t, post(http.StatusConflict, `{"action": "purge", "all": true}`), "there is no letter to purge")
}

func TestWithoutAStoreThereAreNoLetters(t *testing.T) {
	l := newLab(t, nil)
	status, body := l.call(t, "GET", "/api/pipelines/shop/letters", "")
	require.Equal(t, http.StatusNotFound, status)
	require.Contains(t, body, "has no store of dead letters")
	require.False(t, l.state().Letters.On)
}

func TestThePageSettlesLetters(t *testing.T) {
	l := newLab(t, &Options{Listen: "127.0.0.1:0", every: 50 * time.Millisecond}, func(p *dfs.Pipeline) { p.Letters = lettersOf(t) })
	url, _ := l.serve(t)
	b := newTab(t)
	b.open(url)
	b.see("3 dead letters wait")
	b.press("Dead letters")
	b.see("3 transactions are missing on the target.")
	b.see("Waits for letter 1, which touches the same rows.")
	b.press("1")
	b.see("people<b>")
	b.see("<img src=x>")
	for _, dark := range []bool{false, true} {
		for _, width := range widths {
			b.picture("letters", width, 2200, dark)
		}
	}
	b.run("document.querySelector('[aria-label=\"Change mail\"]').click()")
	b.fill("dialog input[name=value]", "better@x")
	b.press("Change")
	b.see("better@x")
	b.press("3")
	b.press("Skip letter 3…")
	b.fill("dialog input[name=why]", "it is there")
	b.press("Skip")
	b.see("it is there")
	b.press("Retry all")
	waitFor(t, func() bool { return l.p.Stats().Letters.Retrying == 2 })
	l.src.add(3)
	b.see("Nothing waits.")
	b.see("Applied together with transaction")
	b.press("Purge settled…")
	b.press("Purge")
	b.see("No dead letters.")
}

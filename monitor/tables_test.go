package monitor

import (
	"encoding/json"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/stretchr/testify/require"
)

// someCopies are one of each kind.
func someCopies() []dfs.TableProgress {
	return []dfs.TableProgress{
		{Schema: "shop", Name: "users", State: dfs.Copied, Rows: 1200, Bytes: 4 << 20, Total: 1150, Rate: 900},
		{Schema: "shop", Name: "orders", State: dfs.Copying, Rows: 250_000, Bytes: 90 << 20, Total: 1_000_000, Rate: 50_000, Left: 15 * time.Second},
		{Schema: "shop", Name: "<b>log</b>", State: dfs.CopyWaiting},
		{Schema: "shop", Name: "old", State: dfs.CopyFailed, Err: errors.New("cdc: copy table shop.old: it was renamed, said " + secret + ": have it copied again")},
	}
}

func TestCopiesAreShownAndTablesAreAskedFor(t *testing.T) {
	s := newSpec(t)
	l := newLab(t, nil)
	call := func(want int, action, body string) string {
		t.Helper()
		status, answer := l.call(t, "POST", "/api/pipelines/shop/"+action, body)
		require.Equal(t, want, status, answer)
		s.check(t, "POST", "/api/pipelines/{name}/{action}", status, answer)
		require.NotContains(t, answer, secret)
		return answer
	}
	_, body := l.call(t, "GET", "/api/pipelines/shop/copies", "")
	require.JSONEq(t, `{"copies": []}`, body)
	require.Subset(t, l.state().Can, []string{"follow", "unfollow", "copy"})

	call(http.StatusOK, "follow", `{"table": "shop.more", "why": "new"}`)
	call(http.StatusOK, "follow", `{"table": "shop.late", "without_rows": true}`)
	call(http.StatusOK, "unfollow", `{"table": "shop.old"}`)
	call(http.StatusOK, "copy", `{"table": "shop.orders", "where": "id > 7"}`)
	require.Equal(t, []string{"follow [shop.more] true", "follow [shop.late] false", "unfollow [shop.old]", "copy shop.orders id > 7"}, l.src.asked())
	require.Contains(t, call(http.StatusConflict, "follow", `{"table": "shop.more"}`), "nothing to change")
	require.Contains(t, call(http.StatusBadRequest, "copy", `{"table": "shop.nowhere"}`), "no such table")
	require.Contains(t, call(http.StatusBadRequest, "unfollow", `{}`), "no table is named")
	_, body = l.call(t, "GET", "/api/audit", "")
	require.Contains(t, body, `"argument":"shop.orders where id \u003e 7"`)
	require.Contains(t, body, `"argument":"shop.late without rows"`)
	require.NotContains(t, body, secret)

	l.src.mu.Lock()
	l.src.copies = someCopies()
	l.src.mu.Unlock()
	waitFor(t, func() bool { return l.state().CopyFailed == 1 })
	require.Equal(t, 2, l.state().Copying)
	require.Equal(t, Behind, l.state().Health)
	require.Contains(t, l.state().Text, "The copy of 1 of the tables has failed, and their changes are left out.")
	status, body := l.call(t, "GET", "/api/pipelines/shop/copies", "")
	s.check(t, "GET", "/api/pipelines/{name}/copies", status, body)
	var answer struct{ Copies []Copy }
	require.NoError(t, json.Unmarshal([]byte(body), &answer))
	left := 15.0
	require.Equal(t, Copy{Name: "shop.orders", State: "copying", Rows: 250_000, Bytes: 90 << 20, Total: 1_000_000, RowsPerSecond: 50_000, LeftSeconds: &left}, answer.Copies[1])
	require.Contains(t, answer.Copies[3].Error, "have it copied again")
	require.NotContains(t, body, secret)

	// Whoever may only look cannot ask; a pipeline that does not run cannot be asked.
	l.p.Stop()
	waitFor(t, func() bool { return l.p.Stats().State == dfs.Stopped })
	require.Contains(t, call(http.StatusConflict, "copy", `{"table": "shop.orders"}`), "the pipeline is not running")
}

func TestThePageShowsCopies(t *testing.T) {
	l := newLab(t, &Options{Listen: "127.0.0.1:0", every: 50 * time.Millisecond})
	url, _ := l.serve(t)
	b := newTab(t)
	b.open(url + "/#/p/shop/copies")
	b.see("No rows are being copied.")
	b.press("Follow a table…")
	b.fill("dialog input[name=table]", "shop.nowhere")
	b.press("Follow")
	b.see("the source has no such table")
	b.fill("dialog input[name=table]", "shop.more")
	b.press("Follow")
	b.see("The table is followed.")
	require.Equal(t, []string{"follow [shop.more] true"}, l.src.asked())

	l.src.mu.Lock()
	l.src.copies = someCopies()
	l.src.mu.Unlock()
	b.see("1 of 4 tables copied, 1 failed")
	b.see("250,000")
	b.see("15 s")
	b.see("have it copied again")
	b.see("shop.<b>log</b>")
	b.picture("copies", 1280, 900, false)
	b.picture("copies", 390, 844, true)
	b.shape(390, 844)
	b.until("document.documentElement.scrollWidth <= innerWidth")
	b.press("Copy it anew…")
	require.Equal(t, "shop.old", eval[string](b, "document.querySelector('dialog input[name=table]').value"))
	b.fill("dialog input[name=where]", "id < 9")
	b.press("Copy")
	b.see("The table is being copied.")
	require.Contains(t, l.src.asked(), "copy shop.old id < 9")
	b.press("Leave one out…")
	b.fill("dialog input[name=table]", "shop.users")
	b.press("Leave it out")
	b.see("The table is left out.")
}

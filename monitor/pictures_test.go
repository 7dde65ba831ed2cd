package monitor

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/dfstest"
	"github.com/dataflowsync/dfs/dpu"
	"github.com/stretchr/testify/require"
)

// widths are those of a phone, a laptop and a large screen.
var widths = []int{390, 1280, 1920}

// TestPictures draws each page. With -screenshots it writes what it sees.
func TestPictures(t *testing.T) {
	l := newLab(t, &Options{Listen: "127.0.0.1:0", every: 100 * time.Millisecond, Settings: map[string][]Setting{"shop": {
		{"source", "db1:3306 as user dfs"}, {"tables", "shop.*, !shop.tmp_*"}, {"queue", "/var/lib/dfs/shop.queue"}, {"target", "db2:3306 as user dfs"},
		{"routes", "shop.users → crm.people"},
	}}})
	url, _ := l.serve(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan bool)
	go func() {
		defer close(done)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ctx.Err() == nil; i++ {
			l.src.mu.Lock()
			l.src.name = []string{"shop.orders", "shop.order_lines", "shop.customers", "shop.stock"}[i%4]
			l.src.n += 40 + int(30*math.Sin(float64(i)/150)) + i%7
			l.src.cond.Broadcast()
			l.src.mu.Unlock()
			if i%50 == 0 {
				l.slog.Info("progress", "pipeline", "shop", "state", "running", "rows", 100*i, "lag", time.Duration(i)*time.Millisecond)
			}
			if i%300 == 0 {
				l.slog.Warn("conflicts", "pipeline", "shop", "table", "shop.stock", "policy", "overwrite", "rows", 1)
			}
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	}()
	defer func() { cancel(); <-done }()

	b := newTab(t)
	b.do(chromedp.Navigate(url))
	b.see("Healthy")
	b.see("shop.order_lines")
	if *screenshots != "" {
		waitFor(t, func() bool { return len(l.h.lines["shop"].fine.points) > 100 })
		invent(l.h.lines["shop"])
		b.do(chromedp.Reload())
		b.see("shop.order_lines")
	}
	for _, dark := range []bool{false, true} {
		for _, width := range widths {
			b.picture("pipeline", width, 900, dark)
		}
	}
	for _, page := range []string{"log", "positions", "settings"} {
		b.do(chromedp.Evaluate[chromedp.Void](fmt.Sprintf("location.hash = '#/p/shop/%s'", page)))
		b.until("document.querySelector('.tabs [aria-current]').innerText.toLowerCase() === '" + page + "'")
		for _, width := range widths {
			b.picture(page, width, 1300, false)
			b.picture(page, width, 1300, true)
		}
	}

	l.p.Pause()
	b.see("Resume")
	b.press("Stop…")
	b.see("Exactly between two transactions.")
	b.picture("stop", 1280, 900, false)
	b.press("Cancel")
	l.dst.set(func() { l.dst.bad = fmt.Sprint("t", len(l.dst.ids)+50) })
	l.p.Resume()
	b.see("Stopped by an error. It needs you.")
	b.see("duplicate entry")
	for _, dark := range []bool{false, true} {
		b.picture("error", 1280, 900, dark)
		b.picture("error", 390, 900, dark)
	}
}

// invent gives the charts a past, which only pictures need.
func invent(w *watched) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	w.fine.points = nil
	for i := -900; i < 0; i++ {
		x := float64(i)
		wave := 4200 + 1500*math.Sin(x/90) + 400*math.Sin(x/7) + 300*math.Sin(x*1.7)
		lag := 0.08 + 0.05*math.Abs(math.Sin(x/11))
		if i > -420 && i < -380 {
			wave, lag = 0, float64(i+420)
		} else if i >= -380 && i < -350 {
			wave, lag = 16000, 40-float64(i+380)*40/30
		}
		w.fine.points = append(w.fine.points, point{at: now.Add(time.Duration(i) * time.Second), rows: wave, txs: wave / 2, lag: lag})
	}
}

// TestPictureOfManyPipelines draws the overview.
func TestPictureOfManyPipelines(t *testing.T) {
	lines := make(map[string]*dfs.Pipeline)
	feeds := make(map[string]*feed)
	for _, name := range []string{"billing", "crm", "shop-eu", "shop-us", "warehouse"} {
		feeds[name] = newFeed()
		lines[name] = &dfs.Pipeline{Source: feeds[name], Sink: new(drain), Logger: discardLog, RetryWait: time.Minute}
	}
	feeds["crm"].leave(true)
	lines["billing"].Sink.(*drain).bad = "t9"
	lines["shop-us"].Pause()
	h, err := Open(lines, &Options{Listen: "127.0.0.1:0", Logger: discardLog, every: 50 * time.Millisecond})
	require.NoError(t, err)
	l := &lab{h: h}
	url, stop := l.serve(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, len(lines))
	for name := range lines {
		go func() { done <- h.Run(ctx, name) }()
	}
	t.Cleanup(func() {
		stop()
		cancel()
		for range lines {
			<-done
		}
		require.NoError(t, h.Close())
	})
	b := newTab(t)
	b.do(chromedp.Navigate(url))
	b.see("5 pipelines, all well")
	for i := range 60 {
		for name, f := range feeds {
			f.add((i*len(name))%17 + 1)
		}
		if *screenshots != "" {
			n := h.hub.next
			waitFor(t, func() bool { h.hub.mu.Lock(); defer h.hub.mu.Unlock(); return h.hub.next > n+1 })
		}
	}
	b.see("1 of 5 pipelines needs you")
	b.see("Paused.")
	for _, width := range widths {
		b.picture("overview", width, 900, false)
		b.picture("overview", width, 900, true)
	}
	b.do(chromedp.Evaluate[chromedp.Void]("[...document.querySelectorAll('a.row')].find((a) => a.innerText.includes('billing')).click()"))
	b.see("Stopped by an error")
	b.see("Start again")
}

// TestPictureOfATrace draws a row's way through a unit, one that was refused, and
// what the monitor warns of.
func TestPictureOfATrace(t *testing.T) {
	tab := people(t)
	units, err := dpu.New([]dpu.Unit{{From: "shop.people", Into: "crm.person", Rename: map[string]string{"name": "full_name"}, Mask: map[string]dpu.Mask{"phone": "truncate 2"}}},
		&dpu.Options{Tables: []*dfs.Table{tab}, Logger: discardLog})
	require.NoError(t, err)
	now := time.Now().Add(-time.Minute)
	src := &dfstest.Source{Transactions: []dfs.Transaction{
		{ID: "3e11fa47-71ca-11e1-9e33-c80aa9429562:1041", Committed: now, Changes: []dfs.Change{dfstest.Insert(t, tab, 42, "Åsa <b>", "070-1234567"), dfstest.Insert(t, tab, 43, "Bo", nil)}},
		{ID: "3e11fa47-71ca-11e1-9e33-c80aa9429562:1042", Committed: now, Changes: []dfs.Change{dfstest.Update(t, tab, 42, "Åsa <b>", "070-1234567", 42, "Åsa Öberg", nil)}},
		{ID: "3e11fa47-71ca-11e1-9e33-c80aa9429562:1043", Committed: now, Changes: []dfs.Change{dfstest.Insert(t, tab, 42, "Cy", "070-7654321")}},
	}}
	j := openJournal(t, "", &JournalOptions{Level: JournalAll, Explain: func(_ context.Context, _ string, tx *dfs.Transaction) ([]string, error) {
		if c := tx.Changes[0]; c.Op == dfs.Update {
			return []string{fmt.Sprintf("UPDATE `crm`.`person` SET `full_name`=_utf8mb4'%s',`phone`=NULL WHERE `id`=%s", c.After[1], c.After[0])}, nil
		}
		return []string{fmt.Sprintf("INSERT INTO `crm`.`person` (`id`,`full_name`,`phone`) VALUES (%s,_utf8mb4'%s',_utf8mb4'07')", tx.Changes[0].After[0], tx.Changes[0].After[1])}, nil
	}})
	p := &dfs.Pipeline{Source: &probing{Source: src}, Stages: []dfs.Stage{units}, Sink: new(dfstest.Target).Open(), Logger: discardLog}
	require.NoError(t, j.Watch("shop", p))
	h, err := Open(map[string]*dfs.Pipeline{"shop": p}, &Options{Listen: "127.0.0.1:0", Logger: discardLog, Journal: j, every: 50 * time.Millisecond})
	require.NoError(t, err)
	url, stop := (&lab{h: h}).serve(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx, "shop") }()
	t.Cleanup(func() {
		stop()
		cancel()
		<-done
		require.NoError(t, h.Close())
	})
	b := newTab(t)
	b.do(chromedp.Navigate(url + "/#/p/shop/trace"))
	b.see("Stopped by an error")
	b.see("may delete what has not been read in 20 hours")
	b.fill("input[name=table]", "shop.people")
	b.fill("input[name=key]", "42")
	b.press("Find")
	b.see("3, newest first.")
	b.see("INSERT INTO `crm`.`person`")
	b.see("Åsa Öberg")
	for _, dark := range []bool{false, true} {
		for _, width := range widths {
			b.picture("trace", width, 2200, dark)
		}
	}
	b.shape(1280, 960)
	b.run("document.querySelector('.tabs').scrollIntoView()")
	b.picture("way", 1280, 960, false)
}

// A probing source tells that it will not keep its log for long.
type probing struct{ *dfstest.Source }

func (*probing) Probe(context.Context, dfs.Position) (dfs.Probe, error) {
	return dfs.Probe{At: time.Now(), Unread: 120_345, UnreadBytes: 1 << 30, PurgeKnown: true, PurgeIn: 20 * time.Hour, Keeps: 96 * time.Hour, ClockOffset: 9 * time.Second}, nil
}

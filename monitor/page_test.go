package monitor

import (
	"flag"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/heapprofiler"
	"github.com/chromedp/chromedp"
	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/stretchr/testify/require"
)

func TestThePageDoesWhatItsButtonsSay(t *testing.T) {
	l := newLab(t, &Options{Listen: "127.0.0.1:0", every: 50 * time.Millisecond, Settings: map[string][]Setting{"shop": {{"target", "db2 as user dfs"}}}})
	url, _ := l.serve(t)
	b := newTab(t)
	b.open(url)
	b.see("In step with the source.")
	b.see("No rows have come yet.")
	l.src.add(5)
	b.see("shop.orders")

	b.press("Pause")
	b.see("Paused. What is read meanwhile waits.")
	l.src.add(1234)
	b.see("1,234")
	b.press("Resume")
	waitFor(t, func() bool { return l.dst.count() == 1239 })
	b.see("In step with the source.")

	// A place that cannot be read is told in the form.
	b.press("Stop…")
	b.run("document.querySelector('dialog [value=stop-at]').click()")
	b.press("Stop")
	b.see("Name the place at which to stop.")
	b.fill("dialog input[name=at]", "seq:nine")
	b.press("Stop")
	b.see("write gtid:SET, file:NAME:POSITION, seq:NUMBER")
	b.fill("dialog input[name=at]", "id:t1300")
	b.fill("dialog input[name=why]", "before the migration")
	b.press("Stop")
	b.see("Will stop at transaction t1300.")
	l.src.add(500)
	b.see("Stopped, as asked. Start it to go on from here.")
	require.Equal(t, 1300, l.dst.count())
	b.press("Start")
	waitFor(t, func() bool { return l.dst.count() == 1739 })

	// What is to be skipped can be taken back.
	b.press("Skip…")
	b.fill("dialog input[name=id]", "t9999")
	b.press("Skip")
	b.see("Will skip t9999.")
	b.press("Take back")
	waitFor(t, func() bool { return len(l.p.Stats().Skip) == 0 })

	b.press("Stop…")
	b.press("Stop")
	b.see("Stopped, as asked.")
	l.dst.set(func() { l.dst.bad = "t1740" })
	l.src.add(3)
	b.press("Start")
	b.see("Stopped by an error. It needs you.")
	b.see("duplicate entry")
	b.press("Skip this transaction…")
	b.press("Skip and start")
	waitFor(t, func() bool { return l.dst.count() == 1742 })
	b.see("1 stepped over")

	for tab, want := range map[string]string{"Positions": "Source to queue", "Settings": "db2 as user dfs", "Actions": "before the migration", "Tables": "Rows since the start."} {
		b.press(tab)
		b.see(want)
	}
	for _, minutes := range []string{"1 h", "24 h", "15 min"} {
		b.press(minutes)
		b.until(fmt.Sprintf("document.querySelector('.ranges [aria-pressed=true]').innerText === %q", minutes))
	}
}

func TestThePageComesBackAfterTheServerHasRestarted(t *testing.T) {
	listen, err := testenv.FreeAddr()
	require.NoError(t, err)
	l := newLab(t, &Options{Listen: listen, every: 50 * time.Millisecond})
	url, stop := l.serve(t)
	b := newTab(t)
	b.open(url + "/#/log")
	l.slog.Info("a line of before")
	b.see("a line of before")
	b.see("Live")
	address := l.h.Addr().String()
	stop()
	b.see("Reconnecting")
	require.NoError(t, l.h.Close())

	again := &lab{p: &dfs.Pipeline{Source: newFeed(), Sink: new(drain), Logger: discardLog}, log: NewLog(discardLog.Handler(), nil)}
	again.open(t, &Options{Listen: address, Log: again.log, Logger: discardLog, every: 50 * time.Millisecond})
	defer again.h.Close()
	_, stop = again.serve(t)
	defer stop()
	b.see("Live")
	again.slog = newLogger(again.log)
	again.slog.Info("a line of after")
	b.see("a line of after")
	b.see("the program was started anew")
	b.see("a line of before")
}

func TestTheLogFiltersAndPausesAndSurvivesAFlood(t *testing.T) {
	l := newLab(t, &Options{Listen: "127.0.0.1:0", every: time.Second})
	url, _ := l.serve(t)
	b := newTab(t)
	b.open(url + "/#/log")
	b.see("Live")
	b.run(`
		window.long = 0;
		new PerformanceObserver((l) => l.getEntries().forEach((e) => { window.long = Math.max(window.long, e.duration); })).observe({ type: "longtask" });
	`)
	stop := make(chan bool)
	done := make(chan bool)
	go func() {
		defer close(done)
		tick := time.NewTicker(10 * time.Millisecond) // 10,000 lines a second
		defer tick.Stop()
		for i := 0; ; i++ {
			for k := range 100 {
				l.slog.Info("noise", "i", i, "k", k)
			}
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	}()
	b.see("lines came too fast to be shown")
	b.until("document.querySelector('.log').childElementCount === 80")
	// What the test itself asks the page is a task too, and the longest, so it does not
	// ask while it measures.
	b.run("window.long = 0")
	frames := func() uint64 { l.h.hub.mu.Lock(); defer l.h.hub.mu.Unlock(); return l.h.hub.next }
	for until := frames() + 15; frames() < until; {
		time.Sleep(10 * time.Millisecond)
	}
	if *flood > 0 {
		memoryStaysFlat(t, b)
	}
	t.Logf("longest task under the flood: %.0f ms", eval[float64](b, "window.long"))
	b.press("Pause")
	b.see(" new")
	html := eval[string](b, "document.querySelector('.log').textContent")
	require.Equal(t, html, eval[string](b, "document.querySelector('.log').textContent"), "it holds still")
	b.press("Go on")
	l.slog.Error("needle in it", "table", "shop.orders") // is out of sight within a second, but not lost
	b.fill("input[type=search]", "NEEDLE")
	b.until("document.querySelectorAll('.log [data-level]').length === 1")
	close(stop)
	<-done
	b.fill("input[type=search]", "")
	b.fill("select", "error")
	b.until("[...document.querySelectorAll('.log [data-level]')].every((e) => e.dataset.level === 'error')")
}

// However many lines there are, the document has those around what is seen, and who
// scrolls back reads on where he was.
func TestTheLogHasInTheDocumentWhatIsSeen(t *testing.T) {
	l := newLab(t, &Options{Listen: "127.0.0.1:0", every: 50 * time.Millisecond})
	for i := 1; i <= 450; i++ {
		l.slog.Info(fmt.Sprintf("line %d.", i))
	}
	url, _ := l.serve(t)
	b := newTab(t)
	b.open(url + "/#/log")
	b.see("line 450.")
	const (
		texts = "[...document.querySelectorAll('.log [data-level]')].map((e) => e.children[2].textContent)"
		box   = "document.querySelector('.log')"
	)
	require.Equal(t, 80, eval[int](b, texts+".length"))
	// To the first line, by steps as somebody makes them who scrolls.
	seen := "(() => { const y = " + box + ".getBoundingClientRect().top; return [...document.querySelectorAll('.log [data-level]')].find((e) => e.getBoundingClientRect().top >= y).children[2].textContent; })()"
	for range 200 {
		if eval[bool](b, texts+".includes('line 1.')") && eval[float64](b, box+".scrollTop") == 0 {
			break
		}
		b.run(box + ".scrollTop -= 300")
		b.until("new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(() => r(true))))")
		require.LessOrEqual(t, eval[int](b, texts+".length"), 300)
	}
	b.see("line 1.")
	at := eval[string](b, seen)
	for i := 451; i <= 500; i++ {
		l.slog.Info(fmt.Sprintf("line %d.", i))
	}
	b.see("50 new")
	require.Equal(t, at, eval[string](b, seen), "what is read stays where it is")
	require.NotContains(t, eval[string](b, texts+".join()"), "line 500.")
	// And forth, without a line that is left out or comes twice.
	for range 200 {
		if eval[string](b, texts+".at(-1)") == "line 500." {
			break
		}
		b.run(box + ".scrollTop += 300")
		b.until("new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(() => r(true))))")
		require.True(t, eval[bool](b, "(() => { const n = "+texts+".map((t) => +t.slice(5, -1)).filter((n) => n); return n.every((x, i) => i === 0 || x === n[i - 1] + 1); })()"))
	}
	b.see("line 500.")
	b.run(box + ".scrollTop = 0")
	b.press("To the newest")
	l.slog.Info("line 501.")
	b.see("line 501.")
	b.until("[...document.querySelectorAll('button')].every((e) => e.innerText !== 'To the newest' || !e.checkVisibility())")
	require.LessOrEqual(t, eval[int](b, texts+".length"), 300)
	// What comes between the drawing and the event of its scrolling is followed too.
	b.run("{ const e = " + box + "; e.scrollTop -= 30; }")
	for i := 502; i <= 900; i++ {
		l.slog.Info(fmt.Sprintf("line %d.", i))
		time.Sleep(time.Millisecond) // so that they come in many frames
	}
	b.see("line 900.")
	require.False(t, eval[bool](b, "[...document.querySelectorAll('button')].some((e) => e.innerText === 'To the newest' && e.checkVisibility())"))
}

var flood = flag.Duration("flood", 0, "how long the page is watched under 10,000 lines a second; 0: for some seconds")

// memoryStaysFlat looks at the page's heap after each tenth of the flood.
func memoryStaysFlat(t *testing.T, b *tab) {
	var sizes []float64
	for i := range 10 {
		time.Sleep(*flood / 10)
		_, err := chromedp.Call(b.ctx, heapprofiler.CollectGarbage, cdp.Empty{})
		require.NoError(t, err)
		sizes = append(sizes, eval[float64](b, "performance.memory.usedJSHeapSize / 1048576"))
		t.Logf("after %v: %.1f MiB, %.0f elements", *flood/10*time.Duration(i+1), sizes[i], eval[float64](b, "document.querySelectorAll('*').length"))
	}
	require.Less(t, sizes[9], 1.3*sizes[1]+2, "MiB")
}

func TestThePageAsksForThePassword(t *testing.T) {
	l := newLab(t, &Options{Listen: "127.0.0.1:0", Users: users, every: 50 * time.Millisecond})
	url, _ := l.serve(t)
	b := newTab(t)
	b.open(url)
	b.see("Log in")
	b.fill("input[name=name]", "eve")
	b.fill("input[name=password]", "a guess")
	b.run("document.querySelector('.login button').click()")
	b.see("Name or password is wrong.")
	b.fill("input[name=password]", users[1].Password)
	b.run("document.querySelector('.login button').click()")
	b.see("In step with the source.")
	require.Zero(t, eval[int](b, "document.querySelectorAll('.actions button:not([hidden])').length"), "eve may only look")
	b.press("Log out")
	b.see("Name")
	b.until("document.querySelector('input[name=name]') !== null")
	b.fill("input[name=name]", "ann")
	b.fill("input[name=password]", password)
	b.run("document.querySelector('.login button').click()")
	b.see("Pause")
}

func TestTheTraceOfARowIsShown(t *testing.T) {
	l := newLab(t, &Options{Listen: "127.0.0.1:0", every: 50 * time.Millisecond, Journal: openJournal(t, "", &JournalOptions{Level: JournalAll})})
	l.src.mu.Lock()
	l.src.name = "shop.<b>"
	l.src.mu.Unlock()
	l.dst.set(func() { l.dst.bad = "t2" })
	l.src.add(1)
	waitFor(t, func() bool { return l.dst.count() == 1 })
	url, _ := l.serve(t)
	b := newTab(t)
	b.open(url + "/#/p/shop/trace")
	b.see("Nothing was refused. The journal keeps all.")
	l.src.add(1)
	waitFor(t, func() bool { return l.state().Health == Failed })
	b.press("What was refused")
	b.see("duplicate entry '7'")
	require.NotContains(t, eval[string](b, "document.body.innerText"), secret)
	b.press("Find")
	b.see("Name a table and a key, or a transaction.")
	b.fill("input[name=tx]", "t1")
	b.press("Find")
	b.see("1, newest first.")
	b.see("Transaction 1")
	b.see("shop.<b>")
	b.fill("input[name=tx]", "")
	b.fill("input[name=table]", "shop.<b>")
	b.fill("input[name=key]", "7")
	b.press("Find")
	b.see("The journal has nothing of it.")
	b.fill("input[name=table]", "nothing")
	b.press("Find")
	b.see("write it as schema.table")
}

// Names and values of others are text, whatever they hold.
func TestHostileNamesAreShownAsText(t *testing.T) {
	const evil = `<img src=x onerror="window.hit=1"><script>window.hit=1</script>"'&`
	l := newLab(t, &Options{Listen: "127.0.0.1:0", every: 50 * time.Millisecond, Settings: map[string][]Setting{"shop": {{evil, evil}}}})
	l.src.mu.Lock()
	l.src.name = "s." + evil
	l.src.mu.Unlock()
	l.src.add(2)
	l.dst.set(func() { l.dst.bad = "t3" })
	l.src.add(1)
	l.slog.Error(evil, evil, evil)
	url, _ := l.serve(t)
	b := newTab(t)
	b.open(url)
	b.see("s." + evil)
	for _, tab := range []string{"Log", "Settings", "Actions", "Positions"} {
		b.run(fmt.Sprintf("location.hash = '#/p/shop/%s'", strings.ToLower(tab)))
		b.until(fmt.Sprintf("document.querySelector('.tabs [aria-current]').innerText === %q", tab))
		if tab == "Log" || tab == "Settings" {
			b.see(evil)
		}
	}
	require.False(t, eval[bool](b, "'hit' in window"))
	require.Zero(t, eval[int](b, "document.querySelectorAll('main img, main script').length"))
}

var paints = flag.Int("paints", 0, "how often the page is opened once more, to tell when it was painted")

// paintParts tells when the answer has begun and ended, when the document was read, and
// when it was painted.
const paintParts = `(() => {
	const n = performance.getEntriesByType("navigation")[0], ms = (x) => Math.round(x);
	return "asked " + ms(n.requestStart) + ", answered " + ms(n.responseStart) + " to " + ms(n.responseEnd) + ", read " + ms(n.domInteractive) +
		", painted " + ms(performance.getEntriesByName("first-contentful-paint")[0].startTime) + " ms";
})()`

// The page can be used by keys alone, fits a phone, and nothing of it comes from
// elsewhere.
func TestThePageIsSmallQuickAndReachable(t *testing.T) {
	size := 0
	require.NoError(t, fs.WalkDir(files, "page", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			i, err := d.Info()
			require.NoError(t, err)
			size += int(i.Size())
		}
		return err
	}))
	require.Less(t, size, 300<<10)

	l := newLab(t, &Options{Listen: "127.0.0.1:0", every: 50 * time.Millisecond})
	l.src.add(3)
	url, _ := l.serve(t)
	b := newTab(t)
	b.shape(390, 800)
	b.open(url)
	b.see("shop.orders")
	b.until("performance.getEntriesByName('first-contentful-paint').length === 1")
	paint := eval[float64](b, "performance.getEntriesByName('first-contentful-paint')[0].startTime")
	// Where a paint is late, the parts tell whether the server or the browser was.
	t.Logf("%d bytes, first paint after %.0f ms: %s", size, paint, eval[string](b, paintParts))
	for range *paints {
		b.open("about:blank")
		b.open(url)
		b.until("performance.getEntriesByName('first-contentful-paint').length === 1")
		t.Log("again: " + eval[string](b, paintParts))
	}
	b.see("shop.orders")
	require.NotContains(t, eval[string](b, "JSON.stringify(performance.getEntriesByType('resource').map((r) => r.name))"), "style.css", "it is in the page")
	require.Less(t, eval[float64](b, "document.documentElement.scrollWidth"), 391.0, "nothing is wider than the screen")
	require.Equal(t, true, eval[bool](b, "performance.getEntriesByType('resource').every((r) => r.name.startsWith(location.origin))"))

	// Each button and link is reached by Tab, and shows that it is.
	reached := map[string]bool{}
	for range 40 {
		b.do(chromedp.KeyEvent("\t"))
		reached[eval[string](b, "document.activeElement.innerText?.trim() ?? ''")] = true
	}
	for _, want := range []string{"DFS", "Log", "Theme", "Pause", "Stop…", "Skip…", "15 min", "24 h", "Tables", "Positions"} {
		require.True(t, reached[want], "%s in %v", want, reached)
	}
	// Nothing has moved by itself since the start but what was told.
	before := eval[string](b, "JSON.stringify([...document.querySelectorAll('.tile, .part, .chart, .tabs')].map((e) => e.getBoundingClientRect()))")
	l.src.add(100_000)
	waitFor(t, func() bool { return l.dst.count() == 100_003 })
	b.see("100,003")
	require.Equal(t, before, eval[string](b, "JSON.stringify([...document.querySelectorAll('.tile, .part, .chart, .tabs')].map((e) => e.getBoundingClientRect()))"))
}

package monitor

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/stretchr/testify/require"
)

var screenshots = flag.String("screenshots", "", "folder to which the pictures of the page are written")

// A tab is a tab of a browser. What goes wrong in its pages fails the test.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu     sync.Mutex
	faults []string
}

// newTab opens a tab in a browser of its own.
func newTab(t *testing.T) *tab {
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(testenv.Browser(t)), chromedp.UserDataDir(t.TempDir()),
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.WSURLReadTimeout(3*time.Minute))
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	b := &tab{t: t}
	b.ctx, cancel = chromedp.NewContext(ctx, chromedp.WithListener(func(ev any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		switch e := ev.(type) {
		case *runtime.EventExceptionThrown:
			b.faults = append(b.faults, fmt.Sprintf("%s %+v", e.ExceptionDetails.Text, e.ExceptionDetails.Exception))
		case *runtime.EventConsoleAPICalled:
			if e.Type == runtime.ConsoleAPICalledTypeError {
				b.faults = append(b.faults, fmt.Sprint(e.Args))
			}
		}
	}))
	t.Cleanup(cancel)
	b.do(chromedp.Navigate("about:blank"))
	t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		require.Empty(t, b.faults, "what the page's scripts have thrown")
	})
	return b
}

func (b *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	require.NoError(b.t, chromedp.Do(b.ctx, actions...))
}

// see waits until the page's text has what is wanted. What of the log is outside
// of the window is not drawn, and so not in innerText.
func (b *tab) see(want string) {
	b.t.Helper()
	b.until(fmt.Sprintf("(document.body.innerText + document.querySelector('.log')?.textContent).includes(%q)", want))
}

// until waits until the expression is true in the page.
func (b *tab) until(js string) {
	b.t.Helper()
	end := time.Now().Add(2 * time.Minute)
	for {
		ok, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool](js, chromedp.EvalAwaitPromise))
		if err == nil && ok {
			return
		}
		if time.Now().After(end) {
			text, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string]("document.body.innerText"))
			b.t.Fatalf("%s: %v; the page says\n%s", js, err, text)
		}
		select {
		case <-b.ctx.Done():
			b.t.Fatal("the browser has ended")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// press clicks the button or link with the text.
func (b *tab) press(text string) {
	b.t.Helper()
	b.until(fmt.Sprintf(`(() => {
		const e = [...document.querySelectorAll("dialog[open] button, dialog[open] input, button, a")].filter((e) => e.innerText.trim() === %q && e.checkVisibility() && !e.disabled);
		const open = document.querySelector("dialog[open]"), one = e.find((x) => !open || open.contains(x));
		if (one) one.click();
		return !!one;
	})()`, text))
}

func eval[T any](b *tab, js string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](js, chromedp.EvalAwaitPromise))
	require.NoError(b.t, err)
	return v
}

// run runs a script in the page.
func (b *tab) run(js string) {
	b.t.Helper()
	b.do(chromedp.Evaluate[chromedp.Void](js))
}

// fill writes into a field, as somebody who types.
func (b *tab) fill(selector, value string) {
	b.t.Helper()
	b.run(fmt.Sprintf(`{
		const e = document.querySelector(%q);
		e.focus();
		e.value = %q;
		e.dispatchEvent(new Event("input", { bubbles: true }));
		e.dispatchEvent(new Event("change", { bubbles: true }));
	}`, selector, value))
}

// open goes to a page of the monitor.
func (b *tab) open(url string) {
	b.t.Helper()
	b.do(chromedp.Navigate(url))
}

// serve serves the lab's monitor on an address of its own, until the test ends or
// stop is called.
func (l *lab) serve(t *testing.T) (url string, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.h.Serve(ctx) }()
	once := sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
	})
	t.Cleanup(once)
	return "http://" + l.h.Addr().String(), once
}

// picture writes a picture of the page, if pictures are wanted.
func (b *tab) picture(name string, width, height int, dark bool) {
	b.t.Helper()
	if *screenshots == "" {
		return
	}
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	b.shape(width, height)
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
	require.NoError(b.t, err)
	b.until("new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(() => r(true))))")
	png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	require.NoError(b.t, err)
	require.NoError(b.t, os.WriteFile(filepath.Join(*screenshots, fmt.Sprintf("%s-%d-%s.png", name, width, scheme)), png, 0o644))
}

// shape makes the page as large as on some screen.
func (b *tab) shape(width, height int) {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: int64(width), Height: int64(height), DeviceScaleFactor: 1, Mobile: width < 600})
	require.NoError(b.t, err)
}

//go:build unix

package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A sample is what a process takes at a moment.
type sample struct {
	Age        time.Duration `json:"age_ns"` // of the process
	RSS        int64         `json:"rss_bytes"`
	Heap       int64         `json:"heap_bytes"` // in use, by the runtime's account
	Files      int           `json:"files"`      // that it has open, connections among them
	Goroutines int           `json:"goroutines"`
}

// resources watches what DFS takes. Each start of it is a process of its own.
type resources struct {
	every time.Duration

	mu      sync.Mutex
	peak    sample
	current []sample // of the process that runs, oldest first
	longest []sample // of the one that lived longest, of those that have ended

	stop context.CancelFunc
	wg   sync.WaitGroup
}

// watch looks at the process from now on, until it ends, or another is watched.
func (r *resources) watch(p *instance) {
	r.halt()
	ctx, stop := context.WithCancel(context.Background())
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stop = stop
	if len(r.current) > len(r.longest) {
		r.longest = r.current
	}
	r.current = nil
	r.wg.Go(func() {
		for sleep(ctx, r.every) && !p.ended() {
			x, err := look(ctx, p)
			if err != nil {
				continue // halted, or just ending
			}
			r.mu.Lock()
			r.current = append(r.current, x)
			r.peak = maxima([]sample{r.peak, x})
			r.mu.Unlock()
		}
	})
}

// halt ends the watch.
func (r *resources) halt() {
	r.mu.Lock()
	stop := r.stop
	r.stop = nil
	r.mu.Unlock()
	if stop != nil {
		stop()
		r.wg.Wait()
	}
}

// longestLife returns the samples of the process that lived longest.
func (r *resources) longestLife() []sample {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.current) > len(r.longest) {
		return slices.Clone(r.current)
	}
	return slices.Clone(r.longest)
}

// look takes a sample.
func look(ctx context.Context, p *instance) (x sample, err error) {
	x.Age = time.Since(p.began)
	dir := fmt.Sprintf("/proc/%d/", p.process.Pid)
	status, err := os.ReadFile(dir + "status")
	if err != nil {
		return x, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				return x, err
			}
			x.RSS = kb << 10
		}
	}
	files, err := os.ReadDir(dir + "fd")
	if err != nil {
		return x, err
	}
	x.Files = len(files)
	err = inside(ctx, p.monitor, &x)
	return x, err
}

// inside asks the monitor of DFS for what its runtime says.
func inside(ctx context.Context, addr string, x *sample) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	const goroutines, heap = "go_goroutines", "go_memstats_heap_inuse_bytes"
	values := make(map[string]float64)
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if name == goroutines || name == heap {
			if values[name], err = strconv.ParseFloat(value, 64); err != nil {
				return fmt.Errorf("%s: %s: %w", req.URL, name, err)
			}
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s: %w", req.URL, err)
	}
	if len(values) < 2 {
		return fmt.Errorf("%s does not tell both %s and %s", req.URL, goroutines, heap)
	}
	x.Goroutines, x.Heap = int(values[goroutines]), int64(values[heap])
	return nil
}

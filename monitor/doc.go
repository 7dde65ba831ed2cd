// Package monitor shows running pipelines in a browser, over a JSON API and to
// Prometheus, and lets people steer them.
//
//	h, err := monitor.Open(map[string]*dfs.Pipeline{"shop": p}, &monitor.Options{Listen: "127.0.0.1:8080"})
//	defer h.Close()
//	go h.Serve(ctx)
//	err = h.Run(ctx, "shop") // as p.Run(ctx), but waits for a person after an error
//
// A [Handler] is an http.Handler, so it may as well be mounted in a server of
// your own. A [Log] is a slog.Handler that also feeds the page.
//
// What it serves:
//
//	/                the page
//	/api/...         what the page uses; described by /openapi.json
//	/api/live        a WebSocket: states once a second, and the log
//	/metrics         for Prometheus
//	/healthz         200 unless a pipeline has stopped by an error
//	/readyz          200 if each pipeline runs and keeps up
//
// Nobody needs a password from this host. From elsewhere everybody does, but for
// the two probes, which tell nothing but a word.
//
// A [Journal] keeps what became of transactions, and tells the way of a row.
//
// The monitor looks at pipelines once a second and is not on the path of a row;
// a browser that does not read slows nobody down.
package monitor

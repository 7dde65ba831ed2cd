package monitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"time"
)

var inf = math.Inf(1)

// answerTime is how long an answer may take, with what it takes to read it.
const answerTime = 2 * time.Minute

// Serve serves the Handler on Options.Listen until ctx ends, and then gives
// requests in hand a few seconds.
func (h *Handler) Serve(ctx context.Context) error {
	if h.listener == nil {
		return errors.New("monitor: Options.Listen is empty, so there is nothing to serve on; set it, or mount the Handler in a server")
	}
	address := h.Addr().String()
	if h.opts.TLS == nil && !loopback(address) {
		h.opts.Logger.Warn("the monitor is served without TLS, so passwords can be read on their way", "listen", address)
	}
	s := &http.Server{
		Handler: h, TLSConfig: h.opts.TLS,
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		WriteTimeout:   answerTime, // WebSockets have one of their own
		MaxHeaderBytes: 32 << 10,
		ErrorLog:       slog.NewLogLogger(h.opts.Logger.Handler(), slog.LevelDebug), // such as a TLS handshake that a port scan began
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		h.hub.close() // Shutdown does not know of WebSockets
		within, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		stopped <- s.Shutdown(within)
	})
	var err error
	if h.opts.TLS != nil {
		err = s.ServeTLS(h.listener, "", "")
	} else {
		err = s.Serve(h.listener)
	}
	if stop() { // it ended by itself
		return fmt.Errorf("monitor: serve on %s: %w", address, err)
	}
	if err := <-stopped; err != nil {
		return errors.Join(fmt.Errorf("monitor: stop serving on %s: %w", address, err), s.Close())
	}
	return nil
}

// Package tcp connects to servers so that the loss of their hosts is noticed.
package tcp

import (
	"context"
	"net"
	"time"

	"github.com/go-sql-driver/mysql"
)

// deadAfter is how long a server's host may be silent before its connection
// counts as lost. A host that is up acknowledges what comes, however long the
// server takes for a statement, so no statement is too long.
const deadAfter = 30 * time.Second

// Dial connects to addr. The drivers' own connections notice the loss of a host
// after minutes only: the system's probes start late, and do not run while
// something sent awaits its acknowledgement.
func Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: deadAfter / 2, Interval: deadAfter / 6, Count: 3},
		Control:         setUserTimeout,
	}
	if network == "unix" {
		d.Control = nil // it is an error there
	}
	return watched(d.DialContext(ctx, network, addr))
}

// Use makes the driver connect by Dial, if cfg is for TCP.
func Use(cfg *mysql.Config) {
	switch cfg.Net {
	case "tcp", "tcp4", "tcp6":
		cfg.DialFunc = Dial
	}
}

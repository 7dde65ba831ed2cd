package verify

import (
	"context"
	"database/sql/driver"
)

// prepared makes connections that have had sessionSQL. It is one statement each,
// while parameters in the data source name would be one SET, which some proxies
// take apart.
type prepared struct{ driver.Connector }

// Connect implements driver.Connector.
func (p prepared) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := p.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := conn.(driver.ExecerContext).ExecContext(ctx, sessionSQL, nil); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

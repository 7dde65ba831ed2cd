package tcp

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Session is a connection to a MySQL or MariaDB server, as the server knows it.
type Session struct {
	ID     uint64    // CONNECTION_ID()
	Server string    // what ServerQuery gives
	Opened time.Time // when it was opened, or later
}

// ServerQuery is an expression that tells servers apart to which one address may
// lead.
const ServerQuery = "CONCAT_WS(' ', @@server_id, @@hostname, @@port)"

// A Verdict is what a server says of a Session.
type Verdict int

const (
	Unknown Verdict = iota // it cannot tell
	Busy                   // it works on a statement
	Idle                   // it waits for a statement
	Gone                   // it has no such session
)

// Look asks the server that db leads to what a session of the same account is
// doing. The text says so for people, without any statement. Where db leads to
// another server, or to one that shows not even Look's own session, as behind a
// proxy that shares connections out, the verdict is Unknown. An error means that
// there was no answer; it may be the server's own, such as that it has too many
// connections.
func Look(ctx context.Context, db *sql.DB, s Session) (v Verdict, text string, err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return Unknown, "", err
	}
	defer conn.Close()
	var id uint64
	var server, name, uptime string
	if err := conn.QueryRowContext(ctx, "SELECT CONNECTION_ID(), "+ServerQuery).Scan(&id, &server); err != nil {
		return Unknown, "", err
	}
	if server != s.Server {
		return Unknown, "the address leads to another server now", nil
	}
	if err := conn.QueryRowContext(ctx, "SHOW GLOBAL STATUS LIKE 'Uptime'").Scan(&name, &uptime); err != nil {
		return Unknown, "", err
	}
	// Ids begin anew with the server, so another session may have this one's.
	if n, err := strconv.Atoi(uptime); err == nil && time.Since(s.Opened) > time.Duration(n)*time.Second+5*time.Second {
		return Gone, "the server was started anew", nil
	}
	rows, err := conn.QueryContext(ctx, "SHOW PROCESSLIST")
	if err != nil {
		return Unknown, "", err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return Unknown, "", err
	}
	v, text = Gone, "the server has ended the session"
	seen := false
	row, to := make([]sql.NullString, len(columns)), make([]any, len(columns))
	for i := range row {
		to[i] = &row[i]
	}
	for rows.Next() {
		if err := rows.Scan(to...); err != nil {
			return Unknown, "", err
		}
		cell := make(map[string]string, len(columns))
		for i, c := range columns {
			cell[strings.ToLower(c)] = row[i].String
		}
		switch cell["id"] {
		case strconv.FormatUint(id, 10):
			seen = true
		case strconv.FormatUint(s.ID, 10):
			v, text = Busy, fmt.Sprintf("%s for %s s", cell["command"], cell["time"])
			if cell["state"] != "" {
				text += ": " + cell["state"]
			}
			if cell["command"] == "Sleep" {
				v, text = Idle, "the session waits for a statement"
			}
		}
	}
	if err := rows.Err(); err != nil {
		return Unknown, "", err
	}
	if !seen {
		return Unknown, "the server does not show its sessions", nil
	}
	return v, text, nil
}

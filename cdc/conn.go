package cdc

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	gomysql "github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-sql-driver/mysql"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/tcp"
)

const (
	comBinlogDump     = 0x12
	comRegisterSlave  = 0x15
	comBinlogDumpGTID = 0x1e

	dumpNonBlock    = 0x01 // end with an EOF packet instead of waiting
	dumpAnnotate    = 0x02 // MariaDB: send the texts of statements
	dumpThroughGTID = 0x04 // COM_BINLOG_DUMP_GTID: a set follows

	connectTimeout = 15 * time.Second
)

// connectLog logs in to read the log.
func (s *Source) connectLog(ctx context.Context) (*client.Conn, error) {
	return connect(ctx, s.cfg, func(c *client.Conn) error {
		if bit := capabilityOf(s.opts.Compress); bit != 0 {
			return c.SetCapability(bit)
		}
		return nil
	})
}

// connect logs in, after setup, if there is one, has chosen capabilities of the
// protocol. The error never holds the password.
func connect(ctx context.Context, cfg *mysql.Config, setup func(*client.Conn) error) (*client.Conn, error) {
	timeout := cfg.Timeout
	if timeout == 0 {
		timeout = connectTimeout
	}
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		dial, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		c, err := tcp.Dial(dial, network, addr)
		if err != nil {
			return nil, err
		}
		// The login answers to this deadline and to ctx; later reads set their
		// own.
		deadline := time.Now().Add(timeout)
		if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
			deadline = d
		}
		return c, c.SetDeadline(deadline)
	}
	login := func(tlsConfig *tls.Config) (*client.Conn, error) {
		return client.ConnectWithDialer(ctx, cfg.Net, cfg.Addr, cfg.User, cfg.Passwd, "", dial, func(c *client.Conn) error {
			if tlsConfig != nil {
				c.SetTLSConfig(tlsConfig)
			}
			c.SetAttributes(map[string]string{"program_name": "dfs"})
			if setup == nil {
				return nil
			}
			return setup(c)
		})
	}
	c, err := login(cfg.TLS)
	if err != nil && cfg.TLS != nil && cfg.AllowFallbackToPlaintext && ctx.Err() == nil {
		c, err = login(nil)
	}
	if err != nil {
		return nil, fmt.Errorf("cdc: connect to %s as %s: %w", cfg.Addr, cfg.User, plain(err))
	}
	return c, nil
}

// plain gives the errors of go-mysql without the stack traces that they print
// with, and with their meaning for the pipeline.
func plain(err error) error {
	var my *gomysql.MyError
	if errors.As(err, &my) {
		return my
	}
	text := err.Error()
	if i := strings.IndexByte(text, '\n'); i > 0 {
		text = text[:i]
	}
	return plainError{text, err}
}

// A plainError says only text, and unwraps to what it stands for.
type plainError struct {
	text string
	err  error
}

func (e plainError) Error() string { return e.text }
func (e plainError) Unwrap() error { return e.err }

// transientCodes are errors that a server sends while it starts, stops or is out
// of something, and that go by themselves.
var transientCodes = map[uint16]bool{
	1040: true,                                     // too many connections
	1053: true,                                     // server shutdown in progress
	1077: true,                                     // normal shutdown
	1079: true,                                     // shutdown complete
	1105: true,                                     // unknown error, of a proxy in front
	1152: true,                                     // aborted connection
	1158: true, 1159: true, 1160: true, 1161: true, // network
	1203: true, // too many connections of this user
	1226: true, // the user has reached a limit
	1317: true, // query interrupted
	1927: true, // MariaDB: connection was killed
	3032: true, // the server is not ready
	3169: true, // session was killed
	4031: true, // disconnected for inactivity

	// Open could log in, so these are of an account that is being changed. They go
	// when that is done, and only people know when.
	1045: true, // access denied
	1698: true, // access denied, without a password
	1130: true, // host not allowed
	1820: true, // the password must be changed
	1862: true, // the password has expired
	3118: true, // account locked
	3955: true, // account blocked for some time, after wrong passwords
	4151: true, // MariaDB: account locked
}

// mark marks err as transient unless it is one that will come again.
func mark(err error) error {
	if err == nil {
		return nil
	}
	if code, ok := errorCode(err); ok && !transientCodes[code] {
		return err
	}
	return dfs.Transient(err)
}

// errorCode returns the number of a server's error.
func errorCode(err error) (uint16, bool) {
	var my *gomysql.MyError
	if errors.As(err, &my) {
		return my.Code, true
	}
	var drv *mysql.MySQLError
	if errors.As(err, &drv) {
		return drv.Number, true
	}
	return 0, false
}

// A dump is what to ask a server for.
type dump struct {
	serverID uint32
	uuid     string // by which MySQL recognises an older connection of ours
	maria    bool
	at       *position // for byFile with its file and pos
	checksum string    // as @@binlog_checksum says
	beat     time.Duration
	flags    uint16

	// semiSync asks that commits wait for this connection's answers.
	semiSync bool

	// passing says that the server is not to list this connection among its
	// replicas. MySQL 5.6 can crash in SHOW SLAVE HOSTS while a listed one goes
	// (seen with 5.6.24).
	passing bool
}

// begin makes the server send its log over c, a fresh connection.
func (d *dump) begin(c *client.Conn) error {
	beat := d.beat.Nanoseconds()
	vars := []string{
		fmt.Sprintf("@master_heartbeat_period=%d, @source_heartbeat_period=%d", beat, beat),
		// A pipeline that holds back for a while must not be cut off: the server
		// waits with a write as long as this.
		"SESSION net_write_timeout=3600",
	}
	if d.checksum != "" {
		// To know of checksums is to get them as they stand in the log.
		vars = append(vars, fmt.Sprintf("@master_binlog_checksum='%s', @source_binlog_checksum='%s'", d.checksum, d.checksum))
	}
	if d.maria {
		vars = append(vars, "@mariadb_slave_capability=4")
		if d.at.kind == byMaria {
			vars = append(vars, fmt.Sprintf("@slave_connect_state='%s'", d.at.list),
				"@slave_gtid_strict_mode=0", "@slave_gtid_ignore_duplicates=0")
		}
	} else {
		vars = append(vars, fmt.Sprintf("@slave_uuid='%s', @replica_uuid='%s'", d.uuid, d.uuid))
	}
	if d.semiSync {
		vars = append(vars, "@rpl_semi_sync_slave=1, @rpl_semi_sync_replica=1")
	}
	// In one statement: each would cost the way to the server and back.
	set := "SET " + strings.Join(vars, ", ")
	if _, err := c.Execute(set); err != nil {
		return fmt.Errorf("cdc: prepare to read the log, with %s: %w", set, plain(err))
	}

	if !d.passing {
		err := command(c, d.register())
		if err == nil {
			_, err = c.ReadOKPacket()
		}
		if err != nil {
			if code, denied := errorCode(err); denied && (code == 1045 || code == 1227) {
				return fmt.Errorf("cdc: register as a replica: %w (GRANT REPLICATION SLAVE ON *.* TO the account)", plain(err))
			}
			return fmt.Errorf("cdc: register as a replica: %w", plain(err))
		}
	}
	if err := command(c, d.request()); err != nil {
		return fmt.Errorf("cdc: ask for the log: %w", plain(err))
	}
	return nil
}

// command sends a command packet, for which b holds 4 bytes of room in front.
func command(c *client.Conn, b []byte) error {
	c.ResetSequence()
	return c.WritePacket(b)
}

// register returns COM_REGISTER_SLAVE. It makes the replica show in SHOW
// REPLICAS, where the next one looks for free ids.
func (d *dump) register() []byte {
	host, _ := os.Hostname()
	host = host[:min(len(host), 60)]
	b := append(make([]byte, 4, 64+len(host)), comRegisterSlave)
	b = binary.LittleEndian.AppendUint32(b, d.serverID)
	b = append(append(b, byte(len(host))), host...)
	b = append(b, 0, 0, 0, 0)            // no user, no password, no port
	return append(b, make([]byte, 8)...) // rank, and the source's id
}

// request returns COM_BINLOG_DUMP, or COM_BINLOG_DUMP_GTID with the set of what
// has been read. MariaDB takes its GTIDs from @slave_connect_state instead, and
// ignores the file and the place.
func (d *dump) request() []byte {
	le := binary.LittleEndian
	b := make([]byte, 4, 128)
	if d.at.kind == byGTID {
		set := d.at.set.encode()
		b = append(b, comBinlogDumpGTID)
		b = le.AppendUint16(b, d.flags|dumpThroughGTID)
		b = le.AppendUint32(b, d.serverID)
		b = le.AppendUint32(b, 0) // no file name
		b = le.AppendUint64(b, 4)
		b = le.AppendUint32(b, uint32(len(set)))
		return append(b, set...)
	}
	file, pos := d.at.file, uint32(d.at.pos)
	if d.at.kind == byMaria {
		file, pos = "", 4
	}
	b = append(b, comBinlogDump)
	b = le.AppendUint32(b, pos)
	b = le.AppendUint16(b, d.flags)
	b = le.AppendUint32(b, d.serverID)
	return append(b, file...)
}

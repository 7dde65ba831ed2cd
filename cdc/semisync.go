package cdc

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-mysql-org/go-mysql/client"

	"github.com/dataflowsync/dfs"
)

// Semi-synchronous replication, of MySQL's plugin/semisync and MariaDB's
// sql/semisync_master.cc: with a user variable a replica asks to be waited for. Its
// events then have two more bytes in front, of which the second says whether a commit
// waits for this one, and the replica answers with the place that it has come to.
const (
	semiSyncMagic = 0xef
	semiSyncHead  = 2
	semiSyncWaits = 0x01
)

// An acks answers a server whose commits wait until a transaction is stored. The
// stream notes what is waited for, and Trim what has been stored.
type acks struct {
	conn   *client.Conn
	server string // whose files asked and said are places in

	mu    sync.Mutex
	asked place // a commit waits for what ends here
	said  place // the server was told that all up to here is stored
}

// ask notes that a commit waits for what ends at p.
func (a *acks) ask(p place) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.asked.before(p) {
		a.asked = p
	}
}

// waits reports whether a commit waits, and has not been answered.
func (a *acks) waits() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.said.before(a.asked)
}

// resume tells the server of what was stored before this connection: it may have waited
// for an answer that was lost with the last one.
func (a *acks) resume() error {
	a.mu.Lock()
	p := a.asked
	a.mu.Unlock()
	return a.stored(p)
}

// answerable returns the place of a checkpoint if the server can be told that all up to
// there is stored. It must not be told of a place that its log has not come to, as after
// RESET BINARY LOGS: no commit would wait until the log is there.
func (s *Source) answerable(ctx context.Context, pos dfs.Position, server string) place {
	at, of := endOf(pos)
	if of != server || at.file == "" {
		return place{}
	}
	logs, err := s.logs(ctx)
	if err != nil {
		s.opts.Logger.Debug("a commit that waits for an answer which was lost waits for the next one", "cause", err)
		return place{}
	}
	for _, l := range logs {
		if l.name == at.file && at.pos <= l.size {
			return at
		}
	}
	return place{}
}

// ackTimeout is how long an answer may take to be sent. The server has a thread that
// does nothing but read them.
const ackTimeout = 10 * time.Second

// stored tells the server that all up to p is stored, if it waits for that.
func (a *acks) stored(p place) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p.file == "" || !a.said.before(a.asked) || !a.said.before(p) {
		return nil
	}
	b := append(make([]byte, 4, 32+len(p.file)), semiSyncMagic)
	b = append(binary.LittleEndian.AppendUint64(b, p.pos), p.file...)
	err := a.conn.Conn.SetWriteDeadline(time.Now().Add(ackTimeout))
	if err == nil {
		err = command(a.conn, b)
	}
	if err != nil {
		return dfs.Transient(fmt.Errorf("cdc: tell the source what is stored: %w", plain(err)))
	}
	a.said = p
	return nil
}

// Trim implements dfs.Trimmer. With Options.SemiSync it tells the server that all up to a
// checkpoint is stored, so that commits which wait for that go on. Else, and for
// files, it does nothing.
func (s *Source) Trim(_ context.Context, upTo dfs.Checkpoint) error {
	a := s.acks.Load()
	if a == nil {
		return nil
	}
	at, server := endOf(upTo.Pos)
	if server != a.server {
		return nil // it was made of another server's log
	}
	return a.stored(at)
}

// endOf returns the place in a position, and whose it is, without a look at its GTIDs,
// which may be long.
func endOf(pos dfs.Position) (at place, server string) {
	_, rest, _ := strings.Cut(string(pos), " ")
	server, rest, ok := strings.Cut(rest, " ")
	for ok && (strings.HasPrefix(rest, preparedWord) || strings.HasPrefix(rest, copyWord)) {
		_, rest, ok = strings.Cut(rest, " ")
	}
	_, rest, ok = strings.Cut(rest, " ") // a file may have spaces in its name
	file, off, found := cutLast(rest, ":")
	n, err := strconv.ParseUint(off, 10, 64)
	if !ok || !found || err != nil {
		return place{}, ""
	}
	return place{strings.Clone(file), n}, server
}

// hasSemiSync reports whether the first packet of a dump, which is a rotate event, has
// semiSyncHead in front: the length that the event has in its head tells.
func hasSemiSync(b []byte) bool {
	const at = 1 + semiSyncHead + 9
	return len(b) >= at+4 && b[0] == 0 && b[1] == semiSyncMagic && binary.LittleEndian.Uint32(b[at:]) == uint32(len(b)-1-semiSyncHead)
}

// askAck notes that a commit waits for e, if one does, which is what ends its transaction.
func (s *Stream) askAck(e event) {
	if r, ok := s.in.(*remote); ok && r.ack {
		s.acks.ask(place{s.asm.file, e.endsAt(s.asm.off)})
	}
}

// owesAck reports whether a commit waits for a transaction that nothing was handed on of,
// since it has nothing that is followed.
func (s *Stream) owesAck() bool {
	return s.acks != nil && s.asm.moved && !s.asm.tx.open && s.asm.skipTo == 0 && s.acks.waits()
}

// checkSemiSync finds what keeps the server from waiting for this program.
func (s *Source) checkSemiSync(vars map[string]string) []Fault {
	source, old := vars["rpl_semi_sync_source_enabled"], vars["rpl_semi_sync_master_enabled"]
	variable := "rpl_semi_sync_source_enabled"
	if source == "" && old != "" {
		variable = "rpl_semi_sync_master_enabled"
	}
	switch {
	case s.maria && !atLeast(s.known().version, 10, 3), !s.maria && !atLeast(s.known().version, 5, 7):
		// Before these a server sent nothing more until it was answered.
		return []Fault{{"SemiSync is set, and the server is " + s.known().version, "leave SemiSync out, or upgrade the server to MySQL 5.7 or MariaDB 10.3"}}
	case source == "" && old == "" && atLeast(s.known().version, 8, 1) && !s.maria:
		return []Fault{{"SemiSync is set, and the server has no semi-synchronous replication",
			"INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so', and SET PERSIST rpl_semi_sync_source_enabled = ON"}}
	case source == "" && old == "":
		return []Fault{{"SemiSync is set, and the server has no semi-synchronous replication",
			"INSTALL PLUGIN rpl_semi_sync_master SONAME 'semisync_master.so', and SET GLOBAL rpl_semi_sync_master_enabled = ON"}}
	case source != "ON" && old != "ON":
		s.opts.Logger.Warn("SemiSync is set, but no commit waits until the server is told to",
			"cure", "SET GLOBAL "+variable+" = ON, and put it into the server's configuration")
	}
	return nil
}

// checkCompress finds out whether the server can compress as it is asked to.
func (s *Source) checkCompress(vars map[string]string) []Fault {
	can, ok := vars["protocol_compression_algorithms"] // MySQL, from 8.0.18 on
	if !ok && vars["have_compress"] == "YES" {
		can = compressZlib
	}
	for name := range strings.SplitSeq(can, ",") {
		if strings.EqualFold(strings.TrimSpace(name), s.opts.Compress) {
			return nil
		}
	}
	cure := "leave Compress out"
	if strings.Contains(strings.ToLower(can), compressZlib) {
		cure = "set Compress to zlib, or leave it out"
	} else if ok {
		cure = "add it to protocol_compression_algorithms on the server, or leave Compress out"
	}
	return []Fault{{fmt.Sprintf("Compress is %q, and the server does not compress so", s.opts.Compress), cure}}
}

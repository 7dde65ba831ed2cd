package cdc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strconv"
	"strings"
)

// A logReader reads the events of one binary log file, each checked against the
// file's rules and its own checksum. Every error but io.EOF says where in the
// file it is.
type logReader struct {
	file *os.File
	name string

	buf  []byte
	r, w int // buf[r:w] is yet to be read
	size int // usual length of buf
	off  uint64
	got  uint64 // bytes read since somebody set it to zero

	format
	described bool // there was a format description
	placed    bool // each event so far has said at which place of this file it ends
	closed    bool // the last event was one that ends a file
}

const (
	logMagic       = "\xfebin"
	logMagicCipher = "\xfdbin" // MySQL's binlog_encryption
	startV3        = 1         // first event of MySQL before 5.0
)

// openLog opens a file of which nothing is read yet.
func openLog(path, name string, size int) (*logReader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cdc: %w", err)
	}
	return &logReader{file: f, name: name, size: size, placed: true}, nil
}

func (l *logReader) Close() error { return l.file.Close() }

// place returns the place that is read next, as EventError.At has it.
func (l *logReader) place() string { return l.name + ":" + strconv.FormatUint(l.off, 10) }

// fault returns an error about what begins at the place that is read next.
func (l *logReader) fault(what, cure string) error {
	return &EventError{At: l.place(), What: what, Cure: cure}
}

const cureDamaged = "the file is damaged: copy it from the server again, or start behind the damage with a new copy of the data"

// has makes buf[r:] at least n bytes long, and reports whether the file has that
// many. It takes memory only for what the file has.
func (l *logReader) has(n int) (bool, error) {
	for l.w-l.r < n {
		if l.r == l.w {
			l.r, l.w = 0, 0
		}
		if len(l.buf)-l.r < n || l.w == len(l.buf) {
			to := l.buf
			if len(to) < n || len(to) > l.size && n <= l.size {
				to = make([]byte, max(n, l.size))
			}
			l.w = copy(to, l.buf[l.r:l.w])
			l.r, l.buf = 0, to
		}
		k, err := l.file.Read(l.buf[l.w:])
		l.w += k
		l.got += uint64(k)
		if k == 0 {
			if err == nil || errors.Is(err, io.EOF) {
				return false, nil
			}
			return false, fmt.Errorf("cdc: read binary log at %s: %w", l.place(), err)
		}
	}
	return true, nil
}

// torn reports whether the file goes on behind its last whole event.
func (l *logReader) torn() bool { return l.w > l.r || l.off < 4 }

// next returns the next event without its checksum, valid until the next call. It
// returns io.EOF if the file has no further whole event yet; it may have one
// later, if somebody writes to it.
func (l *logReader) next() (event, error) {
	if l.off == 0 {
		if err := l.magic(); err != nil {
			return nil, err
		}
	}
	if ok, err := l.has(headerLen); !ok {
		return nil, eof(err)
	}
	e := event(l.buf[l.r:])
	if !l.described && e.kind() != evFormat {
		if e.kind() == startV3 {
			return nil, l.fault("the file has the form of MySQL before 5.0", "let a newer server replicate it, and read what that logs")
		}
		return nil, l.fault("the file does not begin with a format description",
			"give a whole file, as the server or mysqlbinlog --raw wrote it")
	}
	size := uint64(e.size())
	least := uint64(headerLen)
	if e.kind() != evFormat {
		least = uint64(l.header)
		if l.sum {
			least += 4
		}
	}
	if size < least {
		return nil, l.fault(fmt.Sprintf("an event claims to have %d bytes", size), cureDamaged)
	}
	ends := l.off + size
	if have := uint64(l.w - l.r); size > have {
		info, err := l.file.Stat()
		if err != nil {
			return nil, fmt.Errorf("cdc: read binary log at %s: %w", l.place(), err)
		}
		if uint64(info.Size()) < ends {
			// It is cut short or yet to be written whole, unless its size is wrong.
			if l.placed && e.logPos() != uint32(ends) {
				return nil, l.fault(fmt.Sprintf("an event claims to have %d bytes and to end at %d", size, e.logPos()), cureDamaged)
			}
			return nil, io.EOF
		}
		if ok, err := l.has(int(size)); !ok {
			return nil, eof(err)
		}
	}
	e = event(l.buf[l.r : l.r+int(size) : l.r+int(size)])
	switch {
	case e.kind() == evFormat:
		if err := l.describe(e); err != nil {
			return nil, err
		}
	case l.sum:
		end := len(e) - 4
		if binary.LittleEndian.Uint32(e[end:]) != crc32.ChecksumIEEE(e[:end]) {
			return nil, l.fault("an event does not match its checksum", cureDamaged)
		}
		e = e[:end:end]
	}
	if e.logPos() != uint32(ends) {
		l.placed = false // a relay log, or MariaDB from 11.4
	}
	if extra := l.header - headerLen; extra > 0 && e.kind() != evFormat {
		// What is known of the header stands at its beginning.
		copy(e[extra:], e[:headerLen])
		e = e[extra:]
	}
	l.closed = e.kind() == evStop || e.kind() == evRotate
	l.r += int(size)
	l.off = ends
	return e, nil
}

// eof returns err, or io.EOF if there is none.
func eof(err error) error {
	if err == nil {
		return io.EOF
	}
	return err
}

// magic reads the bytes that every file begins with.
func (l *logReader) magic() error {
	if ok, err := l.has(len(logMagic)); !ok {
		return eof(err)
	}
	magic := string(l.buf[l.r : l.r+len(logMagic)])
	switch magic {
	case logMagic:
	case logMagicCipher:
		return l.fault("the file is encrypted (binlog_encryption)",
			"read it from the server, or write it anew with mysqlbinlog --read-from-remote-server --raw")
	default:
		for _, k := range packers {
			if strings.HasPrefix(magic, k.magic) {
				return l.fault("the file is compressed with "+k.name, cureUnpack)
			}
		}
		return l.fault("the file is no binary log", "give the files that the server's log index names, unpacked")
	}
	l.r += 4
	l.off = 4
	return nil
}

// describe takes a format description. It has a checksum even if other events have
// none. A relay log has two: its own and that of the server that it is a copy of.
func (l *logReader) describe(e event) error {
	f, err := parseFormat(e)
	if err != nil {
		return l.fault(strings.TrimPrefix(err.Error(), "cdc: "), "update this program, or let a server that it can read replicate this one")
	}
	if ends := uint32(l.off) + e.size(); l.off == 4 && e.logPos() != 0 && e.logPos() != ends {
		return l.fault("the format description claims to end elsewhere than it does", cureDamaged)
	}
	if f.summed && !f.intact {
		return l.fault("the format description does not match its checksum", cureDamaged)
	}
	l.format, l.described = f, true
	return nil
}

// A fileHead is what a file says before its first transaction.
type fileHead struct {
	format
	server uint32
	kind   string      // by what its transactions can be told: byGTID, byMaria, byFile; empty if it has none
	set    *gtidSet    // what was before it, of MySQL; nil if it does not say
	list   []mariaGTID // the same, of MariaDB
	listed bool        // there was a list
}

// readHead reads the head of a file. If not even that is there, the error is
// io.EOF.
func readHead(path, name string) (h fileHead, err error) {
	l, err := openLog(path, name, 16<<10)
	if err != nil {
		return h, err
	}
	defer l.Close()
	for first := true; ; first = false {
		e, err := l.next()
		if err == io.EOF && !first {
			return h, nil
		}
		if err != nil {
			return h, err
		}
		switch e.kind() {
		case evFormat:
			h.format, h.server = l.format, e.server()
		case evPreviousGTIDs:
			h.set, err = decodeGTIDSet(e.body())
		case evMariaGTIDList:
			h.list, err = decodeGTIDList(e.body())
			h.listed = true
		case evRotate, evStop, evCheckpoint, evHeartbeat, evHeartbeat2, evIgnorable, evIncident:
		case evStartEncryption:
			return h, errEncrypted(l)
		case evGTID, evGTIDTagged:
			h.kind = byGTID
			return h, nil
		case evMariaGTID:
			h.kind = byMaria
			return h, nil
		default:
			h.kind = byFile
			return h, nil
		}
		if err != nil {
			return h, l.fault(err.Error(), cureDamaged)
		}
	}
}

// errEncrypted is what is wrong with what follows a start-encryption event.
func errEncrypted(l *logReader) error {
	return l.fault("the file is encrypted (encrypt_binlog)",
		"read it from the server, or write it anew with mysqlbinlog --read-from-remote-server --raw")
}

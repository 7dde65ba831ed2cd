package faults

import (
	"bytes"
	"encoding/binary"
)

// A Loss is a way to lose a COMMIT, after each of which the program cannot know
// whether the server has done it.
type Loss int

const (
	// ReplyLost lets the server commit, and cuts the connection instead of telling
	// the program.
	ReplyLost Loss = iota

	// ReplyHeld lets the server commit, and the program wait for the answer on a
	// connection that is silent from then on: see Blackhole.
	ReplyHeld

	// RequestLost cuts the connection before the server has got the COMMIT.
	RequestLost
)

// LoseCommits loses the next n COMMITs, whoever sends them. A COMMIT is a query that
// is this word, or several statements of which it is the last. Counts tells how many
// have been lost.
func (p *Proxy) LoseCommits(n int, how Loss) { p.set(func() { p.lose, p.loss = n, how }) }

// What is to become of a link after some bytes.
type cut int

const (
	cutNot    cut = iota
	cutNow        // reset it
	cutBefore     // reset it, without these bytes
	cutSilent     // make it silent
)

// Commands of the protocol: include/my_command.h of MySQL.
const (
	comQuery          = 0x03
	comBinlogDump     = 0x12
	comBinlogDumpGTID = 0x1e
)

// seen looks at what the program sends.
func (k *link) seen(b []byte) (then cut) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.up.scan(b, func(command byte, tail []byte) {
		switch command {
		case comBinlogDump, comBinlogDumpGTID:
			k.inLog = true
		case comQuery:
			if !isCommit(tail) {
				return
			}
			k.p.mu.Lock()
			defer k.p.mu.Unlock()
			if k.p.lose == 0 || k.reply != nil {
				return
			}
			k.p.lose--
			if k.p.loss == RequestLost {
				k.p.counts.LostCommits++
				then = cutBefore
				return
			}
			k.reply = &answer{silent: k.p.loss == ReplyHeld}
		}
	})
	return then
}

// heard looks at what the server sends, and returns what of it the program gets.
func (k *link) heard(b []byte) (keep []byte, then cut) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.reply == nil {
		return b, cutNot
	}
	ended, failed := k.reply.scan(b)
	if !ended {
		return nil, cutNot
	}
	silent := k.reply.silent
	k.reply = nil
	if !failed {
		k.p.mu.Lock()
		k.p.counts.LostCommits++
		k.p.mu.Unlock()
	}
	if silent {
		return nil, cutSilent
	}
	return nil, cutNow
}

// isCommit reports whether a query that ends so ends with a COMMIT.
func isCommit(tail []byte) bool {
	const word = "COMMIT"
	tail = bytes.TrimRight(tail, "; \t\r\n")
	if len(tail) < len(word) || !bytes.EqualFold(tail[len(tail)-len(word):], []byte(word)) {
		return false
	}
	before := tail[:len(tail)-len(word)]
	return len(before) == 0 || bytes.ContainsAny(before[len(before)-1:], "; \t\r\n")
}

// A scanner finds commands in a stream of packets: three bytes of length, one of
// number, which is 0 where a command begins.
type scanner struct {
	head    [4]byte
	have    int // bytes of head
	left    int // bytes of the payload that are yet to come
	more    bool
	first   bool // the next byte is a command
	command byte
	tail    []byte // end of the payload without the command
}

const tailLen = 16

// scan takes bytes, and calls f at the end of each command.
func (s *scanner) scan(b []byte, f func(command byte, tail []byte)) {
	for len(b) > 0 {
		if s.left == 0 {
			n := copy(s.head[s.have:], b)
			s.have, b = s.have+n, b[n:]
			if s.have < len(s.head) {
				return
			}
			s.have = 0
			s.left = int(s.head[0]) | int(s.head[1])<<8 | int(s.head[2])<<16
			if !s.more {
				s.first, s.command, s.tail = s.head[3] == 0, 0, s.tail[:0]
			}
			s.more = s.left == 1<<24-1
			if s.left == 0 && s.command != 0 {
				f(s.command, s.tail)
			}
			continue
		}
		n := min(s.left, len(b))
		part := b[:n]
		s.left, b = s.left-n, b[n:]
		if s.first {
			s.command, s.first, part = part[0], false, part[1:]
		}
		s.tail = append(s.tail, part[max(0, len(part)-tailLen):]...)
		s.tail = s.tail[max(0, len(s.tail)-tailLen):]
		if s.left == 0 && !s.more && s.command != 0 {
			f(s.command, s.tail)
		}
	}
}

// An answer is what a server sends to a query that ends with a COMMIT: a packet OK
// for each statement, the last of which says that no more follows, or an error.
type answer struct {
	buf    []byte
	silent bool
}

// moreResults is SERVER_MORE_RESULTS_EXISTS of the status in a packet OK.
const moreResults = 8

// scan takes bytes, and reports whether the answer has ended, and with an error.
func (a *answer) scan(b []byte) (ended, failed bool) {
	a.buf = append(a.buf, b...)
	for len(a.buf) >= 4 {
		n := int(a.buf[0]) | int(a.buf[1])<<8 | int(a.buf[2])<<16
		if len(a.buf) < 4+n {
			break
		}
		packet := a.buf[4 : 4+n]
		a.buf = a.buf[4+n:]
		switch {
		case n > 0 && packet[0] == 0xff:
			return true, true
		case n > 0 && packet[0] == 0:
			if status, ok := okStatus(packet); ok && status&moreResults == 0 {
				return true, false
			}
		}
	}
	return false, false
}

// okStatus returns the status of a packet OK: a byte 0, two packed numbers, and it.
func okStatus(packet []byte) (status uint16, ok bool) {
	b := packet[1:]
	for range 2 {
		if len(b) == 0 {
			return 0, false
		}
		n := 1
		switch b[0] {
		case 0xfc:
			n = 3
		case 0xfd:
			n = 4
		case 0xfe:
			n = 9
		}
		if len(b) < n {
			return 0, false
		}
		b = b[n:]
	}
	if len(b) < 2 {
		return 0, false
	}
	return binary.LittleEndian.Uint16(b), true
}

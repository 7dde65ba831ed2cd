package cdc

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/dataflowsync/dfs"
)

// A Position is what a dfs.Position of a Source says.
type Position struct {
	Kind   string // "gtid", "file" or "mariadb": what a server is asked with
	Server string // the server that was read: its server_uuid, or MariaDB's server_id

	// GTIDs is what has been read: for Kind "gtid" a set as @@gtid_executed shows
	// it, for "mariadb" the last of each domain as @@gtid_binlog_pos does, and
	// for "file" empty.
	GTIDs string

	// Prepared names the XA transactions that were prepared up to here and have
	// not ended, and where in the log they are. It is mostly empty.
	Prepared string

	// Copy says how far the copy of a Snapshot is, as of the tables that State
	// names. It is empty if there is none, or it has ended.
	Copy string

	// File and Offset are the place in the log of Server up to which it was read.
	// File is empty if nothing has been read yet by GTID.
	File   string
	Offset uint64
}

// ParsePosition reads a position that a Stream has made.
func ParsePosition(s dfs.Position) (Position, error) {
	p, err := parsePosition(s)
	if err != nil {
		return Position{}, err
	}
	v := Position{Kind: p.kind, Server: p.server, File: p.file, Offset: p.pos, Prepared: string(appendPrepared(nil, p.xa)), Copy: p.copy}
	switch p.kind {
	case byGTID:
		v.GTIDs = p.set.String()
	case byMaria:
		v.GTIDs = p.list.String()
	}
	return v, nil
}

// String returns the position as a dfs.Position holds it.
func (p Position) String() string {
	gtids := p.GTIDs
	if gtids == "" {
		gtids = "-"
	}
	prepared := ""
	if p.Prepared != "" {
		prepared = " " + preparedWord + p.Prepared
	}
	if p.Copy != "" {
		prepared += " " + copyWord + p.Copy
	}
	return fmt.Sprintf("%s %s%s %s %s", p.Kind, p.Server, prepared, gtids, p.place())
}

// place returns the place in the log, as EventError.At has it.
func (p Position) place() string { return p.File + ":" + strconv.FormatUint(p.Offset, 10) }

// start returns the position as Options.Start takes it.
func (p Position) start() string {
	if p.Kind == byFile {
		return "file:" + p.place()
	}
	return "gtid:" + p.GTIDs
}

// The kinds of position, by what a server is asked with.
const (
	byGTID  = "gtid"    // a MySQL server's GTID set
	byFile  = "file"    // a place in the files of one MySQL server
	byMaria = "mariadb" // the last GTID of each domain of MariaDB
)

// A position is a parsed dfs.Position: four words, such as
//
//	gtid 3e11fa47-71ca-11e1-9e33-c80aa9429562 3e11fa47-…:1-5 binlog.000002:1507
//
// They are the kind, the server that was read (its server_uuid, or MariaDB's
// server_id), what has been read ("-" if nothing, or if the kind is file), and
// the place in that server's files. What changes from one transaction to the
// next stands at the end, so that a queue can store no more than that.
//
// Where XA transactions are prepared, a word with their list stands before the
// third, and while rows are copied one that says how far (see copier.word).
//
// A GTID position is good on any server that has the transactions, and its
// place only informs. A file position is good on its own server only.
type position struct {
	kind   string
	server string
	set    *gtidSet  // for byGTID
	list   *gtidList // for byMaria
	xa     []preparedXA
	copy   string // how far the copy of rows is; empty if there is none
	file   string
	pos    uint64
}

// preparedWord begins the word with what is prepared.
const preparedWord = "xa:"

// copyWord begins the word with how far the copy of rows is.
const copyWord = "copy:"

// append writes the position.
func (p *position) append(b []byte) []byte {
	b = append(append(b, p.kind...), ' ')
	b = append(append(b, p.server...), ' ')
	if len(p.xa) > 0 {
		b = append(appendPrepared(append(b, preparedWord...), p.xa), ' ')
	}
	if p.copy != "" {
		b = append(append(append(b, copyWord...), p.copy...), ' ')
	}
	at := len(b)
	switch p.kind {
	case byGTID:
		b = p.set.append(b)
	case byMaria:
		b = p.list.append(b)
	}
	if len(b) == at {
		b = append(b, '-')
	}
	b = append(append(b, ' '), p.file...)
	return strconv.AppendUint(append(b, ':'), p.pos, 10)
}

// String returns the position as a dfs.Position holds it.
func (p *position) String() string { return string(p.append(nil)) }

// parsePosition reads what append wrote.
func parsePosition(s dfs.Position) (*position, error) {
	bad := func(why string) error {
		return fmt.Errorf("cdc: the checkpoint's position %q is not one of this source: %s", s, why)
	}
	f := strings.SplitN(string(s), " ", 4) // a file may have spaces in its name
	var prepared string
	some := len(f) == 4 && strings.HasPrefix(f[2], preparedWord)
	if some {
		prepared = f[2][len(preparedWord):]
		f = append(f[:2], strings.SplitN(f[3], " ", 2)...)
	}
	copied := ""
	if len(f) == 4 && strings.HasPrefix(f[2], copyWord) {
		copied = f[2][len(copyWord):]
		f = append(f[:2], strings.SplitN(f[3], " ", 2)...)
	}
	if len(f) != 4 {
		return nil, bad("it has not four words; was it made by another kind of source?")
	}
	p := &position{kind: f[0], server: f[1], copy: copied}
	if f[2] == "-" {
		f[2] = ""
	}
	var err error
	if some {
		if p.xa, err = parsePrepared(prepared); err != nil {
			return nil, bad(err.Error())
		}
	}
	switch p.kind {
	case byGTID:
		p.set, err = parseGTIDSet(f[2])
	case byMaria:
		p.list, err = parseGTIDList(f[2])
	case byFile:
	default:
		return nil, bad("its first word is unknown")
	}
	if err != nil {
		return nil, bad(err.Error())
	}
	i := strings.LastIndexByte(f[3], ':')
	if i < 0 {
		return nil, bad("its last word is not a file and a place in it")
	}
	p.file = f[3][:i]
	if p.pos, err = strconv.ParseUint(f[3][i+1:], 10, 64); err != nil {
		return nil, bad("its last word is not a file and a place in it")
	}
	return p, nil
}

// A start is a parsed Options.Start.
type start struct {
	kind string // "now", "earliest", "gtid", "file"
	gtid string
	file string
	pos  uint64
}

// parseStart reads Options.Start.
func parseStart(s string) (start, error) {
	kind, rest, _ := strings.Cut(s, ":")
	switch {
	case s == "" || s == "now":
		return start{kind: "now"}, nil
	case s == "earliest":
		return start{kind: "earliest"}, nil
	case kind == "gtid":
		// Which kind of GTID it is depends on the server: see Source.begin.
		_, err1 := parseGTIDSet(rest)
		_, err2 := parseGTIDList(rest)
		if err1 != nil && err2 != nil {
			return start{}, fmt.Errorf("start %q: %w", s, err1)
		}
		return start{kind: kind, gtid: rest}, nil
	case kind == "file":
		if i := strings.LastIndexByte(rest, ':'); i > 0 {
			if pos, err := strconv.ParseUint(rest[i+1:], 10, 64); err == nil && pos >= 4 {
				return start{kind: kind, file: rest[:i], pos: pos}, nil
			}
		}
	}
	return start{}, fmt.Errorf("start %q: write now, earliest, gtid:SET, or file:NAME:POSITION with a position from 4 up", s)
}

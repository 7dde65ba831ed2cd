package cdc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
	"strconv"

	"github.com/dataflowsync/dfs"
)

// OpenFiles returns a Source that reads binary log files, and needs no server:
// those of a server that is gone, of a backup, of a relay log, or of a folder to
// which mysqlbinlog --raw writes. Each path is a file, a folder of which all
// files of one log are read, or the index file of a log. Files whose names end
// with numbers are read in the order of these, which must have no gap; else the
// order is that of paths.
//
// A Stream begins at Options.Start, which is "earliest" by default and cannot be
// "now". Positions are those of a server's log, by GTID if the files have GTIDs:
// reading may go on from one that was made by a Source of the server, and the
// other way round. After the last transaction Next returns io.EOF, or waits for
// more with Options.Follow.
//
// A file is complete if it ends with the event that names the next one, or with
// that of the server's stop. The last file need not be: it may be one that is
// being written, or that a crash has left. What it has of a transaction that
// does not end in it is left out, with a warning to the Logger. Every other file
// must be complete, unless GTIDs prove that nothing is missing before the next
// one. What is damaged or cannot be read is an *EventError with the place, and a
// file that is missing ErrPurged.
//
// Where a log does not name columns, there is no server to ask for them: they are
// those of the CREATE TABLE statements in the files, or in Options.Schema. Of the
// Options, ServerID, ReadTimeout and TrustColumnNames mean nothing.
//
// Files of MySQL from 5.0 and MariaDB from 5.3 can be read, of which those before
// 5.1.18 have no rows that can. Encrypted files cannot, nor compressed ones: where
// a folder has such among the files that are needed, the error says so. Symbolic
// links are followed; pipes and devices are refused.
func OpenFiles(ctx context.Context, paths []string, opts *Options) (*Source, error) {
	o, faults := opts.withDefaults()
	if o.Snapshot != nil {
		faults = append(faults, Fault{What: "Snapshot is set, and log files have no rows but those that they log",
			Cure: "leave it out, or read from the server"})
	}
	if o.Start == "" {
		o.Start = "earliest"
	}
	begin, err := parseStart(o.Start)
	switch {
	case err != nil:
		faults = append(faults, Fault{What: err.Error()})
	case begin.kind == "now":
		faults = append(faults, Fault{What: `start "now" means nothing for files`, Cure: `start at "earliest", or at a place that they have`})
	}
	f, bad := newFilter(o.Tables)
	faults = append(faults, bad...)
	s := &Source{
		opts: o, start: begin, filter: f, farthest: math.MaxUint64,
		streams: make(map[*Stream]struct{}), paths: slices.Clone(paths),
	}
	if err := s.identify(ctx); err != nil {
		what, cure := err.Error(), ""
		var event *EventError
		if errors.As(err, &event) {
			what, cure = event.What+" ("+event.At+")", event.Cure
		}
		faults = append(faults, Fault{What: what, Cure: cure})
	}
	if len(faults) > 0 {
		return nil, &SetupError{faults}
	}
	return s, nil
}

// identify finds out what kind of server has written the files.
func (s *Source) identify(ctx context.Context) error {
	list, err := listLogs(s.paths)
	if err != nil {
		return err
	}
	for _, p := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		if p.packed {
			continue
		}
		h, err := readHead(p.path, p.name)
		if err == io.EOF || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		s.maria = h.maria
		f := &facts{version: h.version, checksum: "NONE", server: strconv.FormatUint(uint64(h.server), 10)}
		if h.sum {
			f.checksum = "CRC32"
		}
		s.facts.Store(f)
		return nil
	}
	return fmt.Errorf("%s does not even hold a format description", list[0].path)
}

// openFiles is Open for files.
func (s *Source) openFiles(ctx context.Context, from dfs.Checkpoint) (dfs.Stream, error) {
	var at *position
	var err error
	fix := from.Pos == ""
	if fix {
		at, err = s.startedFiles(ctx)
	} else if at, err = parsePosition(from.Pos); err == nil {
		err = s.ofThisLog(at)
	}
	if err != nil {
		return nil, err
	}
	list, err := listLogs(s.paths)
	if err != nil {
		return nil, fmt.Errorf("cdc: %w", err)
	}
	i, head, err := s.locate(ctx, list, at)
	if err != nil {
		if fix {
			err = s.startNotThere(list, err)
		}
		return nil, err
	}
	items, state, err := splitState(from.State)
	if err != nil {
		return nil, err
	}
	if at.copy != "" {
		return nil, fmt.Errorf("cdc: the checkpoint is of a copy of %d tables, which files do not have: go on from the server until it has ended", len(items))
	}
	then, state, err := splitFollow(state)
	if err != nil {
		return nil, err
	}
	follow, change, err := s.resumeFollowing(ctx, then)
	if err != nil {
		return nil, err
	}
	change.tell(s, false)
	s.follow.Store(follow)
	st, err := s.newStream(at, fix, state)
	if err != nil {
		return nil, err
	}
	st.asm.follow, st.asm.followDue = follow, then == nil || !slices.Equal(then.patterns(), follow.patterns())
	f := &fileEvents{src: s, of: st, list: list[i:], done: make(chan struct{})}
	st.in = f
	st.open = s.filesAgain
	switch kind := s.kindOf(list[i:], head); {
	case at.kind == byGTID:
		f.before = at.set.minus(head.setOrEmpty())
		f.dropped = new(gtidSet)
	case at.kind == byMaria:
		f.reach = pending(at.list, head.list)
	case fix && kind != byFile && at.pos > 4:
		// Read the file from its beginning, where it says what was before.
		st.asm.at.kind, st.asm.at.set, st.asm.at.list = kind, head.set, new(gtidList)
		for _, g := range head.list {
			st.asm.at.list.set(g)
		}
		st.asm.skipTo, st.asm.off = at.pos, 4
		st.fix = false
	default:
		f.from = at.pos
	}
	s.register(st)
	s.opts.Logger.Info("reading log files", "from", at.String(), "first", list[i].path, "files", len(list)-i)
	return st, nil
}

// ofThisLog checks that a position can be one of these files.
func (s *Source) ofThisLog(at *position) error {
	switch {
	case at.kind != byFile && s.maria != (at.kind == byMaria):
		return fmt.Errorf("cdc: the checkpoint's position %q was made on another kind of server: make a new copy of the data", at)
	case at.kind == byFile && at.server != s.known().server:
		return fmt.Errorf("%w: the checkpoint's position is in the files of server %s, and these are of %s: give the files of that one, or make a new copy of the data",
			ErrDiverged, at.server, s.known().server)
	}
	at.server = s.known().server
	return nil
}

// startedFiles is started for files.
func (s *Source) startedFiles(ctx context.Context) (*position, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.began.Pos == "" {
		p, err := s.startInFiles(ctx)
		if err != nil {
			return nil, err
		}
		s.began.Pos = dfs.Position(p.String())
	}
	return parsePosition(s.began.Pos)
}

// startInFiles returns the place that Options.Start names.
func (s *Source) startInFiles(ctx context.Context) (*position, error) {
	list, err := listLogs(s.paths)
	if err != nil {
		return nil, fmt.Errorf("cdc: %w", err)
	}
	p := &position{kind: byGTID, server: s.known().server, file: list[0].name, pos: 4, set: new(gtidSet), list: new(gtidList)}
	switch s.start.kind {
	case "file":
		p.kind, p.file, p.pos = byFile, s.start.file, s.start.pos
	case "gtid":
		if s.maria {
			p.kind = byMaria
			p.list, err = parseGTIDList(s.start.gtid)
		} else {
			p.set, err = parseGTIDSet(s.start.gtid)
		}
		if err != nil {
			return nil, s.startFault(err.Error(), `write the GTIDs as this kind of server does, or start at "earliest"`)
		}
	default:
		head, err := readHead(list[0].path, list[0].name)
		if err != nil {
			return nil, fileError(list[0], err)
		}
		p.kind = s.kindOf(list, head)
		p.set = head.setOrEmpty()
		for _, g := range head.list {
			p.list.set(g)
		}
	}
	return p, ctx.Err()
}

// checkStartFiles is CheckStart for files.
func (s *Source) checkStartFiles(ctx context.Context) error {
	p, err := s.startInFiles(ctx)
	if err != nil {
		return err
	}
	list, err := listLogs(s.paths)
	if err != nil {
		return fmt.Errorf("cdc: %w", err)
	}
	if _, _, err = s.locate(ctx, list, p); err != nil {
		return s.startNotThere(list, err)
	}
	return nil
}

// startNotThere makes a fault of the start of an error of locate.
func (s *Source) startNotThere(list []logPath, err error) error {
	if errors.Is(err, ErrPurged) || errors.Is(err, ErrDiverged) {
		return s.startFault(err.Error(), fmt.Sprintf(`start at "earliest" or a place that they have; the files are %s to %s`,
			list[0].name, list[len(list)-1].name))
	}
	return err
}

// kindOf returns the kind of positions in files, of which head is that of the
// first.
func (s *Source) kindOf(list []logPath, head fileHead) string {
	for _, p := range list[1:] {
		if head.kind != "" {
			break
		}
		// Nothing was committed while the server wrote that file.
		next, err := readHead(p.path, p.name)
		if err != nil {
			break
		}
		head.kind = next.kind
	}
	switch {
	case head.kind != "":
		return head.kind
	case head.maria && head.listed:
		return byMaria
	case head.set != nil:
		return byGTID
	}
	return byFile
}

func (h *fileHead) setOrEmpty() *gtidSet {
	if h.set == nil {
		return new(gtidSet)
	}
	return h.set
}

// locate returns which file to begin in to read on from at, and the file's head.
// All files from there on must be there.
func (s *Source) locate(ctx context.Context, list []logPath, at *position) (int, fileHead, error) {
	i, head, err := s.search(ctx, list, at)
	if err != nil {
		return 0, head, err
	}
	for k := i + 1; k < len(list); k++ {
		if !list[k].follows(list[k-1]) {
			return 0, head, errGap(list[k-1], list[k])
		}
		if list[k].packed {
			return 0, head, errPacked(list[k])
		}
	}
	return i, head, nil
}

// errGap says that files are missing between two.
func errGap(a, b logPath) error {
	return fmt.Errorf("%w: there is no file between %s and %s: put it with the others, or make a new copy of the data", ErrPurged, a.name, b.name)
}

func (s *Source) search(ctx context.Context, list []logPath, at *position) (int, fileHead, error) {
	if at.kind == byFile {
		i := slices.IndexFunc(list, func(p logPath) bool { return p.name == at.file })
		first, last, want := list[0], list[len(list)-1], newLogPath(at.file)
		if i < 0 && want.base != "" && want.base == last.base && want.num > last.num {
			return 0, fileHead{}, fmt.Errorf("%w: there is no file %s, and the last is %s", ErrDiverged, at.file, last.name)
		}
		if i < 0 {
			return 0, fileHead{}, fmt.Errorf("%w: file %s is missing, and the first left is %s", ErrPurged, at.file, first.name)
		}
		head, err := readHead(list[i].path, list[i].name)
		if err != nil {
			return 0, head, fileError(list[i], err)
		}
		info, err := os.Stat(list[i].path)
		if err != nil {
			return 0, head, fileError(list[i], err)
		}
		if size := uint64(info.Size()); at.pos > size {
			return 0, head, fmt.Errorf("%w: %s has only %d bytes, and position %d was read", ErrDiverged, at.file, size, at.pos)
		}
		return i, head, nil
	}
	var missing string
	for i := len(list) - 1; i >= 0; i-- {
		if err := ctx.Err(); err != nil {
			return 0, fileHead{}, err
		}
		head, err := readHead(list[i].path, list[i].name)
		if err == io.EOF && i > 0 {
			continue // it is about to be written
		}
		if err != nil {
			return 0, head, fileError(list[i], err)
		}
		switch {
		case head.maria != s.maria:
			return 0, head, errFlavour(list[i].name)
		case at.kind == byMaria:
			if head.listed && covers(at.list, head.list) {
				return i, head, nil
			}
			missing = (&gtidList{head.list}).String()
		case head.set != nil:
			left := head.set.minus(at.set)
			if len(left.sids) == 0 {
				return i, head, nil
			}
			missing = left.String()
		case head.kind == byGTID:
			return 0, head, &EventError{
				At:   list[i].name + ":4",
				What: "the file has GTIDs, but no previous-GTIDs event, so which transactions were before it is not known",
				Cure: "copy it from the server again, or start by file without a checkpoint",
			}
		}
	}
	if missing == "" {
		return 0, fileHead{}, fmt.Errorf("%w: the files have no GTIDs", ErrDiverged)
	}
	return 0, fileHead{}, fmt.Errorf("%w: transactions %s are missing, which were logged before the first file, %s: give the files before it too, or make a new copy of the data",
		ErrPurged, missing, list[0].name)
}

// errFlavour says that a file is of another kind of server than the others.
func errFlavour(name string) error {
	return &EventError{At: name + ":4", What: "MySQL and MariaDB have written the files", Cure: "give the files of one server only"}
}

// fileError makes an error of one that came from opening or reading a file.
func fileError(p logPath, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: file %s is missing: put it with the others, or make a new copy of the data", ErrPurged, p.path)
	case err == io.EOF:
		return &EventError{At: p.name + ":0", What: "the file does not even hold a format description", Cure: "copy it from the server again"}
	}
	return err
}

// covers reports whether a file whose list of GTIDs is before can be where
// reading on from at begins: it or a later file has all that follows. So decides
// MariaDB itself, in contains_all_slave_gtid of sql/sql_repl.cc.
func covers(at *gtidList, before []mariaGTID) bool {
	for i, b := range before {
		g, ok := at.find(b.domain)
		switch {
		case !ok:
			return false // all of the domain is wanted, and some of it was before
		case g.server != b.server || g.seq > b.seq:
			continue
		case g.seq < b.seq:
			return false
		case i+1 < len(before) && before[i+1].domain == b.domain:
			return false // others of the domain came after it
		}
	}
	return true
}

// pending returns the GTIDs of at that are yet to come in a file whose list of
// GTIDs is before, by domain: up to them transactions have been read.
func pending(at *gtidList, before []mariaGTID) map[uint32]mariaGTID {
	left := make(map[uint32]mariaGTID, len(at.gtids))
	for _, g := range at.gtids {
		left[g.domain] = g
	}
	for _, b := range before {
		if left[b.domain] == b {
			delete(left, b.domain)
		}
	}
	return left
}

package cdc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"
)

// A fileEvents is the events of files, one file after the other. It puts a Rotate
// event in front of each file, as a server does that sends its log, and leaves
// out those that stand in the files.
type fileEvents struct {
	src  *Source
	of   *Stream
	list []logPath // the files from the one that is read on
	log  *logReader
	made bool // the last event was not in the file
	from uint64
	got  uint64

	// What was read before, where reading goes on by GTID.
	before   *gtidSet // of MySQL: what the first file and those after it have of it
	dropped  *gtidSet // of that, what has come
	known    *gtidSet // what was before the file that is read
	reach    map[uint32]mariaGTID
	passed   map[uint32]mariaGTID // a later transaction of a domain in reach, which has come
	rotated  string               // the file that the last Rotate event names
	dropping bool                 // inside a transaction that was read before

	once sync.Once
	done chan struct{} // closed by Close
	mu   sync.Mutex    // for log while it changes, and Close
}

func (f *fileEvents) offset() uint64 {
	if f.made {
		return 0
	}
	return f.log.off
}

func (f *fileEvents) buffered() int {
	if f.log == nil {
		return 0
	}
	return f.log.w - f.log.r
}

func (f *fileEvents) received() uint64 {
	n := f.got
	if f.log != nil {
		n += f.log.got
		f.log.got = 0
	}
	f.got = 0
	return n
}

func (f *fileEvents) Close() error {
	f.once.Do(func() { close(f.done) })
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.log == nil {
		return nil
	}
	err := f.log.Close()
	if errors.Is(err, fs.ErrClosed) {
		return nil
	}
	return err
}

func (f *fileEvents) next(ctx context.Context, wait bool) (event, error) {
	f.made = false
	for {
		if f.log == nil {
			return f.open()
		}
		e, err := f.log.next()
		if err == io.EOF {
			if e, err := f.end(ctx, wait); e != nil || err != nil || f.log != nil && !wait {
				return e, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		if e, err = f.pass(e); e != nil || err != nil {
			return e, unreadable(err, f.log.place(), "")
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
}

// open opens the first file of the list, and returns a Rotate event that names
// it.
func (f *fileEvents) open() (event, error) {
	p := f.list[0]
	l, err := openLog(p.path, p.name, f.src.opts.Buffer)
	if err != nil {
		return nil, fileError(p, err)
	}
	f.mu.Lock()
	f.log = l
	f.mu.Unlock()
	select {
	case <-f.done:
		l.Close()
	default:
	}
	body := binary.LittleEndian.AppendUint64(nil, max(f.from, 4))
	f.made = true
	return madeUp(evRotate, append(body, p.name...)), nil
}

// madeUp returns an event that stands in no file.
func madeUp(kind byte, body []byte) event {
	e := append(make(event, headerLen, headerLen+len(body)), body...)
	e[4], e[17] = kind, flagArtificial
	binary.LittleEndian.PutUint32(e[9:], uint32(len(e)))
	return e
}

// pass returns e if it is to be handed on, or nil.
func (f *fileEvents) pass(e event) (event, error) {
	a := &f.of.asm
	kind := e.kind()
	if f.from > 0 && kind != evFormat {
		if f.log.off > f.from {
			if start := f.log.off - uint64(e.size()); start < f.from {
				return nil, fmt.Errorf("%w: no event ends at %s:%d, and one goes from %d to %d: give the files that were read before, or make a new copy of the data",
					ErrDiverged, f.log.name, f.from, start, f.log.off)
			}
			f.from = 0
		} else {
			return nil, nil
		}
	}
	switch kind {
	case evFormat:
		a.version = f.log.version
		return nil, nil
	case evHeartbeat, evHeartbeat2:
		return nil, nil
	case evRotate:
		// It names the next file, or in a relay log one of another server.
		f.rotated = ""
		if len(e.body()) > 8 {
			f.rotated = string(e.body()[8:])
		}
		return nil, nil
	case evStop:
		return e, nil
	case evStartEncryption:
		return nil, errEncrypted(f.log)
	case evPreviousGTIDs:
		set, err := decodeGTIDSet(e.body())
		if err != nil {
			return nil, f.log.fault(err.Error(), cureDamaged)
		}
		if a.at.kind == byGTID && a.at.set != nil {
			if missing := set.minus(a.at.set); len(missing.sids) > 0 {
				return nil, errBefore(f.log.name, missing.String())
			}
			f.known = set
		}
		return e, nil
	case evMariaGTIDList:
		list, err := decodeGTIDList(e.body())
		if err != nil {
			return nil, f.log.fault(err.Error(), cureDamaged)
		}
		return e, f.listed(list)
	}
	if f.log.maria != f.src.maria {
		return nil, errFlavour(f.log.name)
	}
	var err error
	switch kind {
	case evGTID, evGTIDTagged:
		f.dropping, err = f.seen(e)
	case evMariaGTID:
		f.dropping, err = f.reached(e)
	case evAnonymous:
		f.dropping = false
	}
	if err != nil || f.dropping {
		return nil, err
	}
	return e, nil
}

// errBefore says that transactions are missing before a file.
func errBefore(file, gtids string) error {
	return fmt.Errorf("%w: transactions %s are missing, which were logged before file %s: give the whole files before it, or make a new copy of the data",
		ErrPurged, gtids, file)
}

// seen reports whether the transaction that e begins was read before.
func (f *fileEvents) seen(e event) (bool, error) {
	a := &f.of.asm
	if a.at.kind != byGTID || a.at.set == nil {
		return false, nil
	}
	read := parseGTID
	if e.kind() == evGTIDTagged {
		read = parseTaggedGTID
	}
	g, err := read(e)
	if err != nil || !a.at.set.has(g.uuid, g.tag, g.gno) {
		return false, err
	}
	if f.dropped != nil {
		f.dropped.add(g.uuid, g.tag, g.gno)
	}
	return true, nil
}

// reached is seen for MariaDB. In a domain, transactions up to the one of the
// position have been read.
func (f *fileEvents) reached(e event) (bool, error) {
	g, _, err := parseMariaGTID(e)
	if err != nil {
		return false, err
	}
	want, ok := f.reach[g.domain]
	switch {
	case !ok:
		return false, nil
	case g == want:
		delete(f.reach, g.domain)
		delete(f.passed, g.domain)
	case g.server == want.server && g.seq > want.seq:
		return false, fmt.Errorf("%w: transaction %s is not there, and %s is: give the files that were read before, or make a new copy of the data",
			ErrDiverged, want.append(nil), g.append(nil))
	default:
		f.past(g, want)
	}
	return true, nil
}

// past notes that g has come while want has not. That alone means nothing: unless
// gtid_strict_mode is ON, the numbers of several servers may have any order.
func (f *fileEvents) past(g, want mariaGTID) {
	if g.seq < want.seq {
		return
	}
	if f.passed == nil {
		f.passed = make(map[uint32]mariaGTID)
	}
	f.passed[g.domain] = g
}

// listed checks that MariaDB's list of what was before a file names nothing that
// has not come.
func (f *fileEvents) listed(list []mariaGTID) error {
	at := f.of.asm.at
	if at.kind != byMaria {
		return nil
	}
	for i, g := range list {
		if i+1 < len(list) && list[i+1].domain == g.domain {
			continue // not the last of its domain
		}
		if want, yet := f.reach[g.domain]; yet {
			f.past(g, want)
			continue
		}
		if have, _ := at.list.find(g.domain); have != g {
			return errBefore(f.log.name, "up to "+string(g.append(nil)))
		}
	}
	return nil
}

// end is called where the file has no further whole event. It moves on to the
// next file, or waits for more.
func (f *fileEvents) end(ctx context.Context, wait bool) (event, error) {
	follow := f.src.opts.Follow
	if len(f.list) == 1 && follow {
		if err := f.look(); err != nil {
			return nil, err
		}
		// What was written before the next file was made is there by now.
		if ok, err := f.grown(); ok || err != nil {
			return nil, err
		}
	}
	switch {
	case len(f.list) > 1:
		return nil, f.leave()
	case !follow:
		return nil, f.last()
	case len(f.passed) > 0 && !f.log.torn():
		for domain, g := range f.passed {
			return nil, fmt.Errorf("%w: the files have transaction %s, and do not have %s: give the files of the server that was read before, or make a new copy of the data",
				ErrDiverged, g.append(nil), f.reach[domain].append(nil))
		}
	case !wait:
		return nil, nil
	}
	beat := time.NewTimer(f.src.opts.Heartbeat)
	defer beat.Stop()
	poll := time.NewTimer(pollFirst)
	defer poll.Stop()
	for pause := pollFirst; ; pause = min(2*pause, pollMost) {
		poll.Reset(pause)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-f.done:
			return nil, fmt.Errorf("cdc: read binary log at %s: %w", f.log.place(), fs.ErrClosed)
		case <-beat.C:
			f.made = true
			return madeUp(evHeartbeat, nil), nil
		case <-poll.C:
		}
		if ok, err := f.grown(); ok || err != nil {
			return nil, err
		}
		if err := f.look(); err != nil {
			return nil, err
		}
		if len(f.list) > 1 {
			return nil, nil
		}
	}
}

// How long a stream that follows files waits before it looks at them again.
const (
	pollFirst = 5 * time.Millisecond
	pollMost  = 200 * time.Millisecond
)

// grown reports whether the file has more than was read.
func (f *fileEvents) grown() (bool, error) {
	info, err := f.log.file.Stat()
	if err != nil {
		return false, fmt.Errorf("cdc: read binary log at %s: %w", f.log.place(), err)
	}
	size, read := uint64(info.Size()), f.log.off+uint64(f.log.w-f.log.r)
	if size < read {
		return false, fmt.Errorf("%w: %s has %d bytes now, and %d were read: read it anew when it is whole", ErrDiverged, f.log.name, size, read)
	}
	return size > read, nil
}

// look finds files that came after the last one.
func (f *fileEvents) look() error {
	list, err := listLogs(f.src.paths)
	if err != nil {
		return fmt.Errorf("cdc: %w", err)
	}
	i := slices.IndexFunc(list, func(p logPath) bool { return p.name == f.list[0].name })
	if i < 0 {
		return nil // purged, while we read it
	}
	for k := i + 1; k < len(list); k++ {
		if !list[k].follows(list[k-1]) {
			return errGap(list[k-1], list[k])
		}
	}
	f.list = list[i:]
	return nil
}

// leave ends the file, of which another follows.
func (f *fileEvents) leave() error {
	a := &f.of.asm
	l := f.log
	if f.from > l.off {
		return f.short()
	}
	if !l.closed || l.torn() {
		// Where there are GTIDs the next file says whether something is missing.
		if a.at.kind == byFile {
			return &EventError{
				At: l.place(), What: "the file ends without the event that ends it, and another file follows",
				Cure:  "it was copied before it was whole, so copy it again; or the server crashed when it wrote this, and nothing is missing",
				After: "file:" + f.list[1].name + ":4",
			}
		}
		f.src.opts.Logger.Warn("a log file has no end, as after a crash; GTIDs will tell whether something is missing", "at", l.place())
	}
	if a.at.kind == byFile && !f.fits(f.list[0], f.list[1]) {
		return &EventError{
			At: l.place(), What: fmt.Sprintf("the file is not followed by %s: the next one has another number", f.list[1].name),
			Cure: "give the files that are between them, or those of one server only",
		}
	}
	f.rotated = ""
	f.got += l.got
	f.mu.Lock()
	f.log = nil
	f.mu.Unlock()
	f.list, f.dropping = f.list[1:], false
	return l.Close()
}

// fits reports whether b can be the file behind a, of which the name may have
// got another beginning, but not another number. Names of one log were compared
// before, and names without numbers do not tell.
func (f *fileEvents) fits(a, b logPath) bool {
	if b.base == "" || a.base == b.base {
		return true
	}
	next := newLogPath(f.rotated)
	switch {
	case next.base != "":
		return b.num == next.num
	case a.base != "": // the server was stopped
		return b.num == a.num+1
	}
	return true
}

// short says that the file ends before the place to begin at.
func (f *fileEvents) short() error {
	return fmt.Errorf("%w: %s ends at %d, and position %d was read: give the files that were read before, or make a new copy of the data",
		ErrDiverged, f.log.name, f.log.off, f.from)
}

// last returns why nothing more is read: io.EOF if the files are at their end.
func (f *fileEvents) last() error {
	a := &f.of.asm
	if f.from > f.log.off {
		return f.short()
	}
	if a.skipTo > 0 {
		return f.src.startFault(fmt.Sprintf("%s ends at %d", f.log.name, f.log.off), "start at a place that it has")
	}
	var ahead []string
	for _, g := range f.reach {
		ahead = append(ahead, string(g.append(nil)))
	}
	if f.before != nil {
		left := f.before.minus(f.dropped)
		if f.known != nil {
			left = left.minus(f.known)
		}
		if len(left.sids) > 0 {
			ahead = append(ahead, left.String())
		}
	}
	if len(ahead) > 0 {
		return fmt.Errorf("%w: the files end before transactions %s: give those that go on, or make a new copy of the data",
			ErrDiverged, strings.Join(ahead, ","))
	}
	if a.tx.parts {
		return a.fault("the last file ends inside of a large transaction, of which parts were handed on",
			"give the file that goes on, or start again when this one is whole")
	}
	if a.tx.open || f.log.torn() {
		f.src.opts.Logger.Warn("the last log file ends inside of a transaction or event, which is left out", "at", f.log.place())
	}
	return io.EOF
}

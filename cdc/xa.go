package cdc

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// XA transactions in two phases. The log has their rows where they are prepared
// (MySQL from 5.7, MariaDB from 10.5), in a transaction that ends with XA PREPARE.
// Later another transaction, which has a GTID of its own and holds no more than
// XA COMMIT or XA ROLLBACK, says how it ends.
//
// The rows are handed on with the XA COMMIT, in its place of the order: it is there
// that others can see them. Until then the position names the transactions that are
// prepared, and where in the log each one is. Their rows are kept in memory as far
// as there is room, and are otherwise read from the log a second time.

// A preparedXA is an XA transaction that was prepared and has not ended.
type preparedXA struct {
	xid string // as xidOf gives it

	// at says where its rows are: its GTID if the position was one of MySQL's
	// GTIDs when it was prepared, else file:offset of its beginning. It is empty if
	// it has no rows of followed tables.
	at string
}

const (
	// maxPrepared bounds how many prepared transactions a position can name.
	maxPrepared = 1000

	// heldParts is how many times MaxPart the rows that are kept in memory for
	// XA transactions may take.
	heldParts = 4
)

// appendPrepared writes a list of prepared transactions as one word.
func appendPrepared(b []byte, list []preparedXA) []byte {
	for i, p := range list {
		if i > 0 {
			b = append(b, ';')
		}
		b = append(append(append(b, p.xid...), '@'), placeEscaper.Replace(p.at)...)
	}
	return b
}

// placeEscaper makes a place, which has the name of a file, a part of a word.
var placeEscaper = strings.NewReplacer("%", "%25", " ", "%20", ";", "%3B")

// parsePrepared reads what appendPrepared wrote.
func parsePrepared(s string) (list []preparedXA, err error) {
	for part := range strings.SplitSeq(s, ";") {
		xid, at, ok := strings.Cut(part, "@")
		at, err := url.PathUnescape(at)
		if !ok || xid == "" || err != nil {
			return nil, fmt.Errorf("%q is not a list of prepared XA transactions", s)
		}
		list = append(list, preparedXA{xid, at})
	}
	return list, nil
}

// xidOf reads an XA_PREPARE event: a byte that is 1 if the transaction is committed
// at once (ONE PHASE), 4 bytes format, 4 bytes length of each of the two parts of
// the name, and these. It returns the name as XA COMMIT has it in the log.
func xidOf(e event) (xid string, onePhase bool, err error) {
	r := reader{b: e.body()}
	onePhase = r.byte() != 0
	format := int32(r.uint32())
	n, m := r.uint32(), r.uint32()
	if n > 64 || m > 64 {
		return "", false, errShortEvent
	}
	global, branch := r.bytes(int(n)), r.bytes(int(m))
	if r.bad {
		return "", false, errShortEvent
	}
	b := hex.AppendEncode([]byte("x'"), global)
	b = hex.AppendEncode(append(b, "',x'"...), branch)
	return string(strconv.AppendInt(append(b, "',"...), int64(format), 10)), onePhase, nil
}

// xidText brings the name in a statement into the form of xidOf.
func xidText(s string) string { return strings.ToLower(strings.ReplaceAll(s, " ", "")) }

// hold begins to keep the rows of an XA transaction, instead of handing them on in
// parts: they may not be committed for long.
func (a *assembler) hold() { a.tx.held = true }

// spill makes room if the part has got too large to be kept, and reports whether
// there is room for more. What is dropped will be read again.
// Invariant I6: no more than heldParts times MaxPart is kept.
func (a *assembler) spill(more int) bool {
	if !a.tx.spilled && a.heldBytes+len(a.part)+more > heldParts*a.src.opts.MaxPart {
		a.tx.spilled = true
		a.part = a.part[:0]
		a.partNum++
	}
	return !a.tx.spilled
}

// xaPrepare ends the part of an XA transaction that has its rows.
func (a *assembler) xaPrepare(e event) error {
	xid, onePhase, err := xidOf(e)
	if err != nil {
		return err
	}
	t := &a.tx
	if !t.open || t.refused != nil {
		return a.commit(e)
	}
	at := a.rowsAt()
	if onePhase {
		if !t.spilled {
			return a.commit(e)
		}
		return a.readAgain(e, preparedXA{xid, at})
	}
	if len(a.part) == 0 && !t.spilled && !t.skipped {
		at = ""
	}
	if len(a.at.xa) >= maxPrepared {
		return a.fault(fmt.Sprintf("there are more than %d prepared XA transactions", maxPrepared),
			"commit or roll back what XA RECOVER shows on the source, and make a new copy of the data")
	}
	if len(a.part) > 0 && a.heldBytes+len(a.part) <= heldParts*a.src.opts.MaxPart {
		if a.held == nil {
			a.held = make(map[string][]byte)
		}
		a.heldBytes += len(a.part) - len(a.held[xid])
		a.held[xid] = bytes.Clone(a.part)
	}
	a.part = a.part[:0]
	t.prepares = &preparedXA{xid, at}
	return a.commit(e)
}

// rowsAt returns where the transaction at hand is found again.
func (a *assembler) rowsAt() string {
	if a.at.kind == byGTID {
		return string(a.appendID(nil))
	}
	return a.tx.file + ":" + strconv.FormatUint(a.tx.off, 10)
}

// xaFinish takes the end of an XA transaction that was prepared in another
// transaction of the log. It reports whether the rows are yet to be read, and the
// transaction ends with them.
func (a *assembler) xaFinish(e event, xid string, commits bool) (later bool, err error) {
	if !a.tx.open {
		if err := a.startAnonymous(e); err != nil {
			return false, err
		}
	}
	xid = xidText(xid)
	i := slices.IndexFunc(a.at.xa, func(p preparedXA) bool { return p.xid == xid })
	if i < 0 {
		if !commits {
			return false, nil // it was prepared before reading began, and comes to nothing
		}
		return false, a.refuse(e, "the XA transaction "+xid+" is committed that was prepared before the place where reading began, so that its rows are not known",
			"make its changes on the target by hand")
	}
	a.tx.ends = xid
	p := a.at.xa[i]
	switch {
	case !commits || p.at == "" || a.skipTo > 0:
		return false, nil
	case a.held[xid] != nil:
		a.part = append(a.part[:0], a.held[xid]...)
		return false, nil
	}
	return true, a.readAgain(e, p)
}

// readAgain asks for the rows of p, after which the transaction at hand ends.
func (a *assembler) readAgain(e event, p preparedXA) error {
	if a.skipTo > 0 {
		return a.commit(e)
	}
	a.tx.held, a.tx.spilled, a.tx.begun = false, false, true
	a.part = a.part[:0]
	a.again = &p
	a.againEnd = event(bytes.Clone(e))
	return nil
}

// settle brings the list of prepared transactions up to date with the transaction
// that ends. The list itself is shared with positions, and not written to.
func (a *assembler) settle() {
	t := &a.tx
	if t.ends == "" && t.prepares == nil {
		return
	}
	list := make([]preparedXA, 0, len(a.at.xa)+1)
	for _, p := range a.at.xa {
		if p.xid != t.ends && (t.prepares == nil || p.xid != t.prepares.xid) {
			list = append(list, p)
		}
	}
	if t.prepares != nil {
		list = append(list, *t.prepares)
	} else {
		a.heldBytes -= len(a.held[t.ends])
		delete(a.held, t.ends)
	}
	a.at.xa = list
}

// position returns the place to ask a server for p at: by GTID, all that was read
// but the transaction itself.
func (p preparedXA) position(at *position) (*position, error) {
	from := &position{kind: byFile, server: at.server}
	// Reading may have gone on by GTID since.
	if one, err := parseGTIDSet(p.at); at.kind == byGTID && err == nil && len(one.sids) == 1 {
		from.kind, from.set = byGTID, at.set.minus(one)
		return from, nil
	}
	i := strings.LastIndexByte(p.at, ':')
	var err error
	if i >= 0 {
		from.file = p.at[:i]
		from.pos, err = strconv.ParseUint(p.at[i+1:], 10, 64)
	}
	if i <= 0 || err != nil {
		return nil, fmt.Errorf("cdc: the prepared XA transaction %s has no place but %q", p.xid, p.at)
	}
	return from, nil
}

// gtidText returns the GTID in a GTID event of MySQL as its text.
func gtidText(e event) (string, error) {
	parse := parseGTID
	if e.kind() == evGTIDTagged {
		parse = parseTaggedGTID
	}
	g, err := parse(e)
	b := append(appendUUID(nil, g.uuid[:]), ':')
	if g.tag != "" {
		b = append(append(b, g.tag...), ':')
	}
	return string(strconv.AppendUint(b, g.gno, 10)), err
}

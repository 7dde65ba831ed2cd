package cdc

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/metrics"
	"testing"

	"github.com/dataflowsync/dfs"
)

// What every fuzz target holds to: input of any kind gives values or an error, no
// panic (Decode and Next recover from one, which counts here), and takes memory
// in proportion to its length.

// mustBear fails if an error hides a panic.
func mustBear(t *testing.T, err error) {
	var p *panicError
	if errors.As(err, &p) {
		t.Fatal(p)
	}
}

// mustBeTyped fails if an error of a log does not say what is to be done.
func mustBeTyped(t *testing.T, err error) {
	mustBear(t, err)
	var event *EventError
	var typed *TypeError
	var setup *SetupError
	if !errors.As(err, &event) && !errors.As(err, &typed) && !errors.As(err, &setup) &&
		!errors.Is(err, ErrPurged) && !errors.Is(err, ErrDiverged) {
		t.Fatalf("%T: %v", err, err)
	}
}

// allocated returns how many bytes the process has allocated so far.
func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// bounded runs f and fails if it allocates more than is due for n bytes of
// input. A compressed byte may stand for a thousand (zlib) or, up to the limit of
// an event, for any number (zstd).
func bounded(t *testing.T, n int, f func()) {
	before := allocated()
	f()
	if used := allocated() - before; used > uint64(n)*4000+40<<20 {
		t.Fatalf("%d bytes of input made it allocate %d", n, used)
	}
}

// lowerLimits makes what a compressed event may claim small, so that the claim
// alone shows.
func lowerLimits(f *testing.F) {
	inflate := maxInflate
	maxInflate = 1 << 20
	f.Cleanup(func() { maxInflate = inflate })
}

// drain reads a stream to its end and decodes what it gives.
func drain(t *testing.T, src *Source, st *Stream) error {
	batch := make([]*dfs.Transaction, 64)
	for {
		n, err := st.Next(context.Background(), batch)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := src.Decode(context.Background(), batch[:n]); err != nil {
			return err
		}
		for _, tx := range batch[:n] {
			if _, err := ParsePosition(tx.Pos); err != nil {
				t.Fatal(err)
			}
			for _, c := range tx.Changes {
				for _, v := range append(c.Before, c.After...) {
					_ = v.String()
				}
			}
		}
	}
}

var fuzzOptions = Options{Buffer: 4 << 10, MaxPart: 4 << 10, Tables: []string{"*.*"}, Logger: slog.New(slog.DiscardHandler)}

// fixtureLogs returns the logs in testdata.
func fixtureLogs(f testing.TB) (logs [][]byte) {
	paths, err := filepath.Glob("testdata/*.000001")
	if err != nil || len(paths) == 0 {
		f.Fatal("no logs in testdata", err)
	}
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			f.Fatal(err)
		}
		logs = append(logs, b)
	}
	return logs
}

// FuzzFile reads any bytes as a file.
func FuzzFile(f *testing.F) {
	lowerLimits(f)
	for _, b := range fixtureLogs(f) {
		f.Add(b)
	}
	dir := f.TempDir()
	path := filepath.Join(dir, "f.000001")
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		bounded(t, len(b), func() {
			src, err := OpenFiles(context.Background(), []string{path}, &fuzzOptions)
			if err != nil {
				mustBeTyped(t, err)
				return
			}
			defer src.Close()
			st, err := src.Open(context.Background(), dfs.Checkpoint{})
			if err != nil {
				mustBeTyped(t, err)
				return
			}
			defer st.Close()
			if err := drain(t, src, st.(*Stream)); err != nil {
				mustBeTyped(t, err)
			}
		})
	})
}

// A script is a log as FuzzAssemble has it: a flag byte, and for each event its
// type, its flags, the length of its body in 2 bytes, and the body. It lacks all
// that a mutation breaks for sure, such as checksums.
func script(log []byte) []byte {
	out := []byte{0}
	le := binary.LittleEndian
	sum := 0
	for at := 4; at+headerLen <= len(log); {
		e := event(log[at : at+int(le.Uint32(log[at+9:]))])
		at += len(e)
		if e.kind() == evFormat {
			f, err := parseFormat(e)
			if err != nil {
				return nil
			}
			if f.sum {
				sum = 4
			}
			if f.maria {
				out[0] = 1
			}
			continue
		}
		body := e.body()[:len(e)-headerLen-sum]
		if len(body) > 0xffff {
			continue
		}
		out = append(out, e.kind(), byte(e.flags()))
		out = append(le.AppendUint16(out, uint16(len(body))), body...)
	}
	return out
}

// unscript returns the events of a script.
func unscript(b []byte) (maria, gtid bool, list []event) {
	if len(b) == 0 {
		return
	}
	maria, gtid = b[0]&1 != 0, b[0]&2 != 0
	r := reader{b: b[1:]}
	for len(r.b) > 0 {
		kind, flags := r.byte(), r.byte()
		body := r.bytes(min(int(r.uint16()), len(r.b)))
		e := append(make(event, headerLen, headerLen+len(body)), body...)
		e[4], e[17] = kind, flags
		binary.LittleEndian.PutUint32(e[9:], uint32(len(e)))
		list = append(list, e)
	}
	return maria, gtid, list
}

// A memEvents is events in memory.
type memEvents struct {
	list []event
	off  uint64
}

func (m *memEvents) next(context.Context, bool) (event, error) {
	if len(m.list) == 0 {
		return nil, io.EOF
	}
	e := m.list[0]
	m.list = m.list[1:]
	m.off += uint64(len(e))
	return e, nil
}

func (m *memEvents) offset() uint64   { return m.off }
func (m *memEvents) buffered() int    { return 0 }
func (m *memEvents) received() uint64 { return 0 }
func (m *memEvents) Close() error     { return nil }

// FuzzAssemble hands on any events, as if their checksums were right.
func FuzzAssemble(f *testing.F) {
	lowerLimits(f)
	for _, b := range fixtureLogs(f) {
		s := script(b)
		f.Add(s)
		s[0] |= 2
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		maria, gtid, list := unscript(b)
		src := &Source{streams: make(map[*Stream]struct{}), maria: maria, paths: []string{"f"}}
		src.opts, _ = fuzzOptions.withDefaults()
		src.filter, _ = newFilter(fuzzOptions.Tables)
		at := &position{kind: byFile, server: "1", file: "f", pos: 4, set: new(gtidSet), list: new(gtidList)}
		switch {
		case gtid && maria:
			at.kind = byMaria
		case gtid:
			at.kind = byGTID
		}
		st, err := src.newStream(at, false, "")
		if err != nil {
			t.Fatal(err)
		}
		st.in = &memEvents{list: list, off: 4}
		bounded(t, len(b), func() {
			if err := drain(t, src, st); err != nil {
				mustBeTyped(t, err)
			}
		})
	})
}

// containers returns what streams make of logs.
func containers(f testing.TB) (list [][]byte) {
	paths, _ := filepath.Glob("testdata/*.000001")
	for _, p := range paths {
		src, err := OpenFiles(context.Background(), []string{p}, &fuzzOptions)
		if err != nil {
			f.Fatal(err)
		}
		st, err := src.Open(context.Background(), dfs.Checkpoint{})
		if err != nil {
			f.Fatal(err)
		}
		batch := make([]*dfs.Transaction, 64)
		for {
			n, err := st.Next(context.Background(), batch)
			if err != nil {
				break // the end, or a log without column names
			}
			for _, tx := range batch[:n] {
				if tx.Encoded != nil {
					list = append(list, tx.Encoded)
				}
			}
		}
		src.Close()
	}
	return list
}

// FuzzDecode decodes any bytes as an encoded transaction.
func FuzzDecode(f *testing.F) {
	lowerLimits(f)
	f.Add(fuzzTransaction())
	f.Add(appendRecord(appendContainer(nil, true), recChanges, dfs.AppendChanges(nil, []dfs.Change{{Op: dfs.DDL, Query: "x"}})))
	for _, b := range containers(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		tx := &dfs.Transaction{Encoded: b}
		bounded(t, len(b), func() {
			err := new(Source).Decode(context.Background(), []*dfs.Transaction{tx})
			if err != nil {
				mustBeTyped(t, err)
				return
			}
			for _, c := range tx.Changes {
				for _, v := range append(c.Before, c.After...) {
					_ = v.String()
				}
			}
		})
	})
}

// FuzzValue reads any bytes as a value of any type.
func FuzzValue(f *testing.F) {
	for typ := range 256 {
		for _, meta := range []uint16{0, 2, 6, 0x0a02} {
			f.Add(byte(typ), meta, uint16(3), uint16(45), []byte("\x80\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c"))
		}
	}
	f.Fuzz(func(t *testing.T, typ byte, meta, size, collation uint16, b []byte) {
		c := &column{typ: typ, meta: meta, size: int(size), collation: uint64(collation)}
		if !c.readable() {
			return
		}
		bounded(t, len(b), func() {
			var d decoder
			var v dfs.Value
			r := reader{b: b}
			if err := d.value(&r, c, &v); err == nil {
				_ = v.String()
				_ = v.Time()
			}
		})
	})
}

// FuzzGTIDs reads any bytes as sets of GTIDs, binary and text.
func FuzzGTIDs(f *testing.F) {
	for _, text := range []string{uuid1 + ":1-5:7," + uuid2 + ":tag:3", "", "0-1-25,7-1-3"} {
		f.Add([]byte(text))
		if set, err := parseGTIDSet(text); err == nil {
			f.Add(set.encode())
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, len(b), func() {
			if set, err := decodeGTIDSet(b); err == nil {
				again, err := decodeGTIDSet(set.encode())
				if err != nil || len(again.minus(set).sids)+len(set.minus(again).sids) > 0 {
					t.Fatalf("%s is read again as %s, %v", set, again, err)
				}
			}
			_, _ = decodeGTIDList(b)
			if set, err := parseGTIDSet(string(b)); err == nil {
				again, err := parseGTIDSet(set.String())
				if err != nil || again.String() != set.String() {
					t.Fatalf("%s is read again as %s, %v", set, again, err)
				}
				_ = set.clone().encode()
			}
			_, _ = parseGTIDList(string(b))
			_, _ = parsePosition(dfs.Position(b))
			_, _ = parseStart(string(b))
		})
	})
}

// FuzzHeads reads any bytes as the parts of events that the assembler looks at.
func FuzzHeads(f *testing.F) {
	f.Add([]byte(queryBody("d", "BEGIN")))
	for _, b := range fixtureLogs(f) {
		f.Add(b[4+headerLen : 4+120])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e := append(make(event, headerLen), b...)
		e = binary.LittleEndian.AppendUint32(e, crc32.ChecksumIEEE(e))
		bounded(t, len(b), func() {
			e[4] = evFormat
			_, _ = parseFormat(e)
			for _, kind := range []byte{evQuery, evQueryZ} {
				e[4] = kind
				_, _ = parseQuery(e)
			}
			_, _ = parseGTID(e)
			_, _ = parseTaggedGTID(e)
			_, _, _ = parseMariaGTID(e)
			_, _, _ = tableNames(e)
			_, _ = hasColumnNames(e)
			for _, maria := range []bool{false, true} {
				if m, err := parseTableMap(e, maria); err == nil {
					_ = m.dfsTable()
				}
			}
		})
	})
}

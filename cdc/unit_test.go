package cdc

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	gomysql "github.com/go-mysql-org/go-mysql/mysql"
	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/ddl"
)

const (
	uuid1 = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
	uuid2 = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa"
)

func TestGTIDSetGrowsAsMySQLsWould(t *testing.T) {
	const seed = 7
	rnd := rand.New(rand.NewPCG(seed, seed))
	set := new(gtidSet)
	want := gomysql.NewMysqlGTIDSet()
	for range 3000 {
		text, tag := uuid1, ""
		if rnd.IntN(3) == 0 {
			text = uuid2
		}
		if rnd.IntN(4) == 0 {
			tag = "tag"
		}
		n := 1 + rnd.Uint64N(2000)
		uuid, err := parseUUID(text)
		require.NoError(t, err)
		set.add(uuid, tag, n)
		one := text + ":"
		if tag != "" {
			one += tag + ":"
		}
		require.NoError(t, want.Update(string(append([]byte(one), mariaGTID{seq: n}.append(nil)[4:]...))))
		if rnd.IntN(20) > 0 {
			continue
		}
		got, err := gomysql.ParseMysqlGTIDSet(set.String())
		require.NoError(t, err, set)
		require.True(t, got.Equal(&want), "%s\n%s", set, &want)
		again, err := parseGTIDSet(set.String())
		require.NoError(t, err)
		require.Equal(t, set.String(), again.String())
		bin, err := decodeGTIDSet(set.encode())
		require.NoError(t, err)
		got, err = gomysql.ParseMysqlGTIDSet(bin.String())
		require.NoError(t, err)
		require.True(t, got.Equal(&want))
		theirs, err := gomysql.DecodeMysqlGTIDSet(set.encode())
		require.NoError(t, err)
		require.True(t, theirs.Equal(&want))
	}
}

func TestGTIDSetOfOneServerIsCheapToWrite(t *testing.T) {
	set, err := parseGTIDSet(uuid2 + ":1-5," + uuid1 + ":1-2:4-9")
	require.NoError(t, err)
	uuid, _ := parseUUID(uuid1)
	set.add(uuid, "", 10)
	b := make([]byte, 0, 1000)
	b = set.append(b)
	n := uint64(10)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		n++
		set.add(uuid, "", n)
		b = set.append(b[:0])
	}))
	require.Equal(t, uuid2+":1-5,"+uuid1+":1-2:4-111", set.String())
}

func TestPositionsReadBackAsWritten(t *testing.T) {
	for _, text := range []string{
		"gtid " + uuid1 + " " + uuid2 + ":1-5," + uuid1 + ":1-2:4-9," + uuid1 + ":tag:3 binlog.000002:1507",
		"gtid " + uuid1 + " - binlog.000001:4",
		"gtid " + uuid1 + " - :0",
		"file " + uuid1 + " - bin.log.000002:5000000000",
		"file " + uuid1 + " - bin log .000002:4",
		"mariadb 1 0-1-25,1-2-5 binlog.000002:1507",
	} {
		p, err := parsePosition(dfs.Position(text))
		require.NoError(t, err)
		require.Equal(t, text, p.String())
		public, err := ParsePosition(dfs.Position(text))
		require.NoError(t, err)
		require.Equal(t, text, public.String())
	}
	p, err := ParsePosition(dfs.Position("gtid " + uuid1 + " " + uuid2 + ":1-5 binlog.000002:1507"))
	require.NoError(t, err)
	require.Equal(t, Position{Kind: "gtid", Server: uuid1, GTIDs: uuid2 + ":1-5", File: "binlog.000002", Offset: 1507}, p)
	for _, text := range []string{"x", "gtid a b c", "gtid a - c", "lsn a - f:4", "mariadb 1 0-1 f:4", "file u - f:x",
		"gtid " + uuid1 + " " + uuid1 + ":5-3 f:4", "gtid " + uuid1 + " " + uuid1 + ": f:4"} {
		_, err := ParsePosition(dfs.Position(text))
		require.ErrorContains(t, err, "not one of this source", text)
	}
}

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"*", "", true}, {"a*c", "abbc", true}, {"a*c", "abbd", false}, {"a?c", "aéc", true}, {"a?c", "ac", false},
		{"Shop", "shop", true}, {"*_tmp*x", "a_tmp_b_x", true}, {"a_c", "abc", false}, {"", "a", false},
		{strings.Repeat("a*", 50) + "b", strings.Repeat("a", 200), false},
	} {
		require.Equal(t, c.want, glob(c.pattern, c.name), "%s %s", c.pattern, c.name)
	}
}

func TestFilter(t *testing.T) {
	f, faults := newFilter([]string{"shop.*", "crm?.people", "!shop.tmp_*", "mysql.user"})
	require.Empty(t, faults)
	for name, want := range map[string]bool{
		"shop.orders": true, "shop.tmp_1": false, "crm1.people": true, "crm.people": false, "crm1.x": false,
		"mysql.user": true, "mysql.db": false, "shop.": true, "crm1.": true, "other.": false,
	} {
		schema, table, _ := strings.Cut(name, ".")
		require.Equal(t, want, f.follows(schema, table), name)
	}
	all, _ := newFilter([]string{"!*.log"})
	require.True(t, all.follows("a", "b"))
	require.False(t, all.follows("a", "log"))
	require.False(t, all.follows("mysql", "user"))
	require.False(t, all.follows("sys", ""))
}

// makeEvent returns an event with a checksum.
func makeEvent(kind byte, body []byte) []byte {
	b := make([]byte, headerLen, headerLen+len(body)+4)
	b[4] = kind
	b = append(b, body...)
	binary.LittleEndian.PutUint32(b[9:], uint32(len(b)+4))
	return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

func TestEveryFlippedBitOfAnEventIsNoticed(t *testing.T) {
	for kind, body := range map[byte]string{
		evXID: "\x01\x02\x03\x04\x05\x06\x07\x08",
		// An UPDATE of one row of one column.
		evUpdateRows2: "\x6c\x00\x00\x00\x00\x00\x01\x00\x02\x00\x01\xff\xff\xfe\x01\x00\x00\x00\xfe\x02\x00\x00\x00",
	} {
		b := makeEvent(kind, []byte(body))
		e, err := checkEvent(b, true, false)
		require.NoError(t, err)
		require.Equal(t, body, string(e.body()))
		for bit := range len(b) * 8 {
			b[bit/8] ^= 1 << (bit % 8)
			// A change of the type may make it one that has its checksum in no case.
			if e, err := checkEvent(b, true, false); err == nil {
				require.EqualValues(t, evFormat, e.kind())
				_, err = parseFormat(e)
				require.Error(t, err)
			}
			b[bit/8] ^= 1 << (bit % 8)
		}
		for n := range b {
			_, err := checkEvent(b[:n], true, false)
			require.Error(t, err)
		}
	}
	// What servers make up has none, or one.
	for _, body := range []string{"\x04\x00\x00\x00\x00\x00\x00\x00binlog.000001", "\x04\x00\x00\x00\x00\x00\x00\x00ä b.000001"} {
		b := makeEvent(evRotate, []byte(body))
		b[17] |= flagArtificial
		b = b[:len(b)-4]
		binary.LittleEndian.PutUint32(b[9:], uint32(len(b)))
		e, err := checkEvent(b, true, false)
		require.NoError(t, err)
		require.Equal(t, body, string(e.body()))
	}
}

// newAssembler returns one that is inside the file f, and where what it hands
// out goes.
func newAssembler(tables ...string) (*assembler, *[]string) {
	src := &Source{farthest: math.MaxUint32}
	src.opts, _ = (&Options{}).withDefaults()
	src.filter, _ = newFilter(tables)
	out := new([]string)
	a := &assembler{
		src: src, at: position{kind: byFile, server: "s", file: "f", pos: 4}, file: "f", off: 4,
		maps: make(map[uint64]*tableMap), catalog: &catalog{tables: new(ddl.Catalog)},
	}
	a.out = func(b []byte, more bool) { *out = append(*out, string(b)) }
	return a, out
}

// feed hands an event to a, as if it began at the end of the last one.
func feed(a *assembler, kind byte, flags uint16, body string) error {
	e := event(makeEvent(kind, []byte(body)))
	binary.LittleEndian.PutUint32(e[13:], uint32(a.off)+uint32(len(e)))
	binary.LittleEndian.PutUint16(e[17:], flags)
	return a.handle(context.Background(), e[:len(e)-4], false)
}

// queryBody is the body of a query event.
func queryBody(schema, text string) string {
	return "\x00\x00\x00\x00\x00\x00\x00\x00" + string(rune(len(schema))) + "\x00\x00\x00\x00" + schema + "\x00" + text
}

func TestEventsThatMayHideChangesStopTheStream(t *testing.T) {
	for _, c := range []struct {
		name, what string
		kind       byte
		flags      uint16
	}{
		{"incident", "lost events", evIncident, 0},
		{"unknown", "unknown event type 99", 99, 0},
		{"partial row data of MariaDB", "unknown event type 172", 172, 0},
		{"rows without a table map", "without a table map", evWriteRows2, 0},
		{"LOAD DATA as a statement", "LOAD DATA", evExecuteLoad, 0},
		{"end without a beginning", "not begun", evXID, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, _ := newAssembler()
			err := feed(a, c.kind, c.flags, "\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00")
			if err == nil {
				// Then at the end, where the place after it is known.
				err = feed(a, evXID, 0, "12345678")
			}
			var bad *EventError
			require.ErrorAs(t, err, &bad)
			require.Contains(t, bad.What, c.what)
			require.NotEmpty(t, bad.Cure)
			require.Equal(t, "f:37", bad.At)
		})
	}
	a, out := newAssembler()
	require.NoError(t, feed(a, 99, flagIgnorable, "x"))
	require.NoError(t, feed(a, evRowsQuery, 0, "x"))
	require.Empty(t, *out)
}

func TestTransactionWithoutGTIDStopsAStreamByGTID(t *testing.T) {
	for _, kind := range []string{byGTID, byMaria} {
		for _, first := range []string{"BEGIN", "CREATE TABLE d.t (id int)", "FLUSH TABLES"} {
			a, out := newAssembler("d.*")
			a.at = position{kind: kind, set: new(gtidSet), list: new(gtidList)}
			var bad *EventError
			require.ErrorAs(t, feed(a, evQuery, 0, queryBody("d", first)), &bad)
			require.Contains(t, bad.What, "no GTID")
			require.Empty(t, *out)
			require.Empty(t, a.at.set.String()+a.at.list.String())
		}
	}
}

func TestOwnedGTIDs(t *testing.T) {
	require.Empty(t, ownedGTIDs(""))
	require.Equal(t, uuid1+":foo:9,"+uuid2+":7,"+uuid1+":4:3:mine:1",
		ownedGTIDs(uuid1+":foo:9#18"+uuid2+":7#17"+uuid1+":4#15:3#14:mine:1#16"))
}

func TestFilesLargerThan4GiB(t *testing.T) {
	a, _ := newAssembler()
	a.off = 1<<32 - 50
	require.NoError(t, feed(a, evQuery, 0, queryBody("d", "BEGIN")))
	require.Equal(t, uint64(1<<32-50+43), a.off)
	require.NoError(t, feed(a, evXID, 0, "12345678"))
	require.Equal(t, uint64(1<<32-50+43+31), a.off)
	require.Equal(t, uint64(1<<32-50+43+31), a.at.pos)
}

func TestPacketsArePutTogether(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	sizes := []int{0, 1, 10, 5000, 70000, maxPacket - 1, maxPacket, maxPacket + 10, 3}
	go func() {
		defer server.Close()
		var seq byte
		for i, n := range sizes {
			b := make([]byte, n)
			for j := range b {
				b[j] = byte(i)
			}
			for {
				k := min(len(b), maxPacket)
				head := binary.LittleEndian.AppendUint32(nil, uint32(k)|uint32(seq)<<24)
				seq++
				server.Write(append(head, b[:k]...))
				b = b[k:]
				if k < maxPacket {
					break
				}
			}
		}
	}()
	in := packets{conn: client, size: 4096, timeout: 10 * time.Second}
	for i, n := range sizes {
		b, err := in.next(context.Background(), true)
		require.NoError(t, err)
		require.Len(t, b, n)
		for _, c := range b {
			if c != byte(i) {
				t.Fatalf("packet %d has a byte %d", i, c)
			}
		}
	}
	_, err := in.next(context.Background(), true)
	require.ErrorContains(t, err, "closed")
	require.LessOrEqual(t, len(in.buf), 4096, "a large packet's memory is given back")
}

func TestJSONDoubles(t *testing.T) {
	for f, want := range map[float64]string{
		0: "0.0", 1: "1.0", -1.5: "-1.5", 1e15: "1e15", 1e14: "100000000000000.0", 123456789012345678: "1.2345678901234568e17",
		1e-7: "0.0000001", 5e-324: "5e-324", 1e300: "1e300",
	} {
		require.Equal(t, want, string(appendDouble(nil, f)))
	}
}

func FuzzJSON(f *testing.F) {
	f.Add([]byte{0, 1, 0, 12, 0, 11, 0, 1, 0, 5, 1, 0, 'a'})
	f.Add([]byte{2, 2, 0, 10, 0, 4, 1, 0, 4, 2, 0})
	f.Add([]byte{15, 246, 4, 3, 2, 0x81, 0x0a})
	f.Add([]byte{2, 1, 0, 12, 0, 15, 7, 0, 15, 2, 'a', 'b'})
	f.Fuzz(func(t *testing.T, b []byte) {
		var w jsonWriter
		if w.document(b) != nil {
			return
		}
		if len(w.to) == 0 {
			t.Fatal("no text and no error")
		}
		if v := w.result(); len(v.JSONNotes()) != len(w.notes) || v.Text() != string(w.to) {
			t.Fatalf("%q has the notes %v of %v", w.to, v.JSONNotes(), w.notes)
		}
	})
}

func TestDecodeNeedsNoServer(t *testing.T) {
	tx := &dfs.Transaction{Encoded: fuzzTransaction()}
	require.NoError(t, new(Source).Decode(t.Context(), []*dfs.Transaction{tx}))
	require.Nil(t, tx.Encoded)
	require.Equal(t, []dfs.Change{{
		Op: dfs.Insert,
		Table: &dfs.Table{Schema: "d", Name: "t", Key: []int{0}, Columns: []dfs.Column{
			{Name: "i", Type: "int unsigned"},
			{Name: "s", Type: "varchar(20)", Charset: "utf8mb4", Collation: "utf8mb4_0900_ai_ci", Nullable: true},
			{Name: "j", Type: "json", Nullable: true},
			{Name: "x", Type: "decimal(10,2)", Nullable: true},
		}},
		After: dfs.Row{dfs.UintValue(7), dfs.StringValue("hi"), dfs.JSONValue("1"), dfs.DecimalValue("1.50")},
	}}, tx.Changes)
}

// fuzzTransaction is an insert into a table of four columns.
func fuzzTransaction() []byte {
	// Table d.t: id int unsigned, s varchar(20) utf8mb4, j json, x decimal(10,2).
	m := []byte{9, 0, 0, 0, 0, 0, 1, 0, 1, 'd', 0, 1, 't', 0, 4, typLong, typVarchar, typJSON, typNewDecimal, 5, 80, 0, 4, 10, 2, 0x0e,
		metaSignedness, 1, 0x80, metaDefaultCharset, 3, 0xfc, 255, 0, metaColumnName, 8, 1, 'i', 1, 's', 1, 'j', 1, 'x', metaKey, 1, 0}
	rows := []byte{9, 0, 0, 0, 0, 0, 1, 0, 2, 0, 4, 0x0f, 0, 7, 0, 0, 0, 2, 'h', 'i', 3, 0, 0, 0, 5, 1, 0, 0x80, 0, 0, 1, 50}
	b := appendContainer(nil, false)
	for i, body := range [][]byte{m, rows} {
		e := makeEvent([]byte{evTableMap, evWriteRows2}[i], body)
		b = appendEvent(b, e[:len(e)-4])
	}
	return b
}

// A statement that damage has made no statement names no schema.
func TestDropOfNothing(t *testing.T) {
	for _, text := range []string{`DROP DATABASE"IF EXISTS test ;`, "DROP DATABASE IF EXISTS(test ;", "DROP DATABASE", "DROP TABLE", "RENAME TABLE"} {
		a, _ := newAssembler()
		a.catalog.kept = true
		_ = feed(a, evQuery, 0, queryBody("d", text)) // it must end, in an error or none
	}
}

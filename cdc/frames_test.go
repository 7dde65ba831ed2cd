package cdc

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"testing"

	gomysql "github.com/go-mysql-org/go-mysql/mysql"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
)

// A drip gives what it holds in pieces of any length, as a network does.
type drip struct {
	io.Reader
	rng *rand.Rand
}

func (d drip) Read(b []byte) (int, error) {
	return d.Reader.Read(b[:min(len(b), 1+d.rng.IntN(1+d.rng.IntN(100000)))])
}

// frame packs b as a server does.
func frame(t testing.TB, algorithm uint8, b []byte) []byte {
	var w bytes.Buffer
	size := len(b)
	switch algorithm {
	case gomysql.MYSQL_COMPRESS_NONE:
		w.Write(b)
		size = 0
	case gomysql.MYSQL_COMPRESS_ZLIB:
		z := zlib.NewWriter(&w)
		_, err := z.Write(b)
		require.NoError(t, err)
		require.NoError(t, z.Close())
	default:
		z, err := zstd.NewWriter(&w)
		require.NoError(t, err)
		_, err = z.Write(b)
		require.NoError(t, err)
		require.NoError(t, z.Close())
	}
	head := binary.LittleEndian.AppendUint32(nil, uint32(w.Len()))
	head = binary.LittleEndian.AppendUint32(head, uint32(size))
	return append(head[:frameHead], w.Bytes()...)
}

func TestFramesAreUnpackedWhereverTheyAreCut(t *testing.T) {
	for _, algorithm := range []uint8{gomysql.MYSQL_COMPRESS_ZLIB, gomysql.MYSQL_COMPRESS_ZSTD} {
		rng := rand.New(rand.NewPCG(uint64(algorithm), 7))
		var wire, want []byte
		for i := range 60 {
			b := make([]byte, 1+rng.IntN(1+rng.IntN(50000)))
			switch i {
			case 20:
				b = make([]byte, maxPacket)
			case 21:
				b = b[:0] // a server has no use for such a one, but it could
			}
			for j := range b {
				b[j] = byte(rng.IntN(1 + i))
			}
			want = append(want, b...)
			if a := algorithm; i%3 == 0 || len(b) == 0 {
				wire = append(wire, frame(t, gomysql.MYSQL_COMPRESS_NONE, b)...)
			} else {
				wire = append(wire, frame(t, a, b)...)
			}
		}
		f := &frames{algorithm: algorithm}
		conn := drip{bytes.NewReader(wire), rng}
		var got []byte
		for to := make([]byte, 70000); ; {
			n, err := f.read(conn, to[:1+rng.IntN(len(to))])
			got = append(got, to[:n]...)
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
		}
		require.True(t, bytes.Equal(want, got))
		require.LessOrEqual(t, len(f.raw), frameKeep, "a large frame's memory is given back")
	}
}

func TestDamagedFramesAreErrors(t *testing.T) {
	data := bytes.Repeat([]byte("some event "), 100)
	for _, algorithm := range []uint8{gomysql.MYSQL_COMPRESS_ZLIB, gomysql.MYSQL_COMPRESS_ZSTD} {
		good := frame(t, algorithm, data)
		for _, size := range []int{1, len(data) - 1, len(data) + 1, maxPacket} {
			bad := bytes.Clone(good)
			bad[4], bad[5], bad[6] = byte(size), byte(size>>8), byte(size>>16)
			_, err := (&frames{algorithm: algorithm}).read(bytes.NewReader(bad), make([]byte, 10))
			require.ErrorContains(t, err, "damaged", "a size of %d", size)
		}
		for i := frameHead; i < len(good); i++ {
			bad := bytes.Clone(good)
			bad[i] ^= 0x55
			f := &frames{algorithm: algorithm}
			to := make([]byte, len(data)+1)
			n, err := f.read(bytes.NewReader(bad), to)
			if algorithm == gomysql.MYSQL_COMPRESS_ZLIB { // it has a checksum
				require.Error(t, err, "byte %d", i)
			} else if err == nil {
				require.Equal(t, len(data), n)
			}
		}
	}
}

func TestPlaceAtTheEndOfAPosition(t *testing.T) {
	for pos, want := range map[string]place{
		"gtid 3e11fa47-71ca-11e1-9e33-c80aa9429562 3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5 binlog.000002:1507": {"binlog.000002", 1507},
		"gtid srv xa:'a',1@b:3 copy:1:2-3 - my log.000002:18446744073709551615":                                 {"my log.000002", 1<<64 - 1},
		"mariadb 1 0-1-5 :0": {},
		"file 1 - a:b:7":     {"a:b", 7},
		"file 1 - a":         {},
		"":                   {},
		"gtid":               {},
	} {
		got, server := endOf(dfs.Position(pos))
		require.Equal(t, want, got, pos)
		require.Equal(t, got.file != "" || pos == "mariadb 1 0-1-5 :0", server != "", pos)
	}
}

func TestAnswersOnlyWhatIsWaitedFor(t *testing.T) {
	a := &acks{}
	require.False(t, a.waits())
	require.NoError(t, a.stored(place{"binlog.000001", 100}), "nobody has asked, so nothing is sent")
	a.ask(place{"binlog.999999", 200})
	a.ask(place{"binlog.999999", 100})
	require.True(t, a.waits())
	a.said = place{"binlog.999999", 200}
	require.False(t, a.waits())
	require.NoError(t, a.stored(place{"binlog.1000000", 4}), "all that is waited for was told")
	a.ask(place{"binlog.1000000", 4})
	require.True(t, a.waits(), "its number has one more digit")
	require.NoError(t, a.stored(place{"binlog.999999", 100}), "it was told of more")
	require.NoError(t, a.stored(place{}))
}

func TestSemiSyncHeadIsToldFromAnEvent(t *testing.T) {
	e := make([]byte, headerLen+8)
	e[4] = evRotate
	binary.LittleEndian.PutUint32(e[9:], uint32(len(e)))
	require.False(t, hasSemiSync(append([]byte{0}, e...)))
	require.True(t, hasSemiSync(append([]byte{0, semiSyncMagic, 0}, e...)))
	e[0] = semiSyncMagic // the time of an event may look like it
	require.False(t, hasSemiSync(append([]byte{0}, e...)))
	require.False(t, hasSemiSync([]byte{0xff, semiSyncMagic, 0}))
}

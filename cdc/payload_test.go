package cdc

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
)

// payloadEvent makes a payload event that says to hold so many bytes.
func payloadEvent(alg byte, says int, b []byte) event {
	size := binary.LittleEndian.AppendUint32(nil, uint32(says))
	body := append([]byte{payloadAlg, 3, 0xfc, alg, 0, payloadBytes, 9, 0xfe}, append(size, 0, 0, 0, 0)...)
	body = append(append(body, payloadEnd), b...)
	return append(make(event, headerLen), body...)
}

func TestPayloadsOfAnySize(t *testing.T) {
	zip, err := zstd.NewWriter(nil)
	require.NoError(t, err)
	defer zip.Close()
	var p payload
	for _, n := range []int{1, 3, 100, 5000} { // the last is unpacked as it is read
		var b []byte
		for i := range n {
			e := make(event, headerLen+i%200)
			e[4] = byte(i)
			binary.LittleEndian.PutUint32(e[9:], uint32(len(e)))
			b = append(b, e...)
		}
		for _, e := range []event{payloadEvent(algNone, len(b), b), payloadEvent(algZstd, len(b), zip.EncodeAll(b, nil))} {
			require.NoError(t, p.open(e))
			var got []byte
			for {
				e, err := p.next()
				require.NoError(t, err)
				if e == nil {
					break
				}
				got = append(got, e...)
			}
			require.False(t, p.left)
			require.True(t, bytes.Equal(b, got))
		}
	}
}

func TestDamagedPayloads(t *testing.T) {
	zip, err := zstd.NewWriter(nil)
	require.NoError(t, err)
	defer zip.Close()
	e := make(event, headerLen+5)
	binary.LittleEndian.PutUint32(e[9:], uint32(len(e)))
	whole := append(bytes.Clone(e), e...)
	for name, c := range map[string]event{
		"a size that is too small": payloadEvent(algZstd, len(whole)-1, zip.EncodeAll(whole, nil)),
		"a size that is too large": payloadEvent(algZstd, len(whole)+1, zip.EncodeAll(whole, nil)),
		"no zstd":                  payloadEvent(algZstd, len(whole), whole),
		"another algorithm":        payloadEvent(7, len(whole), whole),
		"a short head":             payloadEvent(algNone, 0, append(bytes.Clone(whole), 1, 2, 3)),
		"a short event":            payloadEvent(algNone, 0, whole[:len(whole)-1]),
	} {
		var p payload
		err := p.open(c)
		for err == nil {
			var e event
			if e, err = p.next(); e == nil {
				break
			}
		}
		require.ErrorContains(t, err, "cdc: ", name)
	}
}

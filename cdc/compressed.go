package cdc

import (
	"bytes"
	"compress/flate"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
)

// inflateColumn unpacks the value of a COMPRESSED column of MariaDB (10.3). An
// empty value is empty. Others begin with a byte: 0 if the value follows as it is;
// else 0x80, and 8 if there is no zlib header, and how many bytes the length of the
// value takes, which come next, the highest first. See compress_zlib in MariaDB's
// sql/field_comp.cc.
func inflateColumn(b []byte) ([]byte, error) {
	if len(b) == 0 || b[0] == 0 {
		return b[min(1, len(b)):], nil
	}
	n := int(b[0] & 7)
	if b[0]&0xf0 != 0x80 || n < 1 || n > 4 {
		return nil, fmt.Errorf("cdc: unknown compression %#x of a column", b[0])
	}
	if len(b) < 1+n {
		return nil, errShortEvent
	}
	size := uintBE(b[1 : 1+n])
	if size > maxInflate {
		return nil, fmt.Errorf("cdc: compressed column claims to hold %d bytes", size)
	}
	var in io.Reader = bytes.NewReader(b[1+n:])
	if b[0]&8 != 0 {
		in = flate.NewReader(in)
	} else {
		z, err := zlib.NewReader(in)
		if err != nil {
			return nil, fmt.Errorf("cdc: unpack a column: %w", err)
		}
		in = z
	}
	// As in inflate, the buffer grows with what is really there.
	var out bytes.Buffer
	if _, err := io.Copy(&out, io.LimitReader(in, int64(size)+1)); err != nil {
		return nil, fmt.Errorf("cdc: unpack a column: %w", err)
	}
	if uint64(out.Len()) != size {
		return nil, errors.New("cdc: compressed column holds another number of bytes than it says")
	}
	return out.Bytes(), nil
}

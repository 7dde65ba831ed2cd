package dpu

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/convert"
)

// masker is a Mask taken apart.
type masker struct {
	kind string
	n    int
	text string
}

func parseMask(m Mask) (masker, error) {
	kind, rest, _ := strings.Cut(strings.TrimSpace(string(m)), " ")
	rest = strings.TrimSpace(rest)
	switch kind {
	case "hash", "null":
		if rest == "" {
			return masker{kind: kind}, nil
		}
	case "redact":
		return masker{kind: kind, text: rest}, nil
	case "truncate":
		if n, err := strconv.Atoi(rest); err == nil && n >= 0 {
			return masker{kind: kind, n: n}, nil
		}
		return masker{}, fmt.Errorf(`%q needs how much to keep: "truncate 4"`, m)
	}
	return masker{}, fmt.Errorf(`%q is no mask; use "hash", "truncate 4", "redact", "redact TEXT" or "null"`, m)
}

// apply returns the column that a mask makes of c, and what masks its values.
func (m masker) apply(c dfs.Column, key []byte) (dfs.Column, convert.Func, error) {
	kind := convert.KindOf(&c)
	if len(c.Members) > 0 && m.kind != "null" && m.kind != "hash" {
		return c, nil, fmt.Errorf("a column of type %s can only be masked by null or hash", c.Type)
	}
	text := kind == dfs.String && (convert.IsUTF8(c.Charset) || singleByte(c.Charset))
	switch m.kind {
	case "null":
		c.Nullable = true
		return c, func(v dfs.Value) (dfs.Value, error) { return absentOr(v, dfs.NullValue()), nil }, nil
	case "hash":
		if len(key) < 16 {
			return c, nil, errors.New("the mask hash needs Options.HashKey (hash_key), a secret of 16 bytes or more")
		}
		h := &hasher{mac: hmac.New(sha256.New, key)}
		hashed := dfs.Column{Name: c.Name, Type: "char(32)", Charset: "ascii", Collation: "ascii_bin", Nullable: c.Nullable}
		members, set := c.Members, strings.HasPrefix(c.Type, "set")
		return hashed, func(v dfs.Value) (dfs.Value, error) {
			if v.Kind() == dfs.Uint64 && len(members) > 0 {
				v = dfs.StringValue(convert.Member(v.Uint(), members, set))
			}
			return h.hash(v), nil
		}, nil
	case "truncate":
		switch {
		case kind == dfs.Bytes:
			return c, func(v dfs.Value) (dfs.Value, error) {
				if b := v.Bytes(); v.Kind() == dfs.Bytes && len(b) > m.n {
					return dfs.BytesValue(b[:m.n]), nil
				}
				return v, nil
			}, nil
		case text:
			wide := convert.IsUTF8(c.Charset)
			return c, func(v dfs.Value) (dfs.Value, error) {
				if v.Kind() != dfs.String || len(v.Text()) <= m.n {
					return v, nil
				}
				return dfs.StringValue(firstChars(v.Text(), m.n, wide)), nil
			}, nil
		}
		return c, nil, fmt.Errorf("the mask truncate is for text in UTF-8 or a set of one byte a character, and for bytes, not for %s %s", c.Type, c.Charset)
	}
	to, err := m.redacted(&c, kind, text)
	if err != nil {
		return c, nil, err
	}
	return c, func(v dfs.Value) (dfs.Value, error) {
		if v.IsNull() {
			return v, nil
		}
		return absentOr(v, to), nil
	}, nil
}

// absentOr keeps a value that was not logged as it is.
func absentOr(v, to dfs.Value) dfs.Value {
	if v.Kind() == dfs.Absent {
		return v
	}
	return to
}

// redacted returns the value that stands for all others of the column.
func (m masker) redacted(c *dfs.Column, kind dfs.Kind, text bool) (dfs.Value, error) {
	if m.text != "" && kind != dfs.String {
		v, err := convert.To(dfs.StringValue(m.text), c)
		if err != nil {
			return v, fmt.Errorf("the mask redact: %w", err)
		}
		return v, nil
	}
	switch kind {
	case dfs.String:
		s := m.text
		if s == "" {
			s = "***"
		}
		if !text || !convert.IsUTF8(c.Charset) && !ascii(s) {
			return dfs.Value{}, fmt.Errorf("the mask redact cannot write %q in %s; use null or hash", s, c.Charset)
		}
		if m.text == "" {
			for s != "" { // as much of it as the column holds
				if _, err := convert.To(dfs.StringValue(s), c); err == nil {
					break
				}
				s = s[1:]
			}
		}
		return convert.To(dfs.StringValue(s), c)
	case dfs.Bytes:
		if spatial(c.Type) || strings.HasPrefix(c.Type, "vector") {
			return dfs.Value{}, fmt.Errorf("the mask redact has nothing to put into %s; use null or hash", c.Type)
		}
		return dfs.BytesValue(nil), nil
	case dfs.JSON:
		return dfs.JSONValue("{}"), nil
	case dfs.Date:
		return dfs.DateValue(1970, 1, 1), nil
	case dfs.DateTime:
		return dfs.DateTimeValue(1970, 1, 1, 0, 0, 0, 0, 0), nil
	case dfs.Timestamp:
		return dfs.TimestampValue(time.Unix(1, 0), 0), nil // 0 stands for the zero timestamp
	case dfs.Time:
		return dfs.TimeValue(0, 0), nil
	}
	return convert.To(dfs.IntValue(0), c)
}

func spatial(typ string) bool {
	return typ == "point" || strings.Contains(typ, "geom") || strings.Contains(typ, "line") || strings.Contains(typ, "polygon") || strings.HasPrefix(typ, "multi")
}

// A hasher makes the hashes of one column. It is used by one goroutine.
type hasher struct {
	mac hash.Hash
	in  []byte
	sum [sha256.Size]byte
}

// hash hashes a value's text, so that a number and its text have one hash.
func (h *hasher) hash(v dfs.Value) dfs.Value {
	if k := v.Kind(); k == dfs.Null || k == dfs.Absent {
		return v
	}
	h.mac.Reset()
	h.in = v.Append(h.in[:0])
	h.mac.Write(h.in)
	sum := h.mac.Sum(h.sum[:0])
	return dfs.StringValue(hex.EncodeToString(sum[:16]))
}

// firstChars returns the first n characters of s.
func firstChars(s string, n int, utf bool) string {
	if !utf {
		return s[:min(n, len(s))]
	}
	at := 0
	for ; n > 0 && at < len(s); n-- {
		_, size := utf8.DecodeRuneInString(s[at:])
		at += size
	}
	return s[:at]
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// singleByte reports whether each byte is a character, of which the first 128
// are those of ASCII.
func singleByte(charset string) bool {
	switch charset {
	case "latin1", "latin2", "latin5", "latin7", "cp1250", "cp1251", "cp1256", "cp1257", "cp850", "cp852", "cp866",
		"koi8r", "koi8u", "greek", "hebrew", "armscii8", "dec8", "geostd8", "hp8", "keybcs2", "macce", "macroman", "tis620", "binary":
		return true
	}
	return false
}

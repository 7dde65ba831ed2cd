package stream

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/unicode"

	"github.com/dataflowsync/dfs"
)

// A tableInfo is what is known of a table, for each of its rows.
type tableInfo struct {
	name, topic string
	names       []string // of columns, as JSON with a colon
	columns     []columnInfo

	// Of the format Debezium with schemas.
	keySchema, valueSchema string
}

// A columnInfo is what the values of a column need.
type columnInfo struct {
	*dfs.Column
	base     string // the type's first word, without its length
	unsigned bool
	decode   *encoding.Decoder // nil if the text is UTF-8
	utf8     bool
	scale    int // of a DECIMAL
	bits     int // of a BIT
}

// charsets are the character sets of MySQL whose code points are all those of the
// tables of x/text. Latin1 is not among them: see latin1.
func charsetOf(name string) (enc encoding.Encoding, isUTF8, known bool) {
	switch name {
	case "", "utf8", "utf8mb3", "utf8mb4", "ascii", "binary":
		return nil, true, true
	case "latin1":
		return latin1{}, false, true
	case "latin5":
		return charmap.ISO8859_9, false, true
	case "cp1250":
		return charmap.Windows1250, false, true
	case "cp1251":
		return charmap.Windows1251, false, true
	case "cp1256":
		return charmap.Windows1256, false, true
	case "cp1257":
		return charmap.Windows1257, false, true
	case "cp850":
		return charmap.CodePage850, false, true
	case "cp852":
		return charmap.CodePage852, false, true
	case "koi8r":
		return charmap.KOI8R, false, true
	case "macroman":
		return charmap.Macintosh, false, true
	case "gbk":
		return simplifiedchinese.GBK, false, true
	case "euckr":
		return korean.EUCKR, false, true
	case "utf16", "ucs2":
		return unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM), false, true
	case "utf16le":
		return unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM), false, true
	}
	return nil, false, false
}

// latin1 stands for MySQL's latin1, which is Windows-1252, and has the C1 controls
// where that has nothing.
type latin1 struct{ encoding.Encoding }

func (e *Encoder) tableOf(t *dfs.Table) (*tableInfo, error) {
	info := &tableInfo{name: t.String(), topic: e.o.Name + "." + t.String()}
	for i := range t.Columns {
		c := columnInfo{Column: &t.Columns[i]}
		low := strings.ToLower(c.Type)
		c.base = low
		if k := strings.IndexAny(low, "( "); k >= 0 {
			c.base = low[:k]
		}
		c.unsigned = strings.Contains(low, "unsigned")
		if _, rest, ok := strings.Cut(low, "("); ok {
			length, scale, _ := strings.Cut(strings.SplitN(rest, ")", 2)[0], ",")
			c.bits, _ = strconv.Atoi(strings.TrimSpace(length))
			c.scale, _ = strconv.Atoi(strings.TrimSpace(scale))
		}
		enc, isUTF8, known := charsetOf(c.Charset)
		c.utf8 = isUTF8
		switch {
		case enc != nil:
			if _, ok := enc.(latin1); !ok {
				c.decode = enc.NewDecoder()
			}
		case !known && e.o.BadText != "replace":
			return nil, fmt.Errorf("column %s is text in %s, which cannot be written as JSON: convert the column to utf8mb4, leave it out by a unit, "+
				"or set BadText to replace, by which its text is read as UTF-8", c.Name, c.Charset)
		case !known:
			c.utf8 = true
		}
		info.columns = append(info.columns, c)
		info.names = append(info.names, string(append(appendText(nil, c.Name), ':')))
	}
	if e.o.Schemas {
		info.schemas(e, t)
	}
	return info, nil
}

// text returns the text of a column in UTF-8.
func (e *Encoder) text(c *columnInfo, s string) (string, error) {
	if !c.utf8 {
		if c.decode == nil {
			return decodeLatin1(s), nil
		}
		out, err := c.decode.String(s)
		if err != nil || strings.ContainsRune(out, utf8.RuneError) {
			if e.o.BadText != "replace" {
				return "", fmt.Errorf("its text is not valid %s: mend the row, or set BadText to replace", c.Charset)
			}
		}
		return out, nil
	}
	if utf8.ValidString(s) {
		return s, nil
	}
	if e.o.BadText != "replace" {
		return "", fmt.Errorf("its text is not valid UTF-8: mend the row, or set BadText to replace")
	}
	return strings.ToValidUTF8(s, "\uFFFD"), nil
}

func decodeLatin1(s string) string {
	ascii := true
	for i := range len(s) {
		ascii = ascii && s[i] < 0x80
	}
	if ascii {
		return s
	}
	b := make([]byte, 0, 2*len(s))
	for i := range len(s) {
		r := charmap.Windows1252.DecodeByte(s[i])
		if r == utf8.RuneError {
			r = rune(s[i])
		}
		b = utf8.AppendRune(b, r)
	}
	return string(b)
}

// member returns the name of an ENUM's value, or those of a SET's with commas.
func (c *columnInfo) member(n uint64) string {
	if c.base == "enum" {
		if n == 0 || n > uint64(len(c.Members)) {
			return "" // what MySQL stores in place of a value that it does not know
		}
		return c.Members[n-1]
	}
	var names []string
	for i, m := range c.Members {
		if n&(1<<i) != 0 {
			names = append(names, m)
		}
	}
	return strings.Join(names, ",")
}

func (c *columnInfo) named() bool { return c.Members != nil && (c.base == "enum" || c.base == "set") }

// appendValue appends a value in the format JSON.
func (e *Encoder) appendValue(b []byte, c *columnInfo, v dfs.Value) ([]byte, error) {
	switch v.Kind() {
	case dfs.Null:
		return append(b, "null"...), nil
	case dfs.Uint64:
		if c.named() {
			return appendText(b, c.member(v.Uint())), nil
		}
		return v.Append(b), nil
	case dfs.Int64:
		return v.Append(b), nil
	case dfs.Float32, dfs.Float64:
		return appendFloat(b, v)
	case dfs.String:
		s, err := e.text(c, v.Text())
		return appendText(b, s), err
	case dfs.Bytes:
		return appendBase64(b, v.Bytes()), nil
	case dfs.JSON:
		return appendJSON(b, v.Text())
	case dfs.Timestamp:
		if v == dfs.TimestampMicro(0, v.FSP()) {
			break
		}
		b = append(b, '"')
		return append(v.Time().UTC().AppendFormat(b, stampLayout(v.FSP())), '"'), nil
	}
	b = append(b, '"') // decimals, dates and times need no escapes
	return append(v.Append(b), '"'), nil
}

// stampLayout writes as many digits as the column has.
func stampLayout(fsp int) string {
	if fsp == 0 {
		return time.RFC3339
	}
	return "2006-01-02T15:04:05." + "000000"[:fsp] + "Z07:00"
}

func appendFloat(b []byte, v dfs.Value) ([]byte, error) {
	at := len(b)
	b = v.Append(b)
	if s := b[at:]; strings.ContainsAny(string(s), "NI") { // NaN, Inf: no column of MySQL holds one
		return b[:at], fmt.Errorf("the number %s cannot be written as JSON", s)
	}
	return b, nil
}

func appendBase64(b, v []byte) []byte {
	b = append(b, '"')
	b = base64.StdEncoding.AppendEncode(b, v)
	return append(b, '"')
}

// appendJSON appends a document on one line.
func appendJSON(b []byte, s string) ([]byte, error) {
	if !json.Valid([]byte(s)) {
		return b, fmt.Errorf("its document is not JSON")
	}
	if !strings.ContainsAny(s, "\n\r") {
		return append(b, s...), nil
	}
	for i, in, esc := 0, false, false; i < len(s); i++ {
		switch c := s[i]; {
		case !in && (c == '\n' || c == '\r'):
			continue
		case esc:
			esc = false
		case in && c == '\\':
			esc = true
		case c == '"':
			in = !in
		}
		b = append(b, s[i])
	}
	return b, nil
}

const hex = "0123456789abcdef"

// appendText appends valid UTF-8 as a JSON string. What is not valid is replaced.
func appendText(b []byte, s string) []byte {
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				b = append(append(b, s[from:i]...), "\uFFFD"...)
				from = i + 1
			}
			i += n
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		b = append(b, s[from:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		i++
		from = i
	}
	return append(append(b, s[from:]...), '"')
}

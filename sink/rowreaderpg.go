package sink

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dataflowsync/dfs"
)

func (r *RowReader) findPostgres(ctx context.Context, to *dfs.Table, h *heldTable, keys []dfs.Row, each func(dfs.Row) error) error {
	var lists, names, on []string
	args := make([]any, len(to.Key))
	for k, j := range to.Key {
		b := []byte{'{'}
		for i, key := range keys {
			if i > 0 {
				b = append(b, ',')
			}
			switch v := key[k]; v.Kind() {
			case dfs.Null:
				b = append(b, "NULL"...)
			case dfs.Bytes:
				b = appendElement(b, hex.AppendEncode([]byte(`\x`), v.Bytes()))
			default:
				b = appendElement(b, []byte(v.String()))
			}
		}
		args[k] = append(b, '}')
		name := "c" + strconv.Itoa(k)
		lists, names = append(lists, r.pg.place(k+1)+"::"+h.t.columns[j].typ+"[]"), append(names, name)
		on = append(on, "t."+quoteName(to.Columns[j].Name)+"=v."+name)
	}
	lock := ""
	if r.mending {
		lock = " FOR UPDATE OF t"
	}
	return r.rows(ctx, to, h, false, "SELECT "+h.columns+" FROM unnest("+strings.Join(lists, ",")+") v("+strings.Join(names, ",")+") JOIN "+
		r.pg.ident(h.t)+" t ON "+strings.Join(on, " AND ")+lock, args, each)
}

func (r *RowReader) rowsPostgres(ctx context.Context, h *heldTable, text string, args []any, take func(func(int) any) error) error {
	list, err := params(args)
	if err != nil {
		return err
	}
	// The answer is read to its end also where each has enough: see pgconn.
	result := r.pg.conn.ExecParams(ctx, text, list, nil, nil, nil)
	var failed error
	for result.NextRow() {
		if failed != nil {
			continue
		}
		values := result.Values()
		failed = take(func(j int) any {
			if values[j] == nil {
				return nil
			}
			return string(values[j])
		})
	}
	if _, err := result.Close(); err != nil {
		if r.mending {
			return r.pg.explain(pgClassify(err), h.t)
		}
		return pgGranted(pgClassify(err), h.t.schema, r.pg.ident(h.t))
	}
	return failed
}

// pgGranted adds what cures that the account may not read a table.
func pgGranted(err error, schema, table string) error {
	if pgCode(err) == "42501" {
		return fmt.Errorf("%w: GRANT USAGE ON SCHEMA %s, and SELECT ON %s, TO the account of the DSN", err, quoteName(schema), table)
	}
	return err
}

// pgStored returns what makes the form of a value of a column from its text, be it what
// the sink sends or what the server prints. Where the column's type bounds it, that is
// done to the text what the server does when it stores it.
func pgStored(c *targetColumn, mark *formMark) func(v any) dfs.Value {
	form := func(s string) string { return s }
	switch c.base {
	case "bytea":
		return func(v any) dfs.Value {
			if s := v.(string); strings.HasPrefix(s, `\x`) {
				if b, err := hex.DecodeString(s[2:]); err == nil {
					return dfs.BytesValue(b)
				}
			}
			return dfs.StringValue(v.(string))
		}
	case "numeric":
		form = func(s string) string { return numericForm(s, c.precision, c.scale) }
	case "float4", "float8":
		bits := 64
		if c.base == "float4" {
			bits = 32
		}
		form = func(s string) string {
			f, err := strconv.ParseFloat(s, bits)
			if err != nil {
				return s
			}
			return strconv.FormatFloat(f, 'g', -1, bits)
		}
	case "varchar":
		form = func(s string) string { return cutSpaces(s, c.precision) }
	case "bpchar":
		form = func(s string) string { return strings.TrimRight(s, " ") } // it is filled up with them
	case "name":
		form = func(s string) string {
			for len(s) > pgNameMax || !utf8.ValidString(s) && s != "" {
				s = s[:len(s)-1]
			}
			return s
		}
	case "date":
	case "timestamp", "timestamptz":
		form = func(s string) string { return stampForm(s, c.precision) }
	case "time", "interval":
		form = func(s string) string { return spanForm(s, c.precision) }
	case "json", "jsonb":
		form = func(s string) string { return jsonForm(s, c.base == "json") }
	case "uuid":
		form = func(s string) string {
			return strings.ToLower(strings.NewReplacer("-", "", "{", "", "}", "").Replace(s))
		}
	case "inet":
		form = func(s string) string {
			if p, err := netip.ParsePrefix(s); err == nil {
				if p.Bits() == p.Addr().BitLen() {
					return p.Addr().String()
				}
				return p.String()
			}
			if a, err := netip.ParseAddr(s); err == nil {
				return a.String()
			}
			return s
		}
	case "_text", "_varchar":
		form = arrayForm
	}
	return func(v any) dfs.Value {
		s := v.(string)
		if *mark&markJSON != 0 && c.base != "json" && c.base != "jsonb" {
			return dfs.StringValue(jsonForm(s, true)) // a document in a column of text
		}
		return dfs.StringValue(form(s))
	}
}

// cutSpaces leaves out the spaces behind n characters, as a column of that length does.
func cutSpaces(s string, n int) string {
	if n < 0 || len(s) <= n || utf8.RuneCountInString(s) <= n {
		return s
	}
	at := 0
	for range n {
		_, size := utf8.DecodeRuneInString(s[at:])
		at += size
	}
	if strings.Trim(s[at:], " ") != "" {
		return s // it is refused
	}
	return s[:at]
}

// numericForm gives a number without an exponent and without zeros that say nothing. If
// precision is not negative, it is rounded to scale digits behind the point, half away
// from zero.
func numericForm(s string, precision, scale int) string {
	rest, negative := strings.CutPrefix(s, "-")
	rest = strings.TrimPrefix(rest, "+")
	mantissa, exponent, scientific := strings.Cut(strings.ToLower(rest), "e")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	if whole+fraction == "" || strings.Trim(whole+fraction, "0123456789") != "" {
		return s // NaN
	}
	point := len(whole)
	if scientific {
		n, err := strconv.Atoi(exponent)
		if err != nil || n > 20000 || n < -20000 {
			return s
		}
		point += n
	}
	digits := []byte(whole + fraction)
	if point < 0 {
		digits, point = append([]byte(strings.Repeat("0", -point)), digits...), 0
	}
	for len(digits) < point {
		digits = append(digits, '0')
	}
	if keep := point + scale; precision >= 0 && keep < len(digits) {
		up := keep >= 0 && digits[keep] >= '5'
		digits = digits[:max(keep, 0)]
		for i := len(digits) - 1; up && i >= 0; i-- {
			if up = digits[i] == '9'; up {
				digits[i] = '0'
			} else {
				digits[i]++
			}
		}
		if up {
			digits, point = append([]byte{'1'}, digits...), point+1
		}
		for len(digits) < point {
			digits = append(digits, '0')
		}
	}
	whole, fraction = strings.TrimLeft(string(digits[:point]), "0"), strings.TrimRight(string(digits[point:]), "0")
	switch {
	case whole == "" && fraction == "":
		return "0"
	case whole == "":
		whole = "0"
	}
	if fraction != "" {
		whole += "." + fraction
	}
	if negative {
		whole = "-" + whole
	}
	return whole
}

// stampForm gives a moment as "2024-02-29 01:02:03.5", with " BC" behind years before 1.
// Digits behind precision are rounded as PostgreSQL does, from the year 2000 on away
// from it.
func stampForm(s string, precision int) string {
	text, bc := strings.CutSuffix(s, " BC")
	text = strings.TrimSuffix(text, "+00")
	if len(text) == len("2024-02-29") && text[4] == '-' {
		text += " 00:00:00"
	}
	text, fraction, _ := strings.Cut(text, ".")
	if fraction = strings.TrimRight(fraction, "0"); precision >= 0 && len(fraction) > precision {
		t, err := time.Parse("2006-01-02 15:04:05", text)
		us, err2 := strconv.Atoi((fraction + "000000")[:6])
		if err != nil || err2 != nil || bc {
			return s // not what MySQL has
		}
		at := t.UnixMicro() + int64(us) - 946684800*1e6
		at = roundMicros(at, precision)
		t = time.UnixMicro(at + 946684800*1e6).UTC()
		text, fraction = t.Format("2006-01-02 15:04:05"), strings.TrimRight(fmt.Sprintf("%06d", t.Nanosecond()/1000), "0")
	}
	if fraction != "" {
		text += "." + fraction
	}
	if bc {
		text += " BC"
	}
	return text
}

// spanForm gives a span as "-838:59:58.5".
func spanForm(s string, precision int) string {
	rest, negative := strings.CutPrefix(s, "-")
	clock, fraction, _ := strings.Cut(rest, ".")
	if fraction = strings.TrimRight(fraction, "0"); precision >= 0 && len(fraction) > precision {
		n := int64(0)
		for part := range strings.SplitSeq(clock, ":") {
			k, err := strconv.Atoi(part)
			if err != nil {
				return s
			}
			n = n*60 + int64(k)
		}
		us, err := strconv.Atoi((fraction + "000000")[:6])
		if err != nil {
			return s
		}
		n = roundMicros(n*1e6+int64(us), precision)
		clock = fmt.Sprintf("%02d:%02d:%02d", n/3600e6, n/60e6%60, n/1e6%60)
		fraction = strings.TrimRight(fmt.Sprintf("%06d", n%1e6), "0")
	}
	if fraction != "" {
		clock += "." + fraction
	}
	if negative && strings.Trim(clock, "0:.") != "" {
		return "-" + clock
	}
	return clock
}

// roundMicros rounds microseconds to digits behind the second, half away from zero.
func roundMicros(n int64, precision int) int64 {
	unit := int64(1e6)
	for range precision {
		unit /= 10
	}
	if n < 0 {
		return -((-n + unit/2) / unit * unit)
	}
	return (n + unit/2) / unit * unit
}

// arrayForm gives the text of an array with all of its elements in quotes.
func arrayForm(s string) string {
	inner, opened := strings.CutPrefix(s, "{")
	inner, closed := strings.CutSuffix(inner, "}")
	if !opened || !closed {
		return s
	}
	out := []byte{'{'}
	for first := true; inner != ""; first = false {
		if !first {
			if inner[0] != ',' {
				return s
			}
			inner = inner[1:]
		}
		var e []byte
		quoted := strings.HasPrefix(inner, `"`)
		i := 0
		if quoted {
			i = 1
		}
		for ; i < len(inner) && (quoted && inner[i] != '"' || !quoted && inner[i] != ','); i++ {
			if inner[i] == '\\' && i+1 < len(inner) {
				i++
			}
			e = append(e, inner[i])
		}
		if quoted {
			i++
		}
		if i > len(inner) {
			return s
		}
		if inner = inner[i:]; !first {
			out = append(out, ',')
		}
		if !quoted && string(e) == "NULL" {
			out = append(out, e...)
			continue
		}
		out = appendElement(out, e)
	}
	return string(append(out, '}'))
}

package sink

import (
	"bytes"
	"encoding/json"
	"io"
	"strconv"
	"strings"
)

// jsonForm gives one text of all those of a document that mean the same: members in the
// order of their names, and numbers by their digits, so that 1.50 and 15e-1 are one. With
// kinds the integer 1 and the number 1.0 are two, as they are for MySQL. MySQL
// breaks the lines of a BLOB within a document where it prints it, and does not where it
// is read from the log. What is no document stays as it is.
func jsonForm(s string, kinds bool) string {
	d := json.NewDecoder(strings.NewReader(s))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return s
	}
	if _, err := d.Token(); err != io.EOF {
		return s
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(plainDocument(v, kinds)) != nil {
		return s
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func plainDocument(v any, kinds bool) any {
	switch v := v.(type) {
	case json.Number:
		return json.Number(digitsForm(string(v), kinds))
	case string:
		if strings.HasPrefix(v, "base64:type") {
			return strings.ReplaceAll(v, "\n", "")
		}
	case []any:
		for i := range v {
			v[i] = plainDocument(v[i], kinds)
		}
	case map[string]any:
		for k := range v {
			v[k] = plainDocument(v[k], kinds)
		}
	}
	return v
}

// digitsForm gives a number of JSON as its digits, without zeros at either end, and an
// exponent.
func digitsForm(s string, kinds bool) string {
	rest, negative := strings.CutPrefix(s, "-")
	mantissa, exponent, _ := strings.Cut(strings.ToLower(rest), "e")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	n := 0
	if exponent != "" {
		var err error
		if n, err = strconv.Atoi(exponent); err != nil {
			return s
		}
	}
	digits := strings.TrimLeft(whole+fraction, "0")
	n -= len(fraction)
	cut := strings.TrimRight(digits, "0")
	if cut == "" {
		cut = "0"
	} else {
		n += len(digits) - len(cut)
	}
	if negative && cut != "0" {
		cut = "-" + cut
	}
	if cut == "0" {
		n = 0
	}
	if n != 0 || kinds && strings.ContainsAny(s, ".eE") {
		cut += "e" + strconv.Itoa(n)
	}
	return cut
}

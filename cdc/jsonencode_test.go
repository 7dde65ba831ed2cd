package cdc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/rowevent"
	"github.com/dataflowsync/dfs/internal/testseed"
)

// Documents that are decoded here are encoded by internal/rowevent.

// decodeJSON reads a binary document.
func decodeJSON(b []byte) (dfs.Value, error) {
	var w jsonWriter
	if err := w.document(b); err != nil {
		return dfs.Value{}, err
	}
	return w.result(), nil
}

// letters returns the bytes of a document without regard to their order.
func letters(v dfs.Value) []byte { return slices.Sorted(slices.Values(bytes.Clone(v.Bytes()))) }

// FuzzJSONEncode gives binary documents, of which most are damaged, to the decoder,
// and what it makes of them to the encoder.
func FuzzJSONEncode(f *testing.F) {
	var e rowevent.JSONEncoder
	for _, doc := range []string{`{}`, `[]`, `null`, `-7`, `70000`, `1e300`, `"a\u0000é"`, `{"a": [1, 70000, 5000000000, true, null, -1.5], "bb": {"": {}}}`} {
		b, err := e.Append(nil, dfs.JSONValue(doc))
		require.NoError(f, err, doc)
		f.Add(b)
	}
	f.Add([]byte("\x0f\xf6\x07\x05\x02\x80\x00\x01\x0a"))             // 1.10 as a DECIMAL(5,2)
	f.Add([]byte("\x0f\x0c\x08\x00\x00\x00\x00\x00\xba\xb2\x19"))     // a DATETIME
	f.Add([]byte("\x02\x01\x00\x0c\x00\x0f\x07\x00\x0f\x0f\x03abc"))  // [base64]
	f.Add([]byte("\x02\x02\x00\x0a\x00\x06\x05\x00\x05\xff\xff\x00")) // [5 unsigned, -1]
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := decodeJSON(b)
		if err != nil {
			return
		}
		encoded, err := e.Append(nil, v)
		if err != nil {
			return
		}
		back, err := decodeJSON(encoded)
		if err != nil {
			t.Fatalf("%q: %v", v, err)
		}
		if back != v {
			// The members were in another order.
			if !bytes.Contains(v.Bytes(), []byte{'{'}) || !bytes.Equal(letters(v), letters(back)) {
				t.Fatalf("%q became %q", v, back)
			}
		}
		if again, err := e.Append(nil, back); err != nil || !bytes.Equal(again, encoded) {
			t.Fatalf("%q: %v, %x and %x", v, err, encoded, again)
		}
	})
}

// FuzzJSONText gives texts to the encoder. What it takes is JSON, and what is JSON it
// takes, but for what servers do not all read alike.
func FuzzJSONText(f *testing.F) {
	for _, doc := range []string{`{"b":1,"a":[ 2.5e3 , "\ud83d\ude00\/" ]}`, `{"a":1,"a":2}`, `"\ud83d"`, `18446744073709551616`, `-0`, `[1,]`, `01`, "\"\n\"", `1e400`} {
		f.Add(doc)
	}
	var e rowevent.JSONEncoder
	f.Fuzz(func(t *testing.T, doc string) {
		encoded, err := e.Append(nil, dfs.JSONValue(doc))
		if err != nil {
			if !json.Valid([]byte(doc)) || strings.Contains(err.Error(), "twice") || strings.Contains(err.Error(), "deeper") {
				return
			}
			var v any
			if errors.As(json.Unmarshal([]byte(doc), &v), new(*json.UnmarshalTypeError)) || strings.ContainsFunc(doc, func(r rune) bool { return r == '\ufffd' }) {
				return // a number that is too large, or bytes that are no text
			}
			if strings.Contains(doc, `\u`) || len(doc) > 18 {
				return // maybe half a surrogate pair, or an integer that is too large
			}
			t.Fatalf("%q: %v", doc, err)
		}
		back, err := decodeJSON(encoded)
		if err != nil {
			t.Fatalf("%q: %v", doc, err)
		}
		var want, got any
		if err := json.Unmarshal([]byte(doc), &want); err != nil {
			t.Fatalf("%q: %v", doc, err)
		}
		require.NoError(t, json.Unmarshal(back.Bytes(), &got))
		require.Equal(t, want, got)
	})
}

// randomValue returns the text of a random value, with keys in order, as a server
// prints it.
func randomValue(r *rand.Rand, depth int) string {
	kind := r.IntN(9)
	if depth == 0 {
		kind = r.IntN(6)
	}
	quote := func(s string) string { return string(appendQuoted(nil, []byte(s))) }
	word := func() string {
		runes := []rune("ab\"\\\x00\n\x1f/é日😀")
		s := make([]rune, r.IntN(12))
		for i := range s {
			s[i] = runes[r.IntN(len(runes))]
		}
		return string(s)
	}
	switch kind {
	case 0:
		return []string{"null", "true", "false"}[r.IntN(3)]
	case 1:
		return fmt.Sprint(int64(r.Uint64()) >> r.IntN(64))
	case 2:
		return fmt.Sprint(r.Uint64() >> r.IntN(64))
	case 3:
		for {
			if f := math.Float64frombits(r.Uint64()); f-f == 0 {
				return string(appendDouble(nil, f))
			}
		}
	case 4:
		return quote(word())
	case 5:
		return quote(strings.Repeat("x", []int{0, 126, 127, 128, 129, 16383, 16384, 30000}[r.IntN(8)]))
	case 6, 7:
		parts := make([]string, r.IntN(7))
		for i := range parts {
			parts[i] = randomValue(r, depth-1)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	keys := make(map[string]bool)
	for range r.IntN(7) {
		keys[word()] = true
	}
	sorted := slices.SortedFunc(func(yield func(string) bool) {
		for k := range keys {
			if !yield(k) {
				return
			}
		}
	}, func(a, b string) int { return compareKeys([]byte(a), []byte(b)) })
	for i, k := range sorted {
		sorted[i] = quote(k) + ": " + randomValue(r, depth-1)
	}
	return "{" + strings.Join(sorted, ", ") + "}"
}

func TestRandomDocumentsComeBackFromTheEncoder(t *testing.T) {
	seed := testseed.New(t)
	r := rand.New(rand.NewPCG(seed, 0))
	var e rowevent.JSONEncoder
	for range 2000 {
		v := dfs.JSONValue(randomValue(r, 6))
		b, err := e.Append(nil, v)
		require.NoError(t, err, "%.2000s", v)
		back, err := decodeJSON(b)
		require.NoError(t, err)
		require.Equal(t, v.String(), back.String())
		require.Equal(t, v, back)
	}
	// Encoding takes no memory but what is kept for the next document.
	v := dfs.JSONValue(`{"id": 5, "name": "a\nb", "tags": [{"tag": "x", "w": 0.25}, {"tag": "y", "w": 1e100}]}`)
	b, err := e.Append(nil, v)
	require.NoError(t, err)
	require.Zero(t, testing.AllocsPerRun(100, func() { b, _ = e.Append(b[:0], v) }))
}

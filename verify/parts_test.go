package verify

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAllFaultsOfTheOptionsAreToldAtOnce(t *testing.T) {
	v := &Verifier{Tables: []string{"shop"}, Routes: []Route{{From: "a.b", To: "c"}}, Keeps: []string{"x"}, Hide: []string{"y.z"},
		Settle: -1, MaxRows: -1, Repair: true, Passed: nil, LockTime: -1}
	_, err := v.Run(t.Context())
	for _, part := range []string{"Source is empty", "Target is empty", `Tables: "shop" names no table`, `route to: "c" names no table`,
		`Keeps: "x" names no table`, `Hide: "y.z" names no column`, "Settle is negative", "MaxRows and Most must not be negative", "Repair needs"} {
		require.ErrorContains(t, err, part)
	}
	_, err = (&Verifier{Source: "root:pass@word", Target: "root:secret"}).Run(t.Context())
	require.ErrorContains(t, err, "the source's data source name cannot be read")
	require.ErrorContains(t, err, "the target's data source name cannot be read")
	require.NotContains(t, err.Error(), "pass@word")
	require.NotContains(t, err.Error(), "secret")
}

func TestPlacesAreReadAsPackageCDCWritesThem(t *testing.T) {
	for text, want := range map[string]place{
		"gtid 3e11fa47-71ca-11e1-9e33-c80aa9429562 3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5 binlog.000002:1507": {
			kind: "gtid", server: "3e11fa47-71ca-11e1-9e33-c80aa9429562", gtids: "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5", file: "binlog.000002", offset: 1507},
		"mariadb 7 xa:abc=1-2-3 0-7-9 my log.000002:4": {kind: "mariadb", server: "7", gtids: "0-7-9", file: "my log.000002", offset: 4},
		"file u - b.7:99":                 {kind: "file", server: "u", file: "b.7", offset: 99},
		"gtid u copy:3.4 - :0":            {kind: "gtid", server: "u", copying: true},
		"gtid u copy:3.4 xa:x=- - b.1:10": {kind: "gtid", server: "u", copying: true, file: "b.1", offset: 10},
	} {
		p, err := parsePlace(text)
		require.NoError(t, err, text)
		require.Equal(t, want, p, text)
	}
	for _, text := range []string{"", "gtid u -", "gtid u - b.1", "gtid u - b.1:x", "other u - b.1:4"} {
		_, err := parsePlace(text)
		require.ErrorContains(t, err, "set Passed or Settle", text)
	}
}

func TestOwnedGTIDsAreThoseBetweenTheLogAndTheirCommit(t *testing.T) {
	require.Empty(t, ownedGTIDs(""))
	require.Equal(t, []string{"u:5", "u:6", "w:tag:7"}, ownedGTIDs("u:5#1234:6#99,\nw:tag:7#3"))
}

func TestWhatHasBeenPassed(t *testing.T) {
	for _, c := range []struct {
		p, at string
		want  bool
	}{{"", "", true}, {"0-1-5", "0-1-5", true}, {"0-1-6", "0-1-5", false}, {"0-1-5,1-1-1", "0-1-5", false}, {"0-2-5", "1-1-1,0-1-9", true}} {
		ok, err := domainsPassed(c.p, c.at)
		require.NoError(t, err)
		require.Equal(t, c.want, ok, c)
	}
	_, err := domainsPassed("x", "")
	require.ErrorContains(t, err, "no GTID of MariaDB")
	f := func(file string, n uint64) place { return place{file: file, offset: n} }
	require.True(t, filePassed(f("b.000009", 5), f("b.000009", 5)))
	require.True(t, filePassed(f("b.999999", 5), f("b.1000000", 4)))
	require.False(t, filePassed(f("b.000010", 5), f("b.000009", 500)))
	require.False(t, filePassed(f("b.000009", 6), f("b.000009", 5)))
}

func TestFormsThatOnlyGoCanMake(t *testing.T) {
	require.Equal(t, normJSON(`{"b": 1.0, "a":[1,2.50, -0.0, 18446744073709551615]}`), normJSON(`{"a": [1, 2.5, 0, 18446744073709551615],"b":1}`))
	require.NotEqual(t, normJSON(`{"a":1}`), normJSON(`{"a":"1"}`))
	require.NotEqual(t, normJSON(`9007199254740993`), normJSON(`9007199254740992`))
	require.Equal(t, "no json", normJSON("no json"))
	require.Equal(t, "a,b,c", normSet("c,a,b"))
	require.Equal(t, "-7", normNumber("-007.00"))
	require.Equal(t, "0", normNumber("-0"))
	require.Equal(t, normFloat32("0.10000000149011612"), normFloat32("0.1"))
}

func TestAKeyIsNotMistakenForAnother(t *testing.T) {
	require.NotEqual(t, bound{{text: "a"}, {text: "b"}}.id(), bound{{text: "a;1:b"}}.id())
	require.NotEqual(t, bound{{null: true}}.id(), bound{{text: "n"}}.id())
}

func TestAPaceHoldsBackWhatReadsTooFast(t *testing.T) {
	p := pace{rows: 1000}
	require.Equal(t, 1000, p.limit(5000))
	began := time.Now()
	p.spend(t.Context(), 20)
	p.spend(t.Context(), 20)
	require.GreaterOrEqual(t, time.Since(began), 40*time.Millisecond)
	require.Equal(t, 5000, (&pace{}).limit(5000))
}

func TestValuesAreShownShortAndReadable(t *testing.T) {
	require.Equal(t, "NULL", show(cell{null: true}, true))
	require.Equal(t, "17", show(cell{text: "17"}, true))
	require.Equal(t, `"17"`, show(cell{text: "17"}, false))
	require.Equal(t, "0x00FF", show(cell{text: "\x00\xff"}, false))
	long := show(cell{text: string(make([]byte, 500))}, false)
	require.Contains(t, long, "(500 bytes)")
	require.Less(t, len(long), 120)
}

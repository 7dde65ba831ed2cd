package dfs

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var everyValue = Row{
	NullValue(), AbsentValue(), IntValue(0), IntValue(math.MinInt64), IntValue(math.MaxInt64),
	UintValue(math.MaxUint64), Float32Value(float32(math.Copysign(0, -1))), Float32Value(math.MaxFloat32),
	FloatValue(math.SmallestNonzeroFloat64), FloatValue(-math.MaxFloat64), DecimalValue("-12.50"),
	StringValue(""), StringValue("caf\xe9"), BytesValue([]byte{0, 1, 255}), BytesValue(nil), JSONValue(`{"a": 1.0}`),
	JSONNotedValue(`[1.10]`, []JSONNote{{"$[0]", "decimal(3,2)", "1.10"}}),
	DateValue(0, 0, 0), DateValue(9999, 12, 31), DateValue(2026, 0, 0),
	DateTimeValue(2026, 11, 22, 23, 59, 59, 999999, 6), DateTimeValue(0, 0, 0, 0, 0, 0, 0, 0),
	TimeValue(-(838*time.Hour + 59*time.Minute + 59*time.Second), 0), TimeValue(-500*time.Millisecond, 3),
	TimestampValue(time.Unix(1, 500_000_000), 1), TimestampValue(time.Time{}, 0),
}

var everyTable = &Table{Schema: "s`", Name: "t.x", Key: []int{1, 0}, Columns: []Column{
	{Name: "a", Type: "int", Nullable: true},
	{Name: "b", Type: "enum", Charset: "latin1", Collation: "latin1_swedish_ci", Members: []string{"", "x,y", "ü"}},
}}

func everyChange() []Change {
	short := Row{IntValue(1), IntValue(2)}
	return []Change{
		{Op: Insert, Table: everyTable, After: everyValue},
		{Op: Update, Table: everyTable, Before: short, After: Row{}, NoForeignKeys: true},
		{Op: Delete, Table: numbers, Before: short},
		{Op: DDL, Query: "drop table x"},
		{Op: DDL, Table: &Table{Schema: "s"}, Query: "drop table y"},
		{Op: DDL, Query: "drop table z", Session: &Session{Schema: "s", Vars: []Var{
			{Name: "time_zone", Value: "'+00:00'"}, {Name: "foreign_key_checks", Value: "1"},
		}}},
		{Op: DDL, Query: "create table z", Session: &Session{}},
	}
}

func TestChangesComeBackAsTheyWere(t *testing.T) {
	want := everyChange()
	got, err := ParseChanges(AppendChanges(nil, want))
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Same(t, got[0].Table, got[1].Table, "a table is written once")

	got, err = ParseChanges(AppendChanges(nil, nil))
	require.NoError(t, err)
	require.Empty(t, got)
}

// Programs that know nothing of sessions read what has none.
func TestChangesWithoutSessionKeepTheOldEncoding(t *testing.T) {
	ddl := []Change{{Op: DDL, Query: "drop"}}
	require.Equal(t, []byte("\x01\x01\x44\x04drop"), AppendChanges(nil, ddl))

	ddl[0].Session = &Session{Schema: "s"}
	b := AppendChanges(nil, ddl)
	require.Equal(t, []byte("\x02\x01\x47\x04drop\x01s\x00"), b)
	b[0] = codecPlain
	_, err := ParseChanges(b)
	require.Error(t, err, "only the new form has sessions")
}

func TestPartsOfRowsComeBackAsTheyWere(t *testing.T) {
	want := everyChange()
	want[0].Part, want[2].Part = true, true
	got, err := ParseChanges(AppendChanges(nil, want))
	require.NoError(t, err)
	require.Equal(t, want, got)

	require.Equal(t, []byte("\x03\x01\x01\x23\x01\x00"),
		AppendChanges(nil, []Change{{Op: Delete, Part: true, After: Row{NullValue()}}}))
}

func TestRowsThatOverwriteComeBackAsTheyWere(t *testing.T) {
	want := everyChange()
	want[0].Overwrite, want[1].Part = true, true
	b := AppendChanges(nil, want)
	got, err := ParseChanges(b)
	require.NoError(t, err)
	require.Equal(t, want, got)

	b[0] = codecPart
	_, err = ParseChanges(b)
	require.Error(t, err, "only the new form has them")
}

func TestParseChangesSurvivesDamage(t *testing.T) {
	whole := AppendChanges(nil, everyChange())
	for n := range whole {
		_, err := ParseChanges(whole[:n])
		require.Error(t, err, "cut at %d", n)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		b := append([]byte(nil), whole...)
		b[rng.IntN(len(b))] = byte(rng.Uint32())
		changes, err := ParseChanges(b) // may be right by chance, but must not panic
		if err == nil {
			AppendChanges(nil, changes)
		}
	}
	whole[0] = 99
	_, err := ParseChanges(whole)
	require.ErrorContains(t, err, "version 99")
}

func FuzzParseChanges(f *testing.F) {
	f.Add(AppendChanges(nil, everyChange()))
	f.Fuzz(func(t *testing.T, b []byte) {
		changes, err := ParseChanges(b)
		if err != nil {
			return
		}
		again, err := ParseChanges(AppendChanges(nil, changes))
		require.NoError(t, err)
		require.Equal(t, len(changes), len(again))
	})
}

func TestValuesPrintAsMySQLPrintsThem(t *testing.T) {
	var got []string
	for _, v := range everyValue {
		got = append(got, v.String())
	}
	require.Equal(t, []string{
		"NULL", "ABSENT", "0", "-9223372036854775808", "9223372036854775807",
		"18446744073709551615", "-0", "3.4028235e+38",
		"5e-324", "-1.7976931348623157e+308", "-12.50",
		"", "caf\xe9", "\x00\x01\xff", "", `{"a": 1.0}`, "[1.10]",
		"0000-00-00", "9999-12-31", "2026-00-00",
		"2026-11-22 23:59:59.999999", "0000-00-00 00:00:00",
		"-838:59:59", "-00:00:00.500",
		"1970-01-01 00:00:01.5", "0000-00-00 00:00:00",
	}, got)
}

func TestTemporalValuesConvert(t *testing.T) {
	at := time.Date(2026, 2, 3, 4, 5, 6, 789_000_000, time.UTC)
	require.Equal(t, at, TimestampValue(at, 3).Time())
	require.Equal(t, at, DateTimeValue(2026, 2, 3, 4, 5, 6, 789_000, 3).Time())
	require.Equal(t, -90*time.Minute, TimeValue(-90*time.Minute, 0).Duration())
	require.True(t, DateValue(2026, 0, 1).Time().IsZero())
	require.True(t, TimestampValue(time.Time{}, 0).Time().IsZero())
	require.Equal(t, DateValue(2026, 2, 3), DateValue(2026, 2, 3), "values compare by ==")
}

func TestColumnsAreFoundInAnyLetterCase(t *testing.T) {
	require.Equal(t, 1, everyTable.Column("B"))
	require.Equal(t, -1, everyTable.Column("c"))
	require.Equal(t, "s`.t.x", everyTable.String())
	require.Equal(t, "insert update delete ddl op(9)",
		strings.Join([]string{Insert.String(), Update.String(), Delete.String(), DDL.String(), Op(9).String()}, " "))
}

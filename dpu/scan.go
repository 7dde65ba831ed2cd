package dpu

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/convert"
)

var (
	valueType    = reflect.TypeFor[dfs.Value]()
	timeType     = reflect.TypeFor[time.Time]()
	durationType = reflect.TypeFor[time.Duration]()
	bytesType    = reflect.TypeFor[[]byte]()
)

func isInt(k reflect.Kind) bool  { return k >= reflect.Int && k <= reflect.Int64 }
func isUint(k reflect.Kind) bool { return k >= reflect.Uint && k <= reflect.Uint64 }

// readable reports what keeps the field from holding any value of its column.
func (f *field) readable() error {
	if f.goType == valueType {
		return nil
	}
	c := &f.def
	if c.Nullable && !f.null {
		return fmt.Errorf("it may be NULL, which a %v cannot hold; use *%v", f.goType, f.goType)
	}
	kind := convert.KindOf(c)
	typ, err := convert.Parse(convert.TypeText(c))
	no := fmt.Errorf("a %v cannot hold every %s", f.goType, c.Type)
	k := f.goType.Kind()
	switch {
	case err != nil:
		return no
	case f.goType == timeType:
		if kind == dfs.Date || kind == dfs.DateTime || kind == dfs.Timestamp {
			return nil
		}
	case f.goType == durationType:
		if kind == dfs.Time {
			return nil
		}
	case f.goType == bytesType:
		if kind == dfs.Bytes || kind == dfs.String || kind == dfs.JSON {
			return nil
		}
	case k == reflect.String:
		if kind == dfs.String && !convert.IsUTF8(c.Charset) {
			return fmt.Errorf("its text is in %s; use []byte or dfs.Value, and take it as such", c.Charset)
		}
		return nil // anything has a text
	case len(c.Members) > 0:
	case k == reflect.Bool:
		if kind == dfs.Int64 || kind == dfs.Uint64 {
			return nil
		}
	case isInt(k) || isUint(k):
		if typ.Fits(f.goType.Bits(), isUint(k)) {
			return nil
		}
	case k == reflect.Float64:
		if kind == dfs.Float64 || kind == dfs.Float32 {
			return nil
		}
		if kind == dfs.Decimal {
			return fmt.Errorf("a float64 does not hold the digits of a %s; use string or dfs.Value", c.Type)
		}
	case k == reflect.Float32:
		if kind == dfs.Float32 {
			return nil
		}
	}
	return no
}

// set fills a field, which readable has found fit.
func (f *field) set(to reflect.Value, v dfs.Value) error {
	if f.goType == valueType && to.Kind() != reflect.Pointer {
		*to.Addr().Interface().(*dfs.Value) = v
		return nil
	}
	if to.Kind() == reflect.Pointer {
		if v.IsNull() {
			to.SetZero()
			return nil
		}
		to.Set(reflect.New(f.goType))
		to = to.Elem()
	} else if v.IsNull() {
		return fmt.Errorf("it is NULL, which a %v cannot hold", f.goType)
	}
	k := f.goType.Kind()
	switch {
	case f.goType == valueType:
		*to.Addr().Interface().(*dfs.Value) = v
	case f.goType == timeType:
		t := v.Time()
		if y, mo, d, _, _, _, _ := v.Clock(); t.IsZero() && (y != 0 || mo != 0 || d != 0) {
			return fmt.Errorf("%v is no time; use dfs.Value", v)
		}
		*to.Addr().Interface().(*time.Time) = t
	case f.goType == durationType:
		to.SetInt(int64(v.Duration()))
	case f.goType == bytesType:
		to.SetBytes(v.Bytes())
	case k == reflect.String:
		if len(f.def.Members) > 0 && v.Kind() == dfs.Uint64 {
			to.SetString(convert.Member(v.Uint(), f.def.Members, strings.HasPrefix(f.def.Type, "set")))
		} else {
			to.SetString(v.String())
		}
	case k == reflect.Bool:
		to.SetBool(v.Uint() != 0)
	case isInt(k):
		if v.Kind() == dfs.Uint64 && v.Int() < 0 || to.OverflowInt(v.Int()) {
			return fmt.Errorf("%v does not fit a %v", v, f.goType)
		}
		to.SetInt(v.Int())
	case isUint(k):
		if v.Kind() == dfs.Int64 && v.Int() < 0 || to.OverflowUint(v.Uint()) {
			return fmt.Errorf("%v does not fit a %v", v, f.goType)
		}
		to.SetUint(v.Uint())
	case k == reflect.Float32, k == reflect.Float64:
		to.SetFloat(v.Float())
	}
	return nil
}

// get returns the value of a field for its column.
func (f *field) get(from reflect.Value) (dfs.Value, error) {
	if from.Kind() == reflect.Pointer {
		if from.IsNil() {
			return dfs.NullValue(), nil
		}
		from = from.Elem()
	}
	var v dfs.Value
	k := f.goType.Kind()
	switch {
	case f.goType == valueType:
		v = from.Interface().(dfs.Value)
	case f.goType == timeType:
		v, _ = convert.Of(from.Interface())
	case f.goType == durationType:
		v = dfs.TimeValue(time.Duration(from.Int()), 6)
	case f.goType == bytesType:
		v = dfs.BytesValue(append([]byte(nil), from.Bytes()...))
		switch convert.KindOf(&f.def) {
		case dfs.String, dfs.JSON:
			v = dfs.StringValue(v.Text())
		}
	case k == reflect.String:
		v = dfs.StringValue(from.String())
	case k == reflect.Bool:
		v = dfs.IntValue(0)
		if from.Bool() {
			v = dfs.IntValue(1)
		}
	case isInt(k):
		v = dfs.IntValue(from.Int())
	case isUint(k):
		v = dfs.UintValue(from.Uint())
	case k == reflect.Float32:
		v = dfs.Float32Value(float32(from.Float()))
	case k == reflect.Float64:
		if math.IsNaN(from.Float()) || math.IsInf(from.Float(), 0) {
			return v, fmt.Errorf("%v is no number of a column", from.Float())
		}
		v = dfs.FloatValue(from.Float())
	default:
		return v, fmt.Errorf("a %v is no value of a column", f.goType)
	}
	return convert.To(v, &f.def)
}

// goColumnType returns the type of column that holds a Go type, or "".
func goColumnType(t reflect.Type) string {
	switch t {
	case timeType:
		return "datetime(6)"
	case durationType:
		return "time(6)"
	case bytesType:
		return "longblob"
	}
	switch k := t.Kind(); {
	case k == reflect.Bool:
		return "tinyint(1)"
	case k == reflect.String:
		return "longtext"
	case k == reflect.Float32:
		return "float"
	case k == reflect.Float64:
		return "double"
	case isInt(k):
		return map[int]string{8: "tinyint", 16: "smallint", 32: "int", 64: "bigint"}[t.Bits()]
	case isUint(k):
		return map[int]string{8: "tinyint", 16: "smallint", 32: "int", 64: "bigint"}[t.Bits()] + " unsigned"
	}
	return ""
}

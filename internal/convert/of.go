package convert

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"time"

	"github.com/dataflowsync/dfs"
)

// Of makes a Value of a Go value.
func Of(x any) (dfs.Value, error) {
	switch x := x.(type) {
	case nil:
		return dfs.NullValue(), nil
	case dfs.Value:
		return x, nil
	case bool:
		if x {
			return dfs.IntValue(1), nil
		}
		return dfs.IntValue(0), nil
	case int:
		return dfs.IntValue(int64(x)), nil
	case int64:
		return dfs.IntValue(x), nil
	case int32:
		return dfs.IntValue(int64(x)), nil
	case uint64:
		return dfs.UintValue(x), nil
	case uint:
		return dfs.UintValue(uint64(x)), nil
	case uint32:
		return dfs.UintValue(uint64(x)), nil
	case float32:
		return dfs.Float32Value(x), nil
	case float64:
		if math.IsInf(x, 0) || math.IsNaN(x) {
			return dfs.Value{}, fmt.Errorf("%v is no number of a column", x)
		}
		return dfs.FloatValue(x), nil
	case string:
		return dfs.StringValue(x), nil
	case []byte:
		return dfs.BytesValue(slices.Clone(x)), nil
	case Decimal:
		return dfs.DecimalValue(x.String()), nil
	case time.Duration:
		return dfs.TimeValue(x, 6), nil
	case time.Time:
		if x.IsZero() {
			return dfs.DateTimeValue(0, 0, 0, 0, 0, 0, 0, 6), nil
		}
		u := x.UTC()
		return dfs.DateTimeValue(u.Year(), int(u.Month()), u.Day(), u.Hour(), u.Minute(), u.Second(), u.Nanosecond()/1000, 6), nil
	}
	if k := reflect.TypeOf(x).Kind(); k == reflect.Slice || k == reflect.Map {
		b, err := json.Marshal(x)
		return dfs.JSONValue(string(b)), err
	}
	return dfs.Value{}, fmt.Errorf("a %T is no value of a column", x)
}

package values_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/verify"
)

// verifyOther verifies the tables of TestEachTypeArrivesOnOtherDatabases, beside the
// pipeline: all are equal, whatever the type, also as a key and without one. Then one
// value of each type gets another one's place on the target, and each is found. That is
// mended, and so are rows of each table that are deleted.
func verifyOther(t *testing.T, src *testenv.Server, target otherTarget, schema, prefix string, list []typed) {
	rows := target.rows(schema)
	defer rows.Close()
	v := &verify.Verifier{Source: src.DSN(""), TargetRows: rows, Tables: []string{schema + ".*"}, Patience: time.Minute, LockTime: time.Minute}
	r, err := v.Run(t.Context())
	require.NoError(t, err)
	for i := range r.Tables {
		if r.Tables[i].Verdict != verify.Equal {
			t.Errorf("%s", r.Tables[i].String())
		}
	}
	planted := make(map[string]string)
	for i, c := range list {
		name := fmt.Sprintf("%sr%d", prefix, i)
		same := target.query(schema, "SELECT COUNT(*) FROM "+name+" WHERE id=0 AND "+target.col(classOf(c.typ))+"=(SELECT "+target.col(classOf(c.typ))+" FROM "+name+" WHERE id=1)")
		if same[0][0] == "1" || len(c.values) < 2 {
			continue
		}
		target.query(schema, "UPDATE "+name+" SET c=(SELECT c FROM "+name+" WHERE id=1) WHERE id=0")
		planted[schema+"."+name] = c.typ
	}
	require.Greater(t, len(planted), 60)
	r, err = v.Run(t.Context())
	require.NoError(t, err)
	for _, x := range r.Tables {
		if typ, ok := planted[x.Source]; ok && x.Different != 1 || !ok && x.Verdict != verify.Equal {
			t.Errorf("a column of type %s was changed:\n%s", typ, x.String())
		}
	}
	t.Logf("%d tables verified, %d changed values found", len(r.Tables), len(planted))

	v.Repair = true
	mend := func(what string, want func(x *verify.TableReport) bool) (mended int) {
		r, err := v.Run(t.Context())
		require.NoError(t, err)
		for i := range r.Tables {
			x := &r.Tables[i]
			mended += x.Repaired
			if x.Repaired != len(x.Findings) || len(x.Untold) > 0 || !want(x) {
				t.Errorf("%s:\n%s", what, x)
			}
		}
		return mended
	}
	for i := range r.Tables {
		_, name, _ := strings.Cut(r.Tables[i].Source, ".")
		if strings.HasPrefix(name, prefix) {
			target.query(schema, "DELETE FROM "+name+" WHERE id%5=1")
		}
	}
	n := mend("rows are brought back", func(x *verify.TableReport) bool { return planted[x.Source] == "" || x.Different == 1 })
	require.Greater(t, n, 200)
	require.Zero(t, mend("all is equal", func(x *verify.TableReport) bool { return x.Verdict == verify.Equal }))
	t.Logf("%d rows brought back", n)
}

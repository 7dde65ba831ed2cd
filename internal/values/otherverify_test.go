package values_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/verify"
)

// verifyOther verifies the tables of TestEachTypeArrivesOnOtherDatabases, beside the
// pipeline: all are equal, whatever the type, also as a key and without one. Then one
// value of each type gets another one's place on the target, and each is found.
func verifyOther(t *testing.T, src *testenv.Server, target otherTarget, schema, prefix string, list []typed) {
	rows := target.rows(schema)
	defer rows.Close()
	v := &verify.Verifier{Source: src.DSN(""), TargetRows: rows, Tables: []string{schema + ".*"}, Patience: time.Minute, LockTime: 5 * time.Second}
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
}

package cdc

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
)

// feedFailed hands on a statement of schema s that ended with an error.
func feedFailed(a *assembler, code uint16, text string) error {
	body := []byte(queryBody("s", text))
	body[9], body[10] = byte(code), byte(code>>8)
	return feed(a, evQuery, 0, string(body))
}

// A statement that has done only a part of what it says would do more on a target,
// where nothing keeps it from the rest.
func TestStatementsThatFailedHalfwayAreRefused(t *testing.T) {
	for _, c := range []struct {
		code    uint16
		text    string
		refused bool
	}{
		{1217, "DROP TABLE `x`,`p`", true},
		{1051, "DROP TABLE x, missing", false},
		{1051, "DROP VIEW v, missing", false},
		{1051, "RENAME TABLE x TO y, missing TO z", true},
		{1317, "ALTER TABLE x ADD b int", true},
		{1217, "DROP TABLE other.x, other.p", false},
	} {
		a, out := newAssembler("s.*")
		err := feedFailed(a, c.code, c.text)
		if !c.refused {
			require.NoError(t, err, c.text)
			continue
		}
		var bad *EventError
		require.ErrorAs(t, err, &bad, c.text)
		require.Contains(t, bad.What, c.text)
		require.NotEmpty(t, bad.After)
		require.Empty(t, *out)
	}
}

func TestTablesOfADropThatFailedAreForgotten(t *testing.T) {
	a := evolver()
	require.Error(t, feedFailed(a, 1217, "DROP TABLE t, p"))
	_, known := a.catalog.tables.Table("s", "t")
	require.False(t, known, "it may be there yet")

	a = evolver()
	require.NoError(t, feedFailed(a, 1051, "DROP TABLE t, missing"))
	got, known := a.catalog.tables.Table("s", "t")
	require.True(t, known)
	require.Nil(t, got)
}

// The rows of a CREATE TABLE ... SELECT are in the log only if the source logs
// rows, and then its text has no query.
func TestCreateTableSelectAsAStatementIsRefused(t *testing.T) {
	a, _ := newAssembler("s.*")
	var bad *EventError
	require.ErrorAs(t, feed(a, evQuery, 0, queryBody("s", "CREATE TABLE c SELECT * FROM a")), &bad)
	require.Contains(t, bad.Cure, "binlog_format=ROW")
	require.NotEmpty(t, bad.After)

	a, out := newAssembler("s.*")
	require.NoError(t, feed(a, evQuery, 0, queryBody("s", "CREATE TABLE other.c SELECT * FROM a")))
	require.NoError(t, feed(a, evQuery, 0, queryBody("s", "CREATE TEMPORARY TABLE c SELECT * FROM a")))
	require.Empty(t, *out)
}

// sessionVars are status variables of MariaDB from 11.5, in their order.
func sessionVars(between ...byte) []byte {
	v := []byte{varFlags2, 0, 0, 0, 0, varSQLMode, 4, 0, 0, 0, 0, 0, 0, 0, varCatalog, 3, 's', 't', 'd'}
	v = append(v, between...)
	v = append(v, varCharset, 8, 0, 8, 0, 8, 0, varTimeZone, 6)
	return append(v, "+05:00"...)
}

// feedVars hands on a statement of schema s with status variables.
func feedVars(a *assembler, vars []byte, text string) error {
	body := []byte(queryBody("s", ""))
	binary.LittleEndian.PutUint16(body[11:], uint16(len(vars)))
	return feed(a, evQuery, 0, string(body[:13])+string(vars)+"s\x00"+text)
}

func TestSessionOfNewerMariaDB(t *testing.T) {
	e := make(event, headerLen)
	for name, between := range map[string][]byte{
		"none":       nil,
		"collations": {varMariaCollations, 2, 224, 0, 0, 8, 33, 0, 0, 8},
		"an ALTER":   {varMariaGTIDFlags, mariaAlterDone, 1, 2, 3, 4, 5, 6, 7, 8},
		"a flag":     {varMariaGTIDFlags, 1},
	} {
		q := query{vars: sessionVars(between...)}
		vars := q.session(e, true).Vars
		require.Contains(t, vars, dfs.Var{Name: "character_set_client", Value: "latin1"}, name)
		require.Contains(t, vars, dfs.Var{Name: "time_zone", Value: "'+05:00'"}, name)
		require.Empty(t, q.unread, name)
	}
}

// What stands behind a variable that is not known may change what a statement
// means, down to which bytes of its text are quotes.
func TestStatementsWithUnknownVariablesAreRefused(t *testing.T) {
	for _, vars := range [][]byte{sessionVars(200, 1, 2), sessionVars()[:20]} {
		a := evolver()
		a.src.maria = true
		var bad *EventError
		require.ErrorAs(t, feedVars(a, vars, "ALTER TABLE t ADD b timestamp"), &bad)
		require.Contains(t, bad.What, "what it means is not known")
		require.NotEmpty(t, bad.After)
		_, known := a.catalog.tables.Table("s", "t")
		require.False(t, known)
	}
	a, out := newAssembler("s.*")
	require.NoError(t, feedVars(a, sessionVars(), "ALTER TABLE t ADD b timestamp"))
	require.Len(t, *out, 1)
}

func TestAlterInTwoPhasesIsHandedOnWhenItIsDone(t *testing.T) {
	for phase, n := range map[byte]int{mariaAlterBegins: 0, mariaAlterDone: 1, mariaAlterRolledBack: 0} {
		between := []byte{varMariaGTIDFlags, phase}
		if phase != mariaAlterBegins {
			between = append(between, 1, 0, 0, 0, 0, 0, 0, 0)
		}
		a, out := newAssembler("s.*")
		a.src.maria = true
		require.NoError(t, feedVars(a, sessionVars(between...), "ALTER TABLE t ADD b timestamp"))
		require.Len(t, *out, n)
	}
}

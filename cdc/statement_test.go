package cdc

import (
	"testing"

	"github.com/stretchr/testify/require"
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

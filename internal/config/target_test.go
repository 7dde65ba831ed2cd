package config

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// What is meant as a server is not taken for the name of a file.
func TestAServerIsNoFile(t *testing.T) {
	const source = "source: {host: db, user: dfs}\nqueue: {path: q}\n"
	for _, word := range []string{"localhost:3306", "db.internal:5432", "host=db user=dfs password=s3cret", "mysql://db/shop", "postgres:/db/shop", "'[::1]:3306'"} {
		_, err := parse(source + "target: " + word + "\n")
		require.ErrorContains(t, err, ":3: target is neither postgres://", word)
		require.ErrorContains(t, err, "looks like a server", word)
		require.NotContains(t, err.Error(), "s3cret")
	}
	for _, word := range []string{"shop.db", "/var/lib/shop", `C:\shop.db`, "a:b.db", "postgres.db"} {
		c, err := parse(source + "target: " + word + "\n")
		require.NoError(t, err, word)
		require.Equal(t, SQLiteTarget, c.Target.Kind(), word)
	}
}

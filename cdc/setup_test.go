package cdc_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
)

// faults opens a Source that is not ready, and returns why.
func faults(t *testing.T, dsn string, o *cdc.Options) []cdc.Fault {
	t.Helper()
	src, err := cdc.Open(limit(t), dsn, o)
	if err == nil {
		src.Close()
	}
	var setup *cdc.SetupError
	require.ErrorAs(t, err, &setup)
	for _, f := range setup.Faults {
		require.Contains(t, err.Error(), f.What)
		require.Contains(t, err.Error(), f.Cure)
	}
	return setup.Faults
}

func TestOpenTellsAllFaultsAtOnce(t *testing.T) {
	srv := testenv.Start(t, testenv.MySQL97)
	srv.Exec(t, "SET GLOBAL binlog_format='STATEMENT'",
		"CREATE DATABASE shop", "CREATE TABLE shop.orders (id int PRIMARY KEY)",
		"CREATE USER 'poor'@'%' IDENTIFIED BY 'geheim'", "GRANT SELECT ON shop.* TO 'poor'@'%'")
	dsn := strings.Replace(srv.DSN(""), "root@", "poor:geheim@", 1)
	list := faults(t, dsn, &cdc.Options{
		Tables: []string{"shop.order", "nodot", "shop.*", "nowhere.x*"}, Start: "yesterday", MaxPart: -1,
	})
	want := []string{
		"MaxPart and Buffer must not be negative",
		`start "yesterday"`,
		`the table pattern "nodot" names no table`,
		"binlog_format is STATEMENT",
		"the account may not read the log",
		`the table pattern "shop.order" matches no table`,
		`the table pattern "nowhere.x*" matches no table`,
	}
	require.Len(t, list, len(want))
	for i, w := range want {
		require.Contains(t, list[i].What, w)
	}
	require.Equal(t, "GRANT REPLICATION SLAVE ON *.* TO 'poor'@'%'", list[4].Cure)
	require.Contains(t, list[5].Cure, "did you mean shop.orders?")
	for _, f := range list {
		require.NotContains(t, f.What+f.Cure, "geheim")
	}
}

// What MariaDB logs of a REPLACE is only told apart by its text.
func TestOpenWantsTextsWhereMariaDBLeavesColumnsOut(t *testing.T) {
	srv := testenv.Start(t, testenv.MariaDB, "--binlog-row-image=NOBLOB", "--binlog-annotate-row-events=OFF")
	list := faults(t, srv.DSN(""), nil)
	require.Len(t, list, 1)
	require.Contains(t, list[0].What, "binlog_row_image is NOBLOB")
}

func TestOpenNamesTheMissingGrant(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			args := []string{}
			if kind != testenv.MariaDB {
				args = append(args, "--gtid-mode=OFF", "--enforce-gtid-consistency=OFF")
			}
			srv := testenv.Start(t, kind, args...)
			srv.Exec(t, "CREATE USER 'poor'@'%' IDENTIFIED BY 'geheim'")
			dsn := strings.Replace(srv.DSN(""), "root@", "poor:geheim@", 1)
			var cures []string
			for _, f := range faults(t, dsn, nil) {
				cures = append(cures, f.Cure)
			}
			client := "REPLICATION CLIENT"
			if kind == testenv.MariaDB {
				client = "BINLOG MONITOR"
			}
			require.Equal(t, []string{
				"GRANT " + client + " ON *.* TO 'poor'@'%'",
				"GRANT REPLICATION SLAVE ON *.* TO 'poor'@'%'",
			}, cures)
			// The cures cure.
			srv.Exec(t, cures...)
			src := open(t, dsn, nil)
			begin(t, src)
		})
	}
}

func TestOpenWithoutALog(t *testing.T) {
	for _, kind := range []testenv.Kind{testenv.MySQL97, testenv.MariaDB} {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Start(t, kind, "--skip-log-bin", "--server-id=0")
			list := faults(t, srv.DSN(""), nil)
			require.Contains(t, list[0].What, "no binary log")
		})
	}
}

func TestOpenWithTheServersID(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	var id uint32
	require.NoError(t, srv.DB(t).QueryRow("SELECT @@server_id").Scan(&id))
	list := faults(t, srv.DSN(""), &cdc.Options{ServerID: id})
	require.Contains(t, list[0].What, "the server's own")
}

func TestOpenUnreachable(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	for name, dsn := range map[string]string{
		"wrong password": strings.Replace(srv.DSN(""), "root@", "root:geheim@", 1),
		"wrong user":     strings.Replace(srv.DSN(""), "root@", "nobody:geheim@", 1),
		"no server":      "root:geheim@tcp(" + closedPort(t) + ")/",
		"no DSN":         "root:geheim@@@",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := cdc.Open(limit(t), dsn, nil)
			require.Error(t, err)
			require.NotContains(t, err.Error(), "geheim")
			require.NotErrorIs(t, err, dfs.ErrTransient)
			require.NotContains(t, err.Error(), "\n")
		})
	}
}

// closedPort returns an address at which nothing listens.
func closedPort(t *testing.T) string {
	address, err := testenv.FreeAddr()
	require.NoError(t, err)
	return address
}

func TestServerThatIsGoneIsTransientAfterOpen(t *testing.T) {
	srv := testenv.Start(t, testenv.MySQL97)
	src := open(t, srv.DSN(""), nil)
	st, pos := begin(t, src)
	require.NoError(t, srv.Kill())
	require.ErrorIs(t, ended(t, st), dfs.ErrTransient)
	_, err := src.Open(limit(t), dfs.Checkpoint{Pos: pos})
	require.ErrorIs(t, err, dfs.ErrTransient)
	require.NoError(t, srv.Restart(limit(t)))
	srv.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.a (id int)")
	st = stream(t, src, pos)
	require.Equal(t, []string{"CREATE DATABASE shop", "CREATE TABLE shop.a (id int)"}, says(readN(t, src, st, 2)))
}

func TestOpenOfAnEndedContext(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	src := open(t, srv.DSN(""), nil)
	ctx, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel()
	_, err := src.Open(ctx, dfs.Checkpoint{})
	require.True(t, errors.Is(err, context.DeadlineExceeded), err)
	_, err = cdc.Open(ctx, srv.DSN(""), nil)
	require.Error(t, err)
}

func TestTLS(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	srv.Exec(t, "CREATE USER IF NOT EXISTS 'safe'@'%' IDENTIFIED WITH caching_sha2_password BY 'geheim' REQUIRE SSL",
		"GRANT REPLICATION SLAVE ON *.* TO 'safe'@'%'")
	dsn := strings.Replace(srv.DSN(""), "root@", "safe:geheim@", 1)
	sep := "?"
	if strings.Contains(dsn, "?") {
		sep = "&"
	}
	for _, mode := range []string{"skip-verify", "preferred"} {
		src := open(t, dsn+sep+"tls="+mode, nil)
		begin(t, src)
	}
	_, err := cdc.Open(limit(t), dsn, nil)
	require.Error(t, err)
	_, err = cdc.Open(limit(t), dsn+sep+"tls=true", nil)
	require.ErrorContains(t, err, "certificate")
}

func TestTablesAreThoseFollowed(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			schema := srv.Schema(t)
			srv.Exec(t,
				"CREATE TABLE "+schema+".a (id bigint unsigned, s varchar(20) CHARACTER SET latin1 NOT NULL, e enum('x','y'), PRIMARY KEY (s, id))",
				"CREATE TABLE "+schema+".b (id int)",
				"CREATE VIEW "+schema+".v AS SELECT 1")
			src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".?", "!*.b"}})
			list, err := src.Tables(t.Context())
			require.NoError(t, err)
			require.Equal(t, []*dfs.Table{{
				Schema: schema, Name: "a", Key: []int{1, 0},
				Columns: []dfs.Column{
					{Name: "id", Type: "bigint unsigned"},
					{Name: "s", Type: "varchar(20)", Charset: "latin1", Collation: "latin1_swedish_ci"},
					{Name: "e", Type: "enum", Members: []string{"x", "y"}, Nullable: true},
				},
			}}, list)
		})
	}
}

func TestPatternsThatLeaveNothing(t *testing.T) {
	srv := testenv.Start(t, testenv.MySQL97)
	srv.Exec(t, "CREATE DATABASE cs", "CREATE TABLE cs.T (id int)", "CREATE TABLE cs.t (id int)")
	list := faults(t, srv.DSN(""), &cdc.Options{Tables: []string{"!cs.T"}})
	require.Len(t, list, 1)
	require.Contains(t, list[0].What, `the table patterns "!cs.T" leave no table to follow`)
	require.Contains(t, list[0].Cure, "leave out cs.T, cs.t (letter case")

	var log strings.Builder
	srv.Exec(t, "CREATE TABLE cs.u (id int)", "CREATE DATABASE later")
	open(t, srv.DSN(""), &cdc.Options{Tables: []string{"!cs.T"}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	require.Contains(t, log.String(), `pattern=!cs.T tables="cs.T cs.t"`)
	list = faults(t, srv.DSN(""), &cdc.Options{Tables: []string{"cs.u", "!c?.*"}})
	require.Len(t, list, 1)
	require.Contains(t, list[0].What, `the table patterns "cs.u", "!c?.*" leave`)

	// A schema may wait for its tables.
	open(t, srv.DSN(""), &cdc.Options{Tables: []string{"later.*", "!*.log"}})
}

package cdc_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
)

const wgs = `GEOGCS["x",DATUM["d",SPHEROID["s",6378137,298.257]],PRIMEM["Greenwich",0],` +
	`UNIT["degree",0.017453292519943278],AXIS["Lat",NORTH],AXIS["Lon",EAST]]`

func TestWhatIsNoTableDoesNotMatter(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Start(t, kind)
			srv.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.a (id int PRIMARY KEY)")
			src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{"shop.*"}})
			st, _ := begin(t, src)
			stmts := []string{
				"CREATE PROCEDURE shop.p() BEGIN TRUNCATE shop.a; END",
				"DROP PROCEDURE shop.p",
				"CREATE FUNCTION shop.f() RETURNS int DETERMINISTIC RETURN 1",
				"DROP FUNCTION shop.f",
				"CREATE TRIGGER shop.t BEFORE INSERT ON shop.a FOR EACH ROW SET @x = 1",
				"DROP TRIGGER shop.t",
				"CREATE EVENT shop.e ON SCHEDULE EVERY 1 YEAR DO DO 1",
				"DROP EVENT shop.e",
				"CREATE SERVER s FOREIGN DATA WRAPPER mysql OPTIONS (HOST 'h')",
				"DROP SERVER s",
				"CREATE USER u@localhost",
				"DROP USER u@localhost",
				"CREATE DATABASE shop2",
			}
			if kind == testenv.MySQL97 {
				stmts = append(stmts, "CREATE ROLE r", "DROP ROLE r",
					"CREATE TABLESPACE space ADD DATAFILE 'space.ibd'", "DROP TABLESPACE space",
					"CREATE OR REPLACE SPATIAL REFERENCE SYSTEM 990001 NAME 'x' DEFINITION '"+wgs+"'", "DROP SPATIAL REFERENCE SYSTEM 990001")
			}
			srv.Exec(t, stmts...)
			srv.Exec(t, "INSERT INTO shop.a VALUES (1)")
			require.Equal(t, "insert a 1", said(readN(t, src, st, 1)[0]))
			// A sink may want these, by its policies.
			wanted := []string{
				"CREATE VIEW shop.v AS SELECT * FROM shop.a", "ALTER VIEW shop.v AS SELECT 1 AS one", "DROP VIEW shop.v",
				"ALTER DATABASE shop CHARACTER SET utf8mb4",
			}
			srv.Exec(t, wanted...)
			for i, tx := range readN(t, src, st, len(wanted)) {
				// The servers write DEFINER and the like in front of VIEW.
				_, end, _ := strings.Cut(wanted[i], "shop")
				require.Contains(t, strings.ReplaceAll(said(tx), "`", ""), "shop"+end)
			}
			srv.Exec(t, "DROP DATABASE shop2", "DROP TABLE IF EXISTS shop.gone", "DROP DATABASE shop")
			txs := readN(t, src, st, 2)
			require.Contains(t, said(txs[0]), "gone")
			require.Equal(t, "DROP DATABASE shop", said(txs[1]))
			// MariaDB does not log what is about a SERVER.
			require.GreaterOrEqual(t, src.Stats().StatementsFiltered, uint64(len(stmts)-2))
		})
	}
}

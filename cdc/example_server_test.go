package cdc_test

import (
	"database/sql"
	"log"
	"os"
	"path/filepath"

	"github.com/dataflowsync/dfs/internal/testenv"
)

// exampleDir returns a new folder for a server of an example.
func exampleDir() string {
	base, err := os.MkdirTemp("", "dfs-example-")
	if err != nil {
		log.Fatal(err)
	}
	return filepath.Join(base, "data")
}

func exampleDB(dsn string) *sql.DB {
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		log.Fatal(err)
	}
	return db
}

// discard ends a server of an example, and removes its folder.
func discard(srv *testenv.Server) {
	if err := srv.Kill(); err != nil {
		log.Print(err)
	}
	if err := os.RemoveAll(filepath.Dir(srv.Dir())); err != nil {
		log.Print(err)
	}
}

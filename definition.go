package dfs

// A Definition is how a table is made on a source: what package cdc reads there, and what
// a sink makes of it in CreateTables and an archive keeps.
type Definition struct {
	Table *Table // by its name and columns on the source, before routes

	// SQL is what SHOW CREATE TABLE says of it on the source, in UTF-8 and with the
	// schema left out. If it is empty, only the columns and the primary key of Table are
	// known.
	SQL     string
	MariaDB bool   // SQL is in the dialect of MariaDB, not in MySQL's
	Bytes   uint64 // about how large its rows are, as the server guesses; 0 if that is not known
}

// A ForeignKey is one that a source declares on a table that it follows.
type ForeignKey struct {
	Name                 string
	Schema, Table        string   // whose rows refer to others, and may be changed with them
	Columns              []string // of Table
	ParentSchema, Parent string   // the table that they refer to
	ParentColumns        []string // of Parent, in the order of Columns
	OnDelete, OnUpdate   string   // "CASCADE", "SET NULL", "RESTRICT" and so on
	ParentFollowed       bool     // the source follows Parent too
}

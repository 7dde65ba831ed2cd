package ddl

import (
	"fmt"
	"iter"
	"slices"
	"strings"
)

// A Mode says how to read the text of a statement. The zero Mode is a server's
// default.
type Mode struct {
	ANSIQuotes         bool // sql_mode ANSI_QUOTES: "a" is a name and no string
	NoBackslashEscapes bool // sql_mode NO_BACKSLASH_ESCAPES

	// Charset is the session's character_set_client, in which the text is. Empty
	// means UTF-8. Names that are not ASCII are understood in UTF-8 and latin1;
	// with others of them a statement is not Settled.
	Charset string

	MariaDB bool // the server is MariaDB, not MySQL

	// Version is the server's, such as 80026 or 101114: it runs the content of
	// comments like /*!80016 ... */ of that version and before. For 0 it is
	// not known, and all such content is taken for code.
	Version int
}

// A Kind is what a statement does.
type Kind uint8

const (
	Unknown Kind = iota // nothing is known of it: it may alter any table

	CreateTable // also CREATE TABLE ... LIKE and ... SELECT
	AlterTable
	DropTable
	RenameTable
	TruncateTable
	CreateIndex
	DropIndex
	CreateView
	AlterView
	DropView
	CreateSchema
	AlterSchema
	DropSchema
	Sequence // MariaDB: CREATE, ALTER and DROP SEQUENCE
	Trigger
	Routine // a procedure, function, package or library
	Event
	Account // users, roles, grants, passwords
	Storage // tablespaces, log file groups, servers, resource groups, spatial reference systems

	Begin // a transaction of several events begins
	Commit
	Rollback
	RollbackTo // a part of a transaction is undone
	Savepoint
	XAStart
	XAEnd // no more events of an XA transaction follow
	XAPrepare
	XACommit
	XARollback
	DML     // it may change rows
	Nothing // it changes neither rows nor what a table is
)

var kindNames = [...]string{"unknown statement",
	"create table", "alter table", "drop table", "rename table", "truncate table", "create index", "drop index",
	"create view", "alter view", "drop view", "create schema", "alter schema", "drop schema", "sequence", "trigger",
	"routine", "event", "account", "storage",
	"begin", "commit", "rollback", "rollback to savepoint", "savepoint", "xa start", "xa end", "xa prepare",
	"xa commit", "xa rollback", "dml", "nothing"}

// String returns the kind in words, such as "alter table".
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// A Table is the name of a table or view, or with an empty Name all tables of
// the schema. The names are as the statement writes them, or the default schema's
// if it writes none. Whether letter case counts is up to the server.
type Table struct{ Schema, Name string }

// String returns "schema.name".
func (t Table) String() string { return t.Schema + "." + t.Name }

// A Role says what a statement does to what it names.
type Role uint8

const (
	Target    Role = iota // is created, altered, dropped or truncated
	NewName               // what a table is called from now on
	Source                // is read: LIKE, SELECT, the default of a column
	Parent                // is referenced by a foreign key
	Schema                // a schema; Name is empty
	Qualifier             // schema.table in front of a column, where table may be an alias
	Function              // schema.name of a stored function that is called
)

// A Ref is a place in the text of a statement that names a table or a schema.
type Ref struct {
	Table    Table
	From, To int // the bytes of "schema.name" or "name" in Text; empty where it might stand, if it is left out
	Role     Role

	qualified bool   // the text has a schema
	alias     string // of a table in a FROM clause: what columns know it by
	aliasAt   int    // where an alias can be written if it has none
	vague     bool   // whether it has one is not known
}

// A Statement is what can be told of a statement in a log.
type Statement struct {
	Kind Kind

	// Text is the statement, without what belongs to the log or to the server
	// that ran it: START TRANSACTION behind a CREATE TABLE ... SELECT, as MySQL
	// writes it, and SET STATEMENT ... FOR in front, as MariaDB has it. Its bytes
	// are in the character set of the client that sent it.
	Text string

	// Tables are the tables and views that it creates, alters or drops, old and
	// new names of renames both, and tables whose rows it removes. A statement
	// about a schema has it with an empty name.
	Tables []Table

	// Settled says that Tables is complete.
	Settled bool

	// Refs are the places in Text that name tables and schemas, in their order.
	// Triggers, routines and events, accounts, storage and statements that change
	// rows have none; see Rewrite.
	Refs []Ref

	XID string // of an XA statement, as written: "X'61',X'',1"

	// Temporary says that a CREATE or DROP TABLE is about tables of one session
	// alone. Their rows are in no log.
	Temporary bool
	OrReplace bool

	// Selects says that a CREATE TABLE fills its table from a query, and so adds
	// rows, and columns that it does not list.
	Selects bool

	IfExists    bool
	IfNotExists bool

	mode    Mode
	body    int         // where in Text the definition begins, behind the name; for DROP INDEX at the index's
	open    bool        // a comment that is code is open there
	like    bool        // CREATE TABLE ... LIKE
	drops   []qualified // qualifiers of columns in the definition of a table
	obscure bool        // a name is in a character set that is not understood
	fault   string      // why it cannot be rewritten, or empty
}

type span struct{ from, to int }

// A qualified column has the names of a schema and a table in front.
type qualified struct {
	span   // of these names, with their dots
	column token
}

// clone returns a copy that shares no memory with s but what is never changed.
func (s *Statement) clone() *Statement {
	n := *s
	n.Text = strings.Clone(s.Text)
	n.Tables, n.Refs = slices.Clone(s.Tables), slices.Clone(s.Refs)
	own := func(t *Table) { t.Schema, t.Name = strings.Clone(t.Schema), strings.Clone(t.Name) }
	for i := range n.Tables {
		own(&n.Tables[i])
	}
	for i := range n.Refs {
		own(&n.Refs[i].Table)
	}
	return &n
}

// Pairs returns each pair of names in the text with a dot between them. What
// names a table outside the default schema is among them, for a statement that is
// not Settled.
func (s *Statement) Pairs() iter.Seq[Table] {
	return func(yield func(Table) bool) {
		l := lexer{s: s.Text, mode: &s.mode}
		var t [3]token
		for t[2] = l.next(); t[2].kind != tokEnd; t[0], t[1], t[2] = t[1], t[2], l.next() {
			if t[1].kind == tokPunct && t[1].punct('.') && t[0].named() && t[2].named() &&
				!yield(Table{t[0].text, t[2].text}) {
				return
			}
		}
	}
}

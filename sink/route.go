package sink

// A Route sends tables of the source to tables of the target.
type Route struct {
	// From names tables of the source as "schema.table". On each side of the dot
	// * stands for any text, also none, and ? for one character, and letter case
	// does not matter: as in the Tables of package cdc's Options, but for the !.
	From string

	// To names the target's table. A * for the schema or for the table keeps
	// the source's: "crm.*" moves tables to another schema.
	To string
}

// A Policy says what to do where the target cannot take a change as it is, or
// with a statement that alters tables.
type Policy string

const (
	// PolicyError stops. It is the default.
	PolicyError Policy = "error"

	// PolicyOverwrite makes the row what the source has: an insert of a row
	// that is there updates it, an update of a row that is missing inserts it,
	// a delete of a row that is missing is done. Other rows that hold one of
	// its unique values are deleted, where the whole of the columns is unique
	// and the source has them all. A row that is in the way by a unique key over
	// the first characters of a column, over an expression or over a column that
	// the source lacks, stays, and the change is a ConflictError. It is for rows
	// only.
	PolicyOverwrite Policy = "overwrite"

	// PolicyIgnore leaves the target as it is, and goes on.
	PolicyIgnore Policy = "ignore"
)

// A ConflictRule sets the policy for conflicts of some tables.
type ConflictRule struct {
	Tables string // tables of the target, as in Route.From
	Policy Policy
}

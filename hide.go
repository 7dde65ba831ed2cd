package dfs

// A Hider is a Stage that keeps values from the target. Whoever writes rows down
// on their way, such as a log, leaves these out of what comes before the stage.
type Hider interface {
	// Hides returns the columns of a table, as it comes to the stage, whose values
	// do not pass as they are: because they are masked, or left out. It is safe at
	// any time.
	Hides(t *Table) []string
}

// Package stream writes transactions as messages of JSON: to files, to standard
// output, and for other sinks, which send them elsewhere.
//
// There are two formats. [JSON] is this package's own: each change is an object
// that says what it is, with the numbers of its transaction, and the transaction
// itself begins and ends with an object. [Debezium] is the envelope of Debezium's
// connector for MySQL, for programs that read that already.
//
// [File] keeps the guarantee of package dfs: each transaction once, whole, in
// order. [Writer] does not, and says so.
package stream

// The guarantees that sinks of messages state in their Stats.
const (
	ExactlyOnce = "exactly once"
	AtLeastOnce = "at least once"
)

// Package logs tests, from a source's log to a target, what servers log under
// settings other than the usual ones.
package logs

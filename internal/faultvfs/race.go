//go:build race

package faultvfs

// slower is how many fewer things a sample has under the race detector, which makes
// SQLite many times slower.
const slower = 10

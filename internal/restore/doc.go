// Package restore has the test that an archive restores what its source was after
// any transaction: rows, and tables that were altered, truncated, dropped and made
// anew on the way. "make archive" restores to many places, and kills often.
package restore

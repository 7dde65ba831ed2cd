// Package sink applies transactions to MySQL and MariaDB.
//
// [OpenMySQL] gives a [MySQL], which is a [dfs.Sink]. It applies each
// transaction whole, in order and exactly once: in the transaction that writes
// the rows it moves, by compare-and-set, a row of the table dfs_checkpoint. So
// rows and checkpoint cannot part, whatever fails, and a second writer is found
// out before it has written anything.
//
// A run of whole transactions becomes one transaction of the target and few
// statements. The file merge.go says which changes may share a statement and
// why the outcome is the same as that of applying them one by one. What the
// target refuses is applied one by one, which tells a real conflict from one
// that the new order made.
package sink

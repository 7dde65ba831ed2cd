// Package sink applies transactions to MySQL, MariaDB, PostgreSQL and SQLite, or keeps
// them in archives.
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
//
// Statements that alter tables can be applied too, by the policies of
// MySQLOptions.DDL and DDLRules: through the routes, in the session that they had
// on the source, and exactly once. See the file ddlrun.go for how. The sink
// splits its runs at them. Tools that alter a copy of a table and swap the two,
// such as gh-ost and pt-online-schema-change, pass as they are while their tables
// are followed, as "shop.*" does. If they are left out, the swap brings rows into
// a followed table that were never read, and so it stops the pipeline.
//
// [OpenPostgres] and [OpenSQLite] give sinks of other databases. Statements of the
// source that alter tables are not run there but done: what a statement does to
// columns, keys and names is done to the target's table, in the transaction that
// moves the checkpoint. Indexes go by the names of table and index with a dot
// between. What is not understood exactly stops the pipeline, and so does what would
// give rows that are there values that no log shows, such as a default of
// CURRENT_TIMESTAMP, a change of type that is not exact, or DROP PARTITION. Foreign
// keys without actions, CHECKs, views, FULLTEXT and prefix indexes are left out, and
// logged.
//
// [OpenArchive] gives an [Archive], which keeps transactions in a folder instead, and
// what is sealed of them in a bucket (package sink/s3) if wished, as a backup from which [Archive.Restore] restores to any of them, and [Archive.Undo] takes
// single ones back.
package sink

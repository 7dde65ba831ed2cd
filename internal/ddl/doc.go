// Package ddl reads the statements in a binary log: what they do, which tables
// they name and where, and what columns those tables have afterwards.
//
// It is no full parser and judges no syntax. A statement in a log has been run,
// and so was right for the server that logged it; what this package does not
// know, it says so ([Unknown], Settled false, a table forgotten), and never
// guesses. It reads the grammars of MySQL 5.6 to 9.7 and MariaDB 10.11.
//
// A [Statement] is the result of [Parse]. [Statement.Rewrite] gives it other
// tables and schemas. A [Catalog] follows the columns of tables through all
// statements of a log.
package ddl

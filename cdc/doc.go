// Package cdc reads the changes that a MySQL or MariaDB server commits, from
// its binary log.
//
// A [Source] is one server, or the files that one has written ([OpenFiles]).
// [Open] checks that the server logs what is needed, and says all that is amiss at
// once. A [Stream] of it asks the server for the
// log from a position, as a replica does, and cuts what comes into transactions.
// These travel as the server logged them: the stream looks at event headers,
// checksums and table names, and at nothing else. [Source.Decode] makes values
// of the bytes, later, elsewhere, and in parallel; each transaction carries all
// that this needs.
//
// Positions are always between two transactions. When the connection is lost
// the Stream ends with an error that is marked transient, and whoever reads it
// opens the next one where its own checkpoint stands. A Stream never reconnects
// by itself, so there is one path of recovery only.
//
// MySQL from 5.6 and MariaDB from 10.2 can be read. They must log rows
// (binlog_format=ROW). Open checks the global settings. A session may have its
// own: where it logged statements, the Stream ends with an *[EventError].
//
// Rows may lack columns (binlog_row_image=MINIMAL or NOBLOB). What a row image
// leaves out is a dfs.Absent Value, in an update what has not changed. An INSERT
// leaves out what has got the constant default of its column; a sink writes the
// default that its own table has. MariaDB does not log which columns a REPLACE
// sets back to their defaults in this case, so that there it ends the Stream, by
// the text of the statement. So does an update of a table that the text does not
// name, since it may be made by a REPLACE in a trigger or a stored function; updates
// through a view are refused with these.
//
// An XA transaction in two phases is handed on when it is committed. Until then
// positions name it, and the source must keep its log back to where it was prepared:
// if that is purged, its XA COMMIT gives ErrPurged.
//
// Updates that were logged as changes inside of JSON documents
// (binlog_row_value_options=PARTIAL_JSON) become whole documents, which are made
// of those in the image before. Where there is none, Decode returns an
// *EventError.
//
// They should name columns too (binlog_row_metadata=FULL, from MySQL 8.0.1 and
// MariaDB 10.5). Otherwise a Stream keeps what the tables look like at its place
// in the log: as the server shows them when a pipeline starts at "now", as the
// statements of the log make and alter them, and as [Options].Schema says. That is
// the State of its transactions' checkpoints, and so it is right for a log that is
// read after later statements. Of a table that it does not know, as when reading
// begins in the past, or after a statement that this package cannot follow, the
// server is asked. It shows the table as it is at that time. So the Stream then reads
// the log ahead, on a second connection and once, from its place to the end: if a
// statement there creates, alters, renames or drops the table, or one cannot be
// understood, it ends with an *EventError that says what can be done. A statement
// that is not in the log (sql_log_bin=0) is noticed by CREATE_TIME in
// information_schema alone.
//
// A JSON document becomes the text that its server prints. What that does not
// tell, such as that a number is a DECIMAL, a string a DATE, or base64 a BLOB, is
// in the notes that come with it: see [dfs.Value.JSONNotes].
package cdc

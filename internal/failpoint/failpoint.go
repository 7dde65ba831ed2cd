// Package failpoint lets a test end the process by SIGKILL at named steps, to show
// that nothing is lost or done twice whenever a crash comes.
//
// Only programs built with the tag "failpoint" have the points. In all others Hit is
// an empty function, of which the compiler leaves nothing.
//
// In such a program the variable DFS_FAILPOINT names where it is to die: "sink.commit"
// the first time that it gets there, "sink.commit:3" the third time.
package failpoint

// Points are all of them: what has just been done when the process dies, or is about
// to be done. Each stands in the code at least once; a test sees to that, and "make
// failpoints" to that each is reached and survived.
var Points = []Point{
	{"cdc.event", "an event of the log was read"},
	{"cdc.rotate", "the log goes on in its next file"},
	{"cdc.next", "a batch is about to be handed on"},
	{"cdc.chunk", "rows of a copy are about to be handed on"},
	{"cdc.decode", "a transaction was decoded"},

	{"queue.apply", "a batch is about to be stored"},
	{"queue.insert", "a block was inserted"},
	{"queue.state", "the source's state was written"},
	{"queue.trim", "blocks that were read have been deleted"},
	{"queue.reset", "the queue is to stand elsewhere"},
	{"queue.commit", "that is about to be committed"},
	{"queue.committed", "it is committed, and nobody knows"},
	{"queue.move", "the write-ahead log is about to be moved into the file"},
	{"queue.moved", "it was moved"},
	{"queue.read", "blocks were read"},

	{"dpu.process", "rows were reshaped"},
	{"relmgr.reserve", "new ids were reserved on the target"},
	{"relmgr.commit", "new ids are about to be committed"},
	{"relmgr.committed", "they are committed"},

	{"sink.claim", "the checkpoint was taken over"},
	{"sink.packet", "statements are about to be sent"},
	{"sink.answered", "their answer is here"},
	{"sink.commit", "COMMIT is about to be sent"},
	{"sink.commit.sent", "COMMIT was sent, and its answer is to come"},
	{"sink.committed", "the answer is here"},
	{"sink.ddl.intent", "the intent of a statement is about to be written"},
	{"sink.ddl.intended", "it was written"},
	{"sink.ddl.done", "the statement was run"},
	{"sink.load.piece", "a piece of a copy is about to be committed"},
	{"sink.load.pieced", "it was committed"},
	{"sink.load.unload", "rows that do not count are about to be deleted"},

	{"core.claim", "the checkpoint in PostgreSQL or SQLite was taken over"},
	{"core.create", "a table was created there"},
	{"core.write", "statements are about to be run there"},
	{"core.part", "a part of a transaction is kept until the rest comes"},
	{"core.ddl", "a statement was run, and is not committed"},
	{"core.commit", "all is about to be committed"},
	{"core.commit.sent", "COMMIT was sent to PostgreSQL, and its answer is to come"},
	{"core.committed", "it is committed, and nobody knows"},

	{"archive.write", "records were written to a segment"},
	{"archive.synced", "they are on the disk"},
	{"archive.begin", "a segment is about to get its name"},
	{"archive.begun", "it has its name"},
	{"archive.seal", "a segment is about to get the name of one that is sealed"},
	{"archive.sealed", "it has that name"},

	{"file.write", "messages were written"},
	{"file.synced", "they are on the disk"},
	{"file.next", "the next file of messages was made"},
	{"checkfile.rename", "a checkpoint is about to take its place"},
	{"checkfile.renamed", "it is there"},

	{"letters.commit", "letters are about to be committed"},
	{"letters.committed", "they are committed"},
	{"journal.commit", "the journal is about to be committed"},
	{"journal.committed", "it is committed"},
}

// A Point is a step at which the process may die.
type Point struct{ Name, What string }

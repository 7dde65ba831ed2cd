// Package relmgr gives rows new ids, and keeps the references between them true:
// the relation manager. With it, sources whose ids clash become one target.
//
// A [Manager] is a stage of a [dfs.Pipeline], and stands before those that reshape
// rows:
//
//	tables, err := src.Tables(ctx)
//	keys, err := src.ForeignKeys(ctx)
//	ids, err := relmgr.Open("shop.ids", &relmgr.Options{
//		Source: "shop", Tables: tables, ForeignKeys: keys,
//		References: []relmgr.Reference{ // that the source does not declare
//			{Table: "shop.notes", Columns: []string{"about"}, TypeColumn: "kind",
//				Parents: map[string]string{"order": "shop.orders", "user": "shop.users"}},
//			{Table: "shop.carts", Columns: []string{"doc"}, Path: "$.items[*].product", Parent: "shop.products"},
//		},
//		Allocator: allocator, // of the target: sink.OpenIDs
//	})
//	p := &dfs.Pipeline{Source: src, Stages: []dfs.Stage{ids, units}, Sink: dst}
//
// # What gets new ids
//
// Each primary key of one whole number gets new ids, from blocks that are reserved
// on the target. A column that refers to such a key, by a foreign key of the source
// or by a [Reference], gets the new id of the row that it refers to; also if it is
// itself part of a primary key. So a key of (order_id, line) needs no ids of its
// own. Other keys, of text or of several columns, are kept unless a [Policy] says
// otherwise. [Manager.Rewrites] tells what becomes of a table.
//
// # The map
//
// An old key has one new id for ever. It gets it when it is first met, in the key
// of a row or in a reference to it, and the map has it on disk before the row goes
// on. So the map is a function: whatever is repeated after a crash, and in whatever
// order rows come, the same comes out, and a child never waits for its parent. What
// follows:
//
//   - A row that is deleted, and another that is inserted with the same key, get the
//     same new id. References that the source left behind mean the same row on both
//     sides.
//   - A row whose key changes gets the new id of its new key, and is updated on the
//     target as on the source. Nothing else could be right for references that the
//     source does not change with it.
//   - What foreign keys do to child rows needs no care: where the source's log tells
//     it, the child's change has its new ids; where it does not, the target's own
//     foreign keys do the same on new ids. See package sink's CheckForeignKeys.
//   - A reference to a row that never comes has a new id all the same, which
//     [Manager.Promises] shows. The target's foreign key refuses it where the source's
//     would have; [Reference].Late says where it must not.
//
// The map is a file of SQLite, of one pipeline and one source. It is as dear as the
// target: without it nobody knows which row is which. A start with a map that is
// older than the target is refused with [ErrLost]. People read it through the view
// map, with any SQLite client: table, column, old, new, and whether the row has
// come. Keys that are whole numbers are kept as runs, so that a hundred million of
// consecutive ones need a few megabytes.
//
// Old keys of text are compared as the source does: bytes, or without case for
// ASCII text. Other text of a collation that is not binary is refused, since it
// cannot be known which keys are equal.
//
// # Statements
//
// Statements that alter tables pass. New tables and columns are learned from their
// rows, and foreign keys from the statements. Refused with a cure is what would
// make ids untrue: a column of an id or reference that gets another name, a table
// that has ids or references and gets another name, a new foreign key over rows that
// went on with old ids. The map remembers how the columns of each table went on, so
// that a foreign key, Reference or Policy that is new or gone at the next start is
// refused too.
//
// # Errors
//
// What Open refuses are [Fault]s, all at once. A row that fails is an [Error] that
// names table, key and column; [ExhaustedError] means that a column has no ids left.
package relmgr

// Package dfstest tests stages, and whole pipelines, in memory: no server, no
// file, less than a millisecond a case.
//
// A [Script] is text that says which tables there are and what happens to them.
// [Run] sends it through stages, and [Format] shows what comes out:
//
//	s, err := dfstest.Parse(`
//		table shop.users (id bigint, name varchar(40), password varchar(60), key id)
//		insert shop.users 1, "Ann", "secret"
//		commit`)
//	out, err := dfstest.Run(ctx, []dfs.Stage{units}, s.Transactions...)
//	dfstest.Format(out...) // insert crm.people id=1, name="Ann" ...
//
// In a test, [Through] is all that in one line. [Golden] does it for a folder of
// files that hold both sides, and rewrites them with -dfstest.update. [CheckStage]
// checks that a stage keeps its contract.
//
// [Source] and [Target] are the two ends of a pipeline in memory. The Target keeps
// tables, is strict about rows, and passes package sinktest. A [Fault] makes
// either fail where one asks for it, or at random; what a pipeline applies must
// not depend on that.
package dfstest

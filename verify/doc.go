// Package verify proves that a target holds what its source holds, while both
// move, and mends what differs.
//
//	v := &verify.Verifier{Source: sourceDSN, Target: targetDSN, Tables: []string{"shop.*"}, Name: "shop"}
//	report, err := v.Run(ctx)
//	fmt.Print(report)
//
// Both servers compute checksums over the same ranges of keys, some tenths of a
// second each. Nothing is written, and nothing is locked. Where the checksums
// differ, the range is narrowed down to rows, and these are suspects, not
// findings: on a target that follows its source, the rows that have just been
// written differ always. A suspect is looked at again, on the source and then,
// once the pipeline has passed what the source had by then, on the target. Only
// one that goes on to differ is settled for good: its row is locked on the
// source (SELECT ... FOR SHARE) for the moment that the pipeline needs to pass,
// so that it cannot change between the looks at both sides. See settle.go for why
// there can be no false alarm.
//
// Tables may have other names on the target: see Routes. Rows may become others on
// their way: see Stages and Shapes. Stages that give rows new ids are asked which, as
// package relmgr is with its option ReadOnly, beside a pipeline that has the map open;
// rows of the target whose ids were given to none are of others, and left alone.
//
// A target that is PostgreSQL or SQLite is read by TargetRows: its rows are compared with
// what the sink would have stored of the source's.
//
//	rows, err := sink.ReadPostgres(ctx, targetDSN, &sink.PostgresOptions{Name: "shop"})
//	v := &verify.Verifier{Source: sourceDSN, TargetRows: rows, Tables: []string{"shop.*"}}
//
// With Repair, a finding is mended at once, in a transaction of the target's that holds
// the pipeline's checkpoint, while the source's row is locked: the pipeline may go on
// meanwhile. TargetRows are opened by sink.MendPostgres or sink.MendSQLite for that. With
// DryRun it is only told how.
package verify

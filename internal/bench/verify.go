//go:build linux

package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/dataflowsync/dfs/verify"
)

// verifyPart names the measurement of verification.
const verifyPart = "verify"

// A verifyResult is what verification of one large table took, in all rounds.
type verifyResult struct {
	Rows     int    `json:"rows"`
	Checksum spread `json:"checksum_s"` // CHECKSUM TABLE on the source, in seconds
	Verify   spread `json:"verify_s"`   // both sides at the same time, in seconds
	Ratio    spread `json:"ratio"`
	Found    int    `json:"found"` // of three planted faults
}

// verifyFaults are planted on the target when all rounds are done.
var verifyFaults = []string{
	"UPDATE verify.big SET k = k + 1 WHERE id = 1000",
	"DELETE FROM verify.big WHERE id = 2000",
	"INSERT INTO verify.big (id, k, c, pad) VALUES (1000000000, 1, 'c', 'pad')",
}

// measureVerify compares a table of ten million rows, at full scale, with one that
// is the same, and that with how long CHECKSUM TABLE reads it.
func (l *lab) measureVerify(ctx context.Context, r *report) error {
	target, err := l.launchTarget(ctx, filepath.Join(l.dir, "verify-target"))
	if err != nil {
		return err
	}
	defer target.close()
	res := &verifyResult{Rows: max(scaled(10_000_000, l.opts.scale), 5000)}
	say("%s: filling both sides with %s rows", verifyPart, count(float64(res.Rows)))
	for _, d := range []*database{l.source, target} {
		if err := fillBig(ctx, d, res.Rows); err != nil {
			return err
		}
	}
	v := &verify.Verifier{Source: l.source.DSN(""), Target: target.DSN(""), Tables: []string{"verify.big"}, Settle: time.Millisecond,
		Logger: slog.New(slog.DiscardHandler)} // it would tell of what is planted
	for range l.opts.rounds {
		began := time.Now()
		if _, err := l.source.checksums(ctx, "verify", []string{"big"}); err != nil {
			return err
		}
		checksum := time.Since(began).Seconds()
		report, err := v.Run(ctx)
		if err != nil {
			return err
		}
		if report.Verdict() != verify.Equal || report.Tables[0].Rows != uint64(res.Rows) {
			return fmt.Errorf("tables that are the same are not equal: %s", report)
		}
		took := report.Ended.Sub(report.Began).Seconds()
		res.Checksum, res.Verify, res.Ratio = append(res.Checksum, checksum), append(res.Verify, took), append(res.Ratio, took/checksum)
		say("%s: %.2f s, CHECKSUM TABLE %.2f s, ratio %.2f", verifyPart, took, checksum, took/checksum)
	}
	if err := target.exec(ctx, verifyFaults...); err != nil {
		return err
	}
	report, err := v.Run(ctx)
	if err != nil {
		return err
	}
	if t := report.Tables[0]; t.Missing == 1 && t.Extra == 1 && t.Different == 1 {
		res.Found = len(verifyFaults)
	} else {
		return fmt.Errorf("three faults were planted: %s", report)
	}
	r.Verify = res
	return nil
}

// fillBig creates a table as sysbench has it, whose rows are the same wherever it
// is made.
func fillBig(ctx context.Context, d *database, rows int) error {
	if err := d.exec(ctx, "CREATE DATABASE verify", "CREATE TABLE verify.big (id bigint PRIMARY KEY, k int NOT NULL, c char(120) NOT NULL, pad char(60) NOT NULL, KEY (k))",
		"CREATE TABLE verify.digits (d int PRIMARY KEY)", "INSERT INTO verify.digits VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)"); err != nil {
		return err
	}
	const atOnce = 100_000
	digits := "verify.digits a, verify.digits b, verify.digits c, verify.digits d, verify.digits e"
	for from := 0; from < rows; from += atOnce {
		n := fmt.Sprintf("(%d + a.d + 10*b.d + 100*c.d + 1000*d.d + 10000*e.d)", from)
		if err := d.exec(ctx, strings.ReplaceAll("INSERT INTO verify.big SELECT #, CRC32(#) DIV 2, CONCAT(SHA2(#, 224), SHA2(# + 1, 224)), SHA2(# + 2, 224) FROM "+digits+
			fmt.Sprintf(" WHERE # < %d", rows), "#", n)); err != nil {
			return err
		}
	}
	return nil
}

// table returns what was measured.
func (v *verifyResult) table() table {
	two := func(f float64) string { return fmt.Sprintf("%.2f", f) }
	return table{
		title: fmt.Sprintf("verify: a table of %s rows, both sides on this machine", count(float64(v.Rows))),
		note:  "seconds; three planted faults were found: one changed, one missing and one extra row",
		head:  []string{"", "s", "x CHECKSUM TABLE"},
		rows: [][]string{{"CHECKSUM TABLE, source only", v.Checksum.text(two), "1"},
			{"verification of source and target", v.Verify.text(two), v.Ratio.text(two)}},
	}
}

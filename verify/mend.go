package verify

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
)

// mend makes the row of a finding on the target what the source has, in a
// transaction of its own, and notes in f whether that was done. src is the
// transaction that holds the lock on the source's row. If again is true, it must be
// settled anew.
//
// Invariant (exact beside a running pipeline): the transaction first locks the
// checkpoint's row, as each of the pipeline's does, so none of these is open and
// none commits meanwhile: the target stands at a checkpoint C, behind the place P
// of settle.go. After that src is seen to be alive, so the source's row is still a,
// and no change of it from behind P is in C, which lies before that. What is
// written is a. So at C the target has what the source has, and the pipeline's
// next change of the row finds it as the source had it before.
//
// The order of locks, checkpoint first, is the pipeline's, so the two cannot wait
// for each other.
func (j *job) mend(ctx context.Context, src *sql.Tx, s suspect, was [][]cell, f *Finding) (again bool, err error) {
	key := s.key
	values, err := j.values(ctx, src, key, was)
	if err != nil {
		return false, fmt.Errorf("read a row of the source: %w", err)
	}
	tx, err := j.target.db.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer tx.Rollback()
	if again, err := j.lockCheckpoint(ctx, tx); err != nil || again {
		if again {
			return true, nil
		}
		return j.refused("lock the checkpoint", err, f)
	}
	has, err := j.rows(ctx, tx, j.to, key, " FOR UPDATE")
	if err != nil {
		return j.refused("lock the row of the target", err, f)
	}
	if !alive(ctx, src) {
		return true, ctx.Err()
	}
	if j.same(was, has) {
		return true, nil // somebody else has mended it
	}
	*f = j.finding(was, has, f.At)
	stmt := j.statement(key, values, len(was), len(has))
	if stmt == "" {
		f.Why = tooMany(len(has))
		return false, nil
	}
	res, err := tx.ExecContext(ctx, stmt)
	if err != nil {
		return j.refused(strings.ToLower(stmt[:6]), err, f)
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		f.Why = fmt.Sprintf("the statement changed %d rows, and one was to be changed", n)
		return false, err
	}
	now, err := j.rows(ctx, tx, j.to, key, "")
	if err != nil {
		return false, err
	}
	if !j.same(was, now) {
		f.Why = otherTypes.Error()
		return false, nil
	}
	if err := tx.Commit(); err != nil {
		return true, nil // the next look tells what became of it
	}
	f.Mended = true
	j.log.Info("mended a row of the target", "table", j.to.String(), "row", j.showKey(key), "how", strings.ToLower(stmt[:6]))
	return false, nil
}

// lockCheckpoint locks the checkpoint's row, so that the pipeline commits nothing until
// tx ends. It reports true if a copy of rows has begun since the target was looked at:
// the copy brings what is missing by itself, and a row that was put there before would be
// in its way. Pieces of a copy that the checkpoint does not count yet (package sink,
// load.go) need a lock of that row too, and are there only while its position says so.
func (r *run) lockCheckpoint(ctx context.Context, tx *sql.Tx) (copying bool, err error) {
	name, schema := r.pipeline()
	rows, err := query(ctx, tx, "SELECT pos FROM "+ident(schema)+".dfs_checkpoint WHERE name="+quote(name)+" FOR UPDATE")
	if err != nil {
		return false, err
	}
	if len(rows) == 0 {
		return false, fmt.Errorf("the row of %q in %s.dfs_checkpoint is gone", name, schema)
	}
	at, err := parsePlace(rows[0][0].text)
	return at.copying, err
}

// refused notes why a row was not mended, or asks for another try.
func (j *job) refused(doing string, err error, f *Finding) (bool, error) {
	if again(err) {
		return true, nil
	}
	n := serverError(err)
	if n == 0 {
		return false, fmt.Errorf("%s: %w", doing, err)
	}
	f.Why = fmt.Sprintf("%s: %v", doing, err)
	if n == erDupEntry {
		f.Why += ": another row of the target has a value that must be unique; verify again when that is mended"
	}
	return false, nil
}

// statement returns what makes the target's row the source's. It is empty if
// there are several.
func (j *job) statement(key bound, values []string, was, has int) string {
	table := j.to.ident()
	switch {
	case has > 1:
		return ""
	case was == 0:
		return "DELETE FROM " + table + " WHERE " + j.equals(j.to, key)
	}
	var names, sets, list []string
	for i := range j.pairs {
		c := j.pairs[i].to
		if c.generated || values[i] == "" {
			continue
		}
		names = append(names, ident(c.name))
		list = append(list, values[i])
		sets = append(sets, ident(c.name)+"="+values[i])
	}
	if has == 0 {
		return "INSERT INTO " + table + " (" + strings.Join(names, ",") + ") VALUES (" + strings.Join(list, ",") + ")"
	}
	return "UPDATE " + table + " SET " + strings.Join(sets, ",") + " WHERE " + j.equals(j.to, key)
}

// values returns what the target's row must have, as literals; nil if there is to
// be no row. A column that stages made no value of has an empty one.
func (j *job) values(ctx context.Context, src *sql.Tx, key bound, was [][]cell) ([]string, error) {
	var list []string
	if j.mapper != nil {
		for _, row := range was {
			list = nil
			for _, c := range row {
				list = append(list, c.literal)
			}
		}
		return list, nil
	}
	for i := range j.pairs {
		list = append(list, j.pairs[i].written())
	}
	rows, err := query(ctx, src, "SELECT "+strings.Join(list, ",")+" FROM "+j.fromSQL.table+" WHERE "+j.equals(j.from, key)+j.source.share)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	values := make([]string, len(j.pairs))
	for i, v := range rows[0] {
		values[i] = j.pairs[i].stored(v)
	}
	return values, nil
}

// written returns the expression that reads a value of the source to be written
// to the target.
func (p *pair) written() string {
	name := ident(p.from.name)
	if octets(p.from) > 0 && p.to.class() == classBinary {
		return asOctets(p.from)
	}
	switch p.from.class() {
	case classFloat, classDouble:
		return name + "*1e0"
	case classInt, classYear, classDecimal:
		return name + "+0"
	case classBit:
		return "CAST(" + name + " AS UNSIGNED)"
	case classEnum, classSet:
		if p.byNumber() {
			return "CAST(" + name + " AS UNSIGNED)"
		}
		return "CONVERT(" + name + " USING utf8mb4)"
	case classJSON:
		return "CAST(" + name + " AS CHAR CHARACTER SET utf8mb4)"
	case classOther:
		return "CAST(" + name + " AS CHAR CHARACTER SET utf8mb4)"
	}
	return name
}

// byNumber reports whether an ENUM or SET has the same members on both sides.
func (p *pair) byNumber() bool {
	return p.from.class() == p.to.class() && p.fromExpr == "CAST("+ident(p.from.name)+" AS UNSIGNED)"
}

// stored returns the literal that stores what written has read.
func (p *pair) stored(v cell) string {
	if v.null {
		return "NULL"
	}
	if octets(p.from) > 0 && p.to.class() == classBinary {
		return "_binary " + hexLiteral(v.text)
	}
	switch p.from.class() {
	case classInt, classYear, classDecimal, classBit:
		return v.text
	case classFloat, classDouble:
		// With an exponent, or it would be a DECIMAL.
		f, err := strconv.ParseFloat(v.text, 64)
		if err != nil {
			return "_utf8mb4 " + hexLiteral(v.text)
		}
		return strconv.FormatFloat(f, 'e', -1, 64)
	case classText:
		return "_" + p.from.charset + " " + hexLiteral(v.text)
	case classBinary, classSpatial, classVector:
		return "_binary " + hexLiteral(v.text)
	case classEnum, classSet:
		if p.byNumber() {
			return v.text
		}
	case classDate, classTime, classDateTime:
		return plainQuote(v.text)
	}
	return "_utf8mb4 " + hexLiteral(v.text)
}

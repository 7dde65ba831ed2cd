package sink

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/go-sql-driver/mysql"
)

// A ConflictError says that the target does not hold what the source had: an
// insert found its row there already, an update or delete found none, or a
// foreign key forbids the change.
type ConflictError struct {
	Table string // the target's table, "schema.name"
	Key   string // the row's key, such as "id=5"
	Op    dfs.Op
	Seq   uint64 // the transaction's number
	ID    string // the source's name for the transaction
	Err   error  // the server's error; nil if no row was found
}

func (e *ConflictError) Error() string {
	var what string
	switch {
	case e.Err != nil:
		what = e.Err.Error()
	default:
		what = "no such row"
	}
	return fmt.Sprintf("conflict: %s of %s (%s) in transaction %s: %s; mend the row on the target, "+
		"or set the table's conflict policy to overwrite or ignore", e.Op, e.Table, e.Key, txName(e.Seq, e.ID), what)
}

// Unwrap returns the server's error.
func (e *ConflictError) Unwrap() error { return e.Err }

// A TextError says that a row holds text that is none in its character set, such
// as another version of the server has let pass, and that the target does not take
// it. A server takes such a CHAR or VARCHAR by row event, unless
// MySQLOptions.SQLOnly or a lack of rights, a trigger, a CHECK constraint or an
// index on a column that an UPDATE sets forbids it; none takes such a TEXT.
type TextError struct {
	Table string // the target's table, "schema.name"
	Key   string // the row's key, such as "id=5"
	Op    dfs.Op
	Seq   uint64 // the transaction's number
	ID    string // the source's name for the transaction
	Err   error  // the server's error
}

func (e *TextError) Error() string {
	return fmt.Sprintf("applying the %s of %s (%s) in transaction %s: %v; the source holds bytes there that are no text in the column's character set: "+
		"make the column of the target VARBINARY or BLOB, which take any bytes, or leave the table out", e.Op, e.Table, e.Key, txName(e.Seq, e.ID), e.Err)
}

// Unwrap returns the server's error.
func (e *TextError) Unwrap() error { return e.Err }

func txName(seq uint64, id string) string {
	if id == "" {
		return fmt.Sprint(seq)
	}
	return fmt.Sprintf("%d (%s)", seq, id)
}

// Numbers of server errors that the code acts upon, from the server error
// message references of MySQL 9.7 and MariaDB 10.11.
const (
	erDupEntry          = 1062
	erBadDB             = 1049
	erNoSuchTable       = 1146
	erBadField          = 1054
	erDupField          = 1060
	erDupKeyName        = 1061
	erTooMany           = 1040 // connections
	erTooManyOfUser     = 1203
	erUserLimit         = 1226
	erDBAccess          = 1044
	erAccessDenied      = 1045
	erHostNotAllowed    = 1130
	erReadOnlyOption    = 1290 // --read-only and others
	erReadOnlyMode      = 1836
	erNoPassword        = 1698 // access denied, by a plugin that knows none
	erTableAccess       = 1142
	erColumnAccess      = 1143
	erSpecificAccess    = 1227
	erSubqueryRows      = 1242
	erOutOfRange        = 1690 // of guard.go
	erLockWait          = 1205
	erDeadlock          = 1213
	erKeyNotFound       = 1032 // of row events
	erNoReferencedRow   = 1216
	erRowIsReferenced   = 1217
	erRowIsReferenced2  = 1451
	erNoReferencedRow2  = 1452
	erDupEntryWithKey   = 1586
	erForeignDuplicate  = 1761
	erForeignDuplicate2 = 1762
	erDupUnknownKey     = 1859

	erCantCreateTable = 1005
	erDupKey          = 1022 // of a table's definition
	erTableExists     = 1050
	erBadTable        = 1051 // DROP TABLE of a table that is not there
	erDropMissing     = 1008 // DROP DATABASE of one that is not there
	erUnknownTable    = 1109 // also of information_schema
	erUnknownCharset  = 1115
	erUnknownVariable = 1193
	erWrongValue      = 1231 // of a variable
	erReadOnlyVar     = 1238
	erUnknownCollat   = 1273
	erDropDenied      = 1370
	erDupForeignKey   = 1826
	erDupCheck        = 3822
)

// transientNumbers are the server errors that may pass by themselves. What it
// takes to mend the others is known to people only.
var transientNumbers = map[uint16]bool{
	// The server has no room, no thread or no memory for now.
	1021: true, // ER_DISK_FULL
	1026: true, // ER_ERROR_ON_WRITE, such as errno 28
	1037: true, // ER_OUTOFMEMORY
	1038: true, // ER_OUT_OF_SORTMEMORY
	1040: true, // ER_CON_COUNT_ERROR
	1041: true, // ER_OUT_OF_RESOURCES
	1114: true, // ER_RECORD_FILE_FULL
	1129: true, // ER_HOST_IS_BLOCKED, after many broken connections, until FLUSH HOSTS
	1135: true, // ER_CANT_CREATE_THREAD
	1203: true, // ER_TOO_MANY_USER_CONNECTIONS
	1206: true, // ER_LOCK_TABLE_FULL
	1226: true, // ER_USER_LIMIT_REACHED, which is per hour
	1637: true, // ER_TOO_MANY_CONCURRENT_TRXS

	// Somebody else holds a lock, or ended our statement or connection.
	1180: true, // ER_ERROR_DURING_COMMIT
	1205: true, // ER_LOCK_WAIT_TIMEOUT
	1213: true, // ER_LOCK_DEADLOCK
	1317: true, // ER_QUERY_INTERRUPTED
	1412: true, // ER_TABLE_DEF_CHANGED, since the transaction began
	1927: true, // MariaDB ER_CONNECTION_KILLED
	1969: true, // MariaDB ER_STATEMENT_TIMEOUT
	3024: true, // ER_QUERY_TIMEOUT
	3169: true, // ER_SESSION_WAS_KILLED
	4031: true, // ER_CLIENT_INTERACTION_TIMEOUT

	// The server stops, starts or changes its part.
	1047: true, // ER_UNKNOWN_COM_ERROR, as Galera says "not yet prepared"
	1053: true, // ER_SERVER_SHUTDOWN
	1079: true, // ER_SHUTDOWN_COMPLETE
	1152: true, // ER_ABORTING_CONNECTION
	1158: true, // ER_NET_READ_ERROR_FROM_PIPE and the like
	1159: true,
	1160: true,
	1161: true,
	1290: true, // ER_OPTION_PREVENTS_STATEMENT: --read-only
	1792: true, // ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION
	1836: true, // ER_READ_ONLY_MODE
	2006: true, // CR_SERVER_GONE_ERROR
	2013: true, // CR_SERVER_LOST
	3032: true, // ER_SERVER_OFFLINE_MODE
	3100: true, // ER_RUN_HOOK_ERROR: group replication has no quorum
	3101: true, // ER_TRANSACTION_ROLLBACK_DURING_COMMIT
}

// standingNumbers are the server errors that are about a table or the target as a
// whole. A trigger may miss a table, a column or a function too.
var standingNumbers = map[uint16]bool{
	erDBAccess: true, erTableAccess: true, erColumnAccess: true, erSpecificAccess: true,
	erNoSuchTable: true, erBadDB: true, erBadField: true,
	1036:         true, // ER_OPEN_AS_READONLY
	1286:         true, // ER_UNKNOWN_STORAGE_ENGINE
	1305:         true, // ER_SP_DOES_NOT_EXIST
	1364:         true, // ER_NO_DEFAULT_FOR_FIELD: a column without a value, that the source lacks
	erDropDenied: true, // of a procedure too
	1449:         true, // ER_NO_SUCH_USER, who defined a trigger
	1812:         true, // ER_TABLESPACE_MISSING
	1814:         true, // ER_TABLESPACE_DISCARDED
	1932:         true, // ER_NO_SUCH_TABLE_IN_ENGINE
}

// standing marks err with dfs.Standing where the row that was refused is not its cause.
func standing(err error) error {
	if standingNumbers[serverError(err)] {
		return dfs.Standing(err)
	}
	return err
}

// classify marks err with dfs.Transient if it may pass. The end of a context
// does not; but a *net.OpError that says it took too long, and for which
// errors.Is finds context.DeadlineExceeded too, is of the network.
func classify(err error) error {
	var server *mysql.MySQLError
	var op *net.OpError
	var network net.Error
	switch {
	case err == nil, errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &op):
		return dfs.Transient(err)
	case errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.As(err, &server):
		// 1030 is "Got error N from storage engine"; errno 28 is a full disk.
		if transientNumbers[server.Number] || server.Number == 1030 && strings.Contains(server.Message, "error 28") {
			return dfs.Transient(err)
		}
		return err
	case errors.Is(err, driver.ErrBadConn), errors.Is(err, mysql.ErrInvalidConn), errors.Is(err, io.EOF),
		errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &network):
		return dfs.Transient(err)
	case errors.Is(err, mysql.ErrMalformPkt), errors.Is(err, mysql.ErrPktSync), errors.Is(err, mysql.ErrPktSyncMul):
		return dfs.Transient(err) // bytes were lost or garbled on the way: a new connection mends it
	}
	return err
}

// accountNumbers are the errors of an account that is being changed. A sink that has
// been opened waits until that is done, as only people know when.
var accountNumbers = map[uint16]bool{
	1045: true, // ER_ACCESS_DENIED_ERROR
	1130: true, // ER_HOST_NOT_PRIVILEGED
	1698: true, // ER_ACCESS_DENIED_NO_PASSWORD_ERROR
	1820: true, // ER_MUST_CHANGE_PASSWORD
	1862: true, // ER_MUST_CHANGE_PASSWORD_LOGIN
	3118: true, // ER_ACCOUNT_HAS_BEEN_LOCKED
	3955: true, // ER_USER_ACCESS_DENIED_FOR_USER_ACCOUNT_BLOCKED_BY_PASSWORD_LOCK
	4151: true, // MariaDB ER_ACCOUNT_HAS_BEEN_LOCKED
}

// reopened marks the error of a login as transient if it is about the account.
func reopened(err error) error {
	if accountNumbers[serverError(err)] {
		return dfs.Transient(err)
	}
	return err
}

// serverError returns the number of a server's error, or 0.
func serverError(err error) uint16 {
	var server *mysql.MySQLError
	if errors.As(err, &server) {
		return server.Number
	}
	return 0
}

// isConstraint reports whether the target refuses a change because of the rows
// that it holds.
func isConstraint(err error) bool {
	switch serverError(err) {
	case erDupEntry, erDupEntryWithKey, erDupUnknownKey, erNoReferencedRow, erNoReferencedRow2,
		erRowIsReferenced, erRowIsReferenced2, erForeignDuplicate, erForeignDuplicate2:
		return true
	}
	return false
}

func isDuplicate(err error) bool {
	n := serverError(err)
	return n == erDupEntry || n == erDupEntryWithKey || n == erDupUnknownKey
}

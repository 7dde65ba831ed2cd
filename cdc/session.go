package cdc

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/dataflowsync/dfs"
)

// Status variables of a query event, of MySQL's Query_log_event::Query_event_status_vars
// and MariaDB's log_event.h. Their order is that of the codes, but for MariaDB's
// own, which begin with 128.
const (
	varFlags2           = 0
	varSQLMode          = 1
	varCatalogZ         = 2
	varAutoIncrement    = 3
	varCharset          = 4
	varTimeZone         = 5
	varCatalog          = 6
	varLCTimeNames      = 7
	varCharsetDatabase  = 8
	varTableMap         = 9
	varDataWritten      = 10
	varInvoker          = 11
	varUpdatedDBs       = 12
	varMicroseconds     = 13
	varExplicitDefaults = 16
	varXID              = 17
	varUTF8MB4          = 18
	varPrimaryKey       = 19
	varEncryption       = 20

	varMariaMicroseconds = 128
	varMariaXID          = 129
	varMariaGTIDFlags    = 130 // the same as in the GTID event
	varMariaCollations   = 131 // of each character set, from 11.5; in front of varCharset
)

// Bits of varMariaGTIDFlags. With binlog_alter_two_phase an ALTER is logged twice,
// when it begins and when it is done. Behind the last two of these stands which
// beginning it is the end of.
const (
	mariaAlterBegins     = 1 << 1
	mariaAlterDone       = 1 << 2
	mariaAlterRolledBack = 1 << 3
)

// Bits of the flags2 of a query event: MySQL's OPTION_ constants in
// sql/query_options.h, and MariaDB's in sql/sql_priv.h.
const (
	flags2AutoIsNull       = 1 << 14
	flags2NoForeignKeys    = 1 << 26
	flags2RelaxedUnique    = 1 << 27
	flags2MariaExplicitDef = 1 << 24
)

// sqlModes are the names of the bits of an sql_mode; those that a server does not
// take in a SET are left out. The upper ones differ between MySQL and MariaDB.
var sqlModes = [32]string{
	0: "REAL_AS_FLOAT", 1: "PIPES_AS_CONCAT", 2: "ANSI_QUOTES", 3: "IGNORE_SPACE", 5: "ONLY_FULL_GROUP_BY",
	6: "NO_UNSIGNED_SUBTRACTION", 7: "NO_DIR_IN_CREATE", 19: "NO_AUTO_VALUE_ON_ZERO", 20: "NO_BACKSLASH_ESCAPES",
	21: "STRICT_TRANS_TABLES", 22: "STRICT_ALL_TABLES", 23: "NO_ZERO_IN_DATE", 24: "NO_ZERO_DATE",
	25: "ALLOW_INVALID_DATES", 26: "ERROR_FOR_DIVISION_BY_ZERO", 28: "NO_AUTO_CREATE_USER",
	29: "HIGH_NOT_PRECEDENCE", 30: "NO_ENGINE_SUBSTITUTION", 31: "PAD_CHAR_TO_FULL_LENGTH",
}

var mysqlModes = []string{"TIME_TRUNCATE_FRACTIONAL"}

var mariaModes = []string{"EMPTY_STRING_IS_NULL", "SIMULTANEOUS_ASSIGNMENT", "TIME_ROUND_FRACTIONAL"}

const modeIgnoreBadTableOptions = 1 << 4 // MariaDB; not used by MySQL

// modeNames returns an sql_mode as SET takes it. ANSI, TRADITIONAL and the like
// are left out: they stand beside the modes that they are made of, but for
// MariaDB's ORACLE, which is a language of its own.
func modeNames(mode uint64, maria bool) string {
	const modeOracle = 1 << 9
	var list []string
	for i, name := range sqlModes {
		if name != "" && mode&(1<<i) != 0 {
			list = append(list, name)
		}
	}
	more := mysqlModes
	if maria {
		more = mariaModes
		if mode&modeOracle != 0 {
			list = append(list, "ORACLE")
		}
		if mode&modeIgnoreBadTableOptions != 0 {
			list = append(list, "IGNORE_BAD_TABLE_OPTIONS")
		}
	}
	for i, name := range more {
		if mode&(1<<(32+i)) != 0 {
			list = append(list, name)
		}
	}
	return strings.Join(list, ",")
}

// session returns what the log says of the session that ran a statement. Where
// the source leaves a variable out because it has its default, so does this, but
// for those that a target may have another default for. A variable that this
// program does not know ends what can be read, as its length is not known either:
// q.unread says so.
func (q *query) session(e event, maria bool) *dfs.Session {
	s := &dfs.Session{Schema: strings.Clone(q.schema)}
	set := func(name, value string) { s.Vars = append(s.Vars, dfs.Var{Name: name, Value: value}) }
	flag := func(name string, on bool) {
		if on {
			set(name, "1")
		} else {
			set(name, "0")
		}
	}
	number := func(name string, n uint64) { set(name, strconv.FormatUint(n, 10)) }
	collation := func(name string, id uint16) {
		switch c := charsetOf(uint64(id), maria); {
		case id == binaryCollation:
			set(name, "binary")
		case c.collation == "":
			number(name, uint64(id))
		case name == "character_set_client":
			set(name, c.name)
		default:
			set(name, c.collation)
		}
	}
	increment, offset, timeNames, micro := uint16(1), uint16(1), uint16(0), -1
	r := reader{b: q.vars}
read:
	for len(r.b) > 0 {
		switch code := r.byte(); code {
		case varFlags2:
			f := r.uint32()
			if r.bad {
				break read
			}
			flag("foreign_key_checks", f&flags2NoForeignKeys == 0)
			flag("unique_checks", f&flags2RelaxedUnique == 0)
			flag("sql_auto_is_null", f&flags2AutoIsNull != 0)
			if maria {
				flag("explicit_defaults_for_timestamp", f&flags2MariaExplicitDef != 0)
			}
		case varSQLMode:
			if mode := r.uint64(); !r.bad {
				set("sql_mode", "'"+modeNames(mode, maria)+"'")
			}
		case varCatalogZ:
			r.bytes(int(r.byte()) + 1)
		case varAutoIncrement:
			increment, offset = r.uint16(), r.uint16()
		case varCharset:
			client, connection, server := r.uint16(), r.uint16(), r.uint16()
			if r.bad {
				break read
			}
			collation("character_set_client", client)
			collation("collation_connection", connection)
			collation("collation_server", server)
		case varTimeZone:
			if zone := string(r.bytes(int(r.byte()))); !r.bad {
				set("time_zone", "'"+strings.ReplaceAll(zone, "'", "''")+"'")
			}
		case varCatalog:
			r.bytes(int(r.byte()))
		case varLCTimeNames:
			timeNames = r.uint16()
		case varCharsetDatabase:
			r.bytes(2)
		case varTableMap, varXID, varMariaXID:
			r.bytes(8)
		case varDataWritten:
			r.bytes(4)
		case varInvoker:
			r.bytes(int(r.byte()))
			r.bytes(int(r.byte()))
		case varUpdatedDBs:
			const tooMany = 254 // OVER_MAX_DBS_IN_EVENT_MTS: no names follow
			n := r.byte()
			for i := byte(0); i < n && n != tooMany && !r.bad; i++ {
				for r.byte() != 0 && !r.bad {
				}
			}
		case varMicroseconds, varMariaMicroseconds:
			if b := r.bytes(3); b != nil {
				micro = int(b[0]) | int(b[1])<<8 | int(b[2])<<16
			}
		case varExplicitDefaults:
			if v := r.byte(); !r.bad {
				flag("explicit_defaults_for_timestamp", v != 0)
			}
		case varUTF8MB4:
			if id := r.uint16(); !r.bad {
				collation("default_collation_for_utf8mb4", id)
			}
		case varPrimaryKey:
			if v := r.byte(); v <= 1 && !r.bad { // 255: not set
				flag("sql_require_primary_key", v == 1)
			}
		case varEncryption:
			if v := r.byte(); v <= 1 && !r.bad {
				flag("default_table_encryption", v == 1)
			}
		case varMariaGTIDFlags:
			q.phase = r.byte()
			if q.phase&(mariaAlterDone|mariaAlterRolledBack) != 0 {
				r.bytes(8)
			}
		case varMariaCollations:
			r.bytes(4 * int(r.byte()))
		default:
			q.unread = fmt.Sprintf("status variable %d", code)
			break read
		}
	}
	if r.bad {
		q.unread = "status variables that are cut short"
	}
	number("auto_increment_increment", uint64(increment))
	number("auto_increment_offset", uint64(offset))
	number("lc_time_names", uint64(timeNames))
	at := strconv.FormatUint(uint64(e.time()), 10)
	if micro >= 0 {
		at += fmt.Sprintf(".%06d", micro)
	}
	set("timestamp", at)
	return s
}

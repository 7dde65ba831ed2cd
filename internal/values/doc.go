// Package values has the test that a value of any type arrives byte-equal
// (invariant I7): from each server to each other that has the type, in rows with
// a key and without, as part of a key, by row events and by SQL, with source,
// target and host in three time zones and with sql_modes that do not agree.
package values

package cdc

import (
	_ "embed"
	"strconv"
	"strings"
	"sync"
)

//go:embed collations.txt
var collationList string

// A charset is a character set with one of its collations.
type charset struct {
	name, collation string
}

// collations is the table that collations.txt holds. MariaDB and MySQL each have
// some of their own, but give no id to two, except for the Croatian ones.
var collations = sync.OnceValue(func() map[uint64]charset {
	m := make(map[uint64]charset, 1600)
	for line := range strings.Lines(collationList) {
		f := strings.Fields(line)
		if id, err := strconv.ParseUint(f[0], 10, 64); err == nil {
			m[id] = charset{f[1], f[2]}
		}
	}
	return m
})

// charsetOf returns the collation with the given id, or one without names.
func charsetOf(id uint64, maria bool) charset {
	if id == 0 || id == binaryCollation {
		return charset{}
	}
	c := collations()[id]
	switch id {
	case 122, 149, 181, 213, 245:
		// MySQL's croatian_ci; MariaDB has another one of that name.
		if maria {
			c.collation = strings.Replace(c.collation, "_croatian_ci", "_croatian_mysql561_ci", 1)
		}
	}
	return c
}

// maxLen returns the most bytes that a character can take.
func (c charset) maxLen() int {
	switch c.name {
	case "utf8mb4", "utf16", "utf16le", "utf32", "gb18030":
		return 4
	case "utf8mb3", "utf8", "ujis", "eucjpms":
		return 3
	case "big5", "cp932", "euckr", "gb2312", "gbk", "sjis", "ucs2":
		return 2
	}
	return 1
}

package ddl

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestForeignKeysAreReadOutOfStatements(t *testing.T) {
	k := func(name string, columns []string, parent Table, parents ...string) ForeignKey {
		return ForeignKey{Name: name, Columns: columns, Parent: parent, ParentColumns: parents}
	}
	acts := func(k ForeignKey, onDelete, onUpdate string) ForeignKey {
		k.OnDelete, k.OnUpdate = onDelete, onUpdate
		return k
	}
	for _, c := range []struct {
		query string
		want  []ForeignKey
	}{
		{"CREATE TABLE t (id int, a int, KEY (a), CONSTRAINT `x y` FOREIGN KEY (a) REFERENCES p (id) ON DELETE CASCADE)",
			[]ForeignKey{acts(k("x y", []string{"a"}, Table{"", "p"}, "id"), "CASCADE", "")}},
		{"CREATE TABLE t (a int, FOREIGN KEY (a) REFERENCES p (id) MATCH FULL ON UPDATE SET NULL ON DELETE NO ACTION, b int REFERENCES q (i) ON UPDATE restrict)",
			[]ForeignKey{acts(k("", []string{"a"}, Table{"", "p"}, "id"), "NO ACTION", "SET NULL"), acts(k("", []string{"b"}, Table{"", "q"}, "i"), "", "RESTRICT")}},
		{"create table s.t (a int, b int, foreign key if not exists ix (a, b) references `o`.`p` (`x`, y), primary key (a))",
			[]ForeignKey{k("", []string{"a", "b"}, Table{"o", "p"}, "x", "y")}},
		{"ALTER TABLE t ADD CONSTRAINT FOREIGN KEY (a) REFERENCES p (id), ADD FOREIGN KEY (b) REFERENCES q(i)",
			[]ForeignKey{k("", []string{"a"}, Table{"", "p"}, "id"), k("", []string{"b"}, Table{"", "q"}, "i")}},
		{"CREATE TABLE t (id int, a decimal(5, 2), b int NOT NULL REFERENCES p (id), c enum('a','FOREIGN KEY (x) REFERENCES y (z)'))",
			[]ForeignKey{k("", []string{"b"}, Table{"", "p"}, "id")}},
		{"ALTER TABLE t ADD COLUMN a int REFERENCES p (id), ADD b int", []ForeignKey{k("", []string{"a"}, Table{"", "p"}, "id")}},
		{"ALTER TABLE t ADD COLUMN IF NOT EXISTS a int REFERENCES p (id), CHANGE COLUMN IF EXISTS x b int REFERENCES p (id), CHANGE y c int REFERENCES q (id)",
			[]ForeignKey{k("", []string{"a"}, Table{"", "p"}, "id"), k("", []string{"b"}, Table{"", "p"}, "id"), k("", []string{"c"}, Table{"", "q"}, "id")}},
		{"CREATE TABLE t (a int REFERENCES p, b int REFERENCES o.q ON DELETE CASCADE, c int, FOREIGN KEY (c) REFERENCES r, d int REFERENCES s)",
			[]ForeignKey{k("", []string{"a"}, Table{"", "p"}), acts(k("", []string{"b"}, Table{"o", "q"}), "CASCADE", ""), k("", []string{"c"}, Table{"", "r"}), k("", []string{"d"}, Table{"", "s"})}},
		{"ALTER TABLE t DROP FOREIGN KEY x, ADD INDEX (a)", nil},
		{"CREATE TABLE t (id int CHECK (id > 0), a int) COMMENT 'FOREIGN KEY (a) REFERENCES p (id)' /* FOREIGN KEY (a) REFERENCES p (id) */", nil},
		{"CREATE TABLE t (FOREIGN", nil},
		{"CREATE TABLE t (a int, FOREIGN KEY (a) REFERENCES", nil},
		{"CREATE TABLE t (a int, FOREIGN KEY (a) REFERENCES p (", nil},
	} {
		require.Equal(t, c.want, ForeignKeys(c.query, Mode{}), c.query)
	}
}

func TestRenamedColumnsAreReadOutOfStatements(t *testing.T) {
	for query, want := range map[string][]string{
		"ALTER TABLE t CHANGE a b int, RENAME COLUMN c TO `d e`, CHANGE COLUMN IF EXISTS f g int": {"a", "c", "f"},
		"ALTER TABLE t RENAME COLUMN IF EXISTS a TO b":                                            {"a"},
		"ALTER TABLE t CHANGE a A int, RENAME INDEX x TO y, RENAME TO z, ADD COLUMN b int":        nil,
		"ALTER TABLE t RENAME": nil,
	} {
		require.Equal(t, want, RenamedColumns(query, Mode{}), query)
	}
}

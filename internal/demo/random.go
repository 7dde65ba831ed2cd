//go:build unix

package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

const micros = "2006-01-02 15:04:05.000000"

// values collects the rows of an INSERT.
type values struct {
	args []any
	rows int
}

func (v *values) add(row ...any) {
	v.args = append(v.args, row...)
	v.rows++
}

// marks returns "(?,?),(?,?)".
func (v *values) marks() string {
	row := "(" + strings.TrimSuffix(strings.Repeat("?,", len(v.args)/v.rows), ",") + "),"
	return strings.TrimSuffix(strings.Repeat(row, v.rows), ",")
}

// ids makes arguments of products counted from 0.
func ids(products []int) []any {
	list := make([]any, len(products))
	for i, p := range products {
		list[i] = p + 1
	}
	return list
}

var (
	nouns = []string{"Kettle", "Lamp", "Café table", "Teapot 🫖", "Chair", "Smörgåsbord", "Ünit", "Écharpe"}
	names = []string{"Åsa Öberg", "李小龍", "Zoë O'Brien", "Иван Петров", "José Núñez", "Ann \"Nan\" Lee", "مريم", "Mia 🌻"}
	roads = []string{"Main Street", "Østergade", "Rue de l'Église", "銀座", "C:\\Lane", "Straße des 17. Juni"}
	words = []string{"fast", "slow", "gift", "fragile", "call first", "ring twice", "äöü", "100 %", "50% off", "it's", "\\n"}
)

func pick(r *rand.Rand, list []string) string { return list[r.IntN(len(list))] }

func name(r *rand.Rand) string { return pick(r, names) }

func street(r *rand.Rand) string { return fmt.Sprintf("%s %d", pick(r, roads), 1+r.IntN(200)) }

func price(r *rand.Rand) string { return fmt.Sprintf("%d.%02d", 1+r.IntN(500), r.IntN(100)) }

// note returns a short text, or NULL.
func note(r *rand.Rand) any {
	if r.IntN(3) == 0 {
		return nil
	}
	return pick(r, words) + ", " + pick(r, words)
}

func description(r *rand.Rand) string {
	return strings.Repeat(pick(r, nouns)+" "+pick(r, words)+". ", 1+r.IntN(10))
}

func attributes(r *rand.Rand) string {
	return fmt.Sprintf(`{"colour": %q, "size": %d, "ratio": %.3f, "tags": [%q, null, true], "inner": {"b": -%d}}`,
		pick(r, words[:4]), r.IntN(1000), r.Float64(), pick(r, nouns), r.IntN(70000))
}

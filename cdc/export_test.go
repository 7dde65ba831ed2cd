package cdc

import "context"

// Reaches reports whether foreign keys lead from a table to another, as a copy of
// rows sees it.
func Reaches(ctx context.Context, s *Source, from, to [2]string) (bool, error) {
	r, err := s.readRelations(ctx)
	if err != nil {
		return false, err
	}
	return r.reaches(tableName{from[0], from[1]}, tableName{to[0], to[1]}), nil
}

// AskNoFurther makes a Source take a place in a file for one at which its server cannot
// be asked to begin, where it is behind n, as those behind 4 GiB are.
func AskNoFurther(s *Source, n uint64) { s.farthest = n }

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

package queue

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/dataflowsync/dfs"
)

// stateSchema is the table of the latest State (dfs.Checkpoint), which outlives
// the block that it came in. It has one row, or none. A part never has State, so
// what is here is that of a transaction which is whole.
const stateSchema = `CREATE TABLE state (
	id INTEGER PRIMARY KEY CHECK (id = 1), seq INTEGER NOT NULL, sum INTEGER NOT NULL, data BLOB NOT NULL)`

// stateSum returns the CRC-32C of a State and of the transaction that has it.
func stateSum(seq uint64, data []byte) uint32 {
	var head [8]byte
	binary.LittleEndian.PutUint64(head[:], seq)
	return crc32.Update(crc32.Update(0, castagnoli, head[:]), castagnoli, data)
}

// hasState reports whether the file has the table of the State.
func hasState(ctx context.Context, path string, c querier) (bool, error) {
	var version int
	err := c.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version)
	return version >= stateVersion, wrap(path, "read the file's version", err)
}

// readLatest reads the latest State, which is empty if there never was one. It is
// not kept in memory, since it may be large and is asked for seldom.
func readLatest(ctx context.Context, path string, c querier, last uint64) (string, error) {
	has, err := hasState(ctx, path, c)
	if err != nil || !has {
		return "", err
	}
	var seq uint64
	var sum uint32
	var data []byte
	err = c.QueryRowContext(ctx, "SELECT seq, sum, data FROM state").Scan(&seq, &sum, &data)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return "", nil
	case err != nil:
		return "", wrap(path, "read the source's state", err)
	case sum != stateSum(seq, data):
		return "", &CorruptError{Path: path, Seq: seq, Err: errors.New("the checksum of the source's state is wrong")}
	case seq > last:
		return "", &CorruptError{Path: path, Seq: seq,
			Err: fmt.Errorf("it has the source's state after transaction %d, but ends with %d", seq, last)}
	}
	return string(data), nil
}

// keepState makes at.State the latest.
func (g *group) keepState(at dfs.Checkpoint) error {
	ctx := context.Background()
	has, err := hasState(ctx, g.q.path, g.conn)
	if err != nil {
		return err
	}
	var todo []string
	if !has {
		if at.State == "" {
			return nil
		}
		todo = []string{stateSchema, fmt.Sprintf("PRAGMA user_version = %d", stateVersion)}
	}
	if at.State == "" {
		todo = append(todo, "DELETE FROM state")
	}
	for _, s := range todo {
		if _, err := g.conn.ExecContext(ctx, s); err != nil {
			return wrap(g.q.path, "keep the source's state", err)
		}
	}
	if at.State == "" {
		return nil
	}
	data := []byte(at.State)
	_, err = g.conn.ExecContext(ctx, "INSERT OR REPLACE INTO state (id, seq, sum, data) VALUES (1, ?, ?, ?)",
		int64(at.Seq), int64(stateSum(at.Seq, data)), data)
	g.log += int64(len(data)) + 2*pageSize
	return wrap(g.q.path, "keep the source's state", err)
}

package sink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/dataflowsync/dfs"
)

// A spool keeps the parts of one transaction in a file without a name until the last
// has come. A database that has one lock for all who write must not be held for as
// long as that takes. A nil spool holds nothing.
type spool struct {
	dir  string
	file *os.File // nil while it holds nothing
	size int64
	ops  [dfs.Delete + 1]uint64 // how many rows are held, by what is done to them
}

// newSpool returns a spool of a folder, and removes what a process has left there that
// was killed before its file had lost its name. Another that lives has no need of the
// name either.
func newSpool(dir string) *spool {
	left, _ := filepath.Glob(filepath.Join(dir, partsPrefix+"*"))
	for _, name := range left {
		os.Remove(name)
	}
	return &spool{dir: dir}
}

const partsPrefix = ".dfs-parts-"

func (s *spool) holds() bool { return s != nil && s.size > 0 }

// reset forgets what is held.
func (s *spool) reset() {
	if s != nil && s.file != nil {
		s.file.Close()
		os.Remove(s.file.Name()) // where a file that is open cannot lose its name
		s.file, s.size, s.ops = nil, 0, [dfs.Delete + 1]uint64{}
	}
}

// add keeps parts. An error may pass, as that of a full disk does.
func (s *spool) add(parts []*dfs.Transaction) error {
	if s.file == nil {
		f, err := os.CreateTemp(s.dir, partsPrefix+"*")
		if err != nil {
			return dfs.Transient(fmt.Errorf("setting parts of a transaction aside: %w", err))
		}
		os.Remove(f.Name()) // it ends with the process, however that ends
		s.file = f
	}
	for _, tx := range parts {
		for i := range tx.Changes {
			if op := tx.Changes[i].Op; op <= dfs.Delete {
				s.ops[op]++
			}
		}
		body := dfs.AppendChanges(nil, tx.Changes)
		head := binary.BigEndian.AppendUint64(nil, tx.Seq)
		head = binary.BigEndian.AppendUint64(head, uint64(len(body)))
		head = binary.BigEndian.AppendUint64(head, uint64(len(tx.ID)))
		for _, b := range [3][]byte{head, body, []byte(tx.ID)} {
			n, err := s.file.WriteAt(b, s.size)
			s.size += int64(n)
			if err != nil {
				s.reset()
				return dfs.Transient(fmt.Errorf("setting parts of a transaction aside: %w", err))
			}
		}
	}
	return nil
}

// each hands the parts over in their order, one at a time.
func (s *spool) each(f func(*dfs.Transaction) error) error {
	if !s.holds() {
		return nil
	}
	r := io.NewSectionReader(s.file, 0, s.size)
	var head [24]byte
	for {
		_, err := io.ReadFull(r, head[:])
		if errors.Is(err, io.EOF) {
			return nil
		}
		var body, id []byte
		if err == nil {
			body = make([]byte, binary.BigEndian.Uint64(head[8:]))
			_, err = io.ReadFull(r, body)
		}
		if err == nil {
			id = make([]byte, binary.BigEndian.Uint64(head[16:]))
			_, err = io.ReadFull(r, id)
		}
		tx := &dfs.Transaction{ID: string(id), More: true}
		if err == nil {
			tx.Seq = binary.BigEndian.Uint64(head[:])
			tx.Changes, err = dfs.ParseChanges(body)
		}
		if err != nil {
			return dfs.Transient(fmt.Errorf("reading parts of a transaction that were set aside: %w", err))
		}
		if err := f(tx); err != nil {
			return err
		}
	}
}

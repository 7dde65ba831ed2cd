package checkfile

import (
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"
)

// FuzzRead reads any bytes as a checkpoint, as they are and with a checksum that is right.
func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"seq":7,"pos":"p","written":"2026-11-22T10:30:00Z","file":2,"offset":90,"state_seq":7,"state_sum":1}`), []byte("state"))
	f.Add([]byte("{}\n00000000\n"), []byte(nil))
	path := filepath.Join(f.TempDir(), "c")
	f.Fuzz(func(t *testing.T, b, state []byte) {
		for _, text := range []string{string(b), fmt.Sprintf("%s\n%08x\n", b, crc32.ChecksumIEEE(b))} {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, seq := range []uint64{1, 7} {
				if err := os.WriteFile(statePath(path, seq), state, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			_, _, _ = Read(path)
		}
	})
}

package files

import (
	"errors"
	"io/fs"
	"os"
)

// Gone reports whether the file that was at path when own was read is there no more: it
// was deleted, moved or replaced. A program that has it open goes on with it, but where it
// has no other name, what is in it ends with the program. Where that cannot be found out,
// it is taken to be there.
func Gone(path string, own os.FileInfo) bool {
	if own == nil {
		return false
	}
	info, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(info, own)
}

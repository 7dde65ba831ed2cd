package sink

import (
	"context"
	"os"
	"time"
)

// lockFile waits until no other holds the lock of f, and takes it. It ends with the
// process. Others hold it for one Apply, so it is asked for often; no system lets a wait
// for it be broken off.
func lockFile(ctx context.Context, f *os.File) error {
	for {
		ok, err := tryLock(f)
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2 * time.Millisecond):
		}
	}
}

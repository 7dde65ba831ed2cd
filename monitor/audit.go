package monitor

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
)

// audit keeps the last actions in memory, and all in a file if there is one. The
// log has them too.
type audit struct {
	mu   sync.Mutex
	list []Action
	file *os.File // nil without Options.Audit
}

const audited = 500

// ReadAudit returns the last n actions in a file of Options.Audit, oldest first; all if
// n is 0. It may be read while a monitor writes it.
func ReadAudit(path string, n int) ([]Action, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("monitor: the file of actions: %w", err)
	}
	defer f.Close()
	list, _, err := readAudit(f, n)
	if err != nil {
		return nil, fmt.Errorf("monitor: read the file of actions %s: %w", path, err)
	}
	return list, nil
}

// readAudit passes over lines that are none, and reports whether the last one is whole.
func readAudit(f *os.File, n int) (list []Action, whole bool, err error) {
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	whole = true
	for lines.Scan() {
		var a Action
		if whole = json.Unmarshal(lines.Bytes(), &a) == nil; whole {
			if list = append(list, a); n > 0 && len(list) >= 2*n {
				list = append(list[:0], list[len(list)-n:]...)
			}
		}
	}
	if n > 0 {
		list = list[max(0, len(list)-n):]
	}
	return list, whole, lines.Err()
}

// openAudit opens the file of actions, and reads the last of them. A line that was
// being written when the process ended is left as it is, and passed over.
func (h *Handler) openAudit() error {
	path := h.opts.Audit
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("monitor: the file of actions: %w; make its folder first", err)
	}
	if err != nil {
		return fmt.Errorf("monitor: the file of actions: %w", err)
	}
	var whole bool
	h.audit.list, whole, err = readAudit(f, audited)
	if err == nil && !whole {
		_, err = f.WriteString("\n") // so that the next one has a line of its own
	}
	if err != nil {
		return errors.Join(fmt.Errorf("monitor: read the file of actions %s: %w", path, err), f.Close())
	}
	h.audit.file = f
	return nil
}

// add keeps an action, on the disk when it returns.
func (l *audit) add(a Action) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, a)
	l.list = l.list[max(0, len(l.list)-audited):]
	if l.file == nil {
		return nil
	}
	b, err := json.Marshal(a)
	if err != nil {
		return err
	}
	if _, err := l.file.Write(append(b, '\n')); err != nil {
		return err
	}
	return l.file.Sync()
}

func (l *audit) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.file
	l.file = nil
	if f == nil {
		return nil
	}
	return f.Close()
}

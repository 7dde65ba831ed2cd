package monitor

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"strings"
	"time"
)

// A pageFiles serves the page. Its first file has all that the first paint needs: the
// style sheet, and what is seen at this moment for those who may see it. The others
// are asked for again by their content, so that a browser that has them gets an
// answer without a body.
type pageFiles struct {
	h      *Handler
	before []byte // of index.html, up to where the data stands
	after  []byte
	policy string
	tags   map[string]string // ETags, by path
	files  http.Handler
}

// marks of index.html that are put in the place of.
const (
	styleMark = `<link rel="stylesheet" href="style.css">`
	dataMark  = `<script type="module" src="app.js"></script>`
)

func (h *Handler) page() (*pageFiles, error) {
	sub, err := fs.Sub(files, "page")
	if err != nil {
		return nil, err
	}
	p := &pageFiles{h: h, tags: make(map[string]string), files: http.FileServerFS(sub)}
	var index, style []byte
	err = fs.WalkDir(sub, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(sub, path)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(b)
		p.tags["/"+path] = `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
		switch path {
		case "index.html":
			index = b
		case "style.css":
			style = b
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if bytes.Count(index, []byte(styleMark)) != 1 || bytes.Count(index, []byte(dataMark)) != 1 || bytes.Contains(style, []byte("</")) {
		return nil, errors.New("monitor: index.html has no place for its style sheet or its data") // they are embedded
	}
	index = bytes.Replace(index, []byte(styleMark), append(append([]byte("<style>"), style...), "</style>"...), 1)
	p.before, p.after, _ = bytes.Cut(index, []byte(dataMark))
	p.after = append([]byte(dataMark), p.after...)
	sum := sha256.Sum256(style)
	p.policy = strings.Replace(policy, "style-src 'self'", "style-src 'self' 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'", 1)
	return p, nil
}

// ServeHTTP serves a file of the page.
func (p *pageFiles) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/" {
		if tag := p.tags[r.URL.Path]; tag != "" {
			w.Header().Set("ETag", tag)
			w.Header().Set("Cache-Control", "no-cache")
		}
		p.files.ServeHTTP(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", p.policy)
	b := bytes.Clone(p.before)
	if first := p.first(r); first != nil {
		// JSON as this package writes it has no <, so nothing in it ends the element;
		// what is no script is not run, so the policy does not forbid it.
		b = append(append(append(b, `<script type="application/json" id="first">`...), first...), "</script>\n"...)
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(append(b, p.after...)))
}

// first returns the session and the latest state for who may see them, or nil. A
// password is not asked for here, so that none is tried by loading the page.
func (p *pageFiles) first(r *http.Request) []byte {
	if len(p.h.guard.users) > 0 {
		if _, err := r.Cookie(p.h.guard.cookie(r)); err != nil {
			return nil
		}
		r = r.Clone(r.Context())
		r.Header.Del("Authorization")
	}
	v, no := p.h.guard.visitor(r)
	if no != nil {
		return nil
	}
	p.h.hub.mu.Lock()
	state := p.h.hub.state
	p.h.hub.mu.Unlock()
	b, err := json.Marshal(map[string]any{"session": p.h.sessionOf(v), "state": json.RawMessage(state)})
	if err != nil {
		return nil // there is no state yet
	}
	return b
}

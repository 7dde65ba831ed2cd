// Package webhook sends transactions to a server by HTTP, each as a request that is
// signed and says by a key of its own whether it came before.
package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/checkfile"
	"github.com/dataflowsync/dfs/sink/stream"
)

// Options refine a Sink. The zero value of each field is the default, but for
// Checkpoint.
type Options struct {
	stream.Options // what the body holds: a message a line

	// Checkpoint is the path of the file that says how far the receiver is. It must
	// be set.
	Checkpoint string

	// Secret signs each request, if it is not empty. The header Dfs-Signature then is
	//
	//	t=1795800000,v1=5257a869…
	//
	// where v1 is the HMAC-SHA256, in hexadecimal, of the time (Unix seconds), a dot
	// and the body. A receiver compares it in constant time, and refuses what is
	// older than some minutes, so that nobody can send it again. See Verify.
	Secret []byte

	// Header is added to each request, such as Authorization.
	Header http.Header

	// Timeout limits one request. Default: 30 seconds.
	Timeout time.Duration

	// Client sends the requests. Redirects are not followed, whatever it says.
	// Default: one of its own.
	Client *http.Client
}

// A Sink sends each transaction that has changes as one POST, or in several if it is
// large, in order, one at a time.
//
// Guarantee: at least once. The receiver has a transaction once it has answered with
// a status of 2xx; if the process dies before that is in the checkpoint's file, the
// same request is sent again. Its header Idempotency-Key is the same then, and of no
// other request, so a receiver that remembers keys has each transaction once.
// Statuses 408, 425, 429 and 5xx, and a connection that fails, are tried again by the
// pipeline; other statuses stop it, or go to Reject.
type Sink struct {
	url  string
	opts Options
	enc  *stream.Encoder
	mark *checkfile.File
	rec  checkfile.Record
	at   dfs.Checkpoint // what is stored
	seq  uint64         // of the last part sent
	rows int            // changes in the parts before, of a transaction at hand
	held bool
	now  func() time.Time

	requests, messages, bytes atomic.Uint64
}

var _ dfs.Sink = (*Sink)(nil)

// Open returns a sink that sends to the URL. It sends nothing yet.
func Open(target string, o *Options) (*Sink, error) {
	if o == nil {
		o = &Options{}
	}
	var errs []error
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		errs = append(errs, errors.New("webhook: the URL is not of the form https://host/path")) // which may hold a secret
	}
	if o.Checkpoint == "" {
		errs = append(errs, errors.New("webhook: Checkpoint is empty: name a file that says how far the receiver is"))
	}
	if o.Timeout < 0 {
		errs = append(errs, fmt.Errorf("webhook: Timeout is %v: give a span of time, or 0 for 30 seconds", o.Timeout))
	}
	if err := errors.Join(append(errs, o.Options.Validate())...); err != nil {
		return nil, err
	}
	s := &Sink{url: target, opts: *o, now: time.Now}
	if s.opts.Timeout == 0 {
		s.opts.Timeout = 30 * time.Second
	}
	client := http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}
	if o.Client != nil {
		client = *o.Client
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	s.opts.Client = &client
	if s.enc, err = stream.NewEncoder(&s.opts.Options); err != nil {
		return nil, err
	}
	s.mark, err = checkfile.Open(o.Checkpoint)
	return s, err
}

// Close frees what the sink holds.
func (s *Sink) Close() error {
	s.opts.Client.CloseIdleConnections()
	return s.mark.Close()
}

// Checkpoint implements dfs.Sink.
func (s *Sink) Checkpoint(ctx context.Context) (dfs.Checkpoint, error) {
	if err := ctx.Err(); err != nil {
		return dfs.Checkpoint{}, err
	}
	s.held = false
	rec, at, unlock, err := s.mark.Take()
	if err != nil {
		return at, err
	}
	unlock()
	s.enc.Reset()
	s.rec, s.at, s.seq, s.rows, s.held = rec, at, at.Seq, 0, true
	return at, nil
}

// Apply implements dfs.Sink. If it fails midway, what was answered for is stored.
func (s *Sink) Apply(ctx context.Context, batch []*dfs.Transaction) (err error) {
	if err := ctx.Err(); err != nil || len(batch) == 0 {
		return err
	}
	if !s.held {
		return errors.New("webhook: Checkpoint was not asked before Apply")
	}
	unlock, err := s.mark.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	if batch[0].Seq != s.seq+1 {
		return fmt.Errorf("%w: transaction %d was sent last, transaction %d was to follow", dfs.ErrConflict, s.seq, batch[0].Seq)
	}
	at, rec, state := s.at, s.rec, ""
	defer func() {
		if at.Seq != s.at.Seq {
			if failed := s.mark.Save(rec, dfs.Checkpoint{Seq: at.Seq, Pos: at.Pos, State: state}); failed != nil {
				err = errors.Join(err, failed)
			} else {
				s.at, s.rec = at, rec
			}
		}
		s.held = err == nil
	}()
	for _, tx := range batch {
		if tx.Seq != s.seq+1 {
			return fmt.Errorf("%w: transaction %d was given after %d", dfs.ErrGap, tx.Seq, s.seq)
		}
		if err := s.transaction(ctx, tx); err != nil {
			return err
		}
		s.seq, s.rows = tx.Seq, s.rows+len(tx.Changes)
		if !tx.More {
			s.rows = 0
			at.Seq, at.Pos, rec.ID, rec.Committed = tx.Seq, tx.Pos, tx.ID, tx.Committed
			if tx.State != "" {
				state, at.State = tx.State, tx.State
			}
		}
	}
	return nil
}

// transaction sends one transaction or part.
func (s *Sink) transaction(ctx context.Context, tx *dfs.Transaction) error {
	var body bytes.Buffer
	n := uint64(0)
	err := s.enc.Encode(tx, func(m stream.Message) error {
		if m.Value != nil {
			body.Write(m.Value)
			body.WriteByte('\n')
			n++
		}
		return nil
	})
	if err != nil || n == 0 {
		return err
	}
	if err := s.post(ctx, tx, body.Bytes()); err != nil {
		return err
	}
	s.messages.Add(n)
	s.bytes.Add(uint64(body.Len()))
	return nil
}

func (s *Sink) post(ctx context.Context, tx *dfs.Transaction, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return errors.New("webhook: the URL is not of the form https://host/path")
	}
	for name, values := range s.opts.Header {
		r.Header[name] = values
	}
	name := s.opts.Name
	if name == "" {
		name = "dfs"
	}
	r.Header.Set("Content-Type", "application/x-ndjson")
	r.Header.Set("User-Agent", "dfs")
	r.Header.Set("Idempotency-Key", name+"-"+s.key(tx))
	if len(s.opts.Secret) > 0 {
		r.Header.Set("Dfs-Signature", Sign(s.opts.Secret, s.now(), body))
	}
	s.requests.Add(1)
	answer, err := s.opts.Client.Do(r)
	if err != nil {
		// The URL, which this error has, may hold a secret.
		if e := (*url.Error)(nil); errors.As(err, &e) {
			err = e.Err
		}
		return dfs.Transient(fmt.Errorf("webhook: send transaction %d: %w", tx.Seq, err))
	}
	defer answer.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(answer.Body, 300))
	io.Copy(io.Discard, io.LimitReader(answer.Body, 1<<20)) // so that the connection can be used again
	code := answer.StatusCode
	if code >= 200 && code < 300 {
		return nil
	}
	err = fmt.Errorf("webhook: send transaction %d: the receiver answered %s: %q", tx.Seq, answer.Status, strings.TrimSpace(string(said)))
	switch {
	case code >= 500, code == http.StatusRequestTimeout, code == http.StatusTooEarly, code == http.StatusTooManyRequests:
		return dfs.Transient(err)
	case code >= 300 && code < 400:
		return dfs.Standing(fmt.Errorf("%w; name the address that it redirects to", err))
	case code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusNotFound, code == http.StatusMethodNotAllowed, code == http.StatusGone:
		return dfs.Standing(err) // it would say so of any
	}
	return err
}

// key tells a transaction, or a part of one, from all others, and is the same when it
// comes again. Then it may have another number, where there is no queue: heartbeats and
// traffic that is filtered take numbers too, and not the same each time. So it goes by
// what the source calls it and when that committed it, as names may be used again by a
// source that was set up anew; and a part by how many changes came before it, and how
// many it has, so that equal keys have equal changes. Without a name, and for rows of
// a copy, whose name is that of their table, it goes by the number and the position.
func (s *Sink) key(tx *dfs.Transaction) string {
	if tx.ID == "" || tx.Snapshot || tx.Committed.IsZero() {
		return strconv.FormatUint(tx.Seq, 10) + "-" + hash(8, tx.ID, tx.Pos, tx.More, len(tx.Changes))
	}
	return hash(16, tx.ID, tx.Committed.UnixMicro(), tx.More, s.rows, len(tx.Changes))
}

// hash returns the first n bytes of one of the values, in hexadecimal.
func hash(n int, values ...any) string {
	var b []byte
	for _, v := range values {
		b = fmt.Appendf(b, "%v\x00", v)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:n])
}

// Sign returns the header Dfs-Signature of a request.
func Sign(secret []byte, at time.Time, body []byte) string {
	t := strconv.FormatInt(at.Unix(), 10)
	return "t=" + t + ",v1=" + hex.EncodeToString(mac(secret, t, body))
}

func mac(secret []byte, t string, body []byte) []byte {
	h := hmac.New(sha256.New, secret)
	io.WriteString(h, t+".")
	h.Write(body)
	return h.Sum(nil)
}

// Verify reports what is wrong with a signature, for receivers: it must be of this
// secret and body, and no further from now than within.
func Verify(secret []byte, signature string, body []byte, now time.Time, within time.Duration) error {
	var t, v1 string
	for _, part := range strings.Split(signature, ",") {
		switch key, value, _ := strings.Cut(part, "="); key {
		case "t":
			t = value
		case "v1":
			v1 = value
		}
	}
	seconds, err := strconv.ParseInt(t, 10, 64)
	got, wrong := hex.DecodeString(v1)
	switch {
	case err != nil || wrong != nil || v1 == "":
		return errors.New("webhook: the signature is not of the form t=…,v1=…")
	case !hmac.Equal(got, mac(secret, t, body)):
		return errors.New("webhook: the signature is not of this secret and body")
	case now.Sub(time.Unix(seconds, 0)).Abs() > within:
		return fmt.Errorf("webhook: the signature is of %v, which is further away than %v", time.Unix(seconds, 0).UTC(), within)
	}
	return nil
}

// Stats returns what was sent.
func (s *Sink) Stats() stream.Stats {
	return stream.Stats{Guarantee: stream.AtLeastOnce, Messages: s.messages.Load(), Bytes: s.bytes.Load()}
}

// Guarantee says in words what the target may be relied on for.
func (s *Sink) Guarantee() string {
	return "at least once: a request whose answer is lost is sent again, with the same Idempotency-Key"
}

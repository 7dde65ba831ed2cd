// Package s3 keeps sealed segments of a [sink.Archive] in a bucket of S3, or of what
// speaks its protocol (MinIO, Ceph, R2, GCS and others).
//
//	store, err := s3.Open(ctx, "s3://backups/shop?region=eu-central-1", nil)
//	archive, err := sink.OpenArchive("/var/lib/dfs/shop", &sink.ArchiveOptions{Store: store})
//
// The bucket needs no listing but of its prefix, and of rights s3:ListBucket,
// s3:GetObject, s3:PutObject and s3:DeleteObject. Who only restores needs the first two.
package s3

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/sink"
)

// Options refine a Store. The zero value of each field is the default.
type Options struct {
	// AccessKey, SecretKey and SessionToken are the credentials. Default: those of the
	// environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN), of
	// the file ~/.aws/credentials, or of the machine's role, whichever comes first.
	AccessKey, SecretKey, SessionToken string

	// Transport makes the requests. Default: one with timeouts, that verifies
	// certificates by the system's authorities.
	Transport http.RoundTripper

	// ReadOnly opens a bucket to restore from: Open then does not look whether it is fit
	// to be written to, for which it stores and deletes an object. Default: it looks.
	ReadOnly bool
}

// A Store is a prefix of a bucket. It is a sink.ArchiveStore.
type Store struct {
	client *minio.Client
	bucket string
	prefix string // with a slash at its end, or empty
	name   string
}

var _ sink.ArchiveStore = (*Store)(nil)

// Open opens the place that an address names:
//
//	s3://bucket/prefix?region=us-east-1&endpoint=https://minio.example.com:9000&path_style=true
//
// The prefix and all after the question mark may be left out. The endpoint's default is
// that of AWS, path_style says that the bucket is named in the path, which is the
// default for an endpoint that is an address or localhost. An endpoint of http: is for
// loopback and trusted networks only, since segments travel readable unless the archive
// has a key.
//
// It makes sure that the bucket exists, that it may be listed, and, but for
// Options.ReadOnly, that what is stored is never replaced: a server that does not know conditional writes
// (If-None-Match) is refused, as two writers would not notice each other.
func Open(ctx context.Context, address string, opts *Options) (*Store, error) {
	if opts == nil {
		opts = &Options{}
	}
	s, endpoint, o, err := parse(address, opts)
	if err != nil {
		return nil, fmt.Errorf("open the archive's bucket: %w", err)
	}
	if s.client, err = minio.New(endpoint, o); err != nil {
		return nil, fmt.Errorf("open the archive's bucket %s: %w", s.name, err)
	}
	ok, err := s.client.BucketExists(ctx, s.bucket)
	if err == nil && !ok {
		err = errors.New("there is no such bucket: make it, or name another")
	}
	if err != nil {
		return nil, fmt.Errorf("open the archive's bucket %s: %w", s.name, classify(err))
	}
	if _, err := s.List(ctx); err != nil {
		return nil, fmt.Errorf("open the archive's bucket %s: list it: %w", s.name, err)
	}
	if opts.ReadOnly {
		return s, nil
	}
	if err := s.probe(ctx); err != nil {
		return nil, fmt.Errorf("open the archive's bucket %s: %w", s.name, err)
	}
	return s, nil
}

// parse reads an address.
func parse(address string, opts *Options) (s *Store, endpoint string, o *minio.Options, err error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "s3" || u.Host == "" || u.User != nil || u.Fragment != "" {
		// Invariant I9: it may hold a key by mistake.
		return nil, "", nil, errors.New("its address cannot be read: write s3://bucket/prefix?region=...&endpoint=https://..., without credentials")
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, "", nil, errors.New("its address cannot be read: what follows the question mark is no list of name=value")
	}
	var errs []error
	for name := range q {
		if !slices.Contains([]string{"region", "endpoint", "path_style"}, name) {
			errs = append(errs, fmt.Errorf("its address has %q: use region, endpoint and path_style", name))
		}
	}
	s = &Store{bucket: u.Host, prefix: strings.Trim(u.Path, "/")}
	s.name = strings.TrimSuffix("s3://"+s.bucket+"/"+s.prefix, "/")
	if s.prefix != "" {
		s.prefix += "/"
	}
	e, err := url.Parse(cmp.Or(q.Get("endpoint"), "https://s3.amazonaws.com"))
	if err != nil || e.Host == "" || e.Scheme != "http" && e.Scheme != "https" || e.User != nil || strings.Trim(e.Path, "/") != "" {
		errs = append(errs, errors.New("its endpoint cannot be read: write https://host:port"))
		e = &url.URL{}
	}
	style := minio.BucketLookupAuto
	switch q.Get("path_style") {
	case "true":
		style = minio.BucketLookupPath
	case "":
		if h := e.Hostname(); net.ParseIP(h) != nil || h == "localhost" {
			style = minio.BucketLookupPath
		}
	case "false":
		style = minio.BucketLookupDNS
	default:
		errs = append(errs, errors.New("path_style is true or false"))
	}
	if (opts.AccessKey == "") != (opts.SecretKey == "") {
		errs = append(errs, errors.New("one of the access key and the secret key is missing: give both, or none"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, "", nil, err
	}
	keys := credentials.NewChainCredentials([]credentials.Provider{&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}, &credentials.IAM{}})
	if opts.AccessKey != "" {
		keys = credentials.NewStaticV4(opts.AccessKey, opts.SecretKey, opts.SessionToken)
	}
	return s, e.Host, &minio.Options{Creds: keys, Secure: e.Scheme == "https", Region: q.Get("region"), BucketLookup: style, Transport: opts.Transport, MaxRetries: 3}, nil
}

// probe makes sure that objects can be written, and that a second writer is refused.
func (s *Store) probe(ctx context.Context) (err error) {
	name := "probe-" + rand.Text()
	defer func() { err = errors.Join(err, s.Delete(context.WithoutCancel(ctx), name)) }()
	if err := s.Put(ctx, name, strings.NewReader("dfs"), 3); err != nil {
		return fmt.Errorf("write an object: %w", err)
	}
	if err := s.Put(ctx, name, strings.NewReader("two"), 3); !errors.Is(err, fs.ErrExist) {
		if err != nil {
			return fmt.Errorf("write an object that is there: %w", err)
		}
		return errors.New("its server ignores If-None-Match, so that two writers of an archive would replace what the other has stored: use one that does not")
	}
	return nil
}

// Name returns "s3://bucket/prefix".
func (s *Store) Name() string { return s.name }

// List implements sink.ArchiveStore.
func (s *Store) List(ctx context.Context) (list []sink.StoredSegment, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the goroutine that lists
	for o := range s.client.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: s.prefix, Recursive: true}) {
		if o.Err != nil {
			return nil, classify(o.Err)
		}
		list = append(list, sink.StoredSegment{Name: strings.TrimPrefix(o.Key, s.prefix), Size: o.Size})
	}
	return list, ctx.Err()
}

// Put implements sink.ArchiveStore. The server verifies the MD5 of what it gets, and
// stores it only if the name is free.
func (s *Store) Put(ctx context.Context, name string, from io.ReaderAt, size int64) error {
	o := minio.PutObjectOptions{ContentType: "application/octet-stream", DisableMultipart: true, SendContentMd5: true}
	o.SetMatchETagExcept("*")
	_, err := s.client.PutObject(ctx, s.bucket, s.prefix+name, io.NewSectionReader(from, 0, size), size, o)
	switch minio.ToErrorResponse(err).Code {
	case "ConditionalRequestConflict", "OperationAborted":
		return dfs.Transient(err) // another writes it at this moment; how that ends is known later
	case "PreconditionFailed":
		return fmt.Errorf("%s in %s: %w", name, s.name, fs.ErrExist)
	}
	if err == nil {
		var info minio.ObjectInfo
		if info, err = s.client.StatObject(ctx, s.bucket, s.prefix+name, minio.StatObjectOptions{}); err == nil && info.Size != size {
			err = fmt.Errorf("it has %d bytes there, and %d were sent", info.Size, size)
		}
	}
	return classify(err)
}

// ReadAt implements sink.ArchiveStore.
func (s *Store) ReadAt(ctx context.Context, name string, p []byte, off int64) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	var o minio.GetObjectOptions
	if err := o.SetRange(off, off+int64(len(p))-1); err != nil {
		return 0, err
	}
	body, _, _, err := (&minio.Core{Client: s.client}).GetObject(ctx, s.bucket, s.prefix+name, o)
	if err != nil {
		return 0, classify(err)
	}
	defer body.Close()
	n, err := io.ReadFull(body, p)
	if err == io.ErrUnexpectedEOF {
		err = io.EOF
	}
	if err != nil && err != io.EOF {
		err = classify(err)
	}
	return n, err
}

// Move implements sink.ArchiveStore: the server copies the object, and then deletes it.
func (s *Store) Move(ctx context.Context, from, to string) error {
	_, err := s.client.CopyObject(ctx, minio.CopyDestOptions{Bucket: s.bucket, Object: s.prefix + to}, minio.CopySrcOptions{Bucket: s.bucket, Object: s.prefix + from})
	if err != nil {
		return classify(err)
	}
	return s.Delete(ctx, from)
}

// Delete implements sink.ArchiveStore.
func (s *Store) Delete(ctx context.Context, name string) error {
	return classify(s.client.RemoveObject(ctx, s.bucket, s.prefix+name, minio.RemoveObjectOptions{}))
}

// classify marks what may pass, and gives a cure for what does not.
func classify(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	r := minio.ToErrorResponse(err)
	switch r.Code {
	case "NoSuchKey":
		return fmt.Errorf("%w: %w", err, fs.ErrNotExist)
	case "NoSuchBucket":
		return err
	case "AccessDenied", "AllAccessDisabled", "UnauthorizedAccess":
		return fmt.Errorf("%w: allow s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject there to the access key", err)
	case "InvalidAccessKeyId", "SignatureDoesNotMatch":
		return fmt.Errorf("%w: give the right access key and secret key, by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or in the options", err)
	case "RequestTimeTooSkewed", "AuthorizationHeaderMalformed", "PermanentRedirect", "InvalidBucketName", "BadDigest", "EntityTooLarge":
		return err
	}
	if r.StatusCode == 0 || r.StatusCode == http.StatusRequestTimeout || r.StatusCode == http.StatusTooManyRequests || r.StatusCode >= 500 {
		return dfs.Transient(err) // the server was not reached, or is not well
	}
	return err
}

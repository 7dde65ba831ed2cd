package sink

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// keyBytes is the length of an archive's key.
const keyBytes = 32

// ParseArchiveKey reads an archive's key from text: 64 hexadecimal digits, or 32
// bytes in base64, with white space around them. "openssl rand -hex 32" makes one.
// The error holds nothing of the text.
func ParseArchiveKey(text string) ([]byte, error) {
	text = strings.TrimSpace(text)
	key, err := hex.DecodeString(text)
	if err != nil || len(key) != keyBytes {
		key, err = base64.StdEncoding.DecodeString(text)
	}
	if err != nil || len(key) != keyBytes {
		return nil, errors.New("the archive's key is not 64 hexadecimal digits, nor 32 bytes in base64: make one by openssl rand -hex 32")
	}
	return key, nil
}

// ErrArchiveKey means that an archive is encrypted and the key for it is missing or
// wrong, or that a key was given for one that is not encrypted.
var ErrArchiveKey = errors.New("sink: archive key")

// sealOverhead is how many bytes encryption adds to a body.
const sealOverhead = 12 + 16

// A segmentKey encrypts the bodies of one segment: AES-256-GCM, by a key that HKDF
// derives from the archive's and the segment's salt, so that no key sees more than
// the records of one segment. Nonces are random, as a record can be written twice at
// the same place after a crash.
type segmentKey struct{ cipher.AEAD }

// newSegmentKey returns the key of a segment, and what tells that it is the right one.
func newSegmentKey(key []byte, salt [32]byte) (*segmentKey, [16]byte, error) {
	var check [16]byte
	b, err := hkdf.Key(sha256.New, key, salt[:], "dfs archive segment", keyBytes+len(check))
	if err != nil {
		return nil, check, err
	}
	copy(check[:], b[keyBytes:])
	block, err := aes.NewCipher(b[:keyBytes])
	if err != nil {
		return nil, check, err
	}
	gcm, err := cipher.NewGCM(block)
	return &segmentKey{gcm}, check, err
}

func (k *segmentKey) seal(body, with []byte) ([]byte, error) {
	out := make([]byte, k.NonceSize(), len(body)+sealOverhead)
	if _, err := rand.Read(out); err != nil {
		return nil, err
	}
	return k.Seal(out, out, body, with), nil
}

func (k *segmentKey) open(body, with []byte) ([]byte, error) {
	if len(body) < sealOverhead {
		return nil, errors.New("an encrypted record is too short")
	}
	n := k.NonceSize()
	out, err := k.Open(nil, body[:n], body[n:], with)
	if err != nil {
		return nil, errors.New("the checksum of a record is right, but it was not encrypted with this key, or has been forged")
	}
	return out, nil
}

// keyOf returns the key for a segment with head h; nil if it is not encrypted.
func keyOf(h *segmentHead, key []byte) (*segmentKey, error) {
	switch {
	case h.flags&flagEncrypted == 0 && key != nil:
		return nil, fmt.Errorf("%w: it is not encrypted, and a key was given: leave the key out, or begin a new archive with it", ErrArchiveKey)
	case h.flags&flagEncrypted == 0:
		return nil, nil
	case key == nil:
		return nil, fmt.Errorf("%w: it is encrypted: give the key that it was written with", ErrArchiveKey)
	}
	k, check, err := newSegmentKey(key, h.salt)
	if err == nil && subtle.ConstantTimeCompare(check[:], h.check[:]) != 1 {
		err = fmt.Errorf("%w: it was written with another key than the one given", ErrArchiveKey)
	}
	return k, err
}

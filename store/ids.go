package store

import (
	"encoding/hex"
	"fmt"
	"io/fs"
	"strings"
)

// ID is the address of an object: the plain BLAKE3-256 of its content, what
// b3sum prints.
type ID [32]byte

// String returns the ID as "b3:" and 64 hexadecimal digits.
func (id ID) String() string { return "b3:" + hex.EncodeToString(id[:]) }

// IsZero reports whether the ID is unset. It is not the ID of empty content.
func (id ID) IsZero() bool { return id == ID{} }

// MarshalText returns what String does.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (id *ID) UnmarshalText(b []byte) (err error) { *id, err = ParseID(string(b)); return err }

// ParseID reads "b3:" and 64 hexadecimal digits. The error matches
// fs.ErrInvalid.
func ParseID(s string) (id ID, err error) {
	h, ok := strings.CutPrefix(s, "b3:")
	if !ok || len(h) != 64 {
		return ID{}, fmt.Errorf("%w: content id %q is not b3: and 64 hexadecimal digits", fs.ErrInvalid, s)
	}
	if _, err := hex.Decode(id[:], []byte(h)); err != nil {
		return ID{}, fmt.Errorf("%w: content id %q: %v", fs.ErrInvalid, s, err)
	}
	return id, nil
}

// ExtentID names an extent: 16 random bytes, never reused.
type ExtentID [16]byte

// String returns the ID as 32 hexadecimal digits.
func (id ExtentID) String() string { return hex.EncodeToString(id[:]) }

// UploadID names one act of putting, and everything that it wrote: 16 random
// bytes, never reused. It is the unit of collection.
type UploadID [16]byte

// String returns the ID as 32 hexadecimal digits.
func (id UploadID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether the ID is unset.
func (id UploadID) IsZero() bool { return id == UploadID{} }

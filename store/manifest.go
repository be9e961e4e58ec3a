package store

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"time"

	"github.com/blockframe/blockframe/internal/frame"
)

// manifest is a line of the manifests part: "object" in shards of an object,
// "member" in packs.
type manifest struct {
	Type    string            `json:"type"`
	V       int               `json:"v"`
	Put     hexID             `json:"put"`
	Name    string            `json:"name"`
	Mode    uint32            `json:"mode"`
	UID     uint32            `json:"uid"`
	GID     uint32            `json:"gid"`
	ModTime time.Time         `json:"mtime"`
	Xattrs  map[string][]byte `json:"xattrs,omitempty"`
	Policy  string            `json:"policy,omitempty"`
	Ordinal *int              `json:"ordinal,omitempty"` // object
	Offset  *int64            `json:"offset,omitempty"`  // object
	ID      *ID               `json:"id,omitempty"`      // member
	Size    *int64            `json:"size,omitempty"`    // member
	At      *int64            `json:"at,omitempty"`      // member
}

// complete is the line that proves an object, in the shards of its last extent.
type complete struct {
	Type    string      `json:"type"`
	V       int         `json:"v"`
	Put     hexID       `json:"put"`
	ID      ID          `json:"id"`
	Size    int64       `json:"size"`
	Extents extentLines `json:"extents"`
}

type extentLine struct {
	Extent hexID   `json:"extent"`
	Hash   hexHash `json:"hash"`
	Offset int64   `json:"offset"`
	Length int64   `json:"length"`
}

type (
	hexID   [16]byte
	hexHash [32]byte
)

func (h hexID) MarshalText() ([]byte, error)    { return hex.AppendEncode(nil, h[:]), nil }
func (h *hexID) UnmarshalText(b []byte) error   { return unhex(h[:], b) }
func (h hexHash) MarshalText() ([]byte, error)  { return hex.AppendEncode(nil, h[:]), nil }
func (h *hexHash) UnmarshalText(b []byte) error { return unhex(h[:], b) }

func unhex(dst, b []byte) error {
	if len(b) != 2*len(dst) {
		return fmt.Errorf("%w: %d hexadecimal digits, want %d", frame.ErrCorrupt, len(b), 2*len(dst))
	}
	_, err := hex.Decode(dst, b)
	return err
}

// newManifest returns what object and member lines have in common.
func newManifest(kind string, upload UploadID, name string, a Attr, policy string) manifest {
	return manifest{Type: kind, V: 1, Put: hexID(upload), Name: name, Mode: unixMode(a.Mode),
		UID: a.UID, GID: a.GID, ModTime: lineTime(a.ModTime), Xattrs: lineXattrs(a.Xattrs), Policy: policy}
}

// lineTime returns the time of those that RFC 3339 can write, years 0 to 9999, that
// is nearest to t: filesystems know others.
func lineTime(t time.Time) time.Time {
	t = t.UTC()
	switch {
	case t.Year() < 0:
		return time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)
	case t.Year() > 9999:
		return time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC)
	}
	return t
}

// lineXattrs returns m with empty values in place of nil ones, which JSON would
// write as null.
func lineXattrs(m map[string][]byte) map[string][]byte {
	out := make(map[string][]byte, len(m))
	for k, v := range m {
		out[k] = append([]byte{}, v...)
	}
	return out
}

// appendLine appends v as one line of JSON.
func appendLine(dst []byte, v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("store: manifest cannot be encoded: " + err.Error())
	}
	return append(append(dst, b...), '\n')
}

// unixMode returns permission, setuid, setgid and sticky bits as Unix has them.
func unixMode(m fs.FileMode) uint32 {
	u := uint32(m.Perm())
	if m&fs.ModeSetuid != 0 {
		u |= 0o4000
	}
	if m&fs.ModeSetgid != 0 {
		u |= 0o2000
	}
	if m&fs.ModeSticky != 0 {
		u |= 0o1000
	}
	return u
}

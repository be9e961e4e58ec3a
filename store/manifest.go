package store

import (
	"bufio"
	"bytes"
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
	Type    string       `json:"type"`
	V       int          `json:"v"`
	Put     hexID        `json:"put"`
	ID      ID           `json:"id"`
	Size    int64        `json:"size"`
	Extents []extentLine `json:"extents"`
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
		UID: a.UID, GID: a.GID, ModTime: a.ModTime.UTC(), Xattrs: a.Xattrs, Policy: policy}
}

// appendLine appends v as one line of JSON.
func appendLine(dst []byte, v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("store: manifest cannot be encoded: " + err.Error())
	}
	return append(append(dst, b...), '\n')
}

// objectManifests returns the manifests part of a shard of an object's extent.
// all is nil but for the last extent, where it holds every extent of the object.
func objectManifests(ref stream, e *Extent, all []Extent, id ID, size int64) []byte {
	m := newManifest("object", ref.upload, ref.name, ref.attr, ref.policy.Name)
	m.Ordinal, m.Offset = &e.Ordinal, &e.Offset
	out := appendLine(nil, m)
	if all == nil {
		return out
	}
	c := complete{Type: "complete", V: 1, Put: hexID(ref.upload), ID: id, Size: size}
	for _, x := range all {
		c.Extents = append(c.Extents, extentLine{hexID(x.ID), hexHash(x.Hash), x.Offset, x.Length})
	}
	return appendLine(out, c)
}

// lineKind is the part of a line that says what it is.
type lineKind struct {
	Type string `json:"type"`
	V    int    `json:"v"`
}

// decodeManifests reads a manifests part. Lines of unknown type are passed over.
func decodeManifests(b []byte) (list []manifest, done *complete, err error) {
	sc := bufio.NewScanner(bytes.NewReader(b))
	sc.Buffer(make([]byte, 0, 64<<10), len(b)+1)
	for sc.Scan() {
		var k lineKind
		if err := json.Unmarshal(sc.Bytes(), &k); err != nil {
			return nil, nil, fmt.Errorf("%w: manifest line: %v", frame.ErrCorrupt, err)
		}
		var into any
		switch k.Type {
		case "object", "member":
			list = append(list, manifest{})
			into = &list[len(list)-1]
		case "complete":
			done = &complete{}
			into = done
		default:
			continue
		}
		if k.V != 1 {
			return nil, nil, fmt.Errorf("%w: manifest version %d", frame.ErrVersion, k.V)
		}
		if err := json.Unmarshal(sc.Bytes(), into); err != nil {
			return nil, nil, fmt.Errorf("%w: manifest line: %v", frame.ErrCorrupt, err)
		}
	}
	return list, done, sc.Err()
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

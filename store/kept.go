package store

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"math"

	"github.com/blockframe/blockframe/internal/frame"
)

// Kept is a stored stream that belongs to no name: a sealed segment of the commit log,
// or a snapshot of the catalog. It is coded, verified, scrubbed and repaired like an
// object, and lives until it is dropped.
type Kept struct {
	Kind   Kind // KindSegment or KindSnapshot
	Upload UploadID
	ID     ID // of its content
	Size   int64
	Number uint64 // of the segment; 0 of a snapshot
	First  uint64 // records of the log, [First, Last]: those in the segment,
	Last   uint64 // or those whose effects the snapshot has, from 1 on
}

// Check returns what is wrong with the description of a stream that is kept, whose content
// is not looked at.
func (k *Kept) Check() error {
	switch {
	case k.Kind != KindSegment && k.Kind != KindSnapshot:
		return fmt.Errorf("kind %d", k.Kind)
	case (k.Kind == KindSegment) != (k.Number > 0):
		return fmt.Errorf("number %d of kind %d", k.Number, k.Kind)
	case k.First == 0 || k.Last == math.MaxUint64 || k.First > k.Last+1 || k.Kind == KindSnapshot && k.First != 1:
		return fmt.Errorf("records %d to %d of kind %d", k.First, k.Last, k.Kind)
	}
	return nil
}

// Keep makes a stream live whose shards are durable, until it is released. Extents are
// those of it that were not recorded by AddExtent. Committing the same again is success.
type Keep struct {
	Kept
	Extents []Extent
}

// Release ends that: the upload is condemned, and as no name can revive it, it may be
// killed at once. One that is not kept is success.
type Release struct{ Upload UploadID }

// Numbers of these commands in the log.
const (
	KindKeep    CommandKind = 22
	KindRelease CommandKind = 23
)

// CommandKind returns the command's number in the log.
func (Keep) CommandKind() CommandKind    { return KindKeep }
func (Release) CommandKind() CommandKind { return KindRelease }

// keptMark begins the upload ids of streams that are kept, and their kind follows: so they
// are found among the keys of a backend, where nothing else says where they are. Random
// ids begin like this once in 2^32 times: whoever looks for kept streams asks the header.
var keptMark = [3]byte{'b', 'f', 'k'}

// newKeptID returns a new upload id for a stream that is to be kept.
func newKeptID(kind Kind) (id UploadID) {
	rand.Read(id[:])
	copy(id[:], keptMark[:])
	id[len(keptMark)] = byte(kind)
	return id
}

// looksKept reports whether an upload id is one of a stream of that kind that is kept.
func (id UploadID) looksKept(kind Kind) bool {
	return bytes.HasPrefix(id[:], keptMark[:]) && id[len(keptMark)] == byte(kind)
}

// keptType is what the manifests call a kind.
var keptType = map[Kind]string{KindSegment: "segment", KindSnapshot: "snapshot"}

// keptLine is the line that every shard of a stream carries that is kept.
type keptLine struct {
	Type    string `json:"type"`
	V       int    `json:"v"`
	Put     hexID  `json:"put"`
	Number  uint64 `json:"number"`
	First   uint64 `json:"first"`
	Last    uint64 `json:"last"`
	Ordinal int    `json:"ordinal"`
	Offset  int64  `json:"offset"`
}

// line returns the line for one of its extents.
func (k *Kept) line(e *Extent) []byte {
	return appendLine(nil, keptLine{Type: keptType[k.Kind], V: 1, Put: hexID(e.Upload), Number: k.Number, First: k.First, Last: k.Last, Ordinal: e.Ordinal, Offset: e.Offset})
}

// decodeKept reads the manifests of an extent of a stream that is kept. done is nil unless
// it is the last extent.
func decodeKept(kind Kind, lines []byte) (k Kept, done *complete, err error) {
	bad := func(what string) (Kept, *complete, error) {
		return Kept{}, nil, fmt.Errorf("%w: manifests of a %s: %s", frame.ErrCorrupt, keptType[kind], what)
	}
	if len(lines) > maxManifests {
		return bad("too long")
	}
	first, rest, ended := bytes.Cut(lines, []byte("\n"))
	var l keptLine
	if err := decodeJSON(first, &l); err != nil {
		return Kept{}, nil, err
	}
	if l.V != 1 && l.Type == keptType[kind] {
		return Kept{}, nil, fmt.Errorf("%w: manifest version %d", frame.ErrVersion, l.V)
	}
	k = Kept{Kind: kind, Upload: UploadID(l.Put), Number: l.Number, First: l.First, Last: l.Last}
	if err := k.Check(); err != nil || !ended || l.Type != keptType[kind] || l.Put == (hexID{}) || l.Ordinal < 0 || l.Offset < 0 {
		return bad(fmt.Sprintf("line %.200q", first))
	}
	if len(rest) == 0 {
		return k, nil, nil
	}
	last, rest, ended := bytes.Cut(rest, []byte("\n"))
	done = &complete{}
	if err := decodeJSON(last, done); err != nil {
		return Kept{}, nil, err
	}
	if !ended || len(rest) > 0 || done.Type != "complete" || done.V != 1 || done.Put != l.Put {
		return bad("the last line does not complete it")
	}
	k.ID, k.Size = done.ID, done.Size
	return k, done, done.check()
}

// String names it for people.
func (k Kept) String() string {
	if k.Kind == KindSegment {
		return fmt.Sprintf("segment %d (records %d to %d)", k.Number, k.First, k.Last)
	}
	return fmt.Sprintf("snapshot of record %d, b3:%s", k.Last, hex.EncodeToString(k.ID[:8]))
}

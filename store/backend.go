package store

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"iter"

	"github.com/blockframe/blockframe/internal/frame"
)

// BackendID names a failure domain: 16 random bytes, written when the backend
// is made and never changed, so that a swapped disk is recognised.
type BackendID [16]byte

// String returns the ID as 32 hexadecimal digits.
func (id BackendID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether the ID is unset.
func (id BackendID) IsZero() bool { return id == BackendID{} }

// BackendKey names one blob of a backend. It is a valid path in the sense of
// [io/fs.ValidPath], at most 128 bytes long, of the form
//
//	HH/EXTENT-SHARD-GENERATION-EPOCH-UPLOAD
//
// where HH, the first byte of the BLAKE3 of the extent id, spreads blobs evenly
// over 256 folders, and the rest is fixed-width hexadecimal: 32, 2, 8, 16 and
// 32 digits. Keys sort by folder, then extent, shard and generation. A backend
// treats them as opaque, but may rely on the folder being two hexadecimal
// digits.
type BackendKey string

// Backend keeps immutable blobs in one failure domain: a disk, a bucket,
// another node. All methods may be called concurrently. Errors are those of
// [io/fs] plus [ErrNoSpace] and [ErrUnavailable]: full, dead and bad are three
// different things, and each has its own cure. Create, Open and Remove refuse a key
// that [BackendKey.Validate] does not accept with fs.ErrInvalid; Open may say
// fs.ErrNotExist instead. Once ctx has ended every method fails with its error.
//
// Package store/storetest checks all of this.
type Backend interface {
	// ID returns the identity that the backend was made with.
	ID() BackendID

	// Create starts a blob. Nothing is visible under key before Commit. size
	// hints are not given: a writer takes what is written to it.
	Create(ctx context.Context, key BackendKey) (BackendWriter, error)

	// Open opens a blob for reading, or fails with fs.ErrNotExist. ctx bounds
	// the life of the reader: cancelling it ends pending reads.
	Open(ctx context.Context, key BackendKey, opts OpenOptions) (BackendReader, error)

	// List yields the keys that start with prefix and sort after after, in
	// order. Blobs that come or go meanwhile may or may not be seen.
	List(ctx context.Context, prefix, after BackendKey) iter.Seq2[BackendKey, error]

	// Remove removes a blob durably. Removing an absent blob is success.
	Remove(ctx context.Context, key BackendKey) error

	// Usage returns the space of the failure domain.
	Usage(ctx context.Context) (Usage, error)
}

// BackendWriter receives one blob front to back. The slices given to Write are
// aligned to 4 KiB in memory and, but for the last, in length; they are reused
// by the caller once Write returns, so an implementation does not retain them.
// A writer is used by one goroutine at a time. After Commit or Abort, whatever they
// returned, Write and Commit are errors and change nothing.
type BackendWriter interface {
	io.Writer

	// Commit makes the blob durable and visible, in that order. It fails with
	// fs.ErrExist if the key exists, and then nothing has changed. After any
	// other error the outcome is unknown. Either way the writer is done.
	Commit() error

	// Abort drops what was written, also when the context of Create has ended. It does
	// nothing, and returns nil, after Commit or Abort.
	Abort() error
}

// BackendReader reads one blob. ReadAt may be called concurrently, at any offset and
// into any slice. A negative offset is an error, and so is ReadAt after Close. One that
// is open when its blob is removed returns the right bytes or an error.
type BackendReader interface {
	io.ReaderAt
	io.Closer

	// Size returns the length of the blob in bytes.
	Size() int64
}

// OpenOptions says how a blob will be read.
type OpenOptions struct {
	// Uncached asks for the medium rather than a cache of it, as far as the
	// backend can: scrub and the check after a repair want to know what the
	// disk holds. Reads at 4 KiB offsets into 4 KiB-aligned slices go fastest.
	Uncached bool
}

// Usage is the space of one failure domain, in bytes: 0 ≤ Free ≤ Total. A domain
// without a limit gives a large number for both. Total 0 is a domain that takes
// nothing: no shard is placed on it.
type Usage struct {
	Total int64 // what the domain can hold in all
	Free  int64 // what may still be written
	Blobs int64 // number of blobs, -1 when the backend does not count them
	Stray int64 // files that are not ours: left alone, and counted
}

// Key returns the key of one shard blob.
func Key(extent ExtentID, shard int, generation uint32, epoch uint64, upload UploadID) BackendKey {
	h := frame.Sum(extent[:])
	return BackendKey(fmt.Sprintf("%02x/%x-%02x-%08x-%016x-%x", h[0], extent[:], shard, generation, epoch, upload[:]))
}

// Package durable is the only door to files. Everything that blockframe keeps
// on a disk goes through one [FS]: the operating system's ([OS]), or Pebble's
// crashable file system in memory ([Mem]), on which a test cuts the power after
// any operation and looks at what is left.
//
// The rules of a durable change, which the interface is shaped around:
//
//   - A file is written under a name that nobody reads, synced, renamed to its
//     real name, and then its directory is synced. Before the last step a crash
//     leaves the old state; after it, the new one. [WriteFile] does all four.
//   - The data of a file and the entry that names it are two things. [File.Sync]
//     makes the first durable, [FS.SyncDir] the second.
//   - After a failed Sync nobody knows what is on the disk, and the kernel may
//     have dropped the dirty pages: trying again proves nothing (Rebello et al.,
//     "Can Applications Recover from fsync Failures?", USENIX ATC 2020). The
//     caller gives the file up.
//
// There is no Truncate: nothing here shortens a file.
//
// Names are slash-separated below whatever root the user gave. Errors match
// the sentinels of [io/fs], [ErrLocked] and [ErrNoSpace]. An FS may be used
// from several goroutines at once.
package durable

import (
	"errors"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Grid is the alignment, in bytes, of offset, length and memory that direct
// input and output asks for on all filesystems in use.
const Grid = 4096

// ErrLocked is returned by [FS.Lock] when the lock is held, by another process
// or by this one. The error that wraps it names the file.
var ErrLocked = errors.New("blockframe: locked by another process or another open store")

// ErrNoSpace is matched by every error that a full disk or an exhausted quota
// causes. What was there before is intact, and the operation may be repeated
// once there is room.
var ErrNoSpace = errors.New("blockframe: no space left on the disk")

// FS is a tree of files whose changes can be made durable.
type FS interface {
	// Create makes a file for writing and reading, or fails with fs.ErrExist.
	// The entry is durable once its directory was synced.
	Create(name string, opts CreateOptions) (File, error)

	// Open opens a file for reading.
	Open(name string, opts OpenOptions) (File, error)

	// OpenWrite opens an existing file for reading and for writing in place.
	OpenWrite(name string) (File, error)

	// Rename gives a file a new name, replacing what was there. A crash before
	// the directory is synced leaves either name.
	Rename(old, new string) error

	// RenameNew is Rename, but fails with fs.ErrExist, and changes nothing,
	// when new exists.
	RenameNew(old, new string) error

	// Remove removes a file or an empty directory.
	Remove(name string) error

	// RemoveAll removes name and what is below it. Absent is success.
	RemoveAll(name string) error

	// Mkdir makes a directory, or fails with fs.ErrExist. It is durable once its
	// parent was synced.
	Mkdir(dir string) error

	// MkdirAll makes a directory and the parents it lacks, and syncs the parent
	// of each that it made: they are durable when it returns.
	MkdirAll(dir string) error

	// SyncDir makes the entries of a directory durable.
	SyncDir(dir string) error

	// List returns the names in a directory, sorted.
	List(dir string) ([]string, error)

	// Stat describes what name refers to.
	Stat(name string) (Info, error)

	// Lock takes an exclusive lock on a file, which it makes if need be, until
	// the Closer is closed or the process ends. It does not wait: see
	// [ErrLocked]. The file remains.
	Lock(name string) (io.Closer, error)

	// Usage returns the space of the filesystem that dir is on, in bytes: what
	// it can hold, and what this process may still write.
	Usage(dir string) (total, free int64, err error)

	// Pebble returns the same files as Pebble wants to see them.
	Pebble() vfs.FS
}

// File is an open file. ReadAt may be called from several goroutines at once,
// all else by one at a time. Write appends from where the last Write ended, at
// first from 0; WriteAt and ReadAt do not move that place.
type File interface {
	io.Reader
	io.Writer
	io.ReaderAt
	io.WriterAt

	// Close releases the file without syncing it.
	io.Closer

	// Sync makes the content durable (fdatasync), the length included. After
	// an error the content is unknown and stays so.
	Sync() error

	// Size returns the length in bytes.
	Size() (int64, error)
}

// CreateOptions says how a new file will be written.
type CreateOptions struct {
	// Direct asks to write past the page cache, as long as what is written
	// starts on the [Grid] in memory and in the file. The first piece whose
	// length is not a multiple of the grid is split: what is left of it, and
	// all that follows, goes through the cache. Where the filesystem refuses,
	// everything does. The content is the same either way.
	Direct bool

	// Size reserves so many bytes, 0 none. It does not change the length of
	// the file. It should be what will be written: what is reserved in excess
	// stays reserved.
	Size int64
}

// OpenOptions says how a file will be read.
type OpenOptions struct {
	// Uncached asks for what the medium holds, not for what the page cache
	// remembers, as far as the platform can tell the two apart. Reads that lie
	// on the [Grid] in memory and in the file go without a copy.
	Uncached bool
}

// Info describes a file or directory.
type Info struct {
	Size int64 // bytes, 0 for a directory
	Dir  bool
}

// Classify returns err, made to match [ErrNoSpace] if a full disk or quota
// caused it. The implementations in this package have done so already; a wrapper
// that makes errors of its own calls it.
func Classify(err error) error {
	if err == nil || errors.Is(err, ErrNoSpace) || !isNoSpace(err) {
		return err
	}
	return noSpaceError{err}
}

// noSpaceError matches ErrNoSpace beside all that its cause matches.
type noSpaceError struct{ error }

func (e noSpaceError) Unwrap() []error { return []error{ErrNoSpace, e.error} }

package store

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"slices"
	"sync/atomic"
)

// ScrubDisk is what a pass found on one backend.
type ScrubDisk struct {
	Backend BackendID
	Path    string // as Options.Paths has it, or Attach was told
	Blobs   int64  // that should be there
	Bytes   int64  // read
	Damaged int64  // shards in which anything was wrong
	Absent  int64  // shards that could not be asked for
	Errors  int64  // calls of the backend that failed: it may be about to die
}

// disk returns the row of a backend.
func (c *scrub) disk(id BackendID) *ScrubDisk {
	at, found := slices.BinarySearchFunc(c.rep.Disks, id, func(d ScrubDisk, id BackendID) int { return bytes.Compare(d.Backend[:], id[:]) })
	if !found {
		c.rep.Disks = slices.Insert(c.rep.Disks, at, ScrubDisk{Backend: id, Path: c.s.path(id)})
	}
	return &c.rep.Disks[at]
}

// readErrors counts the reads of a blob that fail for another reason than its length.
type readErrors struct {
	BackendReader
	n atomic.Int64
}

// ReadAt implements io.ReaderAt.
func (r *readErrors) ReadAt(b []byte, off int64) (int, error) {
	n, err := r.BackendReader.ReadAt(b, off)
	if err != nil && !errors.Is(err, io.EOF) {
		r.n.Add(1)
	}
	return n, err
}

// isFailure reports whether an error is of the backend, and not of what it holds: that is
// counted, as are the reads that readErrors counts.
func isFailure(err error) bool {
	return err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) && !errors.Is(err, fs.ErrNotExist) &&
		!errors.Is(err, io.EOF) && !unreachable(err)
}

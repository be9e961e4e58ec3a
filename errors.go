package blockframe

import (
	"errors"

	"github.com/blockframe/blockframe/internal/catalog"
	"github.com/blockframe/blockframe/internal/journal"
	"github.com/blockframe/blockframe/store"
)

// Errors of a store, besides those of [io/fs]: fs.ErrNotExist, fs.ErrExist,
// fs.ErrInvalid, fs.ErrClosed and fs.ErrPermission mean what they always do.
var (
	// ErrCorrupt: bytes are not what was written, and cannot be made whole. A
	// [CorruptError] says which.
	ErrCorrupt = store.ErrCorrupt

	// ErrUnrecoverable: fewer blocks of a stripe are left than are needed.
	ErrUnrecoverable = store.ErrUnrecoverable

	// ErrVersion: a file is sound, but of a format that this program does not
	// know. A newer program does.
	ErrVersion = store.ErrVersion

	// ErrUncertain: a change may or may not have happened, and may yet.
	// Repeating it is safe.
	ErrUncertain = store.ErrUncertain

	// ErrLocked: another process, or another Open in this one, has the store.
	ErrLocked = store.ErrLocked

	// ErrNoSpace: a disk is full. What is stored stays readable, and puts work
	// again when there is room.
	ErrNoSpace = store.ErrNoSpace

	// ErrTooFew: there are not enough disks for all parts of some data to lie apart,
	// whatever room they have.
	ErrTooFew = store.ErrTooFew

	// ErrFormerDisk: the directory is that of a disk which was removed from the store, or
	// given up as lost. It is not used, and left as it is.
	ErrFormerDisk = errors.New("blockframe: former disk of the store")

	// ErrHoldsLog: the only copy of the commit log is on the disk, which cannot be removed.
	ErrHoldsLog = errors.New("blockframe: a copy of the commit log is on the disk")

	// ErrUnavailable: too many disks are absent, dead or take no writes.
	ErrUnavailable = store.ErrUnavailable

	// ErrRetained: the version is under retention or hold.
	ErrRetained = catalog.ErrRetained

	// ErrConflict: something else was committed first, and the name is not what
	// the caller expected.
	ErrConflict = catalog.ErrConflict

	// ErrNotEmpty: the directory has entries.
	ErrNotEmpty = catalog.ErrNotEmpty

	// ErrDiverged: two copies of the commit log are both valid and hold
	// different records: each was written without the other. Nothing was changed;
	// Options.AssumeLost says which one to give up.
	ErrDiverged = journal.ErrDiverged
)

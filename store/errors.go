package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"

	"github.com/blockframe/blockframe/erasure"
	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/internal/journal"
)

// Errors of stores and backends, besides those of [io/fs].
var (
	// ErrCorrupt: bytes are not what was written. Redundancy repairs them.
	ErrCorrupt = frame.ErrCorrupt
	// ErrVersion: bytes are sound, but of a format that this program does not know.
	ErrVersion = frame.ErrVersion
	// ErrUnrecoverable: too many blocks of a stripe are missing to compute it.
	ErrUnrecoverable = erasure.ErrUnrecoverable
	// ErrUncertain: a change may or may not have happened. Repeating it is safe.
	ErrUncertain = journal.ErrUncertain
	// ErrLocked: another process, or another Open in this one, has the store.
	ErrLocked = durable.ErrLocked
	// ErrNoSpace: a disk is full. What is stored stays readable.
	ErrNoSpace = durable.ErrNoSpace
	// ErrTooFew: there are not enough disks for the shards of a stripe, whatever room
	// they have.
	ErrTooFew = errors.New("blockframe: too few disks")
	// ErrUnavailable: a backend or the log is absent, dead or takes no writes.
	ErrUnavailable = errors.New("blockframe: unavailable")
)

// CorruptError says which range of an object cannot be read: fewer than Want good
// blocks of a stripe are left. All other ranges stay readable. It matches
// ErrCorrupt and ErrUnrecoverable.
type CorruptError struct {
	Name   string   // of the object, "" when only the extent is known
	Extent ExtentID // in which the damage is
	Stripe int      // of the extent; -1: its table, and so the whole of it
	Want   int      // good blocks that are needed
	Got    int      // good blocks that are left
	Offset int64    // first byte that is lost, in the object (in the stored stream when Name is "")
	Length int64    // number of bytes from there

	err error // what was wrong with the blocks
}

// Error names object, range and extent.
func (e *CorruptError) Error() string {
	what := "extent " + e.Extent.String()
	if e.Name != "" {
		what = e.Name + ": " + what
	}
	where := fmt.Sprintf("stripe %d", e.Stripe)
	if e.Stripe < 0 {
		where = "table"
	}
	msg := fmt.Sprintf("%s: %s: bytes [%d, %d) are lost: %d good blocks, %d are needed", what, where, e.Offset, e.Offset+e.Length, e.Got, e.Want)
	if e.err != nil {
		msg += ": " + e.err.Error()
	}
	return msg
}

// Is makes the error match ErrCorrupt and ErrUnrecoverable.
func (e *CorruptError) Is(target error) bool {
	return target == ErrCorrupt || target == ErrUnrecoverable
}

// isAbsent reports whether an error says that a blob is not there.
func isAbsent(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// absent is a backend that is registered but not there.
type absent BackendID

func (a absent) ID() BackendID { return BackendID(a) }

func (a absent) gone() error {
	return fmt.Errorf("backend %v is absent: %w", BackendID(a), ErrUnavailable)
}

func (a absent) Create(context.Context, BackendKey) (BackendWriter, error) { return nil, a.gone() }

func (a absent) Open(context.Context, BackendKey, OpenOptions) (BackendReader, error) {
	return nil, a.gone()
}

func (a absent) List(context.Context, BackendKey, BackendKey) iter.Seq2[BackendKey, error] {
	return func(yield func(BackendKey, error) bool) { yield("", a.gone()) }
}

func (a absent) Remove(context.Context, BackendKey) error { return a.gone() }

func (a absent) Usage(context.Context) (Usage, error) { return Usage{}, a.gone() }

package journal

import (
	"errors"
	"fmt"

	"github.com/blockframe/blockframe/internal/frame"
)

var (
	// ErrDiverged says that two copies of the log are both valid and hold
	// different records: each was written without the other. Nothing was
	// changed. An operator has to say which one is right.
	ErrDiverged = errors.New("blockframe: copies of the log have diverged")

	// ErrUncertain says that a write failed on the way: the records may or may
	// not be in the log when it is opened again.
	ErrUncertain = errors.New("blockframe: outcome unknown")

	// ErrReadOnly is matched by [Journal.ReadOnly], which names the member that
	// is to blame, and by every Append after it. Nothing was written.
	ErrReadOnly = errors.New("blockframe: log is read-only")

	// ErrTooLarge refuses a record over MaxRecord, or a batch that no segment
	// has room for. Nothing was written.
	ErrTooLarge = errors.New("blockframe: log record too large")
)

// Damage is a place in a copy of the log that was found bad. As an error it
// matches frame.ErrCorrupt and means that no member has a good copy; then Member
// names all that were asked.
type Damage struct {
	Member  string
	Segment string // file name
	Offset  int64  // in bytes from the start of the segment
	Reason  string
	Err     error // what a read of it failed with, or nil
}

func (d *Damage) Error() string {
	s := fmt.Sprintf("%v: log member %s, segment %s, offset %d: %s", frame.ErrCorrupt, d.Member, d.Segment, d.Offset, d.Reason)
	if d.Err != nil {
		s += ": " + d.Err.Error()
	}
	return s
}

func (d *Damage) Unwrap() []error {
	if d.Err == nil {
		return []error{frame.ErrCorrupt}
	}
	return []error{frame.ErrCorrupt, d.Err}
}

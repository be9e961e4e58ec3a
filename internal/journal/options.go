package journal

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"

	"github.com/blockframe/blockframe/internal/frame"
)

// DefaultSegmentSize is the size of a segment in bytes.
const DefaultSegmentSize = 16 << 20

// Options say where a log is and how to treat it.
type Options struct {
	// Members are the copies: 1 to 8, names distinct, in any order. When the log
	// is made they are its set; later Join and Leave change that, and those that
	// are of the log and not of its set are left as they are.
	Members []Member

	// AssumeLost names copies, by eight bytes of their names or more, that an operator
	// gives up: they are not needed to
	// open the log, and not looked at if they are there. What only they held of
	// what was acknowledged is lost.
	AssumeLost []string

	// Least is how many members the set must keep when one fails or leaves: 0
	// means 1. With no more than these, a failure makes the log read-only.
	Least int

	// Left is called with the name of a member that failed while the log is open,
	// and was left behind. It must not call the log.
	Left func(name string)

	// StoreID is the store whose log this is; a member of another store counts
	// as missing.
	StoreID [16]byte

	// Create makes the log if there is none yet, the directories included. It
	// changes nothing about a log that holds a record: a missing or empty member
	// of it stays missing.
	Create bool

	// First, Number and Snapshot are those of the first segment of a log that Create
	// makes, which goes on from a snapshot: its first record, and its number, 0 meaning 1.
	First, Number uint64
	Snapshot      Snapshot

	// ReadOnly opens without a write of any kind, for an inspection.
	ReadOnly bool

	// SegmentSize is that of segments to be made, in bytes: a multiple of 4096,
	// 16 KiB to 1 GiB; 0 means DefaultSegmentSize. No frame is larger than a
	// segment, less 8 KiB.
	SegmentSize int64

	// Sequential writes to one member after the other, in order, and makes
	// spare segments in the foreground, for tests that record file operations.
	Sequential bool

	// Logger hears of repairs and torn tails. Nil means silent.
	Logger *slog.Logger

	random func([]byte) // makes keys; nil means crypto/rand
}

// validate reports every problem, and fills in the defaults.
func (o *Options) validate() error {
	if o.SegmentSize == 0 {
		o.SegmentSize = DefaultSegmentSize
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.random == nil {
		o.random = func(b []byte) { rand.Read(b) } // never fails
	}
	err := checkNames(o.names())
	if o.SegmentSize < minSegment || o.SegmentSize > maxSegment || o.SegmentSize%frame.Grid != 0 {
		err = errors.Join(err, fmt.Errorf("segment size %d is not a multiple of %d between %d and %d", o.SegmentSize, frame.Grid, minSegment, maxSegment))
	}
	for _, m := range o.Members {
		if m.FS == nil || m.Dir == "" {
			err = errors.Join(err, fmt.Errorf("member %q has no directory", m.Name))
		}
	}
	if err != nil {
		return fmt.Errorf("log: %w: %w", fs.ErrInvalid, err)
	}
	return nil
}

// minName is how much of a name an operator must give.
const minName = 8

// givenUp reports whether an operator gave up a member.
func (o *Options) givenUp(name string) bool {
	return slices.ContainsFunc(o.AssumeLost, func(given string) bool {
		return given == name || len(given) >= minName && strings.HasPrefix(name, given)
	})
}

func (o *Options) names() []string {
	var names []string
	for _, m := range o.Members {
		names = append(names, m.Name)
	}
	return names
}

package blockframe

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/store"
)

// Options says where a store is and how it works. The zero value of every field
// is its default; Dirs or Backends must be given.
type Options struct {
	// Dirs are directories, each on a disk of its own if there are several.
	// Their order does not matter: a directory is known by the identity in it.
	// Open creates the store if every one is empty or absent. An empty one
	// beside others is a disk that is missing. One that [Store.AddDisk] added is named
	// from then on; one that was removed need not be, and is not used if it is.
	Dirs []string

	// Backends override Dirs as the places of shards. The caller closes them
	// after the store. LogDirs must be given with them.
	Backends []Backend

	// LogDirs override Dirs as the places of the commit log and its view. The
	// log is written to all of them. The default is the first of Dirs, as many as
	// the default code may lose shards and one more, three at most; on a single
	// directory the log is kept twice in it. Where one of them fails, or is missing
	// when two others have the log, the log goes on without it, and another of Dirs
	// takes its place.
	LogDirs []string

	// AssumeLost names copies of the commit log that are gone for good: the
	// directory, if it is there, or the identity of its disk, eight digits of it at
	// least, as ReadOnly and ErrDiverged give it. It is an operator's word: the store is opened without them, for writing,
	// where it would otherwise be read-only, and what only they held of the newest
	// changes is lost. One that comes back later is brought up to date, and what it
	// alone held is set aside in its folder log/.
	AssumeLost []string

	// Code is the code of objects that no policy gives another. The default
	// depends on the number of backends: see DefaultCode. It becomes a policy
	// when the store is created and is not looked at later.
	Code Code

	// Policies are the first set, when the store is created; later those count
	// that SetPolicy and UnsetPolicy recorded.
	Policies []Policy

	// Grace is how long what was purged stays on the disks, revived when the same
	// bytes are put again. It is recorded: 0 leaves what is in force, at first 7
	// days. Negative is none.
	Grace time.Duration

	// NoCreate makes Open fail with fs.ErrNotExist where there is no store.
	NoCreate bool

	// SlabBytes is the memory for stripes that are being written or read, in all:
	// 24 MiB, and at least a stripe of the widest code.
	SlabBytes int64

	// CacheBytes is the memory for verified blocks: 16 MiB. Negative is none.
	CacheBytes int64

	// WriteAll makes a put fail unless every shard of it is durable. Otherwise one
	// more than are needed to read suffice while disks are ill, and the rest is
	// written when they are well.
	WriteAll bool

	// NoRepair leaves damage that is found to Repair and Scrub.
	NoRepair bool

	// Upkeep is what the store does by itself while it is open: it looks at everything
	// that it keeps, now and then. The zero value is good; set Upkeep.Off in programs that
	// open a store for one thing and close it.
	Upkeep Upkeep

	// Events are called as things happen.
	Events Events

	// Logger hears of what a person should know. Nil is silent.
	Logger *slog.Logger

	fs    durable.FS       // nil: the operating system's
	clock func() time.Time // nil: time.Now
	calm  bool             // log members one after the other, for tests that record operations

	rebuild bool  // directories that are not there may be any
	still   bool  // nothing in the directories may be changed
	segment int64 // size of a segment of the log, 0: the default
	// Between two looks at what of the log is to be kept, 0: 5 s; negative: only where a test
	// asks. And segments that are sealed between two snapshots, 0: 4.
	keepPause     time.Duration
	snapshotEvery int

	pause time.Duration // before inline contents are packed, 0: as the engine has it
}

// Validate returns nil, or everything that is wrong with the options, all at once.
// Each problem matches fs.ErrInvalid.
func (o Options) Validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: options: %s", fs.ErrInvalid, fmt.Sprintf(format, args...)))
	}
	if len(o.Dirs) == 0 && len(o.Backends) == 0 {
		bad("neither Dirs nor Backends are given")
	}
	if len(o.Backends) > 0 && len(o.LogDirs) == 0 {
		bad("Backends are given and LogDirs are not: the commit log needs a directory")
	}
	if len(o.LogDirs) > maxLogs {
		bad("%d LogDirs, at most %d", len(o.LogDirs), maxLogs)
	}
	for _, list := range [][]string{o.Dirs, o.LogDirs} {
		if twice := repeated(list); twice != "" {
			bad("directory %s is given twice", twice)
		}
	}
	if o.Code != (Code{}) {
		if err := o.Code.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("options: Code: %w", err))
		}
	}
	if o.SlabBytes < 0 {
		bad("SlabBytes is %d", o.SlabBytes)
	}
	for _, p := range o.firstPolicies() {
		if err := p.Validate(o.backends()); err != nil {
			errs = append(errs, fmt.Errorf("options: %w", err))
		}
	}
	return errors.Join(errs...)
}

// maxLogs is the number of copies of the commit log at most.
const maxLogs = 8

// repeated returns a directory that is in the list twice, or "".
func repeated(list []string) string {
	seen := map[string]bool{}
	for _, dir := range list {
		clean := filepath.Clean(dir)
		if abs, err := filepath.Abs(dir); err == nil {
			clean = abs
		}
		if seen[clean] {
			return dir
		}
		seen[clean] = true
	}
	return ""
}

// backends returns the number of backends of the store to be.
func (o *Options) backends() int {
	if len(o.Backends) > 0 {
		return len(o.Backends)
	}
	return len(o.Dirs)
}

// firstPolicies returns the policies of a new store.
func (o *Options) firstPolicies() []Policy {
	policies := append([]Policy{}, o.Policies...)
	if o.Code == (Code{}) {
		return policies
	}
	for _, p := range policies {
		if p.Prefix == "" && p.MaxSize == 0 {
			return policies // says it already, for all that no other does
		}
	}
	return append(policies, Policy{Name: "default", Code: o.Code, Fragile: true})
}

// code returns the code of objects that no policy gives another.
func (o *Options) code() Code {
	for _, p := range o.firstPolicies() {
		if p.Prefix == "" && p.MaxSize == 0 && p.Code != (Code{}) {
			return p.Code
		}
	}
	return DefaultCode(o.backends())
}

// withDefaults fills in what is not given.
func (o Options) withDefaults() Options {
	if len(o.Backends) > 0 {
		o.Dirs = nil
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.fs == nil {
		o.fs = durable.OS()
	}
	if o.clock == nil {
		o.clock = time.Now
	}
	return o
}

// PutOptions says what is known of an object besides its name and bytes.
type PutOptions struct {
	// Attr is the file's mode, owner, times and extended attributes. Nil is mode
	// 0644, the owner of the process and the present; a zero ModTime in it is the
	// present too, all else is taken as it is.
	Attr *Attr

	// Size announces the number of bytes, 0 is not known. It is found out by
	// itself for files and readers of memory. A source with more or fewer makes
	// the put fail with io.ErrUnexpectedEOF.
	Size int64

	// ID is the address that the content must have, unless it is zero: otherwise
	// the put fails with ErrCorrupt.
	ID ID

	// IfVersion is the version that the name must have, 0 any. IfAbsent accepts
	// only a name that is absent or deleted. Otherwise the put fails with
	// ErrConflict.
	IfVersion uint64
	IfAbsent  bool
}

// expect translates the expectation for the catalog.
func (o *PutOptions) expect() int64 {
	switch {
	case o.IfAbsent:
		return 0
	case o.IfVersion > 0:
		return int64(o.IfVersion)
	}
	return store.AnyVersion
}

package blockframe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/blockframe/blockframe/internal/catalog"
	"github.com/blockframe/blockframe/internal/journal"
	"github.com/blockframe/blockframe/store"
)

// Store keeps objects over directories of this machine. All methods may be called
// concurrently.
type Store struct {
	homes      *homes
	dirs       bool // shards lie in homes, not in Options.Backends
	journal    *journal.Journal
	viewAt     string   // place of the view, "" if it cannot be in a home
	scratch    *scratch // its place then, or nil
	cat        *catalog.Catalog
	eng        *store.Store
	disks      disks             // registered backends, and those that were
	joining    []catalog.Backend // what a rebuild that only looks would register, nil: no others
	unaccepted bool              // the store was rebuilt
	restored   uint64            // the last record of a lost log that was found again
	log        *slog.Logger
	now        func() time.Time

	loading sync.Mutex // one reads the policies at a time
	inForce atomic.Pointer[[]Policy]
	stale   atomic.Bool // inForce lacks a change

	logRepairs logRepairs
	logsNow    chan struct{} // the log lost a copy
	logsMu     sync.Mutex    // held while copies are made
	logsLost   sync.Map      // names of copies that failed since Open
	keeper     *keeper       // nil until the store is open

	ctx    context.Context // ends when the store closes
	cancel context.CancelFunc
	mu     sync.Mutex     // held while writers grows; Close takes it to end that
	wg     sync.WaitGroup // goroutines of Writers
	once   sync.Once
	closed error // what Close returned
}

// Open opens a store, or creates it where every directory is empty or absent. The
// store is locked against other processes until Close.
//
// With directories gone, emptied or read-only the store opens, says so to the
// Logger, and serves what the others hold; [Store.ReadOnly] and [Store.Disks] tell
// what is the matter. ErrLocked names the directory that another process has open;
// ErrVersion is a store of a newer program; fs.ErrInvalid are options that make no
// sense, or directories of two stores; fs.ErrNotExist says that there is no store,
// or no copy of its log; ErrCorrupt names what all copies of the log have lost,
// or says that they lack changes which the view holds, as when all copies of the log
// alone were restored from an older backup: nothing is touched then, and it tells what
// to do. Nothing tells when the view went back with them, as it does where a backup of
// the directory that has it is restored: see [Store.Collect] for what becomes of
// objects that no record names any more, and [Rebuild] for how they get names again.
func Open(ctx context.Context, opts Options) (*Store, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	opts = opts.withDefaults()
	hs, err := openHomes(&opts)
	if err != nil {
		return nil, err
	}
	s := &Store{homes: hs, dirs: len(opts.Dirs) > 0, log: opts.Logger, logsNow: make(chan struct{}, 1),
		now: func() time.Time { return opts.clock().Round(0).UTC() }}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if err := s.setUp(ctx, &opts); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// setUp finds out whether there is a store, creates it if that is wanted, and
// starts it.
func (s *Store) setUp(ctx context.Context, o *Options) error {
	p, err := s.toCreate(ctx, o)
	if err != nil {
		return err
	}
	if p != nil {
		if err := s.homes.create(p); err != nil {
			return err
		}
	}
	if err := s.openCatalog(ctx, o, p, nil); err != nil {
		return err
	}
	if p != nil {
		err = s.found(ctx, o)
	}
	if err == nil {
		err = s.homes.finish(p != nil)
	}
	if err != nil {
		return err
	}
	return s.start(ctx, o)
}

// toCreate returns the plan of a store to be created, or to be finished, nil for
// one that exists.
func (s *Store) toCreate(ctx context.Context, o *Options) (*plan, error) {
	hs := s.homes
	if p := hs.halfMade(); p != nil {
		if p.Rebuild {
			return nil, fmt.Errorf("open store: %w: a rebuild on %v was interrupted; rebuild it again with these directories", fs.ErrNotExist, p.Paths)
		}
		if o.NoCreate {
			return nil, fmt.Errorf("open store: %w: its creation on %v was interrupted; create it again with these directories", fs.ErrNotExist, p.Paths)
		}
		return p, nil
	}
	if len(hs.logHomes()) > 0 {
		return nil, nil
	}
	if hs.first() != nil {
		return nil, fmt.Errorf("open store: no directory with a copy of the log is there: %w", cmp.Or(hs.reasons(), errNoLog))
	}
	for _, h := range hs.list {
		if h.found {
			return nil, fmt.Errorf("open store: %w: %s holds a log, but no identity", store.ErrCorrupt, h.path)
		}
	}
	if o.NoCreate || !hs.empty() {
		return nil, fmt.Errorf("open store: %w", hs.reasons())
	}
	for _, h := range hs.list {
		if err := hs.free(h); err != nil {
			return nil, fmt.Errorf("create store: %w", err)
		}
	}
	if err := unused(ctx, o.Backends); err != nil {
		return nil, err
	}
	return newPlan(hs, min(o.code().M+1, 3)), nil
}

var errNoLog = fmt.Errorf("the folder log/ is missing or empty in each: %w", fs.ErrNotExist)

// unused checks that backends for a new store hold nothing.
func unused(ctx context.Context, backends []Backend) error {
	for _, b := range backends {
		for key, err := range b.List(ctx, "", "") {
			if err != nil {
				return fmt.Errorf("create store: backend %v: %w", b.ID(), err)
			}
			return fmt.Errorf("create store: %w: backend %v holds %s, and LogDirs are empty", fs.ErrExist, b.ID(), key)
		}
	}
	return nil
}

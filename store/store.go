package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

// Options configures a Store. The zero value of every field but Catalog and
// Backends is the default.
type Options struct {
	StoreID  [16]byte
	Catalog  Catalog
	Backends []Backend   // those that are there; the caller closes them after the store
	Absent   []BackendID // registered, but not there
	Draining []BackendID // of both: they take no new shards

	// Paths are what people call the backends, in the log and in Damage; where there is
	// none its id is used.
	Paths map[BackendID]string

	// Policies returns the policies in force. Nil means none.
	Policies func() []Policy

	SlabBytes  int64         // memory for stripes under way, 24 MiB; at least a stripe of the widest code, 16 MiB
	CacheBytes int64         // memory for verified blocks, 16 MiB; negative: no cache
	Reserve    float64       // share of a backend that puts leave free, for repairs
	WriteAll   bool          // a put fails unless every shard is durable
	NoRepair   bool          // damage is queued, and repaired only by Repair and Scrub
	PackAfter  time.Duration // how long inline content waits for company, 1 minute

	Upkeep Upkeep

	// ScrubLog is called at the end of each deep pass: who keeps the commit log looks at
	// that too. Nil: nobody does.
	ScrubLog func(ctx context.Context) (LogReport, error)

	// NeedsKept is called by each collection: whether the commit log depends on streams
	// that are kept, as Keep does, and that no record names any more. They are left alone
	// then. Nil: it never does.
	NeedsKept func(ctx context.Context) (bool, error)

	Events Events
	Logger *slog.Logger // nil: silent
}

// Store puts, reads and heals objects over backends, and keeps its records in a
// catalog. All methods may be called concurrently.
type Store struct {
	opts     Options
	storeID  [16]byte
	cat      Catalog
	set      atomic.Pointer[diskSet]
	setMu    sync.Mutex // of who replaces it
	epoch    uint64
	readOnly error // why the catalog takes no records; guarded by beginning
	slabs    *slabs
	cache    *blockCache
	open     *handles
	group    *grouper
	damage   *damageLog
	pins     pins
	stats    counters
	churn    churn
	busy     atomic.Uint64 // goes up with what is read and put: see pacer
	scrubs   *scrubber
	log      *slog.Logger

	heads       *semaphore.Weighted // memory for contents read whole
	mostExtents int                 // that an object may have
	inlineBytes atomic.Int64        // put since they were packed last
	packNow     chan struct{}
	packing     turn
	repairNow   chan struct{}
	repairing   turn // one pass over the queue at a time
	healing     extentLocks
	collecting  turn
	compacting  turn
	reshaping   turn
	moving      turn             // one pass that moves shards at a time
	moveNow     chan []BackendID // what lay on these is to be made anew

	stuckMu    sync.Mutex
	stuckPacks map[UploadID]bool // with contents that could not be read

	ctx       context.Context // ends when the store closes
	cancel    context.CancelFunc
	wg        sync.WaitGroup
	reads     sync.WaitGroup // of backends, for readers
	queries   queries
	beginning sync.Mutex // one tries to begin an epoch on a disk that was full

	gate   sync.RWMutex // held while wg grows; Close takes it to end that
	once   sync.Once
	closed error // valid once Close returned
}

// New opens the store over its backends and begins an open epoch. Uploads of
// earlier epochs that no record names are garbage from here on.
func New(ctx context.Context, opts Options) (*Store, error) {
	if opts.Catalog == nil || len(opts.Backends) == 0 {
		return nil, fmt.Errorf("%w: a store needs a catalog and at least one backend", fs.ErrInvalid)
	}
	s := newStore(opts)
	disks, err := newDisks(&opts)
	if err != nil {
		return nil, err
	}
	s.set.Store(disks)
	for _, d := range disks.here {
		s.loadTrouble(ctx, d)
	}
	if err := s.begin(ctx); err != nil {
		return nil, fmt.Errorf("begin open epoch: %w", err)
	}
	s.wg.Go(s.group.run)
	s.wg.Go(s.damage.run)
	if !s.opts.Upkeep.Off {
		s.wg.Go(s.scrubs.run)
		s.wg.Go((&tender{s: s, pace: s.scrubs.pace.like()}).run)
	}
	return s, nil
}

// begin begins an open epoch and starts the work that changes things by itself. A
// catalog that takes no records makes the store read-only; one that is only full is
// asked again by whoever wants to write. s.beginning is held, or s not yet shared.
func (s *Store) begin(ctx context.Context) error {
	res, err := s.cat.Commit(ctx, Record{Commands: []Command{OpenEpoch{}}})
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, ErrNoSpace):
		s.log.Warn("store is read-only", "reason", err)
		s.readOnly = err
		return nil
	case err != nil:
		return err
	}
	s.epoch, s.readOnly = res[0].Number, nil
	s.wg.Go(s.runPacker)
	if !s.opts.NoRepair { // else what is found waits for Repair or Scrub
		s.wg.Go(s.runRepairer)
		s.wg.Go(s.runMover)
	}
	return nil
}

func newStore(opts Options) *Store {
	if opts.SlabBytes == 0 {
		opts.SlabBytes = 24 * miB
	}
	if opts.CacheBytes == 0 {
		opts.CacheBytes = 16 * miB
	}
	if opts.PackAfter == 0 {
		opts.PackAfter = time.Minute
	}
	opts.Upkeep = opts.Upkeep.withDefaults()
	if opts.Policies == nil {
		opts.Policies = func() []Policy { return nil }
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Store{opts: opts, storeID: opts.StoreID, cat: opts.Catalog, log: opts.Logger,
		slabs: newSlabs(opts.SlabBytes), cache: newBlockCache(opts.CacheBytes)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.mostExtents = maxExtents
	s.heads, s.packNow = semaphore.NewWeighted(headBytes), make(chan struct{}, 1)
	s.repairNow, s.stuckPacks = make(chan struct{}, 1), map[UploadID]bool{}
	s.packing, s.repairing, s.collecting, s.compacting = newTurn(), newTurn(), newTurn(), newTurn()
	s.reshaping, s.moving = newTurn(), newTurn()
	s.moveNow = make(chan []BackendID)
	s.open, s.group, s.damage = newHandles(s), newGrouper(s), newDamageLog(s)
	s.scrubs = newScrubber(s, newPacer(s, opts.Upkeep.Rate, true))
	return s
}

const (
	discardTime = 10 * time.Second // spent on removing the blobs of a failed put
	closeTime   = 10 * time.Second // that Close waits for background work
)

// Close ends background work and waits for it. It is never needed for
// durability. Readers that are open fail from here on.
//
// A call that a backend does not come back from is not waited for longer than a second:
// it ends when the backend lets it, and leaves nothing that a record names. If background
// work does not end within ten seconds all the same, the error says so, and matches
// ErrUnavailable.
func (s *Store) Close() error {
	s.once.Do(func() { s.closed = s.shut() })
	return s.closed
}

func (s *Store) shut() (err error) {
	s.damage.flush(context.Background())
	s.saveTrouble(context.Background())
	s.gate.Lock()
	s.cancel()
	s.gate.Unlock()
	if !endsWithin(&s.wg, closeTime) {
		err = fmt.Errorf("close store: %w: background work does not end: a backend does not answer", ErrUnavailable)
	}
	s.queries.close()
	endsWithin(&s.reads, leaveTime)
	s.open.close()
	s.cache.drop()
	return err
}

// over returns why work that takes long is to end, nil if it is not: its context did, or
// the store is closed.
func (s *Store) over(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.ctx.Err() != nil {
		return fmt.Errorf("store: %w", fs.ErrClosed)
	}
	return nil
}

// endsWithin waits for a group, at most so long, and reports whether it ended.
func endsWithin(wg *sync.WaitGroup, d time.Duration) bool {
	ended := make(chan struct{})
	go func() { wg.Wait(); close(ended) }()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ended:
		return true
	case <-timer.C:
		return false
	}
}

// spawn runs f in a goroutine that Close waits for: it ends soon when the context of the
// store does. After Close f is called at once with fs.ErrClosed, else with nil.
func (s *Store) spawn(f func(err error)) { s.spawnIn(&s.wg, f) }

// spawnRead is spawn for a read of a backend, which may not come back: Close does not
// wait for that.
func (s *Store) spawnRead(f func(err error)) { s.spawnIn(&s.reads, f) }

func (s *Store) spawnIn(wg *sync.WaitGroup, f func(err error)) {
	s.gate.RLock()
	defer s.gate.RUnlock()
	if s.ctx.Err() != nil {
		f(fmt.Errorf("store: %w", fs.ErrClosed))
		return
	}
	wg.Go(func() { f(nil) })
}

// Epoch returns the open epoch of the store.
func (s *Store) Epoch() uint64 { return s.epoch }

// commitOne commits a record of one command.
func (s *Store) commitOne(ctx context.Context, c Command) error {
	res, err := s.cat.Commit(ctx, Record{Commands: []Command{c}})
	if err != nil {
		return err
	}
	return res[0].Err
}

// refuses returns why the catalog takes no records, also while the store closes.
func (s *Store) refuses() error {
	s.beginning.Lock()
	defer s.beginning.Unlock()
	return s.readOnly
}

// writable returns why the store takes no puts, or nil.
func (s *Store) writable() error {
	s.gate.RLock() // Close waits until an epoch that is being begun has begun
	defer s.gate.RUnlock()
	if err := s.ctx.Err(); err != nil {
		return fmt.Errorf("store: %w", fs.ErrClosed)
	}
	s.beginning.Lock()
	defer s.beginning.Unlock()
	if errors.Is(s.readOnly, ErrNoSpace) {
		if err := s.begin(s.ctx); err != nil {
			return err
		}
	}
	return s.readOnly
}

package catalog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/journal"
	"github.com/blockframe/blockframe/internal/kv"
	"github.com/blockframe/blockframe/store"
)

// Options says what a Catalog is made of.
type Options struct {
	FS      durable.FS
	Dir     string // of the view: disposable, nothing else lives in it
	StoreID [16]byte

	// Journal holds the records. It stays the caller's, who closes it after the
	// catalog.
	Journal *journal.Journal

	// Sequencer puts records in order; nil means a Local one over Journal, made
	// from the next fields.
	Sequencer  Sequencer
	NodeID     [16]byte
	Clock      func() time.Time     // the time of day, nil: time.Now
	Elapsed    func() time.Duration // since some moment, by a clock that cannot be set; nil: the process's
	ProveAfter time.Duration        // from the last ack to the proof of its frame, 0: 50 ms; negative: only at Close

	// Grace, unless 0, is set by a SetGrace at Open if another is in force;
	// negative is none at all.
	Grace time.Duration

	Front  int // bytes of rows that wait to be written to Pebble, 0: 4 MiB
	Inline int // bytes of contents in memory that wait to be packed, 0: 16 MiB

	// Saved finds the snapshots and segments that are kept outside of the log, the one
	// with the newest records first, without this catalog. Nil: there are none.
	Saved func(ctx context.Context, kind store.Kind) ([]Saved, error)

	Rows     []RowSet
	MemTable int   // bytes, see kv.Options
	Cache    int64 // bytes, see kv.Options
	Logger   *slog.Logger
}

// Sequencer puts records in one order, makes them durable, and has them applied.
type Sequencer interface {
	// Start is called once, by Open, when m holds every record of the log.
	Start(m Machine) error

	// Propose has the record stamped, logged and applied, and returns its
	// results: see store.Catalog.Commit for the errors.
	Propose(ctx context.Context, rec store.Record) ([]store.Result, error)

	// Close ends the proposals under way and waits for what it started.
	Close() error
}

// Machine is what a Sequencer drives.
type Machine interface {
	// Apply applies durable records, the first of which has that index, and
	// returns the results of each. It may take long: a view that fails is made
	// anew on the way. After durable.ErrNoSpace the same records are to be
	// applied again when there may be room; after any other error nothing can be
	// applied until the catalog is opened again.
	Apply(first uint64, records [][]byte) ([][]store.Result, error)

	// Ready returns nil, or why a record had better not be logged now.
	Ready() error

	Applied() uint64    // index of the newest record applied
	LogTime() time.Time // its log time
}

// Catalog is a store.Catalog over a log and a view of it. All methods may be
// called concurrently.
type Catalog struct {
	opts Options
	log  *slog.Logger
	seq  Sequencer

	mu     sync.Mutex // held over Apply and over making the view anew
	broken error      // why nothing can be applied or read any more
	dir    uint64     // number of the view's directory
	fresh  int64      // bytes of records since the view was flushed
	when   time.Time  // of the last flush
	retry  time.Time  // when to try again to make the view anew, if broken is a lack of room

	making sync.Mutex // held over making a view, and while records are to leave the log; c.mu comes first

	settled chan struct{} // closed when the settling under way has ended, nil without one

	view   atomic.Pointer[view]
	meta   atomic.Pointer[meta] // as of the newest record applied
	closed atomic.Bool
}

// Open opens the catalog: the view is brought up to the end of the log, or made
// anew if it is absent, damaged or of another store. Errors are those of the log,
// frame.ErrVersion for a record of a newer blockframe, durable.ErrNoSpace, and
// frame.ErrCorrupt for a log that lacks records which the view holds: they were
// acknowledged, and neither the log nor the view is touched.
func Open(opts Options) (*Catalog, error) {
	if opts.Journal == nil || opts.FS == nil || opts.Dir == "" {
		return nil, invalid("a catalog needs a journal and a directory for its view")
	}
	c := &Catalog{opts: opts, log: opts.Logger, seq: opts.Sequencer}
	if c.opts.Front == 0 {
		c.opts.Front = frontBytes
	}
	if c.opts.Inline == 0 {
		c.opts.Inline = inlineBytes
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if err := c.openView(); err != nil {
		return nil, fmt.Errorf("catalog: %w", err)
	}
	if c.seq == nil {
		c.seq = NewLocal(LocalOptions{Journal: opts.Journal, NodeID: opts.NodeID, Clock: opts.Clock,
			Elapsed: opts.Elapsed, ProveAfter: opts.ProveAfter, Logger: c.log})
	}
	err := c.seq.Start(c)
	if err == nil {
		err = c.setGrace()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("catalog: %w", err), c.Close())
	}
	return c, nil
}

// setGrace logs the grace that Options ask for.
func (c *Catalog) setGrace() error {
	want := max(0, c.opts.Grace)
	if c.opts.Grace == 0 || c.meta.Load().grace == want {
		return nil
	}
	_, err := c.Commit(context.Background(), store.Record{Commands: []store.Command{SetGrace{want}}})
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, durable.ErrNoSpace) {
		return nil // nothing will be condemned either
	}
	return err
}

// Commit implements store.Catalog. An error that matches fs.ErrPermission means
// that the log is read-only, with the reason; durable.ErrNoSpace, that it may be
// tried again when there is room; fs.ErrInvalid, that a command is no command.
func (c *Catalog) Commit(ctx context.Context, rec store.Record) ([]store.Result, error) {
	if c.closed.Load() {
		return nil, fmt.Errorf("catalog: %w", fs.ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(rec.Commands) == 0 {
		return nil, nil
	}
	return c.seq.Propose(ctx, rec)
}

// LogTime returns the log time of the newest record applied.
func (c *Catalog) LogTime() time.Time { return nanoTime(c.meta.Load().time) }

// Applied returns the index of the newest record applied.
func (c *Catalog) Applied() uint64 { return c.meta.Load().applied }

// Epoch returns the open epoch of the store.
func (c *Catalog) Epoch() uint64 { return c.meta.Load().epoch }

// Grace returns how long an unreferenced upload stays revivable.
func (c *Catalog) Grace() time.Duration { return c.meta.Load().grace }

// Counts returns the totals as of the newest record applied.
func (c *Catalog) Counts() Counts { return c.meta.Load().counts }

// RowsRead returns how many rows on disk were looked at since the view was opened.
func (c *Catalog) RowsRead() int64 { return c.view.Load().db.Reads() }

// Ready implements Machine.
func (c *Catalog) Ready() error {
	if db := c.view.Load().db; db.Failed() == nil && db.Full() {
		return fmt.Errorf("catalog: view: %w", durable.ErrNoSpace)
	}
	return nil
}

// Close ends the sequencer and writes the view out, so that the next Open has
// nothing to replay. It is not needed for durability, and does not wait for room.
// The journal stays open.
func (c *Catalog) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	c.view.Load().db.Impatient() // from here on nothing waits for a full disk
	err := c.seq.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.view.Load()
	if c.fresh > 0 && c.broken == nil && !v.db.Full() {
		if ferr := v.flush(c.Applied()); ferr != nil {
			c.log.Warn("view not written out", "err", kv.Brief(ferr)) // it is made again
		}
	}
	if c.settled != nil {
		<-c.settled
	}
	if cerr := v.db.Close(); cerr != nil {
		c.log.Warn("view not closed well", "err", kv.Brief(cerr))
	}
	return err
}

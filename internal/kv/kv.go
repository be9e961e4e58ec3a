// Package kv keeps ordered rows in Pebble as a disposable view: whatever it
// holds can be made again from the commit log, so it never answers from doubt.
//
// The three calls that matter are [Open], [DB.NewBatch] with [Batch.Commit],
// and [DB.Snapshot]. Pebble runs without a log of its own: a crash takes the
// rows back to some earlier batch boundary, and the owner replays from there.
//
// A view that fails, stays failed. The first damaged block, failed background
// write or fatal message of Pebble poisons the DB: every call from then on
// returns an error that matches [ErrFailed], and the owner rebuilds the view in
// another directory. Pebble's default fatal handler ends the process, and one
// that returns makes a commit that failed report success; here it does neither
// (see guard.go).
//
// A full disk is not a failure. Once the DB is [DB.Patient], writes that find no
// room wait for it, [DB.Full] says so, and reads go on.
package kv

import (
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"

	"github.com/blockframe/blockframe/internal/durable"
)

// ErrFailed is matched by the errors of a DB that is not to be trusted any more.
// The cure is to make its content again elsewhere.
var ErrFailed = errors.New("blockframe: view failed")

// ErrClosed is matched by the errors of calls after Close.
var ErrClosed = errors.New("blockframe: view closed")

// format is the version of Pebble's files that we write: the first whose table
// footers carry a checksum, so that no flipped bit of a table goes unseen. A
// view of another version is rebuilt, never migrated.
const format = pebble.FormatTableFormatV6

// Options says where a DB is and how much memory it may take.
type Options struct {
	FS     durable.FS
	Dir    string       // made if need be; nothing else lives in it
	Logger *slog.Logger // nil: silent

	// MemTable is the size, in bytes, at which rows in memory are written out,
	// 0 for 4 MiB. At most two such tables are in memory at once.
	MemTable int

	// Cache is the memory for blocks of tables, in bytes, 0 for 24 MiB.
	Cache int64
}

// DB is an open view. All methods may be called concurrently, but that batches
// are committed one at a time.
type DB struct {
	pebble      *pebble.DB
	guard       *guard
	files       *gateFS
	compactions *scheduler

	refs   atomic.Int64 // 1 for the owner until Close, 1 for each read in progress
	reads  atomic.Int64
	inside atomic.Int64 // 1 for all of refs, 1 for each call of run that Pebble has not returned from
	closed atomic.Bool
}

// KV is one row. The slices are valid until the next step of the iteration.
type KV struct{ Key, Value []byte }

// Open opens the view in opts.Dir, or makes an empty one. An error that matches
// durable.ErrNoSpace asks for room; after any other the directory is best
// removed with [Destroy] and the view made anew.
func Open(opts Options) (*DB, error) {
	db := &DB{guard: newGuard(opts.Logger)}
	db.files = newGateFS(opts.FS.Pebble(), db.guard)
	db.refs.Store(1)
	db.inside.Store(1)
	db.compactions = newScheduler(db.guard.failed)
	err := db.finish(func() (err error) {
		o := db.pebbleOptions(opts)
		o.Experimental.CompactionScheduler = db.compactions
		if db.pebble, err = pebble.Open(opts.Dir, o); err != nil {
			return err
		}
		return db.ahead()
	})
	if failed := db.Failed(); failed != nil {
		err = failed
	}
	if err != nil {
		db.Close()
		return nil, fmt.Errorf("view %s: %w", opts.Dir, durable.Classify(err))
	}
	db.compactions.start()
	return db, nil
}

// errAhead is what is wrong with a view whose tables hold rows that it does not see yet.
var errAhead = errors.New("the manifest lacks the number of the newest row")

// ahead returns an error if a table holds a row that is newer than what a batch writes
// now. Pebble takes a damaged record for the end of its manifest, and the number of the
// newest row comes only after the list of tables: without it the rows of the tables
// are hidden, and show up one by one as new ones are numbered.
func (db *DB) ahead() error {
	b := db.pebble.NewBatch()
	defer b.Close()
	if err := b.Delete([]byte{0}, nil); err != nil { // there is no such row
		return err
	}
	if err := b.Commit(pebble.NoSync); err != nil {
		return err
	}
	levels, err := db.pebble.SSTables()
	if err != nil {
		return err
	}
	for _, tables := range levels {
		for _, t := range tables {
			if t.LargestSeqNum >= b.SeqNum() {
				return fmt.Errorf("%w: table %v holds row %d, the next is %d", errAhead, t.FileNum, t.LargestSeqNum, b.SeqNum())
			}
		}
	}
	return nil
}

// Destroy removes the view in dir. It must not be open.
func Destroy(fs durable.FS, dir string) error { return fs.RemoveAll(dir) }

func (db *DB) pebbleOptions(opts Options) *pebble.Options {
	events := db.guard.events()
	o := &pebble.Options{
		FS:                 db.files,
		DisableWAL:         true,
		FormatMajorVersion: format,
		Logger:             db.guard,
		EventListener:      &events,
		MemTableSize:       uint64(opts.MemTable),
		CacheSize:          opts.Cache,
		MaxOpenFiles:       256,
	}
	if o.MemTableSize == 0 {
		o.MemTableSize = 4 << 20
	}
	if o.CacheSize == 0 {
		o.CacheSize = 24 << 20
	}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return o
}

// Failed returns nil, or the first reason not to trust the view. It matches
// ErrFailed.
func (db *DB) Failed() error { return db.guard.err() }

// Failing is closed once the view has failed.
func (db *DB) Failing() <-chan struct{} { return db.guard.failed }

// Patient makes writes that find the disk full wait until there is room or the
// DB is closed. Before, they fail the view.
func (db *DB) Patient() { db.files.patient.Store(true) }

// Impatient ends the waiting, that under way too: a write that finds no room
// fails the view from here on.
func (db *DB) Impatient() { db.files.giveUp() }

// Full reports whether a write of the view waits for room. Commits go on until
// the rows in memory have no room either, and wait then: ask before.
func (db *DB) Full() bool { return db.files.waiting.Load() > 0 }

// Flush writes all rows out. On disk when it returns.
func (db *DB) Flush() error {
	if err := db.acquire(); err != nil {
		return err
	}
	defer db.release()
	return db.run(db.pebble.Flush)
}

// FlushSoon starts what Flush does and does not wait for its end.
func (db *DB) FlushSoon() error {
	if err := db.acquire(); err != nil {
		return err
	}
	defer db.release()
	return db.run(func() error {
		_, err := db.pebble.AsyncFlush()
		return err
	})
}

// Close releases the view without flushing it. Reads in progress end with
// ErrClosed at their next step; the last of them releases the files. But nothing is
// changed any more when Close returns: the view may be opened again then. Closing
// again does nothing.
func (db *DB) Close() error {
	if db.closed.Swap(true) {
		return nil
	}
	db.files.giveUp()
	if db.refs.Add(-1) == 0 {
		return db.leave()
	}
	// What Pebble is at comes to nothing, as in a crash.
	db.compactions.end()
	db.files.sever()
	if db.Failed() == nil {
		db.files.settle()
	}
	return nil
}

// acquire keeps Pebble open until release.
func (db *DB) acquire() error {
	for {
		n := db.refs.Load()
		if n <= 0 || db.closed.Load() {
			return ErrClosed
		}
		if !db.refs.CompareAndSwap(n, n+1) {
			continue
		}
		if err := db.Failed(); err != nil {
			db.release()
			return err
		}
		return nil
	}
}

func (db *DB) release() error {
	if db.refs.Add(-1) > 0 {
		return nil
	}
	return db.leave()
}

// leave ends one count of inside. The last to leave closes Pebble: the caller of
// Close, a read that outlived it, or a call that was left behind in a view that
// failed. Pebble cannot be closed while such a call is on its way.
//
// BUG(kv): a commit that waits for compactions, in a view that failed, waits for ever,
// since there are none any more. Such a Pebble is not closed: its memory and files
// stay until the process ends.
func (db *DB) leave() error {
	if db.inside.Add(-1) > 0 {
		return nil
	}
	defer db.files.sever()
	if db.guard.fatal.Load() || db.pebble == nil {
		// A goroutine stands still inside Pebble, maybe with its locks held, and
		// closing would stand behind it; or Pebble did not open.
		return nil
	}
	close(db.guard.closing)
	err := db.finish(db.pebble.Close)
	if db.Failed() != nil {
		return nil // told already
	}
	return err
}

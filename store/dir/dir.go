// Package dir keeps blobs as files of one directory, on one disk: a
// [store.Backend].
//
//	err := dir.Init(nil, "/mnt/d1", dir.InitOptions{Store: storeID})
//	b, err := dir.Open(nil, "/mnt/d1", dir.Options{})
//	err = b.Close()
//
// The first argument is where the files are, nil for those of the operating system:
// others are for tests of this module.
//
// The directory holds
//
//	FORMAT.txt   what this is, in plain words, for whoever finds the disk
//	LOCK         locked while a process has the backend open
//	id           who this is: store and disk, see [Identity]
//	tmp/         blobs being written; emptied by Open
//	data/HH/     blobs, by the first two digits of their key; 256 folders
//
// and, made by others, log/ and view/. Whatever else lies there is left alone
// and counted. A blob is written to tmp/, synced, renamed into its folder, and
// the folder is synced: it is whole or it is not there. A blob is never changed
// after that.
//
// The format of blobs is specified in the package comment of [store]. The layout
// above and the identity are versioned by the latter; every version can be
// opened, or refused with store.ErrVersion.
package dir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/store"
)

// Names in the directory.
const (
	formatName = "FORMAT.txt"
	lockName   = "LOCK"
	idName     = "id"
	tmpName    = "tmp"
	dataName   = "data"
)

// folders is how many folders data/ has, named 00 to ff.
const folders = 256

// Options says how a Backend behaves. The zero value is right for most.
type Options struct {
	// Buffered writes blobs through the page cache. Otherwise they go past it
	// where the filesystem lets them, which is faster and steadier, and leaves
	// the cache to those who read.
	Buffered bool

	// ReadOnly changes nothing: every change is refused, and what a crash left stays.
	ReadOnly bool

	// Logger is told what Open cleaned up and what could not be removed. Nil
	// is silent.
	Logger *slog.Logger
}

// Backend is a directory. It must be closed.
//
// After a sync that failed, what is on the disk is not known, and the next one
// may well say that all is good (Rebello et al., "Can Applications Recover from
// fsync Failures?", USENIX ATC 2020). So from then on every change is refused
// with store.ErrUnavailable, until the backend is opened anew. Reads go on.
type Backend struct {
	fs   durable.FS
	path string
	id   Identity
	opts Options
	log  *slog.Logger
	lock io.Closer // nil if the directory cannot be written to
	dirs *dirSyncer

	temps  atomic.Uint64         // names in tmp/ given out
	broken atomic.Pointer[error] // why changes are refused
	stray  strays

	mu       sync.Mutex
	closed   bool
	changes  sync.WaitGroup // under way; none is added once closed is set
	released chan struct{}  // closed once the lock is, with err
	err      error
}

var _ store.Backend = (*Backend)(nil)

// Open opens a directory that Init made, and locks it: store.ErrLocked if it is
// open already, here or in another process. It is fs.ErrNotExist if the
// directory is missing or empty, as a disk that is not mounted looks; store.ErrCorrupt
// or ErrVersion if there are blobs but no identity that can be read. A
// directory that cannot be written to is opened for reading, without a lock.
// What a crash left in tmp/ is removed. fsys is nil for the operating system's files.
func Open(fsys durable.FS, path string, opts Options) (*Backend, error) {
	fsys = orOS(fsys)
	b := &Backend{fs: fsys, path: path, opts: opts, log: opts.Logger, dirs: newDirSyncer(fsys), released: make(chan struct{})}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	id, err := ReadIdentity(fsys, path)
	if err != nil {
		return nil, err
	}
	b.id = id
	b.lock, err = b.take()
	if isReadOnly(err) {
		b.refuse(err)
		b.log.Warn("opened for reading only", "dir", path, "err", err)
	} else if err != nil {
		return nil, err
	} else if opts.ReadOnly {
		b.refuse(fmt.Errorf("%w: opened for reading", fs.ErrPermission))
	} else if err := b.tidy(); err != nil {
		return nil, errors.Join(err, b.lock.Close())
	}
	b.countTop()
	return b, nil
}

// take locks the directory. Where nothing may change, a lock that was never made is not
// made: then no process ever had the directory open.
func (b *Backend) take() (io.Closer, error) {
	if b.opts.ReadOnly {
		if _, err := b.fs.Stat(b.at(lockName)); err != nil {
			return nil, fmt.Errorf("%w: opened for reading", fs.ErrPermission)
		}
	}
	return b.fs.Lock(b.at(lockName))
}

// orOS returns the operating system's files if fsys is nil.
func orOS(fsys durable.FS) durable.FS {
	if fsys == nil {
		return durable.OS()
	}
	return fsys
}

// isReadOnly reports whether err says that a file may be read at most.
func isReadOnly(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS)
}

// at returns the place of something in the directory.
func (b *Backend) at(elem ...string) string {
	return path.Join(append([]string{b.path}, elem...)...)
}

// blob returns the place of a blob, and of its folder.
func (b *Backend) blob(key store.BackendKey) (name, folder string) {
	return b.at(dataName, string(key)), b.at(dataName, string(key[:2]))
}

// ID returns the identity of the disk.
func (b *Backend) ID() store.BackendID { return b.id.Disk }

// Identity returns who the directory is.
func (b *Backend) Identity() Identity { return b.id }

// Path returns the directory, as it was given to Open.
func (b *Backend) Path() string { return b.path }

// Err returns nil, or why changes are refused. It matches store.ErrUnavailable.
func (b *Backend) Err() error {
	if reason := b.broken.Load(); reason != nil {
		return fmt.Errorf("%s takes no changes until it is opened anew: %w: %w", b.path, store.ErrUnavailable, *reason)
	}
	return nil
}

// refuse makes every later change fail, because of reason.
func (b *Backend) refuse(reason error) { b.broken.CompareAndSwap(nil, &reason) }

// Remove removes a blob. It is gone for good when Remove returns, also if it
// was absent: an earlier Remove may have been cut short before its sync.
func (b *Backend) Remove(ctx context.Context, key store.BackendKey) error {
	if err := errors.Join(key.Validate(), ctx.Err()); err != nil {
		return err
	}
	return b.change(func() error {
		name, folder := b.blob(key)
		if err := b.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		// A crash here may bring the blob back, whole.
		err := b.syncFolder(folder)
		if errors.Is(err, fs.ErrNotExist) {
			return b.gone(nil)
		}
		return err
	})
}

// change calls do unless changes are refused.
func (b *Backend) change(do func() error) error {
	return b.whileOpen(func() error {
		if err := b.Err(); err != nil {
			return err
		}
		return do()
	})
}

// whileOpen calls do unless the backend is closed, and keeps Close from pulling the lock
// away meanwhile.
func (b *Backend) whileOpen(do func() error) error {
	if !b.begin() {
		return b.isClosed()
	}
	defer b.changes.Done()
	return do()
}

// begin reports whether a change may begin. The caller says when it is done.
func (b *Backend) begin() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.changes.Add(1)
	}
	return !b.closed
}

func (b *Backend) hasClosed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

func (b *Backend) isClosed() error {
	return fmt.Errorf("%s: %w: %w", b.path, store.ErrUnavailable, fs.ErrClosed)
}

// syncFolder makes the entries of a folder durable. If that fails, the backend
// takes no more changes; a folder that is not there is no such failure.
func (b *Backend) syncFolder(folder string) error {
	err := b.dirs.sync(folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		b.refuse(err)
	}
	return err
}

// gone is called when something is absent. It returns absent, or
// store.ErrUnavailable when the whole directory is: a disk that was unmounted or
// emptied has not lost one blob.
func (b *Backend) gone(absent error) error {
	if _, err := b.fs.Stat(b.at(idName)); err != nil {
		return fmt.Errorf("%s was emptied or unmounted: %w: %w", b.path, store.ErrUnavailable, err)
	}
	return absent
}

// Usage returns the space of the filesystem. Blobs are not counted. Stray is
// the number of files that are not ours: at the top as of Open, in each folder
// as of the last time it was listed.
func (b *Backend) Usage(ctx context.Context) (store.Usage, error) {
	if err := ctx.Err(); err != nil {
		return store.Usage{}, err
	}
	total, free, err := b.fs.Usage(b.path)
	if errors.Is(err, fs.ErrNotExist) {
		err = b.gone(err)
	}
	// Space on a disk that takes no changes is of no use.
	return store.Usage{Total: total, Free: free, Blobs: -1, Stray: b.stray.count()}, errors.Join(err, b.Err())
}

// closePatience is how long Close waits for changes under way: as long as Linux gives a
// disk before it resets it.
const closePatience = 30 * time.Second

// Close waits for changes under way, and releases the lock. Readers stay good. If a disk
// does not come back from a change, Close ends after half a minute with
// store.ErrUnavailable: the directory stays locked until the change ends, or the process.
func (b *Backend) Close() error {
	if b.close() {
		go b.release()
	}
	over := time.NewTimer(closePatience)
	defer over.Stop()
	select {
	case <-b.released:
		return b.err
	case <-over.C:
		return fmt.Errorf("%w: a change of %s does not end; it stays locked until that does, or the process ends", store.ErrUnavailable, b.path)
	}
}

// close lets no change begin, and reports whether it is the first to do so.
func (b *Backend) close() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	first := !b.closed
	b.closed = true
	return first
}

// release waits for changes under way, and releases the lock.
func (b *Backend) release() {
	defer close(b.released)
	b.changes.Wait()
	if b.lock != nil {
		b.err = b.lock.Close()
	}
}

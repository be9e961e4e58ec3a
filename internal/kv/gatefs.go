package kv

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/blockframe/blockframe/internal/durable"
)

// pause is the time between two tries of a write that found no room.
const pause = 100 * time.Millisecond

// gateFS stands between Pebble and its files. It turns a full disk into waiting; a
// change that fails otherwise fails the view; and in a view that has failed, changes
// do not happen any more, and succeed. So the disk holds what a power cut at that
// moment might have left.
//
// Pebble hears of no failed change, because its answers are worse than a lie told to
// one who is never asked again. It tries a flush again, at once and for ever. Where
// its manifest cannot be written it calls Fatalf with its locks held, after which it
// cannot be closed. And where its directory cannot be synced it panics on a goroutine
// of its own: the end of the process. As it is, flushes end, who waits for them goes
// on, and Pebble can be closed.
//
// Locks are granted without a file: who may open the view is settled by the lock of
// the directory above.
type gateFS struct {
	vfs.FS
	patient atomic.Bool
	waiting atomic.Int64
	severed atomic.Bool
	changes sync.RWMutex // held by each change
	once    sync.Once
	ended   chan struct{} // closed: nobody waits any more

	poison func(error)
	rest   func()
	failed <-chan struct{} // closed once the view has failed
}

func newGateFS(below vfs.FS, g *guard) *gateFS {
	return &gateFS{FS: below, ended: make(chan struct{}), failed: g.failed, poison: g.poison, rest: g.rest}
}

// giveUp ends all waiting: what has no room fails.
func (g *gateFS) giveUp() { g.once.Do(func() { close(g.ended) }) }

// sever has no change happen from here on, whatever goroutines of Pebble there are. One
// may be under way still: see settle.
func (g *gateFS) sever() { g.severed.Store(true) }

// settle waits for the changes under way.
func (g *gateFS) settle() {
	g.changes.Lock()
	defer g.changes.Unlock()
}

// cut reports whether changes do not happen any more.
func (g *gateFS) cut() bool {
	select {
	case <-g.failed:
		return true
	default:
		return g.severed.Load()
	}
}

// change makes one change, unless none happens any more.
func (g *gateFS) change(op func() error) error {
	g.changes.RLock()
	defer g.changes.RUnlock()
	if g.cut() {
		return nil
	}
	return durable.Classify(op())
}

// try makes one change, again and again while there is no room for it. It counts as
// waiting all the while, during each try too: who is let through in between for every one
// of them makes rows gather without end.
func (g *gateFS) try(op func() error) {
	for waits := false; ; waits = true {
		err := g.change(op)
		if err == nil {
			return
		}
		if !errors.Is(err, durable.ErrNoSpace) || !g.patient.Load() {
			g.poison(err)
			continue // the next try is none
		}
		if !waits {
			g.waiting.Add(1)
			defer g.waiting.Add(-1)
		}
		if !g.wait() {
			g.poison(err)
		}
	}
}

// direct makes one change, once.
func (g *gateFS) direct(op func() error) {
	if err := g.change(op); err != nil {
		g.poison(err)
	}
}

// wait reports whether another try makes sense.
func (g *gateFS) wait() bool {
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-g.failed:
		return true // that try is none
	case <-g.ended:
		return false
	}
}

func (g *gateFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return g.open(func() (vfs.File, error) { return g.FS.Create(name, c) })
}

func (g *gateFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return g.open(func() (vfs.File, error) { return g.FS.OpenReadWrite(name, c, opts...) })
}

func (g *gateFS) ReuseForWrite(old, new string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return g.open(func() (vfs.File, error) { return g.FS.ReuseForWrite(old, new, c) })
}

// open returns what op opens, or else a file that is nowhere.
func (g *gateFS) open(op func() (vfs.File, error)) (vfs.File, error) {
	var file vfs.File
	g.try(func() error {
		f, err := op()
		if err == nil {
			file = f
		}
		return err
	})
	if file == nil {
		var err error
		if file, err = vfs.NewMem().Create("nowhere", vfs.WriteCategoryUnspecified); err != nil {
			return nil, err
		}
	}
	return &gateFile{File: file, gate: g}, nil
}

func (g *gateFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := g.FS.Open(name, opts...)
	if err != nil {
		g.rest()
		return nil, err
	}
	return &gateReader{File: f, gate: g}, nil
}

func (g *gateFS) OpenDir(name string) (vfs.File, error) {
	f, err := g.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &gateDir{File: f, gate: g}, nil
}

func (g *gateFS) Link(old, new string) error {
	g.try(func() error { return g.FS.Link(old, new) })
	return nil
}

func (g *gateFS) Rename(old, new string) error {
	g.try(func() error { return g.FS.Rename(old, new) })
	return nil
}

func (g *gateFS) MkdirAll(dir string, perm os.FileMode) error {
	g.try(func() error { return g.FS.MkdirAll(dir, perm) })
	return nil
}

// What cannot be removed only takes room: the view does not fail.

func (g *gateFS) Remove(name string) error {
	return g.change(func() error { return g.FS.Remove(name) })
}

func (g *gateFS) RemoveAll(name string) error {
	return g.change(func() error { return g.FS.RemoveAll(name) })
}

func (g *gateFS) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

func (g *gateFS) Unwrap() vfs.FS { return g.FS }

// gateReader is a file that Pebble reads.
type gateReader struct {
	vfs.File
	gate *gateFS
}

func (f *gateReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	if err != nil {
		f.gate.rest()
	}
	return n, err
}

// gateFile is a file that Pebble writes.
type gateFile struct {
	vfs.File
	gate *gateFS
}

func (f *gateFile) Write(p []byte) (int, error) {
	n := 0
	f.gate.try(func() error {
		m, err := f.File.Write(p[n:])
		n += m
		return err
	})
	return len(p), nil
}

func (f *gateFile) WriteAt(p []byte, off int64) (int, error) {
	n := 0
	f.gate.try(func() error {
		m, err := f.File.WriteAt(p[n:], off+int64(n))
		n += m
		return err
	})
	return len(p), nil
}

// Preallocate is a wish: the write that follows says what became of it.
func (f *gateFile) Preallocate(off, length int64) error {
	return f.gate.change(func() error { return f.File.Preallocate(off, length) })
}

// A failed sync is not tried again, for lack of room either: what it did not
// write may be gone, and the next one would report success.

func (f *gateFile) Sync() error {
	f.gate.direct(f.File.Sync)
	return nil
}

func (f *gateFile) SyncData() error {
	f.gate.direct(f.File.SyncData)
	return nil
}

func (f *gateFile) SyncTo(length int64) (full bool, err error) {
	f.gate.direct(func() (err error) { full, err = f.File.SyncTo(length); return err })
	return full, nil
}

// Close closes the file in any case, so that no descriptor is lost.
func (f *gateFile) Close() error {
	if err := f.File.Close(); err != nil {
		f.gate.poison(err)
	}
	return nil
}

// gateDir is a directory that Pebble syncs.
type gateDir struct {
	vfs.File
	gate *gateFS
}

func (d *gateDir) Sync() error {
	d.gate.direct(d.File.Sync)
	return nil
}

func (d *gateDir) SyncData() error { return d.Sync() }

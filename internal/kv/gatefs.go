package kv

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/blockframe/blockframe/internal/durable"
)

// errSevered is what an abandoned Pebble gets from its files.
var errSevered = errors.New("view was given up")

// pause is the time between two tries of a write that found no room.
const pause = 100 * time.Millisecond

// gateFS stands between Pebble and its files. It turns a full disk into waiting,
// because Pebble answers a failed flush by an immediate next try, and a failed
// write of its manifest by Fatalf. And it is where an abandoned Pebble is cut
// off, so that it does not write beside its successor.
//
// Locks are granted without a file: who may open the view is settled by the lock
// of the directory above, and an abandoned Pebble must not hold one.
type gateFS struct {
	vfs.FS
	patient atomic.Bool
	waiting atomic.Int64
	severed atomic.Bool
	once    sync.Once
	ended   chan struct{} // closed: nobody waits any more

	poison    func(error)
	rest      func()
	failed    <-chan struct{} // closed once the view has failed
	abandoned atomic.Bool     // Pebble cannot be closed
}

func newGateFS(below vfs.FS, g *guard) *gateFS {
	return &gateFS{FS: below, ended: make(chan struct{}), failed: g.failed, poison: g.poison, rest: g.rest}
}

// giveUp ends all waiting: what has no room fails.
func (g *gateFS) giveUp() { g.once.Do(func() { close(g.ended) }) }

// sever makes every later change fail.
func (g *gateFS) sever() {
	g.severed.Store(true)
	g.giveUp()
}

// try calls op until it returns something else than a lack of room.
func (g *gateFS) try(op func() error) error {
	for {
		if g.severed.Load() {
			return errSevered
		}
		err := durable.Classify(op())
		if !errors.Is(err, durable.ErrNoSpace) || !g.patient.Load() || !g.wait() {
			return err
		}
	}
}

// direct calls op once.
func (g *gateFS) direct(op func() error) error {
	if g.severed.Load() {
		return errSevered
	}
	return op()
}

// wait reports whether another try makes sense.
func (g *gateFS) wait() bool {
	g.waiting.Add(1)
	defer g.waiting.Add(-1)
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-g.ended:
		return false
	}
}

// hold keeps a Pebble that failed from its next try, which it would begin at once,
// and again for ever: until it is closed, or until the process ends if it cannot
// be. Each try begins with a new file.
func (g *gateFS) hold() {
	select {
	case <-g.failed:
		<-g.ended
	default:
	}
	if g.abandoned.Load() {
		select {}
	}
}

func (g *gateFS) Create(name string, c vfs.DiskWriteCategory) (f vfs.File, err error) {
	g.hold()
	err = g.try(func() error { f, err = g.FS.Create(name, c); return err })
	return g.wrap(f, err)
}

func (g *gateFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (f vfs.File, err error) {
	err = g.try(func() error { f, err = g.FS.OpenReadWrite(name, c, opts...); return err })
	return g.wrap(f, err)
}

func (g *gateFS) ReuseForWrite(old, new string, c vfs.DiskWriteCategory) (f vfs.File, err error) {
	err = g.try(func() error { f, err = g.FS.ReuseForWrite(old, new, c); return err })
	return g.wrap(f, err)
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

func (g *gateFS) wrap(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &gateFile{File: f, gate: g}, nil
}

func (g *gateFS) Link(old, new string) error {
	return g.try(func() error { return g.FS.Link(old, new) })
}

func (g *gateFS) Rename(old, new string) error {
	return g.try(func() error { return g.FS.Rename(old, new) })
}

func (g *gateFS) Remove(name string) error {
	return g.try(func() error { return g.FS.Remove(name) })
}

func (g *gateFS) RemoveAll(name string) error {
	return g.try(func() error { return g.FS.RemoveAll(name) })
}

func (g *gateFS) MkdirAll(dir string, perm os.FileMode) error {
	return g.try(func() error { return g.FS.MkdirAll(dir, perm) })
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

func (f *gateFile) Write(p []byte) (n int, err error) {
	err = f.gate.try(func() error {
		m, err := f.File.Write(p[n:])
		n += m
		return err
	})
	return n, err
}

func (f *gateFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.gate.try(func() error {
		m, err := f.File.WriteAt(p[n:], off+int64(n))
		n += m
		return err
	})
	return n, err
}

func (f *gateFile) Preallocate(off, length int64) error {
	return f.gate.try(func() error { return f.File.Preallocate(off, length) })
}

// A failed sync is not tried again, for lack of room either: what it did not
// write may be gone, and the next one would report success.

func (f *gateFile) Sync() error { return f.gate.direct(f.File.Sync) }

func (f *gateFile) SyncData() error { return f.gate.direct(f.File.SyncData) }

func (f *gateFile) SyncTo(length int64) (full bool, err error) {
	err = f.gate.direct(func() error { full, err = f.File.SyncTo(length); return err })
	return full, err
}

// gateDir is a directory that Pebble syncs. Where that fails, Pebble panics, on a
// goroutine of its own: the end of the process. So it hears of success instead,
// from a view that has failed.
type gateDir struct {
	vfs.File
	gate *gateFS
}

func (d *gateDir) Sync() error {
	if d.gate.severed.Load() {
		return nil
	}
	if err := d.File.Sync(); err != nil {
		d.gate.poison(fmt.Errorf("sync of the directory: %w", err))
	}
	return nil
}

func (d *gateDir) SyncData() error { return d.Sync() }

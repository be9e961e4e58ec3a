package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// memFree is what Mem claims to have room for, unless the MemFS was told
// otherwise by TestingSetDiskUsage.
const memFree = 1 << 40

// Mem returns the files of m, which lives in memory. Made by
// vfs.NewCrashableMem, it can be asked for the state that a power cut would
// leave (CrashClone). Direct and Uncached have no effect. The exclusive
// operations Create and RenameNew exclude each other through one Mem, so make
// one per m.
func Mem(m *vfs.MemFS) FS { return &memFS{m: m} }

type memFS struct {
	m  *vfs.MemFS
	mu sync.Mutex // held over a look and the change that rests on it
}

func (s *memFS) Pebble() vfs.FS { return s.m }

func (s *memFS) Create(name string, opts CreateOptions) (File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// MemFS.Create replaces, so look first.
	if _, err := s.m.Stat(name); err == nil {
		return nil, &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
	}
	f, err := s.m.Create(name, vfs.WriteCategoryUnspecified)
	return openMem("create", name, f, err)
}

func (s *memFS) Open(name string, opts OpenOptions) (File, error) {
	f, err := s.m.Open(name)
	return openMem("open", name, f, err)
}

func (s *memFS) OpenWrite(name string) (File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// MemFS.OpenReadWrite makes what is absent, so look first.
	if _, err := s.m.Stat(name); err != nil {
		return nil, memError("open", name, err)
	}
	f, err := s.m.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	return openMem("open", name, f, err)
}

func (s *memFS) Rename(old, new string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rename("rename", old, new)
}

func (s *memFS) RenameNew(old, new string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.m.Stat(new); err == nil {
		return memError("rename", new, fs.ErrExist)
	}
	return s.rename("rename", old, new)
}

// rename looks for the target's directory first, because MemFS.Rename has
// dropped the old name by the time it does.
func (s *memFS) rename(op, old, new string) error {
	if err := s.mustBeDir(op, path.Dir(new)); err != nil {
		return err
	}
	return memError(op, old, s.m.Rename(old, new))
}

func (s *memFS) Remove(name string) error { return memError("remove", name, s.m.Remove(name)) }

func (s *memFS) RemoveAll(name string) error {
	return memError("remove", name, s.m.RemoveAll(name))
}

func (s *memFS) Mkdir(dir string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	// MemFS knows only MkdirAll, so look first.
	if _, err := s.m.Stat(dir); err == nil {
		return memError("mkdir", dir, fs.ErrExist)
	}
	if err := s.mustBeDir("mkdir", path.Dir(dir)); err != nil {
		return err
	}
	return memError("mkdir", dir, s.m.MkdirAll(dir, 0o700))
}

func (s *memFS) MkdirAll(dir string) error { return mkdirAll(s, dir) }

func (s *memFS) SyncDir(dir string) error {
	if err := s.mustBeDir("syncdir", dir); err != nil {
		return err
	}
	d, err := s.m.OpenDir(dir)
	if err != nil {
		return memError("syncdir", dir, err)
	}
	return memError("syncdir", dir, errors.Join(d.Sync(), d.Close()))
}

func (s *memFS) List(dir string) ([]string, error) {
	if err := s.mustBeDir("list", dir); err != nil {
		return nil, err
	}
	names, err := s.m.List(dir)
	slices.Sort(names)
	return names, memError("list", dir, err)
}

func (s *memFS) Stat(name string) (Info, error) {
	fi, err := s.m.Stat(name)
	if err != nil {
		return Info{}, memError("stat", name, err)
	}
	if fi.IsDir() {
		return Info{Dir: true}, nil
	}
	return Info{Size: fi.Size()}, nil
}

func (s *memFS) Lock(name string) (io.Closer, error) {
	l, err := s.m.Lock(path.Clean(name))
	if errors.Is(err, syscall.EAGAIN) {
		return nil, memError("lock", name, ErrLocked)
	}
	if err != nil {
		return nil, memError("lock", name, err)
	}
	return l, nil
}

func (s *memFS) Usage(dir string) (total, free int64, err error) {
	u, err := s.m.GetDiskUsage(dir)
	if errors.Is(err, vfs.ErrUnsupported) {
		return memFree, memFree, nil
	}
	return int64(u.TotalBytes), int64(u.AvailBytes), memError("usage", dir, err)
}

func (s *memFS) mustBeDir(op, dir string) error {
	fi, err := s.m.Stat(dir)
	if err == nil && !fi.IsDir() {
		err = errors.New("not a directory")
	}
	return memError(op, dir, err)
}

// memError gives err the operation and the place, and nil for nil.
func memError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err // MemFS names only a part of the path
	}
	return Classify(&fs.PathError{Op: op, Path: name, Err: err})
}

func openMem(op, name string, f vfs.File, err error) (File, error) {
	if err != nil {
		return nil, memError(op, name, err)
	}
	return &memFile{f: f, name: name}, nil
}

// memFile guards a file of MemFS against use after Close, which panics there.
type memFile struct {
	f      vfs.File
	name   string
	mu     sync.RWMutex // written by Close only
	closed atomic.Bool
}

func (f *memFile) do(op string, call func() (int, error)) (int, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.closed.Load() {
		return 0, memError(op, f.name, fs.ErrClosed)
	}
	n, err := call()
	if err == nil || err == io.EOF {
		return n, err
	}
	return n, memError(op, f.name, err)
}

func (f *memFile) Read(p []byte) (int, error) {
	return f.do("read", func() (int, error) { return f.f.Read(p) })
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, memError("read", f.name, fmt.Errorf("%w: offset %d", fs.ErrInvalid, off))
	}
	return f.do("read", func() (int, error) { return f.f.ReadAt(p, off) })
}

// Write writes a copy: under the race detector MemFS scribbles over what it was
// given, as vfs.File allows and io.Writer does not.
func (f *memFile) Write(p []byte) (int, error) {
	return f.do("write", func() (int, error) { return f.f.Write(slices.Clone(p)) })
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, memError("write", f.name, fmt.Errorf("%w: offset %d", fs.ErrInvalid, off))
	}
	return f.do("write", func() (int, error) { return f.f.WriteAt(p, off) })
}

func (f *memFile) Sync() error {
	_, err := f.do("sync", func() (int, error) { return 0, f.f.SyncData() })
	return err
}

func (f *memFile) Size() (size int64, err error) {
	_, err = f.do("stat", func() (int, error) {
		fi, err := f.f.Stat()
		if err == nil {
			size = fi.Size()
		}
		return 0, err
	})
	return size, err
}

func (f *memFile) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed.Swap(true) {
		return memError("close", f.name, fs.ErrClosed)
	}
	return memError("close", f.name, f.f.Close())
}

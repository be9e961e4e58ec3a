package durabletest

import (
	"errors"
	"io"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// pebbleFS is the view of an FS that Pebble uses. What it does not override
// neither changes nor reads a file.
type pebbleFS struct {
	vfs.FS
	fs *FS
}

func (p *pebbleFS) Unwrap() vfs.FS { return p.FS }

func (p *pebbleFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return p.open(Op{Kind: Create, Name: name}, Sync, func() (vfs.File, error) { return p.FS.Create(name, category) })
}

func (p *pebbleFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	return p.open(Op{Kind: Open, Name: name}, Sync, func() (vfs.File, error) { return p.FS.Open(name, opts...) })
}

// OpenReadWrite makes the file if it is absent, so it counts as a Create then.
func (p *pebbleFS) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	kind := Open
	if _, err := p.FS.Stat(name); errors.Is(err, os.ErrNotExist) {
		kind = Create
	}
	return p.open(Op{Kind: kind, Name: name}, Sync, func() (vfs.File, error) { return p.FS.OpenReadWrite(name, category, opts...) })
}

func (p *pebbleFS) OpenDir(name string) (vfs.File, error) {
	return p.open(Op{Kind: Open, Name: name}, SyncDir, func() (vfs.File, error) { return p.FS.OpenDir(name) })
}

func (p *pebbleFS) ReuseForWrite(old, new string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := p.open(Op{Kind: Reuse, Name: old, To: new}, Sync, func() (vfs.File, error) { return p.FS.ReuseForWrite(old, new, category) })
	if err != nil {
		return nil, err
	}
	f.(*pebbleFile).name = new
	return f, nil
}

func (p *pebbleFS) open(op Op, sync Kind, call func() (vfs.File, error)) (vfs.File, error) {
	var in vfs.File
	err := p.fs.do(op, func() (err error) { in, err = call(); return err }, func() { in.Close() })
	if err != nil {
		return nil, err
	}
	return &pebbleFile{File: in, fs: p.fs, name: op.Name, sync: sync}, nil
}

func (p *pebbleFS) Link(old, new string) error {
	return p.fs.do(Op{Kind: Link, Name: old, To: new}, func() error { return p.FS.Link(old, new) }, nil)
}

func (p *pebbleFS) Rename(old, new string) error {
	return p.fs.do(Op{Kind: Rename, Name: old, To: new}, func() error { return p.FS.Rename(old, new) }, nil)
}

func (p *pebbleFS) Remove(name string) error {
	return p.fs.do(Op{Kind: Remove, Name: name}, func() error { return p.FS.Remove(name) }, nil)
}

func (p *pebbleFS) RemoveAll(name string) error {
	return p.fs.do(Op{Kind: RemoveAll, Name: name}, func() error { return p.FS.RemoveAll(name) }, nil)
}

func (p *pebbleFS) MkdirAll(dir string, perm os.FileMode) error {
	return p.fs.do(Op{Kind: MkdirAll, Name: dir}, func() error { return p.FS.MkdirAll(dir, perm) }, nil)
}

func (p *pebbleFS) Lock(name string) (l io.Closer, err error) {
	err = p.fs.do(Op{Kind: Lock, Name: name}, func() (err error) { l, err = p.FS.Lock(name); return err }, func() { l.Close() })
	if err != nil {
		return nil, err
	}
	return l, nil
}

func (p *pebbleFS) List(dir string) (names []string, err error) {
	err = p.fs.do(Op{Kind: List, Name: dir}, func() (err error) { names, err = p.FS.List(dir); return err }, nil)
	return names, err
}

func (p *pebbleFS) Stat(name string) (info vfs.FileInfo, err error) {
	err = p.fs.do(Op{Kind: Stat, Name: name}, func() (err error) { info, err = p.FS.Stat(name); return err }, nil)
	return info, err
}

// pebbleFile is an open file, or a directory, whose sync is SyncDir.
type pebbleFile struct {
	vfs.File
	fs   *FS
	name string
	sync Kind
	pos  int64 // where Read and Write go on
}

func (f *pebbleFile) transfer(op Op, call func() (int, error)) (n int, err error) {
	op.Name = f.name
	err = f.fs.do(op, func() (err error) { n, err = call(); return err }, func() { n = 0 })
	return n, err
}

func (f *pebbleFile) Read(p []byte) (int, error) {
	return f.transfer(Op{Kind: Read, Off: f.pos, Len: int64(len(p))}, func() (int, error) {
		n, err := f.File.Read(p)
		f.pos += int64(n)
		return n, err
	})
}

func (f *pebbleFile) ReadAt(p []byte, off int64) (int, error) {
	return f.transfer(Op{Kind: Read, Off: off, Len: int64(len(p))}, func() (int, error) { return f.File.ReadAt(p, off) })
}

func (f *pebbleFile) Write(p []byte) (int, error) {
	return f.transfer(Op{Kind: Write, Off: f.pos, Len: int64(len(p))}, func() (int, error) {
		n, err := f.File.Write(p)
		f.pos += int64(n)
		return n, err
	})
}

func (f *pebbleFile) WriteAt(p []byte, off int64) (int, error) {
	return f.transfer(Op{Kind: Write, Off: off, Len: int64(len(p))}, func() (int, error) { return f.File.WriteAt(p, off) })
}

func (f *pebbleFile) Sync() error {
	return f.fs.do(Op{Kind: f.sync, Name: f.name}, f.File.Sync, nil)
}

func (f *pebbleFile) SyncData() error {
	return f.fs.do(Op{Kind: f.sync, Name: f.name}, f.File.SyncData, nil)
}

func (f *pebbleFile) SyncTo(length int64) (full bool, err error) {
	err = f.fs.do(Op{Kind: SyncTo, Name: f.name, Len: length}, func() (err error) { full, err = f.File.SyncTo(length); return err }, nil)
	return full, err
}

// Close closes the file in either arm, so that no descriptor is lost.
func (f *pebbleFile) Close() error {
	err := f.fs.do(Op{Kind: Close, Name: f.name}, func() error { return nil }, nil)
	return errors.Join(err, f.File.Close())
}

package durable

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Files and directories are made for their owner alone: what is stored may be
// private, and nobody else needs to read shards.
const (
	filePerm = 0o600
	dirPerm  = 0o700
)

// OS returns the files of the operating system.
func OS() FS { return osFS{} }

type osFS struct{}

func (osFS) Pebble() vfs.FS { return vfs.Default }

func (osFS) Create(name string, opts CreateOptions) (File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, filePerm)
	if err != nil {
		return nil, Classify(err)
	}
	if err := preallocate(f, opts.Size); err != nil {
		return nil, Classify(errors.Join(&fs.PathError{Op: "fallocate", Path: name, Err: err}, f.Close(), os.Remove(name)))
	}
	// The flag is set after the open: an open with O_CREAT and O_DIRECT that
	// is refused has made the file all the same on some filesystems.
	return &osFile{f: f, direct: opts.Direct && setDirect(f, true) == nil}, nil
}

func (osFS) Open(name string, opts OpenOptions) (File, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	if opts.Uncached {
		return openUncached(f), nil
	}
	return &osFile{f: f}, nil
}

func (osFS) OpenWrite(name string) (File, error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return &osFile{f: f}, nil
}

func (osFS) Rename(old, new string) error    { return Classify(os.Rename(old, new)) }
func (osFS) RenameNew(old, new string) error { return Classify(renameNew(old, new)) }
func (osFS) Remove(name string) error        { return os.Remove(name) }
func (osFS) RemoveAll(name string) error     { return os.RemoveAll(name) }

func (osFS) Mkdir(dir string) error { return Classify(os.Mkdir(dir, dirPerm)) }

func (s osFS) MkdirAll(dir string) error { return mkdirAll(s, dir) }

func (osFS) SyncDir(dir string) error { return Classify(syncDir(dir)) }

func (osFS) List(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

func (osFS) Stat(name string) (Info, error) {
	fi, err := os.Stat(name)
	if err != nil {
		return Info{}, err
	}
	if fi.IsDir() {
		return Info{Dir: true}, nil
	}
	return Info{Size: fi.Size()}, nil
}

func (osFS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, filePerm)
	if err != nil {
		return nil, Classify(err)
	}
	if err := lockFile(f); err != nil {
		return nil, errors.Join(&fs.PathError{Op: "lock", Path: name, Err: err}, f.Close())
	}
	return fileLock{f}, nil
}

// fileLock is a file that is locked.
type fileLock struct{ f *os.File }

// Close releases the lock before it closes the file. A close alone would leave it
// to a process that is being started just then, which has a copy of every open
// file until it executes its program.
func (l fileLock) Close() error { return errors.Join(unlockFile(l.f), l.f.Close()) }

func (osFS) Usage(dir string) (total, free int64, err error) {
	total, free, err = usage(dir)
	if err != nil {
		err = &fs.PathError{Op: "usage", Path: dir, Err: err}
	}
	return total, free, err
}

// renameByLink is renameNew for filesystems that have no such call: the link
// fails when new exists. A crash between the two leaves both names, of which
// the old one is a temporary that the next open clears away.
func renameByLink(old, new string) error {
	if err := os.Link(old, new); err != nil {
		return err
	}
	return os.Remove(old)
}

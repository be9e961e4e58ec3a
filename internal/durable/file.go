package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
)

// WriteFile makes b the content of the file name, durably and all at once: a
// crash at any moment leaves the old content or the new. One writer of a name
// at a time. It writes to name + ".tmp" first, and removes what a crashed
// writer left there.
func WriteFile(fsys FS, name string, b []byte) error {
	tmp := name + ".tmp"
	if err := writeSynced(fsys, tmp, b); err != nil {
		return errors.Join(err, removeIfThere(fsys, tmp))
	}
	// A crash here leaves a complete temporary file that nobody reads.
	if err := fsys.Rename(tmp, name); err != nil {
		return errors.Join(err, removeIfThere(fsys, tmp))
	}
	// A crash here leaves either content under the name.
	return fsys.SyncDir(path.Dir(name))
}

// writeSynced makes the file name with content b and syncs it.
func writeSynced(fsys FS, name string, b []byte) error {
	f, err := fsys.Create(name, CreateOptions{})
	if errors.Is(err, fs.ErrExist) {
		if err := fsys.Remove(name); err != nil {
			return err
		}
		f, err = fsys.Create(name, CreateOptions{})
	}
	if err != nil {
		return err
	}
	if _, err := f.Write(b); err != nil {
		return errors.Join(err, f.Close())
	}
	return errors.Join(f.Sync(), f.Close())
}

func removeIfThere(fsys FS, name string) error {
	if err := fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// ReadFile returns the content of a file of at most limit bytes. A longer one
// is an error that matches fs.ErrInvalid, and is not read.
func ReadFile(fsys FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.Open(name, OpenOptions{})
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, &fs.PathError{Op: "read", Path: name, Err: fmt.Errorf("%w: %d bytes, want at most %d", fs.ErrInvalid, size, limit)}
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}

// mkdirAll makes dir and the parents it lacks, top down, and syncs the parent of
// each.
func mkdirAll(fsys FS, dir string) error {
	dir = path.Clean(dir)
	info, err := fsys.Stat(dir)
	if err == nil && !info.Dir {
		return &fs.PathError{Op: "mkdir", Path: dir, Err: errors.New("not a directory")}
	}
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := path.Dir(dir)
	if parent != dir {
		if err := mkdirAll(fsys, parent); err != nil {
			return err
		}
	}
	// One that another made since we looked is perhaps not synced yet.
	if err := fsys.Mkdir(dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	// A crash here may lose the directory, which is empty.
	return fsys.SyncDir(parent)
}

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/blockframe/blockframe"
)

// target is a directory that files are written into. Names cannot lead out of it,
// not even through symbolic links that are there: see os.Root.
type target struct {
	root *os.Root
	path string
	last string // of openDir, the name of the file
}

// openDir opens the directory of a file.
func openDir(file string) (*target, error) {
	dir, last := filepath.Split(file)
	if dir == "" {
		dir = "."
	}
	t, err := openTarget(dir)
	if err != nil {
		return nil, err
	}
	t.last = last
	return t, nil
}

// openTarget opens a directory.
func openTarget(dir string) (*target, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &target{root: root, path: dir}, nil
}

// Close closes the directory.
func (t *target) Close() error { return t.root.Close() }

// at returns the path of a name in the directory.
func (t *target) at(name string) string { return filepath.Join(t.path, name) }

// write writes an object as a file with its attributes, in place of one that is
// there. The content is on disk when it returns, the name after sync. A crash
// before leaves what was there, and perhaps a file whose name begins with
// .blockframe-.
func (t *target) write(name string, rd *blockframe.Reader, bar *bar) error {
	temp := filepath.Join(filepath.Dir(name), tempName())
	f, err := t.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(countedWriter{f, bar}, rd)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	var lost error // attributes that could not be given
	if attr := rd.Object().Attr; err == nil && attr.Mode != 0 {
		lost = t.attributes(temp, attr)
	} else if err == nil {
		err = t.root.Chmod(temp, 0o644) // opened by its address: no attributes are known
	}
	if err == nil {
		err = t.root.Rename(temp, name)
	}
	if err != nil {
		return errors.Join(err, t.root.Remove(temp))
	}
	return attrError(t.at(name), lost)
}

// symlink makes a symbolic link, in place of what is there.
func (t *target) symlink(name string, attr blockframe.Attr) error {
	temp := filepath.Join(filepath.Dir(name), tempName())
	if err := t.root.Symlink(attr.Target, temp); err != nil {
		return err
	}
	lost := t.attributes(temp, attr)
	if err := t.root.Rename(temp, name); err != nil {
		return errors.Join(err, t.root.Remove(temp))
	}
	return attrError(t.at(name), lost)
}

// mkdir makes a directory that can be written into, if it is not there. What else
// may be there is an error: a symbolic link could lead anywhere.
func (t *target) mkdir(name string) error {
	info, err := t.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return t.root.Mkdir(name, 0o700)
	}
	if err == nil && !info.IsDir() {
		return fmt.Errorf("%s is a %s, and a directory is to be there: move it away", t.at(name), kindOfFile(info.Mode()))
	}
	return err
}

// attributes gives what attr says to a name. Owners are those of the process where
// it may give no others.
func (t *target) attributes(name string, attr blockframe.Attr) error {
	if os.Geteuid() != 0 {
		attr.UID, attr.GID = uint32(max(os.Getuid(), 0)), uint32(max(os.Getgid(), 0))
	}
	return blockframe.WriteAttr(t.at(name), attr)
}

// attrErr is about a file that is complete but for some of its attributes.
type attrErr struct {
	path string
	err  error
}

func (e *attrErr) Error() string {
	return fmt.Sprintf("%s: content is right, attributes are not: %v", e.path, e.err)
}

func (e *attrErr) Unwrap() error { return e.err }

func attrError(path string, err error) error {
	if err == nil {
		return nil
	}
	return &attrErr{path, err}
}

// sync makes the names in the directory durable.
func (t *target) sync() error { return syncDir(t.path) }

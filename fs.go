package blockframe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/blockframe/blockframe/store"
)

// maxLinks is the number of symbolic links that one name may lead through, as in
// Linux (path_resolution(7)).
const maxLinks = 40

// FS returns the live names of the store as a filesystem. It implements
// [fs.StatFS], [fs.ReadDirFS], [fs.ReadFileFS], [fs.ReadLinkFS] and [fs.SubFS];
// its files are [io.ReaderAt], [io.Seeker] and [io.WriterTo] too, and stay the
// version that they were opened as. Sys of a [fs.FileInfo] is an [Object].
//
// Symbolic links are followed inside the store, and out of a tree that is a Sub;
// one that leads out of the store does not exist. Errors are *[fs.PathError].
func (s *Store) FS() fs.FS { return fsys{s: s, root: "."} }

// fsys is the tree below a directory.
type fsys struct {
	s    *Store
	root string
}

var (
	_ fs.StatFS     = fsys{}
	_ fs.ReadDirFS  = fsys{}
	_ fs.ReadFileFS = fsys{}
	_ fs.ReadLinkFS = fsys{}
	_ fs.SubFS      = fsys{}
)

// Open opens a file or directory.
func (f fsys) Open(name string) (fs.File, error) {
	obj, err := f.find("open", name, true)
	if err != nil {
		return nil, err
	}
	if obj.Mode.IsDir() {
		return &dirFile{fsys: f, name: name, obj: obj}, nil
	}
	return f.openFile("open", name, obj)
}

func (f fsys) openFile(op, name string, obj Object) (*file, error) {
	r, err := f.s.open(context.Background(), obj)
	if err != nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: err}
	}
	return &file{Reader: r, info: info{obj, path.Base(name)}}, nil
}

// Stat describes a name; a symbolic link is followed.
func (f fsys) Stat(name string) (fs.FileInfo, error) {
	obj, err := f.find("stat", name, true)
	if err != nil {
		return nil, err
	}
	return info{obj, path.Base(name)}, nil
}

// Lstat describes a name; a symbolic link is not followed.
func (f fsys) Lstat(name string) (fs.FileInfo, error) {
	obj, err := f.find("lstat", name, false)
	if err != nil {
		return nil, err
	}
	return info{obj, path.Base(name)}, nil
}

// ReadLink returns the target of a symbolic link.
func (f fsys) ReadLink(name string) (string, error) {
	obj, err := f.find("readlink", name, false)
	if err != nil {
		return "", err
	}
	if obj.Mode&fs.ModeSymlink == 0 {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: fmt.Errorf("%w: not a symbolic link", fs.ErrInvalid)}
	}
	return obj.Target, nil
}

// ReadDir returns the entries of a directory, sorted.
func (f fsys) ReadDir(name string) ([]fs.DirEntry, error) {
	obj, err := f.find("readdir", name, true)
	if err != nil {
		return nil, err
	}
	return f.entries("readdir", name, obj)
}

func (f fsys) entries(op, name string, obj Object) ([]fs.DirEntry, error) {
	list := []fs.DirEntry{}
	if !obj.Mode.IsDir() {
		return nil, &fs.PathError{Op: op, Path: name, Err: errNotDir}
	}
	for child, err := range f.s.cat.List(context.Background(), obj.Name, "") {
		if err != nil {
			return nil, &fs.PathError{Op: op, Path: name, Err: err}
		}
		list = append(list, fs.FileInfoToDirEntry(info{child, path.Base(child.Name)}))
	}
	return list, nil
}

// ReadFile returns the content of a file. All of it was verified.
func (f fsys) ReadFile(name string) ([]byte, error) {
	obj, err := f.find("readfile", name, true)
	if err != nil {
		return nil, err
	}
	if obj.Mode.IsDir() {
		return nil, &fs.PathError{Op: "readfile", Path: name, Err: errIsDir}
	}
	r, err := f.openFile("readfile", name, obj)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b := make([]byte, obj.Size)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, &fs.PathError{Op: "readfile", Path: name, Err: err}
	}
	return b, nil
}

// Sub returns the tree below a directory.
func (f fsys) Sub(dir string) (fs.FS, error) {
	obj, err := f.find("sub", dir, true)
	if err != nil {
		return nil, err
	}
	if !obj.Mode.IsDir() {
		return nil, &fs.PathError{Op: "sub", Path: dir, Err: errNotDir}
	}
	return fsys{s: f.s, root: obj.Name}, nil
}

var (
	errNotDir = fmt.Errorf("%w: not a directory", fs.ErrInvalid)
	errIsDir  = fmt.Errorf("%w: is a directory", fs.ErrInvalid)
	errLoop   = fmt.Errorf("%w: too many symbolic links", fs.ErrInvalid)
)

// find returns what a name of the tree refers to. Of a symbolic link in the last
// place it returns the link unless follow is set.
func (f fsys) find(op, name string, follow bool) (Object, error) {
	if !fs.ValidPath(name) {
		return Object{}, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	// Most names lead through no link: one look is enough.
	full := path.Join(f.root, name)
	obj, err := f.s.stat(context.Background(), full)
	if err == nil && (obj.Mode&fs.ModeSymlink == 0 || !follow) {
		return obj, nil
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		obj, err = f.s.walk(full, follow)
	}
	if err != nil {
		return Object{}, &fs.PathError{Op: op, Path: name, Err: err}
	}
	return obj, nil
}

// walk resolves a name component by component.
func (s *Store) walk(name string, follow bool) (Object, error) {
	at, rest := ".", strings.Split(name, "/")
	for links := 0; ; {
		obj, err := s.stat(context.Background(), path.Join(at, rest[0]))
		if err != nil {
			return obj, err
		}
		at, rest = path.Join(at, rest[0]), rest[1:]
		if obj.Mode&fs.ModeSymlink == 0 || len(rest) == 0 && !follow {
			if len(rest) == 0 {
				return obj, nil
			}
			continue
		}
		to := path.Join(path.Dir(at), obj.Target)
		if path.IsAbs(obj.Target) || !fs.ValidPath(to) {
			return obj, fmt.Errorf("%w: the link %s leads to %s, out of the store", fs.ErrNotExist, at, obj.Target)
		}
		if links++; links > maxLinks {
			return obj, errLoop
		}
		at, rest = ".", append(strings.Split(to, "/"), rest...)
	}
}

// info describes an object under the name that it was asked for by.
type info struct {
	obj  Object
	name string
}

func (i info) Name() string       { return i.name }
func (i info) Mode() fs.FileMode  { return i.obj.Mode }
func (i info) ModTime() time.Time { return i.obj.ModTime }
func (i info) IsDir() bool        { return i.obj.Mode.IsDir() }
func (i info) Sys() any           { return i.obj }

// Size returns the bytes of content; of a link, the length of its target.
func (i info) Size() int64 {
	if i.obj.Mode&fs.ModeSymlink != 0 {
		return int64(len(i.obj.Target))
	}
	return i.obj.Size
}

// file is an open object.
type file struct {
	*store.Reader
	info info
}

// Stat describes the version that is open.
func (f *file) Stat() (fs.FileInfo, error) { return f.info, nil }

// Size is hidden: a file has a Stat.
func (f *file) Size() int64 { return f.Reader.Size() }

// dirFile is an open directory. Its entries are those of the first ReadDir.
type dirFile struct {
	fsys fsys
	name string
	obj  Object

	entries []fs.DirEntry
	read    bool
	closed  bool
}

func (d *dirFile) Stat() (fs.FileInfo, error) { return info{d.obj, path.Base(d.name)}, nil }

func (d *dirFile) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.name, Err: errIsDir}
}

func (d *dirFile) Close() error { d.closed = true; return nil }

// ReadDir returns the next n entries; all that are left if n <= 0.
func (d *dirFile) ReadDir(n int) ([]fs.DirEntry, error) {
	if d.closed {
		return nil, &fs.PathError{Op: "readdir", Path: d.name, Err: fs.ErrClosed}
	}
	if !d.read {
		list, err := d.fsys.entries("readdir", d.name, d.obj)
		if err != nil {
			return nil, err
		}
		d.entries, d.read = list, true
	}
	if n <= 0 {
		n = len(d.entries)
	} else if len(d.entries) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(d.entries))
	list := slices.Clone(d.entries[:n])
	d.entries = d.entries[n:]
	return list, nil
}

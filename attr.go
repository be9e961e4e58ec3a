package blockframe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// modeBits are the bits of a mode that are kept besides the type.
const modeBits = fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky

// ReadAttr returns mode, owner, modification time, extended attributes and link
// target of a file, directory or symbolic link of the operating system; the last
// is not followed. Anything else, such as a device, is fs.ErrInvalid. Owners and
// extended attributes are those of Linux; elsewhere they are zero.
func ReadAttr(path string) (Attr, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return Attr{}, err
	}
	attr, err := infoAttr(path, info)
	if err != nil {
		return Attr{}, err
	}
	if attr.Mode&fs.ModeSymlink != 0 {
		if attr.Target, err = os.Readlink(path); err != nil {
			return Attr{}, err
		}
	}
	attr.Xattrs, err = readXattrs(path)
	return attr, err
}

// openFileAttr is ReadAttr of an open file.
func openFileAttr(f *os.File) (Attr, error) {
	info, err := f.Stat()
	if err != nil {
		return Attr{}, err
	}
	attr, err := infoAttr(f.Name(), info)
	if err == nil {
		attr.Xattrs, err = readOpenXattrs(f)
	}
	return attr, err
}

func infoAttr(path string, info fs.FileInfo) (Attr, error) {
	switch info.Mode().Type() {
	case 0, fs.ModeDir, fs.ModeSymlink:
	default:
		return Attr{}, &fs.PathError{Op: "stat", Path: path, Err: fmt.Errorf("%w: %s is not stored", fs.ErrInvalid, typeName(info.Mode()))}
	}
	uid, gid := owner(info)
	return Attr{Mode: info.Mode() & (modeBits | fs.ModeDir | fs.ModeSymlink), UID: uid, GID: gid, ModTime: info.ModTime().UTC()}, nil
}

// WriteAttr gives a file, directory or symbolic link of the operating system the
// owner, mode, extended attributes and modification time of attr, as far as the
// process may; a symbolic link is not followed. It goes on after a failure and
// returns all of them: an owner that only root can give is fs.ErrPermission.
func WriteAttr(path string, attr Attr) error {
	var errs []error
	if err := os.Lchown(path, int(attr.UID), int(attr.GID)); err != nil && haveOwners {
		errs = append(errs, err)
	}
	errs = append(errs, writeXattrs(path, attr.Xattrs))
	if attr.Mode&fs.ModeSymlink == 0 {
		errs = append(errs, os.Chmod(path, attr.Mode&modeBits)) // after chown, which clears setuid
	}
	return errors.Join(append(errs, setTime(path, attr.ModTime))...)
}

// orDefault returns the attributes of an object that is put with attr at now: a
// nil attr is a file of mode 0644 of the owner of the process.
func orDefault(attr *Attr, now time.Time) Attr {
	if attr == nil {
		uid, gid := processOwner()
		return Attr{Mode: 0o644, UID: uid, GID: gid, ModTime: now}
	}
	a := *attr
	if a.ModTime.IsZero() {
		a.ModTime = now
	}
	return a
}

// dirAttr is orDefault for a directory.
func dirAttr(attr *Attr, now time.Time) Attr {
	a := orDefault(attr, now)
	if attr == nil {
		a.Mode = 0o755
	}
	a.Mode = a.Mode&modeBits | fs.ModeDir
	return a
}

// linkAttr is orDefault for a symbolic link.
func linkAttr(target string, attr *Attr, now time.Time) Attr {
	a := orDefault(attr, now)
	a.Mode, a.Target = fs.ModeSymlink|0o777, target
	return a
}

// processOwner returns the owner of files that the process makes, 0 where there
// are none.
func processOwner() (uid, gid uint32) {
	return uint32(max(os.Getuid(), 0)), uint32(max(os.Getgid(), 0))
}

// typeName says what is neither file, directory nor symbolic link.
func typeName(m fs.FileMode) string {
	switch {
	case m&fs.ModeCharDevice != 0:
		return "a character device"
	case m&fs.ModeDevice != 0:
		return "a block device"
	case m&fs.ModeNamedPipe != 0:
		return "a named pipe"
	case m&fs.ModeSocket != 0:
		return "a socket"
	}
	return "a special file"
}

package blockframe

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/blockframe/blockframe/store"
)

const haveOwners = true

// owner returns uid and gid of a file.
func owner(info fs.FileInfo) (uid, gid uint32) {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Uid, st.Gid
	}
	return 0, 0
}

// changed returns when content or attributes of a file last changed: no call sets
// that time back.
func changed(info fs.FileInfo) time.Time {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return time.Unix(st.Ctim.Unix())
	}
	return info.ModTime()
}

func setTime(path string, t time.Time) error {
	ts, err := unix.TimeToTimespec(t)
	if err == nil {
		err = unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	}
	return pathError("utimes", path, err)
}

func readXattrs(path string) (map[string][]byte, error) {
	return xattrs(path,
		func(b []byte) (int, error) { return unix.Llistxattr(path, b) },
		func(name string, b []byte) (int, error) { return unix.Lgetxattr(path, name, b) })
}

func readOpenXattrs(f *os.File) (map[string][]byte, error) {
	fd := int(f.Fd())
	return xattrs(f.Name(),
		func(b []byte) (int, error) { return unix.Flistxattr(fd, b) },
		func(name string, b []byte) (int, error) { return unix.Fgetxattr(fd, name, b) })
}

// xattrs reads all extended attributes, nil if there are none or the filesystem
// has none.
func xattrs(path string, list func([]byte) (int, error), get func(string, []byte) (int, error)) (map[string][]byte, error) {
	names, err := sized(list)
	if errors.Is(err, unix.ENOTSUP) || err == nil && len(names) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, pathError("listxattr", path, err)
	}
	out, total := map[string][]byte{}, 0
	for name := range bytes.SplitSeq(bytes.TrimRight(names, "\x00"), []byte{0}) {
		value, err := sized(func(b []byte) (int, error) { return get(string(name), b) })
		if errors.Is(err, unix.ENODATA) {
			continue // gone since it was listed
		}
		if err != nil {
			return nil, pathError("getxattr "+string(name), path, err)
		}
		out[string(name)] = value
		if total += len(name) + len(value); total > store.MaxXattrBytes {
			return nil, pathError("getxattr", path, fmt.Errorf("%w: extended attributes of more than %d bytes", fs.ErrInvalid, store.MaxXattrBytes))
		}
	}
	return out, nil
}

// sized calls get with a buffer that is large enough.
func sized(get func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := get(nil)
		if err != nil || n == 0 {
			return nil, err
		}
		b := make([]byte, n)
		n, err = get(b)
		if errors.Is(err, unix.ERANGE) {
			continue // it grew since
		}
		if err != nil {
			return nil, err
		}
		return b[:n], nil
	}
}

func writeXattrs(path string, attrs map[string][]byte) error {
	var errs []error
	for name, value := range attrs {
		errs = append(errs, pathError("setxattr "+name, path, unix.Lsetxattr(path, name, value, 0)))
	}
	return errors.Join(errs...)
}

func pathError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}

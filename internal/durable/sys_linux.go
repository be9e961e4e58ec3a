package durable

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// control calls do with the descriptor of f, which stays open meanwhile, again
// while a signal interrupts it.
func control(f *os.File, do func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	cerr := conn.Control(func(fd uintptr) {
		for {
			if err = do(int(fd)); err != unix.EINTR {
				return
			}
		}
	})
	if cerr != nil {
		return os.ErrClosed // the one reason that Control has
	}
	return err
}

// setDirect sets or clears O_DIRECT. It fails where the filesystem has none.
func setDirect(f *os.File, on bool) error {
	return control(f, func(fd int) error {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		if err != nil {
			return err
		}
		flags &^= unix.O_DIRECT
		if on {
			flags |= unix.O_DIRECT
		}
		_, err = unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags)
		return err
	})
}

// isDirectRefused reports whether err is how a filesystem that let O_DIRECT be
// set says that it cannot do this after all: open(2), "O_DIRECT".
func isDirectRefused(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP)
}

// forget drops clean pages of the range [off, off+n) from the page cache.
func forget(f *os.File, off, n int64) {
	lo := off &^ (Grid - 1)
	hi := (off + n + Grid - 1) &^ (Grid - 1)
	_ = control(f, func(fd int) error { return unix.Fadvise(fd, lo, hi-lo, unix.FADV_DONTNEED) })
}

// preallocate reserves size bytes and leaves the length alone. Filesystems
// that cannot are forgiven.
func preallocate(f *os.File, size int64) error {
	if size <= 0 {
		return nil
	}
	err := control(f, func(fd int) error { return unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 0, size) })
	if isNoSpace(err) {
		return err
	}
	return nil
}

func syncData(f *os.File) error {
	err := control(f, unix.Fdatasync)
	if err != nil {
		err = &os.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
	}
	return err
}

// renameNew renames in one step where the filesystem knows how: renameat2(2).
func renameNew(old, new string) error {
	err := unix.Renameat2(unix.AT_FDCWD, old, unix.AT_FDCWD, new, unix.RENAME_NOREPLACE)
	switch err {
	case nil:
		return nil
	case unix.EINVAL, unix.ENOSYS, unix.EOPNOTSUPP:
		return renameByLink(old, new)
	}
	return &os.LinkError{Op: "rename", Old: old, New: new, Err: err}
}

func usage(dir string) (total, free int64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, err
	}
	unit := int64(s.Frsize)
	if unit == 0 {
		unit = int64(s.Bsize)
	}
	return int64(s.Blocks) * unit, int64(s.Bavail) * unit, nil
}

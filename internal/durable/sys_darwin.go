package durable

import (
	"os"

	"golang.org/x/sys/unix"
)

// openUncached turns caching off for the descriptor: fcntl(2), F_NOCACHE.
func openUncached(f *os.File) File {
	_, _ = unix.FcntlInt(f.Fd(), unix.F_NOCACHE, 1) // a refusal costs only cache
	return &osFile{f: f}
}

// renameNew renames in one step where the filesystem knows how.
func renameNew(old, new string) error {
	err := unix.RenamexNp(old, new, unix.RENAME_EXCL)
	switch err {
	case nil:
		return nil
	case unix.EINVAL, unix.ENOSYS, unix.ENOTSUP:
		return renameByLink(old, new)
	}
	return &os.LinkError{Op: "rename", Old: old, New: new, Err: err}
}

func usage(dir string) (total, free int64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, err
	}
	return int64(s.Blocks) * int64(s.Bsize), int64(s.Bavail) * int64(s.Bsize), nil
}

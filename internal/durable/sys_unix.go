//go:build unix

package durable

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// isNoSpace reports whether a full disk or quota caused err.
func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// lockFile takes a flock(2) lock, which belongs to the open file and so
// excludes this process too.
func lockFile(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == unix.EINTR {
			continue
		}
		if err == unix.EWOULDBLOCK {
			return ErrLocked
		}
		return err
	}
}

// unlockFile releases the lock of the open file, whoever else has a copy of it:
// flock(2), "the lock is released either by an explicit LOCK_UN operation on any of
// these duplicate file descriptors, or when all such file descriptors have been
// closed".
func unlockFile(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_UN) }

// syncDir makes the entries of dir durable: fsync(2), "Calling fsync() does not
// necessarily ensure that the entry in the directory … has also reached disk".
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

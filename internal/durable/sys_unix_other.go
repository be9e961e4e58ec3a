//go:build unix && !linux && !darwin

package durable

import (
	"os"

	"golang.org/x/sys/unix"
)

func openUncached(f *os.File) File { return &osFile{f: f} }

func renameNew(old, new string) error { return renameByLink(old, new) }

func usage(dir string) (total, free int64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, err
	}
	return int64(s.Blocks) * int64(s.Bsize), int64(s.Bavail) * int64(s.Bsize), nil
}

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fdatasync makes the content of a file durable, and no more of it than is needed.
func fdatasync(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }

// openDirect opens a file for reading past the page cache, or as usual where the
// filesystem has no such way.
func openDirect(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_DIRECT, 0)
	if errors.Is(err, unix.EINVAL) {
		return os.Open(name)
	}
	return f, err
}

// aligned returns n bytes at an address that reads past the page cache can use.
func aligned(n int) []byte {
	const grid = 4096
	b := make([]byte, n+grid)
	at := int(-uintptr(unsafe.Pointer(unsafe.SliceData(b))) % grid)
	return b[at : at+n : at+n]
}

// resetPeak makes the present memory of the process its peak (proc(5),
// clear_refs).
func resetPeak() error { return os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) }

// memory returns the resident memory of the process in bytes, now and at its peak.
func memory() (now, peak int64, err error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, 0, err
	}
	if now, err = kilobytes(b, "VmRSS:"); err != nil {
		return 0, 0, err
	}
	peak, err = kilobytes(b, "VmHWM:")
	return now, peak, err
}

// kilobytes returns the bytes that a line of /proc/self/status tells in kB.
func kilobytes(status []byte, key string) (int64, error) {
	for line := range bytes.Lines(status) {
		f := bytes.Fields(line)
		if len(f) == 3 && string(f[0]) == key {
			n, err := strconv.ParseInt(string(f[1]), 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/self/status has no %s", key)
}

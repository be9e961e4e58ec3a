//go:build !linux

package main

import (
	"errors"
	"os"
)

// fdatasync makes a file durable.
func fdatasync(f *os.File) error { return f.Sync() }

// openDirect opens a file as usual: the yardstick is then that of the page cache.
func openDirect(name string) (*os.File, error) { return os.Open(name) }

func aligned(n int) []byte { return make([]byte, n) }

func resetPeak() error { return errors.ErrUnsupported }

func memory() (now, peak int64, err error) { return 0, 0, errors.ErrUnsupported }

//go:build !linux

package durable

import (
	"errors"
	"os"
)

// What only Linux has. Elsewhere all writes go through the cache, nothing is
// reserved, and Sync is what package os takes to be durable (F_FULLFSYNC on
// darwin, FlushFileBuffers on Windows).

func setDirect(f *os.File, on bool) error      { return errors.ErrUnsupported }
func isDirectRefused(err error) bool           { return false }
func preallocate(f *os.File, size int64) error { return nil }
func syncData(f *os.File) error                { return f.Sync() }

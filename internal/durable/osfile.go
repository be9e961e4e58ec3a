package durable

import (
	"os"
	"unsafe"
)

// osFile is a file of the operating system, written past the page cache while
// direct holds.
type osFile struct {
	f      *os.File
	pos    int64 // where the next Write goes, kept while direct
	direct bool  // O_DIRECT is set
}

func (f *osFile) Read(p []byte) (int, error) { return f.f.Read(p) }

func (f *osFile) ReadAt(p []byte, off int64) (int, error) { return f.f.ReadAt(p, off) }

func (f *osFile) Size() (int64, error) {
	fi, err := f.f.Stat()
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

func (f *osFile) Close() error { return f.f.Close() }

func (f *osFile) Sync() error { return Classify(syncData(f.f)) }

func (f *osFile) WriteAt(p []byte, off int64) (int, error) {
	if f.direct {
		f.dropDirect()
	}
	n, err := f.f.WriteAt(p, off)
	return n, Classify(err)
}

func (f *osFile) Write(p []byte) (n int, err error) {
	if f.direct {
		n, err = f.writeDirect(p)
		p = p[n:]
	}
	if err == nil && len(p) > 0 {
		var m int
		m, err = f.f.Write(p)
		n += m
	}
	return n, Classify(err)
}

// writeDirect writes what it can of p past the cache. What it leaves, without
// an error, must go through the cache, as must all that follows.
func (f *osFile) writeDirect(p []byte) (int, error) {
	whole := 0
	if aligned(p) && f.pos%Grid == 0 {
		whole = len(p) &^ (Grid - 1)
	}
	n, err := 0, error(nil)
	if whole > 0 {
		n, err = f.f.Write(p[:whole])
		f.pos += int64(n)
	}
	refused := isDirectRefused(err)
	if refused {
		err = nil
	}
	if err == nil && (refused || n < len(p)) {
		f.dropDirect()
	}
	return n, err
}

// dropDirect makes the rest of the file go through the cache. If the flag
// cannot be cleared, the write that follows fails and says so.
func (f *osFile) dropDirect() {
	_ = setDirect(f.f, false)
	f.direct = false
}

// aligned reports whether p starts on the grid in memory.
func aligned(p []byte) bool {
	return uintptr(unsafe.Pointer(unsafe.SliceData(p)))&(Grid-1) == 0
}

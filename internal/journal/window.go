package journal

import (
	"io"

	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/frame"
)

// windowSize is how much a window reads at a time. It holds more only for a
// frame that is larger.
const windowSize = 256 << 10

// window reads a segment front to back through one buffer. The zero window has
// no file: nothing can be read from it.
type window struct {
	f     durable.File
	ahead int    // how much to read at a time
	buf   []byte // aligned, for reads past the page cache
	off   int64  // where buf[:n] stands in the file
	n     int
}

// at returns the n bytes at offset off, valid until the next call, or false if
// the file ends before them or they cannot be read: for a log both are damage.
// off and n are multiples of the grid.
func (w *window) at(off int64, n int) ([]byte, bool) {
	if w.f == nil {
		return nil, false
	}
	if off < w.off || off+int64(n) > w.off+int64(w.n) {
		if !w.fill(off, max(n, w.ahead)) && !w.fill(off, n) {
			return nil, false
		}
	}
	if off+int64(n) > w.off+int64(w.n) {
		return nil, false
	}
	return w.buf[off-w.off:][:n], true
}

// fill reads n bytes at off, fewer at the end of the file. It reports whether
// nothing but that end stood in the way.
func (w *window) fill(off int64, n int) bool {
	if len(w.buf) < n {
		w.buf = frame.Aligned(n)
	}
	w.off, w.n = off, 0
	for w.n < n {
		r, err := w.f.ReadAt(w.buf[w.n:n], off+int64(w.n))
		w.n += r
		if err == io.EOF || (err == nil && r == 0) {
			return true
		}
		if err != nil {
			w.n = 0
			return false
		}
	}
	return true
}

// close releases the file, if there is one.
func (w *window) close() {
	if w.f != nil {
		w.f.Close() // opened for reading: nothing can be lost
		w.f = nil
	}
}

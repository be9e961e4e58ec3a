package journal

import (
	"io"

	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/frame"
)

// windowSize is how much a window reads at a time. It holds more only for a
// frame that is larger.
const windowSize = 256 << 10

// window reads a segment front to back through one buffer. Without a file
// nothing can be read from it.
type window struct {
	f     durable.File
	err   error  // the last that a read, or else the opening, failed with
	ahead int    // how much to read at a time
	buf   []byte // aligned, for reads past the page cache
	off   int64  // where buf[:n] stands in the file
	n     int
}

// at returns the n bytes at offset off, valid until the next call, or the error
// of reading them: io.ErrUnexpectedEOF if the file ends before. off and n are
// multiples of the grid.
func (w *window) at(off int64, n int) ([]byte, error) {
	if w.f == nil {
		return nil, w.err
	}
	if off < w.off || off+int64(n) > w.off+int64(w.n) {
		err := w.fill(off, max(n, w.ahead))
		if err != nil {
			err = w.fill(off, n) // what cannot be read may lie behind
		}
		if err != nil {
			w.err = err
			return nil, err
		}
	}
	if off+int64(n) > w.off+int64(w.n) {
		w.err = io.ErrUnexpectedEOF
		return nil, w.err
	}
	return w.buf[off-w.off:][:n], nil
}

// fill reads n bytes at off, fewer at the end of the file.
func (w *window) fill(off int64, n int) error {
	if len(w.buf) < n {
		w.buf = frame.Aligned(n)
	}
	w.off, w.n = off, 0
	for w.n < n {
		r, err := w.f.ReadAt(w.buf[w.n:n], off+int64(w.n))
		w.n += r
		if err == io.EOF || (err == nil && r == 0) {
			return nil
		}
		if err != nil {
			w.n = 0
			return err
		}
	}
	return nil
}

// close releases the file, if there is one.
func (w *window) close() {
	if w.f != nil {
		w.f.Close() // opened for reading: nothing can be lost
		w.f = nil
	}
}

package durable

import (
	"io"
	"io/fs"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// bounce is the most that a read off the grid copies through memory at once.
const bounce = 256 << 10

// uncachedFile reads past the page cache with O_DIRECT, and where that is
// refused tells the kernel to forget each range before it reads it.
type uncachedFile struct {
	osFile
	past atomic.Bool // O_DIRECT is set
	pos  int64       // where Read goes on
}

func openUncached(f *os.File) File {
	u := &uncachedFile{osFile: osFile{f: f}}
	u.past.Store(setDirect(f, true) == nil)
	return u
}

func (u *uncachedFile) Read(p []byte) (int, error) {
	n, err := u.ReadAt(p, u.pos)
	u.pos += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

func (u *uncachedFile) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, &fs.PathError{Op: "read", Path: u.f.Name(), Err: fs.ErrInvalid}
	}
	if u.past.Load() {
		n, err := u.readPast(p, off)
		if !isDirectRefused(err) {
			return n, u.pathError(err)
		}
		u.past.Store(false)
		_ = setDirect(u.f, false) // if it stays set, the read below says so
	}
	forget(u.f, off, int64(len(p)))
	return u.f.ReadAt(p, off)
}

// readPast reads straight into p if all lies on the grid, else by way of a
// buffer that does.
func (u *uncachedFile) readPast(p []byte, off int64) (int, error) {
	if aligned(p) && off%Grid == 0 && len(p)%Grid == 0 {
		return u.pread(p, off)
	}
	buf := alignedBuffer(min(bounce, (len(p)+2*Grid)&^(Grid-1)))
	done := 0
	for done < len(p) {
		skip := int((off + int64(done)) % Grid)
		want := min(len(buf), (skip+len(p)-done+Grid-1)&^(Grid-1))
		n, err := u.pread(buf[:want], off+int64(done-skip))
		if n > skip {
			done += copy(p[done:], buf[skip:n])
		}
		if err != nil && done < len(p) {
			return done, err
		}
	}
	return done, nil
}

// pread fills p, which lies on the grid, or returns io.EOF. A direct read ends
// off the grid only at the end of the file, so that it is never continued from
// there, which some filesystems refuse.
func (u *uncachedFile) pread(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		n, err := u.preadOnce(p[done:], off+int64(done))
		if err != nil {
			return done, err
		}
		done += n
		if n == 0 || n%Grid != 0 {
			break
		}
	}
	if done < len(p) {
		return done, io.EOF
	}
	return done, nil
}

// preadOnce goes through Control rather than Read of the raw connection,
// which would let one read in at a time.
func (u *uncachedFile) preadOnce(p []byte, off int64) (n int, err error) {
	cerr := control(u.f, func(fd int) error {
		n, err = unix.Pread(fd, p, off)
		return err
	})
	return max(n, 0), cerr
}

func (u *uncachedFile) pathError(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &fs.PathError{Op: "read", Path: u.f.Name(), Err: err}
}

// alignedBuffer returns n bytes that start on the grid in memory.
func alignedBuffer(n int) []byte {
	b := make([]byte, n+Grid)
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (Grid - 1))
	return b[skip : skip+n : skip+n]
}

package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/blockframe/blockframe/internal/frame"
)

// Reader reads one version of an object. Every byte it returns was verified
// against the address of the object. Damage that can be repaired is, behind the
// reader's back; damage that cannot be gives a *CorruptError for the range it
// falls into, and only for that.
//
// ReadAt may be called concurrently; Read, Seek, WriteTo and Close share one
// position and may not. The context given when it was opened bounds its life.
type Reader struct {
	s   *Store
	ctx context.Context
	obj Object

	upkeep bool // it reads for what the store does by itself

	mu     sync.Mutex
	c      Content
	member []byte  // all of the content, once it was read out of a pack and proven
	last   *handle // of the last read
	each   int64   // length of the extents, 0 unknown
	closed bool

	pos   int64
	run   int64 // where the last Read ended
	ahead *readahead
}

// Open returns a reader of a version of an object. The caller closes it.
func (s *Store) Open(ctx context.Context, obj Object) (*Reader, error) {
	if s.ctx.Err() != nil {
		return nil, fmt.Errorf("open %s: %w", obj.Name, fs.ErrClosed)
	}
	c, err := s.pinContent(ctx, &obj)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", obj.Name, err)
	}
	return &Reader{s: s, ctx: ctx, obj: obj, c: c, run: -1}, nil
}

// pinContent returns where the content of an object is, with the upload that it lies
// in pinned: a collection that was about to declare it dead either comes first, and
// the row is gone, or finds the pin.
func (s *Store) pinContent(ctx context.Context, obj *Object) (Content, error) {
	c, err := s.cat.Content(ctx, obj.ID)
	for err == nil {
		s.pins.add(c.Upload)
		var again Content
		if again, err = s.cat.Content(ctx, obj.ID); err == nil && again.Upload == c.Upload {
			if err = checkContent(&again, obj); err == nil {
				return again, nil
			}
		}
		s.pins.release(c.Upload)
		c = again
	}
	return Content{}, err
}

// checkContent holds a row against the object that it is for.
func checkContent(c *Content, obj *Object) error {
	if c.Size != obj.Size {
		return fmt.Errorf("%w: content of %d bytes, object of %d", ErrCorrupt, c.Size, obj.Size)
	}
	if c.Inline != nil && (int64(len(c.Inline)) != c.Size || ID(frame.Sum(c.Inline)) != c.ID) {
		return fmt.Errorf("%w: the catalog's copy does not match the address", ErrCorrupt)
	}
	return nil
}

// packed reports whether a content lies in a pack with others. Such a content is
// small, and proven by hashing it whole.
func packed(c Content) bool { return c.Inline == nil && c.Size <= MaxSmall }

// Object returns the version that is read.
func (r *Reader) Object() Object { return r.obj }

// Size returns the number of bytes of the object.
func (r *Reader) Size() int64 { return r.obj.Size }

// Close ends the reader. A second Close does nothing.
func (r *Reader) Close() error {
	r.stopAhead()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	r.closed = true
	if r.last != nil {
		r.s.open.put(r.last)
		r.last = nil
	}
	r.s.pins.release(r.c.Upload)
	return nil
}

// ReadAt reads len(p) bytes from offset off, fewer only with an error: io.EOF at
// the end of the object.
func (r *Reader) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("read %s: %w: offset %d", r.obj.Name, fs.ErrInvalid, off)
	}
	for n < len(p) && off < r.obj.Size && err == nil {
		var m int
		m, err = r.readSome(p[n:min(int64(len(p)), int64(n)+r.obj.Size-off)], off)
		n, off = n+m, off+int64(m)
	}
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

// readSome reads from one block.
func (r *Reader) readSome(p []byte, off int64) (int, error) {
	c, err := r.content()
	if err != nil {
		return 0, err
	}
	if c.Inline != nil {
		return copy(p, c.Inline[off:]), nil
	}
	n, err := r.readPlaced(p, c, off)
	if err == nil || r.ctx.Err() != nil {
		return n, err
	}
	// The content may have moved since the reader was opened, or its blobs may have
	// been replaced: ask once more where they are before this counts as damage.
	if moved, merr := r.moved(c); merr == nil && moved.Inline != nil {
		return copy(p, moved.Inline[off:]), nil
	} else if merr == nil {
		if n, err2 := r.readPlaced(p, moved, off); err2 == nil {
			return n, nil
		}
	} else if r.outdated(c.Offset + off) {
		if n, err = r.readPlaced(p, c, off); err == nil {
			return n, nil
		}
	}
	return 0, r.named(err, c)
}

// readPlaced reads from one block of a stream, or from a member of a pack, which is
// read whole at first and compared with its address. A member of which a block is
// lost is read block by block: what is left of it was verified against the pack.
func (r *Reader) readPlaced(p []byte, c Content, off int64) (int, error) {
	if !packed(c) {
		return r.readBlock(p, c, off)
	}
	r.mu.Lock()
	data := r.member
	r.mu.Unlock()
	if data == nil {
		data = make([]byte, c.Size)
		for at := 0; at < len(data); {
			n, err := r.readBlock(data[at:], c, int64(at))
			if err != nil {
				return r.readBlock(p, c, off)
			}
			at += n
		}
		if sum(data) != c.ID {
			return 0, fmt.Errorf("%w: bytes [%d, %d) of upload %v are not the content %v", ErrCorrupt, c.Offset, c.Offset+c.Size, c.Upload, c.ID)
		}
		r.mu.Lock()
		r.member = data
		r.mu.Unlock()
	}
	return copy(p, data[off:]), nil
}

// content returns where the object's bytes are.
func (r *Reader) content() (Content, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return Content{}, fmt.Errorf("read %s: %w", r.obj.Name, fs.ErrClosed)
	}
	return r.c, r.ctx.Err()
}

// moved asks the catalog where the content is now, and fails when that is where it
// was.
func (r *Reader) moved(old Content) (Content, error) {
	c, err := r.s.pinContent(r.ctx, &r.obj)
	if err != nil {
		return c, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || c.Upload == old.Upload && c.Offset == old.Offset && r.c.Upload == old.Upload {
		r.s.pins.release(c.Upload)
		return c, errSame
	}
	if r.last != nil {
		r.s.open.put(r.last)
		r.last = nil
	}
	r.s.pins.release(r.c.Upload)
	r.c, r.member, r.each = c, nil, 0
	return c, nil
}

// outdated reports whether the record of the extent that holds a position of the
// stored stream may have changed since it was read.
func (r *Reader) outdated(pos int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	x := r.last
	return x == nil || x.stale.Load() || !x.holds(x.e.Upload, pos)
}

var errSame = errors.New("store: content did not move")

// named puts the object's name and range into the error of an extent.
func (r *Reader) named(err error, c Content) error {
	var ce *CorruptError
	if !errors.As(err, &ce) {
		return fmt.Errorf("read %s: %w", r.obj.Name, err)
	}
	n := *ce
	lo, hi := max(ce.Offset-c.Offset, 0), min(ce.Offset+ce.Length-c.Offset, r.obj.Size)
	n.Name, n.Offset, n.Length = r.obj.Name, lo, hi-lo
	return &n
}

// readBlock reads from the block that holds byte off of the content.
func (r *Reader) readBlock(p []byte, c Content, off int64) (int, error) {
	x, at, err := r.extent(c, c.Offset+off)
	if err != nil {
		return 0, err
	}
	defer r.s.open.put(x)
	b, in := int(at/BlockSize), int(at%BlockSize)
	key := blockKey{x.e.ID, b}
	if data, ok := r.s.cache.get(key); ok {
		r.s.stats.cacheHits.Add(1)
		return copy(p, data[in:]), nil
	}
	r.busy()
	got, err := r.s.readBlock(r.ctx, x, b)
	if err != nil {
		return 0, err
	}
	defer got.free()
	n := copy(p, got.data[in:])
	r.s.cache.put(key, got.data)
	return n, nil
}

// busy makes known that backends are read for somebody.
func (r *Reader) busy() {
	if !r.upkeep {
		r.s.busy.Add(1)
	}
}

// extent returns a handle of the extent that holds a position of the stored
// stream, to be given back, and the position in it.
func (r *Reader) extent(c Content, pos int64) (*handle, int64, error) {
	if x := r.opened(c, pos); x != nil {
		return x, pos - x.e.Offset, nil
	}
	e, err := r.s.extentAt(r.ctx, c.Upload, pos)
	if err != nil {
		return nil, 0, err
	}
	x, err := r.s.open.get(r.ctx, e)
	if err != nil {
		return nil, 0, err
	}
	r.keep(x)
	return x, pos - e.Offset, nil
}

// opened returns a handle of the extent that holds a position, to be given back, if it is
// open: that of the last read, or one that was used not long ago. The catalog is asked
// when there is none, or its record changed.
func (r *Reader) opened(c Content, pos int64) *handle {
	r.mu.Lock()
	x, each := r.last, r.each
	if x != nil && !x.stale.Load() && x.holds(c.Upload, pos) {
		r.s.open.retain(x)
		r.mu.Unlock()
		return x
	}
	r.mu.Unlock()
	if each == 0 {
		return nil
	}
	if x = r.s.open.find(c.Upload, int(pos/each)); x == nil {
		return nil
	}
	if !x.holds(c.Upload, pos) {
		r.s.open.put(x)
		return nil
	}
	r.keep(x)
	return x
}

// keep remembers the handle for the next read.
func (r *Reader) keep(x *handle) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.each = x.each()
	if r.closed || r.last == x {
		return
	}
	if r.last != nil {
		r.s.open.put(r.last)
	}
	r.s.open.retain(x)
	r.last = x
}

// Seek sets the position of the next Read or WriteTo.
func (r *Reader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.pos
	case io.SeekEnd:
		offset += r.obj.Size
	case io.SeekStart:
	default:
		return 0, fmt.Errorf("seek %s: %w: whence %d", r.obj.Name, fs.ErrInvalid, whence)
	}
	if offset < 0 {
		return 0, fmt.Errorf("seek %s: %w: offset %d", r.obj.Name, fs.ErrInvalid, offset)
	}
	r.pos = offset
	return offset, nil
}

// Read reads from the current position. Reads that follow one another are served
// from stripes that are fetched ahead.
func (r *Reader) Read(p []byte) (int, error) {
	if r.pos >= r.obj.Size {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := r.readAhead(p)
	if n == 0 && err == nil {
		p = p[:min(len(p), BlockSize)]
		if n, err = r.ReadAt(p, r.pos); n > 0 && err == io.EOF {
			err = nil
		}
	}
	r.pos += int64(n)
	r.run = r.pos
	r.s.stats.readBytes.Add(int64(n))
	return n, err
}

// WriteTo writes the rest of the object to w. What was written before an error was
// right.
func (r *Reader) WriteTo(w io.Writer) (total int64, err error) {
	for r.pos < r.obj.Size {
		b, err := r.nextAhead(maxStripes)
		if err != nil {
			return total, err
		}
		n, err := w.Write(b)
		total += int64(n)
		r.s.stats.readBytes.Add(int64(n))
		r.pos += int64(n)
		r.run = r.pos
		if err == nil && n < len(b) {
			err = io.ErrShortWrite
		}
		if err != nil {
			return total, err
		}
	}
	r.stopAhead()
	return total, nil
}

package mem

import (
	"slices"
	"sync"

	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/store"
)

// piece is the length of the parts that a blob is kept in, but for the last.
const piece = 64 << 10

// content is a sequence of bytes in pieces. pieces[i] holds bytes from i*piece
// on, or is nil if they are zero and were elided. A piece that is full is never
// changed in place, so that copies of a content share it.
type content struct {
	elide  bool
	size   int64
	pieces [][]byte
}

// append adds a copy of p.
func (c *content) append(p []byte) {
	for len(p) > 0 {
		fill := int(c.size % piece)
		if fill == 0 {
			c.pieces = append(c.pieces, nil)
		}
		last := &c.pieces[len(c.pieces)-1]
		n := min(len(p), piece-fill)
		switch {
		case *last == nil && c.elide && frame.Zero(p[:n]):
			// nothing to keep
		case *last == nil && fill > 0: // elided so far
			*last = append(make([]byte, fill, piece), p[:n]...)
		default:
			*last = append(*last, p[:n]...)
		}
		c.size += int64(n)
		p = p[n:]
	}
}

// readAt fills p from off on and returns how much there was.
func (c content) readAt(p []byte, off int64) int {
	done := 0
	for done < len(p) && off+int64(done) < c.size {
		at := off + int64(done)
		n := int(min(int64(len(p)-done), c.size-at, piece-at%piece))
		if part := c.pieces[at/piece]; part != nil {
			copy(p[done:done+n], part[at%piece:])
		} else {
			clear(p[done : done+n])
		}
		done += n
	}
	return done
}

// flip returns a copy of c with the bits of mask inverted in one byte.
func (c content) flip(off int64, mask byte) content {
	c.pieces = slices.Clone(c.pieces)
	i := off / piece
	n := min(piece, c.size-i*piece)
	part := make([]byte, n)
	copy(part, c.pieces[i])
	part[off%piece] ^= mask
	c.pieces[i] = part
	return c
}

// truncate returns the first n bytes of c, or c and zeros up to n bytes.
func (c content) truncate(n int64) content {
	out := content{elide: c.elide}
	buf := make([]byte, piece)
	for out.size < n {
		got := c.readAt(buf[:min(piece, n-out.size)], out.size)
		clear(buf[got:])
		out.append(buf[:min(piece, n-out.size)])
	}
	return out
}

// blob is a content that can be replaced while readers have it open.
type blob struct {
	mu sync.Mutex
	c  content
}

func newBlob(c content) *blob { return &blob{c: c} }

func (b *blob) get() content {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.c
}

func (b *blob) set(c content) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.c = c
}

// Bytes returns a copy of a blob, nil if there is none.
func (b *Backend) Bytes(key store.BackendKey) []byte {
	found, ok := b.lookup(key)
	if !ok {
		return nil
	}
	c := found.get()
	p := make([]byte, c.size)
	c.readAt(p, 0)
	return p
}

// SetBytes makes p the content of key, whether there was one or not.
func (b *Backend) SetBytes(key store.BackendKey, p []byte) {
	c := content{elide: b.elide}
	c.append(p)
	b.replace(key, c)
}

// Size returns the length of a blob, -1 if there is none.
func (b *Backend) Size(key store.BackendKey) int64 {
	found, ok := b.lookup(key)
	if !ok {
		return -1
	}
	return found.get().size
}

// Flip inverts the bits of mask in the byte at off. Like all damage, readers
// that are open see it. It panics if there is no such byte.
func (b *Backend) Flip(key store.BackendKey, off int64, mask byte) {
	b.damage(key, func(c content) content { return c.flip(off, mask) })
}

// Truncate makes a blob n bytes long, with zeros at its end if it was shorter.
func (b *Backend) Truncate(key store.BackendKey, n int64) {
	b.damage(key, func(c content) content { return c.truncate(n) })
}

// Swap exchanges the contents of two blobs.
func (b *Backend) Swap(x, y store.BackendKey) {
	bx, okx := b.lookup(x)
	by, oky := b.lookup(y)
	if !okx || !oky {
		panic("mem: Swap of an absent blob")
	}
	cx, cy := bx.get(), by.get()
	bx.set(cy)
	by.set(cx)
}

// Delete removes a blob, if it is there, without any fault or wait.
func (b *Backend) Delete(key store.BackendKey) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if found, ok := b.blobs[key]; ok {
		b.used -= found.get().size
		delete(b.blobs, key)
	}
}

// Clone returns a backend with the same identity, capacity and blobs, and
// without faults: what a test compares with, or returns to.
func (b *Backend) Clone() *Backend {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := &Backend{id: b.id, elide: b.elide, capacity: b.capacity, blobs: map[store.BackendKey]*blob{}}
	for k, old := range b.blobs {
		content := old.get()
		c.used += content.size
		c.blobs[k] = newBlob(content)
	}
	return c
}

func (b *Backend) damage(key store.BackendKey, how func(content) content) {
	found, ok := b.lookup(key)
	if !ok {
		panic("mem: damage to an absent blob: " + string(key))
	}
	b.replace(key, how(found.get()))
}

// replace puts c under key and keeps count of the space.
func (b *Backend) replace(key store.BackendKey, c content) {
	b.mu.Lock()
	defer b.mu.Unlock()
	found, ok := b.blobs[key]
	if !ok {
		found = newBlob(content{})
		b.blobs[key] = found
	}
	b.used += c.size - found.get().size
	found.set(c)
}

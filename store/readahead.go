package store

import (
	"context"
	"io"
)

// fetchesAhead is how many fetches a reader has under way, memory permitting.
const fetchesAhead = 4

// readahead fetches stripes ahead of a reader that goes through an object. It
// takes memory from the budget only when there is some at once: a reader never
// waits for it, since what holds the budget may be waiting for the reader. Without
// it goes on stripe by stripe.
type readahead struct {
	r      *Reader
	c      Content // where the content was when it started
	ctx    context.Context
	cancel func()
	next   int64    // position in the content of the next fetch to start
	grow   int      // stripes of that fetch
	queue  []*fetch // in order; the first is the one being read
}

// startAhead begins to fetch at the reader's position.
func (r *Reader) startAhead(c Content, grow int) {
	ctx, cancel := context.WithCancel(r.ctx)
	keep := context.AfterFunc(r.s.ctx, cancel) // a store that closes waits for nobody
	r.ahead = &readahead{r: r, c: c, ctx: ctx, cancel: func() { keep(); cancel() }, next: r.pos, grow: grow}
}

// stopAhead ends what is under way. Its memory comes back when it has ended.
func (r *Reader) stopAhead() {
	a := r.ahead
	if a == nil {
		return
	}
	r.ahead = nil
	a.cancel()
	for _, f := range a.queue {
		<-f.done
		f.end()
	}
}

// readAhead serves a Read from fetched stripes, 0 bytes when it is not worth while:
// at the first read after a Seek, and near the end.
func (r *Reader) readAhead(p []byte) (int, error) {
	if r.run != r.pos || r.ahead == nil && r.obj.Size-r.pos <= BlockSize {
		r.stopAhead()
		return 0, nil
	}
	b, err := r.nextAhead(1)
	if err != nil {
		return 0, err
	}
	return copy(p, b), nil
}

// nextAhead returns verified bytes at the reader's position, valid until the next
// call. They are at most a block.
// What is fetched ahead is of where the content was: when it has moved, it is fetched
// anew, beginning with grow stripes.
func (r *Reader) nextAhead(grow int) ([]byte, error) {
	c, err := r.content()
	if err != nil {
		return nil, err
	}
	if a := r.ahead; a != nil && (r.run != r.pos || a.c.Upload != c.Upload || a.c.Offset != c.Offset) {
		r.stopAhead()
	}
	if c.Inline != nil {
		return c.Inline[r.pos:], nil
	}
	if r.ahead == nil && (r.obj.Size-r.pos <= BlockSize || packed(c)) {
		return r.oneBlock()
	}
	if r.ahead == nil {
		r.startAhead(c, grow)
	}
	b, err := r.ahead.at(c, c.Offset+r.pos)
	if err != nil {
		r.stopAhead()
		if r.ctx.Err() != nil {
			return nil, r.ctx.Err()
		}
		return r.oneBlock() // decides whether it is damage, or the content moved
	}
	return b, nil
}

// oneBlock reads a block at the reader's position into memory of its own.
func (r *Reader) oneBlock() ([]byte, error) {
	b := make([]byte, min(BlockSize-r.pos%BlockSize, r.obj.Size-r.pos))
	n, err := r.ReadAt(b, r.pos)
	if err == io.EOF && n == len(b) {
		err = nil
	}
	if n > 0 {
		return b[:n], nil
	}
	return nil, err
}

// at returns the bytes at a position of the stored stream.
func (a *readahead) at(c Content, pos int64) ([]byte, error) {
	for {
		if len(a.queue) == 0 || pos >= a.queue[0].hi {
			if len(a.queue) > 0 {
				a.queue[0].end()
				a.queue = a.queue[1:]
			}
			if err := a.fill(c); err != nil && len(a.queue) == 0 {
				return nil, err
			}
			continue
		}
		<-a.queue[0].done
		return a.queue[0].block(pos)
	}
}

// fill starts fetches until enough are under way.
func (a *readahead) fill(c Content) error {
	for len(a.queue) < fetchesAhead && a.next < a.r.obj.Size {
		f, err := a.start(c)
		if err != nil || f == nil {
			return err
		}
		a.queue = append(a.queue, f)
		a.next = f.hi - c.Offset
		a.grow = min(2*a.grow, maxStripes)
	}
	return nil
}

// start starts the next fetch, nil when there is no memory for it now and others
// are under way.
func (a *readahead) start(c Content) (*fetch, error) {
	r := a.r
	pos := c.Offset + a.next
	x, at, err := r.extent(c, pos)
	if err != nil {
		return nil, err
	}
	stripe := int64(x.e.Code.K) * BlockSize
	first := int(at / stripe)
	end := min(x.e.Offset+x.e.Length, c.Offset+r.obj.Size) // of what is wanted in this extent
	last := int((end - x.e.Offset + stripe - 1) / stripe)
	sl := r.s.slabs.tryRead(x.e.Code, min(a.grow, last-first))
	if sl == nil && len(a.queue) == 0 {
		sl = r.s.slabs.single(x.e.Code)
	}
	if sl == nil {
		r.s.open.put(x)
		return nil, nil
	}
	r.busy()
	n := min(sl.stripes, last-first)
	f := &fetch{s: r.s, x: x, slab: sl, first: first, stripes: n, lo: pos,
		hi: min(end, x.e.Offset+int64(first+n)*stripe), done: make(chan struct{})}
	r.s.spawn(func(err error) {
		if err != nil {
			f.fail(err)
			return
		}
		f.run(a.ctx)
	})
	return f, nil
}

// fail ends a fetch that never began.
func (f *fetch) fail(err error) {
	f.allBad(err)
	close(f.done)
}

// allBad makes err the answer for every block.
func (f *fetch) allBad(err error) {
	f.bad = map[int]error{}
	for b := range f.stripes * f.x.e.Code.K {
		f.bad[b] = err
	}
}

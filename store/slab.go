package store

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/blockframe/blockframe/erasure"
	"github.com/blockframe/blockframe/internal/frame"
	"golang.org/x/sync/semaphore"
)

// maxStripes is how many stripes a slab holds at most: 16 make writes of 1 MiB to
// each backend.
const maxStripes = 16

// slab holds some stripes of an extent, column by column, so that what goes to one
// backend is one contiguous piece: column i is
// buf[i*stripes*BlockSize:][:stripes*BlockSize].
type slab struct {
	buf     []byte
	code    erasure.Code
	stripes int // room
	pool    *slabs
	loan    int64        // bytes taken from the budget
	refs    atomic.Int32 // writers or readers that still need buf
}

// block returns the memory of block (column, stripe) of the slab.
func (s *slab) block(column, stripe int) []byte {
	at := (column*s.stripes + stripe) * BlockSize
	return s.buf[at : at+BlockSize : at+BlockSize]
}

// column returns the memory of a column.
func (s *slab) column(i int) []byte {
	n := s.stripes * BlockSize
	return s.buf[i*n : (i+1)*n : (i+1)*n]
}

// release gives one reference back, and with the last one the memory.
func (s *slab) release() {
	if s.refs.Add(-1) == 0 {
		s.pool.put(s)
	}
}

// slabs is the one memory budget of a store for stripes under way. Memory that is
// not in use is kept for the next slab of the same size, within the budget.
//
// Invariant: lent + idle ≤ budget, in bytes, where lent is what sem has given out.
type slabs struct {
	budget int64
	sem    *semaphore.Weighted
	mu     sync.Mutex
	idle   map[int][][]byte
	bytes  int64 // idle
	lent   int64
}

func newSlabs(budget int64) *slabs {
	return &slabs{budget: budget, sem: semaphore.NewWeighted(budget), idle: map[int][][]byte{}}
}

// get returns a slab of up to want stripes: as many as the budget gives at once,
// else a single one, for which it waits. The caller holds one reference.
func (p *slabs) get(ctx context.Context, c erasure.Code, want int) (*slab, error) {
	if s := p.try(c, want); s != nil {
		return s, nil
	}
	if s := p.try(c, 1); s != nil {
		return s, nil
	}
	n := int64(c.Shards()) * BlockSize
	if err := p.sem.Acquire(ctx, n); err != nil {
		return nil, err
	}
	return p.make(c, 1, n), nil
}

// try returns a slab of want stripes if the budget holds one now.
func (p *slabs) try(c erasure.Code, want int) *slab {
	want = p.fit(c, want)
	n := int64(c.Shards()) * int64(want) * BlockSize
	if want > 1 && p.inUse()+n > p.budget*3/4 || !p.sem.TryAcquire(n) {
		return nil // the last quarter is for those who need a single stripe to go on
	}
	return p.make(c, want, n)
}

// inUse returns the bytes that are lent out.
func (p *slabs) inUse() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lent
}

// fit bounds the stripes of a slab so that four fit into the budget: one being
// filled, one computed, two written.
func (p *slabs) fit(c erasure.Code, want int) int {
	quarter := int(p.budget / 4 / (int64(c.Shards()) * BlockSize))
	return max(1, min(want, maxStripes, quarter))
}

// make returns a slab whose n bytes were acquired.
func (p *slabs) make(c erasure.Code, stripes int, n int64) *slab {
	s := &slab{code: c, stripes: stripes, pool: p, loan: n, buf: p.memory(int(n))}
	s.refs.Store(1)
	return s
}

// single returns a slab of one stripe outside the budget, for a reader that must
// not wait: it may be what a put is waiting for.
func (p *slabs) single(c erasure.Code) *slab {
	s := &slab{code: c, stripes: 1, pool: p, buf: frame.Aligned(c.Shards() * BlockSize)}
	s.refs.Store(1)
	return s
}

// memory returns n bytes: idle ones of that size, or new ones after dropping as
// much idle memory as the budget demands.
func (p *slabs) memory(n int) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lent += int64(n)
	if list := p.idle[n]; len(list) > 0 {
		b := list[len(list)-1]
		p.idle[n] = list[:len(list)-1]
		p.bytes -= int64(n)
		return b
	}
	for size, list := range p.idle {
		for len(list) > 0 && p.lent+p.bytes > p.budget {
			list = list[:len(list)-1]
			p.bytes -= int64(size)
		}
		p.idle[size] = list
	}
	return frame.Aligned(n)
}

func (p *slabs) put(s *slab) {
	if s.loan == 0 {
		return
	}
	n := int64(len(s.buf))
	p.mu.Lock()
	p.lent -= n
	if p.lent+p.bytes+n <= p.budget {
		p.idle[len(s.buf)] = append(p.idle[len(s.buf)], s.buf)
		p.bytes += n
	}
	p.mu.Unlock()
	s.buf = nil // a use after release is a nil slice, not another stream's data
	p.sem.Release(s.loan)
}

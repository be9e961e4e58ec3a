package store

import (
	"context"
	"math/bits"
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
	reader  bool         // by a reader
	off     bool         // written off; guarded by pool.mu
	back    bool         // given back; guarded by pool.mu
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

// writeOff gives the budget back what the slab took of it, although a call of a backend
// that does not answer has the memory: else a few of these would hold up all others.
// The memory itself is not lent again before the call ends.
func (s *slab) writeOff() { s.pool.writeOff(s) }

// slabs is the one memory budget of a store for stripes under way. Memory that is
// not in use is kept for the next slab of the same size, within the budget.
//
// Memory that was written off comes on top of it, as much as the budget once more at
// most: what would exceed that stays on loan.
//
// Readers hold what they fetched for as long as whoever reads takes, and that may be
// a put which waits for memory. So they never wait, and never have more than half,
// nor so much that a stripe of the widest code does not fit beside it: puts wait for
// puts alone.
//
// Invariants, in bytes: lent + idle ≤ budget, where lent is what sem has given out;
// toReaders ≤ forReaders; off ≤ budget.
type slabs struct {
	budget     int64
	forReaders int64
	sem        *semaphore.Weighted
	mu         sync.Mutex
	idle       map[int][][]byte
	bytes      int64 // idle
	lent       int64
	toReaders  int64 // of lent
	off        int64 // written off, and not given back yet
}

// newSlabs returns a budget of at least a stripe of the widest code.
func newSlabs(budget int64) *slabs {
	widest := int64(erasure.MaxShards * BlockSize)
	s := newBudget(max(budget, widest))
	s.forReaders = min(s.budget/2, s.budget-widest)
	return s
}

// newBudget returns a budget of which nothing is for readers.
func newBudget(budget int64) *slabs {
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
	n := stripeBytes(c)
	if err := p.sem.Acquire(ctx, n); err != nil {
		return nil, err
	}
	return p.make(c, 1, n, false), nil
}

// try returns a slab of want stripes, or of as many as one may have, if the budget
// holds it now.
func (p *slabs) try(c erasure.Code, want int) *slab {
	want = fit(p.budget/writeSlabs, c, want)
	n := stripeBytes(c) * int64(want)
	if want > 1 && p.inUse()+n > p.budget*3/4 || !p.sem.TryAcquire(n) {
		return nil // the last quarter is for those who need a single stripe to go on
	}
	return p.make(c, want, n, false)
}

// tryRead is try for a reader.
func (p *slabs) tryRead(c erasure.Code, want int) *slab {
	want = fit(p.forReaders/readSlabs, c, want)
	n := stripeBytes(c) * int64(want)
	if !p.readers(n) {
		return nil
	}
	if !p.sem.TryAcquire(n) {
		p.readers(-n)
		return nil
	}
	return p.make(c, want, n, true)
}

// readers counts n bytes more that readers have, unless that is too much.
func (p *slabs) readers(n int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.toReaders+n > p.forReaders {
		return false
	}
	p.toReaders += n
	return true
}

// inUse returns the bytes that are lent out.
func (p *slabs) inUse() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lent
}

// How many slabs fit into the budget. Of those of a put one is being filled, one
// computed, and the others written: each waits for the slowest of its backends, and a
// disk is kept busy by those behind it. A reader has one in use and some ahead.
const (
	writeSlabs = 8
	readSlabs  = 4
)

// fit returns how many of the stripes wanted fit into so many bytes: a power of two of
// them, unless they are fewer. Disks like writes of that length: 320 KiB at a time took
// half as long again as 256.
func fit(room int64, c erasure.Code, want int) int {
	n := max(1, min(maxStripes, int(room/stripeBytes(c))))
	return min(want, 1<<(bits.Len(uint(n))-1))
}

// stripeBytes returns the memory of a stripe.
func stripeBytes(c erasure.Code) int64 { return int64(c.Shards()) * BlockSize }

// make returns a slab whose n bytes were acquired, for a reader counted as such; its
// memory may be larger, and counts as that.
func (p *slabs) make(c erasure.Code, stripes int, n int64, reader bool) *slab {
	s := &slab{code: c, stripes: stripes, pool: p, loan: n, reader: reader, buf: p.memory(int(n), reader)}
	s.loan += int64(cap(s.buf)) - n
	s.refs.Store(1)
	return s
}

// single returns a slab of one stripe outside the budget, for a reader that must
// not wait: it may be what a put is waiting for.
func (p *slabs) single(c erasure.Code) *slab {
	s := &slab{code: c, stripes: 1, pool: p, buf: frame.Aligned(int(stripeBytes(c)))}
	s.refs.Store(1)
	return s
}

// memory returns n bytes: idle ones of that size, or new ones after dropping as
// much idle memory as the budget demands. Rather than that it lends the smallest idle
// piece that is larger, all of it: what is dropped is garbage, and the collector lets
// as much of it gather as there is memory in use.
func (p *slabs) memory(n int, reader bool) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if b := p.take(n); b != nil {
		p.lent += int64(n)
		return b
	}
	if p.lent+p.bytes+int64(n) > p.budget {
		if b := p.larger(n, reader); b != nil {
			p.lent += int64(cap(b))
			return b
		}
	}
	p.lent += int64(n)
	for size, list := range p.idle {
		for len(list) > 0 && p.lent+p.bytes > p.budget {
			list[len(list)-1] = nil
			list = list[:len(list)-1]
			p.bytes -= int64(size)
		}
		p.idle[size] = list
	}
	return frame.Aligned(n)
}

// take returns an idle piece of that size, or nil. p.mu is held.
func (p *slabs) take(size int) []byte {
	list := p.idle[size]
	if len(list) == 0 {
		return nil
	}
	b := list[len(list)-1]
	list[len(list)-1] = nil
	p.idle[size] = list[:len(list)-1]
	p.bytes -= int64(size)
	return b
}

// larger returns n bytes of the smallest idle piece that is larger, if the budget
// has room for lending all of it, or nil. p.mu is held.
func (p *slabs) larger(n int, reader bool) []byte {
	best := 0
	for size, list := range p.idle {
		if len(list) > 0 && size > n && (best == 0 || size < best) {
			best = size
		}
	}
	more := int64(best - n)
	if best == 0 || reader && p.toReaders+more > p.forReaders || !p.sem.TryAcquire(more) {
		return nil
	}
	if reader {
		p.toReaders += more
	}
	return p.take(best)[:n:best]
}

func (p *slabs) put(s *slab) {
	if s.loan == 0 {
		return
	}
	n := int64(cap(s.buf))
	p.mu.Lock()
	defer p.mu.Unlock()
	s.back = true
	if s.off {
		p.off -= n
	} else {
		p.giveBack(s, n)
	}
	if p.lent+p.bytes+n <= p.budget {
		p.idle[int(n)] = append(p.idle[int(n)], s.buf[:n])
		p.bytes += n
	}
	s.buf = nil // a use after release is a nil slice, not another stream's data
}

// giveBack takes the n bytes of a slab off what is lent. p.mu is held.
func (p *slabs) giveBack(s *slab, n int64) {
	p.lent -= n
	if s.reader {
		p.toReaders -= n
	}
	p.sem.Release(s.loan)
}

// writeOff takes a slab off what is lent, unless it was given back, or too much is off
// already.
func (p *slabs) writeOff(s *slab) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := int64(cap(s.buf))
	if s.loan == 0 || s.back || s.off || p.off+n > p.budget {
		return
	}
	s.off = true
	p.off += n
	p.giveBack(s, n)
}

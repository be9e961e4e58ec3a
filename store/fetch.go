package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/blockframe/blockframe/internal/frame"
)

var blockPool = sync.Pool{New: func() any { b := frame.Aligned(BlockSize); return &b }}

// piece is the block of one column of a stripe, on its way or arrived.
type piece struct {
	column int
	buf    *[]byte // from blockPool
	data   []byte  // of it
	err    error
}

func (p *piece) free() {
	if p.buf != nil {
		blockPool.Put(p.buf)
		p.buf = nil
	}
}

// ask reads the block of a column in a goroutine, which sends the piece to ch: ch
// has room for all that are asked for. The blob may be slow; who asked need not wait.
func (f *stripeFetch) ask(ctx context.Context, column int) {
	s, x := f.s, f.x
	d := x.disks[column]
	way := &errand{d: d}
	f.errands = append(f.errands, way)
	f.pending++
	s.open.retain(x)
	s.spawnRead(func(err error) {
		defer s.open.put(x)
		p := piece{column: column, err: err}
		defer func() {
			way.end()
			f.ch <- p
		}()
		if err != nil {
			return
		}
		r, err := x.blob(ctx, s, column)
		if err != nil {
			p.err = err
			return
		}
		p.buf = blockPool.Get().(*[]byte)
		p.data = (*p.buf)[:x.g.ShardBlockLen(column, f.stripe)]
		began := time.Now()
		_, p.err = readFull(r, p.data, headerSize+int64(f.stripe)*BlockSize)
		d.lat.add(time.Since(began))
		d.trouble.took(began)
	})
}

// readBlock returns data block b of the extent, verified, in memory of blockPool.
// It reads that block alone when it is sound and comes in time; otherwise other
// blocks of its stripe.
//
// Before a block is called lost, blobs that could not be opened lately are tried again.
func (s *Store) readBlock(ctx context.Context, x *handle, b int) (piece, error) {
	p, err := s.readBlockOnce(ctx, x, b)
	if err != nil && ctx.Err() == nil && x.retry() {
		return s.readBlockOnce(ctx, x, b)
	}
	return p, err
}

func (s *Store) readBlockOnce(ctx context.Context, x *handle, b int) (piece, error) {
	stripe, want := b/x.e.Code.K, b%x.e.Code.K
	if x.disks[want].slow() {
		if f := newStripeFetch(s, x, stripe, want); f.order[0] != want {
			s.stats.hedged.Add(1)
			return s.fetchBlock(ctx, f)
		} // else so are all others: one of them is not k times as fast
	}
	q, err := s.query(ctx, x, want, stripe)
	if err != nil {
		return piece{}, err
	}
	p, came := q.wait(ctx, x.patience(1))
	if came && p.err == nil && x.check(want, stripe, p.data) {
		return p, nil
	}
	if err := ctx.Err(); err != nil && !came {
		q.abandon()
		return piece{}, err
	}
	f := newStripeFetch(s, x, stripe, want).without(want)
	if came {
		f.reject(ctx, p)
	} else {
		s.stats.hedged.Add(1)
		f.late, f.pending = q, 1
	}
	return s.fetchBlock(ctx, f)
}

func (s *Store) fetchBlock(ctx context.Context, f *stripeFetch) (piece, error) {
	defer f.free()
	return f.run(ctx)
}

// stripeFetch computes one block of a stripe from others, as few of them as will
// do and as many as it takes.
type stripeFetch struct {
	s       *Store
	x       *handle
	stripe  int
	want    int // column
	ch      chan piece
	need    int   // columns: k less those that are empty in the last stripe
	order   []int // columns to be asked still
	pending int
	errands []*errand
	late    *query  // of the wanted column, that did not come in time
	have    []piece // arrived, not the wanted column
	sure    bool    // the pieces in have were verified
	errs    []error
}

// newStripeFetch returns a fetch that asks the wanted column first, then the others,
// then those whose backends are slow, also if it is the wanted one. Empty columns are
// not asked.
func newStripeFetch(s *Store, x *handle, stripe, want int) *stripeFetch {
	n := len(x.e.Shards)
	f := &stripeFetch{s: s, x: x, stripe: stripe, want: want, need: x.e.Code.K, ch: make(chan piece, n)}
	var last []int
	for i := range n {
		c := (want + i) % n
		switch {
		case x.g.ShardBlockLen(c, stripe) == 0:
			f.need--
		case x.disks[c].slow():
			last = append(last, c)
		default:
			f.order = append(f.order, c)
		}
	}
	f.order = append(f.order, last...)
	return f
}

// reject takes note of a piece that is no good.
func (f *stripeFetch) reject(ctx context.Context, p piece) {
	err := p.err
	if err == nil {
		err = errMismatch
	}
	f.errs = append(f.errs, err)
	f.s.blame(ctx, f.x, p.column, f.stripe, err)
	p.free()
}

// more asks for the next column and reports whether there was one.
func (f *stripeFetch) more(ctx context.Context) bool {
	if len(f.order) == 0 {
		return false
	}
	f.ask(ctx, f.order[0])
	f.order = f.order[1:]
	return true
}

// without takes a column off those to be asked.
func (f *stripeFetch) without(column int) *stripeFetch {
	f.order = slices.DeleteFunc(f.order, func(c int) bool { return c == column })
	return f
}

// run asks for k other columns, replaces those that fail, asks for all that are
// left when they take too long, and returns the wanted block once it is proven.
func (f *stripeFetch) run(ctx context.Context) (piece, error) {
	for range f.need {
		f.more(ctx)
	}
	timer := time.NewTimer(f.x.patience(1))
	defer timer.Stop()
	for {
		if len(f.have) >= f.need {
			if p, ok := f.compute(ctx); ok {
				return p, nil
			}
			continue // compute dropped what was bad
		}
		if f.pending == 0 && !f.more(ctx) {
			return piece{}, f.lost()
		}
		select {
		case p := <-f.ch:
			f.pending--
			if p.column == f.want && p.err == nil && f.x.check(f.want, f.stripe, p.data) {
				return p, nil
			}
			if p.column == f.want || p.err != nil {
				f.reject(ctx, p)
				f.more(ctx)
				continue
			}
			f.have = append(f.have, p)
			f.sure = false
		case p := <-f.wanted():
			f.pending--
			f.late.done()
			f.late = nil
			if p.err == nil && f.x.check(f.want, f.stripe, p.data) {
				return p, nil // it was only slow
			}
			f.reject(ctx, p)
			f.more(ctx)
		case <-timer.C:
			for f.more(ctx) {
			}
		case <-ctx.Done():
			return piece{}, ctx.Err()
		case <-f.s.ctx.Done():
			return piece{}, f.lost()
		}
	}
}

// wanted returns where the wanted piece comes that is late, nil when there is none.
func (f *stripeFetch) wanted() <-chan piece {
	if f.late == nil {
		return nil
	}
	return f.late.ch
}

// compute reconstructs the wanted block from what arrived and checks it against
// its hash. Only when it is wrong are the inputs checked, and the bad ones dropped.
func (f *stripeFetch) compute(ctx context.Context) (piece, bool) {
	size := f.x.g.StripeLen(f.stripe)
	blocks := make([][]byte, len(f.x.e.Shards))
	for _, p := range f.have {
		clear((*p.buf)[len(p.data):size]) // the code counts what is short as zeros
		blocks[p.column] = (*p.buf)[:size]
	}
	out := piece{column: f.want, buf: blockPool.Get().(*[]byte)}
	f.addEmpty(blocks, size)
	blocks[f.want] = (*out.buf)[:0]
	err := f.x.coder.Reconstruct(blocks, f.want)
	out.data = (*out.buf)[:f.x.g.ShardBlockLen(f.want, f.stripe)]
	if err == nil && f.x.check(f.want, f.stripe, out.data) {
		f.s.stats.reconstructed.Add(1)
		return out, true
	}
	out.free()
	if f.sure { // sound inputs, wrong result: the table or this machine is at fault
		f.errs = append(f.errs, errors.Join(err, errMismatch))
		f.drop(func(piece) bool { return false })
		return piece{}, false
	}
	f.drop(func(p piece) bool {
		if f.x.check(p.column, f.stripe, p.data) {
			return true
		}
		f.errs = append(f.errs, errMismatch)
		f.s.blame(ctx, f.x, p.column, f.stripe, errMismatch)
		return false
	})
	f.sure = true
	return piece{}, false
}

// addEmpty puts the columns that have no block in the last stripe among the known
// ones: they are zeros.
func (f *stripeFetch) addEmpty(blocks [][]byte, size int) {
	for c := range f.x.e.Code.K {
		if f.x.g.ShardBlockLen(c, f.stripe) == 0 {
			blocks[c] = zeroBlock[:size]
		}
	}
}

var zeroBlock = frame.Aligned(BlockSize)

var errMismatch = fmt.Errorf("%w: block does not match its hash", ErrCorrupt)

// drop keeps the pieces that keep accepts.
func (f *stripeFetch) drop(keep func(piece) bool) {
	list := f.have
	f.have = f.have[:0]
	for _, p := range list {
		if keep(p) {
			f.have = append(f.have, p)
		} else {
			p.free()
		}
	}
}

// free returns the memory of what arrived; pieces still on their way leave theirs to
// the garbage collector.
func (f *stripeFetch) free() {
	for _, way := range f.errands {
		way.giveUp()
	}
	if f.late != nil {
		f.late.abandon()
	}
	f.drop(func(piece) bool { return false })
}

// lost returns the error for a stripe that cannot be decoded: that it is lost, or, if
// the blocks that nobody can be asked for now might do, that they are unavailable.
func (f *stripeFetch) lost() error {
	all := errors.Join(f.errs...)
	if err := f.s.ctx.Err(); err != nil {
		return fmt.Errorf("store: %w", fs.ErrClosed)
	}
	if gone := unavailable(f.errs); gone > 0 && len(f.have)+gone >= f.need {
		return fmt.Errorf("%w: stripe %d of extent %v: %d good blocks, %d are needed, %d are out of reach: %v",
			ErrUnavailable, f.stripe, f.x.e.ID, len(f.have), f.need, gone, all)
	}
	at := int64(f.stripe*f.x.e.Code.K+f.want) * BlockSize
	return &CorruptError{Extent: f.x.e.ID, Stripe: f.stripe, Want: f.need, Got: len(f.have),
		Offset: f.x.e.Offset + at, Length: int64(f.x.g.ShardBlockLen(f.want, f.stripe)), err: all}
}

// unavailable returns how many of the errors say that a blob cannot be asked for now.
func unavailable(errs []error) (n int) {
	for _, err := range errs {
		if unreachable(err) {
			n++
		}
	}
	return n
}

package store

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/blockframe/blockframe/erasure"
	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/merkle"
)

// extentWriter is one extent under way. Its caller fills slabs; each slab is
// computed by a goroutine of its own and then written, in order, by one goroutine
// for each shard. The slab budget of the store bounds how many are under way.
type extentWriter struct {
	s       *Store
	ctx     context.Context // of the put
	ref     stream
	e       Extent
	limit   int64 // bytes the extent may grow to
	grow    int   // stripes of the next slab, when the size is not known
	coder   *erasure.Coder
	builder *merkle.Builder
	shards  []*shardWriter
	all     []*job // in order; their slabs are gone once written
	jobs    sync.WaitGroup
	sealed  *sealedExtent // nil: abort

	mu  sync.Mutex
	err error // of a computation: nothing of this extent may be kept
}

// job is a slab on its way to the shard writers, or a piece of what follows the blocks.
type job struct {
	part   []byte // the latter, as it is to be written
	slab   *slab
	first  int           // stripe
	bytes  int           // of data
	ready  chan struct{} // closed when parity is computed
	parity []byte        // hashes of its parity blocks, by stripe
}

// stripes returns the number of stripes that hold data.
func (j *job) stripes(k int) int { return (j.bytes + k*BlockSize - 1) / (k * BlockSize) }

// dataLen returns the length of data block (column c, stripe s) of the slab.
func (j *job) dataLen(c, s, k int) int {
	return max(0, min(BlockSize, j.bytes-(s*k+c)*BlockSize))
}

// columnLen returns the bytes of column i that belong into its blob.
func (j *job) columnLen(i, k int) int {
	if i >= k {
		i = 0 // parity is as long as the longest data block, the first
	}
	n := 0
	for s := range j.stripes(k) {
		n += j.dataLen(i, s, k)
	}
	return n
}

// expected returns how long the extent will be, 0 when that is not known.
func (w *extentWriter) expected() int64 {
	if w.ref.size < 0 {
		return 0
	}
	return min(w.ref.size-w.e.Offset, w.limit)
}

// want returns how many stripes the next slab should hold.
func (w *extentWriter) want() int {
	if w.ref.size < 0 { // it may be short, or slow: ask for more as it goes on
		w.grow = min(max(1, 2*w.grow), maxStripes)
		return w.grow
	}
	stripe := int64(w.ref.code.K) * BlockSize
	return int(max(1, min(maxStripes, (w.expected()-w.e.Length+stripe-1)/stripe)))
}

// slabs returns the budget that the stream takes its memory from.
func (w *extentWriter) slabs() *slabs {
	if w.ref.slabs != nil {
		return w.ref.slabs
	}
	return w.s.slabs
}

// fill cuts in into slabs, up to the length of an extent, and sends them off.
func (w *extentWriter) fill(ctx context.Context, in *lookahead) error {
	stripe := int64(w.ref.code.K) * BlockSize
	for w.e.Length < w.limit {
		if err := w.failure(); err != nil {
			return err
		}
		sl, err := w.slabs().get(ctx, w.ref.code, w.want())
		if err != nil {
			return err
		}
		j := &job{slab: sl, first: int(w.e.Length / stripe), ready: make(chan struct{})}
		full, err := j.fill(in, w.ref.code.K, w.limit-w.e.Length)
		if err != nil || j.bytes == 0 {
			sl.release()
			return err
		}
		if !w.ref.upkeep {
			w.s.busy.Add(1)
		}
		w.e.Length += int64(j.bytes)
		w.send(j)
		if !full {
			return nil
		}
	}
	return nil
}

// fill reads blocks into the slab until it is full, limit bytes are read or the
// stream ends, and reports whether it is full. What the stream does not fill of
// the last stripe is zeroed: the code counts it as zeros.
func (j *job) fill(in *lookahead, k int, limit int64) (bool, error) {
	for at := range j.slab.stripes * k {
		b := j.slab.block(at%k, at/k)
		n, err := in.fill(b[:min(int64(len(b)), limit-int64(j.bytes))])
		if err != nil {
			return false, err
		}
		j.bytes += n
		clear(b[n:])
		if n < len(b) {
			for at++; at%k != 0; at++ {
				clear(j.slab.block(at%k, at/k))
			}
			return false, nil
		}
	}
	return true, nil
}

// send hands a slab to a goroutine that computes it and to all shard writers, who
// wait for that.
func (w *extentWriter) send(j *job) {
	j.slab.refs.Store(int32(1 + len(w.shards)))
	w.all = append(w.all, j)
	w.jobs.Go(func() {
		defer j.slab.release()
		defer close(j.ready)
		if err := w.compute(j); err != nil {
			w.fail(err)
		}
	})
	for _, sw := range w.shards {
		sw.jobs <- j
	}
}

// compute fills in the parity of a slab, checks it, and hashes every block.
func (w *extentWriter) compute(j *job) error {
	k, m := w.ref.code.K, w.ref.code.M
	blocks := make([][]byte, k+m)
	for s := range j.stripes(k) {
		size := j.dataLen(0, s, k)
		for c := range blocks {
			blocks[c] = j.slab.block(c, s)[:size]
		}
		if err := w.coder.Encode(blocks); err != nil {
			return err
		}
		// One wrong bit here, from bad memory or a bad release of the encoder, would
		// only be found when the parity is needed.
		if ok, err := w.coder.Verify(blocks); err != nil || !ok {
			return errors.Join(err, fmt.Errorf("%w: parity of stripe %d does not verify after encoding: memory or processor at fault", frame.ErrCorrupt, j.first+s))
		}
		for c := range k {
			if n := j.dataLen(c, s, k); n > 0 {
				w.builder.Add((j.first+s)*k+c, blocks[c][:n])
			}
		}
		for _, p := range blocks[k:] {
			if k > 1 {
				h := sum(p)
				j.parity = append(j.parity, h[:]...)
			}
			clear(p[size:cap(p)]) // it pads the blob
		}
	}
	return nil
}

// seal sends what follows the blocks to the shard writers, all but the trailers. last
// says that the stream, of size bytes, ends with this extent.
func (w *extentWriter) seal(ctx context.Context, before *series, last bool, size int64) error {
	e := &w.e
	e.Whole = last && before.n == 0
	table, err := w.builder.Finish(e.Length, e.Whole)
	if err != nil {
		return err
	}
	var parity, cvs []byte
	for _, j := range w.all {
		parity = append(parity, j.parity...)
	}
	for i := range table.CVs {
		cvs = append(cvs, table.CVs[i][:]...)
	}
	e.Hash, e.ParityRoot = table.Hash(), frame.Sum(parity)
	e.Descriptor = describe(e.ID, e.Geometry(), e.CodeID, e.Transform, e.Hash, e.ParityRoot)
	cvs = append(cvs, parity...)
	w.sendPart(padded(cvs), func(int) bool { return true })
	c := lineCutter{emit: func(piece []byte) error {
		w.sendPart(piece, e.carries)
		return w.failure()
	}}
	if err := w.lines(ctx, before, last, size, c.add); err != nil {
		return err
	}
	l := lines{}
	if l.len, l.hash, err = c.end(); err != nil {
		return err
	}
	if w.ref.pack != nil {
		l.at = w.ref.pack.at
	}
	w.sealed = newSealed(w.s.storeID, e, cvs, l)
	return nil
}

// lines hands the manifests of the extent to add.
func (w *extentWriter) lines(ctx context.Context, before *series, last bool, size int64, add func([]byte) error) error {
	if w.ref.kind == KindPack {
		return add(w.ref.pack.lines)
	}
	if err := add(w.firstLine()); err != nil || !last {
		return err
	}
	top := before.top
	top.add(w.e.Hash)
	all := func(yield func(Extent, error) bool) {
		for e, err := range w.s.extentsOf(ctx, w.ref.upload, before.n) {
			if !yield(e, err) {
				return
			}
		}
		yield(w.e, nil)
	}
	return completeLine(w.ref.upload, top.id(), size, all, add)
}

// firstLine returns the line that all shards of the extent carry.
func (w *extentWriter) firstLine() []byte {
	if w.ref.keep != nil {
		return w.ref.keep.line(&w.e)
	}
	return objectLine(w.ref, &w.e)
}

// sendPart hands a piece of what follows the blocks to the writers of some shards.
func (w *extentWriter) sendPart(part []byte, to func(i int) bool) {
	j := &job{part: part}
	for _, sw := range w.shards {
		if to(sw.index) {
			sw.jobs <- j
		}
	}
}

// finish lets the shard writers end, with the parts of a sealed extent or by
// aborting if err is not nil, waits for them, and reports whether enough shards
// are durable. Those that are not become Missing.
func (w *extentWriter) finish(err error) error {
	if err != nil {
		w.sealed = nil
	}
	for _, sw := range w.shards {
		close(sw.jobs)
	}
	var errs []error
	for i, sw := range w.shards {
		<-sw.done
		if sw.err != nil {
			w.e.Shards[i].Missing = true
			errs = append(errs, fmt.Errorf("backend %v: %w", w.e.Shards[i].Backend, sw.err))
		}
	}
	if err != nil {
		return err
	}
	return w.s.enough(w.ctx, w.e.Code, errs)
}

// enough decides whether an extent may be acknowledged although some of its shards
// could not be written: k+1 must be, none for want of space. That its context has ended
// makes a put fail, whether the backends took notice or not.
func (s *Store) enough(ctx context.Context, c erasure.Code, errs []error) error {
	if len(errs) == 0 {
		return nil
	}
	all := errors.Join(errs...)
	if ctx.Err() != nil {
		return fmt.Errorf("%d of %d shards were not written: %w: %w", len(errs), c.Shards(), ctx.Err(), all)
	}
	if errors.Is(all, ErrNoSpace) || c.Shards()-len(errs) < c.K+1 || s.opts.WriteAll {
		return fmt.Errorf("%d of %d shards could not be written: %w", len(errs), c.Shards(), all)
	}
	return nil
}

func (w *extentWriter) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = errors.Join(w.err, err)
}

// failure returns why the extent cannot be completed: a computation failed, or too
// many shards did.
func (w *extentWriter) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	var errs []error
	for _, sw := range w.shards {
		if err := sw.failed.Load(); err != nil {
			errs = append(errs, *err)
		}
	}
	return w.s.enough(w.ctx, w.ref.code, errs)
}

package store

import (
	"context"
	"time"
)

// fetch is some stripes of an extent on their way into a slab, for a reader that
// goes through an object.
type fetch struct {
	s       *Store
	x       *handle
	slab    *slab
	first   int           // stripe
	stripes int           // of the extent
	lo, hi  int64         // the part of the stored stream that is wanted of it
	done    chan struct{} // closed when cols and bad are final

	cols  [][]byte      // memory of each column, stripe by stripe; nil: not fetched
	asked []bool        // by column: somebody reads into its place in the slab, or did
	good  [][]bool      // [column][stripe]: verified
	bad   map[int]error // data blocks, counted from the first of the fetch, that are lost
}

// columnRead is the outcome of reading one column of a fetch.
type columnRead struct {
	column int
	good   []bool // data columns: blocks that match their hash
	err    error  // nothing was read
}

// run reads the data columns, or parity in place of those that are known to be
// gone, verifies them, and computes what is missing. A column that takes three
// times as long as reads usually do is not waited for.
func (f *fetch) run(ctx context.Context) {
	defer close(f.done)
	n := len(f.x.e.Shards)
	f.cols, f.good, f.asked = make([][]byte, n), make([][]bool, n), make([]bool, n)
	ch := make(chan columnRead, n)
	var errands []*errand
	for _, c := range f.choose() {
		f.asked[c] = true
		errands = append(errands, f.readColumn(ctx, c, ch))
	}
	timer := time.NewTimer(f.x.patience(f.stripes))
	defer timer.Stop()
	for waiting := len(errands); waiting > 0; waiting-- {
		select {
		case r := <-ch:
			if r.err == nil {
				f.cols[r.column], f.good[r.column] = f.memory(r.column), r.good
			}
		case <-timer.C:
			f.s.stats.hedged.Add(1)
			waiting = 1
		case <-ctx.Done():
			waiting = 1
		}
	}
	for _, way := range errands {
		way.giveUp()
	}
	if ctx.Err() != nil {
		f.allBad(ctx.Err())
		return
	}
	f.complete(ctx)
}

// memory returns the place of a column in the slab.
func (f *fetch) memory(c int) []byte { return f.slab.column(c)[:f.stripes*BlockSize] }

// choose returns the columns to read: the data columns that hold something of the
// wanted range; and if the blob of one of these is gone, others up to k, so that it
// can be computed.
func (f *fetch) choose() []int {
	k := f.x.e.Code.K
	var list, spare []int
	gone, empty := false, 0
	for c := range f.x.e.Shards {
		switch {
		case c < k && f.x.g.ShardBlockLen(c, f.first) == 0:
			empty++ // as short as that is only the last stripe of an extent, by itself
		case c >= k || !f.wanted(c):
			spare = append(spare, c)
		case f.there(c):
			list = append(list, c)
		default:
			gone = true
		}
	}
	for _, c := range spare {
		if gone && len(list)+empty < k && f.there(c) {
			list = append(list, c)
		}
	}
	return list
}

// there reports whether a column may be expected to arrive: its blob could be opened
// and its backend answers.
func (f *fetch) there(c int) bool {
	return f.x.failed(c) == nil && !f.x.disks[c].slow()
}

// wanted reports whether a data column has a block in the wanted range.
func (f *fetch) wanted(c int) bool {
	for s := range f.stripes {
		if f.needs(c, s) {
			return true
		}
	}
	return false
}

// needs reports whether data block (column, stripe of the fetch) overlaps the
// wanted range.
func (f *fetch) needs(c, s int) bool {
	n := int64(f.x.g.ShardBlockLen(c, f.first+s))
	at := f.x.e.Offset + int64((f.first+s)*f.x.e.Code.K+c)*BlockSize
	return n > 0 && at < f.hi && at+n > f.lo
}

// readColumn reads the blocks of a column in a goroutine, which sends the outcome
// to ch, and checks those of data columns. It keeps the slab until it ends.
func (f *fetch) readColumn(ctx context.Context, c int, ch chan<- columnRead) *errand {
	way := &errand{d: f.x.disks[c]}
	f.s.open.retain(f.x)
	f.slab.refs.Add(1)
	f.s.spawnRead(func(err error) {
		defer f.s.open.put(f.x)
		defer f.slab.release()
		out := columnRead{column: c, err: err}
		defer func() {
			way.end()
			ch <- out
		}()
		if err == nil {
			out.good, out.err = f.loadColumn(ctx, c)
		}
	})
	return way
}

// loadColumn reads a column in one go, or block by block when that fails, so that a
// bad sector costs the block that it is in.
func (f *fetch) loadColumn(ctx context.Context, c int) ([]bool, error) {
	r, err := f.x.blob(ctx, f.s, c)
	if err != nil {
		f.s.blame(ctx, f.x, c, wholeShard, err)
		return nil, err
	}
	size := 0
	for s := range f.stripes {
		size += f.x.g.ShardBlockLen(c, f.first+s)
	}
	mem := f.memory(c)
	began := time.Now()
	_, err = readFull(r, mem[:size], headerSize+int64(f.first)*BlockSize)
	f.x.disks[c].lat.add(time.Since(began) / time.Duration(f.stripes))
	f.x.disks[c].trouble.took(began)
	whole := err == nil
	good := make([]bool, f.stripes)
	for s := range f.stripes {
		b := mem[s*BlockSize:][:f.x.g.ShardBlockLen(c, f.first+s)]
		err := ctx.Err()
		if err == nil && !whole && len(b) > 0 {
			_, err = readFull(r, b, headerSize+int64(f.first+s)*BlockSize)
		}
		if err == nil && c < f.x.e.Code.K && len(b) > 0 && !f.x.check(c, f.first+s, b) {
			err = errMismatch
		}
		if good[s] = err == nil; !good[s] {
			f.s.blame(ctx, f.x, c, f.first+s, err)
		}
		clear(mem[s*BlockSize+len(b) : (s+1)*BlockSize]) // the code counts it as zeros
	}
	return good, nil
}

// complete computes the data blocks that did not arrive or are bad.
func (f *fetch) complete(ctx context.Context) {
	k := f.x.e.Code.K
	for s := range f.stripes {
		var missing []int
		for c := range k {
			if f.needs(c, s) && (f.good[c] == nil || !f.good[c][s]) {
				missing = append(missing, c)
			}
		}
		if len(missing) > 0 {
			f.computeStripe(ctx, s, missing)
		}
	}
}

// computeStripe fills in the missing columns of a stripe: from what was read if
// that is enough and proves right, else one by one from whatever else there is.
func (f *fetch) computeStripe(ctx context.Context, s int, missing []int) {
	k, size := f.x.e.Code.K, f.x.g.StripeLen(f.first+s)
	blocks := make([][]byte, len(f.x.e.Shards))
	for c := range blocks {
		switch {
		case f.good[c] != nil && f.good[c][s]:
			blocks[c] = f.cols[c][s*BlockSize:][:size]
		case c < k && f.x.g.ShardBlockLen(c, f.first+s) == 0:
			blocks[c] = zeroBlock[:size]
		}
	}
	for _, c := range missing {
		if f.cols[c] == nil {
			f.cols[c] = f.room(c)
		}
		blocks[c] = f.cols[c][s*BlockSize:][:0:BlockSize]
	}
	err := f.x.coder.Reconstruct(blocks, missing...)
	for _, c := range missing {
		b := f.cols[c][s*BlockSize:][:f.x.g.ShardBlockLen(c, f.first+s)]
		if err == nil && f.x.check(c, f.first+s, b) {
			f.s.stats.reconstructed.Add(1)
			continue
		}
		f.recoverBlock(ctx, s, c, b)
	}
}

// room returns memory for a column that is computed: its place in the slab, or that
// of another where nobody reads, since a late read may still write to its own.
func (f *fetch) room(c int) []byte {
	for range f.asked {
		if !f.asked[c] {
			f.asked[c] = true
			return f.memory(c)
		}
		c = (c + len(f.asked) - 1) % len(f.asked)
	}
	return make([]byte, f.stripes*BlockSize)
}

// recoverBlock asks for every other block of the stripe until the wanted one is
// proven, or lost.
func (f *fetch) recoverBlock(ctx context.Context, s, c int, dst []byte) {
	p, err := f.s.readBlock(ctx, f.x, (f.first+s)*f.x.e.Code.K+c)
	if err != nil {
		if f.bad == nil {
			f.bad = map[int]error{}
		}
		f.bad[s*f.x.e.Code.K+c] = err
		return
	}
	copy(dst, p.data)
	p.free()
}

// block returns the wanted part of the block that holds a position of the stream,
// or why it is lost. The fetch is done.
func (f *fetch) block(pos int64) ([]byte, error) {
	k := f.x.e.Code.K
	at := pos - f.x.e.Offset - int64(f.first*k)*BlockSize
	b, in := int(at/BlockSize), int(at%BlockSize)
	if err := f.bad[b]; err != nil {
		return nil, err
	}
	data := f.cols[b%k][(b/k)*BlockSize:][in:f.x.g.ShardBlockLen(b%k, f.first+b/k)]
	return data[:min(int64(len(data)), f.hi-pos)], nil
}

// end gives slab and handle back.
func (f *fetch) end() {
	f.slab.release()
	f.s.open.put(f.x)
}

package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/blockframe/blockframe/internal/frame"
	"golang.org/x/sync/errgroup"
)

// healShard makes shard i of an extent whole: its sound blocks are copied and the
// bad ones computed into a blob of the next generation, which is read back before
// the record names it. It returns the number of blocks computed; 0 with no error
// when nothing was wrong. Nothing is modified in place, and the old blob is removed
// only when the new one is in the record.
//
// The steps, and what a crash after each leaves: the new blob is committed (an
// orphan, found by its generation and removed by the next repair or collection); it
// is verified; Replace is committed, the one commit point (the old blob is the
// orphan now); the old blob is removed.
func (s *Store) healShard(ctx context.Context, id ExtentID, i int) (int, error) {
	unlock, err := s.healing.lock(ctx, id)
	if err != nil {
		return 0, err
	}
	defer unlock()
	e, err := s.current(ctx, id) // of one that is dead the blobs may be gone; else they stay meanwhile
	if err != nil {
		return 0, err
	}
	if i >= len(e.Shards) {
		return 0, fmt.Errorf("%w: extent %v has no shard %d", fs.ErrInvalid, id, i)
	}
	x, err := s.open.get(ctx, e)
	if err != nil {
		return 0, err
	}
	defer s.open.put(x)
	x.retry()
	st := s.inspectShard(ctx, x, i, 0, x.g.Stripes())
	if st.absent != nil {
		return 0, st.absent
	}
	if st.ok() {
		return 0, s.intact(ctx, &e, i)
	}
	if s.leaves(e.Shards[i].Backend) {
		n, err := s.relocate(ctx, x, i, &st)
		if !errors.Is(err, ErrTooFew) && !errors.Is(err, ErrNoSpace) || s.here()[e.Shards[i].Backend] == nil {
			return n, err
		} // better there than nowhere
	}
	return s.rewriteShard(ctx, x, i, &st, e.Shards[i].Backend, nil)
}

// retry forgets which blobs could not be opened, and reports whether there were any:
// they may be back, and what heals or judges wants to know how things are now. One that
// is being opened is left to that.
func (x *handle) retry() (any bool) {
	for i := range x.blobs {
		b := &x.blobs[i]
		select {
		case b.busy <- struct{}{}:
			any = any || b.err != nil
			b.err = nil
			<-b.busy
		default:
		}
	}
	return any
}

// intact takes a shard off the repair queue that was found in order.
func (s *Store) intact(ctx context.Context, e *Extent, i int) error {
	g := e.Shards[i].Generation
	return s.damage.settle(ctx, e.ID, i, g, Intact{Extent: e.ID, Shard: i, Generation: g})
}

// rewriteShard writes, verifies and commits the next generation of a shard, on the
// same backend or another. pace, if not nil, is called before so many bytes are written.
func (s *Store) rewriteShard(ctx context.Context, x *handle, i int, st *shardState, to BackendID, pace func(n int) error) (int, error) {
	old := x.e.Shards[i]
	e := x.e
	e.Shards = append([]Shard(nil), e.Shards...)
	e.Shards[i].Missing, e.Shards[i].Backend = false, to
	n, err := s.writeShard(ctx, x, &e, i, st, pace)
	if err != nil {
		return 0, fmt.Errorf("heal shard %d of extent %v: %w", i, e.ID, err)
	}
	next := e.Shards[i]
	fresh := &handle{e: e, g: x.g, coder: x.coder, table: x.table, par: x.par, blobs: newBlobs(len(e.Shards))}
	if again := s.inspectShard(ctx, fresh, i, 0, x.g.Stripes()); !again.ok() {
		s.removeBlob(e.Shards[i].Backend, e.Key(i))
		return 0, fmt.Errorf("heal shard %d of extent %v: what was written does not read back: %w", i, e.ID, again.err())
	}
	if err := s.damage.settle(ctx, e.ID, i, old.Generation, Replace{Extent: e.ID, Shard: i, From: old.Generation, To: next}); err != nil {
		if errors.Is(err, ErrUncertain) {
			s.pins.add(e.Upload) // for good: either blob may be the one that counts
		} else {
			s.removeBlob(next.Backend, e.Key(i))
		}
		return 0, fmt.Errorf("heal shard %d of extent %v: %w", i, e.ID, err)
	}
	x.stale.Store(true)
	s.open.drop(e.ID)
	if !old.Missing && s.here()[old.Backend] != nil {
		s.removeLoose(old.Backend, x.e.Key(i))
	}
	if to != old.Backend && n == 0 {
		return 0, nil // it was moved as it was
	}
	s.stats.repaired.Add(1)
	s.log.Info("shard repaired", "extent", e.ID, "shard", i, "generation", next.Generation, "blocks", n)
	if s.opts.Events.Repaired != nil {
		s.opts.Events.Repaired(Repaired{Extent: e.ID, Shard: i, Generation: next.Generation, Backend: next.Backend, Blocks: n})
	}
	return n, nil
}

// removeBlob removes a blob that no record names. One that stays is an orphan for
// the collection. The next repair may use its key again: so nothing is left behind that
// could yet remove it then.
func (s *Store) removeBlob(id BackendID, key BackendKey) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), discardTime)
	defer cancel()
	if err := s.disk(id).Remove(ctx, key); err != nil {
		s.log.Warn("leftover blob stays until it is collected", "key", key, "err", err)
	}
}

// maxLeftovers bounds the generations that are passed over because repairs which
// never came to their commit point left blobs of them.
const maxLeftovers = 64

// writeShard writes the blob of shard i of e, whose table x holds, as the next
// generation. A blob that has its key is left alone: a record that names it may have
// been logged without anybody knowing. The collection removes it if none did.
func (s *Store) writeShard(ctx context.Context, x *handle, e *Extent, i int, st *shardState, pace func(n int) error) (int, error) {
	parts, err := s.partsOf(ctx, x, e)
	if err != nil {
		return 0, err
	}
	d := s.disk(e.Shards[i].Backend)
	for range maxLeftovers {
		e.Shards[i].Generation++
		n, err := s.copyShard(ctx, d, x, e, i, st, parts, pace)
		if !errors.Is(err, fs.ErrExist) {
			return n, err
		}
	}
	return 0, fmt.Errorf("%w: blob %s", fs.ErrExist, e.Key(i))
}

// copyShard writes header, blocks and the rest to a new blob and commits it.
func (s *Store) copyShard(ctx context.Context, d *disk, x *handle, e *Extent, i int, st *shardState, parts *shardParts, pace func(n int) error) (n int, err error) {
	out, err := d.newBlob(ctx, e.Key(i))
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			out.abort()
		}
	}()
	put := func(b []byte) error {
		if pace != nil {
			if err := pace(len(b)); err != nil {
				return err
			}
		}
		_, err := out.write(b, nil)
		return err
	}
	h := headerOf(s.storeID, e, i)
	buf := frame.Aligned(max(pieceStripes*BlockSize, headerSize))
	if err = put(appendHeader(buf[:0], &h)); err != nil {
		return 0, err
	}
	if n, err = s.copyBlocks(ctx, put, x, i, st, buf); err != nil {
		return n, err
	}
	if err = parts.write(put, h, e.carries(i)); err != nil {
		return n, err
	}
	// A crash before Commit leaves nothing visible. A commit that is left behind, and
	// comes true, leaves an orphan: it is not removed at once, since another repair may
	// have written under the same key meanwhile.
	return n, out.commit(nil)
}

// copyBlocks writes the column of shard i: blocks that are sound as they are, the
// others computed from their stripe. Every block is verified before it is written.
func (s *Store) copyBlocks(ctx context.Context, put func([]byte) error, x *handle, i int, st *shardState, buf []byte) (computed int, err error) {
	var old *look
	if st.blocks < x.g.Stripes() && !s.disk(x.e.Shards[i].Backend).slow() {
		if old, err = s.lookAt(ctx, &x.e, i); err == nil {
			defer old.close()
		}
	}
	for lo := 0; lo < x.g.Stripes(); lo += pieceStripes {
		n := min(pieceStripes, x.g.Stripes()-lo)
		good := make([]bool, n)
		if old != nil {
			var read []bool
			left, err := old.do(ctx, func(r BackendReader) error { read = readColumn(r, x, i, lo, n, buf); return nil }, nil)
			switch {
			case ctx.Err() != nil:
				return computed, ctx.Err()
			case err == nil:
				good = read
			case left: // the read has the buffer, and closes the blob
				buf = frame.Aligned(len(buf))
				fallthrough
			default:
				old = nil // the rest is computed
			}
		}
		var work errgroup.Group
		work.SetLimit(4)
		size := int64(0)
		for j := range n {
			length := x.g.ShardBlockLen(i, lo+j)
			size += frame.Align(int64(length))
			if good[j] || length == 0 {
				continue
			}
			computed++
			work.Go(func() error { return s.computeInto(ctx, x, lo+j, i, buf[j*BlockSize:(j+1)*BlockSize]) })
		}
		if err := work.Wait(); err != nil {
			return computed, err
		}
		if err := put(buf[:size]); err != nil {
			return computed, err
		}
	}
	return computed, nil
}

// computeInto computes the block of a column from others of its stripe and fills
// dst up with zeros.
func (s *Store) computeInto(ctx context.Context, x *handle, stripe, column int, dst []byte) error {
	f := newStripeFetch(s, x, stripe, column).without(column) // it is what is bad
	defer f.free()
	p, err := f.run(ctx)
	if err != nil {
		return err
	}
	clear(dst[copy(dst, p.data):])
	p.free()
	return nil
}

// shardParts is what follows the blocks in the shards of an extent.
type shardParts struct {
	sealed *sealedExtent
	table  []byte
	lines  lines
}

// partsOf makes the parts of an extent anew, from the verified table and the manifests
// of any sound shard.
func (s *Store) partsOf(ctx context.Context, x *handle, e *Extent) (*shardParts, error) {
	var table []byte
	for i := range x.table.CVs {
		table = append(table, x.table.CVs[i][:]...)
	}
	table = append(table, x.par...)
	l, err := s.findManifests(ctx, x)
	if err != nil {
		return nil, err
	}
	return &shardParts{newSealed(s.storeID, e, table, l), padded(table), l}, nil
}

// write writes the parts for the shard with this header. That manifests which are
// copied from another shard are still what they were is known when what was written is
// read back.
func (p *shardParts) write(put func([]byte) error, h header, carries bool) error {
	if err := put(p.table); err != nil {
		return err
	}
	if carries {
		c := lineCutter{emit: put}
		if err := p.lines.each(c.add); err != nil {
			return err
		}
		if _, _, err := c.end(); err != nil {
			return err
		}
	}
	return put(p.sealed.tail(h, carries))
}

package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/blockframe/blockframe/internal/frame"
)

// pieceStripes is how many blocks of a column are read at once when a shard is
// verified.
const pieceStripes = 16

// shardState is what a look at one blob found.
type shardState struct {
	absent error  // the backend cannot be asked
	gone   bool   // no block can be read: absent, or the blob is not there
	parts  error  // the blob, its header, table, manifests, padding or trailer is bad
	bad    []byte // bitmap of the stripes whose block is bad
	blocks int    // number of them
	read   int64  // bytes
}

// ok reports whether nothing is wrong.
func (st *shardState) ok() bool { return st.absent == nil && st.parts == nil && st.blocks == 0 }

// err returns what is wrong, nil when nothing is.
func (st *shardState) err() error {
	switch {
	case st.absent != nil:
		return st.absent
	case st.parts != nil:
		return st.parts
	case st.blocks > 0:
		return fmt.Errorf("%w: %d blocks do not match their hash", ErrCorrupt, st.blocks)
	}
	return nil
}

// inspectShard looks at the blob of shard i as the medium has it: at every part but
// the blocks, and at the blocks of the stripes [lo, hi).
func (s *Store) inspectShard(ctx context.Context, x *handle, i, lo, hi int) (st shardState) {
	l, err := s.lookAt(ctx, &x.e, i)
	if err != nil {
		st.note(err)
		return st
	}
	defer l.close()
	s.lookAtParts(ctx, l, x, i, &st)
	if st.absent == nil && hi > lo {
		s.lookAtBlocks(ctx, l, x, i, lo, hi, &st)
	}
	return st
}

// note keeps the first error, in the place that its kind belongs to.
func (st *shardState) note(err error) {
	switch {
	case err == nil:
	case unreachable(err):
		st.absent = errors.Join(st.absent, err)
	default:
		st.parts = errors.Join(st.parts, err)
	}
}

// unreachable reports whether an error says that a blob could not be asked, rather
// than that there is something wrong with it.
func unreachable(err error) bool {
	for _, target := range []error{ErrUnavailable, context.Canceled, context.DeadlineExceeded, fs.ErrPermission, fs.ErrClosed} {
		if errors.Is(err, target) {
			return true
		}
	}
	return exhausted(err)
}

// exhausted reports whether an error says that this process, or the machine, has run out
// of what an open blob takes.
func exhausted(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}

// lookAtParts verifies everything of a blob but its blocks.
func (s *Store) lookAtParts(ctx context.Context, l *look, x *handle, i int, st *shardState) {
	var n int64
	left, err := l.do(ctx, func(r BackendReader) (err error) {
		n, err = s.checkParts(r, x, i)
		return err
	}, nil)
	if !left {
		st.read += n
	}
	st.note(err)
}

// checkParts verifies everything of a blob but its blocks, and returns how many bytes
// it read.
func (s *Store) checkParts(r BackendReader, x *handle, i int) (n int64, err error) {
	b := frame.Aligned(headerSize)
	if _, err := readFull(r, b, 0); err != nil {
		return 0, err
	}
	h, err := decodeHeader(b)
	if err != nil {
		return 0, err
	}
	t, err := readTrailer(r)
	if err != nil {
		return 0, err
	}
	if err := t.matches(s.storeID, &x.e, i); err != nil {
		return 0, err
	}
	if h != t.header {
		return 0, fmt.Errorf("%w: header and trailer differ", ErrCorrupt)
	}
	for _, p := range []struct {
		name string
		span span
		hash frame.Hash
	}{{"table", t.table, t.tableHash}, {"manifests", t.manifests, t.maniHash}, {"extra part", t.extra, t.extraHash}} {
		if err := checkPart(r, p.span, p.hash); err != nil {
			return n, fmt.Errorf("%s: %w", p.name, err)
		}
		n += p.span.end() - p.span.off
	}
	return n + headerSize + trailerSize, nil
}

// checkPart verifies a part and the zeros behind it.
func checkPart(r BackendReader, p span, hash frame.Hash) error {
	buf := frame.Aligned(int(min(linePiece, p.end()-p.off)))
	c, zero := lineCutter{}, true
	for at := p.off; at < p.end(); at += linePiece {
		b := buf[:min(linePiece, p.end()-at)]
		if _, err := readFull(r, b, at); err != nil {
			return err
		}
		n := min(int64(len(b)), p.off+p.len-at)
		if err := c.add(b[:n]); err != nil {
			return err
		}
		zero = zero && frame.Zero(b[n:])
	}
	if _, sum, err := c.end(); err != nil || sum != hash {
		return errors.Join(err, fmt.Errorf("%w: hash does not match", ErrCorrupt))
	}
	if !zero {
		return fmt.Errorf("%w: padding is not zero", ErrCorrupt)
	}
	return nil
}

// lookAtBlocks verifies the blocks of the stripes [lo, hi) of a column.
func (s *Store) lookAtBlocks(ctx context.Context, l *look, x *handle, i, lo, hi int, st *shardState) {
	buf := frame.Aligned(min(pieceStripes, hi-lo) * BlockSize)
	for at := lo; at < hi; at += pieceStripes {
		n := min(pieceStripes, hi-at)
		var good []bool
		_, err := l.do(ctx, func(r BackendReader) error {
			good = readColumn(r, x, i, at, n, buf)
			return ctx.Err()
		}, nil)
		if err != nil {
			st.note(err)
			return
		}
		for j, ok := range good {
			if !ok {
				st.bad = setBit(st.bad, at+j)
				st.blocks++
			}
		}
		st.read += int64(n) * BlockSize
	}
}

// readColumn reads n blocks of column i from stripe lo into buf, each at a multiple
// of BlockSize, and reports which are sound, zero padding included. It reads in one
// go, or block by block when that fails, so that a bad sector costs the block that
// it is in. Behind a short block buf is zero.
func readColumn(r BackendReader, x *handle, i, lo, n int, buf []byte) []bool {
	size := int64(0)
	for j := range n {
		size += frame.Align(int64(x.g.ShardBlockLen(i, lo+j)))
	}
	_, err := readFull(r, buf[:size], headerSize+int64(lo)*BlockSize)
	whole := err == nil
	good := make([]bool, n)
	for j := range n {
		length := x.g.ShardBlockLen(i, lo+j)
		padded := buf[j*BlockSize:][:frame.Align(int64(length))]
		if length > 0 && !whole {
			_, err = readFull(r, padded, headerSize+int64(lo+j)*BlockSize)
		}
		good[j] = length == 0 || err == nil && x.check(i, lo+j, padded[:length]) && frame.Zero(padded[length:])
		clear(buf[j*BlockSize+length : (j+1)*BlockSize])
	}
	return good
}

// trustBytes is how much of a stored copy is read back before a put relies on it;
// of a larger one the parts are looked at, and the blocks are left to scrub.
const trustBytes = 64 * miB

// proofs remembers what was verified for the puts of one batch or group, which may
// rely on the same pack many times.
type proofs map[proof]bool

// maxProofs bounds them: a batch may be long.
const maxProofs = 1 << 14

type proof struct {
	extent ExtentID
	stripe int // wholeShard: the parts
}

// trust verifies the stored copy of a content, uncached, and returns what is wrong
// with it. Damage goes on the repair queue. Shards that cannot be asked are no damage
// as long as the others suffice.
func (s *Store) trust(ctx context.Context, c Content, known proofs) error {
	for pos := c.Offset; pos < c.Offset+c.Size; {
		e, err := s.extentAt(ctx, c.Upload, pos)
		if err != nil {
			return err
		}
		end := min(e.Offset+e.Length, c.Offset+c.Size)
		if err := s.trustExtent(ctx, e, pos-e.Offset, end-e.Offset, c.Size <= trustBytes, known); err != nil {
			return err
		}
		pos = end
	}
	return nil
}

// trustExtent verifies the bytes [lo, hi) of an extent in every shard.
func (s *Store) trustExtent(ctx context.Context, e Extent, lo, hi int64, blocks bool, known proofs) error {
	g := e.Geometry()
	first, last := 0, 0
	if blocks {
		first, last = g.Stripe(g.Block(lo)), g.Stripe(g.Block(hi-1))+1
	}
	for first < last && known[proof{e.ID, first}] {
		first++
	}
	if known[proof{e.ID, wholeShard}] && first == last {
		return nil
	}
	x, err := s.open.get(ctx, e)
	if err != nil {
		return err
	}
	defer s.open.put(x)
	states := make([]shardState, len(e.Shards))
	s.eachShard(len(states), func(i int) { states[i] = s.inspectShard(ctx, x, i, first, last) })
	var errs, away []error
	for i := range states {
		if err := states[i].err(); err != nil {
			err = fmt.Errorf("shard %d: %w", i, err)
			if s.blameState(ctx, x, i, &states[i]); states[i].absent != nil {
				away = append(away, err)
			} else {
				errs = append(errs, err)
			}
		}
	}
	if len(states)-len(away) < e.Code.K {
		errs = append(errs, away...)
	}
	if len(known) > maxProofs {
		clear(known) // some things are looked at again, nothing else
	}
	if len(errs) == 0 && known != nil {
		for stripe := first; stripe < last; stripe++ {
			known[proof{e.ID, stripe}] = true
		}
		known[proof{e.ID, wholeShard}] = true
	}
	return errors.Join(errs...)
}

// blameState puts what a look at a shard found on the repair queue.
func (s *Store) blameState(ctx context.Context, x *handle, i int, st *shardState) {
	switch {
	case st.absent != nil:
		s.blame(ctx, x, i, wholeShard, st.absent)
	case st.parts != nil:
		s.blame(ctx, x, i, wholeShard, st.parts)
	default:
		for stripe := range x.g.Stripes() {
			if hasBit(st.bad, stripe) {
				s.blame(ctx, x, i, stripe, errMismatch)
			}
		}
	}
}

// extentAt returns the extent of an upload that holds a position of its stream.
func (s *Store) extentAt(ctx context.Context, upload UploadID, pos int64) (Extent, error) {
	e, err := s.cat.ExtentAt(ctx, upload, 0)
	if err == nil && pos >= e.Length {
		e, err = s.cat.ExtentAt(ctx, upload, int(pos/e.Length))
	}
	if err == nil && (pos < e.Offset || pos >= e.Offset+e.Length) {
		err = fmt.Errorf("%w: byte %d is not in extent %v, [%d, %d)", ErrCorrupt, pos, e.ID, e.Offset, e.Offset+e.Length)
	}
	return e, err
}

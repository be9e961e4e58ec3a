package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"

	"github.com/blockframe/blockframe/merkle"
)

// maxExtents is how many extents an object may have: the blobs of the last one list all
// of them, in a manifests part of bounded length.
const maxExtents = (maxManifests - maxLine) / maxExtentLine // 393,216

// series is the finished extents of a stream, as far as the next one needs to know
// them. It does not grow with their number: all but the last are recorded in the
// catalog, and read back from there for the list at the end.
type series struct {
	n        int // extents
	recorded int // of them, n or n-1
	length   int64
	last     Extent // if n > 0
	top      treeTop
}

func (p *series) add(e Extent) {
	p.n++
	p.length += e.Length
	p.last = e
	p.top.add(e.Hash)
}

// loose returns the extent that is not recorded, if there is one.
func (p *series) loose() []Extent {
	if p.recorded == p.n {
		return nil
	}
	return []Extent{p.last}
}

// record records the last extent, since another one follows. From then on the log may
// name it, also if it is not certain.
func (s *Store) record(ctx context.Context, p *series) error {
	if p.recorded == p.n {
		return nil
	}
	// A crash after it leaves an open upload of this epoch: nothing visible, killed by
	// a collection after the next open.
	err := s.commitOne(ctx, AddExtent{p.last})
	if err == nil || errors.Is(err, ErrUncertain) {
		p.recorded = p.n
	}
	return err
}

// extent returns the length of the extents that the stream is cut into: what its policy
// says, or as many times twice that as it takes for so long an object to have no more
// than most of them.
func (r *stream) extent(most int) int64 {
	if r.kind == KindPack {
		return MaxExtent // a pack is one extent, whatever the policy says of streams
	}
	n := r.policy.extent()
	for n < MaxExtent && r.size > n*int64(most) {
		n *= 2
	}
	return n
}

// tooLong returns the error for a stream that has more extents than can be listed: at
// once if that was announced, else when the one comes that is too many.
func (s *Store) tooLong(ref *stream, p *series) error {
	n := ref.extent(s.mostExtents)
	if p.n < s.mostExtents && ref.size <= n*int64(s.mostExtents) {
		return nil
	}
	return fmt.Errorf("%w: an object of more than %d extents of %d bytes: announce its size, or choose a policy with longer extents",
		fs.ErrInvalid, s.mostExtents, n)
}

// extentsOf yields the first n extents of an upload, which are recorded.
func (s *Store) extentsOf(ctx context.Context, upload UploadID, n int) iter.Seq2[Extent, error] {
	return func(yield func(Extent, error) bool) {
		for i := range n {
			e, err := s.cat.ExtentAt(ctx, upload, i)
			if err != nil {
				err = fmt.Errorf("extent %d of upload %v: %w", i, upload, err)
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// treeTop folds the hashes of extents, which come one by one, to the hash of their
// stream, as merkle.FoldRoot does those of a list. It keeps one CV for each level of the
// tree, as BLAKE3 itself does (section 5.1.2 of its paper); the last one is kept apart,
// since only the next tells that it is not on the right edge.
type treeTop struct {
	n    int           // folded into cvs
	cvs  [32]merkle.CV // of full subtrees, largest first: one for each bit set in n
	len  int           // of cvs
	last merkle.CV     // the n+1st, if any
	any  bool
}

func (t *treeTop) add(cv merkle.CV) {
	if !t.any {
		t.last, t.any = cv, true
		return
	}
	cv, t.last = t.last, cv
	for n := t.n; n&1 == 1; n >>= 1 {
		t.len--
		cv = merkle.Fold([]merkle.CV{t.cvs[t.len], cv})
	}
	t.cvs[t.len] = cv
	t.len++
	t.n++
}

// id returns the hash of the stream. A single extent was hashed as the whole of it.
func (t *treeTop) id() ID {
	switch {
	case !t.any:
		return ID(merkle.BlockRoot(nil))
	case t.len == 0:
		return ID(t.last)
	}
	cv := t.last
	for i := t.len - 1; i > 0; i-- {
		cv = merkle.Fold([]merkle.CV{t.cvs[i], cv})
	}
	return ID(merkle.FoldRoot([]merkle.CV{t.cvs[0], cv}))
}

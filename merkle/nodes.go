package merkle

import (
	"fmt"
	"sort"

	"lukechampine.com/blake3/guts"
)

// Node returns the non-root CV of blocks [lo, hi) of the stream, a node of its
// tree that lies in the extent and is not the root. It is a [Stream]'s Node for
// a stream of one extent. Block numbers count from the start of the stream:
// the extent's first block is Offset/BlockSize.
func (t *Table) Node(lo, hi int64) (CV, error) {
	base := t.Offset / int64(t.BlockSize)
	n := int64(len(t.CVs))
	switch {
	case lo >= hi || lo < base || hi > base+n:
		return CV{}, fmt.Errorf("merkle: no node over blocks [%d, %d) in an extent of blocks [%d, %d)", lo, hi, base, base+n)
	case t.Whole && n == 1:
		return CV{}, fmt.Errorf("merkle: a stream of one block has no non-root node")
	}
	return Fold(t.CVs[lo-base : hi-base]), nil
}

// Extent is one of the consecutive parts of a stream: a node of its tree.
type Extent struct {
	Offset, Length int64 // in bytes; Offset is a multiple of the block size
	CV             CV    // non-root
}

// Extents returns a [Stream]'s Node for a stream that is stored as extents, in
// order and without gaps, in blocks of blockSize bytes. load returns the table
// of extent i, verified against the extent's CV; it is called only for extents
// of which a part is asked, once in a row for each: one proof reads the tables
// of the extents that its range and the last block lie in, and holds one of
// them at a time. The function returned is used by one goroutine.
func Extents(extents []Extent, blockSize int, load func(i int) (*Table, error)) func(lo, hi int64) (CV, error) {
	x := &extentNodes{extents: extents, blockSize: int64(blockSize), load: load, at: -1}
	return x.node
}

type extentNodes struct {
	extents   []Extent
	blockSize int64
	load      func(i int) (*Table, error)
	at        int    // the extent whose table is held, or -1
	table     *Table // its table
}

func (x *extentNodes) node(lo, hi int64) (CV, error) {
	i := sort.Search(len(x.extents), func(i int) bool { return x.first(i) > lo }) - 1
	if i < 0 || lo >= hi || hi > x.end(len(x.extents)-1) {
		return CV{}, fmt.Errorf("merkle: no node over blocks [%d, %d) in %d extents", lo, hi, len(x.extents))
	}
	switch {
	case lo == x.first(i) && hi == x.end(i):
		return x.extents[i].CV, nil
	case hi <= x.end(i):
		return x.within(i, lo, hi)
	}
	mid := lo + leftLen(hi-lo)
	left, err := x.node(lo, mid)
	if err != nil {
		return CV{}, err
	}
	right, err := x.node(mid, hi)
	if err != nil {
		return CV{}, err
	}
	n := guts.ParentNode(cvWords(&left), cvWords(&right), &guts.IV, 0)
	return nodeCV(&n), nil
}

// within returns a node that is a part of extent i.
func (x *extentNodes) within(i int, lo, hi int64) (CV, error) {
	if x.at != i {
		x.at, x.table = -1, nil // let go of the old one first
		t, err := x.load(i)
		if err != nil {
			return CV{}, err
		}
		x.at, x.table = i, t
	}
	return x.table.Node(lo, hi)
}

// first and end bound the blocks of extent i: [first, end).
func (x *extentNodes) first(i int) int64 { return x.extents[i].Offset / x.blockSize }

func (x *extentNodes) end(i int) int64 {
	return x.first(i) + Blocks(x.extents[i].Length, int(x.blockSize))
}

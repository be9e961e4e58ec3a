package merkle

import (
	"fmt"

	"lukechampine.com/blake3/guts"
)

// Fold returns the non-root CV of the subtree whose leaves are cvs, in stream
// order. The leaves are subtrees of one full size, a power of two of chunks,
// but for the last, which may be smaller: blocks of an extent, or extents of an
// object. One CV is its own fold. Fold panics when there is none. It does
// len(cvs)-1 compressions and allocates nothing.
func Fold(cvs []CV) CV {
	switch len(cvs) {
	case 0:
		panic("merkle.Fold: no CVs")
	case 1:
		return cvs[0]
	}
	n := foldNode(cvs)
	return nodeCV(&n)
}

// FoldRoot is like [Fold] with ROOT on the last compression: the hash of the
// stream whose subtrees cvs are. There are at least two, or FoldRoot panics:
// the hash of a stream cannot be had from the non-root CV of its only block.
func FoldRoot(cvs []CV) CV {
	if len(cvs) < 2 {
		panic(fmt.Sprintf("merkle.FoldRoot: %d CVs, want at least 2", len(cvs)))
	}
	n := foldNode(cvs)
	return nodeRoot(&n)
}

// foldNode returns the top node over at least two CVs, not compressed yet.
func foldNode(cvs []CV) guts.Node {
	var s stack
	last := len(cvs) - 1
	for i := range cvs[:last] {
		s.push(cvWords(&cvs[i]))
	}
	return s.joinCV(cvWords(&cvs[last]))
}

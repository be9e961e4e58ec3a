package merkle

import (
	"fmt"
	"math/bits"
)

// Table holds the CVs of all blocks of one extent: what one block of it is
// checked against.
//
// It is plain data and may be read by several goroutines. One that comes from a
// disk or a peer goes through Validate before anything else, and its Hash is
// compared with what is already trusted.
type Table struct {
	Offset    int64 // of the extent's first byte in its stream, in bytes
	Length    int64 // of the extent, in bytes
	BlockSize int   // in bytes; the last block holds what is left
	Whole     bool  // the extent is the whole stream; Offset is 0

	// CVs has one entry per block: len(CVs) = Blocks(Length, BlockSize).
	// Entries are non-root CVs, except in a whole stream of a single block,
	// whose one entry is the hash of the stream. An empty stream has none.
	CVs []CV
}

// Validate returns an error that says why the table cannot be that of an
// extent: block size, count of entries, or an offset at which the blocks are
// not a node of the stream's tree.
func (t *Table) Validate() error {
	switch n := Blocks(t.Length, max(t.BlockSize, 1)); {
	case !ValidBlockSize(t.BlockSize):
		return fmt.Errorf("merkle: block size %d is not a power of two in [%d, %d]", t.BlockSize, MinBlockSize, MaxBlockSize)
	case t.Length < 0 || t.Offset < 0 || t.Offset+t.Length < 0:
		return fmt.Errorf("merkle: extent of %d bytes at offset %d", t.Length, t.Offset)
	case t.Whole && t.Offset != 0:
		return fmt.Errorf("merkle: whole stream at offset %d", t.Offset)
	case t.Length == 0 && !t.Whole:
		return fmt.Errorf("merkle: empty extent at offset %d of a longer stream", t.Offset)
	case int64(len(t.CVs)) != n || n > MaxBlocks:
		return fmt.Errorf("merkle: table of %d entries for %d blocks", len(t.CVs), n)
	case !aligned(t.Offset, n, t.BlockSize):
		return fmt.Errorf("merkle: %d blocks of %d bytes at offset %d are not a subtree", n, t.BlockSize, t.Offset)
	}
	return nil
}

// aligned reports whether offset is a multiple of the smallest power of two of
// blocks that holds n.
func aligned(offset, n int64, blockSize int) bool {
	if offset%int64(blockSize) != 0 {
		return false
	}
	span := uint64(1) << bits.Len64(uint64(max(n, 1)-1)) // in blocks
	return uint64(offset/int64(blockSize))%span == 0
}

// BlockLen returns the length in bytes of block i, 0 <= i < len(CVs).
func (t *Table) BlockLen(i int) int {
	return int(min(int64(t.BlockSize), t.Length-int64(i)*int64(t.BlockSize)))
}

// Check reports whether block is block i of the extent, bit for bit and in
// length. An i outside the table is false. Check allocates nothing and may be
// called concurrently.
func (t *Table) Check(i int, block []byte) bool {
	if i < 0 || i >= len(t.CVs) || len(block) == 0 || len(block) != t.BlockLen(i) {
		return false
	}
	if t.Whole && len(t.CVs) == 1 {
		return BlockRoot(block) == t.CVs[0]
	}
	return BlockCV(block, t.Offset+int64(i)*int64(t.BlockSize)) == t.CVs[i]
}

// Hash returns the extent's recorded hash: the hash of the stream when the
// extent is the whole of it, else the extent's non-root CV, which folds with
// those of the other extents to the hash of the stream. The table is valid.
func (t *Table) Hash() CV {
	switch {
	case !t.Whole:
		return Fold(t.CVs)
	case len(t.CVs) == 0:
		return BlockRoot(nil)
	case len(t.CVs) == 1:
		return t.CVs[0]
	default:
		return FoldRoot(t.CVs)
	}
}

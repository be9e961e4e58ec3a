// Package merkle computes and checks BLAKE3 hash trees, block by block.
//
// The problem: content is addressed by its plain BLAKE3-256, what b3sum prints,
// yet one block of it must be checked without reading the rest. BLAKE3 is
// itself a binary tree over chunks of 1 KiB (BLAKE3 paper, section 2.1), so the
// chaining value (CV) of an aligned group of chunks is a node of the very tree
// whose root is the content id. One hashing pass over the blocks of a stream,
// in any order and on any number of cores, therefore gives the address and a
// verification tree; there is no second hash.
//
// A [Builder] takes blocks from several workers and ends in a [Table], the CVs
// of all blocks of one extent. [Table.Check] checks one block against it. The
// hashes of the extents of an object fold to its content id with [FoldRoot].
// [Prove] cuts a slice of blocks with its hash path out of the tree, and
// [Verify] checks it against nothing but the content id.
//
// # Tree
//
// A stream of n > 0 bytes is cut into chunks of 1024 bytes, the last one of
// 1..1024; the chunk with position c is compressed with counter c (section
// 2.4). Nodes are joined left-full (section 2.5): of m > 1 leaves, the left
// child takes the largest power of two below m. The compression that ends in
// the hash of the whole stream, a chunk's when there is one chunk, else the top
// parent's, carries the flag ROOT; all others do not, so that the hash of a
// stream is never the CV of a part of another one. The empty stream is one
// chunk of no bytes.
//
// Blocks are groups of 2^k chunks, 0 <= k <= 10; the last block of a stream may
// be shorter. Because the groups are full powers of two, a left-full fold of
// the CVs of blocks is the left-full tree of their chunks. Likewise the fold of
// blocks [a, b) is a node of the tree of the whole stream when a is a multiple
// of the smallest power of two that is not below b-a, and either b-a is that
// power or b is the end of the stream. An extent is such a range.
//
// # Trust
//
// CVs are compared, not kept secret; nothing here runs in constant time.
// Everything rests on the collision resistance of BLAKE3. The encoding of a
// [Proof] carries a version; this package reads every version it ever wrote.
package merkle

import "math/bits"

// CV is a chaining value of the BLAKE3 tree or, with ROOT set in its last
// compression, a hash: eight little-endian words in both cases.
type CV = [32]byte

// Limits of a block, in bytes. A block size is a power of two within them.
const (
	MinBlockSize = chunkSize
	MaxBlockSize = 1 << 20
)

// MaxBlocks is the most blocks of one extent that a [Builder] takes and a valid
// [Table] has: 1 TiB in blocks of 64 KiB. A stream may have more.
const MaxBlocks = 1 << 24

// ValidBlockSize reports whether n is a power of two in [MinBlockSize,
// MaxBlockSize].
func ValidBlockSize(n int) bool {
	return MinBlockSize <= n && n <= MaxBlockSize && n&(n-1) == 0
}

// Blocks returns the number of blocks of a stream of length bytes: 0 when it is
// empty, else ceil(length/blockSize).
func Blocks(length int64, blockSize int) int64 {
	if length <= 0 {
		return 0
	}
	return (length-1)/int64(blockSize) + 1 // rounds up without overflow
}

// leftLen returns how many of n > 1 leaves the left child takes: the largest
// power of two below n.
func leftLen(n int64) int64 {
	return 1 << (bits.Len64(uint64(n-1)) - 1)
}

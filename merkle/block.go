package merkle

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"lukechampine.com/blake3/guts"
)

const (
	chunkSize   = guts.ChunkSize
	groupChunks = guts.MaxSIMD // chunks that one call of guts hashes side by side
	groupSize   = groupChunks * chunkSize
)

// BlockCV returns the non-root CV of a block of 1 to MaxBlockSize bytes whose
// first byte is at offset of its stream, a multiple of 1024.
//
// The result is a node of the stream's tree when the block lies on a grid of
// its own power of two and is full, or ends the stream; the caller sees to
// that. BlockCV panics when length or offset is outside these bounds. It
// allocates nothing and reads the block once, about 5 GB/s on a core with
// AVX-512.
func BlockCV(block []byte, offset int64) CV {
	if len(block) == 0 || len(block) > MaxBlockSize || offset < 0 || offset%chunkSize != 0 {
		panic(fmt.Sprintf("merkle.BlockCV: block of %d bytes at offset %d", len(block), offset))
	}
	n := blockNode(block, uint64(offset)/chunkSize)
	return nodeCV(&n)
}

// BlockRoot returns the hash of a stream that is this one block: its
// BLAKE3-256. The block may be empty. BlockRoot panics when it is longer than
// MaxBlockSize. It allocates nothing.
func BlockRoot(block []byte) CV {
	if len(block) > MaxBlockSize {
		panic(fmt.Sprintf("merkle.BlockRoot: block of %d bytes", len(block)))
	}
	n := blockNode(block, 0)
	return nodeRoot(&n)
}

// blockNode returns the top node of a block, not compressed yet: whether ROOT
// belongs on it is for the caller to say. chunk is the position of the block's
// first chunk in the stream.
//
// It goes group by group rather than through guts.CompressEigentree, which
// starts a goroutine for every 16 KiB; parallelism is over blocks.
func blockNode(block []byte, chunk uint64) guts.Node {
	var s stack
	for len(block) > groupSize {
		n := guts.CompressBuffer((*[groupSize]byte)(block), groupSize, &guts.IV, chunk, 0)
		s.push(guts.ChainingValue(n))
		block, chunk = block[groupSize:], chunk+groupChunks
	}
	if len(block) == groupSize {
		return s.join(guts.CompressBuffer((*[groupSize]byte)(block), groupSize, &guts.IV, chunk, 0))
	}
	return s.join(shortGroup(block, chunk))
}

// shortGroup returns the node of fewer than 16 chunks. guts reads all 16 KiB of
// what it is given, whatever the length says, so the bytes are copied to where
// that is allowed. It stays out of line to keep its array off the frame of the
// common case.
//
//go:noinline
func shortGroup(b []byte, chunk uint64) guts.Node {
	if len(b) <= chunkSize {
		return guts.CompressChunk(b, &guts.IV, chunk, 0)
	}
	var buf [groupSize]byte
	return guts.CompressBuffer(&buf, copy(buf[:], b), &guts.IV, chunk, 0)
}

// stack folds a sequence of subtrees of equal, full size left-full without
// knowing its length (BLAKE3 paper, section 5.1.2). Bit i of count says that
// cvs[i] holds the CV of 2^i of them.
type stack struct {
	cvs   [64][8]uint32
	count uint64
}

// push adds a subtree that is not the last one.
func (s *stack) push(cv [8]uint32) {
	i := bits.TrailingZeros64(^s.count)
	for j := range i {
		n := guts.ParentNode(s.cvs[j], cv, &guts.IV, 0)
		cv = guts.ChainingValue(n)
	}
	s.cvs[i] = cv
	s.count++
}

// join adds the last subtree, which may be partial, and returns the top node:
// that subtree's own when it is the only one.
func (s *stack) join(last guts.Node) guts.Node {
	if s.count == 0 {
		return last
	}
	return s.joinCV(guts.ChainingValue(last))
}

// joinCV adds the CV of the last subtree to at least one other and returns the
// top node.
func (s *stack) joinCV(cv [8]uint32) guts.Node {
	c := s.count
	n := guts.ParentNode(s.cvs[bits.TrailingZeros64(c)], cv, &guts.IV, 0)
	for c &= c - 1; c != 0; c &= c - 1 {
		n = guts.ParentNode(s.cvs[bits.TrailingZeros64(c)], guts.ChainingValue(n), &guts.IV, 0)
	}
	return n
}

// nodeCV compresses n without ROOT.
func nodeCV(n *guts.Node) CV { return cvBytes(guts.ChainingValue(*n)) }

// nodeRoot compresses n with ROOT and counter 0, as the first 32 bytes of
// output are (section 2.6). Only a chunk or parent that is the top of its
// stream comes here, so its counter is 0 anyway.
func nodeRoot(n *guts.Node) CV {
	r := *n
	r.Flags |= guts.FlagRoot
	return cvBytes(guts.ChainingValue(r))
}

func cvBytes(w [8]uint32) (cv CV) {
	for i, v := range w {
		binary.LittleEndian.PutUint32(cv[4*i:], v)
	}
	return cv
}

func cvWords(cv *CV) (w [8]uint32) {
	for i := range w {
		w[i] = binary.LittleEndian.Uint32(cv[4*i:])
	}
	return w
}

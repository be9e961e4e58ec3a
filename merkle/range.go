package merkle

import (
	"fmt"
	"math"
)

// Range names the blocks [Lo, Hi) of a stream that is cut into blocks of
// BlockSize bytes. It is a request and may reach past the end of the stream,
// whose size the asker need not know.
type Range struct {
	BlockSize int
	Lo, Hi    int64
}

// RangeOf returns the blocks that hold the bytes [off, off+length) of a stream,
// none when length is 0. What lies past the largest int64 is left out. A
// negative offset or length gives a range that is not valid.
func RangeOf(off, length int64, blockSize int) Range {
	switch {
	case off < 0 || length < 0:
		return Range{blockSize, -1, -1}
	case length == 0:
		return Range{blockSize, 0, 0}
	}
	last := off + min(length-1, math.MaxInt64-off)
	return Range{blockSize, off / int64(blockSize), last/int64(blockSize) + 1}
}

// Validate returns an error unless 0 <= Lo <= Hi and the block size is valid.
func (r Range) Validate() error {
	if !ValidBlockSize(r.BlockSize) || r.Lo < 0 || r.Hi < r.Lo {
		return fmt.Errorf("merkle: blocks [%d, %d) of %d bytes are no range", r.Lo, r.Hi, r.BlockSize)
	}
	return nil
}

// Clip returns the blocks of r that a stream of size bytes has. When it has
// none of them, Lo and Hi are 0, so that one set of blocks is one value.
func (r Range) Clip(size int64) Range {
	n := Blocks(size, r.BlockSize)
	r.Lo, r.Hi = min(r.Lo, n), min(r.Hi, n)
	if r.Lo >= r.Hi {
		r.Lo, r.Hi = 0, 0
	}
	return r
}

// Bytes returns the offset and length in bytes of the blocks of r that a stream
// of size bytes has.
func (r Range) Bytes(size int64) (off, length int64) {
	r = r.Clip(size)
	off = r.Lo * int64(r.BlockSize)
	if r.Hi == Blocks(size, r.BlockSize) { // the last block may be short
		return off, size - off
	}
	return off, (r.Hi - r.Lo) * int64(r.BlockSize)
}

// MaxProofLen bounds the length in bytes of an encoded proof of r, whatever the
// size of the stream: what a client allows an answer to take. It is 32 bytes
// per block and below 8 KiB beside.
func (r Range) MaxProofLen() int64 {
	// A tree over 2^63 bytes is at most 53 parents deep over its chunks. Three
	// paths leave it: those to both ends of the range, and that to the last chunk.
	const paths = 3 * 53
	blocks := min(r.Hi-r.Lo, 1<<53) // no stream has more
	return proofHeader + (blocks+paths)*int64(len(CV{})) + chunkSize
}

package erasure

import (
	"fmt"
	"io/fs"
	"math"
)

// MaxBlockSize is the largest block size in bytes.
const MaxBlockSize = 1 << 20

// Geometry says where the bytes of one extent lie in the blocks of its shards.
// It is arithmetic on three numbers: with B = BlockSize, L = Length,
// k = Code.K and m = Code.M,
//
//	block b        holds the bytes [b·B, min((b+1)·B, L)) of the extent
//	block b        is the block of shard b mod k in stripe b div k
//	stripe s       is the blocks [s·k, (s+1)·k) and the m parity blocks of shards [k, k+m)
//	shard j        holds its block of stripe s at [s·B, …) of its block area
//
//	         shard 0   shard 1   shard 2 | shard 3   shard 4      3+2
//	stripe 0 block 0   block 1   block 2 | parity    parity
//	stripe 1 block 3   block 4   block 5 | parity    parity
//	stripe 2 block 6   bl. 7     -       | parity    parity
//
// The last stripe keeps the grid: full blocks, then at most one partial, then
// blocks that do not exist. What is missing counts as zeros in the code and
// takes no space. Parity is as long as the longest block of its stripe, which
// is the first, so all blocks but those of the last stripe have B bytes. With
// k = 1 every shard has the same column of blocks. An empty extent has no
// stripe.
//
// Methods take block numbers b, shard numbers in [0, k+m) and stripe numbers.
// Of what lies outside the extent, the length is 0. All of them need a Geometry
// that [Geometry.Validate] accepts.
type Geometry struct {
	Code      Code
	BlockSize int   // bytes in a full block, 1 ≤ BlockSize ≤ MaxBlockSize
	Length    int64 // bytes in the extent
}

// Validate checks the code, 1 ≤ BlockSize ≤ [MaxBlockSize], 0 ≤ Length, and
// that block numbers fit 31 bits. The error matches fs.ErrInvalid.
func (g Geometry) Validate() error {
	if err := g.Code.Validate(); err != nil {
		return err
	}
	if g.BlockSize < 1 || g.BlockSize > MaxBlockSize {
		return fmt.Errorf("%w: block size %d, want 1 to %d", fs.ErrInvalid, g.BlockSize, MaxBlockSize)
	}
	if g.Length < 0 || (g.Length-1)/int64(g.BlockSize) >= math.MaxInt32 {
		return fmt.Errorf("%w: extent of %d bytes in blocks of %d", fs.ErrInvalid, g.Length, g.BlockSize)
	}
	return nil
}

// Blocks returns the number of data blocks: ⌈L/B⌉.
func (g Geometry) Blocks() int { return int(ceil(g.Length, int64(g.BlockSize))) }

// Stripes returns the number of stripes: ⌈Blocks/k⌉.
func (g Geometry) Stripes() int { return int(ceil(int64(g.Blocks()), int64(g.Code.K))) }

// Block returns the block that holds byte off of the extent: off div B.
func (g Geometry) Block(off int64) int { return int(off / int64(g.BlockSize)) }

// Shard returns the shard that holds data block b: b mod k.
func (g Geometry) Shard(b int) int { return b % g.Code.K }

// Stripe returns the stripe of data block b: b div k.
func (g Geometry) Stripe(b int) int { return b / g.Code.K }

// BlockLen returns the bytes in data block b: min(B, L - b·B), or 0 outside
// [0, Blocks).
func (g Geometry) BlockLen(b int) int {
	if b < 0 {
		return 0
	}
	left := g.Length - int64(b)*int64(g.BlockSize)
	return int(min(max(left, 0), int64(g.BlockSize)))
}

// StripeLen returns the bytes in the longest block of stripe s, which is its
// first, and so the length of its parity blocks and of every block that its
// code computes with: BlockLen(s·k).
func (g Geometry) StripeLen(s int) int { return g.BlockLen(s * g.Code.K) }

// ShardBlockLen returns the bytes that shard stores for stripe: BlockLen(stripe·k
// + shard) of a data shard, 0 where the last stripe has no such block, and
// StripeLen(stripe) of a parity shard.
func (g Geometry) ShardBlockLen(shard, stripe int) int {
	switch {
	case shard < 0 || stripe < 0 || shard >= g.Code.Shards():
		return 0
	case shard < g.Code.K:
		return g.BlockLen(stripe*g.Code.K + shard)
	}
	return g.StripeLen(stripe)
}

// ColumnLen returns the bytes of the block area of shard, the last block
// unpadded: the sum of ShardBlockLen(shard, s) over all stripes s. All but the
// last are full, so the block of stripe s is at [s·B, s·B + ShardBlockLen).
func (g Geometry) ColumnLen(shard int) int64 {
	last := g.Stripes() - 1
	if last < 0 || shard < 0 || shard >= g.Code.Shards() {
		return 0
	}
	return int64(last)*int64(g.BlockSize) + int64(g.ShardBlockLen(shard, last))
}

// ceil returns ⌈a/b⌉ for a ≥ 0 and b > 0, without overflow.
func ceil(a, b int64) int64 {
	q := a / b
	if a%b != 0 {
		q++
	}
	return q
}

package erasure_test

import (
	"io/fs"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/erasure"
)

// T12, R3: for every length up to several stripes, the lengths and places of all
// blocks are those that dealing out single bytes leads to.
func TestGeometryDealsOutBytes(t *testing.T) {
	for _, c := range []erasure.Code{{1, 1}, {1, 3}, {2, 1}, {3, 2}, {8, 3}} {
		for _, size := range []int{1, 2, 5, 64} {
			most := min(3*c.K*size+2, 600)
			for length := range most {
				requireDealt(t, erasure.Geometry{Code: c, BlockSize: size, Length: int64(length)})
			}
		}
	}
}

// requireDealt deals out the bytes of the extent one by one and compares what lies
// where.
func requireDealt(t *testing.T, g erasure.Geometry) {
	t.Helper()
	require.NoError(t, g.Validate())
	var blocks []int // bytes in each block
	for off := range g.Length {
		if int(off)%g.BlockSize == 0 {
			blocks = append(blocks, 0)
		}
		blocks[len(blocks)-1]++
		if got := g.Block(off); got != len(blocks)-1 {
			t.Fatalf("%+v: Block(%d) = %d, want %d", g, off, got, len(blocks)-1)
		}
	}
	column := make([]int64, g.Code.Shards())
	stripes := 0
	for b := 0; b < len(blocks); b += g.Code.K {
		requireStripe(t, g, stripes, blocks[b:min(b+g.Code.K, len(blocks))], column)
		stripes++
	}
	require.Equal(t, len(blocks), g.Blocks(), "%+v", g)
	require.Equal(t, stripes, g.Stripes(), "%+v", g)
	for shard, n := range column {
		require.Equal(t, n, g.ColumnLen(shard), "%+v: ColumnLen(%d)", g, shard)
		require.Zero(t, g.ShardBlockLen(shard, stripes))
	}
	require.Zero(t, g.BlockLen(len(blocks)))
	require.Zero(t, g.StripeLen(stripes))
}

// requireStripe checks the blocks of one stripe, given the lengths of its data
// blocks, and adds theirs to the columns.
func requireStripe(t *testing.T, g erasure.Geometry, stripe int, data []int, column []int64) {
	t.Helper()
	longest := 0
	for i, n := range data {
		longest = max(longest, n)
		b := stripe*g.Code.K + i
		require.Equal(t, []int{n, i, stripe}, []int{g.BlockLen(b), g.Shard(b), g.Stripe(b)}, "%+v: block %d", g, b)
	}
	require.Equal(t, longest, g.StripeLen(stripe), "%+v: stripe %d", g, stripe)
	for shard := range column {
		n := longest
		if shard < g.Code.K {
			n = 0
			if shard < len(data) {
				n = data[shard]
			}
		}
		require.Equal(t, n, g.ShardBlockLen(shard, stripe), "%+v: shard %d of stripe %d", g, shard, stripe)
		if n > 0 { // the documented place of the block in its shard
			require.Equal(t, int64(stripe)*int64(g.BlockSize), column[shard])
		}
		column[shard] += int64(n)
	}
}

// R9: lengths at the boundaries of real extents, by the equations.
func TestGeometryOfRealExtents(t *testing.T) {
	const block, extent = 64 << 10, 256 << 20
	c := erasure.Code{K: 8, M: 3}
	for _, tc := range []struct {
		length          int64
		blocks, stripes int
		columns         []int64 // of shards 0, 7 and 8
	}{
		{0, 0, 0, []int64{0, 0, 0}},
		{1, 1, 1, []int64{1, 0, 1}},
		{block - 1, 1, 1, []int64{block - 1, 0, block - 1}},
		{block, 1, 1, []int64{block, 0, block}},
		{block + 1, 2, 1, []int64{block, 0, block}},
		{8 * block, 8, 1, []int64{block, block, block}},
		{8*block + 1, 9, 2, []int64{block + 1, block, block + 1}},
		{extent - 1, 4096, 512, []int64{32 << 20, 32<<20 - 1, 32 << 20}},
		{extent, 4096, 512, []int64{32 << 20, 32 << 20, 32 << 20}},
		{extent + 1, 4097, 513, []int64{32<<20 + 1, 32 << 20, 32<<20 + 1}},
		{35 << 30, 573440, 71680, []int64{71680 * block, 71680 * block, 71680 * block}},
	} {
		g := erasure.Geometry{Code: c, BlockSize: block, Length: tc.length}
		require.NoError(t, g.Validate())
		require.Equal(t, tc.blocks, g.Blocks(), "%d bytes", tc.length)
		require.Equal(t, tc.stripes, g.Stripes(), "%d bytes", tc.length)
		require.Equal(t, tc.columns, []int64{g.ColumnLen(0), g.ColumnLen(7), g.ColumnLen(8)}, "%d bytes", tc.length)
	}
}

func TestGeometryValidate(t *testing.T) {
	c := erasure.Code{K: 2, M: 1}
	for _, g := range []erasure.Geometry{
		{c, 1, 0}, {c, 1, math.MaxInt32}, {c, erasure.MaxBlockSize, math.MaxInt32 * erasure.MaxBlockSize},
	} {
		require.NoError(t, g.Validate(), "%+v", g)
	}
	for _, g := range []erasure.Geometry{
		{}, {erasure.Code{}, 1, 1}, {c, 0, 1}, {c, -1, 1}, {c, erasure.MaxBlockSize + 1, 1}, {c, 1, -1}, {c, 1, math.MinInt64},
		{c, 1, math.MaxInt32 + 1}, {c, 1, math.MaxInt64}, {c, erasure.MaxBlockSize, math.MaxInt64},
	} {
		require.ErrorIs(t, g.Validate(), fs.ErrInvalid, "%+v", g)
	}
}

// Outside the extent there is nothing.
func TestGeometryOutside(t *testing.T) {
	g := erasure.Geometry{Code: erasure.Code{K: 2, M: 1}, BlockSize: 4, Length: 30}
	for _, b := range []int{-1, 8, 1 << 30} {
		require.Zero(t, g.BlockLen(b))
	}
	for _, s := range []int{-1, 4, 1 << 29} {
		require.Zero(t, g.StripeLen(s))
		require.Zero(t, g.ShardBlockLen(0, s))
		require.Zero(t, g.ShardBlockLen(2, s))
	}
	for _, shard := range []int{-1, 3, 1 << 29} {
		require.Zero(t, g.ShardBlockLen(shard, 0))
		require.Zero(t, g.ColumnLen(shard))
	}
}

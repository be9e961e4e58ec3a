package erasure_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/erasure"
)

const blockSize = 64 << 10

// No path allocates a block: the library takes a coding table for each piece, and
// slice headers to repair.
func TestAllocations(t *testing.T) {
	if testing.Short() {
		t.Skip("counts allocations, which the race detector adds to")
	}
	for _, c := range []erasure.Code{{1, 1}, {2, 1}, {8, 3}, {8, 4}, {30, 3}} {
		co, blocks := coder(t, c), encoded(t, c, blockSize, 1)
		requireAllocs(t, fmt.Sprint("Encode ", c), 2, 1<<10, func() { _ = co.Encode(blocks) })
		requireAllocs(t, fmt.Sprint("Verify ", c), 8, 5<<10, func() { _, _ = co.Verify(blocks) })
		requireAllocs(t, fmt.Sprint("Reconstruct ", c), 8, 5<<10, func() {
			blocks[0] = blocks[0][:0]
			_ = co.Reconstruct(blocks, 0)
		})
	}
	co, blocks := coder(t, erasure.Code{K: 1, M: 3}), encoded(t, erasure.Code{K: 1, M: 3}, blockSize, 1)
	require.Zero(t, testing.AllocsPerRun(50, func() { _ = co.Encode(blocks); _, _ = co.Verify(blocks) }), "copies")
}

// requireAllocs measures f: how many objects and bytes one call allocates on
// average.
func requireAllocs(t *testing.T, name string, objects, size uint64, f func()) {
	t.Helper()
	const rounds = 200
	f() // fills pools and caches
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range rounds {
		f()
	}
	runtime.ReadMemStats(&after)
	require.LessOrEqual(t, (after.Mallocs-before.Mallocs)/rounds, objects, "%s: objects", name)
	require.LessOrEqual(t, (after.TotalAlloc-before.TotalAlloc)/rounds, size, "%s: bytes", name)
}

var benchCodes = []erasure.Code{{2, 1}, {4, 2}, {8, 3}, {8, 4}, {30, 3}}

// Throughput is that of data: K blocks a stripe.
func BenchmarkEncode(b *testing.B) {
	for _, c := range benchCodes {
		b.Run(c.String(), func(b *testing.B) {
			co, blocks := coder(b, c), encoded(b, c, blockSize, 1)
			b.SetBytes(int64(c.K * blockSize))
			b.ReportAllocs()
			for b.Loop() {
				require.NoError(b, co.Encode(blocks))
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	for _, c := range benchCodes {
		b.Run(c.String(), func(b *testing.B) {
			co, blocks := coder(b, c), encoded(b, c, blockSize, 1)
			b.SetBytes(int64(c.K * blockSize))
			b.ReportAllocs()
			for b.Loop() {
				_, err := co.Verify(blocks)
				require.NoError(b, err)
			}
		})
	}
}

// Throughput is that of the stripe's data while n blocks of it are missing.
func BenchmarkReconstruct(b *testing.B) {
	for _, c := range benchCodes {
		for _, n := range []int{1, c.M} {
			b.Run(fmt.Sprintf("%v/lost=%d", c, n), func(b *testing.B) {
				co, blocks := coder(b, c), encoded(b, c, blockSize, 1)
				lost := all(c)[:n]
				b.SetBytes(int64(c.K * blockSize))
				b.ReportAllocs()
				for b.Loop() {
					for _, i := range lost {
						blocks[i] = blocks[i][:0]
					}
					require.NoError(b, co.Reconstruct(blocks, lost...))
				}
			})
		}
	}
}

// What the first use of the process costs, and of a code.
func BenchmarkFirstUse(b *testing.B) {
	b.Run("self-test", func(b *testing.B) {
		for b.Loop() {
			require.NoError(b, erasure.CheckGolden())
		}
	})
	for _, c := range []erasure.Code{{8, 3}, {250, 5}} {
		b.Run(c.String(), func(b *testing.B) {
			for b.Loop() {
				_, err := erasure.NewCoder(c)
				require.NoError(b, err)
			}
		})
	}
}

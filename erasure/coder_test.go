package erasure_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/erasure"
)

// The field itself: 2 generates it, as the package comment says.
func TestReferenceField(t *testing.T) {
	seen := map[byte]bool{}
	for n := range 255 {
		seen[power(2, n)] = true
	}
	require.Len(t, seen, 255)
	require.Equal(t, byte(1), power(0, 0))
	require.Equal(t, byte(0x1D), mul(0x80, 2))
}

// The parity that Encode writes of unit vectors is the coding matrix, column by
// column; it is G = V·T⁻¹, and the interpolation formula agrees.
func TestMatrixIsTheDocumentedOne(t *testing.T) {
	for _, c := range []erasure.Code{{1, 1}, {1, 7}, {2, 1}, {2, 2}, {3, 2}, {4, 2}, {5, 3}, {8, 2}, {8, 3}, {8, 4}, {10, 40}, {17, 12}, {30, 3}, {128, 127}, {250, 5}, {254, 1}, {1, 254}} {
		if testing.Short() && c.K > 100 {
			continue // slow under the race detector
		}
		co := coder(t, c)
		g := codingMatrix(c.K, c.M)
		blocks := alloc(c, c.K) // byte position i holds the unit vector i
		for i := range c.K {
			blocks[i][i] = 1
		}
		require.NoError(t, co.Encode(blocks))
		for r := range blocks {
			require.Equal(t, g[r], blocks[r], "row %d of the matrix of %v", r, c)
		}
		points := make([]int, c.K)
		for i := range points {
			points[i] = i
		}
		for w := range blocks {
			require.Equal(t, blocks[w], interpolate(points, blocks[:c.K], w), "row %d of %v by interpolation", w, c)
		}
	}
}

// T12: sizes from one byte over all boundaries of vector instructions.
func TestEncodeEqualsReference(t *testing.T) {
	for _, c := range []erasure.Code{{1, 2}, {2, 1}, {3, 2}, {8, 3}, {12, 11}, {30, 3}} {
		co, g := coder(t, c), codingMatrix(c.K, c.M)
		for _, n := range sizes() {
			blocks := randomData(c, n, uint64(n))
			want := multiply(g, blocks[:c.K])
			require.NoError(t, co.Encode(blocks))
			require.Equal(t, want, blocks, "%v of %d bytes", c, n)
			ok, err := co.Verify(blocks)
			require.NoError(t, err)
			require.True(t, ok, "%v of %d bytes", c, n)
		}
	}
}

// T12: every pattern of at most m missing blocks of small codes comes back, data
// and parity alike, and m+1 are an error that changes nothing (T7, R3).
func TestEveryPattern(t *testing.T) {
	for _, c := range []erasure.Code{{1, 1}, {1, 3}, {2, 1}, {2, 2}, {3, 2}, {4, 2}, {5, 3}, {8, 3}} {
		t.Run(c.String(), func(t *testing.T) {
			whole := encoded(t, c, 97, 1)
			for set := range uint64(1) << c.Shards() {
				lost := members(set)
				switch {
				case len(lost) <= c.M:
					requireRepair(t, c, whole, lost, lost)
				case len(lost) == c.M+1:
					requireUnrecoverable(t, c, whole, lost)
				}
			}
		})
	}
}

// T7, T12: codes whose patterns are too many are sampled, the corners included:
// the first, the last, all parity.
func TestSampledPatterns(t *testing.T) {
	rounds := 9000
	if testing.Short() {
		rounds = 900
	}
	for _, c := range []erasure.Code{{30, 3}, {30, 30}, {250, 5}, {128, 127}, {1, 254}} {
		t.Run(c.String(), func(t *testing.T) {
			whole := encoded(t, c, 131, 2)
			rnd := rand.New(rand.NewPCG(3, uint64(c.K)))
			all := rnd.Perm(c.Shards())
			slices.Sort(all)
			requireRepair(t, c, whole, all[:c.M], all[:c.M])
			requireRepair(t, c, whole, all[c.K:], all[c.K:])
			requireUnrecoverable(t, c, whole, all[:c.M+1])
			requireUnrecoverable(t, c, whole, all[c.K-1:])
			requireUnrecoverable(t, c, whole, all)
			for range rounds / c.Shards() {
				lost := rnd.Perm(c.Shards())[:1+rnd.IntN(c.M)]
				requireRepair(t, c, whole, lost, lost)
				requireUnrecoverable(t, c, whole, rnd.Perm(c.Shards())[:c.M+1])
			}
		})
	}
}

// Exactly the wanted blocks are filled: single ones, parity alone while data is
// missing too, mixtures, some that are present, one twice, none.
func TestReconstructOnlyWhatIsWanted(t *testing.T) {
	for _, c := range []erasure.Code{{1, 3}, {2, 2}, {5, 3}, {8, 3}} {
		whole := encoded(t, c, 64, 4)
		for set := range uint64(1) << c.Shards() {
			lost := members(set)
			if len(lost) != c.M {
				continue
			}
			requireRepair(t, c, whole, lost, nil)
			for sub := range uint64(1) << len(lost) {
				var want []int
				for _, i := range members(sub) {
					want = append(want, lost[i])
				}
				requireRepair(t, c, whole, lost, want)
			}
			requireRepair(t, c, whole, lost, []int{lost[0], lost[0]})
			requireRepair(t, c, whole, lost, append(all(c), all(c)...))
		}
		// With too few blocks left, what is present may still be wanted.
		requireRepair(t, c, whole, all(c)[1:], []int{0})
		requireRepair(t, c, whole, all(c)[1:], nil)
	}
}

// What Reconstruct computes is what the interpolation formula gives: a decoder in
// another language can be written from the package comment.
func TestReconstructEqualsReference(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 5))
	for _, c := range []erasure.Code{{2, 1}, {4, 2}, {8, 3}, {30, 3}, {20, 235}} {
		for range 20 {
			blocks := encoded(t, c, 33, rnd.Uint64())
			perm := rnd.Perm(c.Shards())
			points, lost := perm[:c.K], perm[c.K:][:min(c.M, 7)]
			present := make([][]byte, c.K)
			for i, x := range points {
				present[i] = blocks[x]
			}
			damaged := lose(blocks, perm[c.K:])
			require.NoError(t, coder(t, c).Reconstruct(damaged, lost...))
			for _, w := range lost {
				require.Equal(t, interpolate(points, present, w), damaged[w], "%v block %d from %v", c, w, points)
			}
		}
	}
}

// T12: a flipped bit anywhere in a stripe fails Verify.
func TestVerifyFindsEveryFlippedByte(t *testing.T) {
	for _, c := range []erasure.Code{{1, 1}, {1, 3}, {3, 2}, {8, 3}, {12, 11}} {
		for _, n := range []int{1, 67, 16<<10 - 1, 16 << 10, 16<<10 + 1, 40000} {
			co, blocks := coder(t, c), encoded(t, c, n, 6)
			for i := range blocks {
				for _, at := range []int{0, n / 2, n - 1} {
					blocks[i][at] ^= 0x10
					ok, err := co.Verify(blocks)
					require.NoError(t, err)
					require.False(t, ok, "%v of %d bytes: block %d byte %d", c, n, i, at)
					blocks[i][at] ^= 0x10
				}
			}
			ok, err := co.Verify(blocks)
			require.NoError(t, err)
			require.True(t, ok)
		}
	}
}

// T7: a wrong number of blocks, unequal lengths, empty blocks where none may be and
// unknown numbers are fs.ErrInvalid, and nothing is written.
func TestWrongShapes(t *testing.T) {
	for _, c := range []erasure.Code{{1, 2}, {4, 2}} {
		co, n := coder(t, c), c.Shards()
		for name, blocks := range map[string][][]byte{
			"none":        nil,
			"one fewer":   alloc(c, 8)[1:],
			"one more":    append(alloc(c, 8), make([]byte, 8)),
			"longer data": append([][]byte{make([]byte, 9)}, alloc(c, 8)[1:]...),
			"short last":  append(alloc(c, 8)[:n-1], make([]byte, 7)),
		} {
			before := fmt.Sprint(blocks)
			require.ErrorIs(t, co.Encode(blocks), fs.ErrInvalid, name)
			_, err := co.Verify(blocks)
			require.ErrorIs(t, err, fs.ErrInvalid, name)
			require.ErrorIs(t, co.Reconstruct(blocks, 0), fs.ErrInvalid, name)
			require.Equal(t, before, fmt.Sprint(blocks), name)
		}
		for _, blocks := range [][][]byte{alloc(c, 0), append(alloc(c, 8)[:n-1], nil), append([][]byte{nil}, alloc(c, 8)[1:]...)} {
			require.ErrorIs(t, co.Encode(blocks), fs.ErrInvalid)
			_, err := co.Verify(blocks)
			require.ErrorIs(t, err, fs.ErrInvalid)
		}
		for _, want := range []int{-1, n, math.MaxInt, math.MinInt} {
			damaged := lose(encoded(t, c, 8, 1), []int{0})
			require.ErrorIs(t, co.Reconstruct(damaged, 0, want), fs.ErrInvalid)
			require.Empty(t, damaged[0])
		}
	}
}

// One coder serves many goroutines, also while it forgets inverted matrices.
func TestConcurrentUse(t *testing.T) {
	c := erasure.Code{K: 6, M: 4}
	co, whole := coder(t, c), encoded(t, c, 1000, 7)
	again, err := erasure.For(c)
	require.NoError(t, err)
	require.Same(t, co, again)
	require.Equal(t, c, co.Code())
	var wg sync.WaitGroup
	errs := make(chan error, 4)
	for g := range 4 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(8, uint64(g)))
			for range 200 {
				lost := rnd.Perm(c.Shards())[:1+rnd.IntN(c.M)]
				damaged := lose(whole, lost)
				if err := co.Reconstruct(damaged, lost...); err != nil {
					errs <- err
					return
				}
				if ok, err := co.Verify(damaged); !ok || err != nil {
					errs <- fmt.Errorf("lost %v: verified %v, %w", lost, ok, err)
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	require.NoError(t, <-errs)
}

// T12: random codes, lengths and losses, the seed printed.
func TestRandomStress(t *testing.T) {
	rounds := 400
	if testing.Short() {
		rounds = 40
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for range rounds {
		c := erasure.Code{K: 1 + rnd.IntN(20), M: 1 + rnd.IntN(8)}
		whole := encoded(t, c, 1+rnd.IntN(5000), rnd.Uint64())
		lost := rnd.Perm(c.Shards())[:1+rnd.IntN(c.M)]
		requireRepair(t, c, whole, lost, lost[:1+rnd.IntN(len(lost))])
	}
}

// sizes are those around every boundary of the code that computes: all small ones,
// powers of two and their neighbours, and what a piece of Verify holds. The race
// detector makes the reference slow, so short runs leave out the large ones.
func sizes() (ns []int) {
	most := 64 << 10
	if testing.Short() {
		most = 1 << 10
	}
	for n := 1; n <= 100; n++ {
		ns = append(ns, n)
	}
	for n := 128; n <= most; n *= 2 {
		ns = append(ns, n-1, n, n+1)
	}
	return ns
}

func coder(t testing.TB, c erasure.Code) *erasure.Coder {
	t.Helper()
	co, err := erasure.For(c)
	require.NoError(t, err)
	return co
}

// alloc returns K+M zeroed blocks of n bytes.
func alloc(c erasure.Code, n int) [][]byte {
	blocks := make([][]byte, c.Shards())
	for i := range blocks {
		blocks[i] = make([]byte, n)
	}
	return blocks
}

// randomData returns a stripe whose data blocks are random, and whose parity
// blocks hold what must be overwritten.
func randomData(c erasure.Code, n int, seed uint64) [][]byte {
	rnd := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(c.K), byte(c.M)})
	blocks := alloc(c, n)
	for i := range blocks {
		rnd.Read(blocks[i])
	}
	return blocks
}

func encoded(t testing.TB, c erasure.Code, n int, seed uint64) [][]byte {
	t.Helper()
	blocks := randomData(c, n, seed)
	require.NoError(t, coder(t, c).Encode(blocks))
	return blocks
}

// lose returns a copy of the stripe in which the lost blocks are missing: nil, or
// with capacity for the result and rubbish in it.
func lose(whole [][]byte, lost []int) [][]byte {
	damaged := slices.Clone(whole)
	for _, i := range lost {
		damaged[i] = nil
		if i%2 == 0 {
			damaged[i] = bytes.Repeat([]byte{0xEE}, len(whole[0])+i)[:0]
		}
	}
	return damaged
}

// members returns the bits that are set.
func members(set uint64) (is []int) {
	for ; set != 0; set &= set - 1 {
		is = append(is, bits.TrailingZeros64(set))
	}
	return is
}

func all(c erasure.Code) (is []int) {
	for i := range c.Shards() {
		is = append(is, i)
	}
	return is
}

// requireRepair loses some blocks of a stripe and wants some: these are right
// afterwards and in the caller's memory where that sufficed, no other changes.
func requireRepair(t *testing.T, c erasure.Code, whole [][]byte, lost, want []int) {
	t.Helper()
	damaged := lose(whole, lost)
	given := slices.Clone(damaged)
	require.NoError(t, coder(t, c).Reconstruct(damaged, want...), "%v lost %v want %v", c, lost, want)
	for i := range whole {
		gone, wanted := slices.Contains(lost, i), slices.Contains(want, i)
		if gone && !wanted {
			require.Empty(t, damaged[i], "%v lost %v want %v: block %d", c, lost, want, i)
			continue
		}
		if !bytes.Equal(whole[i], damaged[i]) {
			t.Fatalf("%v lost %v want %v: block %d is wrong", c, lost, want, i)
		}
		if cap(given[i]) >= len(whole[i]) {
			require.Same(t, &given[i][:1][0], &damaged[i][0], "block %d moved", i)
		}
	}
}

// requireUnrecoverable loses too many blocks, and finds that nothing has changed,
// the spare memory of the missing blocks included.
func requireUnrecoverable(t *testing.T, c erasure.Code, whole [][]byte, lost []int) {
	t.Helper()
	damaged := lose(whole, lost)
	err := coder(t, c).Reconstruct(damaged, lost...)
	require.ErrorIs(t, err, erasure.ErrUnrecoverable, "%v lost %v", c, lost)
	for i := range whole {
		if !slices.Contains(lost, i) {
			require.True(t, bytes.Equal(whole[i], damaged[i]))
			continue
		}
		require.Empty(t, damaged[i])
		for _, b := range damaged[i][:cap(damaged[i])] {
			if b != 0xEE && b != 0 { // 0: what append rounds a capacity up by
				t.Fatalf("%v lost %v: block %d was written", c, lost, i)
			}
		}
	}
}

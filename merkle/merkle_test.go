package merkle_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/blake3"

	"github.com/blockframe/blockframe/merkle"
)

const block = 64 << 10 // the block size of v1

// noise returns n bytes that depend on nothing but n and seed.
func noise(n int, seed uint64) []byte {
	b := make([]byte, n+8)
	r := rand.NewPCG(seed, uint64(n))
	for i := 0; i < n; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], r.Uint64())
	}
	return b[:n:n]
}

// tableOf builds the table of data as an extent at offset of its stream,
// serially and front to back.
func tableOf(t testing.TB, data []byte, offset int64, blockSize int, whole bool) *merkle.Table {
	t.Helper()
	b := merkle.NewBuilder(offset, blockSize)
	for i := 0; i*blockSize < len(data); i++ {
		b.Add(i, data[i*blockSize:min(len(data), (i+1)*blockSize)])
	}
	tab, err := b.Finish(int64(len(data)), whole)
	require.NoError(t, err)
	return tab
}

// sizes returns every boundary up to limit, plus and minus one byte: those of
// chunks, of the 16 KiB groups that are hashed side by side, and of blocks.
func sizes(limit int) []int {
	s := []int{0, 1, 2, 63, 64, 65}
	for n := 1024; n <= limit; n += 1024 {
		s = append(s, n-1, n, n+1)
	}
	return s
}

func TestHashEqualsZeebo(t *testing.T) {
	data := noise(300<<10+1, 1)
	step := 1
	if testing.Short() {
		step = 7 // coprime to 3, so that -1, 0 and +1 all still occur
	}
	all := sizes(300 << 10)
	for i := 0; i < len(all); i += step {
		n := all[i]
		want := blake3.Sum256(data[:n])
		require.Equal(t, want, tableOf(t, data[:n], 0, block, true).Hash(), "size %d", n)
		require.Equal(t, want, merkle.BlockRoot(data[:n]), "BlockRoot of %d bytes", n)
	}
}

// Extents of a stream fold to its hash, whatever their size (DESIGN, section 2).
func TestExtentsFoldToHash(t *testing.T) {
	const B, extent = 1024, 8 * 1024
	for _, n := range []int{extent + 1, 2*extent - 1, 2 * extent, 2*extent + 1, 2*extent + B, 3*extent + 1, 7*extent + 5*B + 3, 64*extent + 1} {
		data := noise(n, 2)
		var hashes []merkle.CV
		for off := 0; off < n; off += extent {
			hashes = append(hashes, tableOf(t, data[off:min(n, off+extent)], int64(off), B, false).Hash())
		}
		require.Equal(t, blake3.Sum256(data), merkle.FoldRoot(hashes), "size %d", n)
	}
}

func TestBuilderOutOfOrder(t *testing.T) {
	data := noise(70*block+123, 3)
	b := merkle.NewBuilder(0, block)
	order := rand.New(rand.NewPCG(4, 4)).Perm(71)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for j := w; j < len(order); j += 4 {
				i := order[j]
				b.Add(i, data[i*block:min(len(data), (i+1)*block)])
			}
		})
	}
	wg.Wait()
	tab, err := b.Finish(int64(len(data)), true)
	require.NoError(t, err)
	require.Equal(t, blake3.Sum256(data), tab.Hash())
	require.Equal(t, tableOf(t, data, 0, block, true), tab)
}

func BenchmarkBlockCV(b *testing.B) {
	for _, n := range []int{1 << 10, 4 << 10, 16 << 10, 40<<10 + 1, 64 << 10, 1 << 20} {
		data := noise(n, 5)
		b.Run(fmt.Sprintf("%dB", n), func(b *testing.B) {
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				merkle.BlockCV(data, 1<<20)
			}
		})
	}
}
